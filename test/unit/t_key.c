/* tao/key.h: keys, signatures with contexts, CryptoKey, HKDF, keysets and their files. */
#include "tao/key.h"

#include <sys/stat.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tao/file.h"
#include "tao/pb.h"
#include "tao.pb-c.h"
#include "tap.h"

static EVP_PKEY *p256;

static int vector(const char *name, struct tao_buf *out)
{
	const char *dir = getenv("TAO_VECTORS");
	char path[512];

	if (dir == NULL)
		return 0;
	snprintf(path, sizeof path, "%s/cloudproxy/%s", dir, name);
	if (access(path, R_OK) != 0)
		snprintf(path, sizeof path, "%s/%s", dir, name);
	return tao_file_read(path, 1 << 20, out) == TAO_OK;
}

/* Keys */

static void generated(const char *type, size_t spki_n)
{
	struct tao_buf der = TAO_BUF_INIT, sd = TAO_BUF_INIT;
	EVP_PKEY *key = NULL, *back = NULL;
	uint8_t a[TAO_HASH_LEN], b[TAO_HASH_LEN];

	ok_err(tao_key_generate(type, &key), TAO_OK, "%s: generated", type);
	ok(tao_key_spki(key, &der) == TAO_OK && der.n == spki_n, "%s: its public key", type);
	ok_err(tao_key_from_spki(der.p, der.n, &back), TAO_OK, "%s: reads again", type);
	ok(EVP_PKEY_eq(key, back) == 1, "%s: the same", type);
	ok(tao_key_hash(back, a) == TAO_OK && tao_sha256(der.p, der.n, b) == TAO_OK &&
	           memcmp(a, b, sizeof a) == 0,
	   "%s: hash", type);
	ok_err(tao_key_sign(key, "ctx", "data", 4, &sd), TAO_OK, "%s: signs", type);
	ok_err(tao_key_verify(back, "ctx", "data", 4, sd.p, sd.n), TAO_OK, "%s: verifies", type);
	ok_err(tao_key_verify(back, "ctx", "dat4", 4, sd.p, sd.n), TAO_ESIGNATURE,
	       "%s: not over other data", type);
	EVP_PKEY_free(key);
	EVP_PKEY_free(back);
	tao_buf_free(&der);
	tao_buf_free(&sd);
}

static void refuse_spki(EVP_PKEY *key, const char *what)
{
	struct tao_buf der = TAO_BUF_INIT;
	EVP_PKEY *back;

	ok(key != NULL && tao_key_spki(key, &der) == TAO_OK, "%s: made", what);
	ok_err(tao_key_from_spki(der.p, der.n, &back), TAO_EFORMAT, "%s: refused", what);
	ok(back == NULL, "%s: no key comes back", what);
	EVP_PKEY_free(key);
	tao_buf_free(&der);
}

static EVP_PKEY *compressed(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	EVP_PKEY_set_utf8_string_param(key, "point-format", "compressed");
	return key;
}

static EVP_PKEY *large_exponent(void)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	EVP_PKEY *key = NULL;
	BIGNUM *e = NULL;

	BN_hex2bn(&e, "1000000000000000F");
	EVP_PKEY_keygen_init(ctx);
	EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 2048);
	EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, e);
	EVP_PKEY_keygen(ctx, &key);
	EVP_PKEY_CTX_free(ctx);
	BN_free(e);
	return key;
}

/* The same key, its outer length in three bytes instead of two. */
static void longer_length(void)
{
	struct tao_buf der = TAO_BUF_INIT, ber = TAO_BUF_INIT;
	EVP_PKEY *key, *back = NULL;

	tao_key_generate("rsa2048", &key);
	tao_key_spki(key, &der);
	tao_buf_put(&ber, "\x30\x83\x00", 3);
	tao_buf_put(&ber, der.p + 2, der.n - 2);
	ok_err(tao_key_from_spki(ber.p, ber.n, &back), TAO_EFORMAT, "BER that is not DER");
	EVP_PKEY_free(back);
	EVP_PKEY_free(key);
	tao_buf_free(&der);
	tao_buf_free(&ber);
}

static void public_keys(void)
{
	static uint8_t huge[TAO_SPKI_MAX + 1];
	struct tao_buf der = TAO_BUF_INIT;
	EVP_PKEY *key;
	size_t accepted = 0;

	tao_key_spki(p256, &der);
	for (size_t n = 0; n < der.n; n++)
		accepted += tao_key_from_spki(der.p, n, &key) == TAO_OK;
	ok(accepted == 0, "no prefix of a public key reads");
	tao_buf_u8(&der, 0);
	ok_err(tao_key_from_spki(der.p, der.n, &key), TAO_EFORMAT, "nothing may follow one");
	der.p[der.n - 2] ^= 1;
	ok_err(tao_key_from_spki(der.p, der.n - 1, &key), TAO_EFORMAT, "a point not on the curve");
	ok_err(tao_key_from_spki(huge, sizeof huge, &key), TAO_EFORMAT, "more than the limit");
	tao_buf_free(&der);
	longer_length();
	refuse_spki(EVP_EC_gen("secp256k1"), "another curve of 256 bits");
	refuse_spki(EVP_EC_gen("P-224"), "a smaller curve");
	refuse_spki(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), "Ed448");
	refuse_spki(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), "X25519, which does not sign");
	refuse_spki(EVP_RSA_gen(1024), "RSA of 1024 bits");
	refuse_spki(compressed(), "a compressed point");
	refuse_spki(large_exponent(), "RSA with a huge exponent");
	ok_err(tao_key_generate("rsa1024", &key), TAO_EINVAL, "rsa1024 is not generated");
	ok(strstr(tao_why(), "too weak") != NULL, "the sentence says that it is weak: %s",
	   tao_why());
	ok_err(tao_key_generate("aes128-ctr-hmacsha256", &key), TAO_EINVAL,
	       "nor a type that encrypts");
	ok_err(tao_key_generate("ed25519x", &key), TAO_EINVAL, "nor one with something behind it");
	ok_err(tao_key_generate("ecdsap256-public", &key), TAO_EINVAL, "nor a public type");
}

/* Signatures */

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, const struct tao_buf *b)
{
	return protobuf_c_message_unpack(d, NULL, b->n, b->p);
}

struct change {
	const char *what;
	int version;
	const char *type, *purpose, *status; /* NULL: as it is */
	enum tao_err want;
};

static void replace(char **s, const char *by)
{
	if (by == NULL)
		return;
	free(*s);
	*s = strdup(by);
}

static void change_header(Tao__CryptoHeader *h, const struct change *c)
{
	if (c->version != 0)
		h->version = (Tao__CryptoVersion)c->version;
	replace(&h->key_type, c->type);
	replace(&h->key_purpose, c->purpose);
	replace(&h->key_status, c->status);
}

static void signed_header(const struct tao_buf *sd, const struct change *c)
{
	ProtobufCMessage *m = unpack(&tao__signed_data__descriptor, sd);
	struct tao_buf out = TAO_BUF_INIT;

	change_header(((Tao__SignedData *)m)->header, c);
	tao_pb_pack(m, &out);
	ok_err(tao_key_verify(p256, "ctx", "data", 4, out.p, out.n), c->want, "signature: %s",
	       c->what);
	protobuf_c_message_free_unpacked(m, NULL);
	tao_buf_free(&out);
}

static void signatures(void)
{
	static const struct change changes[] = {
		{ "unchanged", 0, NULL, NULL, NULL, TAO_OK },
		{ "a newer version", 3, NULL, NULL, NULL, TAO_EVERSION },
		{ "version 1", 1, NULL, NULL, NULL, TAO_EFORMAT },
		{ "another type", 0, "ecdsap384-public", NULL, NULL, TAO_ESIGNATURE },
		{ "an unknown type", 0, "ed25519-public", NULL, NULL, TAO_ESIGNATURE },
		{ "a private type", 0, "ecdsap256", NULL, NULL, TAO_ESIGNATURE },
		{ "another purpose", 0, NULL, "crypting", NULL, TAO_ESIGNATURE },
		{ "a key not active", 0, NULL, NULL, "retired", TAO_EFORMAT },
	};
	static uint8_t huge[5000];
	struct tao_buf sd = TAO_BUF_INIT;
	EVP_PKEY *other;

	tao_key_generate("ecdsap256", &other);
	ok_err(tao_key_sign(p256, "ctx", "data", 4, &sd), TAO_OK, "signed");
	ok_err(tao_key_verify(p256, "ctx2", "data", 4, sd.p, sd.n), TAO_ESIGNATURE,
	       "not in another context");
	ok_err(tao_key_verify(p256, "ct", "xdata", 5, sd.p, sd.n), TAO_ESIGNATURE,
	       "nor with the boundary moved");
	ok_err(tao_key_verify(other, "ctx", "data", 4, sd.p, sd.n), TAO_ESIGNATURE,
	       "nor with another key");
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
		signed_header(&sd, &changes[i]);
	ok_err(tao_key_verify(p256, "ctx", "data", 4, sd.p, sd.n - 1), TAO_EFORMAT, "cut short");
	ok_err(tao_key_verify(p256, "ctx", "data", 4, "", 0), TAO_EFORMAT, "empty");
	ok_err(tao_key_verify(p256, "ctx", "data", 4, huge, sizeof huge), TAO_EFORMAT, "huge");
	sd.p[sd.n - 1] ^= 1;
	ok_err(tao_key_verify(p256, "ctx", "data", 4, sd.p, sd.n), TAO_ESIGNATURE, "a changed bit");
	EVP_PKEY_free(other);
	tao_buf_free(&sd);
}

/* What key.h says is signed, put together without key.c: SHA-256 of the message
 * {1: "ctx", 2: "data"}, whatever the type. */
static int signed_as_documented(EVP_PKEY *key, const char *md, const struct tao_buf *sd)
{
	static const uint8_t context[] = { 0x0a, 3, 'c', 't', 'x', 0x12, 4, 'd', 'a', 't', 'a' };
	Tao__SignedData *m = (Tao__SignedData *)unpack(&tao__signed_data__descriptor, sd);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t hash[TAO_HASH_LEN];
	int good;

	EVP_Digest(context, sizeof context, hash, NULL, EVP_sha256(), NULL);
	EVP_DigestVerifyInit_ex(ctx, NULL, md, NULL, NULL, key, NULL);
	good = EVP_DigestVerify(ctx, m->signature.data, m->signature.len,
	                        md != NULL ? context : hash,
	                        md != NULL ? sizeof context : sizeof hash) == 1;
	EVP_MD_CTX_free(ctx);
	protobuf_c_message_free_unpacked(&m->base, NULL);
	return good;
}

#define N_MIXED 7

/* All types side by side in one process: each verifies its own and no other's. */
static void mixed(void)
{
	static const struct {
		const char *type, *md;
	} kinds[N_MIXED] = {
		{ "ecdsap256", "SHA256" }, { "ecdsap384", "SHA256" }, { "ecdsap521", "SHA256" },
		{ "rsa2048", "SHA256" },   { "rsa3072", "SHA256" },   { "rsa4096", "SHA256" },
		{ "ed25519", NULL },
	};
	EVP_PKEY *key[N_MIXED];
	struct tao_buf sd[N_MIXED];
	size_t strangers = 0;

	for (size_t i = 0; i < N_MIXED; i++) {
		sd[i] = (struct tao_buf)TAO_BUF_INIT;
		tao_key_generate(kinds[i].type, &key[i]);
		ok(tao_key_sign(key[i], "ctx", "data", 4, &sd[i]) == TAO_OK &&
		           signed_as_documented(key[i], kinds[i].md, &sd[i]),
		   "%s: signs what is documented", kinds[i].type);
	}
	for (size_t i = 0; i < N_MIXED; i++) {
		ok_err(tao_key_verify(key[i], "ctx", "data", 4, sd[i].p, sd[i].n), TAO_OK,
		       "%s: verifies among others", kinds[i].type);
		for (size_t k = 0; k < N_MIXED; k++)
			strangers += i != k && tao_key_verify(key[i], "ctx", "data", 4, sd[k].p,
			                                      sd[k].n) != TAO_ESIGNATURE;
	}
	ok(strangers == 0, "no type verifies another's signature");
	for (size_t i = 0; i < N_MIXED; i++) {
		EVP_PKEY_free(key[i]);
		tao_buf_free(&sd[i]);
	}
}

/* CryptoKey */

static const char *type_in(const struct tao_buf *stored_key, char out[64])
{
	Tao__CryptoKey *k = (Tao__CryptoKey *)unpack(&tao__crypto_key__descriptor, stored_key);

	snprintf(out, 64, "%s", k->key_header->key_type);
	protobuf_c_message_free_unpacked(&k->base, NULL);
	return out;
}

/* CloudProxy typed the P-521 key of a certificate as P-384. */
static void from_certificate(const char *type)
{
	X509 *cert = X509_new();
	EVP_PKEY *key, *public;
	struct tao_buf b = TAO_BUF_INIT;
	char want[64], got[64];

	tao_key_generate(type, &key);
	X509_set_pubkey(cert, key);
	public = X509_get_pubkey(cert);
	snprintf(want, sizeof want, "%s-public", type);
	ok(tao_cryptokey_encode(public, "k", 0, &b) == TAO_OK, "%s: stored from a certificate",
	   type);
	ok_str(type_in(&b, got), want, "%s: as what it is", type);
	EVP_PKEY_free(key);
	EVP_PKEY_free(public);
	X509_free(cert);
	tao_buf_free(&b);
}

/* RFC 8032, 7.1, test 1: the seed is the private key there. */
static void seed(void)
{
	static const char secret[] = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
	                  public[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
	struct tao_buf b = TAO_BUF_INIT, hex = TAO_BUF_INIT;
	uint8_t raw[32], pub[32];
	size_t n = sizeof pub;
	EVP_PKEY *key, *back = NULL;

	tao_unhex(secret, 64, raw, sizeof raw);
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, raw, sizeof raw);
	ok(tao_cryptokey_encode(key, "k", 1, &b) == TAO_OK && b.n > 34 && b.p[b.n - 34] == 0x12 &&
	           b.p[b.n - 33] == 32 && memcmp(b.p + b.n - 32, raw, 32) == 0,
	   "ed25519: the part is the seed");
	ok(tao_cryptokey_decode(b.p, b.n, &back) == TAO_OK &&
	           EVP_PKEY_get_raw_public_key(back, pub, &n) == 1,
	   "ed25519: reads");
	tao_buf_hex(&hex, pub, n);
	ok_str(tao_buf_cstr(&hex), public, "ed25519: RFC 8032's public key");
	EVP_PKEY_free(key);
	EVP_PKEY_free(back);
	tao_buf_free(&b);
	tao_buf_free(&hex);
}

static void stored(const char *type, int with_private)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	EVP_PKEY *key, *back = NULL;

	tao_key_generate(type, &key);
	ok_err(tao_cryptokey_encode(key, "k", with_private, &a), TAO_OK, "%s: stored", type);
	ok_err(tao_cryptokey_decode(a.p, a.n, &back), TAO_OK, "%s: and read", type);
	ok(back != NULL && EVP_PKEY_eq(key, back) == 1, "%s: the same", type);
	ok(back != NULL && tao_cryptokey_encode(back, "k", with_private, &b) == TAO_OK &&
	   a.n == b.n &&
	           memcmp(a.p, b.p, a.n) == 0,
	   "%s: %s half", type, with_private ? "private" : "public");
	if (!with_private && back != NULL)
		ok(tao_key_sign(back, "c", "d", 1, &b) != TAO_OK,
		   "%s: the public half signs nothing", type);
	EVP_PKEY_free(key);
	EVP_PKEY_free(back);
	tao_buf_free(&a);
	tao_buf_free(&b);
}

/* What a case does to the parts of a stored key. */
static void add_part(Tao__CryptoKey *k)
{
	k->key_components = realloc(k->key_components,
	                            (k->n_key_components + 1) * sizeof *k->key_components);
	k->key_components[k->n_key_components++] = (ProtobufCBinaryData){ 1, calloc(1, 1) };
}

static void no_part(Tao__CryptoKey *k)
{
	while (k->n_key_components > 0)
		free(k->key_components[--k->n_key_components].data);
}

static void longer_part(Tao__CryptoKey *k)
{
	ProtobufCBinaryData *c = &k->key_components[0];

	c->data = realloc(c->data, c->len + 1);
	c->data[c->len++] = 0;
}

/* The scalar, behind 30 77 02 01 01 04 20. */
static void other_scalar(Tao__CryptoKey *k)
{
	k->key_components[0].data[30] ^= 1;
}

/* A byte behind the scalar, with all lengths right. */
static void long_scalar(Tao__CryptoKey *k)
{
	ProtobufCBinaryData *c = &k->key_components[0];

	c->data = realloc(c->data, c->len + 1);
	memmove(c->data + 40, c->data + 39, c->len++ - 39);
	c->data[1]++;
	c->data[6]++;
}

/* The last byte of the curve's identifier, behind a0 0a. */
static void other_curve(Tao__CryptoKey *k)
{
	k->key_components[0].data[50] ^= 1;
}

static void pkcs8(Tao__CryptoKey *k)
{
	ProtobufCBinaryData *c = &k->key_components[0];
	PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(p256);

	free(c->data);
	c->data = NULL;
	c->len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(p8, &c->data);
	PKCS8_PRIV_KEY_INFO_free(p8);
}

static void other_prime(Tao__CryptoKey *k)
{
	k->key_components[3].data[20] ^= 2;
}

static void padded_exponent(Tao__CryptoKey *k)
{
	ProtobufCBinaryData *c = &k->key_components[1];

	c->data = realloc(c->data, c->len + 1);
	memmove(c->data + 1, c->data, c->len++);
	c->data[0] = 0;
}

static void shorter_part(Tao__CryptoKey *k)
{
	k->key_components[0].len--;
}

static void refuse_key(const struct tao_buf *good, void (*edit)(Tao__CryptoKey *),
                       const struct change *c)
{
	ProtobufCMessage *m = unpack(&tao__crypto_key__descriptor, good);
	struct tao_buf out = TAO_BUF_INIT;
	EVP_PKEY *key = NULL;

	change_header(((Tao__CryptoKey *)m)->key_header, c);
	if (edit != NULL)
		edit((Tao__CryptoKey *)m);
	tao_pb_pack(m, &out);
	ok_err(tao_cryptokey_decode(out.p, out.n, &key), c->want, "stored key: %s", c->what);
	ok((key == NULL) == (c->want != TAO_OK), "stored key: %s: what comes back", c->what);
	EVP_PKEY_free(key);
	protobuf_c_message_free_unpacked(m, NULL);
	tao_buf_free(&out);
}

static void stored_refusals(void)
{
	static const struct {
		void (*edit)(Tao__CryptoKey *);
		struct change c;
		int which;
	} cases[] = {
		{ NULL, { "unchanged", 0, NULL, NULL, NULL, TAO_OK }, 0 },
		{ NULL, { "a newer version", 3, NULL, NULL, NULL, TAO_EVERSION }, 0 },
		{ NULL, { "version 1", 1, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ NULL, { "of another curve", 0, "ecdsap384", NULL, NULL, TAO_EFORMAT }, 0 },
		{ NULL, { "said to be public", 0, "ecdsap256-public", "verifying", NULL, TAO_EFORMAT }, 0 },
		{ NULL, { "of Ed25519", 0, "ed25519", NULL, NULL, TAO_EFORMAT }, 0 },
		{ NULL, { "an encryption key", 0, "aes128-ctr-hmacsha256", NULL, NULL, TAO_EFORMAT }, 0 },
		{ NULL, { "another purpose", 0, NULL, "verifying", NULL, TAO_EFORMAT }, 0 },
		{ NULL, { "not active", 0, NULL, NULL, "revoked", TAO_EFORMAT }, 0 },
		{ add_part, { "too many parts", 0, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ no_part, { "no parts", 0, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ longer_part, { "bytes behind it", 0, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ other_scalar, { "halves that do not belong", 0, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ long_scalar, { "a longer scalar", 0, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ other_curve, { "another curve's name", 0, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ pkcs8, { "in PKCS#8", 0, NULL, NULL, NULL, TAO_EFORMAT }, 0 },
		{ NULL, { "RSA unchanged", 0, NULL, NULL, NULL, TAO_OK }, 1 },
		{ NULL, { "RSA too weak", 0, "rsa1024", NULL, NULL, TAO_EFORMAT }, 1 },
		{ NULL, { "RSA of another size", 0, "rsa3072", NULL, NULL, TAO_EFORMAT }, 1 },
		{ other_prime, { "RSA with another prime", 0, NULL, NULL, NULL, TAO_EFORMAT }, 1 },
		{ padded_exponent, { "RSA, not minimal", 0, NULL, NULL, NULL, TAO_EFORMAT }, 1 },
		{ NULL, { "Ed25519 unchanged", 0, NULL, NULL, NULL, TAO_OK }, 2 },
		{ NULL, { "Ed25519 as a curve's", 0, "ecdsap256", NULL, NULL, TAO_EFORMAT }, 2 },
		{ NULL, { "Ed25519 as public", 0, "ed25519-public", "verifying", NULL, TAO_EFORMAT }, 2 },
		{ add_part, { "Ed25519, two parts", 0, NULL, NULL, NULL, TAO_EFORMAT }, 2 },
		{ longer_part, { "Ed25519, a longer seed", 0, NULL, NULL, NULL, TAO_EFORMAT }, 2 },
		{ shorter_part, { "Ed25519, a shorter seed", 0, NULL, NULL, NULL, TAO_EFORMAT }, 2 },
	};
	struct tao_buf good[3] = { TAO_BUF_INIT, TAO_BUF_INIT, TAO_BUF_INIT };
	EVP_PKEY *rsa, *ed;

	tao_key_generate("rsa2048", &rsa);
	tao_cryptokey_encode(p256, "k", 1, &good[0]);
	tao_cryptokey_encode(rsa, "k", 1, &good[1]);
	tao_key_generate("ed25519", &ed);
	tao_cryptokey_encode(ed, "k", 1, &good[2]);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		refuse_key(&good[cases[i].which], cases[i].edit, &cases[i].c);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ed);
	for (size_t i = 0; i < 3; i++)
		tao_buf_free(&good[i]);
}

/* CloudProxy's */

static void vector_key(const char *type)
{
	struct tao_buf file = TAO_BUF_INIT, spki = TAO_BUF_INIT, sig = TAO_BUF_INIT,
	               msg = TAO_BUF_INIT, again = TAO_BUF_INIT, own = TAO_BUF_INIT;
	EVP_PKEY *key = NULL, *public = NULL;
	char name[32], context[32];

	snprintf(context, sizeof context, "ctx %s", type);
	snprintf(name, sizeof name, "%s.key", type);
	ok(vector(name, &file), "%s", name);
	snprintf(name, sizeof name, "%s.spki", type);
	ok(vector(name, &spki), "%s", name);
	snprintf(name, sizeof name, "%s.sig", type);
	ok(vector(name, &sig) && vector("msg", &msg), "%s", name);
	snprintf(name, sizeof name, "vec_%s", type);
	ok_err(tao_cryptokey_decode(file.p, file.n, &key), TAO_OK, "%s: CloudProxy's key reads",
	       type);
	ok_err(tao_key_from_spki(spki.p, spki.n, &public), TAO_OK, "%s: its public half", type);
	ok(EVP_PKEY_eq(key, public) == 1, "%s: they belong together", type);
	ok(tao_cryptokey_encode(key, name, 1, &again) == TAO_OK && again.n == file.n &&
	           memcmp(again.p, file.p, file.n) == 0,
	   "%s: stored again, byte for byte", type);
	ok_err(tao_key_verify(public, context, msg.p, msg.n, sig.p, sig.n), TAO_OK,
	       "%s: CloudProxy's signature verifies", type);
	ok_err(tao_key_verify(public, "ctx", msg.p, msg.n, sig.p, sig.n), TAO_ESIGNATURE,
	       "%s: not in another context", type);
	ok(tao_key_sign(key, context, msg.p, msg.n, &own) == TAO_OK &&
	           tao_key_verify(public, context, msg.p, msg.n, own.p, own.n) == TAO_OK,
	   "%s: the key signs here", type);
	EVP_PKEY_free(key);
	EVP_PKEY_free(public);
	tao_buf_free(&file);
	tao_buf_free(&spki);
	tao_buf_free(&sig);
	tao_buf_free(&msg);
	tao_buf_free(&again);
	tao_buf_free(&own);
}

static void vector_pbe(void)
{
	struct tao_buf file = TAO_BUF_INIT, msg = TAO_BUF_INIT, out = TAO_BUF_INIT;
	uint8_t *work;

	ok(vector("pbe_xxx.enc", &file) && vector("msg", &msg), "pbe_xxx.enc");
	ok_err(tao_pbe_open("xxx", 3, file.p, file.n, &out), TAO_OK, "CloudProxy's file opens");
	ok(out.n == msg.n && memcmp(out.p, msg.p, msg.n) == 0, "and holds the message");
	ok_err(tao_pbe_open("xxy", 3, file.p, file.n, &out), TAO_EPASS, "a wrong passphrase");
	file.p[file.n - 30] ^= 1;
	ok_err(tao_pbe_open("xxx", 3, file.p, file.n, &out), TAO_EPASS, "a changed file");
	ok(out.n == msg.n, "nothing comes out of either");
	work = memmem(file.p, file.n, "\x20\x80\x20", 3); /* iterations: 4096 */
	memmove(work + 2, work + 3, file.n - (size_t)(work + 3 - file.p));
	work[1] = 0;
	ok_err(tao_pbe_open("xxx", 3, file.p, file.n - 1, &out), TAO_EFORMAT, "no iterations");
	tao_buf_free(&file);
	tao_buf_free(&msg);
	tao_buf_free(&out);
}

static void vector_deriver(void)
{
	static const char want[] =
		"02e17e2d742e51a9b3a702692562f241ce784b05facbb481400a6a984682157018e941f454dc9a14";
	static const char context[] = "self|.Program([dead])";
	struct tao_buf file = TAO_BUF_INIT, hex = TAO_BUF_INIT;
	Tao__CryptoKey *k;
	uint8_t out[40];

	ok(vector("hdkf-sha256.key", &file), "hdkf-sha256.key");
	k = (Tao__CryptoKey *)unpack(&tao__crypto_key__descriptor, &file);
	tao_hkdf(k->key_components[0].data, k->key_components[0].len, NULL, 0, context,
	         strlen(context), out, sizeof out);
	tao_buf_hex(&hex, out, sizeof out);
	ok_str(tao_buf_cstr(&hex), want, "CloudProxy's derivation");
	protobuf_c_message_free_unpacked(&k->base, NULL);
	tao_buf_free(&file);
	tao_buf_free(&hex);
}

static void vectors(void)
{
	if (getenv("TAO_VECTORS") == NULL) {
		skip("CloudProxy's vectors", "TAO_VECTORS is not set");
		return;
	}
	vector_key("ecdsap256");
	vector_key("rsa2048");
	vector_pbe();
	vector_deriver();
}

/* HKDF: RFC 5869, test cases 1 and 3. */
static void hkdf(void)
{
	static const char want1[] =
		"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
	static const char want3[] =
		"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8";
	struct tao_buf hex = TAO_BUF_INIT;
	uint8_t ikm[22], salt[13], info[10], out[42];

	memset(ikm, 0x0b, sizeof ikm);
	for (size_t i = 0; i < sizeof salt; i++)
		salt[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof info; i++)
		info[i] = (uint8_t)(0xf0 + i);
	tao_hkdf(ikm, sizeof ikm, salt, sizeof salt, info, sizeof info, out, sizeof out);
	tao_buf_hex(&hex, out, sizeof out);
	ok_str(tao_buf_cstr(&hex), want1, "RFC 5869, test case 1");
	tao_buf_reset(&hex);
	tao_hkdf(ikm, sizeof ikm, NULL, 0, NULL, 0, out, sizeof out);
	tao_buf_hex(&hex, out, sizeof out);
	ok_str(tao_buf_cstr(&hex), want3, "RFC 5869, test case 3: no salt, no info");
	ok_err(tao_hkdf("", 0, NULL, 0, NULL, 0, out, sizeof out), TAO_EINVAL, "no secret");
	tao_buf_free(&hex);
}

/* PBE */

struct pbe_case {
	const char *what;
	uint64_t version, iterations, log_n, r, p;
	const char *kdf, *cipher;
	enum tao_err want;
};

static void pb_num(struct tao_buf *b, unsigned field, uint64_t v)
{
	tao_buf_varint(b, field << 3);
	tao_buf_varint(b, v);
}

static void pb_bytes(struct tao_buf *b, unsigned field, const void *p, size_t n)
{
	tao_buf_varint(b, field << 3 | 2);
	tao_buf_varint(b, n);
	tao_buf_put(b, p, n);
}

/* As key.h documents it, made without pbe.c: "hello" under "pw". */
static void documented_pbe(const struct pbe_case *c, struct tao_buf *out)
{
	static const uint8_t iv[16] = "an iv", salt[32] = "a salt";
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	struct tao_buf m = TAO_BUF_INIT;
	uint8_t key[64] = { 0 }, text[5 + 32];
	int len;

	if (c->log_n > 0 && c->log_n < 10)
		EVP_PBE_scrypt("pw", 2, salt, 32, 1ull << c->log_n, c->r, c->p, 0, key, sizeof key);
	EVP_EncryptInit_ex(ctx, EVP_aes_256_ctr(), NULL, key, iv);
	EVP_EncryptUpdate(ctx, text, &len, (const uint8_t *)"hello", 5);
	EVP_CIPHER_CTX_free(ctx);
	tao_buf_str(&m, "tao pbe v1");
	tao_buf_u32(&m, (uint32_t)c->log_n);
	tao_buf_u32(&m, (uint32_t)c->r);
	tao_buf_u32(&m, (uint32_t)c->p);
	tao_buf_put(&m, iv, sizeof iv);
	tao_buf_put(&m, salt, sizeof salt);
	tao_buf_put(&m, text, 5);
	HMAC(EVP_sha256(), key + 32, 32, m.p, m.n, text + 5, NULL);
	tao_buf_free(&m);
	tao_buf_reset(out);
	pb_num(out, 1, c->version);
	pb_bytes(out, 2, c->cipher, strlen(c->cipher));
	pb_bytes(out, 3, "sha256", 6);
	pb_num(out, 4, c->iterations);
	pb_bytes(out, 5, iv, sizeof iv);
	pb_bytes(out, 6, text, sizeof text);
	pb_bytes(out, 7, salt, c->kdf != NULL ? sizeof salt : 16);
	if (c->kdf == NULL)
		return;
	pb_bytes(out, 8, c->kdf, strlen(c->kdf));
	pb_num(out, 9, c->log_n);
	pb_num(out, 10, c->r);
	pb_num(out, 11, c->p);
}

static void pbe_cases(void)
{
	static const struct pbe_case cases[] = {
		{ "as documented", 2, 1, 4, 8, 1, "scrypt", "aes256-ctr", TAO_OK },
		{ "other parameters", 2, 1, 5, 4, 2, "scrypt", "aes256-ctr", TAO_OK },
		{ "a newer version", 3, 1, 4, 8, 1, "scrypt", "aes256-ctr", TAO_EVERSION },
		{ "version 1", 1, 1, 4, 8, 1, "scrypt", "aes256-ctr", TAO_EFORMAT },
		{ "an unknown derivation", 2, 1, 4, 8, 1, "argon2", "aes256-ctr", TAO_EVERSION },
		{ "an unknown cipher", 2, 1, 4, 8, 1, "scrypt", "aes256-gcm", TAO_EVERSION },
		{ "iterations beside scrypt", 2, 2, 4, 8, 1, "scrypt", "aes256-ctr", TAO_EFORMAT },
		{ "N of 1", 2, 1, 0, 8, 1, "scrypt", "aes256-ctr", TAO_EFORMAT },
		{ "no blocks", 2, 1, 4, 0, 1, "scrypt", "aes256-ctr", TAO_EFORMAT },
		{ "too large an N", 2, 1, 21, 8, 1, "scrypt", "aes256-ctr", TAO_ELIMIT },
		{ "an N that wraps", 2, 1, 64, 8, 1, "scrypt", "aes256-ctr", TAO_ELIMIT },
		{ "too large an r", 2, 1, 4, 17, 1, "scrypt", "aes256-ctr", TAO_ELIMIT },
		{ "too large a p", 2, 1, 4, 8, 5, "scrypt", "aes256-ctr", TAO_ELIMIT },
		{ "too much memory", 2, 1, 20, 9, 1, "scrypt", "aes256-ctr", TAO_ELIMIT },
		{ "PBKDF2, too much", 2, 10000001, 0, 0, 0, NULL, "aes128-ctr", TAO_ELIMIT },
		{ "PBKDF2, none", 2, 0, 0, 0, 0, NULL, "aes128-ctr", TAO_EFORMAT },
		{ "PBKDF2, negative", 2, UINT64_MAX, 0, 0, 0, NULL, "aes128-ctr", TAO_ELIMIT },
		{ "PBKDF2, unknown cipher", 2, 1, 0, 0, 0, NULL, "aes256-ctr", TAO_EVERSION },
	};
	struct tao_buf file = TAO_BUF_INIT, out = TAO_BUF_INIT;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		documented_pbe(&cases[i], &file);
		tao_buf_reset(&out);
		ok_err(tao_pbe_open("pw", 2, file.p, file.n, &out), cases[i].want, "PBE: %s",
		       cases[i].what);
		ok_str(tao_buf_cstr(&out), cases[i].want == TAO_OK ? "hello" : "",
		       "PBE: %s: contents", cases[i].what);
	}
	documented_pbe(&cases[0], &file);
	pb_num(&file, 11, 1);
	ok_err(tao_pbe_open("pw", 2, file.p, file.n, &out), TAO_EFORMAT, "PBE: a field twice");
	documented_pbe(&cases[0], &file);
	pb_num(&file, 12, 1);
	ok_err(tao_pbe_open("pw", 2, file.p, file.n, &out), TAO_EFORMAT, "PBE: an unknown field");
	tao_buf_free(&file);
	tao_buf_free(&out);
}

/* Every changed bit, with a cheap file; but not those that make it dear. */
static void pbe_altered(void)
{
	static const struct pbe_case cheap = { "", 2, 1, 2, 1, 1, "scrypt", "aes256-ctr", TAO_OK };
	struct tao_buf file = TAO_BUF_INIT, out = TAO_BUF_INIT;
	size_t opened = 0;

	documented_pbe(&cheap, &file);
	for (size_t i = 0; i < file.n * 8; i++) {
		size_t log_n = file.n - 5; /* then two times tag and number */

		file.p[i / 8] ^= (uint8_t)(1 << i % 8);
		if (file.p[log_n] <= 8 || file.p[log_n] > 20)
			opened += tao_pbe_open("pw", 2, file.p, file.n, &out) == TAO_OK;
		file.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t n = 0; n < file.n; n++)
		opened += tao_pbe_open("pw", 2, file.p, n, &out) == TAO_OK;
	ok(opened == 0 && out.n == 0, "PBE: no changed bit and no prefix opens");
	ok_err(tao_pbe_open("pw", 2, file.p, file.n, &out), TAO_OK, "PBE: as it was, it does");
	tao_buf_free(&file);
	tao_buf_free(&out);
}

static void pbe(void)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT, out = TAO_BUF_INIT;

	ok_err(tao_pbe_seal("pw", 2, "data", 4, &a), TAO_OK, "PBE: sealed");
	ok_err(tao_pbe_seal("pw", 2, "data", 4, &b), TAO_OK, "PBE: again");
	ok(a.n == b.n && memcmp(a.p, b.p, a.n) != 0, "PBE: never the same");
	ok_err(tao_pbe_open("pw", 2, a.p, a.n, &out), TAO_OK, "PBE: opened");
	ok_str(tao_buf_cstr(&out), "data", "PBE: contents");
	ok_err(tao_pbe_open("pW", 2, a.p, a.n, &out), TAO_EPASS, "PBE: a wrong passphrase");
	ok_err(tao_pbe_seal("", 0, "data", 4, &a), TAO_EINVAL, "PBE: no passphrase");
	ok(a.p[a.n - 5] == 16 && a.p[a.n - 3] == 8 && a.p[a.n - 1] == 1, "PBE: N=2^16, r=8, p=1");
	tao_buf_free(&a);
	tao_buf_free(&b);
	tao_buf_free(&out);
}

/* Keysets */

static void refuse_set(struct tao_buf *const *keys, size_t n, const char *what)
{
	Tao__CryptoKeyset set = TAO__CRYPTO_KEYSET__INIT;
	ProtobufCBinaryData item[20];
	struct tao_buf out = TAO_BUF_INIT;
	struct tao_keyset ks;

	for (size_t i = 0; i < n; i++)
		item[i] = (ProtobufCBinaryData){ keys[i]->n, keys[i]->p };
	set.n_keys = n;
	set.keys = item;
	tao_pb_pack(&set.base, &out);
	ok_err(tao_keyset_decode(out.p, out.n, &ks), TAO_EFORMAT, "keyset: %s", what);
	ok(ks.signer == NULL && !ks.has_deriver, "keyset: %s: nothing comes back", what);
	tao_buf_free(&out);
}

static void keysets(void)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT, one = TAO_BUF_INIT, pub = TAO_BUF_INIT;
	struct tao_buf *many[20], *twice[] = { &one, &one }, *public[] = { &pub };
	struct tao_keyset ks, back;

	ok_err(tao_keyset_generate(&ks), TAO_OK, "keyset: made");
	ok_err(tao_keyset_encode(&ks, &a), TAO_OK, "keyset: stored");
	ok_err(tao_keyset_decode(a.p, a.n, &back), TAO_OK, "keyset: read");
	ok(EVP_PKEY_eq(ks.signer, back.signer) == 1 && back.has_deriver &&
	           memcmp(ks.deriver, back.deriver, sizeof ks.deriver) == 0,
	   "keyset: the same");
	ok(tao_keyset_encode(&back, &b) == TAO_OK && a.n == b.n && memcmp(a.p, b.p, a.n) == 0,
	   "keyset: private half, too");
	tao_keyset_clear(&back);
	tao_cryptokey_encode(p256, "k", 1, &one);
	tao_cryptokey_encode(p256, "k", 0, &pub);
	for (size_t i = 0; i < 20; i++)
		many[i] = i == 0 ? &one : &pub;
	refuse_set(many, 0, "empty");
	refuse_set(twice, 2, "two signing keys");
	refuse_set(public, 1, "no signing key");
	refuse_set(many, 20, "too many keys");
	ok_err(tao_keyset_decode(a.p, a.n - 1, &back), TAO_EFORMAT, "keyset: cut short");
	ks.has_deriver = 0;
	tao_buf_reset(&a);
	ok(tao_keyset_encode(&ks, &a) == TAO_OK && tao_keyset_decode(a.p, a.n, &back) == TAO_OK &&
	           !back.has_deriver,
	   "keyset: without a deriving key");
	tao_keyset_clear(&ks);
	tao_keyset_clear(&back);
	tao_buf_free(&a);
	tao_buf_free(&b);
	tao_buf_free(&one);
	tao_buf_free(&pub);
}

/* Many keys of all kinds, and what else a set holds. */
static const char *const others[] = {
	"ecdsap384", "ed25519", "rsa2048", "aes128-ctr-hmacsha256", "aes256-ctr-hmacsha384",
	"aes256-ctr-hmacsha512", "hdkf-sha384", "hdkf-sha512", "hdkf-sha256", "ecdsap521",
};

#define N_OTHERS (sizeof others / sizeof others[0])

static void fill(struct tao_keyset *ks)
{
	struct tao_anykey k;

	for (size_t i = 0; i < N_OTHERS; i++) {
		ok(tao_anykey_generate(others[i], others[i], &k) == TAO_OK, "keyset: %s made",
		   others[i]);
		k.epoch = (int32_t)i;
		ok(tao_keyset_add(ks, &k) == TAO_OK && k.name == NULL && k.pkey == NULL,
		   "keyset: %s added", others[i]);
	}
	ks->cert = ks->delegation = ks->chain[0] = ks->chain[1] = (struct tao_buf)TAO_BUF_INIT;
	tao_buf_str(&ks->cert, "a certificate");
	tao_buf_str(&ks->delegation, "a delegation");
	tao_buf_str(&ks->chain[0], "one");
	tao_buf_str(&ks->chain[1], "two");
	ks->n_chain = 2;
}

static void look(const struct tao_keyset *ks)
{
	const struct tao_crypter *c = tao_keyset_crypter(ks, NULL);
	struct tao_deriver d;

	ok(c != NULL && strcmp(c->type->name, "aes128-ctr-hmacsha256") == 0, "keyset: a crypter");
	c = tao_keyset_crypter(ks, "aes256-ctr-hmacsha512");
	ok(c != NULL && strcmp(c->type->name, "aes256-ctr-hmacsha512") == 0,
	   "keyset: a certain one");
	ok(tao_keyset_crypter(ks, "aes128-ctr") == NULL, "keyset: none of that type");
	ok(tao_keyset_deriver(ks, NULL, &d) == TAO_OK &&
	           memcmp(d.secret, ks->deriver, sizeof ks->deriver) == 0,
	   "keyset: the deriver");
	ok(tao_keyset_deriver(ks, "hdkf-sha512", &d) == TAO_OK && d.type->secret_n == 64,
	   "keyset: a certain one");
	tao_deriver_clear(&d);
}

static void large_sets(void)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	struct tao_keyset ks, back;
	size_t same = 0;

	tao_keyset_generate(&ks);
	fill(&ks);
	look(&ks);
	ok_err(tao_keyset_encode(&ks, &a), TAO_OK, "keyset: with everything, stored");
	ok_err(tao_keyset_decode(a.p, a.n, &back), TAO_OK, "keyset: read");
	for (size_t i = 0; i < N_OTHERS && i < back.n_more; i++) {
		const char *type = tao_anykey_type(&back.more[i]);

		same += strcmp(type, others[i]) == 0 && strcmp(back.more[i].name, others[i]) == 0 &&
		        back.more[i].epoch == (int32_t)i;
	}
	ok(back.n_more == N_OTHERS && same == N_OTHERS, "keyset: all keys, in order, with names");
	ok(back.n_chain == 2 && back.cert.n == 13 && back.delegation.n == 12 &&
	           memcmp(back.chain[1].p, "two", 3) == 0,
	   "keyset: certificates and delegation");
	ok(EVP_PKEY_eq(ks.signer, back.signer) == 1, "keyset: the first signing key is the signer");
	look(&back);
	ok(tao_keyset_encode(&back, &b) == TAO_OK && a.n == b.n && memcmp(a.p, b.p, a.n) == 0,
	   "keyset: stored again, byte for byte");
	tao_keyset_clear(&ks);
	tao_keyset_clear(&back);
	ok(back.more == NULL && back.n_more == 0 && back.cert.p == NULL, "keyset: cleared");
	tao_buf_free(&a);
	tao_buf_free(&b);
}

static void copy_of(const struct tao_anykey *k, struct tao_anykey *out)
{
	struct tao_buf b = TAO_BUF_INIT;

	if (tao_anykey_encode(k, &b) != TAO_OK || tao_anykey_decode(b.p, b.n, out) != TAO_OK)
		exit(1);
	tao_buf_free(&b);
}

static void adding(void)
{
	static const char *const each[] = { "ecdsap256", "aes128-ctr-hmacsha256", "hdkf-sha256" };
	struct tao_keyset ks = { 0 };
	struct tao_anykey k, again;
	struct tao_buf b = TAO_BUF_INIT;

	ok_err(tao_keyset_encode(&ks, &b), TAO_EINVAL, "keyset: none to store");
	for (size_t i = 0; i < 3; i++) {
		tao_anykey_generate(each[i], "k", &k);
		copy_of(&k, &again);
		ok_err(tao_keyset_add(&ks, &k), TAO_OK, "keyset: %s", each[i]);
		ok_err(tao_keyset_add(&ks, &again), TAO_EEXIST, "keyset: %s, not twice", each[i]);
		ok(again.name == NULL && again.pkey == NULL, "keyset: and the argument is empty");
	}
	ok(ks.signer != NULL && ks.has_deriver && ks.n_more == 1, "keyset: each in its place");
	ok_err(tao_keyset_add(&ks, &again), TAO_EINVAL, "keyset: no key to add");
	for (size_t i = 3; i < TAO_KEYSET_MAX; i++) {
		tao_anykey_generate("hdkf-sha512", "k", &k);
		tao_keyset_add(&ks, &k);
	}
	tao_anykey_generate("hdkf-sha512", "k", &k);
	ok_err(tao_keyset_add(&ks, &k), TAO_ELIMIT, "keyset: not more than there may be");
	ok(tao_keyset_encode(&ks, &b) == TAO_OK, "keyset: a full one is stored");
	tao_keyset_clear(&ks);
	ok_err(tao_keyset_decode(b.p, b.n, &ks), TAO_OK, "keyset: and read");
	tao_keyset_clear(&ks);
	tao_buf_free(&b);
}

/* A crypting key alone: for those who look, not for those who speak. */
static void set_without_signer(void)
{
	struct tao_keyset ks = { 0 }, back;
	struct tao_anykey k;
	struct tao_buf b = TAO_BUF_INIT;

	tao_anykey_generate("aes128-ctr-hmacsha256", "k", &k);
	tao_keyset_add(&ks, &k);
	tao_keyset_encode(&ks, &b);
	ok_err(tao_keyset_decode(b.p, b.n, &back), TAO_EFORMAT, "keyset: only a crypting key");
	ok(back.n_more == 0 && back.more == NULL, "keyset: nothing comes back");
	ok(tao_keyset_decode_any(b.p, b.n, &back) == TAO_OK &&
	   tao_keyset_crypter(&back, NULL) != NULL,
	   "keyset: it can be looked at");
	ok_err(tao_anykey_generate("aes128-raw", "k", &k), TAO_EINVAL, "an unknown type of key");
	ok(tao_anykey_type(&k) == NULL && tao_anykey_encode(&k, &b) == TAO_EINVAL, "is none");
	tao_keyset_clear(&ks);
	tao_keyset_clear(&back);
	tao_buf_free(&b);
}

static void refuse_many(unsigned field, size_t n, const char *why)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	struct tao_keyset ks;

	if (tao_keyset_generate(&ks) != TAO_OK || tao_keyset_encode(&ks, &a) != TAO_OK)
		exit(1);
	tao_keyset_clear(&ks);
	tao_buf_put(&b, a.p, a.n);
	for (size_t i = 0; i < n; i++)
		pb_bytes(&b, field, "x", 1);
	ok(tao_keyset_decode(b.p, b.n, &ks) == TAO_EFORMAT && (strstr(tao_why(), why) != NULL),
	   "keyset: %zu more of field %u: %s", n, field, tao_why());
	tao_buf_free(&a);
	tao_buf_free(&b);
}

static void set_limits(void)
{
	static uint8_t zeros[TAO_KEYFILE_MAX + 1];
	struct tao_keyset ks;
	EVP_PKEY *key = NULL;

	refuse_many(1, TAO_KEYSET_MAX - 1, "keys: at most 16");
	refuse_many(4, TAO_KEYSET_CHAIN_MAX + 1, "certificates in its chain: at most 8");
	ok(tao_keyset_decode(zeros, sizeof zeros, &ks) == TAO_EFORMAT && strstr(tao_why(), "at most 65536") != NULL,
	   "keyset: too long");
	ok(tao_cryptokey_decode(zeros, 8193, &key) == TAO_EFORMAT && strstr(tao_why(), "at most 8192") != NULL,
	   "stored key: too long");
}

static void files(void)
{
	char dir[] = "/tmp/t_key.XXXXXX", path[64];
	struct tao_buf file = TAO_BUF_INIT;
	struct tao_keyset ks, back;
	struct stat st;

	if (mkdtemp(dir) == NULL || tao_keyset_generate(&ks) != TAO_OK)
		return;
	snprintf(path, sizeof path, "%s/keys", dir);
	ok_err(tao_keyset_load(path, "pw", 2, &back), TAO_ENOTFOUND, "key file: none yet");
	ok_err(tao_keyset_save(path, &ks, "pw", 2), TAO_OK, "key file: written");
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "key file: mode 0600");
	ok_err(tao_keyset_load(path, "pw", 2, &back), TAO_OK, "key file: read");
	ok(EVP_PKEY_eq(ks.signer, back.signer) == 1, "key file: the same key");
	tao_keyset_clear(&back);
	ok_err(tao_keyset_save(path, &ks, "other", 5), TAO_EEXIST, "key file: not overwritten");
	ok_err(tao_keyset_load(path, "pw2", 3, &back), TAO_EPASS, "key file: a wrong passphrase");
	ok(strstr(tao_why(), path) != NULL && strstr(tao_why(), "wrong passphrase") != NULL,
	   "key file: the sentence says where and why");
	ok(back.signer == NULL, "key file: and nothing comes back");
	tao_file_read(path, TAO_KEYFILE_MAX, &file);
	tao_file_write(path, file.p, file.n - 1, 0600, 0);
	ok_err(tao_keyset_load(path, "pw", 2, &back), TAO_EFORMAT, "key file: cut short");
	ok(truncate(path, TAO_KEYFILE_MAX + 1) == 0 &&
	           tao_keyset_load(path, "pw", 2, &back) == TAO_ELIMIT,
	   "key file: too large");
	tao_keyset_clear(&ks);
	tao_buf_free(&file);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	if (tao_key_generate("ecdsap256", &p256) != TAO_OK)
		return 1;
	generated("ecdsap256", 91);
	generated("ecdsap384", 120);
	generated("ecdsap521", 158);
	generated("rsa2048", 294);
	generated("ed25519", 44);
	public_keys();
	signatures();
	mixed();
	seed();
	from_certificate("ecdsap384");
	from_certificate("ecdsap521");
	from_certificate("ed25519");
	stored("ecdsap256", 1);
	stored("ecdsap256", 0);
	stored("ecdsap384", 1);
	stored("ecdsap384", 0);
	stored("ecdsap521", 1);
	stored("ecdsap521", 0);
	stored("ed25519", 1);
	stored("ed25519", 0);
	stored("rsa2048", 1);
	stored("rsa2048", 0);
	stored("rsa3072", 1);
	stored("rsa4096", 1);
	stored_refusals();
	vectors();
	hkdf();
	pbe_cases();
	pbe_altered();
	pbe();
	keysets();
	large_sets();
	adding();
	set_without_signer();
	set_limits();
	files();
	EVP_PKEY_free(p256);
	return done();
}
