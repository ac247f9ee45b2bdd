#include "sig.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

/* What the host signs with every type of key that takes a digest. */
static const char *const digests[] = { "SHA256", "SHA384", "SHA512" };

void *sig_newctx(void *provctx, size_t n)
{
	struct sig *c = calloc(1, n);

	if (c != NULL)
		c->prov = provctx;
	return c;
}

void sig_freectx(void *vctx)
{
	struct sig *c = vctx;

	if (c == NULL)
		return;
	EVP_MD_CTX_free(c->hash);
	EVP_MD_free(c->md);
	opaque_free(c->key);
	free(c);
}

void *sig_dupctx(const void *vctx, size_t n)
{
	const struct sig *from = vctx;
	struct sig *to = malloc(n);

	if (to == NULL)
		return NULL;
	memcpy(to, from, n);
	to->hash = NULL;
	if (to->key != NULL)
		opaque_up_ref(to->key);
	if (to->md != NULL)
		EVP_MD_up_ref(to->md);
	if (from->hash != NULL) {
		to->hash = EVP_MD_CTX_new();
		if (to->hash == NULL || !EVP_MD_CTX_copy_ex(to->hash, from->hash)) {
			sig_freectx(to);
			return NULL;
		}
	}
	return to;
}

/* ---- key and digest ---- */

int sig_take_key(struct sig *c, void *keydata, int to_sign)
{
	struct opaque *key = keydata != NULL ? keydata : c->key;

	if (key == NULL || key->pub == NULL || !key->has_pub)
		return 0;
	if (to_sign && !opaque_is_private(key))
		return prov_raise_reason(c->prov, PROV_RNOPRIVATE);
	opaque_up_ref(key);
	opaque_free(c->key);
	c->key = key;
	return 1;
}

int sig_choose_digest(struct sig *c, const char *name)
{
	EVP_MD *md;

	if (c->md != NULL && EVP_MD_is_a(c->md, name))
		return 1;
	if (c->begun)
		return prov_raise_text(c->prov, TAO_EINVAL, "the digest is chosen already: it "
		                       "cannot become %.40s", name);
	ERR_set_mark();
	md = EVP_MD_fetch(c->prov->inner->libctx, name, NULL);
	ERR_pop_to_mark();
	if (md == NULL)
		return prov_raise_text(c->prov, PROV_RDIGEST, "unknown digest %.40s", name);
	EVP_MD_free(c->md);
	c->md = md;
	return 1;
}

const char *sig_digest_word(const EVP_MD *md)
{
	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++)
		if (EVP_MD_is_a(md, digests[i]))
			return digests[i];
	return NULL;
}

int sig_digest_refused(const struct sig *c)
{
	if (c->md == NULL)
		return prov_raise_text(c->prov, PROV_RDIGEST, "key %s: none was given, say which "
		                       "(pkeyutl -pkeyopt digest:sha256)", c->key->name);
	return prov_raise_text(c->prov, PROV_RDIGEST, "key %s, digest %s", c->key->name,
	                       EVP_MD_get0_name(c->md));
}

int sig_hash_begin(struct sig *c)
{
	if (c->hash == NULL)
		c->hash = EVP_MD_CTX_new();
	c->begun = 1;
	return c->hash != NULL && EVP_DigestInit_ex2(c->hash, c->md, NULL);
}

size_t sig_max(const struct sig *c)
{
	return (size_t)EVP_PKEY_get_size(c->key->pub);
}

int sig_by_host(struct sig *c, const struct opaque_how *how, const uint8_t *data, size_t n,
                uint8_t *sig, size_t *sig_n, size_t room)
{
	enum tao_err e;

	if (room < sig_max(c))
		return prov_raise_text(c->prov, TAO_EINVAL, "room for a signature: %zu bytes, "
		                       "needed are %zu", room, sig_max(c));
	*sig_n = sig_max(c); /* what the answer must fit into, or fill */
	e = opaque_sign(c->key, how, data, n, sig, sig_n);
	return e == TAO_OK || prov_raise(c->prov, e);
}

/* ---- for dispatch tables ---- */

int sig_update_fn(void *vctx, const unsigned char *data, size_t n)
{
	struct sig *c = vctx;

	return c->hash != NULL && EVP_DigestUpdate(c->hash, data, n);
}

int sig_get_ctx_md_params_fn(void *vctx, OSSL_PARAM params[])
{
	struct sig *c = vctx;

	return c->hash != NULL && EVP_MD_CTX_get_params(c->hash, params);
}

const OSSL_PARAM *sig_gettable_ctx_md_params_fn(void *vctx)
{
	struct sig *c = vctx;

	return c->md != NULL ? EVP_MD_gettable_ctx_params(c->md) : NULL;
}

int sig_set_ctx_md_params_fn(void *vctx, const OSSL_PARAM params[])
{
	struct sig *c = vctx;

	return c->hash != NULL && prov_params_whole(c->prov, params) &&
	       EVP_MD_CTX_set_params(c->hash, params);
}

const OSSL_PARAM *sig_settable_ctx_md_params_fn(void *vctx)
{
	struct sig *c = vctx;

	return c->md != NULL ? EVP_MD_settable_ctx_params(c->md) : NULL;
}
