/* Key shares of the groups of Tao channels. Ephemeral: they are neither imported nor exported. */
#include "provider/group.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include "tao/logic.h"

#define WORD_MAX 50 /* bytes of a group's name, as in libssl */

static OSSL_FUNC_keymgmt_new_fn x25519_new;
static OSSL_FUNC_keymgmt_new_fn mlkem_new;
static OSSL_FUNC_keymgmt_free_fn gk_free;
static OSSL_FUNC_keymgmt_dup_fn gk_dup;
static OSSL_FUNC_keymgmt_has_fn gk_has;
static OSSL_FUNC_keymgmt_match_fn gk_match;
static OSSL_FUNC_keymgmt_get_params_fn gk_get_params;
static OSSL_FUNC_keymgmt_gettable_params_fn gk_gettable_params;
static OSSL_FUNC_keymgmt_set_params_fn gk_set_params;
static OSSL_FUNC_keymgmt_settable_params_fn gk_settable_params;
static OSSL_FUNC_keymgmt_gen_init_fn x25519_gen_init;
static OSSL_FUNC_keymgmt_gen_init_fn mlkem_gen_init;
static OSSL_FUNC_keymgmt_gen_set_params_fn gk_gen_set_params;
static OSSL_FUNC_keymgmt_gen_settable_params_fn gk_gen_settable_params;
static OSSL_FUNC_keymgmt_gen_fn gk_gen;
static OSSL_FUNC_keymgmt_gen_cleanup_fn gk_gen_cleanup;

/* ---- life ---- */

static struct group_key *gk_new(struct prov *p, const struct group *g)
{
	struct group_key *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	atomic_init(&k->refs, 1);
	k->prov = p;
	k->group = g;
	return k;
}

static void *x25519_new(void *provctx)
{
	return gk_new(provctx, &group_x25519);
}

static void *mlkem_new(void *provctx)
{
	return gk_new(provctx, &group_mlkem);
}

struct group_key *group_key_up_ref(struct group_key *k)
{
	atomic_fetch_add(&k->refs, 1);
	return k;
}

void group_key_free(struct group_key *k)
{
	if (k == NULL || atomic_fetch_sub(&k->refs, 1) > 1)
		return;
	prov_outlive_cleanup(k->prov);
	mix_pair_free(&k->pair);
	group_peer_free(atomic_load(&k->peer));
	free(k);
}

static void gk_free(void *keydata)
{
	group_key_free(keydata);
}

static struct group_peer *peer_dup(const struct group_key *k)
{
	const struct group_peer *from = atomic_load(&k->peer);
	struct group_peer *to = from != NULL ? malloc(sizeof *to + from->n) : NULL;

	if (to != NULL)
		memcpy(to, from, sizeof *to + from->n);
	return to;
}

/* Parameters alone are what libssl copies when it makes room for a share. */
static void *gk_dup(const void *keydata, int selection)
{
	const struct group_key *from = keydata;
	struct group_key *to = gk_new(from->prov, from->group);

	if (to == NULL || !(selection & OSSL_KEYMGMT_SELECT_KEYPAIR))
		return to;
	to->share_n = from->share_n;
	memcpy(to->share, from->share, from->share_n);
	atomic_store(&to->peer, peer_dup(from));
	if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) {
		to->pair = from->pair;
		mix_pair_share(&to->pair);
	}
	if (atomic_load(&from->peer) == NULL || atomic_load(&to->peer) != NULL)
		return to;
	group_key_free(to);
	return NULL;
}

static int gk_has(const void *keydata, int selection)
{
	const struct group_key *k = keydata;

	if (k == NULL)
		return 0;
	if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && k->pair.x25519 == NULL)
		return 0;
	return !(selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) || k->share_n > 0;
}

static int gk_match(const void *keydata1, const void *keydata2, int selection)
{
	const struct group_key *a = keydata1, *b = keydata2;

	if (a->group != b->group)
		return 0;
	return !(selection & OSSL_KEYMGMT_SELECT_KEYPAIR) ||
	       (a->share_n > 0 && a->share_n == b->share_n &&
	        memcmp(a->share, b->share, a->share_n) == 0);
}

/* ---- parameters ---- */

static const OSSL_PARAM gettable[] = {
	OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
	OSSL_PARAM_utf8_string(GROUP_PARAM_NAME, NULL, 0),
	OSSL_PARAM_octet_string(GROUP_PARAM_PRINCIPAL, NULL, 0),
	OSSL_PARAM_END
};

static const OSSL_PARAM *gk_gettable_params(void *provctx)
{
	(void)provctx;
	return gettable;
}

static int get_numbers(const struct group_key *k, OSSL_PARAM params[])
{
	const struct group *g = k->group;
	const struct {
		const char *name;
		int value;
	} numbers[] = {
		{ OSSL_PKEY_PARAM_BITS, g->bits },
		{ OSSL_PKEY_PARAM_SECURITY_BITS, g->security_bits },
		{ OSSL_PKEY_PARAM_MAX_SIZE, (int)(g->client_public + GROUP_TAIL) },
	};

	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		OSSL_PARAM *q = OSSL_PARAM_locate(params, numbers[i].name);

		if (q != NULL && !OSSL_PARAM_set_int(q, numbers[i].value))
			return 0;
	}
	return 1;
}

/* Made when asked for: handshakes do not need it. */
static int get_peer_text(const struct group_peer *peer, OSSL_PARAM *q)
{
	struct tao_node *prin = NULL;
	char *text = NULL;
	int good;

	if (tao_prin_decode(peer->name, peer->n, &prin) == TAO_OK)
		text = tao_node_text(prin);
	good = text != NULL && OSSL_PARAM_set_utf8_string(q, text);
	free(text);
	tao_node_free(prin);
	return good;
}

static int get_peer(const struct group_key *k, OSSL_PARAM params[])
{
	OSSL_PARAM *text = OSSL_PARAM_locate(params, GROUP_PARAM_NAME);
	OSSL_PARAM *bytes = OSSL_PARAM_locate(params, GROUP_PARAM_PRINCIPAL);
	const struct group_peer *peer = atomic_load(&k->peer);

	if (text == NULL && bytes == NULL)
		return 1;
	if (peer == NULL)
		return 0;
	return (text == NULL || get_peer_text(peer, text)) &&
	       (bytes == NULL || OSSL_PARAM_set_octet_string(bytes, peer->name, peer->n));
}

static int gk_get_params(void *keydata, OSSL_PARAM params[])
{
	const struct group_key *k = keydata;
	OSSL_PARAM *q = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_GROUP_NAME);

	if (q != NULL && !OSSL_PARAM_set_utf8_string(q, k->group->name))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
	if (q != NULL && (k->share_n == 0 || !OSSL_PARAM_set_octet_string(q, k->share, k->share_n)))
		return 0;
	return get_numbers(k, params) && get_peer(k, params);
}

static const OSSL_PARAM *gk_settable_params(void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
		OSSL_PARAM_END
	};

	(void)provctx;
	return table;
}

/* The client's share, which a server was sent. What has one already keeps it. */
static int gk_set_params(void *keydata, const OSSL_PARAM params[])
{
	struct group_key *k = keydata;
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
	const void *p;
	struct share s;
	size_t n;
	enum tao_err e;

	if (q == NULL)
		return 1;
	if (k->share_n > 0 || !prov_params_whole(k->prov, params) ||
	    !OSSL_PARAM_get_octet_string_ptr(q, &p, &n))
		return 0;
	e = group_share(k->group, 0, p, n, &s);
	if (e != TAO_OK)
		return group_raise(k->prov, e);
	memcpy(k->share, p, n);
	k->share_n = n;
	return 1;
}

/* ---- making one ---- */

struct gen {
	struct prov *prov;
	const struct group *group;
	int params_only; /* a server, which will set the client's share */
};

static struct gen *gen_new(struct prov *p, const struct group *g, int selection,
                           const OSSL_PARAM params[])
{
	struct gen *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->prov = p;
	c->group = g;
	c->params_only = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0;
	if (gk_gen_set_params(c, params))
		return c;
	free(c);
	return NULL;
}

static void *x25519_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
	return gen_new(provctx, &group_x25519, selection, params);
}

static void *mlkem_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
	return gen_new(provctx, &group_mlkem, selection, params);
}

static int gk_gen_set_params(void *genctx, const OSSL_PARAM params[])
{
	const struct gen *c = genctx;
	char name[WORD_MAX], *at = name;
	const OSSL_PARAM *q = params == NULL ? NULL :
		OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);

	return q == NULL || (OSSL_PARAM_get_utf8_string(q, &at, sizeof name) &&
	                     OPENSSL_strcasecmp(name, c->group->name) == 0);
}

static const OSSL_PARAM *gk_gen_settable_params(void *genctx, void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_END
	};

	(void)genctx;
	(void)provctx;
	return table;
}

static enum tao_err make(struct group_key *k)
{
	const struct group *g = k->group;
	enum tao_err e = group_tail(k->prov, k->share + g->client_public);

	if (e == TAO_OK)
		e = mix_begin(&k->prov->inner->mix, g->hybrid, &k->pair, k->share);
	if (e == TAO_OK)
		k->share_n = g->client_public + GROUP_TAIL;
	return e;
}

static void *gk_gen(void *genctx, OSSL_CALLBACK *cb, void *cbarg)
{
	const struct gen *c = genctx;
	struct group_key *k = gk_new(c->prov, c->group);
	enum tao_err e;

	(void)cb;
	(void)cbarg;
	if (k == NULL || c->params_only)
		return k;
	e = make(k);
	if (e == TAO_OK)
		return k;
	group_raise(c->prov, e);
	group_key_free(k);
	return NULL;
}

static void gk_gen_cleanup(void *genctx)
{
	free(genctx);
}

#define ENTRY(id, fn) { OSSL_FUNC_KEYMGMT_##id, (void (*)(void))fn }

#define DISPATCH(new, gen_init) { \
	ENTRY(NEW, new), \
	ENTRY(FREE, gk_free), \
	ENTRY(DUP, gk_dup), \
	ENTRY(HAS, gk_has), \
	ENTRY(MATCH, gk_match), \
	ENTRY(GET_PARAMS, gk_get_params), \
	ENTRY(GETTABLE_PARAMS, gk_gettable_params), \
	ENTRY(SET_PARAMS, gk_set_params), \
	ENTRY(SETTABLE_PARAMS, gk_settable_params), \
	ENTRY(GEN_INIT, gen_init), \
	ENTRY(GEN_SET_PARAMS, gk_gen_set_params), \
	ENTRY(GEN_SETTABLE_PARAMS, gk_gen_settable_params), \
	ENTRY(GEN, gk_gen), \
	ENTRY(GEN_CLEANUP, gk_gen_cleanup), \
	{ 0, NULL } \
}

const OSSL_DISPATCH prov_tao_x25519_keymgmt[] = DISPATCH(x25519_new, x25519_gen_init);
const OSSL_DISPATCH prov_tao_mlkem_keymgmt[] = DISPATCH(mlkem_new, mlkem_gen_init);
