#include "peers.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>
#include <openssl/crypto.h>

#include "../domain/fact.h"

#define BUCKETS 4096
#define PAIRS_MAX 65536   /* pairs that are remembered, of all epochs; their clients' users
                           * share them */
#define IDLE_SECONDS 600  /* a pair that nobody asked for is forgotten */

/* A client and a server in one epoch. */
struct pair {
	struct pair *next;
	uint32_t epoch;
	uint8_t c[TAO_HASH_LEN], s[TAO_HASH_LEN];
	uint64_t version;  /* of the rules, when allowed was found out */
	int allowed, has_key;
	uint8_t key[TLSKEYS_LEN];
	int64_t used;      /* loop_now() */
	struct spent spent;
	char *why;         /* if not allowed */
};

/* ---- pairs ---- */

static struct pair **bucket(struct peers *ps, const uint8_t *c, const uint8_t *s)
{
	unsigned v = (unsigned)(c[0] ^ s[1]) << 8 | (c[2] ^ s[3]);

	return &ps->pairs[v % BUCKETS];
}

/* Lock held. */
static struct pair *find_pair(struct peers *ps, uint32_t epoch, const struct principal *c,
                              const struct principal *s)
{
	struct pair *p = *bucket(ps, c->hash, s->hash);

	while (p != NULL && (p->epoch != epoch || memcmp(p->c, c->hash, TAO_HASH_LEN) != 0 ||
	                     memcmp(p->s, s->hash, TAO_HASH_LEN) != 0))
		p = p->next;
	return p;
}

static void wipe_key(struct pair *p)
{
	OPENSSL_cleanse(p->key, sizeof p->key);
	p->has_key = 0;
}

static void free_pair(struct peers *ps, struct pair *p)
{
	wipe_key(p);
	nonces_clear(ps->nonces, &p->spent);
	share_give(&ps->room, p->spent.uid, 1);
	free(p->why);
	free(p);
}

/* Lock held. */
static struct pair *add_pair(struct peers *ps, uint32_t epoch, const struct principal *c,
                             const struct principal *s)
{
	struct pair **at = bucket(ps, c->hash, s->hash), *p = calloc(1, sizeof *p);

	if (p == NULL || !share_take(&ps->room, c->uid)) {
		free(p);
		return NULL;
	}
	p->epoch = epoch;
	p->spent.uid = c->uid;
	memcpy(p->c, c->hash, TAO_HASH_LEN);
	memcpy(p->s, s->hash, TAO_HASH_LEN);
	p->next = *at;
	*at = p;
	return p;
}

/* What is known of the pair, at this version of the rules. 0: it has to be found out. Lock held. */
static int known(struct pair *p, uint64_t version, uint8_t *key, enum tao_err *e)
{
	if (p == NULL || p->version != version || (p->allowed && key != NULL && !p->has_key))
		return 0;
	p->used = loop_now();
	*e = TAO_OK;
	if (!p->allowed)
		*e = tao_fail(TAO_EDENIED, "%s", p->why != NULL ? p->why : tao_err_text(TAO_EDENIED));
	else if (key != NULL)
		memcpy(key, p->key, TLSKEYS_LEN);
	return 1;
}

/* Lock held. A refusal is remembered only while there is room for those that are allowed. */
static enum tao_err remember(struct peers *ps, uint32_t epoch, const struct principal *c,
                             const struct principal *s, uint64_t version, const uint8_t *key,
                             enum tao_err verdict)
{
	struct pair *p = find_pair(ps, epoch, c, s);

	if (p == NULL && (verdict == TAO_OK || ps->room.used < PAIRS_MAX / 2))
		p = add_pair(ps, epoch, c, s);
	if (p == NULL)
		return verdict != TAO_OK ? verdict
		       : tao_fail(TAO_ELIMIT, "the programs of this client's user talk to too many "
		                  "others");
	wipe_key(p);
	free(p->why);
	p->why = verdict != TAO_OK ? strdup(tao_why()) : NULL;
	p->allowed = verdict == TAO_OK;
	p->version = version;
	p->used = loop_now();
	if (p->allowed && key != NULL) {
		memcpy(p->key, key, TLSKEYS_LEN);
		p->has_key = 1;
	}
	return verdict;
}

enum tao_err peers_pair(struct host *h, uint32_t epoch, struct principal *c, struct principal *s,
                        uint8_t key[TLSKEYS_LEN])
{
	struct peers *ps = h->peers;
	uint64_t version = domain_rules_version(h->domain); /* before they are asked */
	enum tao_err e = TAO_OK;
	int is_known;

	pthread_mutex_lock(&ps->lock);
	is_known = known(find_pair(ps, epoch, c, s), version, key, &e);
	pthread_mutex_unlock(&ps->lock);
	if (is_known)
		return e;
	e = domain_may_connect(h->domain, c->node, s->node);
	if (e == TAO_OK && key != NULL) {
		e = ps->ancestor.fn->pair_key(ps->ancestor.data, epoch, c, s, key);
		if (e != TAO_OK)
			return e;
	}
	if (e != TAO_OK && e != TAO_EDENIED)
		return e;
	pthread_mutex_lock(&ps->lock);
	e = remember(ps, epoch, c, s, version, key, e);
	pthread_mutex_unlock(&ps->lock);
	if (e != TAO_OK && key != NULL)
		OPENSSL_cleanse(key, TLSKEYS_LEN);
	return e;
}

enum tao_err peers_spend(struct host *h, const struct tlskeys_identity *id, int64_t time,
                         const struct principal *c, const struct principal *s)
{
	struct peers *ps = h->peers;
	struct pair *p;
	enum tao_err e;

	pthread_mutex_lock(&ps->lock);
	p = find_pair(ps, id->epoch, c, s);
	e = p != NULL ? nonces_spend_identity(ps->nonces, &p->spent, time, id->nonce)
	              : tao_fail(TAO_EDENIED, "the rules have changed meanwhile: try again");
	pthread_mutex_unlock(&ps->lock);
	return e;
}

/* Lock held. What was spent is forgotten in its time only. */
static int is_idle(struct peers *ps, const struct pair *p, int64_t now)
{
	if (p->spent.n > 0)
		return 0;
	return loop_now() - p->used > IDLE_SECONDS ||
	       ps->ancestor.fn->accepts(ps->ancestor.data, now, p->epoch) != TAO_OK;
}

static void sweep(struct peers *ps, int64_t now)
{
	pthread_mutex_lock(&ps->lock);
	for (size_t b = 0; b < BUCKETS; b++)
		for (struct pair **at = &ps->pairs[b]; *at != NULL;) {
			struct pair *p = *at;

			nonces_sweep_identities(ps->nonces, &p->spent, now);
			if (ps->ancestor.fn->accepts(ps->ancestor.data, now, p->epoch) != TAO_OK)
				wipe_key(p);
			if (!is_idle(ps, p, now)) {
				at = &p->next;
				continue;
			}
			*at = p->next;
			free_pair(ps, p);
		}
	pthread_mutex_unlock(&ps->lock);
}

void peers_purge(struct host *h)
{
	struct peers *ps = h->peers;

	pthread_mutex_lock(&ps->lock);
	for (size_t b = 0; b < BUCKETS; b++)
		for (struct pair *p = ps->pairs[b]; p != NULL; p = p->next) {
			wipe_key(p);
			p->version = 0;
		}
	pthread_mutex_unlock(&ps->lock);
	cards_purge(ps->cards, NULL);
}

/* ---- programs ---- */

enum tao_err peers_not_revoked(struct host *h, struct instance *i)
{
	uint64_t version = domain_rules_version(h->domain);
	enum tao_err e;

	if (atomic_load_explicit(&i->unrevoked, memory_order_relaxed) == version)
		return TAO_OK;
	e = domain_not_revoked(h->domain, instance_name(i), NULL);
	if (e == TAO_OK)
		atomic_store_explicit(&i->unrevoked, version, memory_order_relaxed);
	return e;
}

/* Lock held. */
static void leave(struct peers *ps, struct instance *i)
{
	if (i->principal != NULL)
		ps->ancestor.fn->leave(ps->ancestor.data, i->principal);
	principal_unref(i->principal);
	i->principal = NULL;
}

/* Lock held. */
static enum tao_err rename_to(struct peers *ps, struct instance *i, const struct tao_node *name)
{
	struct principal *p = NULL;
	enum tao_err e = principal_new(name, &p);

	if (e == TAO_OK)
		e = ps->ancestor.fn->enter(ps->ancestor.data, p);
	if (e != TAO_OK) {
		principal_unref(p);
		return e;
	}
	leave(ps, i);
	i->principal = p;
	i->principal_of = name;
	return TAO_OK;
}

enum tao_err peers_principal(struct host *h, struct instance *i, struct principal **out)
{
	const struct tao_node *name = instance_name(i);
	struct peers *ps = h->peers;
	enum tao_err e = TAO_OK;

	*out = NULL;
	pthread_mutex_lock(&ps->lock);
	if (i->principal_over)
		e = tao_fail(TAO_ENOTFOUND, "the program has ended");
	else if (i->principal == NULL || i->principal_of != name)
		e = rename_to(ps, i, name);
	if (e == TAO_OK)
		*out = principal_ref(i->principal);
	pthread_mutex_unlock(&ps->lock);
	return e;
}

void peers_instance_end(struct host *h, struct instance *i)
{
	struct peers *ps = h->peers;

	if (ps == NULL)
		return;
	pthread_mutex_lock(&ps->lock);
	leave(ps, i);
	i->principal_over = 1;
	pthread_mutex_unlock(&ps->lock);
	nonces_clear(ps->nonces, &i->shares);
	cards_purge(ps->cards, i);
}

void peers_instance_free(struct instance *i)
{
	struct spent_room room = { .mix = 1 };

	principal_unref(i->principal);
	spent_clear(&i->shares, &room);
}

/* ---- epochs, names ---- */

const struct tao_ancestor *peers_ancestor(struct host *h)
{
	return &h->peers->ancestor;
}

uint32_t peers_now(struct host *h)
{
	return h->peers->ancestor.fn->epoch(h->peers->ancestor.data, time(NULL));
}

int peers_clock_was_set_back(struct host *h, int64_t now)
{
	return nonces_floor(h->peers->nonces) > now + PEERS_TIME;
}

enum tao_err peers_name(const char *name, char out[PEERS_DNS_MAX + 1])
{
	size_t n = strlen(name);
	struct in6_addr address;

	if (n > 1 && name[n - 1] == '.')
		n--;
	if (n == 0 || n > PEERS_DNS_MAX)
		return tao_fail(TAO_EINVAL, "a name has 1 to %d characters", PEERS_DNS_MAX);
	for (size_t i = 0; i < n; i++)
		out[i] = (char)tolower((unsigned char)name[i]);
	out[n] = 0;
	if (out[0] != '*' && (fact_dns_name(out, n) || inet_pton(AF_INET, out, &address) == 1 ||
	                      inet_pton(AF_INET6, out, &address) == 1))
		return TAO_OK;
	return tao_fail(TAO_EINVAL, "this is neither a DNS name nor an address");
}

enum tao_err peers_epoch(struct host *h, uint32_t epoch, int slow)
{
	const struct tao_ancestor *a = &h->peers->ancestor;
	int64_t now = time(NULL);
	enum tao_err e = a->fn->accepts(a->data, now, epoch);

	if (e != TAO_OK || a->fn->ready(a->data, epoch))
		return e;
	if (epoch < a->fn->epoch(a->data, now)) /* nothing can have been made in it */
		return tao_fail(TAO_EEXPIRED, "the keys of epoch %u are not there any more", epoch);
	/* The clock was set, or the watch was late. */
	return slow ? a->fn->prepare(a->data, now) : OP_LATER;
}

/* ---- with the host ---- */

static void say(const char *level, const char *why)
{
	host_log(level, "keys of channels: %s", why);
}

enum tao_err peers_start(struct host *h)
{
	char *dir = host_path(&h->conf, "host/channel");
	struct peers *ps = calloc(1, sizeof *ps);
	struct ancestor_conf c = {
		.dir = dir, .seconds = h->conf.channel_epoch, .overlap = h->conf.channel_overlap,
		.name = h->name, .sealer = &h->sealer, .say = say,
	};
	enum tao_err e = ps != NULL && dir != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK) {
		h->peers = ps;
		pthread_mutex_init(&ps->lock, NULL);
		ps->pairs = calloc(BUCKETS, sizeof *ps->pairs);
		ps->room.max = PAIRS_MAX;
		ps->cards = cards_new();
		ps->shown = shown_new();
		e = nonces_new(&h->conf, &ps->nonces);
	}
	if (e == TAO_OK)
		e = tlskeys_new(&ps->keys);
	if (e == TAO_OK && (ps->pairs == NULL || ps->cards == NULL || ps->shown == NULL))
		e = tao_fail_nomem();
	if (e == TAO_OK)
		e = ancestor_local_new(&c, time(NULL), &ps->ancestor);
	if (h->peers == NULL)
		free(ps);
	free(dir);
	return e;
}

void peers_free(struct host *h)
{
	struct peers *ps = h->peers;

	if (ps == NULL)
		return;
	for (size_t b = 0; ps->pairs != NULL && b < BUCKETS; b++)
		while (ps->pairs[b] != NULL) {
			struct pair *p = ps->pairs[b];

			ps->pairs[b] = p->next;
			free_pair(ps, p);
		}
	free(ps->pairs);
	cards_free(ps->cards);
	shown_free(ps->shown);
	nonces_free(ps->nonces);
	tlskeys_free(ps->keys);
	ancestor_clear(&ps->ancestor);
	pthread_mutex_destroy(&ps->lock);
	free(ps);
	h->peers = NULL;
}

static void watch(struct host *h)
{
	struct peers *ps = h->peers;

	if (ps->ancestor.fn->prepare(ps->ancestor.data, time(NULL)) != TAO_OK)
		host_log("error", "keys of channels: %s", tao_why());
	sweep(ps, time(NULL));
}

enum tao_err peers_watch(struct host *h)
{
	return timer_add(h, h->conf.channel_epoch / 4, watch);
}
