/* Ed25519 and X25519. */
#include "key.h"

#include <openssl/core_names.h>

static OSSL_FUNC_keymgmt_new_fn ed25519_new;
static OSSL_FUNC_keymgmt_new_fn x25519_new;
static OSSL_FUNC_keymgmt_gettable_params_fn ecx_gettable;
static OSSL_FUNC_keymgmt_import_types_fn ecx_types;
static OSSL_FUNC_keymgmt_query_operation_name_fn ed25519_operation;
static OSSL_FUNC_keymgmt_query_operation_name_fn x25519_operation;
static OSSL_FUNC_keymgmt_settable_params_fn x25519_settable;
static OSSL_FUNC_keymgmt_gen_init_fn ed25519_gen_init;
static OSSL_FUNC_keymgmt_gen_init_fn x25519_gen_init;

/* Everything here is public. OSSL_PKEY_PARAM_PRIV_KEY must never be added. */
static const OSSL_PARAM gettable[] = {
	OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
	OSSL_PARAM_utf8_string(OPAQUE_PARAM_NAME, NULL, 0),
	OSSL_PARAM_END
};

static const OSSL_PARAM transferable[] = {
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	OSSL_PARAM_END
};

const struct keytype keytype_ed25519 = {
	"ED25519", NULL, gettable, OSSL_PKEY_PARAM_PUB_KEY, OSSL_PKEY_PARAM_PRIV_KEY, REPLY_WHOLE,
};
const struct keytype keytype_x25519 = {
	"X25519", NULL, gettable, OSSL_PKEY_PARAM_PUB_KEY, OSSL_PKEY_PARAM_PRIV_KEY, REPLY_NONE,
};

static void *ed25519_new(void *provctx)
{
	return opaque_new(provctx, &keytype_ed25519);
}

static void *x25519_new(void *provctx)
{
	return opaque_new(provctx, &keytype_x25519);
}

static const OSSL_PARAM *ecx_gettable(void *provctx)
{
	(void)provctx;
	return gettable;
}

static const OSSL_PARAM *ecx_types(int selection)
{
	return selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY ? transferable : NULL;
}

static const char *ed25519_operation(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "ED25519" : NULL;
}

static const char *x25519_operation(int operation)
{
	return operation == OSSL_OP_KEYEXCH ? "X25519" : NULL;
}

static const OSSL_PARAM *x25519_settable(void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0), OSSL_PARAM_END
	};

	(void)provctx;
	return table;
}

static void *ed25519_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
	return opaque_gen_init(provctx, &keytype_ed25519, selection, params);
}

static void *x25519_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
	return opaque_gen_init(provctx, &keytype_x25519, selection, params);
}

const OSSL_DISPATCH prov_ed25519_keymgmt[] = {
	OPAQUE_DISPATCH,
	{ OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))ed25519_new },
	{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))ecx_gettable },
	{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))ecx_types },
	{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))ecx_types },
	{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))ed25519_operation },
	{ OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))ed25519_gen_init },
	{ 0, NULL }
};

const OSSL_DISPATCH prov_x25519_keymgmt[] = {
	OPAQUE_DISPATCH,
	{ OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))x25519_new },
	{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))ecx_gettable },
	{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))ecx_types },
	{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))ecx_types },
	{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))x25519_operation },
	{ OSSL_FUNC_KEYMGMT_SET_PARAMS, (void (*)(void))opaque_set_params_fn },
	{ OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, (void (*)(void))x25519_settable },
	{ OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))x25519_gen_init },
	{ 0, NULL }
};
