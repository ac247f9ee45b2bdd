/* RSA decryption by the host: OAEP, PKCS#1 v1.5, TLS premaster secrets. */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include "inner.h"
#include "keymgmt/key.h"
#include "provider.h"

#define DIGEST_NAME_MAX 50 /* bytes of a digest's name, as in libcrypto */

static OSSL_FUNC_asym_cipher_newctx_fn rsa_newctx;
static OSSL_FUNC_asym_cipher_encrypt_init_fn rsa_encrypt_init;
static OSSL_FUNC_asym_cipher_encrypt_fn rsa_encrypt;
static OSSL_FUNC_asym_cipher_decrypt_init_fn rsa_decrypt_init;
static OSSL_FUNC_asym_cipher_decrypt_fn rsa_decrypt;
static OSSL_FUNC_asym_cipher_freectx_fn rsa_freectx;
static OSSL_FUNC_asym_cipher_dupctx_fn rsa_dupctx;
static OSSL_FUNC_asym_cipher_get_ctx_params_fn rsa_get_ctx_params;
static OSSL_FUNC_asym_cipher_gettable_ctx_params_fn rsa_gettable_ctx_params;
static OSSL_FUNC_asym_cipher_set_ctx_params_fn rsa_set_ctx_params;
static OSSL_FUNC_asym_cipher_settable_ctx_params_fn rsa_settable_ctx_params;

struct rsa {
	struct prov *prov;
	struct opaque *key;
	EVP_PKEY_CTX *inner; /* has the parameters, and encrypts; NULL: not begun */
};

static void *rsa_newctx(void *provctx)
{
	struct rsa *c = calloc(1, sizeof *c);

	if (c != NULL)
		c->prov = provctx;
	return c;
}

static void rsa_freectx(void *vctx)
{
	struct rsa *c = vctx;

	if (c == NULL)
		return;
	EVP_PKEY_CTX_free(c->inner);
	opaque_free(c->key);
	free(c);
}

static void *rsa_dupctx(void *vctx)
{
	struct rsa *from = vctx, *to = rsa_newctx(from->prov);

	if (to == NULL)
		return NULL;
	to->key = from->key != NULL ? opaque_up_ref(from->key) : NULL;
	to->inner = inner_dup(from->inner);
	if (from->inner == NULL || to->inner != NULL)
		return to;
	rsa_freectx(to);
	return NULL;
}

static int init(struct rsa *c, struct opaque *key, int decrypt, const OSSL_PARAM params[])
{
	if (key == NULL || key->pub == NULL || !key->has_pub)
		return 0;
	if (decrypt && !opaque_is_private(key))
		return prov_raise_reason(c->prov, PROV_RNOPRIVATE);
	opaque_up_ref(key);
	opaque_free(c->key);
	c->key = key;
	EVP_PKEY_CTX_free(c->inner);
	c->inner = inner_new(c->prov, key->pub, decrypt ? EVP_PKEY_decrypt_init
	                                                : EVP_PKEY_encrypt_init);
	return c->inner != NULL && rsa_set_ctx_params(c, params);
}

static int rsa_encrypt_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init(vctx, key, 0, params);
}

static int rsa_encrypt(void *vctx, unsigned char *out, size_t *out_n, size_t room,
                       const unsigned char *in, size_t n)
{
	struct rsa *c = vctx;
	int good;

	ERR_set_mark();
	*out_n = room;
	good = EVP_PKEY_encrypt(c->inner, out, out_n, in, n) > 0;
	ERR_pop_to_mark();
	return good ? 1 : prov_raise_text(c->prov, TAO_ECRYPTO, "encrypting for key %s",
	                                  c->key->name);
}

static int rsa_decrypt_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init(vctx, key, 1, params);
}

/* The names of the two digests of OAEP. */
struct names {
	char digest[DIGEST_NAME_MAX], mgf1[DIGEST_NAME_MAX];
};

static int describe_oaep(struct rsa *c, struct opaque_unpad *how, struct names *names)
{
	unsigned char *label = NULL;
	int n;

	if (EVP_PKEY_CTX_get_rsa_oaep_md_name(c->inner, names->digest, sizeof names->digest) <= 0 ||
	    EVP_PKEY_CTX_get_rsa_mgf1_md_name(c->inner, names->mgf1, sizeof names->mgf1) <= 0)
		return 0;
	n = EVP_PKEY_CTX_get0_rsa_oaep_label(c->inner, &label);
	how->padding = "oaep";
	how->digest = prov_digest_word(c->prov, names->digest);
	how->mgf1 = prov_digest_word(c->prov, names->mgf1);
	how->label = label;
	how->label_n = n > 0 && label != NULL ? (size_t)n : 0;
	return 1;
}

static int describe_tls(struct rsa *c, struct opaque_unpad *how)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION,
		                          &how->tls_version),
		OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION,
		                          &how->tls_alt_version),
		OSSL_PARAM_END
	};

	how->padding = "pkcs1";
	return EVP_PKEY_CTX_get_params(c->inner, params) > 0 && how->tls_version > 0;
}

static int describe(struct rsa *c, struct opaque_unpad *how, struct names *names)
{
	int padding = 0, good = 0;

	inner_get_int(c->inner, OSSL_PKEY_PARAM_PAD_MODE, &padding);
	ERR_set_mark();
	if (padding == RSA_PKCS1_OAEP_PADDING) {
		good = describe_oaep(c, how, names);
	} else if (padding == RSA_PKCS1_WITH_TLS_PADDING) {
		good = describe_tls(c, how);
	} else if (padding == RSA_PKCS1_PADDING) {
		how->padding = "pkcs1";
		good = 1;
	}
	ERR_pop_to_mark();
	return good ? 1 : prov_raise_text(c->prov, PROV_RUNPAD, "key %s", c->key->name);
}

static int rsa_decrypt(void *vctx, unsigned char *out, size_t *out_n, size_t room,
                       const unsigned char *in, size_t n)
{
	struct rsa *c = vctx;
	struct opaque_unpad how = { .padding = NULL };
	struct names names = { "", "" };
	struct tao_buf plain = TAO_BUF_INIT;
	enum tao_err e;

	if (out == NULL) {
		*out_n = (size_t)EVP_PKEY_get_size(c->key->pub);
		return 1;
	}
	if (!describe(c, &how, &names))
		return 0;
	e = opaque_decrypt(c->key, &how, in, n, &plain);
	if (e == TAO_OK && plain.n > room)
		e = tao_fail(TAO_EINVAL, "room for what is decrypted: %zu bytes, needed are %zu",
		             room, plain.n);
	if (e == TAO_OK) {
		if (plain.n > 0)
			memcpy(out, plain.p, plain.n);
		*out_n = plain.n;
	}
	tao_buf_free(&plain);
	return e == TAO_OK || prov_raise(c->prov, e);
}

static int rsa_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	return inner_get_params(((struct rsa *)vctx)->inner, params);
}

static const OSSL_PARAM *rsa_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, NULL, 0),
		OSSL_PARAM_DEFN(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, OSSL_PARAM_OCTET_PTR, NULL, 0),
		OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, NULL),
		OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, NULL),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

static int rsa_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	struct rsa *c = vctx;

	return prov_params_whole(c->prov, params) && inner_set_params(c->inner, params);
}

static const OSSL_PARAM *rsa_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST_PROPS, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, NULL, 0),
		OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, NULL),
		OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, NULL),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_ASYM_CIPHER_##id, (void (*)(void))rsa_##fn }

const OSSL_DISPATCH prov_rsa_cipher[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(ENCRYPT_INIT, encrypt_init),
	ENTRY(ENCRYPT, encrypt),
	ENTRY(DECRYPT_INIT, decrypt_init),
	ENTRY(DECRYPT, decrypt),
	ENTRY(FREECTX, freectx),
	ENTRY(DUPCTX, dupctx),
	ENTRY(GET_CTX_PARAMS, get_ctx_params),
	ENTRY(GETTABLE_CTX_PARAMS, gettable_ctx_params),
	ENTRY(SET_CTX_PARAMS, set_ctx_params),
	ENTRY(SETTABLE_CTX_PARAMS, settable_ctx_params),
	{ 0, NULL }
};
