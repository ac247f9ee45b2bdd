#include "mac.h"

#include <openssl/core_names.h>

void tao_mac_init(struct tao_mac *m, OSSL_LIB_CTX *lib, const char *md)
{
	m->lib = lib;
	m->md = md;
	atomic_init(&m->idle, NULL);
}

void tao_mac_clear(struct tao_mac *m)
{
	EVP_MAC_CTX_free(atomic_exchange(&m->idle, NULL));
}

static EVP_MAC_CTX *look_up(const struct tao_mac *m)
{
	EVP_MAC *hmac = EVP_MAC_fetch(m->lib, "HMAC", NULL);
	EVP_MAC_CTX *ctx = hmac != NULL ? EVP_MAC_CTX_new(hmac) : NULL;
	OSSL_PARAM digest[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)m->md, 0),
		OSSL_PARAM_construct_end(),
	};

	EVP_MAC_free(hmac);
	if (ctx != NULL && EVP_MAC_CTX_set_params(ctx, digest) == 1)
		return ctx;
	EVP_MAC_CTX_free(ctx);
	return NULL;
}

static int compute(EVP_MAC_CTX *ctx, const void *key, size_t key_n, const struct tao_rd *part,
                   size_t n_parts, uint8_t *mac)
{
	static const uint8_t zeros[TAO_MAC_MAX];
	size_t n;
	int good = EVP_MAC_init(ctx, key, key_n, NULL) == 1;

	for (size_t i = 0; good && i < n_parts; i++)
		good = EVP_MAC_update(ctx, part[i].p, part[i].n) == 1;
	return good && EVP_MAC_final(ctx, mac, &n, TAO_MAC_MAX) == 1 &&
	       EVP_MAC_init(ctx, zeros, sizeof zeros, NULL) == 1; /* forgets the key */
}

enum tao_err tao_mac_make(struct tao_mac *m, const void *key, size_t key_n,
                          const struct tao_rd *part, size_t n_parts, uint8_t mac[TAO_MAC_MAX])
{
	EVP_MAC_CTX *ctx = atomic_exchange(&m->idle, NULL);

	if (ctx == NULL)
		ctx = look_up(m);
	if (ctx != NULL && compute(ctx, key, key_n, part, n_parts, mac)) {
		EVP_MAC_CTX_free(atomic_exchange(&m->idle, ctx));
		return TAO_OK;
	}
	EVP_MAC_CTX_free(ctx); /* for whatever reason: the next begins anew */
	return tao_fail_crypto("HMAC failed");
}
