/*
 * TAO-AES-256-GCM: libcrypto's AES-256-GCM, in the inner context, for keys of
 * TAO-SECRET (keymgmt/secret.h) and no others. A name of its own, so that nobody
 * gets it who did not ask for it.
 */
#include <limits.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "keymgmt/secret.h"
#include "newer.h"

#define IV_LEN 12 /* bytes, unless the program says otherwise */

static OSSL_FUNC_cipher_newctx_fn aes_newctx;
static OSSL_FUNC_cipher_update_fn aes_update;
static OSSL_FUNC_cipher_final_fn aes_final;
static OSSL_FUNC_cipher_freectx_fn aes_freectx;
static OSSL_FUNC_cipher_dupctx_fn aes_dupctx;
static OSSL_FUNC_cipher_get_params_fn aes_get_params;
static OSSL_FUNC_cipher_get_ctx_params_fn aes_get_ctx_params;
static OSSL_FUNC_cipher_set_ctx_params_fn aes_set_ctx_params;
static OSSL_FUNC_cipher_gettable_params_fn aes_gettable_params;
static OSSL_FUNC_cipher_gettable_ctx_params_fn aes_gettable_ctx_params;
static OSSL_FUNC_cipher_settable_ctx_params_fn aes_settable_ctx_params;
static OSSL_FUNC_cipher_encrypt_skey_init_fn aes_encrypt_skey_init;
static OSSL_FUNC_cipher_decrypt_skey_init_fn aes_decrypt_skey_init;

struct aes {
	struct prov *prov;
	EVP_CIPHER_CTX *ctx; /* has its cipher from the beginning */
};

static void aes_freectx(void *vctx)
{
	struct aes *c = vctx;

	if (c == NULL)
		return;
	EVP_CIPHER_CTX_free(c->ctx);
	free(c);
}

static void *aes_newctx(void *provctx)
{
	struct aes *c = calloc(1, sizeof *c);
	EVP_CIPHER *cipher;
	int good;

	if (c == NULL)
		return NULL;
	c->prov = provctx;
	ERR_set_mark();
	cipher = EVP_CIPHER_fetch(c->prov->inner->libctx, "AES-256-GCM", NULL);
	c->ctx = EVP_CIPHER_CTX_new();
	good = cipher != NULL && c->ctx != NULL &&
	       EVP_CipherInit_ex2(c->ctx, cipher, NULL, NULL, 1, NULL) > 0;
	EVP_CIPHER_free(cipher);
	ERR_pop_to_mark();
	if (good)
		return c;
	aes_freectx(c);
	return NULL;
}

static void *aes_dupctx(void *vctx)
{
	struct aes *from = vctx, *to = aes_newctx(from->prov);

	if (to != NULL && EVP_CIPHER_CTX_copy(to->ctx, from->ctx) > 0)
		return to;
	aes_freectx(to);
	return NULL;
}

/* Each of key, iv and params may be NULL: then what was before stays. */
static int init(struct aes *c, int encrypt, const struct secret *key, const uint8_t *iv,
                size_t iv_n, const OSSL_PARAM params[])
{
	OSSL_PARAM length[] = {
		OSSL_PARAM_construct_size_t(OSSL_CIPHER_PARAM_IVLEN, &iv_n), OSSL_PARAM_END
	};
	int good;

	if (!prov_params_whole(c->prov, params))
		return 0;
	ERR_set_mark();
	good = (params == NULL || EVP_CIPHER_CTX_set_params(c->ctx, params) > 0) &&
	       (iv == NULL || (size_t)EVP_CIPHER_CTX_get_iv_length(c->ctx) == iv_n ||
	        EVP_CIPHER_CTX_set_params(c->ctx, length) > 0) &&
	       EVP_CipherInit_ex2(c->ctx, NULL, key != NULL ? secret_bytes(key) : NULL, iv, encrypt,
	                          NULL) > 0;
	ERR_pop_to_mark();
	return good ? 1 : prov_raise_text(c->prov, TAO_EINVAL,
	                                  "TAO-AES-256-GCM takes no such parameter, "
	                                  "or no IV of %zu bytes", iv_n);
}

static int aes_encrypt_skey_init(void *vctx, void *key, const unsigned char *iv, size_t iv_n,
                                 const OSSL_PARAM params[])
{
	return init(vctx, 1, key, iv, iv_n, params);
}

static int aes_decrypt_skey_init(void *vctx, void *key, const unsigned char *iv, size_t iv_n,
                                 const OSSL_PARAM params[])
{
	return init(vctx, 0, key, iv, iv_n, params);
}

/* Without out, the data is authenticated only. */
static int aes_update(void *vctx, unsigned char *out, size_t *out_n, size_t room,
                      const unsigned char *in, size_t n)
{
	struct aes *c = vctx;
	int done = 0, good;

	if (n > INT_MAX || (out != NULL && room < n))
		return prov_raise_text(c->prov, TAO_EINVAL, "room for %zu bytes, needed are %zu",
		                       room, n);
	ERR_set_mark();
	good = EVP_CipherUpdate(c->ctx, out, &done, in, (int)n) > 0;
	ERR_pop_to_mark();
	*out_n = (size_t)done;
	return good;
}

static int aes_final(void *vctx, unsigned char *out, size_t *out_n, size_t room)
{
	struct aes *c = vctx;
	int done = 0, good;

	(void)room; /* GCM has nothing left to write */
	ERR_set_mark();
	good = EVP_CipherFinal_ex(c->ctx, out, &done) > 0;
	ERR_pop_to_mark();
	*out_n = (size_t)done;
	return good;
}

/* ---- parameters ---- */

static int aes_get_params(OSSL_PARAM params[])
{
	static const struct {
		const char *name;
		size_t value;
	} sizes[] = {
		{ OSSL_CIPHER_PARAM_KEYLEN, SECRET_LEN },
		{ OSSL_CIPHER_PARAM_IVLEN, IV_LEN },
		{ OSSL_CIPHER_PARAM_BLOCK_SIZE, 1 },
		{ OSSL_CIPHER_PARAM_MODE, EVP_CIPH_GCM_MODE },
		{ OSSL_CIPHER_PARAM_AEAD, 1 },
		{ OSSL_CIPHER_PARAM_CUSTOM_IV, 1 },
	};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		OSSL_PARAM *q = OSSL_PARAM_locate(params, sizes[i].name);

		if (q != NULL && !OSSL_PARAM_set_size_t(q, sizes[i].value))
			return 0;
	}
	return 1;
}

static const OSSL_PARAM *aes_gettable_params(void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
		OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
		OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_BLOCK_SIZE, NULL),
		OSSL_PARAM_uint(OSSL_CIPHER_PARAM_MODE, NULL),
		OSSL_PARAM_int(OSSL_CIPHER_PARAM_AEAD, NULL),
		OSSL_PARAM_int(OSSL_CIPHER_PARAM_CUSTOM_IV, NULL),
		OSSL_PARAM_END
	};

	(void)provctx;
	return table;
}

static int aes_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	struct aes *c = vctx;
	int good;

	ERR_set_mark();
	good = EVP_CIPHER_CTX_get_params(c->ctx, params) > 0;
	ERR_pop_to_mark();
	return good;
}

static const OSSL_PARAM *aes_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
		OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
		OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_AEAD_TAGLEN, NULL),
		OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_IV, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_UPDATED_IV, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

static int aes_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	struct aes *c = vctx;
	int good;

	if (params == NULL)
		return 1;
	if (!prov_params_whole(c->prov, params))
		return 0;
	ERR_set_mark();
	good = EVP_CIPHER_CTX_set_params(c->ctx, params) > 0;
	ERR_pop_to_mark();
	return good;
}

static const OSSL_PARAM *aes_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
		OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_CIPHER_##id, (void (*)(void))aes_##fn }

const OSSL_DISPATCH prov_aes_cipher[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(UPDATE, update),
	ENTRY(FINAL, final),
	ENTRY(FREECTX, freectx),
	ENTRY(DUPCTX, dupctx),
	ENTRY(GET_PARAMS, get_params),
	ENTRY(GET_CTX_PARAMS, get_ctx_params),
	ENTRY(SET_CTX_PARAMS, set_ctx_params),
	ENTRY(GETTABLE_PARAMS, gettable_params),
	ENTRY(GETTABLE_CTX_PARAMS, gettable_ctx_params),
	ENTRY(SETTABLE_CTX_PARAMS, settable_ctx_params),
	ENTRY(ENCRYPT_SKEY_INIT, encrypt_skey_init),
	ENTRY(DECRYPT_SKEY_INIT, decrypt_skey_init),
	{ 0, NULL }
};
