#include "gcm.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

/* Set up, with all associated data in it; NULL on failure. */
static EVP_CIPHER_CTX *start(const uint8_t *key, const uint8_t *nonce, const struct tao_rd *aad,
                             size_t n_aad, int encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len, good;

	good = ctx != NULL &&
	       EVP_CipherInit_ex2(ctx, EVP_aes_256_gcm(), key, nonce, encrypt, NULL) == 1;
	for (size_t i = 0; good && i < n_aad; i++)
		good = aad[i].n == 0 ||
		       EVP_CipherUpdate(ctx, NULL, &len, aad[i].p, (int)aad[i].n) == 1;
	if (good)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static enum tao_err check_sizes(const struct tao_rd *aad, size_t n_aad, size_t n)
{
	int large = n > TAO_GCM_MAX;

	for (size_t i = 0; i < n_aad; i++)
		large |= aad[i].n > TAO_GCM_MAX;
	return large ? tao_fail(TAO_ELIMIT, "more than %u bytes to seal or unseal", TAO_GCM_MAX)
	             : TAO_OK;
}

enum tao_err tao_gcm_seal(const uint8_t key[TAO_GCM_KEY], const uint8_t nonce[TAO_GCM_NONCE],
                          const struct tao_rd *aad, size_t n_aad, const void *p, size_t n,
                          struct tao_buf *out)
{
	EVP_CIPHER_CTX *ctx = NULL;
	uint8_t *to, *tag;
	enum tao_err e = check_sizes(aad, n_aad, n);
	int len;

	if (e != TAO_OK)
		return e;
	to = tao_buf_room(out, n + TAO_GCM_TAG);
	if (to == NULL)
		return tao_buf_err(out);
	tag = to + n;
	ctx = start(key, nonce, aad, n_aad, 1);
	if (ctx == NULL || (n > 0 && EVP_EncryptUpdate(ctx, to, &len, p, (int)n) != 1) ||
	    EVP_EncryptFinal_ex(ctx, tag, &len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAO_GCM_TAG, tag) != 1) {
		OPENSSL_cleanse(to, n + TAO_GCM_TAG);
		out->n -= n + TAO_GCM_TAG;
		e = tao_fail_crypto("cannot seal");
	}
	EVP_CIPHER_CTX_free(ctx);
	return e;
}

enum tao_err tao_gcm_open(const uint8_t key[TAO_GCM_KEY], const uint8_t nonce[TAO_GCM_NONCE],
                          const struct tao_rd *aad, size_t n_aad, const uint8_t *text, size_t n,
                          struct tao_buf *out)
{
	struct tao_buf plain = TAO_BUF_INIT; /* out gets nothing that is not authentic */
	EVP_CIPHER_CTX *ctx = NULL;
	enum tao_err e = check_sizes(aad, n_aad, n);
	uint8_t end[TAO_GCM_TAG], *to;
	int len;

	if (e == TAO_OK && n < TAO_GCM_TAG)
		e = tao_fail(TAO_EALTERED, "shorter than its tag");
	if (e != TAO_OK)
		return e;
	n -= TAO_GCM_TAG;
	to = tao_buf_room(&plain, n);
	ctx = start(key, nonce, aad, n_aad, 0);
	e = tao_buf_err(&plain);
	if (e == TAO_OK && ctx == NULL)
		e = tao_fail_crypto("cannot unseal");
	if (e == TAO_OK && ((n > 0 && EVP_DecryptUpdate(ctx, to, &len, text, (int)n) != 1) ||
	                    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAO_GCM_TAG,
	                                        (void *)(text + n)) != 1 ||
	                    EVP_DecryptFinal_ex(ctx, end, &len) != 1))
		e = tao_fail(TAO_EALTERED, "altered, or sealed with another key");
	if (e == TAO_OK) {
		tao_buf_put(out, plain.p, plain.n);
		e = tao_buf_err(out);
	}
	EVP_CIPHER_CTX_free(ctx);
	tao_buf_free(&plain);
	return e;
}
