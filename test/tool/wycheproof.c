/*
 * Runs cases of Wycheproof, one a line on standard input:
 *
 *   OPERATION ID FIELD...
 *
 * A field is hex, "-" for no bytes, or a word where the operation wants one.
 * It prints, in order, "ID accept HEX" (HEX is the result, "-" if it has none),
 * or "ID refuse WHY". A line it cannot read ends it with status 1.
 *
 *   verify DIGEST SPKI MESSAGE SIGNATURE      DIGEST "none": Ed25519
 *   pss SPKI MESSAGE SIGNATURE                SHA-256, MGF1 with it, salt of 32 bytes
 *   oaep PKCS8 LABEL CIPHERTEXT               SHA-256, MGF1 with it; the message
 *   hkdf SECRET SALT INFO LENGTH              SHA-256; the output
 *   hmac KEY MESSAGE TAG                      SHA-256; TAG may be a prefix
 *   seal KEY IV AAD MESSAGE                   AES-GCM; ciphertext and tag
 *   open KEY IV AAD CIPHERTEXT+TAG            the message
 *   ecdh PRIVATE POINT                        P-256; the shared secret
 *   x25519 PRIVATE PUBLIC                     as the group tao_x25519 has it
 *
 * What libtao has is asked from libtao: verify, hkdf, hmac, and seal and open
 * with 256-bit keys and 96-bit nonces; x25519 from the provider. The rest is libcrypto's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tao/crypter.h"
#include "tao/gcm.h"
#include "tao/key.h"
#include "tao/keytype.h"
#include "../../provider/mix.c"

#define FIELDS_MAX 5
#define TAG_LEN 16
#define SALT_LEN 32
#define SCALAR_LEN 32

struct args {
	const char *word[FIELDS_MAX];
	struct tao_buf bytes[FIELDS_MAX];
};

static enum tao_err refused(const char *why)
{
	return tao_fail(TAO_ESIGNATURE, "%s", why);
}

static enum tao_err op_verify(struct args *a, struct tao_buf *out)
{
	const char *md = strcmp(a->word[0], "none") == 0 ? NULL : a->word[0];
	EVP_PKEY *key;
	enum tao_err e = tao_key_from_spki(a->bytes[1].p, a->bytes[1].n, &key);

	(void)out;
	if (e != TAO_OK) {
		fprintf(stderr, "a key is not read: %s\n", tao_why());
		exit(1);
	}
	e = tao_signature_verify(key, md, a->bytes[2].p, a->bytes[2].n, a->bytes[3].p,
	                         a->bytes[3].n);
	EVP_PKEY_free(key);
	return e;
}

static enum tao_err op_pss(struct args *a, struct tao_buf *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx;
	EVP_PKEY *key = NULL;
	int good;

	(void)out;
	good = tao_key_from_spki(a->bytes[0].p, a->bytes[0].n, &key) == TAO_OK && ctx != NULL &&
	       EVP_DigestVerifyInit_ex(ctx, &pctx, "SHA256", NULL, NULL, key, NULL) == 1 &&
	       EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
	       EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, SALT_LEN) == 1;
	if (!good) {
		fprintf(stderr, "PSS cannot be set up\n");
		exit(1);
	}
	good = EVP_DigestVerify(ctx, a->bytes[2].p, a->bytes[2].n, a->bytes[1].p,
	                        a->bytes[1].n) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return good ? TAO_OK : refused("signature");
}

static EVP_PKEY_CTX *oaep_start(EVP_PKEY *key, const struct tao_buf *label)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	void *copy = OPENSSL_memdup(label->p, label->n);

	if (ctx == NULL || EVP_PKEY_decrypt_init(ctx) != 1 ||
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) != 1 ||
	    EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) != 1 ||
	    EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) != 1 ||
	    (label->n > 0 && EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, copy, (int)label->n) != 1)) {
		fprintf(stderr, "OAEP cannot be set up\n");
		exit(1);
	}
	if (label->n == 0)
		OPENSSL_free(copy);
	return ctx;
}

static enum tao_err op_oaep(struct args *a, struct tao_buf *out)
{
	const unsigned char *der = a->bytes[0].p;
	EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &der, (long)a->bytes[0].n);
	EVP_PKEY_CTX *ctx = oaep_start(key, &a->bytes[1]);
	uint8_t plain[1024];
	size_t n = sizeof plain;
	int good = EVP_PKEY_decrypt(ctx, plain, &n, a->bytes[2].p, a->bytes[2].n) == 1;

	if (good)
		tao_buf_put(out, plain, n);
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(key);
	return good ? TAO_OK : refused("padding");
}

static enum tao_err op_hkdf(struct args *a, struct tao_buf *out)
{
	size_t n = strtoul(a->word[3], NULL, 10);
	uint8_t *p = tao_buf_room(out, n);

	return tao_hkdf(a->bytes[0].p, a->bytes[0].n, a->bytes[1].p, a->bytes[1].n, a->bytes[2].p,
	                a->bytes[2].n, p, n);
}

static enum tao_err op_hmac(struct args *a, struct tao_buf *out)
{
	struct tao_rd part = tao_rd_of(a->bytes[1].p, a->bytes[1].n);
	uint8_t mac[TAO_MAC_MAX];
	enum tao_err e = tao_hmac("SHA256", a->bytes[0].p, a->bytes[0].n, &part, 1, mac);

	(void)out;
	if (e != TAO_OK)
		return e;
	if (a->bytes[2].n == 0 || a->bytes[2].n > TAO_HASH_LEN ||
	    CRYPTO_memcmp(mac, a->bytes[2].p, a->bytes[2].n) != 0)
		return refused("MAC");
	return TAO_OK;
}

/* AES-GCM of sizes that libtao does not use. */
static EVP_CIPHER_CTX *gcm_start(struct args *a, int encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	EVP_CIPHER *cipher = NULL;
	char name[32];
	int len, good;

	snprintf(name, sizeof name, "AES-%zu-GCM", a->bytes[0].n * 8);
	cipher = EVP_CIPHER_fetch(NULL, name, NULL);
	good = ctx != NULL && cipher != NULL && a->bytes[1].n > 0 &&
	       EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, encrypt, NULL) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, (int)a->bytes[1].n, NULL) == 1 &&
	       EVP_CipherInit_ex2(ctx, NULL, a->bytes[0].p, a->bytes[1].p, encrypt, NULL) == 1 &&
	       (a->bytes[2].n == 0 || EVP_CipherUpdate(ctx, NULL, &len, a->bytes[2].p,
	                                               (int)a->bytes[2].n) == 1);
	EVP_CIPHER_free(cipher);
	if (good)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static int is_ours(const struct args *a)
{
	return a->bytes[0].n == TAO_GCM_KEY && a->bytes[1].n == TAO_GCM_NONCE;
}

static enum tao_err op_seal(struct args *a, struct tao_buf *out)
{
	struct tao_rd aad = tao_rd_of(a->bytes[2].p, a->bytes[2].n);
	size_t n = a->bytes[3].n;
	EVP_CIPHER_CTX *ctx;
	uint8_t *to;
	int len, good;

	if (is_ours(a))
		return tao_gcm_seal(a->bytes[0].p, a->bytes[1].p, &aad, 1, a->bytes[3].p, n, out);
	ctx = gcm_start(a, 1);
	to = tao_buf_room(out, n + TAG_LEN);
	good = ctx != NULL && to != NULL &&
	       (n == 0 || EVP_EncryptUpdate(ctx, to, &len, a->bytes[3].p, (int)n) == 1) &&
	       EVP_EncryptFinal_ex(ctx, to + n, &len) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, to + n) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return good ? TAO_OK : refused("not sealed");
}

static enum tao_err op_open(struct args *a, struct tao_buf *out)
{
	struct tao_rd aad = tao_rd_of(a->bytes[2].p, a->bytes[2].n);
	size_t n = a->bytes[3].n;
	EVP_CIPHER_CTX *ctx;
	uint8_t *to, end[TAG_LEN];
	int len, good;

	if (is_ours(a))
		return tao_gcm_open(a->bytes[0].p, a->bytes[1].p, &aad, 1, a->bytes[3].p, n, out);
	if (n < TAG_LEN)
		return refused("no tag");
	n -= TAG_LEN;
	ctx = gcm_start(a, 0);
	to = tao_buf_room(out, n);
	good = ctx != NULL && (n == 0 || EVP_DecryptUpdate(ctx, to, &len, a->bytes[3].p,
	                                                   (int)n) == 1) &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, a->bytes[3].p + n) == 1 &&
	       EVP_DecryptFinal_ex(ctx, end, &len) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return good ? TAO_OK : refused("not opened");
}

static enum tao_err agree(EVP_PKEY *own, EVP_PKEY *peer, struct tao_buf *out)
{
	EVP_PKEY_CTX *ctx = own != NULL ? EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL) : NULL;
	uint8_t secret[SCALAR_LEN];
	size_t n = sizeof secret;
	int good = peer != NULL && ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
	           EVP_PKEY_derive_set_peer(ctx, peer) == 1 &&
	           EVP_PKEY_derive(ctx, secret, &n) == 1;

	if (good)
		tao_buf_put(out, secret, n);
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(own);
	EVP_PKEY_free(peer);
	return good ? TAO_OK : refused("no agreement");
}

static EVP_PKEY *p256(const struct tao_buf *scalar, const struct tao_buf *point)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	BIGNUM *d = scalar != NULL ? BN_bin2bn(scalar->p, (int)scalar->n, NULL) : NULL;
	OSSL_PARAM *params;
	EVP_PKEY *key = NULL;

	OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
	if (d != NULL)
		OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, d);
	if (point != NULL)
		OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point->p, point->n);
	params = OSSL_PARAM_BLD_to_param(bld);
	EVP_PKEY_fromdata_init(ctx);
	EVP_PKEY_fromdata(ctx, &key, d != NULL ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
	BN_free(d);
	return key;
}

static enum tao_err op_ecdh(struct args *a, struct tao_buf *out)
{
	return agree(p256(&a->bytes[0], NULL), p256(NULL, &a->bytes[1]), out);
}

static enum tao_err op_x25519(struct args *a, struct tao_buf *out)
{
	EVP_PKEY *own = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, a->bytes[0].p,
	                                             a->bytes[0].n);
	uint8_t shared[MIX_X25519];
	struct mix mix;
	enum tao_err e;

	mix_init(&mix, NULL);
	if (own == NULL || a->bytes[1].n != MIX_X25519)
		e = tao_fail(TAO_EFORMAT, "no X25519 keys");
	else
		e = mix_x25519(&mix, own, a->bytes[1].p, shared);
	if (own != NULL && (e == TAO_EFORMAT) != (mix_check(0, 0, a->bytes[1].p) != TAO_OK))
		e = tao_fail(TAO_EPROTO, "what is seen of the point and of the result differs");
	if (e == TAO_OK)
		tao_buf_put(out, shared, sizeof shared);
	mix_clear(&mix);
	EVP_PKEY_free(own);
	return e;
}

/* fields: b bytes, w a word */
static const struct {
	const char *name, *fields;
	enum tao_err (*run)(struct args *a, struct tao_buf *out);
} ops[] = {
	{ "verify", "wbbb", op_verify }, { "pss", "bbb", op_pss },   { "oaep", "bbb", op_oaep },
	{ "hkdf", "bbbw", op_hkdf },     { "hmac", "bbb", op_hmac }, { "seal", "bbbb", op_seal },
	{ "open", "bbbb", op_open },     { "ecdh", "bb", op_ecdh },  { "x25519", "bb", op_x25519 },
};

#define N_OPS (sizeof ops / sizeof ops[0])

static int read_field(char kind, const char *text, struct tao_buf *to)
{
	size_t n = strlen(text) / 2;
	uint8_t *p;

	tao_buf_reset(to);
	if (kind == 'w' || strcmp(text, "-") == 0)
		return 1;
	p = tao_buf_room(to, n);
	return p != NULL && tao_unhex(text, strlen(text), p, n) == TAO_OK;
}

static void say(const char *id, enum tao_err e, const struct tao_buf *result)
{
	struct tao_buf hex = TAO_BUF_INIT;

	tao_buf_hex(&hex, result->p, result->n);
	if (e == TAO_OK)
		printf("%s accept %s\n", id, result->n > 0 ? tao_buf_cstr(&hex) : "-");
	else
		printf("%s refuse %s\n", id, tao_why());
	tao_buf_free(&hex);
}

static int run_line(char *line)
{
	static struct args a;
	struct tao_buf out = TAO_BUF_INIT;
	char *save, *op = strtok_r(line, " \n", &save), *id = strtok_r(NULL, " \n", &save);
	size_t i = 0;

	while (i < N_OPS && (op == NULL || strcmp(op, ops[i].name) != 0))
		i++;
	if (i == N_OPS || id == NULL)
		return 0;
	for (size_t k = 0; k < strlen(ops[i].fields); k++) {
		a.word[k] = strtok_r(NULL, " \n", &save);
		a.bytes[k].max = TAO_BUF_MAX;
		if (a.word[k] == NULL || !read_field(ops[i].fields[k], a.word[k], &a.bytes[k]))
			return 0;
	}
	say(id, ops[i].run(&a, &out), &out);
	tao_buf_free(&out);
	return strtok_r(NULL, " \n", &save) == NULL;
}

int main(void)
{
	char *line = NULL;
	size_t cap = 0;
	unsigned long n = 0;

	while (getline(&line, &cap, stdin) > 0) {
		n++;
		if (!run_line(line)) {
			fprintf(stderr, "line %lu is not a case\n", n);
			return 1;
		}
	}
	free(line);
	return 0;
}
