#include "pkcs1.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include "../tao/key.h"

#define MODULUS_MAX 512   /* bytes: RSA-4096 */
#define HEAD 2            /* 00 02 */
#define PAD_MIN 8
#define LENGTH_TRIES 128  /* so that hardly ever none is in range */
#define IMPLICIT_REJECTION "implicit-rejection" /* libcrypto's parameter, from 3.2 on */

/* ---- constant time: masks are 0 or all ones ---- */

static uint32_t mask_of_bit(uint32_t bit)
{
	return 0u - bit;
}

static uint32_t mask_zero(uint32_t a)
{
	return mask_of_bit((~a & (a - 1)) >> 31);
}

static uint32_t mask_equal(uint32_t a, uint32_t b)
{
	return mask_zero(a ^ b);
}

static uint32_t mask_less(uint32_t a, uint32_t b) /* both below 2^31 */
{
	return mask_of_bit((a - b) >> 31);
}

static uint32_t choose(uint32_t mask, uint32_t a, uint32_t b)
{
	return (mask & a) | (~mask & b);
}

/* ---- the alternative message ---- */

static int hmac(const uint8_t key[TAO_HASH_LEN], const void *p, size_t n,
                uint8_t out[TAO_HASH_LEN])
{
	return HMAC(EVP_sha256(), key, TAO_HASH_LEN, p, n, out, NULL) != NULL;
}

/* The private exponent, as long as the modulus, hashed: HMAC over the ciphertext with that. */
static int derive_kdk(EVP_PKEY *key, const uint8_t *p, size_t n, uint8_t kdk[TAO_HASH_LEN])
{
	uint8_t d_bytes[MODULUS_MAX], hash[TAO_HASH_LEN];
	BIGNUM *d = NULL;
	int done = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_D, &d) == 1 &&
	           BN_bn2binpad(d, d_bytes, (int)n) == (int)n &&
	           tao_sha256(d_bytes, n, hash) == TAO_OK && hmac(hash, p, n, kdk);

	BN_clear_free(d);
	OPENSSL_cleanse(d_bytes, sizeof d_bytes);
	OPENSSL_cleanse(hash, sizeof hash);
	return done;
}

/* HMAC(KDK, number of block (2) | label | bits (2)), block after block. */
static int prf(const uint8_t kdk[TAO_HASH_LEN], const char *label, uint8_t *out, size_t n)
{
	uint8_t in[16], block[TAO_HASH_LEN];
	size_t label_n = strlen(label), bits = 8 * n;
	int done = 1;

	memcpy(in + 2, label, label_n);
	in[2 + label_n] = (uint8_t)(bits >> 8);
	in[3 + label_n] = (uint8_t)bits;
	for (size_t at = 0, i = 0; done && at < n; at += TAO_HASH_LEN, i++) {
		in[0] = (uint8_t)(i >> 8);
		in[1] = (uint8_t)i;
		done = hmac(kdk, in, label_n + 4, block);
		memcpy(out + at, block, n - at < TAO_HASH_LEN ? n - at : TAO_HASH_LEN);
	}
	OPENSSL_cleanse(block, sizeof block);
	return done;
}

/* The last of the drawn lengths that is in range. */
static int alternative_length(const uint8_t kdk[TAO_HASH_LEN], uint32_t n, uint32_t *length)
{
	uint8_t drawn[2 * LENGTH_TRIES];
	uint32_t most = n - HEAD - PAD_MIN, mask = most;
	int done = prf(kdk, "length", drawn, sizeof drawn);

	for (int shift = 1; shift < 16; shift *= 2)
		mask |= mask >> shift;
	*length = 0;
	for (size_t i = 0; done && i < sizeof drawn; i += 2) {
		uint32_t candidate = ((uint32_t)drawn[i] << 8 | drawn[i + 1]) & mask;

		*length = choose(mask_less(candidate, most), candidate, *length);
	}
	OPENSSL_cleanse(drawn, sizeof drawn);
	return done;
}

/* ---- the message ---- */

/* Where the message begins in a padded block; *good: all ones if it is one. */
static uint32_t message_start(const uint8_t *em, uint32_t n, uint32_t *good)
{
	uint32_t found = 0, zero_at = 0;

	*good = mask_zero(em[0]) & mask_equal(em[1], 2);
	for (uint32_t i = HEAD; i < n; i++) {
		uint32_t zero = mask_zero(em[i]);

		zero_at = choose(~found & zero, i, zero_at);
		found |= zero;
	}
	*good &= ~mask_less(zero_at, HEAD + PAD_MIN);
	return zero_at + 1;
}

/* RSA without padding, to a block as long as the modulus. */
static enum tao_err raw_decrypt(EVP_PKEY *key, const uint8_t *p, size_t n, uint8_t *em)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	size_t len = n;
	enum tao_err e = TAO_OK;

	if (ctx == NULL || EVP_PKEY_decrypt_init(ctx) != 1 ||
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) != 1)
		e = tao_fail_crypto("decrypting");
	else if (EVP_PKEY_decrypt(ctx, em, &len, p, n) != 1 || len != n)
		e = TAO_EINVAL;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return e;
}

enum tao_err pkcs1_decrypt_here(EVP_PKEY *key, const uint8_t *p, size_t n, struct tao_buf *plain)
{
	uint8_t em[MODULUS_MAX], other[MODULUS_MAX], kdk[TAO_HASH_LEN];
	uint32_t good, start, length;
	enum tao_err e;

	if (n > MODULUS_MAX || n != (size_t)EVP_PKEY_get_size(key))
		return tao_fail(TAO_EINVAL, "a ciphertext is as long as the modulus");
	e = raw_decrypt(key, p, n, em);
	if (e != TAO_OK)
		return e;
	if (!derive_kdk(key, p, n, kdk) || !prf(kdk, "message", other, n) ||
	    !alternative_length(kdk, (uint32_t)n, &length)) {
		e = tao_fail_crypto("decrypting");
		goto out;
	}
	start = message_start(em, (uint32_t)n, &good);
	start = choose(good, start, (uint32_t)n - length);
	for (uint32_t i = 0; i < n; i++)
		em[i] = (uint8_t)choose(good, em[i], other[i]);
	tao_buf_put(plain, em + start, n - start);
	e = tao_buf_err(plain);
out:
	OPENSSL_cleanse(em, sizeof em);
	OPENSSL_cleanse(other, sizeof other);
	OPENSSL_cleanse(kdk, sizeof kdk);
	return e;
}

/* ---- libcrypto's ---- */

static enum tao_err decrypt(EVP_PKEY_CTX *ctx, size_t room, const uint8_t *p, size_t n,
                            struct tao_buf *plain)
{
	uint8_t *to = tao_buf_room(plain, room);
	size_t len = room;
	int done = to != NULL && EVP_PKEY_decrypt(ctx, to, &len, p, n) == 1;

	if (to == NULL)
		return tao_buf_err(plain);
	plain->n -= room - (done ? len : 0);
	ERR_clear_error();
	return done ? TAO_OK : TAO_EINVAL;
}

enum tao_err pkcs1_decrypt(EVP_PKEY *key, const uint8_t *p, size_t n, struct tao_buf *plain)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	int init = ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1 &&
	           EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
	unsigned on = 1;
	OSSL_PARAM params[] = { OSSL_PARAM_construct_uint(IMPLICIT_REJECTION, &on),
	                        OSSL_PARAM_construct_end() };
	const OSSL_PARAM *known = init ? EVP_PKEY_CTX_settable_params(ctx) : NULL;
	enum tao_err e;

	if (!init)
		e = tao_fail_crypto("decrypting");
	else if (known == NULL || OSSL_PARAM_locate_const(known, IMPLICIT_REJECTION) == NULL)
		e = pkcs1_decrypt_here(key, p, n, plain);
	else if (EVP_PKEY_CTX_set_params(ctx, params) != 1)
		e = tao_fail_crypto("decrypting");
	else
		e = decrypt(ctx, (size_t)EVP_PKEY_get_size(key), p, n, plain);
	EVP_PKEY_CTX_free(ctx);
	return e;
}

enum tao_err pkcs1_tls_premaster(EVP_PKEY *key, uint32_t version, uint32_t alt_version,
                                 const uint8_t *p, size_t n, struct tao_buf *plain)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	unsigned client = version, negotiated = alt_version;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, &client),
		OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION,
		                          &negotiated),
		OSSL_PARAM_construct_end(),
	};
	enum tao_err e;

	if (ctx == NULL || EVP_PKEY_decrypt_init(ctx) != 1 ||
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_WITH_TLS_PADDING) != 1 ||
	    EVP_PKEY_CTX_set_params(ctx, params) != 1)
		e = tao_fail_crypto("decrypting");
	else
		e = decrypt(ctx, PKCS1_PREMASTER, p, n, plain);
	EVP_PKEY_CTX_free(ctx);
	return e;
}
