/* Ed25519: whole messages only, in one step. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include "newer.h"
#include "sig.h"

static OSSL_FUNC_signature_newctx_fn eddsa_newctx;
static OSSL_FUNC_signature_digest_sign_init_fn eddsa_sign_init;
static OSSL_FUNC_signature_digest_sign_fn eddsa_sign;
static OSSL_FUNC_signature_digest_verify_init_fn eddsa_verify_init;
static OSSL_FUNC_signature_digest_verify_fn eddsa_verify;
static OSSL_FUNC_signature_sign_message_init_fn eddsa_sign_message_init;
static OSSL_FUNC_signature_verify_message_init_fn eddsa_verify_message_init;
static OSSL_FUNC_signature_dupctx_fn eddsa_dupctx;
static OSSL_FUNC_signature_get_ctx_params_fn eddsa_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn eddsa_gettable_ctx_params;

/* AlgorithmIdentifier { 1.3.101.112 }, RFC 8410. */
static const uint8_t algorithm[] = { 0x30, 5, 6, 3, 0x2b, 0x65, 0x70 };

static void *eddsa_newctx(void *provctx, const char *propq)
{
	(void)propq;
	return sig_newctx(provctx, sizeof(struct sig));
}

static void *eddsa_dupctx(void *vctx)
{
	return sig_dupctx(vctx, sizeof(struct sig));
}

static int init(struct sig *c, const char *digest, void *key, int to_sign)
{
	if (digest != NULL && digest[0] != 0)
		return prov_raise_text(c->prov, PROV_RDIGEST,
		                       "Ed25519 signs whole messages, without a "
		                       "digest such as %.40s", digest);
	return sig_take_key(c, key, to_sign);
}

static int eddsa_sign_init(void *vctx, const char *digest, void *key, const OSSL_PARAM params[])
{
	(void)params;
	return init(vctx, digest, key, 1);
}

static int eddsa_sign(void *vctx, unsigned char *sig, size_t *sig_n, size_t room,
                      const unsigned char *data, size_t n)
{
	struct sig *c = vctx;
	struct opaque_how how = { .message = 1 };

	if (sig == NULL) {
		*sig_n = sig_max(c);
		return 1;
	}
	return sig_by_host(c, &how, data, n, sig, sig_n, room);
}

static int eddsa_verify_init(void *vctx, const char *digest, void *key, const OSSL_PARAM params[])
{
	(void)params;
	return init(vctx, digest, key, 0);
}

static int eddsa_verify(void *vctx, const unsigned char *sig, size_t sig_n,
                        const unsigned char *data, size_t n)
{
	struct sig *c = vctx;
	EVP_MD_CTX *m;
	int good;

	ERR_set_mark();
	m = EVP_MD_CTX_new();
	good = m != NULL && EVP_DigestVerifyInit_ex(m, NULL, NULL, c->prov->inner->libctx, NULL,
	                                            c->key->pub, NULL) > 0 &&
	       EVP_DigestVerify(m, sig, sig_n, data, n) == 1;
	EVP_MD_CTX_free(m);
	ERR_pop_to_mark();
	return good;
}

static int eddsa_sign_message_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return eddsa_sign_init(vctx, NULL, key, params);
}

static int eddsa_verify_message_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return eddsa_verify_init(vctx, NULL, key, params);
}

static int eddsa_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	OSSL_PARAM *q = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);

	(void)vctx;
	return q == NULL || OSSL_PARAM_set_octet_string(q, algorithm, sizeof algorithm);
}

static const OSSL_PARAM *eddsa_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0), OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_SIGNATURE_##id, (void (*)(void))fn }

#define BOTH \
	ENTRY(NEWCTX, eddsa_newctx), \
	ENTRY(DIGEST_SIGN_INIT, eddsa_sign_init), \
	ENTRY(DIGEST_SIGN, eddsa_sign), \
	ENTRY(DIGEST_VERIFY_INIT, eddsa_verify_init), \
	ENTRY(DIGEST_VERIFY, eddsa_verify), \
	ENTRY(FREECTX, sig_freectx), \
	ENTRY(DUPCTX, eddsa_dupctx), \
	ENTRY(GET_CTX_PARAMS, eddsa_get_ctx_params), \
	ENTRY(GETTABLE_CTX_PARAMS, eddsa_gettable_ctx_params)

const OSSL_DISPATCH prov_ed25519_sig[] = { BOTH, { 0, NULL } };

/* OpenSSL 3.0 takes no SIGN without SIGN_INIT. */
const OSSL_DISPATCH prov_ed25519_message_sig[] = {
	BOTH,
	ENTRY(SIGN_MESSAGE_INIT, eddsa_sign_message_init),
	ENTRY(SIGN, eddsa_sign),
	ENTRY(VERIFY_MESSAGE_INIT, eddsa_verify_message_init),
	ENTRY(VERIFY, eddsa_verify),
	{ 0, NULL }
};
