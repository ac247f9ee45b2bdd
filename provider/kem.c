/* The KEM of both groups: a server encapsulates, a client decapsulates. */
#include "group.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

static OSSL_FUNC_kem_newctx_fn kem_newctx;
static OSSL_FUNC_kem_freectx_fn kem_freectx;
static OSSL_FUNC_kem_dupctx_fn kem_dupctx;
static OSSL_FUNC_kem_encapsulate_init_fn kem_encapsulate_init;
static OSSL_FUNC_kem_encapsulate_fn kem_encapsulate;
static OSSL_FUNC_kem_decapsulate_init_fn kem_decapsulate_init;
static OSSL_FUNC_kem_decapsulate_fn kem_decapsulate;

struct kem {
	struct prov *prov;
	struct group_key *key;
};

static void *kem_newctx(void *provctx)
{
	struct kem *c = calloc(1, sizeof *c);

	if (c != NULL)
		c->prov = provctx;
	return c;
}

static void kem_freectx(void *vctx)
{
	struct kem *c = vctx;

	if (c == NULL)
		return;
	group_key_free(c->key);
	free(c);
}

static void *kem_dupctx(void *vctx)
{
	const struct kem *from = vctx;
	struct kem *to = kem_newctx(from->prov);

	if (to != NULL && from->key != NULL)
		to->key = group_key_up_ref(from->key);
	return to;
}

static int take_key(struct kem *c, struct group_key *k)
{
	group_key_up_ref(k);
	group_key_free(c->key);
	c->key = k;
	return 1;
}

static int kem_encapsulate_init(void *vctx, void *provkey, const OSSL_PARAM params[])
{
	struct group_key *k = provkey;

	(void)params;
	return k != NULL && k->share_n > 0 && take_key(vctx, k);
}

static int kem_decapsulate_init(void *vctx, void *provkey, const OSSL_PARAM params[])
{
	struct group_key *k = provkey;

	(void)params;
	if (k == NULL || k->share_n == 0)
		return 0;
	if (k->pair.x25519 == NULL)
		return prov_raise_reason(k->prov, PROV_RNOPRIVATE);
	return take_key(vctx, k);
}

/* Whoever is first: the host tells no two peers for one share. */
static void name_peer(struct group_key *k, struct group_peer *peer)
{
	struct group_peer *none = NULL;

	if (!atomic_compare_exchange_strong(&k->peer, &none, peer))
		group_peer_free(peer);
}

/* What X25519 costs here is done while the host makes the salt. */
struct agreement {
	struct group_key *key;
	const uint8_t *peer; /* public part */
	struct mix_pair pair;
	struct mix_ikm ikm;
	enum tao_err e;
};

/* The secret, when the host has answered. */
static enum tao_err conclude(struct agreement *a, const uint8_t salt[MIX_SECRET], uint8_t *secret)
{
	return a->e == TAO_OK
	       ? mix_extract(&a->key->prov->inner->mix, &a->ikm, salt, secret) : a->e;
}

/* ---- server ---- */

static void answer(void *arg)
{
	struct agreement *a = arg;
	const struct group_key *k = a->key;

	a->e = mix_answer_end(&k->prov->inner->mix, k->group->hybrid, a->peer, &a->pair, &a->ikm);
}

static enum tao_err encapsulate(struct group_key *k, uint8_t *share, uint8_t *secret)
{
	const struct group *g = k->group;
	uint8_t salt[MIX_SECRET], pub[GROUP_PUBLIC_MAX];
	struct agreement a = { .key = k, .peer = k->share, .e = TAO_ECRYPTO };
	struct tao_meanwhile w = { answer, &a, 0 };
	struct group_peer *peer = NULL;
	enum tao_err e = mix_check(g->hybrid, 0, k->share);

	if (e == TAO_OK)
		e = mix_answer(&k->prov->inner->mix, g->hybrid, k->share, &a.pair, pub, &a.ikm);
	if (e == TAO_OK)
		e = group_ask_server(k->prov, g, k->share, pub, &w, share, salt, &peer);
	if (e == TAO_OK)
		e = conclude(&a, salt, secret);
	if (e == TAO_OK)
		name_peer(k, peer);
	else
		group_peer_free(peer);
	mix_pair_free(&a.pair);
	OPENSSL_cleanse(&a.ikm, sizeof a.ikm);
	OPENSSL_cleanse(salt, sizeof salt);
	return e;
}

static int kem_encapsulate(void *vctx, unsigned char *out, size_t *out_n, unsigned char *secret,
                           size_t *secret_n)
{
	struct kem *c = vctx;
	size_t need, room = out_n != NULL ? *out_n : 0, secret_room = secret_n != NULL ? *secret_n : 0;
	enum tao_err e;

	if (c->key == NULL)
		return 0;
	need = c->key->group->server_public + GROUP_TAIL;
	if (out_n != NULL)
		*out_n = need;
	if (secret_n != NULL)
		*secret_n = MIX_SECRET;
	if (out == NULL)
		return 1;
	if (secret == NULL || room < need || secret_room < MIX_SECRET)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "%s needs room for a share of %zu bytes and a "
		                       "secret of %d", c->key->group->name, need, MIX_SECRET);
	e = encapsulate(c->key, out, secret);
	if (e == TAO_OK)
		return 1;
	OPENSSL_cleanse(secret, MIX_SECRET);
	return group_raise(c->prov, e);
}

/* ---- client ---- */

static void finish(void *arg)
{
	struct agreement *a = arg;

	a->e = mix_finish(&a->key->prov->inner->mix, &a->key->pair, a->peer, &a->ikm);
}

static enum tao_err decapsulate(struct group_key *k, const uint8_t *in, size_t in_n,
                                uint8_t *secret)
{
	uint8_t salt[MIX_SECRET];
	struct agreement a = { .key = k, .e = TAO_ECRYPTO };
	struct tao_meanwhile w = { finish, &a, 0 };
	struct group_peer *peer = NULL;
	struct share s;
	enum tao_err e = group_share(k->group, 1, in, in_n, &s);

	if (e == TAO_OK)
		e = mix_check(k->group->hybrid, 1, s.pub);
	if (e != TAO_OK)
		return e;
	a.peer = s.pub;
	e = group_ask_client(k->prov, k->group, k->share, in, &w, salt, &peer);
	if (e == TAO_OK)
		e = conclude(&a, salt, secret);
	if (e == TAO_OK)
		name_peer(k, peer);
	else
		group_peer_free(peer);
	OPENSSL_cleanse(&a.ikm, sizeof a.ikm);
	OPENSSL_cleanse(salt, sizeof salt);
	return e;
}

static int kem_decapsulate(void *vctx, unsigned char *secret, size_t *secret_n,
                           const unsigned char *in, size_t in_n)
{
	struct kem *c = vctx;
	size_t room = secret_n != NULL ? *secret_n : 0;
	enum tao_err e;

	if (c->key == NULL || c->key->pair.x25519 == NULL)
		return 0;
	if (secret_n != NULL)
		*secret_n = MIX_SECRET;
	if (secret == NULL)
		return 1;
	if (room < MIX_SECRET)
		return prov_raise_text(c->prov, TAO_EINVAL,
		                       "%s needs room for a secret of %d bytes",
		                       c->key->group->name, MIX_SECRET);
	e = decapsulate(c->key, in, in_n, secret);
	if (e == TAO_OK)
		return 1;
	OPENSSL_cleanse(secret, MIX_SECRET);
	return group_raise(c->prov, e);
}

#define ENTRY(id, fn) { OSSL_FUNC_KEM_##id, (void (*)(void))kem_##fn }

const OSSL_DISPATCH prov_kem[] = {
	ENTRY(NEWCTX, newctx),
	ENTRY(FREECTX, freectx),
	ENTRY(DUPCTX, dupctx),
	ENTRY(ENCAPSULATE_INIT, encapsulate_init),
	ENTRY(ENCAPSULATE, encapsulate),
	ENTRY(DECAPSULATE_INIT, decapsulate_init),
	ENTRY(DECAPSULATE, decapsulate),
	{ 0, NULL }
};
