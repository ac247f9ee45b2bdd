#include "byname.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>

#include "tao/tao.h"

#define POLICY_PARAM "policy"
#define POLICY_MAX 16 /* bytes of a policy's word, with its NUL */

static OSSL_FUNC_kdf_newctx_fn kdf_newctx;
static OSSL_FUNC_kdf_dupctx_fn kdf_dupctx;
static OSSL_FUNC_kdf_freectx_fn kdf_freectx;
static OSSL_FUNC_kdf_reset_fn kdf_reset;
static OSSL_FUNC_kdf_derive_fn kdf_derive;
static OSSL_FUNC_kdf_gettable_ctx_params_fn kdf_gettable_ctx_params;
static OSSL_FUNC_kdf_get_ctx_params_fn kdf_get_ctx_params;
static OSSL_FUNC_kdf_settable_ctx_params_fn kdf_settable_ctx_params;
static OSSL_FUNC_kdf_set_ctx_params_fn kdf_set_ctx_params;

struct kdf {
	struct prov *prov;
	char label[TAO_PARENT_LABEL_MAX + 1]; /* "": not given */
	char policy[POLICY_MAX];          /* "": the host's default */
};

static void *kdf_newctx(void *provctx)
{
	struct kdf *c = calloc(1, sizeof *c);

	if (c != NULL)
		c->prov = provctx;
	return c;
}

static void *kdf_dupctx(void *vctx)
{
	const struct kdf *from = vctx;
	struct kdf *to = kdf_newctx(from->prov);

	if (to != NULL)
		*to = *from;
	return to;
}

static void kdf_freectx(void *vctx)
{
	free(vctx);
}

static void kdf_reset(void *vctx)
{
	struct kdf *c = vctx;

	c->label[0] = c->policy[0] = 0;
}

static int kdf_derive(void *vctx, unsigned char *out, size_t n, const OSSL_PARAM params[])
{
	struct kdf *c = vctx;
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	enum tao_err e;

	if (!kdf_set_ctx_params(c, params))
		return 0;
	if (c->label[0] == 0)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "TAO-SECRET needs the parameter label, which "
		                       "tells one secret of the program from another");
	if (n == 0 || n > TAO_PARENT_SECRET_MAX)
		return prov_raise_text(c->prov, TAO_ELIMIT,
		                       "TAO-SECRET derives 1 to %d bytes, not %zu",
		                       TAO_PARENT_SECRET_MAX, n);
	rq.label = c->label;
	rq.policy = c->policy[0] != 0 ? c->policy : NULL;
	e = byname_ask(c->prov, "Tao.GetSharedSecret", &rq, out, n);
	return e == TAO_OK || prov_raise(c->prov, e);
}

/* ---- parameters ---- */

/* Text, or octets that could be text, with at most room - 1 bytes. */
static int take_text(struct kdf *c, const OSSL_PARAM *q, char *to, size_t room)
{
	size_t n = q->data_size;

	if (q->data_type != OSSL_PARAM_OCTET_STRING && q->data_type != OSSL_PARAM_UTF8_STRING)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "TAO-SECRET's %s is neither text nor octets", q->key);
	if (q->data == NULL || n == 0 || n >= room)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "TAO-SECRET's %s has 1 to %zu bytes, not %zu",
		                       q->key, room - 1, q->data == NULL ? 0 : n);
	if (memchr(q->data, 0, n) != NULL)
		return prov_raise_text(c->prov, TAO_EINVAL, "TAO-SECRET's %s has a NUL in it",
		                       q->key);
	memcpy(to, q->data, n);
	to[n] = 0;
	return 1;
}

static int kdf_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	struct kdf *c = vctx;
	const OSSL_PARAM *label, *info, *policy;

	if (params == NULL)
		return 1;
	label = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_LABEL);
	info = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_INFO);
	policy = OSSL_PARAM_locate_const(params, POLICY_PARAM);
	if (label != NULL && info != NULL)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "TAO-SECRET's label and info are the same: "
		                       "give one of them");
	if (label == NULL)
		label = info;
	return (label == NULL || take_text(c, label, c->label, sizeof c->label)) &&
	       (policy == NULL || take_text(c, policy, c->policy, sizeof c->policy));
}

static const OSSL_PARAM *kdf_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_LABEL, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_INFO, NULL, 0),
		OSSL_PARAM_utf8_string(POLICY_PARAM, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

/* Not the host's limit: a size here would be the only one that can be had. */
static int kdf_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	OSSL_PARAM *q = OSSL_PARAM_locate(params, OSSL_KDF_PARAM_SIZE);

	(void)vctx;
	return q == NULL || OSSL_PARAM_set_size_t(q, SIZE_MAX);
}

static const OSSL_PARAM *kdf_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_size_t(OSSL_KDF_PARAM_SIZE, NULL),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_KDF_##id, (void (*)(void))kdf_##fn }

const OSSL_DISPATCH prov_kdf[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(DUPCTX, dupctx),
	ENTRY(FREECTX, freectx),
	ENTRY(RESET, reset),
	ENTRY(DERIVE, derive),
	ENTRY(GETTABLE_CTX_PARAMS, gettable_ctx_params),
	ENTRY(GET_CTX_PARAMS, get_ctx_params),
	ENTRY(SETTABLE_CTX_PARAMS, settable_ctx_params),
	ENTRY(SET_CTX_PARAMS, set_ctx_params),
	{ 0, NULL }
};
