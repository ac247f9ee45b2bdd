/*
 * Signature and digest under one name, as OpenSSL 3.4 and later have it:
 * "ECDSA-SHA256", "RSA-SHA256" (PKCS#1 v1.5) and so on. Around the algorithm
 * that ECDSA or RSA is, with the digest fixed.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/params.h>

#include "newer.h"
#include "sig.h"

static OSSL_FUNC_signature_sign_init_fn message_raw_sign_init;
static OSSL_FUNC_signature_sign_fn message_sign;
static OSSL_FUNC_signature_verify_init_fn message_raw_verify_init;
static OSSL_FUNC_signature_verify_fn message_verify;
static OSSL_FUNC_signature_sign_message_init_fn message_sign_init;
static OSSL_FUNC_signature_sign_message_update_fn message_sign_update;
static OSSL_FUNC_signature_sign_message_final_fn message_sign_final;
static OSSL_FUNC_signature_verify_message_init_fn message_verify_init;
static OSSL_FUNC_signature_verify_message_update_fn message_verify_update;
static OSSL_FUNC_signature_verify_message_final_fn message_verify_final;
static OSSL_FUNC_signature_freectx_fn message_freectx;
static OSSL_FUNC_signature_dupctx_fn message_dupctx;
static OSSL_FUNC_signature_get_ctx_params_fn message_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn message_gettable_ctx_params;
static OSSL_FUNC_signature_set_ctx_params_fn message_set_ctx_params;
static OSSL_FUNC_signature_settable_ctx_params_fn message_settable_ctx_params;

/* ---- the signature to be verified ---- */

int sig_given_take(struct sig_given *g, const OSSL_PARAM params[])
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_SIGNATURE);

	if (q == NULL)
		return 1;
	sig_given_free(g);
	return OSSL_PARAM_get_octet_string(q, (void **)&g->p, 0, &g->n);
}

int sig_given_dup(struct sig_given *to, const struct sig_given *from)
{
	*to = (struct sig_given){ NULL, 0 };
	if (from->p == NULL)
		return 1;
	to->p = OPENSSL_memdup(from->p, from->n);
	to->n = to->p != NULL ? from->n : 0;
	return to->p != NULL;
}

void sig_given_free(struct sig_given *g)
{
	OPENSSL_free(g->p);
	*g = (struct sig_given){ NULL, 0 };
}

/* ---- the context ---- */

struct composite {
	const OSSL_DISPATCH *base;
	const char *digest;
};

struct message {
	struct prov *prov;
	const struct composite *alg;
	void *inner; /* the base's context */
	int whole;   /* what comes is the message, not its digest */
	struct sig_given given;
};

/* A function of the base, which has all that are asked for here. */
static void (*base_fn(const struct message *c, int id))(void)
{
	const OSSL_DISPATCH *d = c->alg->base;

	while (d->function_id != 0 && d->function_id != id)
		d++;
	return d->function;
}

#define BASE(c, id, type) ((OSSL_FUNC_signature_##type##_fn *)base_fn(c, OSSL_FUNC_SIGNATURE_##id))

static void *newctx(void *provctx, const struct composite *alg)
{
	struct message *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->prov = provctx;
	c->alg = alg;
	c->inner = BASE(c, NEWCTX, newctx)(provctx, NULL);
	if (c->inner != NULL)
		return c;
	free(c);
	return NULL;
}

static void message_freectx(void *vctx)
{
	struct message *c = vctx;

	if (c == NULL)
		return;
	BASE(c, FREECTX, freectx)(c->inner);
	sig_given_free(&c->given);
	free(c);
}

static void *message_dupctx(void *vctx)
{
	struct message *from = vctx, *to = calloc(1, sizeof *to);

	if (to == NULL)
		return NULL;
	to->prov = from->prov;
	to->alg = from->alg;
	to->whole = from->whole;
	to->inner = BASE(from, DUPCTX, dupctx)(from->inner);
	if (to->inner != NULL && sig_given_dup(&to->given, &from->given))
		return to;
	message_freectx(to);
	return NULL;
}

/* ---- a digest ---- */

static int raw_init(struct message *c, int id, void *key, const OSSL_PARAM params[])
{
	OSSL_PARAM digest[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST,
		                                 (char *)c->alg->digest, 0),
		OSSL_PARAM_construct_end()
	};
	OSSL_FUNC_signature_sign_init_fn *begin = (OSSL_FUNC_signature_sign_init_fn *)base_fn(c,
	                                                                                      id);

	c->whole = 0;
	return begin(c->inner, key, digest) && message_set_ctx_params(c, params);
}

static int message_raw_sign_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return raw_init(vctx, OSSL_FUNC_SIGNATURE_SIGN_INIT, key, params);
}

static int message_raw_verify_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return raw_init(vctx, OSSL_FUNC_SIGNATURE_VERIFY_INIT, key, params);
}

/* ---- a message ---- */

static int message_init(struct message *c, int id, void *key, const OSSL_PARAM params[])
{
	OSSL_FUNC_signature_digest_sign_init_fn *begin =
	        (OSSL_FUNC_signature_digest_sign_init_fn *)base_fn(c, id);

	c->whole = 1;
	return begin(c->inner, c->alg->digest, key, NULL) && message_set_ctx_params(c, params);
}

static int message_sign_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return message_init(vctx, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, key, params);
}

static int message_verify_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return message_init(vctx, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, key, params);
}

static int message_sign_update(void *vctx, const unsigned char *data, size_t n)
{
	struct message *c = vctx;

	return BASE(c, DIGEST_SIGN_UPDATE, digest_sign_update)(c->inner, data, n);
}

static int message_verify_update(void *vctx, const unsigned char *data, size_t n)
{
	struct message *c = vctx;

	return BASE(c, DIGEST_VERIFY_UPDATE, digest_verify_update)(c->inner, data, n);
}

static int message_sign_final(void *vctx, unsigned char *sig, size_t *sig_n, size_t room)
{
	struct message *c = vctx;

	return BASE(c, DIGEST_SIGN_FINAL, digest_sign_final)(c->inner, sig, sig_n, room);
}

static int message_verify_final(void *vctx)
{
	struct message *c = vctx;

	return BASE(c, DIGEST_VERIFY_FINAL, digest_verify_final)(c->inner, c->given.p, c->given.n);
}

/* ---- in one step ---- */

static int message_sign(void *vctx, unsigned char *sig, size_t *sig_n, size_t room,
                        const unsigned char *data, size_t n)
{
	struct message *c = vctx;

	if (c->whole)
		return BASE(c, DIGEST_SIGN, digest_sign)(c->inner, sig, sig_n, room, data, n);
	return BASE(c, SIGN, sign)(c->inner, sig, sig_n, room, data, n);
}

static int message_verify(void *vctx, const unsigned char *sig, size_t sig_n,
                          const unsigned char *data, size_t n)
{
	struct message *c = vctx;

	if (c->whole)
		return message_verify_update(c, data, n) &&
		       BASE(c, DIGEST_VERIFY_FINAL, digest_verify_final)(c->inner, sig, sig_n);
	return BASE(c, VERIFY, verify)(c->inner, sig, sig_n, data, n);
}

/* ---- parameters ---- */

static int message_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	struct message *c = vctx;

	return BASE(c, GET_CTX_PARAMS, get_ctx_params)(c->inner, params);
}

static const OSSL_PARAM *message_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0), OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

/* The digest is in the name, and so is RSA's padding. */
static int message_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	struct message *c = vctx;

	return params == NULL ||
	       (prov_params_whole(c->prov, params) && sig_given_take(&c->given, params));
}

static const OSSL_PARAM *message_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_SIGNATURE, NULL, 0), OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_SIGNATURE_##id, (void (*)(void))fn }

#define KEYS(name, type) \
	static OSSL_FUNC_signature_query_key_types_fn name##_keys; \
	static const char **name##_keys(void) \
	{ \
		static const char *types[] = { type, NULL }; \
\
		return types; \
	}

KEYS(ecdsa, "EC")
KEYS(rsa, "RSA")

#define COMPOSITE(alg, table, bits) \
	static const struct composite alg##_sha##bits = { table, "SHA" #bits }; \
	static OSSL_FUNC_signature_newctx_fn alg##_sha##bits##_newctx; \
	static void *alg##_sha##bits##_newctx(void *provctx, const char *propq) \
	{ \
		(void)propq; /* of the application's context; ours is the inner one */ \
		return newctx(provctx, &alg##_sha##bits); \
	} \
	const OSSL_DISPATCH prov_##alg##_sha##bits##_sig[] = { \
		ENTRY(NEWCTX, alg##_sha##bits##_newctx), \
		ENTRY(SIGN_INIT, message_raw_sign_init), \
		ENTRY(SIGN, message_sign), \
		ENTRY(VERIFY_INIT, message_raw_verify_init), \
		ENTRY(VERIFY, message_verify), \
		ENTRY(FREECTX, message_freectx), \
		ENTRY(DUPCTX, message_dupctx), \
		ENTRY(GET_CTX_PARAMS, message_get_ctx_params), \
		ENTRY(GETTABLE_CTX_PARAMS, message_gettable_ctx_params), \
		ENTRY(SET_CTX_PARAMS, message_set_ctx_params), \
		ENTRY(SETTABLE_CTX_PARAMS, message_settable_ctx_params), \
		ENTRY(QUERY_KEY_TYPES, alg##_keys), \
		ENTRY(SIGN_MESSAGE_INIT, message_sign_init), \
		ENTRY(SIGN_MESSAGE_UPDATE, message_sign_update), \
		ENTRY(SIGN_MESSAGE_FINAL, message_sign_final), \
		ENTRY(VERIFY_MESSAGE_INIT, message_verify_init), \
		ENTRY(VERIFY_MESSAGE_UPDATE, message_verify_update), \
		ENTRY(VERIFY_MESSAGE_FINAL, message_verify_final), \
		{ 0, NULL } \
	};

COMPOSITE(ecdsa, prov_ecdsa, 256)
COMPOSITE(ecdsa, prov_ecdsa, 384)
COMPOSITE(ecdsa, prov_ecdsa, 512)
COMPOSITE(rsa, prov_rsa_sig, 256)
COMPOSITE(rsa, prov_rsa_sig, 384)
COMPOSITE(rsa, prov_rsa_sig, 512)
