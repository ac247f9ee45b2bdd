#include "key.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "keytype.h"
#include "pb.h"

#define SIGNED_DATA_MAX 4096     /* bytes of a SignedData */
#define SIGNED_DATA_MEMORY 16384 /* bytes it may unpack to */
#define SIGNED_KEY_NAME "tao"
#define RSA_EXPONENT_BITS 32     /* a huge exponent makes verifying slow */
#define HKDF_MAX (255 * TAO_HASH_LEN)

static const struct tao_keytype types[] = {
	{ "ecdsap256", "prime256v1", 256, "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 10, 91 },
	{ "ecdsap384", "secp384r1", 384, "\x06\x05\x2b\x81\x04\x00\x22", 7, 120 },
	{ "ecdsap521", "secp521r1", 521, "\x06\x05\x2b\x81\x04\x00\x23", 7, 158 },
	{ "rsa2048", NULL, 2048, NULL, 0, 0 },
	{ "rsa3072", NULL, 3072, NULL, 0, 0 },
	{ "rsa4096", NULL, 4096, NULL, 0, 0 },
};

#define N_TYPES (sizeof types / sizeof types[0])

const struct tao_keytype *tao_keytype_named(const char *name, int *is_public)
{
	for (size_t i = 0; i < N_TYPES; i++) {
		size_t n = strlen(types[i].name);

		if (strncmp(name, types[i].name, n) != 0)
			continue;
		*is_public = strcmp(name + n, TAO_KEYTYPE_PUBLIC) == 0;
		if (*is_public || name[n] == 0)
			return &types[i];
	}
	return NULL;
}

static int matches(const struct tao_keytype *t, EVP_PKEY *key)
{
	char group[64];
	size_t n;

	if (t->group == NULL)
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

enum tao_err tao_key_generate(const char *type, EVP_PKEY **out)
{
	int is_public = 0;
	const struct tao_keytype *t = tao_keytype_named(type, &is_public);

	*out = NULL;
	if (t == NULL || is_public)
		return tao_fail(TAO_EINVAL, "no key type '%s': use ecdsap256", type);
	*out = t->group != NULL ? EVP_EC_gen(t->group) : EVP_RSA_gen((unsigned int)t->bits);
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

/* RSA's bounds; curves have theirs by being in the table. */
static int exponent_ok(EVP_PKEY *key, const struct tao_keytype *t)
{
	BIGNUM *e = NULL;
	int good;

	if (t->group != NULL)
		return 1;
	good = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(e) &&
	       !BN_is_one(e) && BN_num_bits(e) <= RSA_EXPONENT_BITS;
	BN_free(e);
	return good;
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

enum tao_err tao_key_from_spki(const void *der, size_t n, EVP_PKEY **out)
{
	const unsigned char *p = der;
	const struct tao_keytype *t = NULL;
	EVP_PKEY *key;
	int good;

	*out = NULL;
	if (n == 0 || n > TAO_SPKI_MAX)
		return tao_fail(TAO_EFORMAT, "a public key of %zu bytes is not read: 1 to %d", n,
		                TAO_SPKI_MAX);
	ERR_set_mark();
	key = d2i_PUBKEY(NULL, &p, (long)n);
	if (key != NULL)
		t = tao_keytype_of(key);
	good = t != NULL && (t->spki_n == 0 || t->spki_n == n) && exponent_ok(key, t) &&
	       canonical(key, der, n);
	ERR_pop_to_mark();
	if (!good) {
		EVP_PKEY_free(key);
		return tao_fail(TAO_EFORMAT, "not a public key of a kind that is accepted here: "
		                             "P-256, P-384, P-521, or RSA of 2048, 3072 or 4096 bits");
	}
	*out = key;
	return TAO_OK;
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

/* What is really signed. */
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
	if (h->key_type == NULL || h->key_purpose == NULL)
		return tao_fail(TAO_EFORMAT, "a key header lacks its type or purpose");
	if (h->key_status == NULL || strcmp(h->key_status, "active") != 0)
		return tao_fail(TAO_EFORMAT, "a key's status is not 'active': use another key");
	return TAO_OK;
}

static enum tao_err sign_bytes(EVP_PKEY *key, const struct tao_buf *m, struct tao_buf *sig)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	enum tao_err e = TAO_OK;
	size_t n = 0;

	if (ctx == NULL || EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, key, NULL) != 1 ||
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
	char type[32];
	enum tao_err e;

	if (t == NULL)
		return tao_fail(TAO_EINVAL, "cannot sign with a key of this kind: use ecdsap256");
	e = contextualize(context, data, n, &m);
	if (e == TAO_OK)
		e = sign_bytes(key, &m, &sig);
	if (e != TAO_OK)
		goto out;
	snprintf(type, sizeof type, "%s" TAO_KEYTYPE_PUBLIC, t->name);
	/* CloudProxy leaves the signer's purpose in this header. */
	tao_cryptoheader_fill(&h, SIGNED_KEY_NAME, type, "signing");
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
static enum tao_err check_signed_header(EVP_PKEY *key, const Tao__SignedData *sd)
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
	if (t == NULL || !is_public || t != tao_keytype_of(key))
		return tao_fail(TAO_ESIGNATURE, "a signature says that it is of type '%.40s', "
		                                "which is not the signer key's", sd->header->key_type);
	if (strcmp(sd->header->key_purpose, "signing") != 0)
		return tao_fail(TAO_ESIGNATURE, "a signature was made with a key for '%.40s', "
		                                "not for signing", sd->header->key_purpose);
	return TAO_OK;
}

static enum tao_err verify_bytes(EVP_PKEY *key, const struct tao_buf *m,
                                 const ProtobufCBinaryData *sig)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	enum tao_err e = TAO_OK;

	ERR_set_mark();
	if (ctx == NULL || EVP_DigestVerifyInit_ex(ctx, NULL, "SHA256", NULL, NULL, key, NULL) != 1)
		e = tao_fail_crypto("cannot verify with this key");
	else if (EVP_DigestVerify(ctx, sig->data, sig->len, m->p, m->n) != 1)
		e = tao_fail(TAO_ESIGNATURE, "a signature does not verify: the data was altered, or "
		                             "another key signed it");
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
	enum tao_err e;

	if (sig_n > SIGNED_DATA_MAX)
		return tao_fail(TAO_EFORMAT, "a signature of %zu bytes is not one", sig_n);
	tao_pb_alloc_init(&pa, SIGNED_DATA_MEMORY);
	e = tao_pb_unpack_strict(&pa, &tao__signed_data__descriptor, signed_data, sig_n, "signature", &pb);
	if (e != TAO_OK)
		return e == TAO_ELIMIT ? tao_fail(TAO_EFORMAT, "%s", tao_why()) : e;
	sd = (const Tao__SignedData *)pb;
	e = check_signed_header(key, sd);
	if (e == TAO_OK)
		e = contextualize(context, data, n, &m);
	if (e == TAO_OK)
		e = verify_bytes(key, &m, &sd->signature);
	tao_buf_free(&m);
	tao_pb_free(&pa, pb);
	return e;
}

enum tao_err tao_hkdf(const void *secret, size_t secret_n, const void *salt, size_t salt_n,
                      const void *info, size_t info_n, void *out, size_t out_n)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	OSSL_PARAM params[5], *p = params;
	enum tao_err e = TAO_OK;

	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, secret_n);
	if (salt_n > 0)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_n);
	if (info_n > 0)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_n);
	*p = OSSL_PARAM_construct_end();
	if (secret_n == 0 || out_n == 0 || out_n > HKDF_MAX)
		e = tao_fail(TAO_EINVAL, "HKDF: a secret, and 1 to %d bytes of output", HKDF_MAX);
	else if (ctx == NULL || EVP_KDF_derive(ctx, out, out_n, params) != 1)
		e = tao_fail_crypto("HKDF failed");
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return e;
}
