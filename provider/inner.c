#include "inner.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

EVP_PKEY_CTX *inner_new(struct prov *p, EVP_PKEY *pub, int (*begin)(EVP_PKEY_CTX *))
{
	EVP_PKEY_CTX *c;

	ERR_set_mark();
	c = EVP_PKEY_CTX_new_from_pkey(p->inner->libctx, pub, NULL);
	if (c != NULL && begin(c) <= 0) {
		EVP_PKEY_CTX_free(c);
		c = NULL;
	}
	ERR_pop_to_mark();
	return c;
}

EVP_PKEY_CTX *inner_dup(const EVP_PKEY_CTX *c)
{
	EVP_PKEY_CTX *to;

	if (c == NULL)
		return NULL;
	ERR_set_mark();
	to = EVP_PKEY_CTX_dup(c);
	ERR_pop_to_mark();
	return to;
}

int inner_get_params(EVP_PKEY_CTX *c, OSSL_PARAM params[])
{
	int good;

	if (c == NULL)
		return 0;
	ERR_set_mark();
	good = EVP_PKEY_CTX_get_params(c, params) > 0;
	ERR_pop_to_mark();
	return good;
}

int inner_set_params(EVP_PKEY_CTX *c, const OSSL_PARAM params[])
{
	int good;

	if (params == NULL || params[0].key == NULL)
		return 1;
	if (c == NULL)
		return 0;
	ERR_set_mark();
	good = EVP_PKEY_CTX_set_params(c, params) > 0;
	ERR_pop_to_mark();
	return good;
}

int inner_get_int(EVP_PKEY_CTX *c, const char *name, int *out)
{
	OSSL_PARAM params[] = { OSSL_PARAM_construct_int(name, out), OSSL_PARAM_END };

	return inner_get_params(c, params);
}
