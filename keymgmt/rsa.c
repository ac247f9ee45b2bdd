#include "key.h"

#include <openssl/core_names.h>

static OSSL_FUNC_keymgmt_new_fn rsa_new;
static OSSL_FUNC_keymgmt_new_fn rsa_pss_new;
static OSSL_FUNC_keymgmt_gettable_params_fn rsa_gettable;
static OSSL_FUNC_keymgmt_import_types_fn rsa_types;
static OSSL_FUNC_keymgmt_import_types_fn rsa_pss_types;
static OSSL_FUNC_keymgmt_query_operation_name_fn rsa_operation;
static OSSL_FUNC_keymgmt_query_operation_name_fn rsa_pss_operation;
static OSSL_FUNC_keymgmt_gen_init_fn rsa_gen_init;
static OSSL_FUNC_keymgmt_gen_init_fn rsa_pss_gen_init;

/* Everything here is public: no factor, exponent or coefficient may be added. */
static const OSSL_PARAM gettable[] = {
	OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
	OSSL_PARAM_utf8_string(OPAQUE_PARAM_NAME, NULL, 0),
	OSSL_PARAM_END
};

/* The restriction is a parameter of the key. */
static const OSSL_PARAM pss_transferable[] = {
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_DIGEST, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_MASKGENFUNC, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, NULL, 0),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, NULL),
	OSSL_PARAM_END
};

static const OSSL_PARAM transferable[] = {
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
	OSSL_PARAM_END
};

const struct keytype keytype_rsa = {
	"RSA", NULL, gettable, OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_D, REPLY_WHOLE,
};
const struct keytype keytype_rsa_pss = {
	"RSA-PSS", NULL, gettable, OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_D, REPLY_WHOLE,
};

static void *rsa_new(void *provctx)
{
	return opaque_new(provctx, &keytype_rsa);
}

static void *rsa_pss_new(void *provctx)
{
	return opaque_new(provctx, &keytype_rsa_pss);
}

static const OSSL_PARAM *rsa_gettable(void *provctx)
{
	(void)provctx;
	return gettable;
}

static const OSSL_PARAM *rsa_types(int selection)
{
	return selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY ? transferable : NULL;
}

static const OSSL_PARAM *rsa_pss_types(int selection)
{
	if (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY)
		return pss_transferable;
	return selection & OSSL_KEYMGMT_SELECT_ALL_PARAMETERS ? pss_transferable + 2 : NULL;
}

static const char *rsa_operation(int operation)
{
	return operation == OSSL_OP_SIGNATURE || operation == OSSL_OP_ASYM_CIPHER ? "RSA" : NULL;
}

static const char *rsa_pss_operation(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

static void *rsa_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
	return opaque_gen_init(provctx, &keytype_rsa, selection, params);
}

static void *rsa_pss_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
	return opaque_gen_init(provctx, &keytype_rsa_pss, selection, params);
}

const OSSL_DISPATCH prov_rsa_keymgmt[] = {
	OPAQUE_DISPATCH,
	{ OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))rsa_new },
	{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))rsa_gettable },
	{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))rsa_types },
	{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))rsa_types },
	{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))rsa_operation },
	{ OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))rsa_gen_init },
	{ 0, NULL }
};

const OSSL_DISPATCH prov_rsa_pss_keymgmt[] = {
	OPAQUE_DISPATCH,
	{ OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))rsa_pss_new },
	{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))rsa_gettable },
	{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))rsa_pss_types },
	{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))rsa_pss_types },
	{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))rsa_pss_operation },
	{ OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))rsa_pss_gen_init },
	{ 0, NULL }
};
