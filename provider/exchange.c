/* ECDH and X25519 with a key in the host: the host derives the secret, the
 * X9.63 KDF that CMS puts behind it is done here. */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "keymgmt/key.h"
#include "provider.h"

#define WORD_MAX 50     /* bytes of a digest's or KDF's name, as in libcrypto */
#define UKM_MAX 4096    /* bytes of user keying material */
#define OUT_MAX 65536   /* bytes that a KDF may give */

static OSSL_FUNC_keyexch_newctx_fn exch_newctx;
static OSSL_FUNC_keyexch_init_fn exch_init;
static OSSL_FUNC_keyexch_set_peer_fn exch_set_peer;
static OSSL_FUNC_keyexch_derive_fn exch_derive;
static OSSL_FUNC_keyexch_freectx_fn exch_freectx;
static OSSL_FUNC_keyexch_dupctx_fn exch_dupctx;
static OSSL_FUNC_keyexch_set_ctx_params_fn exch_set_ctx_params;
static OSSL_FUNC_keyexch_settable_ctx_params_fn exch_settable_ctx_params;
static OSSL_FUNC_keyexch_get_ctx_params_fn exch_get_ctx_params;
static OSSL_FUNC_keyexch_gettable_ctx_params_fn exch_gettable_ctx_params;

struct exchange {
	struct prov *prov;
	struct opaque *key, *peer;
	/* as set: these curves have cofactor 1, so it changes nothing */
	int cofactor;
	char kdf[WORD_MAX];         /* "" none */
	char digest[WORD_MAX];
	size_t out_n;
	struct tao_buf ukm;
};

static void *exch_newctx(void *provctx)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct exchange *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->prov = provctx;
	c->cofactor = -1;
	c->ukm = empty;
	return c;
}

static void exch_freectx(void *vctx)
{
	struct exchange *c = vctx;

	if (c == NULL)
		return;
	opaque_free(c->key);
	opaque_free(c->peer);
	tao_buf_free(&c->ukm);
	free(c);
}

static void *exch_dupctx(void *vctx)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct exchange *from = vctx, *to = malloc(sizeof *to);

	if (to == NULL)
		return NULL;
	*to = *from;
	to->ukm = empty;
	tao_buf_put(&to->ukm, from->ukm.p, from->ukm.n);
	if (to->key != NULL)
		opaque_up_ref(to->key);
	if (to->peer != NULL)
		opaque_up_ref(to->peer);
	if (to->ukm.err == TAO_OK)
		return to;
	exch_freectx(to);
	return NULL;
}

static int exch_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	struct exchange *c = vctx;
	struct opaque *k = key;

	if (k == NULL || k->pub == NULL || !k->has_pub)
		return 0;
	if (!opaque_is_private(k))
		return prov_raise_reason(c->prov, PROV_RNOPRIVATE);
	opaque_up_ref(k);
	opaque_free(c->key);
	c->key = k;
	return exch_set_ctx_params(c, params);
}

static int exch_set_peer(void *vctx, void *key)
{
	struct exchange *c = vctx;
	struct opaque *k = key;

	if (k == NULL || k->pub == NULL || !k->has_pub || c->key == NULL || c->key->type != k->type)
		return 0;
	opaque_up_ref(k);
	opaque_free(c->peer);
	c->peer = k;
	return 1;
}

/* ---- deriving ---- */

static enum tao_err agree(struct exchange *c, struct tao_buf *secret)
{
	unsigned char *point = NULL;
	size_t n;
	enum tao_err e;

	ERR_set_mark();
	n = EVP_PKEY_get1_encoded_public_key(c->peer->pub, &point);
	ERR_pop_to_mark();
	if (n == 0)
		return tao_fail(TAO_ECRYPTO, "the peer's public key could not be encoded");
	e = opaque_derive(c->key, point, n, secret);
	OPENSSL_free(point);
	return e;
}

/* X9.63 (ANSI; SEC 1 section 3.6.1). */
static int run_kdf(struct exchange *c, const struct tao_buf *secret, uint8_t *out)
{
	EVP_KDF *kdf = EVP_KDF_fetch(c->prov->inner->libctx, OSSL_KDF_NAME_X963KDF, NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, c->digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret->p, secret->n),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, c->ukm.p, c->ukm.n),
		OSSL_PARAM_END
	};
	int good = ctx != NULL && EVP_KDF_derive(ctx, out, c->out_n, params) > 0;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return good;
}

static size_t result_size(const struct exchange *c)
{
	return c->kdf[0] != 0 ? c->out_n : opaque_secret_size(c->key);
}

static int exch_derive(void *vctx, unsigned char *out, size_t *out_n, size_t room)
{
	struct exchange *c = vctx;
	struct tao_buf secret = TAO_BUF_INIT;
	enum tao_err e;
	int good = 1;

	if (c->key == NULL || c->peer == NULL || result_size(c) == 0)
		return 0;
	*out_n = result_size(c);
	if (out == NULL)
		return 1;
	if (room < *out_n)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "room for a secret: %zu bytes, needed are "
		                       "%zu", room, *out_n);
	e = agree(c, &secret);
	if (e == TAO_OK && c->kdf[0] != 0) {
		ERR_set_mark();
		good = run_kdf(c, &secret, out);
		ERR_pop_to_mark();
	} else if (e == TAO_OK) {
		memcpy(out, secret.p, secret.n);
	}
	tao_buf_free(&secret);
	if (!good)
		e = tao_fail(TAO_ECRYPTO, "key %s: the KDF failed", c->key->name);
	return e == TAO_OK || prov_raise(c->prov, e);
}

/* ---- parameters ---- */

static int take_kdf(struct exchange *c, const OSSL_PARAM params[])
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_TYPE);
	char name[WORD_MAX], *at = name;

	if (q == NULL)
		return 1;
	if (!OSSL_PARAM_get_utf8_string(q, &at, sizeof name))
		return 0;
	if (name[0] != 0 && OPENSSL_strcasecmp(name, OSSL_KDF_NAME_X963KDF) != 0)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "the KDF %.40s is not known here: X963KDF is", name);
	strcpy(c->kdf, name);
	return 1;
}

static int take_ukm(struct exchange *c, const OSSL_PARAM params[])
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_UKM);
	const void *p;
	size_t n;

	if (q == NULL)
		return 1;
	if (!OSSL_PARAM_get_octet_string_ptr(q, &p, &n) || n > UKM_MAX)
		return 0;
	tao_buf_reset(&c->ukm);
	tao_buf_put(&c->ukm, p, n);
	return c->ukm.err == TAO_OK;
}

static int exch_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	struct exchange *c = vctx;
	const OSSL_PARAM *q;
	char *digest = c->digest;

	if (params == NULL)
		return 1;
	if (!prov_params_whole(c->prov, params))
		return 0;
	q = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE);
	if (q != NULL && (!OSSL_PARAM_get_int(q, &c->cofactor) || c->cofactor < -1 ||
	                  c->cofactor > 1))
		return 0;
	q = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_DIGEST);
	if (q != NULL && !OSSL_PARAM_get_utf8_string(q, &digest, sizeof c->digest))
		return 0;
	q = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_OUTLEN);
	if (q != NULL && (!OSSL_PARAM_get_size_t(q, &c->out_n) || c->out_n > OUT_MAX))
		return 0;
	return take_kdf(c, params) && take_ukm(c, params);
}

static const OSSL_PARAM *exch_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_int(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, NULL),
		OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST_PROPS, NULL, 0),
		OSSL_PARAM_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, NULL),
		OSSL_PARAM_octet_string(OSSL_EXCHANGE_PARAM_KDF_UKM, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

static int exch_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	struct exchange *c = vctx;
	OSSL_PARAM *q;

	q = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE);
	if (q != NULL && !OSSL_PARAM_set_int(q, c->cofactor < 0 ? 0 : c->cofactor))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_TYPE);
	if (q != NULL && !OSSL_PARAM_set_utf8_string(q, c->kdf))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_DIGEST);
	if (q != NULL && !OSSL_PARAM_set_utf8_string(q, c->digest))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_OUTLEN);
	if (q != NULL && !OSSL_PARAM_set_size_t(q, c->out_n))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_UKM);
	return q == NULL || OSSL_PARAM_set_octet_ptr(q, c->ukm.p, c->ukm.n);
}

static const OSSL_PARAM *exch_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_int(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, NULL),
		OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, NULL, 0),
		OSSL_PARAM_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, NULL),
		OSSL_PARAM_DEFN(OSSL_EXCHANGE_PARAM_KDF_UKM, OSSL_PARAM_OCTET_PTR, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_KEYEXCH_##id, (void (*)(void))exch_##fn }

const OSSL_DISPATCH prov_exchange[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(INIT, init),
	ENTRY(SET_PEER, set_peer),
	ENTRY(DERIVE, derive),
	ENTRY(FREECTX, freectx),
	ENTRY(DUPCTX, dupctx),
	ENTRY(SET_CTX_PARAMS, set_ctx_params),
	ENTRY(SETTABLE_CTX_PARAMS, settable_ctx_params),
	ENTRY(GET_CTX_PARAMS, get_ctx_params),
	ENTRY(GETTABLE_CTX_PARAMS, gettable_ctx_params),
	{ 0, NULL }
};
