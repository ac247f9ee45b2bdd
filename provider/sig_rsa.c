/* RSA signatures: PKCS#1 v1.5 and PSS. The order of functions follows core_dispatch.h. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include "inner.h"
#include "sig.h"

static OSSL_FUNC_signature_newctx_fn rsa_newctx;
static OSSL_FUNC_signature_sign_init_fn rsa_sign_init;
static OSSL_FUNC_signature_sign_fn rsa_sign;
static OSSL_FUNC_signature_verify_init_fn rsa_verify_init;
static OSSL_FUNC_signature_verify_fn rsa_verify;
static OSSL_FUNC_signature_verify_recover_init_fn rsa_verify_recover_init;
static OSSL_FUNC_signature_verify_recover_fn rsa_verify_recover;
static OSSL_FUNC_signature_digest_sign_init_fn rsa_digest_sign_init;
static OSSL_FUNC_signature_digest_sign_final_fn rsa_digest_sign_final;
static OSSL_FUNC_signature_digest_sign_fn rsa_digest_sign;
static OSSL_FUNC_signature_digest_verify_init_fn rsa_digest_verify_init;
static OSSL_FUNC_signature_digest_verify_final_fn rsa_digest_verify_final;
static OSSL_FUNC_signature_freectx_fn rsa_freectx;
static OSSL_FUNC_signature_dupctx_fn rsa_dupctx;
static OSSL_FUNC_signature_get_ctx_params_fn rsa_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn rsa_gettable_ctx_params;
static OSSL_FUNC_signature_set_ctx_params_fn rsa_set_ctx_params;
static OSSL_FUNC_signature_settable_ctx_params_fn rsa_settable_ctx_params;

struct rsa {
	struct sig base;
	EVP_PKEY_CTX *inner; /* has the parameters, and verifies; NULL: not begun */
};

static void *rsa_newctx(void *provctx, const char *propq)
{
	(void)propq; /* of the application's context; ours is the inner one */
	return sig_newctx(provctx, sizeof(struct rsa));
}

static void rsa_freectx(void *vctx)
{
	struct rsa *c = vctx;

	if (c == NULL)
		return;
	EVP_PKEY_CTX_free(c->inner);
	sig_freectx(c);
}

static void *rsa_dupctx(void *vctx)
{
	struct rsa *from = vctx, *to = sig_dupctx(from, sizeof *to);

	if (to == NULL)
		return NULL;
	to->inner = inner_dup(from->inner);
	if (from->inner == NULL || to->inner != NULL)
		return to;
	rsa_freectx(to);
	return NULL;
}

/* ---- beginning ---- */

enum what { SIGN, VERIFY, RECOVER };

/* A restricted key brings its digest along. */
static int take_digest_of_key(struct rsa *c)
{
	char name[SIG_DIGEST_NAME_MAX] = "";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, name, sizeof name),
		OSSL_PARAM_END
	};

	return !inner_get_params(c->inner, params) || name[0] == 0 ||
	       sig_choose_digest(&c->base, name);
}

static int init(struct rsa *c, void *key, enum what what, const OSSL_PARAM params[])
{
	static int (*const begin[])(EVP_PKEY_CTX *) = {
		[SIGN] = EVP_PKEY_sign_init,
		[VERIFY] = EVP_PKEY_verify_init,
		[RECOVER] = EVP_PKEY_verify_recover_init,
	};

	c->base.begun = 0;
	if (!sig_take_key(&c->base, key, what == SIGN))
		return 0;
	EVP_PKEY_CTX_free(c->inner);
	c->inner = inner_new(c->base.prov, c->base.key->pub, begin[what]);
	return c->inner != NULL && take_digest_of_key(c) && rsa_set_ctx_params(c, params);
}

/* ---- what the host is told ---- */

static int padding_refused(const struct rsa *c)
{
	return prov_raise_text(c->base.prov, PROV_RPADDING, "key %s", c->base.key->name);
}

/* RSA_PSS_SALTLEN_AUTO signs with the longest; the newer _AUTO_DIGEST_MAX with the digest's
 * length, or the longest if that is less. */
static int salt_len(const struct rsa *c, int given)
{
	int most = EVP_PKEY_get_size(c->base.key->pub) - EVP_MD_get_size(c->base.md) - 2;

	if (given == RSA_PSS_SALTLEN_AUTO)
		return RSA_PSS_SALTLEN_MAX;
	if (given < RSA_PSS_SALTLEN_MAX)
		return most < EVP_MD_get_size(c->base.md)
		       ? RSA_PSS_SALTLEN_MAX : RSA_PSS_SALTLEN_DIGEST;
	return given;
}

static int describe(struct rsa *c, struct opaque_how *how, char mgf1[SIG_DIGEST_NAME_MAX])
{
	int padding = 0, salt = 0, good = 1;

	if (c->base.md == NULL || sig_digest_word(c->base.md) == NULL)
		return sig_digest_refused(&c->base);
	inner_get_int(c->inner, OSSL_PKEY_PARAM_PAD_MODE, &padding);
	ERR_set_mark();
	if (padding == RSA_PKCS1_PSS_PADDING) {
		good = inner_get_int(c->inner, OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt);
		mgf1[0] = 0;
		if (EVP_PKEY_CTX_get_rsa_mgf1_md_name(c->inner, mgf1, SIG_DIGEST_NAME_MAX) > 0 &&
		    mgf1[0] != 0)
			how->mgf1 = prov_digest_word(c->base.prov, mgf1);
	}
	ERR_pop_to_mark();
	if (!good || (padding != RSA_PKCS1_PSS_PADDING && padding != RSA_PKCS1_PADDING))
		return padding_refused(c);
	how->digest = sig_digest_word(c->base.md);
	how->padding = padding == RSA_PKCS1_PSS_PADDING ? "pss" : "pkcs1";
	how->salt_len = salt_len(c, salt);
	return 1;
}

static int sign(struct rsa *c, int message, const uint8_t *data, size_t n, uint8_t *sig,
                size_t *sig_n, size_t room)
{
	struct opaque_how how = { .message = message };
	char mgf1[SIG_DIGEST_NAME_MAX];

	return describe(c, &how, mgf1) && sig_by_host(&c->base, &how, data, n, sig, sig_n, room);
}

/* ---- signatures over a digest ---- */

static int rsa_sign_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init(vctx, key, SIGN, params);
}

static int rsa_sign(void *vctx, unsigned char *sig, size_t *sig_n, size_t room,
                    const unsigned char *data, size_t n)
{
	struct rsa *c = vctx;

	if (sig == NULL) {
		*sig_n = sig_max(&c->base);
		return 1;
	}
	if (c->base.md == NULL)
		return sig_digest_refused(&c->base);
	if ((size_t)EVP_MD_get_size(c->base.md) != n)
		return prov_raise_text(c->base.prov, PROV_RDIGEST,
		                       "key %s: %zu bytes are no digest by %s, "
		                       "which has %d", c->base.key->name, n,
		                       EVP_MD_get0_name(c->base.md), EVP_MD_get_size(c->base.md));
	return sign(c, 0, data, n, sig, sig_n, room);
}

static int rsa_verify_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init(vctx, key, VERIFY, params);
}

static int rsa_verify(void *vctx, const unsigned char *sig, size_t sig_n,
                      const unsigned char *data, size_t n)
{
	struct rsa *c = vctx;
	int good;

	ERR_set_mark();
	good = EVP_PKEY_verify(c->inner, sig, sig_n, data, n) == 1;
	ERR_pop_to_mark();
	return good;
}

static int rsa_verify_recover_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init(vctx, key, RECOVER, params);
}

static int rsa_verify_recover(void *vctx, unsigned char *out, size_t *out_n, size_t room,
                              const unsigned char *sig, size_t sig_n)
{
	struct rsa *c = vctx;
	int good;

	ERR_set_mark();
	*out_n = room;
	good = EVP_PKEY_verify_recover(c->inner, out, out_n, sig, sig_n) > 0;
	ERR_pop_to_mark();
	return good;
}

/* ---- signatures over a message ---- */

static int tell_digest(struct rsa *c)
{
	int good;

	ERR_set_mark();
	good = EVP_PKEY_CTX_set_signature_md(c->inner, c->base.md) > 0;
	ERR_pop_to_mark();
	return good ? 1 : sig_digest_refused(&c->base); /* a restricted key wants another */
}

static int init_digest(struct rsa *c, const char *name, void *key, enum what what,
                       const OSSL_PARAM params[])
{
	if (!init(c, key, what, NULL))
		return 0;
	if (name != NULL && name[0] != 0 && !sig_choose_digest(&c->base, name))
		return 0;
	if (c->base.md == NULL && !sig_choose_digest(&c->base, "SHA256"))
		return 0;
	if (what == SIGN && sig_digest_word(c->base.md) == NULL)
		return sig_digest_refused(&c->base);
	return tell_digest(c) && rsa_set_ctx_params(c, params) && sig_hash_begin(&c->base);
}

static int rsa_digest_sign_init(void *vctx, const char *name, void *key, const OSSL_PARAM params[])
{
	return init_digest(vctx, name, key, SIGN, params);
}

static int rsa_digest_verify_init(void *vctx, const char *name, void *key,
                                  const OSSL_PARAM params[])
{
	return init_digest(vctx, name, key, VERIFY, params);
}

static int rsa_digest_sign_final(void *vctx, unsigned char *sig, size_t *sig_n, size_t room)
{
	struct rsa *c = vctx;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (c->base.hash == NULL)
		return 0;
	if (sig == NULL) {
		*sig_n = sig_max(&c->base);
		return 1;
	}
	return EVP_DigestFinal_ex(c->base.hash, digest, &n) &&
	       sign(c, 0, digest, n, sig, sig_n, room);
}

static int rsa_digest_sign(void *vctx, unsigned char *sig, size_t *sig_n, size_t room,
                           const unsigned char *data, size_t n)
{
	struct rsa *c = vctx;

	if (sig != NULL && c->base.hash != NULL && n <= SIG_MESSAGE_MAX)
		return sign(c, 1, data, n, sig, sig_n, room);
	if (sig != NULL && !sig_update_fn(vctx, data, n))
		return 0;
	return rsa_digest_sign_final(vctx, sig, sig_n, room);
}

static int rsa_digest_verify_final(void *vctx, const unsigned char *sig, size_t sig_n)
{
	struct rsa *c = vctx;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	return c->base.hash != NULL && EVP_DigestFinal_ex(c->base.hash, digest, &n) &&
	       rsa_verify(vctx, sig, sig_n, digest, n);
}

/* ---- parameters ---- */

static int rsa_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	return inner_get_params(((struct rsa *)vctx)->inner, params);
}

static const OSSL_PARAM *rsa_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

static int rsa_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	struct rsa *c = vctx;
	const OSSL_PARAM *q;
	char name[SIG_DIGEST_NAME_MAX], *at = name;

	if (params == NULL || params[0].key == NULL)
		return 1;
	if (c->inner == NULL || !prov_params_whole(c->base.prov, params))
		return 0;
	q = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST);
	if (q != NULL && (!OSSL_PARAM_get_utf8_string(q, &at, sizeof name) ||
	                  !sig_choose_digest(&c->base, name)))
		return 0;
	return inner_set_params(c->inner, params) || padding_refused(c);
}

static const OSSL_PARAM *rsa_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_PROPERTIES, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_END
	};
	struct rsa *c = vctx;

	(void)provctx;
	return c != NULL && c->base.begun ? table + 2 : table;
}

#define ENTRY(id, fn) { OSSL_FUNC_SIGNATURE_##id, (void (*)(void))rsa_##fn }
#define SHARED(id, fn) { OSSL_FUNC_SIGNATURE_##id, (void (*)(void))sig_##fn }

const OSSL_DISPATCH prov_rsa_sig[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(SIGN_INIT, sign_init),
	ENTRY(SIGN, sign),
	ENTRY(VERIFY_INIT, verify_init),
	ENTRY(VERIFY, verify),
	ENTRY(VERIFY_RECOVER_INIT, verify_recover_init),
	ENTRY(VERIFY_RECOVER, verify_recover),
	ENTRY(DIGEST_SIGN_INIT, digest_sign_init),
	SHARED(DIGEST_SIGN_UPDATE, update_fn),
	ENTRY(DIGEST_SIGN_FINAL, digest_sign_final),
	ENTRY(DIGEST_SIGN, digest_sign),
	ENTRY(DIGEST_VERIFY_INIT, digest_verify_init),
	SHARED(DIGEST_VERIFY_UPDATE, update_fn),
	ENTRY(DIGEST_VERIFY_FINAL, digest_verify_final),
	ENTRY(FREECTX, freectx),
	ENTRY(DUPCTX, dupctx),
	ENTRY(GET_CTX_PARAMS, get_ctx_params),
	ENTRY(GETTABLE_CTX_PARAMS, gettable_ctx_params),
	ENTRY(SET_CTX_PARAMS, set_ctx_params),
	ENTRY(SETTABLE_CTX_PARAMS, settable_ctx_params),
	SHARED(GET_CTX_MD_PARAMS, get_ctx_md_params_fn),
	SHARED(GETTABLE_CTX_MD_PARAMS, gettable_ctx_md_params_fn),
	SHARED(SET_CTX_MD_PARAMS, set_ctx_md_params_fn),
	SHARED(SETTABLE_CTX_MD_PARAMS, settable_ctx_md_params_fn),
	{ 0, NULL }
};
