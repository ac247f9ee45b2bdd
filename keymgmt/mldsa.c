/* ML-DSA: offered where libcrypto has it, from 3.5 on. */
#include "key.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#include "provider/newer.h"

static OSSL_FUNC_keymgmt_gettable_params_fn mldsa_gettable;
static OSSL_FUNC_keymgmt_import_types_fn mldsa_types;
static OSSL_FUNC_keymgmt_import_fn mldsa_import;

/* Everything here is public. The seed and OSSL_PKEY_PARAM_PRIV_KEY must never be added. */
static const OSSL_PARAM gettable[] = {
	OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	OSSL_PARAM_utf8_string(OPAQUE_PARAM_NAME, NULL, 0),
	OSSL_PARAM_END
};

static const OSSL_PARAM *mldsa_gettable(void *provctx)
{
	(void)provctx;
	return gettable;
}

static const OSSL_PARAM *mldsa_types(int selection)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END
	};

	return selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY ? table : NULL;
}

/* There are two ways to give a private half. */
static int mldsa_import(void *keydata, int selection, const OSSL_PARAM params[])
{
	struct opaque *k = keydata;

	if (OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ML_DSA_SEED) != NULL)
		return prov_raise_reason(k->prov, PROV_RIMPORT);
	return opaque_import_fn(keydata, selection, params);
}

#define MLDSA(n) \
	const struct keytype keytype_mldsa##n = { \
		"ML-DSA-" #n, NULL, gettable, OSSL_PKEY_PARAM_PUB_KEY, OSSL_PKEY_PARAM_PRIV_KEY, \
		REPLY_WHOLE, \
	}; \
	static OSSL_FUNC_keymgmt_new_fn mldsa##n##_new; \
	static OSSL_FUNC_keymgmt_gen_init_fn mldsa##n##_gen_init; \
	static OSSL_FUNC_keymgmt_query_operation_name_fn mldsa##n##_operation; \
	static void *mldsa##n##_new(void *provctx) \
	{ \
		return opaque_new(provctx, &keytype_mldsa##n); \
	} \
	static void *mldsa##n##_gen_init(void *provctx, int selection, const OSSL_PARAM params[]) \
	{ \
		return opaque_gen_init(provctx, &keytype_mldsa##n, selection, params); \
	} \
	static const char *mldsa##n##_operation(int operation) \
	{ \
		return operation == OSSL_OP_SIGNATURE ? "ML-DSA-" #n : NULL; \
	} \
	const OSSL_DISPATCH prov_mldsa##n##_keymgmt[] = { \
		{ OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))mldsa##n##_new }, \
		{ OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))mldsa##n##_gen_init }, \
		{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))mldsa##n##_operation }, \
		{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))mldsa_gettable }, \
		{ OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))mldsa_import }, \
		{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))mldsa_types }, \
		{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))mldsa_types }, \
		OPAQUE_DISPATCH, /* its IMPORT comes after ours: the first one counts */ \
		{ 0, NULL } \
	};

MLDSA(44)
MLDSA(65)
MLDSA(87)
