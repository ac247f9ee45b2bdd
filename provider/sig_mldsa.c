/* ML-DSA (FIPS 204), hedged: the host draws the randomness. */
#include <string.h>

#include <openssl/err.h>
#include <openssl/params.h>

#include "newer.h"
#include "sig.h"

#define MU_LEN 64          /* bytes of mu, and of tr */
#define CONTEXT_MAX 255    /* bytes of a context string */
#define PUBLIC_MAX 2592    /* bytes of an ML-DSA-87 public key */
#define ALGORITHM_LAST 12  /* where the three AlgorithmIdentifiers differ */

static OSSL_FUNC_signature_sign_message_init_fn mldsa_sign_init;
static OSSL_FUNC_signature_sign_message_update_fn mldsa_update;
static OSSL_FUNC_signature_sign_message_final_fn mldsa_sign_final;
static OSSL_FUNC_signature_sign_fn mldsa_sign;
static OSSL_FUNC_signature_verify_message_init_fn mldsa_verify_init;
static OSSL_FUNC_signature_verify_message_final_fn mldsa_verify_final;
static OSSL_FUNC_signature_verify_fn mldsa_verify;
static OSSL_FUNC_signature_digest_sign_init_fn mldsa_digest_sign_init;
static OSSL_FUNC_signature_digest_verify_init_fn mldsa_digest_verify_init;
static OSSL_FUNC_signature_freectx_fn mldsa_freectx;
static OSSL_FUNC_signature_dupctx_fn mldsa_dupctx;
static OSSL_FUNC_signature_get_ctx_params_fn mldsa_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn mldsa_gettable_ctx_params;
static OSSL_FUNC_signature_set_ctx_params_fn mldsa_set_ctx_params;
static OSSL_FUNC_signature_settable_ctx_params_fn mldsa_settable_ctx_params;

struct mldsa {
	struct sig base; /* md, hash: SHAKE256, towards mu */
	const struct keytype *type;
	struct sig_given given;
	uint8_t context[CONTEXT_MAX];
	size_t context_n;
	int raw;     /* the message is taken as it is, not encoded with a context */
	int mu;      /* what comes is mu itself */
};

static void *newctx(void *provctx, const struct keytype *type)
{
	struct mldsa *c = sig_newctx(provctx, sizeof *c);

	if (c != NULL)
		c->type = type;
	return c;
}

static void mldsa_freectx(void *vctx)
{
	struct mldsa *c = vctx;

	if (c == NULL)
		return;
	sig_given_free(&c->given);
	sig_freectx(c);
}

static void *mldsa_dupctx(void *vctx)
{
	struct mldsa *from = vctx, *to = sig_dupctx(from, sizeof *to);

	if (to == NULL || sig_given_dup(&to->given, &from->given))
		return to;
	mldsa_freectx(to);
	return NULL;
}

/* ---- mu ---- */

static int mu_begin(struct mldsa *c)
{
	uint8_t pub[PUBLIC_MAX], tr[MU_LEN], head[2] = { 0, (uint8_t)c->context_n };
	EVP_MD_CTX *h;
	size_t n = 0;

	if (!sig_choose_digest(&c->base, "SHAKE256") ||
	    !EVP_PKEY_get_octet_string_param(c->base.key->pub, OSSL_PKEY_PARAM_PUB_KEY, pub,
	                                     sizeof pub, &n) ||
	    !sig_hash_begin(&c->base))
		return 0;
	h = c->base.hash;
	return EVP_DigestUpdate(h, pub, n) && EVP_DigestFinalXOF(h, tr, sizeof tr) &&
	       sig_hash_begin(&c->base) && EVP_DigestUpdate(h, tr, sizeof tr) &&
	       (c->raw || (EVP_DigestUpdate(h, head, sizeof head) &&
	                   EVP_DigestUpdate(h, c->context, c->context_n)));
}

static int mldsa_update(void *vctx, const unsigned char *data, size_t n)
{
	struct mldsa *c = vctx;

	if (c->mu)
		return prov_raise_text(c->base.prov, TAO_EINVAL, "mu has to be signed in one step");
	return (c->base.begun || mu_begin(c)) && EVP_DigestUpdate(c->base.hash, data, n);
}

static int mu_end(struct mldsa *c, uint8_t mu[MU_LEN])
{
	int good = (c->base.begun || mu_begin(c)) && EVP_DigestFinalXOF(c->base.hash, mu, MU_LEN);

	c->base.begun = 0;
	return good;
}

/* Of a message that is there as a whole, or mu itself. */
static int mu_of(struct mldsa *c, const uint8_t *data, size_t n, uint8_t mu[MU_LEN])
{
	if (!c->mu)
		return mu_begin(c) && EVP_DigestUpdate(c->base.hash, data, n) && mu_end(c, mu);
	if (n != MU_LEN)
		return prov_raise_text(c->base.prov, TAO_EINVAL, "mu has %d bytes, not %zu", MU_LEN,
		                       n);
	memcpy(mu, data, MU_LEN);
	return 1;
}

/* ---- signing ---- */

static int init(struct mldsa *c, void *key, int to_sign, const OSSL_PARAM params[])
{
	c->base.begun = 0;
	c->mu = 0;
	return sig_take_key(&c->base, key, to_sign) && c->base.key->type == c->type &&
	       mldsa_set_ctx_params(c, params);
}

static int mldsa_sign_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init(vctx, key, 1, params);
}

static int sign_mu(struct mldsa *c, const uint8_t mu[MU_LEN], uint8_t *sig, size_t *sig_n,
                   size_t room)
{
	struct opaque_how how = { .mu = 1 };

	return sig_by_host(&c->base, &how, mu, MU_LEN, sig, sig_n, room);
}

static int mldsa_sign(void *vctx, unsigned char *sig, size_t *sig_n, size_t room,
                      const unsigned char *data, size_t n)
{
	struct mldsa *c = vctx;
	struct opaque_how whole = { .message = 1 };
	uint8_t mu[MU_LEN];

	if (sig == NULL) {
		*sig_n = sig_max(&c->base);
		return 1;
	}
	if (!c->mu && !c->raw && c->context_n == 0 && n <= SIG_MESSAGE_MAX)
		return sig_by_host(&c->base, &whole, data, n, sig, sig_n, room);
	return mu_of(c, data, n, mu) && sign_mu(c, mu, sig, sig_n, room);
}

static int mldsa_sign_final(void *vctx, unsigned char *sig, size_t *sig_n, size_t room)
{
	struct mldsa *c = vctx;
	uint8_t mu[MU_LEN];

	if (sig == NULL) {
		*sig_n = sig_max(&c->base);
		return 1;
	}
	return mu_end(c, mu) && sign_mu(c, mu, sig, sig_n, room);
}

static int no_digest(const struct mldsa *c, const char *digest)
{
	if (digest == NULL || digest[0] == 0)
		return 1;
	return prov_raise_text(c->base.prov, PROV_RDIGEST, "ML-DSA signs whole messages, without a "
	                       "digest such as %.40s", digest);
}

static int mldsa_digest_sign_init(void *vctx, const char *digest, void *key,
                                  const OSSL_PARAM params[])
{
	return no_digest(vctx, digest) && init(vctx, key, 1, params);
}

/* ---- verifying ---- */

static int mldsa_verify_init(void *vctx, void *key, const OSSL_PARAM params[])
{
	return init(vctx, key, 0, params);
}

static int mldsa_digest_verify_init(void *vctx, const char *digest, void *key,
                                    const OSSL_PARAM params[])
{
	return no_digest(vctx, digest) && init(vctx, key, 0, params);
}

static int verify_mu(const struct mldsa *c, const uint8_t mu[MU_LEN], const uint8_t *sig,
                     size_t sig_n)
{
	int yes = 1, good;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_MU, &yes), OSSL_PARAM_construct_end()
	};
	EVP_MD_CTX *m;

	ERR_set_mark();
	m = EVP_MD_CTX_new();
	good = m != NULL && EVP_DigestVerifyInit_ex(m, NULL, NULL, c->base.prov->inner->libctx,
	                                            NULL, c->base.key->pub, params) > 0 &&
	       EVP_DigestVerify(m, sig, sig_n, mu, MU_LEN) == 1;
	EVP_MD_CTX_free(m);
	ERR_pop_to_mark();
	return good;
}

static int mldsa_verify(void *vctx, const unsigned char *sig, size_t sig_n,
                        const unsigned char *data, size_t n)
{
	struct mldsa *c = vctx;
	uint8_t mu[MU_LEN];

	return mu_of(c, data, n, mu) && verify_mu(c, mu, sig, sig_n);
}

static int mldsa_verify_final(void *vctx)
{
	struct mldsa *c = vctx;
	uint8_t mu[MU_LEN];

	return mu_end(c, mu) && verify_mu(c, mu, c->given.p, c->given.n);
}

/* ---- parameters ---- */

static int mldsa_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	/* { 2.16.840.1.101.3.4.3.17 }, ...18 and ...19, RFC 9881. */
	uint8_t id[] = { 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17 };
	const struct mldsa *c = vctx;
	OSSL_PARAM *q = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);

	id[ALGORITHM_LAST] = c->type == &keytype_mldsa44 ? 17 : c->type == &keytype_mldsa65
	                     ? 18 : 19;
	return q == NULL || OSSL_PARAM_set_octet_string(q, id, sizeof id);
}

static const OSSL_PARAM *mldsa_gettable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0), OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

static int take_int(const OSSL_PARAM params[], const char *name, int *to)
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, name);

	return q == NULL || OSSL_PARAM_get_int(q, to);
}

static int take_context(struct mldsa *c, const OSSL_PARAM params[])
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_CONTEXT_STRING);
	void *to = c->context;

	return q == NULL || OSSL_PARAM_get_octet_string(q, &to, sizeof c->context, &c->context_n);
}

static int mldsa_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	struct mldsa *c = vctx;
	int encoded = !c->raw, deterministic = 0;

	if (params == NULL || params[0].key == NULL)
		return 1;
	if (c->base.begun)
		return prov_raise_text(c->base.prov, TAO_EINVAL,
		                       "part of the message is hashed already: "
		                       "context and encoding cannot change any more");
	if (!prov_params_whole(c->base.prov, params))
		return 0;
	if (!take_context(c, params) || !take_int(params, OSSL_SIGNATURE_PARAM_MU, &c->mu) ||
	    !take_int(params, OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING, &encoded) ||
	    !take_int(params, OSSL_SIGNATURE_PARAM_DETERMINISTIC, &deterministic))
		return 0;
	c->raw = !encoded;
	if (deterministic)
		return prov_raise_text(c->base.prov, TAO_EINVAL,
		                       "a Tao host signs with ML-DSA hedged, never "
		                       "deterministically: leave this parameter out");
	return sig_given_take(&c->given, params);
}

static const OSSL_PARAM *mldsa_settable_ctx_params(void *vctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_CONTEXT_STRING, NULL, 0),
		OSSL_PARAM_int(OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING, NULL),
		OSSL_PARAM_int(OSSL_SIGNATURE_PARAM_MU, NULL),
		OSSL_PARAM_int(OSSL_SIGNATURE_PARAM_DETERMINISTIC, NULL),
		OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_SIGNATURE, NULL, 0),
		OSSL_PARAM_END
	};

	(void)vctx;
	(void)provctx;
	return table;
}

#define ENTRY(id, fn) { OSSL_FUNC_SIGNATURE_##id, (void (*)(void))mldsa_##fn }

#define MLDSA(n) \
	static OSSL_FUNC_signature_newctx_fn mldsa_newctx##n; \
	static void *mldsa_newctx##n(void *provctx, const char *propq) \
	{ \
		(void)propq; /* of the application's context; ours is the inner one */ \
		return newctx(provctx, &keytype_mldsa##n); \
	} \
	const OSSL_DISPATCH prov_mldsa##n##_sig[] = { \
		ENTRY(NEWCTX, newctx##n), \
		ENTRY(SIGN, sign), \
		ENTRY(VERIFY, verify), \
		ENTRY(DIGEST_SIGN_INIT, digest_sign_init), \
		ENTRY(DIGEST_SIGN, sign), \
		ENTRY(DIGEST_VERIFY_INIT, digest_verify_init), \
		ENTRY(DIGEST_VERIFY, verify), \
		ENTRY(FREECTX, freectx), \
		ENTRY(DUPCTX, dupctx), \
		ENTRY(GET_CTX_PARAMS, get_ctx_params), \
		ENTRY(GETTABLE_CTX_PARAMS, gettable_ctx_params), \
		ENTRY(SET_CTX_PARAMS, set_ctx_params), \
		ENTRY(SETTABLE_CTX_PARAMS, settable_ctx_params), \
		ENTRY(SIGN_MESSAGE_INIT, sign_init), \
		ENTRY(SIGN_MESSAGE_UPDATE, update), \
		ENTRY(SIGN_MESSAGE_FINAL, sign_final), \
		ENTRY(VERIFY_MESSAGE_INIT, verify_init), \
		ENTRY(VERIFY_MESSAGE_UPDATE, update), \
		ENTRY(VERIFY_MESSAGE_FINAL, verify_final), \
		{ 0, NULL } \
	};

MLDSA(44)
MLDSA(65)
MLDSA(87)
