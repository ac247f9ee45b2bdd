/* The order of functions follows core_dispatch.h. */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include "sig.h"

static OSSL_FUNC_signature_newctx_fn ecdsa_newctx;
static OSSL_FUNC_signature_sign_init_fn ecdsa_sign_init;
static OSSL_FUNC_signature_sign_fn ecdsa_sign;
static OSSL_FUNC_signature_verify_init_fn ecdsa_verify_init;
static OSSL_FUNC_signature_verify_fn ecdsa_verify;
static OSSL_FUNC_signature_digest_sign_init_fn ecdsa_digest_sign_init;
static OSSL_FUNC_signature_digest_sign_final_fn ecdsa_digest_sign_final;
static OSSL_FUNC_signature_digest_sign_fn ecdsa_digest_sign;
static OSSL_FUNC_signature_digest_verify_init_fn ecdsa_digest_verify_init;
static OSSL_FUNC_signature_digest_verify_final_fn ecdsa_digest_verify_final;
static OSSL_FUNC_signature_dupctx_fn ecdsa_dupctx;
static OSSL_FUNC_signature_get_ctx_params_fn ecdsa_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn ecdsa_gettable_ctx_params;
static OSSL_FUNC_signature_set_ctx_params_fn ecdsa_set_ctx_params;
static OSSL_FUNC_signature_settable_ctx_params_fn ecdsa_settable_ctx_params;

/* What the host signs. algorithm: DER of AlgorithmIdentifier { OID, absent },
 * ecdsa-with-SHA2 of RFC 5758. */
static const struct digest {
	const char *name;
	size_t size;
	uint8_t algorithm[12];
} digests[] = {
	{ "SHA256", 32, { 0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2 } },
	{ "SHA384", 48, { 0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3 } },
	{ "SHA512", 64, { 0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4 } },
};

static void *ecdsa_newctx(void *provctx, const char *propq)
{
	(void)propq; /* of the application's context; ours is the inner one */
	return sig_newctx(provctx, sizeof(struct sig));
}

static void *ecdsa_dupctx(void *vctx)
{
	return sig_dupctx(vctx, sizeof(struct sig));
}

/* ---- digests ---- */

static const struct digest *digest_of(const EVP_MD *md)
{
	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++) {
		if (EVP_MD_is_a(md, digests[i].name))
			return &digests[i];
	}
	return NULL;
}

static const struct digest *digest_by_size(size_t n)
{
	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++) {
		if (digests[i].size == n)
			return &digests[i];
	}
	return NULL;
}

/* ---- signatures over a digest ---- */

static int sign_digest(struct sig *c, const char *digest, const uint8_t *data, size_t n,
                       uint8_t *sig, size_t *sig_n, size_t room)
{
	struct opaque_how how = { .digest = digest };

	return sig_by_host(c, &how, data, n, sig, sig_n, room);
}

static int verify_digest(struct sig *c, const uint8_t *sig, size_t sig_n, const uint8_t *data,
                         size_t n)
{
	EVP_PKEY_CTX *ctx;
	int good;

	ERR_set_mark();
	ctx = EVP_PKEY_CTX_new_from_pkey(c->prov->inner->libctx, c->key->pub, NULL);
	good = ctx != NULL && EVP_PKEY_verify_init(ctx) > 0 &&
	       EVP_PKEY_verify(ctx, sig, sig_n, data, n) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_pop_to_mark();
	return good;
}

static int init_raw(struct sig *c, void *key, int to_sign, const OSSL_PARAM params[])
{
	c->begun = 0;
	return sig_take_key(c, key, to_sign) && ecdsa_set_ctx_params(c, params);
}

static int ecdsa_sign_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init_raw(vctx, key, 1, params);
}

/* The host wants to know which digest made the bytes. */
static int ecdsa_sign(void *vctx, unsigned char *sig, size_t *sig_n, size_t room,
                      const unsigned char *data, size_t n)
{
	struct sig *c = vctx;
	const struct digest *d = c->md != NULL ? digest_of(c->md) : digest_by_size(n);

	if (sig == NULL) {
		*sig_n = sig_max(c);
		return 1;
	}
	if (c->md != NULL && d == NULL)
		return sig_digest_refused(c);
	if (d == NULL || d->size != n)
		return prov_raise_text(c->prov, PROV_RDIGEST, "key %s, %zu bytes to be signed",
		                       c->key->name, n);
	return sign_digest(c, d->name, data, n, sig, sig_n, room);
}

static int ecdsa_verify_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init_raw(vctx, key, 0, params);
}

static int ecdsa_verify(void *vctx, const unsigned char *sig, size_t sig_n,
                        const unsigned char *data, size_t n)
{
	struct sig *c = vctx;

	if (c->md != NULL && (size_t)EVP_MD_get_size(c->md) != n)
		return 0;
	return verify_digest(c, sig, sig_n, data, n);
}

/* ---- signatures over a message ---- */

static int init_digest(struct sig *c, const char *name, void *key, int to_sign,
                       const OSSL_PARAM params[])
{
	c->begun = 0;
	if (!sig_take_key(c, key, to_sign))
		return 0;
	if (name != NULL && name[0] != 0 && !sig_choose_digest(c, name))
		return 0;
	if (!ecdsa_set_ctx_params(c, params))
		return 0;
	if (c->md == NULL && !sig_choose_digest(c, digests[0].name))
		return 0;
	if (to_sign && digest_of(c->md) == NULL)
		return sig_digest_refused(c);
	return sig_hash_begin(c);
}

static int ecdsa_digest_sign_init(void *vctx, const char *name, void *key,
                                  const OSSL_PARAM params[])
{
	return init_digest(vctx, name, key, 1, params);
}

static int ecdsa_digest_verify_init(void *vctx, const char *name, void *key,
                                    const OSSL_PARAM params[])
{
	return init_digest(vctx, name, key, 0, params);
}

static int ecdsa_digest_sign_final(void *vctx, unsigned char *sig, size_t *sig_n, size_t room)
{
	struct sig *c = vctx;
	const struct digest *d;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (c->hash == NULL)
		return 0;
	if (sig == NULL) {
		*sig_n = sig_max(c);
		return 1;
	}
	d = digest_of(c->md); /* which needs memory */
	if (d == NULL)
		return sig_digest_refused(c);
	return EVP_DigestFinal_ex(c->hash, digest, &n) &&
	       sign_digest(c, d->name, digest, n, sig, sig_n, room);
}

/* In one step: OpenSSL then copies no context, which costs more than hashing. */
static int ecdsa_digest_sign(void *vctx, unsigned char *sig, size_t *sig_n, size_t room,
                             const unsigned char *data, size_t n)
{
	struct sig *c = vctx;

	if (sig != NULL && c->hash != NULL && n <= SIG_MESSAGE_MAX) {
		const struct digest *d = digest_of(c->md);
		struct opaque_how how = { .digest = d != NULL ? d->name : NULL, .message = 1 };

		return d != NULL
		       ? sig_by_host(c, &how, data, n, sig, sig_n, room) : sig_digest_refused(c);
	}
	if (sig != NULL && !sig_update_fn(vctx, data, n))
		return 0;
	return ecdsa_digest_sign_final(vctx, sig, sig_n, room);
}

static int ecdsa_digest_verify_final(void *vctx, const unsigned char *sig, size_t sig_n)
{
	struct sig *c = vctx;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	return c->hash != NULL && EVP_DigestFinal_ex(c->hash, digest, &n) &&
	       verify_digest(c, sig, sig_n, digest, n);
}

/* ---- parameters ---- */

static int ecdsa_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	struct sig *c = vctx;
	const struct digest *d = c->md != NULL ? digest_of(c->md) : NULL;
	OSSL_PARAM *q;

	q = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);
	if (q != NULL && (d == NULL || !OSSL_PARAM_set_octet_string(q, d->algorithm,
	                                                            sizeof d->algorithm)))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST_SIZE);
	if (q != NULL && !OSSL_PARAM_set_size_t(q, c->md != NULL ? (size_t)EVP_MD_get_size(c->md)
	                                                         : 0))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST);
	return q == NULL || OSSL_PARAM_set_utf8_string(q, c->md != NULL ? EVP_MD_get0_name(c->md)
	                                                                : "");
}

static const OSSL_PARAM *ecdsa_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
		OSSL_PARAM_size_t(OSSL_SIGNATURE_PARAM_DIGEST_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

static int ecdsa_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	const OSSL_PARAM *q;
	char name[SIG_DIGEST_NAME_MAX], *at = name;

	if (params == NULL)
		return 1;
	q = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST);
	if (q == NULL)
		return 1;
	return OSSL_PARAM_get_utf8_string(q, &at, sizeof name) && sig_choose_digest(vctx, name);
}

static const OSSL_PARAM *ecdsa_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, NULL, 0),
		OSSL_PARAM_END
	};
	struct sig *c = vctx;

	(void)provctx;
	return c != NULL && c->begun ? table + 2 : table;
}

#define ENTRY(id, fn) { OSSL_FUNC_SIGNATURE_##id, (void (*)(void))ecdsa_##fn }
#define SHARED(id, fn) { OSSL_FUNC_SIGNATURE_##id, (void (*)(void))sig_##fn }

const OSSL_DISPATCH prov_ecdsa[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(SIGN_INIT, sign_init),
	ENTRY(SIGN, sign),
	ENTRY(VERIFY_INIT, verify_init),
	ENTRY(VERIFY, verify),
	ENTRY(DIGEST_SIGN_INIT, digest_sign_init),
	SHARED(DIGEST_SIGN_UPDATE, update_fn),
	ENTRY(DIGEST_SIGN_FINAL, digest_sign_final),
	ENTRY(DIGEST_SIGN, digest_sign),
	ENTRY(DIGEST_VERIFY_INIT, digest_verify_init),
	SHARED(DIGEST_VERIFY_UPDATE, update_fn),
	ENTRY(DIGEST_VERIFY_FINAL, digest_verify_final),
	SHARED(FREECTX, freectx),
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
