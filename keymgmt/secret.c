#include "secret.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include "provider/byname.h"
#include "provider/newer.h"
#include "tao/tao.h"

#define LABEL_PARAM "label"
#define POLICY_PARAM "policy"
#define POLICY_MAX 16 /* bytes of a policy's word, with its NUL */

static OSSL_FUNC_skeymgmt_free_fn secret_free;
static OSSL_FUNC_skeymgmt_import_fn secret_import;
static OSSL_FUNC_skeymgmt_export_fn secret_export;
static OSSL_FUNC_skeymgmt_get_key_id_fn secret_get_key_id;
static OSSL_FUNC_skeymgmt_imp_settable_params_fn secret_imp_settable_params;

struct secret {
	struct prov *prov;
	uint8_t *key; /* SECRET_LEN bytes */
	char label[TAO_PARENT_LABEL_MAX + 1];
	char policy[POLICY_MAX]; /* "": the host's default */
};

const uint8_t *secret_bytes(const struct secret *s)
{
	return s->key;
}

static void secret_free(void *keydata)
{
	struct secret *s = keydata;

	if (s == NULL)
		return;
	OPENSSL_secure_clear_free(s->key, SECRET_LEN);
	free(s);
}

static int take_text(const OSSL_PARAM params[], const char *name, char *to, size_t room)
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, name);

	return q == NULL || OSSL_PARAM_get_utf8_string(q, &to, room);
}

static int take_params(struct secret *s, const OSSL_PARAM params[])
{
	if (!prov_params_whole(s->prov, params))
		return 0;
	if (OSSL_PARAM_locate_const(params, OSSL_SKEY_PARAM_RAW_BYTES) != NULL)
		return prov_raise_text(s->prov, PROV_RSECRET, "the bytes of a key were given");
	if (!take_text(params, LABEL_PARAM, s->label, sizeof s->label - strlen(SECRET_LABEL)) ||
	    !take_text(params, POLICY_PARAM, s->policy, sizeof s->policy))
		return prov_raise_text(s->prov, TAO_EINVAL,
		                       "label or policy of a TAO-SECRET is too long or "
		                       "no text");
	if (s->label[0] == 0)
		return prov_raise_text(s->prov, TAO_EINVAL,
		                       "TAO-SECRET needs the parameter label, which "
		                       "tells one key of the program from another");
	return 1;
}

static enum tao_err ask_host(struct secret *s)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	char label[TAO_PARENT_LABEL_MAX + 1] = SECRET_LABEL;

	strcat(label, s->label);
	rq.label = label;
	rq.policy = s->policy[0] != 0 ? s->policy : NULL;
	s->key = OPENSSL_secure_zalloc(SECRET_LEN);
	if (s->key == NULL)
		return tao_fail_nomem();
	return byname_ask(s->prov, "Tao.GetSharedSecret", &rq, s->key, SECRET_LEN);
}

static void *secret_import(void *provctx, int selection, const OSSL_PARAM params[])
{
	struct secret *s = calloc(1, sizeof *s);
	enum tao_err e;

	(void)selection;
	if (s == NULL)
		return NULL;
	s->prov = provctx;
	if (!take_params(s, params))
		goto out;
	e = ask_host(s);
	if (e == TAO_OK)
		return s;
	prov_raise(s->prov, e);
out:
	secret_free(s);
	return NULL;
}

static int secret_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *cbarg)
{
	const struct secret *s = keydata;

	(void)selection;
	(void)cb;
	(void)cbarg;
	return prov_raise_text(s->prov, PROV_RSECRET, "label %s", s->label);
}

static const char *secret_get_key_id(void *keydata)
{
	return ((struct secret *)keydata)->label;
}

static const OSSL_PARAM *secret_imp_settable_params(void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(LABEL_PARAM, NULL, 0),
		OSSL_PARAM_utf8_string(POLICY_PARAM, NULL, 0),
		OSSL_PARAM_END
	};

	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_SKEYMGMT_##id, (void (*)(void))secret_##fn }

const OSSL_DISPATCH prov_secret_skeymgmt[] = {
	ENTRY(FREE, free),
	ENTRY(IMPORT, import),
	ENTRY(EXPORT, export),
	ENTRY(GET_KEY_ID, get_key_id),
	ENTRY(IMP_SETTABLE_PARAMS, imp_settable_params),
	{ 0, NULL }
};
