#include "key.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "keytype.h"
#include "pb.h"

#define SIGNED_DATA_MAX 4096     /* bytes of a SignedData */
#define SIGNED_DATA_MEMORY 16384 /* bytes it may unpack to */
#define SIGNED_KEY_NAME "tao"
#define RSA_EXPONENT_BITS 32     /* a huge exponent makes verifying slow */
#define RSA_BITS_MIN 2048
#define WEAK_TYPE "rsa1024"      /* CloudProxy has it */
#define TYPE_NAMES "ecdsap256, ecdsap384, ecdsap521, ed25519, rsa2048, rsa3072 or rsa4096"

#define NAMED(type) type, type TAO_KEYTYPE_PUBLIC

static const struct tao_keytype types[] = {
	{ NAMED("ecdsap256"), TAO_KEY_EC, "prime256v1", 256,
	  "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 10, 91 },
	{ NAMED("ecdsap384"), TAO_KEY_EC, "secp384r1", 384, "\x06\x05\x2b\x81\x04\x00\x22", 7, 120 },
	{ NAMED("ecdsap521"), TAO_KEY_EC, "secp521r1", 521, "\x06\x05\x2b\x81\x04\x00\x23", 7, 158 },
	{ NAMED("rsa2048"), TAO_KEY_RSA, NULL, 2048, NULL, 0, 0 },
	{ NAMED("rsa3072"), TAO_KEY_RSA, NULL, 3072, NULL, 0, 0 },
	{ NAMED("rsa4096"), TAO_KEY_RSA, NULL, 4096, NULL, 0, 0 },
	{ NAMED("ed25519"), TAO_KEY_ED25519, NULL, 256, NULL, 0, 44 },
};

#define N_TYPES (sizeof types / sizeof types[0])

const struct tao_keytype *tao_keytype_named(const char *name, int *is_public)
{
	for (size_t i = 0; i < N_TYPES; i++) {
		*is_public = strcmp(name, types[i].public_name) == 0;
		if (*is_public || strcmp(name, types[i].name) == 0)
			return &types[i];
	}
	return NULL;
}

static int matches(const struct tao_keytype *t, EVP_PKEY *key)
{
	char group[64];
	size_t n;

	if (t->kind == TAO_KEY_ED25519)
		return EVP_PKEY_is_a(key, "ED25519");
	if (t->kind == TAO_KEY_RSA)
		return EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) == t->bits;
	return EVP_PKEY_is_a(key, "EC") &&
	       EVP_PKEY_get_group_name(key, group, sizeof group, &n) == 1 &&
	       strcmp(group, t->group) == 0;
}

const struct tao_keytype *tao_keytype_of(EVP_PKEY *key)
{
	const struct tao_keytype *found = NULL;

	ERR_set_mark();
	for (size_t i = 0; i < N_TYPES && found == NULL; i++) {
		if (matches(&types[i], key))
			found = &types[i];
	}
	ERR_pop_to_mark();
	return found;
}

static enum tao_err weak(enum tao_err e)
{
	return tao_fail(e, "RSA of 1024 bits is too weak to be trusted: make a new key, of type "
	                   "ecdsap256, or rsa2048 and above");
}

enum tao_err tao_keytype_none(enum tao_err e, const char *name)
{
	size_t n = sizeof WEAK_TYPE - 1;

	if (strncmp(name, WEAK_TYPE, n) == 0 &&
	    (name[n] == 0 || strcmp(name + n, TAO_KEYTYPE_PUBLIC) == 0))
		return weak(e);
	return tao_fail(e, "no key type '%.40s' that signs: use " TYPE_NAMES, name);
}

static EVP_PKEY *generate(const struct tao_keytype *t)
{
	if (t->kind == TAO_KEY_EC)
		return EVP_EC_gen(t->group);
	if (t->kind == TAO_KEY_RSA)
		return EVP_RSA_gen((unsigned int)t->bits);
	return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

enum tao_err tao_key_generate(const char *type, EVP_PKEY **out)
{
	int is_public = 0;
	const struct tao_keytype *t = tao_keytype_named(type, &is_public);

	*out = NULL;
	if (t == NULL || is_public)
		return tao_keytype_none(TAO_EINVAL, type);
	*out = generate(t);
	return *out != NULL ? TAO_OK : tao_fail_crypto("cannot generate a key of type %s", type);
}

enum tao_err tao_key_spki(EVP_PKEY *key, struct tao_buf *der)
{
	unsigned char *p = NULL;
	int n = i2d_PUBKEY(key, &p);

	if (n <= 0)
		return tao_fail_crypto("cannot encode a public key");
	tao_buf_put(der, p, (size_t)n);
	OPENSSL_free(p);
	return tao_buf_err(der);
}

static int exponent_ok(EVP_PKEY *key)
{
	BIGNUM *e = NULL;
	int good = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(e) &&
	           !BN_is_one(e) && BN_num_bits(e) <= RSA_EXPONENT_BITS;

	BN_free(e);
	return good;
}

/* RSA's bounds; curves have theirs by being in the table. */
static int signs_for_taos(EVP_PKEY *key, size_t n)
{
	const struct tao_keytype *t = tao_keytype_of(key);

	return t != NULL && (t->spki_n == 0 || t->spki_n == n) &&
	       (t->kind != TAO_KEY_RSA || exponent_ok(key));
}

static int is_sealed_besides(EVP_PKEY *key)
{
	int bits = EVP_PKEY_get_bits(key);

	if (EVP_PKEY_is_a(key, "RSA-PSS"))
		return (bits == 2048 || bits == 3072 || bits == 4096) && exponent_ok(key);
	return EVP_PKEY_is_a(key, "X25519") || EVP_PKEY_is_a(key, "ML-DSA-44") ||
	       EVP_PKEY_is_a(key, "ML-DSA-65") || EVP_PKEY_is_a(key, "ML-DSA-87");
}

/* One key, one encoding and nothing behind it: else it would have several names. */
static int canonical(EVP_PKEY *key, const void *der, size_t n)
{
	unsigned char *p = NULL;
	int len = i2d_PUBKEY(key, &p);
	int same = len > 0 && (size_t)len == n && memcmp(p, der, n) == 0;

	OPENSSL_free(p);
	return same;
}

static enum tao_err refuse_spki(int is_weak)
{
	if (is_weak)
		return weak(TAO_EFORMAT);
	return tao_fail(TAO_EFORMAT, "not a public key of a kind that is accepted here: P-256, "
	                             "P-384, P-521, Ed25519, or RSA of 2048, 3072 or 4096 bits");
}

static enum tao_err from_spki(const void *der, size_t n, int any, EVP_PKEY **out)
{
	const unsigned char *p = der;
	EVP_PKEY *key;
	int good, is_weak;

	*out = NULL;
	if (n == 0 || n > TAO_SPKI_MAX)
		return tao_fail(TAO_EFORMAT, "a public key of %zu bytes is not read: 1 to %d", n,
		                TAO_SPKI_MAX);
	ERR_set_mark();
	key = d2i_PUBKEY(NULL, &p, (long)n);
	good = key != NULL && (signs_for_taos(key, n) || (any && is_sealed_besides(key))) &&
	       canonical(key, der, n);
	is_weak = key != NULL && EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) < RSA_BITS_MIN;
	ERR_pop_to_mark();
	if (!good) {
		EVP_PKEY_free(key);
		return refuse_spki(is_weak);
	}
	*out = key;
	return TAO_OK;
}

enum tao_err tao_key_from_spki(const void *der, size_t n, EVP_PKEY **out)
{
	return from_spki(der, n, 0, out);
}

enum tao_err tao_key_from_spki_any(const void *der, size_t n, EVP_PKEY **out)
{
	return from_spki(der, n, 1, out);
}

enum tao_err tao_sha256(const void *p, size_t n, uint8_t hash[TAO_HASH_LEN])
{
	if (EVP_Digest(p, n, hash, NULL, EVP_sha256(), NULL) != 1)
		return tao_fail_crypto("SHA-256 failed");
	return TAO_OK;
}

enum tao_err tao_key_hash(EVP_PKEY *key, uint8_t hash[TAO_HASH_LEN])
{
	struct tao_buf der = TAO_BUF_INIT;
	enum tao_err e = tao_key_spki(key, &der);

	if (e == TAO_OK)
		e = tao_sha256(der.p, der.n, hash);
	tao_buf_free(&der);
	return e;
}

static enum tao_err contextualize(const char *context, const void *data, size_t n,
                                  struct tao_buf *out)
{
	Tao__ContextualizedData cd = TAO__CONTEXTUALIZED_DATA__INIT;

	cd.context = (char *)context;
	cd.has_data = 1;
	cd.data.data = (uint8_t *)data;
	cd.data.len = n;
	tao_pb_pack(&cd.base, out);
	return tao_buf_err(out);
}

/* What the algorithm gets: for Ed25519 the hash is the message, the others
 * make it themselves. */
static enum tao_err to_sign(const struct tao_keytype *t, const char *context, const void *data,
                            size_t n, struct tao_buf *out)
{
	uint8_t hash[TAO_HASH_LEN];
	enum tao_err e = contextualize(context, data, n, out);

	if (e != TAO_OK || t->kind != TAO_KEY_ED25519)
		return e;
	e = tao_sha256(out->p, out->n, hash);
	tao_buf_reset(out);
	tao_buf_put(out, hash, sizeof hash);
	return e != TAO_OK ? e : tao_buf_err(out);
}

static const char *digest_of(const struct tao_keytype *t)
{
	return t->kind == TAO_KEY_ED25519 ? NULL : "SHA256";
}

void tao_cryptoheader_fill(Tao__CryptoHeader *h, const char *name, const char *type,
                           const char *purpose)
{
	h->version = TAO__CRYPTO_VERSION__CRYPTO_VERSION_2;
	h->key_name = (char *)name;
	h->has_key_epoch = 1;
	h->key_epoch = 1;
	h->key_type = (char *)type;
	h->key_purpose = (char *)purpose;
	h->key_status = (char *)"active";
}

enum tao_err tao_cryptoheader_check(const Tao__CryptoHeader *h)
{
	int version = (int)h->version;

	if (version > TAO__CRYPTO_VERSION__CRYPTO_VERSION_2)
		return tao_fail(TAO_EVERSION, "a key header has version %d: upgrade to a Tao that "
		                              "knows it", version);
	if (version != TAO__CRYPTO_VERSION__CRYPTO_VERSION_2)
		return tao_fail(TAO_EFORMAT, "a key header has version %d, which is not read: "
		                             "only 2 is", version);
	if (h->base.n_unknown_fields != 0)
		return tao_fail(TAO_EFORMAT, "a key header has fields that are not known");
	if (h->key_type == NULL || h->key_purpose == NULL)
		return tao_fail(TAO_EFORMAT, "a key header lacks its type or purpose");
	if (h->key_status == NULL || strcmp(h->key_status, "active") != 0)
		return tao_fail(TAO_EFORMAT, "a key's status is not 'active': use another key");
	return TAO_OK;
}

static enum tao_err sign_bytes(EVP_PKEY *key, const char *md, const struct tao_buf *m,
                               struct tao_buf *sig)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	enum tao_err e = TAO_OK;
	size_t n = 0;

	if (ctx == NULL || EVP_DigestSignInit_ex(ctx, NULL, md, NULL, NULL, key, NULL) != 1 ||
	    EVP_DigestSign(ctx, NULL, &n, m->p, m->n) != 1) {
		e = tao_fail_crypto("cannot sign");
		goto out;
	}
	if (tao_buf_room(sig, n) == NULL) {
		e = tao_buf_err(sig);
		goto out;
	}
	if (EVP_DigestSign(ctx, sig->p, &n, m->p, m->n) != 1)
		e = tao_fail_crypto("cannot sign");
	sig->n = n; /* ECDSA: often shorter than the room */
out:
	EVP_MD_CTX_free(ctx);
	return e;
}

enum tao_err tao_key_sign(EVP_PKEY *key, const char *context, const void *data, size_t n,
                          struct tao_buf *signed_data)
{
	struct tao_buf m = TAO_BUF_INIT, sig = TAO_BUF_INIT;
	Tao__CryptoHeader h = TAO__CRYPTO_HEADER__INIT;
	Tao__SignedData sd = TAO__SIGNED_DATA__INIT;
	const struct tao_keytype *t = tao_keytype_of(key);
	enum tao_err e;

	if (t == NULL)
		return tao_fail(TAO_EINVAL, "cannot sign with a key of this kind: use " TYPE_NAMES);
	e = to_sign(t, context, data, n, &m);
	if (e == TAO_OK)
		e = sign_bytes(key, digest_of(t), &m, &sig);
	if (e != TAO_OK)
		goto out;
	/* CloudProxy leaves the signer's purpose in this header. */
	tao_cryptoheader_fill(&h, SIGNED_KEY_NAME, t->public_name, "signing");
	sd.header = &h;
	sd.has_signature = 1;
	sd.signature.data = sig.p;
	sd.signature.len = sig.n;
	tao_pb_pack(&sd.base, signed_data);
	e = tao_buf_err(signed_data);
out:
	tao_buf_free(&m);
	tao_buf_free(&sig);
	return e;
}

/* The header is not signed; it must at least be of one mind with the key. */
static enum tao_err check_signed_header(const struct tao_keytype *want, const Tao__SignedData *sd)
{
	const struct tao_keytype *t;
	int is_public = 0;
	enum tao_err e;

	if (sd->header == NULL || !sd->has_signature)
		return tao_fail(TAO_EFORMAT, "a signature lacks its header or its bytes");
	e = tao_cryptoheader_check(sd->header);
	if (e != TAO_OK)
		return e;
	t = tao_keytype_named(sd->header->key_type, &is_public);
	if (t == NULL || !is_public || t != want)
		return tao_fail(TAO_ESIGNATURE, "a signature says that it is of type '%.40s', "
		                                "which is not the signer key's",
		                                sd->header->key_type);
	if (strcmp(sd->header->key_purpose, "signing") != 0)
		return tao_fail(TAO_ESIGNATURE, "a signature was made with a key for '%.40s', "
		                                "not for signing", sd->header->key_purpose);
	return TAO_OK;
}

enum tao_err tao_signature_verify(EVP_PKEY *key, const char *md, const void *p, size_t n,
                                  const void *sig, size_t sig_n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	enum tao_err e = TAO_OK;

	ERR_set_mark();
	if (ctx == NULL || EVP_DigestVerifyInit_ex(ctx, NULL, md, NULL, NULL, key, NULL) != 1)
		e = tao_fail_crypto("cannot verify with this key");
	else if (EVP_DigestVerify(ctx, sig, sig_n, p, n) != 1)
		e = tao_fail(TAO_ESIGNATURE, "a signature does not verify: the data was altered, "
		                             "or another key signed it");
	ERR_pop_to_mark();
	EVP_MD_CTX_free(ctx);
	return e;
}

enum tao_err tao_key_verify(EVP_PKEY *key, const char *context, const void *data, size_t n,
                            const void *signed_data, size_t sig_n)
{
	struct tao_buf m = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb = NULL;
	const Tao__SignedData *sd;
	const struct tao_keytype *t = tao_keytype_of(key);
	enum tao_err e;

	if (t == NULL)
		return tao_fail(TAO_EINVAL, "cannot verify with a key of this kind: use " TYPE_NAMES);
	if (sig_n > SIGNED_DATA_MAX)
		return tao_fail(TAO_EFORMAT, "a signature of %zu bytes is not one", sig_n);
	tao_pb_alloc_init(&pa, SIGNED_DATA_MEMORY);
	e = tao_pb_unpack_strict(&pa, &tao__signed_data__descriptor, signed_data, sig_n,
	                         "signature", &pb);
	if (e != TAO_OK)
		return e == TAO_ELIMIT ? tao_fail(TAO_EFORMAT, "%s", tao_why()) : e;
	sd = (const Tao__SignedData *)pb;
	e = check_signed_header(t, sd);
	if (e == TAO_OK)
		e = to_sign(t, context, data, n, &m);
	if (e == TAO_OK)
		e = tao_signature_verify(key, digest_of(t), m.p, m.n, sd->signature.data,
		                         sd->signature.len);
	tao_buf_free(&m);
	tao_pb_free(&pa, pb);
	return e;
}

enum tao_err tao_hkdf(const void *secret, size_t secret_n, const void *salt, size_t salt_n,
                      const void *info, size_t info_n, void *out, size_t out_n)
{
	return tao_hkdf_with("SHA256", secret, secret_n, salt, salt_n, info, info_n, out, out_n);
}
