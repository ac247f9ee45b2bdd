#include "key.h"

#include <openssl/core_names.h>

static OSSL_FUNC_keymgmt_new_fn ec_new;
static OSSL_FUNC_keymgmt_gettable_params_fn ec_gettable;
static OSSL_FUNC_keymgmt_import_types_fn ec_types;
static OSSL_FUNC_keymgmt_query_operation_name_fn ec_operation;
static OSSL_FUNC_keymgmt_settable_params_fn ec_settable;
static OSSL_FUNC_keymgmt_gen_init_fn ec_gen_init;

/* Everything here is public. OSSL_PKEY_PARAM_PRIV_KEY must never be added. */
static const OSSL_PARAM gettable[] = {
	OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_FIELD_TYPE, NULL, 0),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, NULL),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_P, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_A, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_B, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_GENERATOR, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_ORDER, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_COFACTOR, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_SEED, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_X, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_Y, NULL, 0),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_USE_COFACTOR_ECDH, NULL),
	OSSL_PARAM_utf8_string(OPAQUE_PARAM_NAME, NULL, 0),
	OSSL_PARAM_END
};

static const OSSL_PARAM transferable[] = {
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_FIELD_TYPE, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_P, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_A, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_B, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_GENERATOR, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_ORDER, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_COFACTOR, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_SEED, NULL, 0),
	OSSL_PARAM_END
};

static const char *const groups[] = { "prime256v1", "secp384r1", "secp521r1", NULL };

const struct keytype keytype_ec = {
	"EC", groups, gettable, OSSL_PKEY_PARAM_PUB_KEY, OSSL_PKEY_PARAM_PRIV_KEY, REPLY_ECDSA,
};

static void *ec_new(void *provctx)
{
	return opaque_new(provctx, &keytype_ec);
}

static const OSSL_PARAM *ec_gettable(void *provctx)
{
	(void)provctx;
	return gettable;
}

static const OSSL_PARAM *ec_types(int selection)
{
	/* The public key comes first in the table: without it, what is left are parameters. */
	if (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY)
		return transferable;
	return selection & OSSL_KEYMGMT_SELECT_ALL_PARAMETERS ? transferable + 1 : NULL;
}

static const char *ec_operation(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "ECDSA"
	     : operation == OSSL_OP_KEYEXCH ? "ECDH" : NULL;
}

/* How points are written, as `openssl pkey -conv_form`; a peer's public key. */
static const OSSL_PARAM *ec_settable(void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
		OSSL_PARAM_END
	};

	(void)provctx;
	return table;
}

static void *ec_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
	return opaque_gen_init(provctx, &keytype_ec, selection, params);
}

const OSSL_DISPATCH prov_ec_keymgmt[] = {
	OPAQUE_DISPATCH,
	{ OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))ec_new },
	{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))ec_gettable },
	{ OSSL_FUNC_KEYMGMT_SET_PARAMS, (void (*)(void))opaque_set_params_fn },
	{ OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, (void (*)(void))ec_settable },
	{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))ec_types },
	{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))ec_types },
	{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))ec_operation },
	{ OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))ec_gen_init },
	{ 0, NULL }
};
