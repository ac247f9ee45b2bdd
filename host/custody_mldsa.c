#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "custody_coding.h"

#define SEED_LEN 32
#define PARAM_SEED "seed" /* OSSL_PKEY_PARAM_ML_DSA_SEED, which older headers lack */

static enum tao_err mldsa_ctx(const struct key_type *t, EVP_PKEY_CTX **ctx)
{
	ERR_set_mark();
	*ctx = EVP_PKEY_CTX_new_from_name(NULL, t->algorithm, NULL);
	ERR_pop_to_mark();
	if (*ctx != NULL)
		return TAO_OK;
	return tao_fail(TAO_EINVAL, "keys of type %s need OpenSSL 3.5 or later, and this host runs "
	                "with %s: choose another type", t->name, OpenSSL_version(OPENSSL_VERSION));
}

/* The public half is computed from the seed. */
static enum tao_err mldsa_read(const struct key_type *t, const void *p, size_t n, EVP_PKEY **out)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(PARAM_SEED, (void *)p,
		                                  n), OSSL_PARAM_construct_end()
	};
	EVP_PKEY_CTX *ctx = NULL;
	enum tao_err e = n == SEED_LEN ? mldsa_ctx(t, &ctx) : key_coding_mismatch(t);

	if (e == TAO_OK && (EVP_PKEY_fromdata_init(ctx) != 1 ||
	                    EVP_PKEY_fromdata(ctx, out, EVP_PKEY_KEYPAIR, params) != 1))
		e = tao_fail_crypto("opening a key of type %s", t->name);
	EVP_PKEY_CTX_free(ctx);
	return e;
}

static enum tao_err mldsa_write(EVP_PKEY *key, struct tao_buf *out)
{
	uint8_t *to = tao_buf_room(out, SEED_LEN);
	size_t n = 0;
	int got;

	if (to == NULL)
		return tao_buf_err(out);
	ERR_set_mark();
	got = EVP_PKEY_get_octet_string_param(key, PARAM_SEED, to, SEED_LEN, &n) == 1 &&
	      n == SEED_LEN;
	ERR_pop_to_mark();
	return got ? TAO_OK : tao_fail(TAO_EFORMAT, "this ML-DSA key comes without the seed that "
	                               "it was made from: make a new one with 'tao key new'");
}

static enum tao_err mldsa_generate(const struct key_type *t, const struct key_pss *pss,
                                   EVP_PKEY **out)
{
	EVP_PKEY_CTX *ctx;
	enum tao_err e = mldsa_ctx(t, &ctx);

	(void)pss;
	if (e == TAO_OK && (EVP_PKEY_keygen_init(ctx) != 1 || EVP_PKEY_generate(ctx, out) != 1))
		e = tao_fail_crypto("making a key of type %s", t->name);
	EVP_PKEY_CTX_free(ctx);
	return e;
}

const struct key_coding key_coding_mldsa = { mldsa_generate, mldsa_write, mldsa_read };
