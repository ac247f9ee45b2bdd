#include "byname.h"

#include <stdlib.h>
#include <sys/random.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "reply.h"

#define STRENGTH 256 /* bits */

static OSSL_FUNC_rand_newctx_fn rand_newctx;
static OSSL_FUNC_rand_freectx_fn rand_freectx;
static OSSL_FUNC_rand_instantiate_fn rand_instantiate;
static OSSL_FUNC_rand_uninstantiate_fn rand_uninstantiate;
static OSSL_FUNC_rand_generate_fn rand_generate;
static OSSL_FUNC_rand_reseed_fn rand_reseed;
static OSSL_FUNC_rand_enable_locking_fn rand_enable_locking;
static OSSL_FUNC_rand_lock_fn rand_lock;
static OSSL_FUNC_rand_unlock_fn rand_unlock;
static OSSL_FUNC_rand_gettable_ctx_params_fn rand_gettable_ctx_params;
static OSSL_FUNC_rand_get_ctx_params_fn rand_get_ctx_params;
static OSSL_FUNC_rand_verify_zeroization_fn rand_verify_zeroization;
static OSSL_FUNC_rand_get_seed_fn rand_get_seed;
static OSSL_FUNC_rand_clear_seed_fn rand_clear_seed;

struct source {
	struct prov *prov;
	int state; /* EVP_RAND_STATE_* */
};

enum tao_err byname_ask(struct prov *p, const char *op, Tao__RPCRequest *rq, uint8_t *out,
                        size_t n)
{
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e;

	rq->has_size = 1;
	rq->size = (int32_t)n;
	e = prov_call(p, op, &rq->base, &body);
	if (e == TAO_OK)
		e = reply_bytes(&body, n, out);
	if (e != TAO_OK)
		OPENSSL_cleanse(out, n);
	tao_buf_free(&body);
	return e;
}

/* ---- a source's life ---- */

static void *rand_newctx(void *provctx, void *parent, const OSSL_DISPATCH *parent_calls)
{
	struct prov *p = provctx;
	struct source *s;

	(void)parent_calls;
	if (parent != NULL) {
		prov_raise_reason(p, PROV_RSEED);
		return NULL;
	}
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->prov = p;
	s->state = EVP_RAND_STATE_UNINITIALISED;
	return s;
}

static void rand_freectx(void *vctx)
{
	free(vctx);
}

static int rand_instantiate(void *vctx, unsigned strength, int resist, const unsigned char *pstr,
                            size_t pstr_n, const OSSL_PARAM params[])
{
	struct source *s = vctx;

	(void)strength;
	(void)resist;
	(void)pstr;
	(void)pstr_n;
	(void)params;
	prov_keep_door(s->prov); /* whoever gives up its rights later still reseeds */
	s->state = EVP_RAND_STATE_READY;
	return 1;
}

static int rand_uninstantiate(void *vctx)
{
	((struct source *)vctx)->state = EVP_RAND_STATE_UNINITIALISED;
	return 1;
}

/* ---- bytes ---- */

/* Less than all, or nothing, is fine: see byname.h. */
static void mix_kernels(uint8_t *out, size_t n)
{
	uint8_t more[BYNAME_RANDOM_MAX];
	ssize_t got = getrandom(more, n, GRND_NONBLOCK);

	for (ssize_t i = 0; i < got; i++)
		out[i] ^= more[i];
	OPENSSL_cleanse(more, sizeof more);
}

/* 1, or 0 with an error on the queue. */
static int draw(struct source *s, uint8_t *out, size_t n)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	enum tao_err e;

	if (s->state != EVP_RAND_STATE_READY)
		return prov_raise_text(s->prov, TAO_EINVAL, "TAO-RAND was not instantiated");
	if (n > BYNAME_RANDOM_MAX)
		return prov_raise_text(s->prov, TAO_ELIMIT,
		                       "TAO-RAND gives at most %d bytes at once, "
		                       "not %zu", BYNAME_RANDOM_MAX, n);
	if (n == 0)
		return 1;
	e = byname_ask(s->prov, "Tao.GetRandomBytes", &rq, out, n);
	if (e != TAO_OK)
		return prov_raise(s->prov, e);
	mix_kernels(out, n);
	return 1;
}

static int rand_generate(void *vctx, unsigned char *out, size_t n, unsigned strength, int resist,
                         const unsigned char *more, size_t more_n)
{
	struct source *s = vctx;

	(void)resist; /* every byte is new */
	(void)more;
	(void)more_n;
	if (strength > STRENGTH)
		return prov_raise_text(s->prov, TAO_EINVAL,
		                       "TAO-RAND has a strength of %d bits, not %u",
		                       STRENGTH, strength);
	return draw(s, out, n);
}

static int rand_reseed(void *vctx, int resist, const unsigned char *seed, size_t seed_n,
                       const unsigned char *more, size_t more_n)
{
	(void)vctx;
	(void)resist;
	(void)seed;
	(void)seed_n;
	(void)more;
	(void)more_n;
	return 1; /* nothing is kept that could become old */
}

static size_t rand_get_seed(void *vctx, unsigned char **out, int bits, size_t least, size_t most,
                            int resist, const unsigned char *more, size_t more_n)
{
	struct source *s = vctx;
	size_t n = bits > 0 ? ((size_t)bits + 7) / 8 : 0;
	uint8_t *seed;

	(void)resist;
	(void)more;
	(void)more_n;
	*out = NULL;
	if (n < least)
		n = least;
	if (n > most || n > BYNAME_RANDOM_MAX)
		return prov_raise_text(s->prov, TAO_ELIMIT,
		                       "no seed of %zu bytes can be had: %zu are "
		                       "asked for at most, and TAO-RAND gives %d", n, most,
		                       BYNAME_RANDOM_MAX);
	seed = malloc(n + 1);
	if (seed == NULL || !draw(s, seed, n)) {
		free(seed);
		return 0;
	}
	*out = seed;
	return n;
}

static void rand_clear_seed(void *vctx, unsigned char *seed, size_t n)
{
	(void)vctx;
	if (seed != NULL)
		OPENSSL_cleanse(seed, n);
	free(seed);
}

static int rand_verify_zeroization(void *vctx)
{
	(void)vctx;
	return 1;
}

/* ---- threads share a source without harm ---- */

static int rand_enable_locking(void *vctx)
{
	(void)vctx;
	return 1;
}

static int rand_lock(void *vctx)
{
	(void)vctx;
	return 1;
}

static void rand_unlock(void *vctx)
{
	(void)vctx;
}

/* ---- parameters ---- */

static const OSSL_PARAM *rand_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_int(OSSL_RAND_PARAM_STATE, NULL),
		OSSL_PARAM_uint(OSSL_RAND_PARAM_STRENGTH, NULL),
		OSSL_PARAM_size_t(OSSL_RAND_PARAM_MAX_REQUEST, NULL),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

static int rand_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	struct source *s = vctx;
	OSSL_PARAM *q;

	q = OSSL_PARAM_locate(params, OSSL_RAND_PARAM_STATE);
	if (q != NULL && !OSSL_PARAM_set_int(q, s->state))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_RAND_PARAM_STRENGTH);
	if (q != NULL && !OSSL_PARAM_set_uint(q, STRENGTH))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_RAND_PARAM_MAX_REQUEST);
	return q == NULL || OSSL_PARAM_set_size_t(q, BYNAME_RANDOM_MAX);
}

#define ENTRY(id, fn) { OSSL_FUNC_RAND_##id, (void (*)(void))rand_##fn }

const OSSL_DISPATCH prov_rand[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(FREECTX, freectx),
	ENTRY(INSTANTIATE, instantiate),
	ENTRY(UNINSTANTIATE, uninstantiate),
	ENTRY(GENERATE, generate),
	ENTRY(RESEED, reseed),
	ENTRY(ENABLE_LOCKING, enable_locking),
	ENTRY(LOCK, lock),
	ENTRY(UNLOCK, unlock),
	ENTRY(GETTABLE_CTX_PARAMS, gettable_ctx_params),
	ENTRY(GET_CTX_PARAMS, get_ctx_params),
	ENTRY(VERIFY_ZEROIZATION, verify_zeroization),
	ENTRY(GET_SEED, get_seed),
	ENTRY(CLEAR_SEED, clear_seed),
	{ 0, NULL }
};
