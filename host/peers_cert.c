#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "peers.h"

#define PLACES 1024       /* cards, and services, at hand */
#define FRESH_SECONDS 300 /* a card is looked for again after so long: it may be renewed */
#define WHY_SECONDS 30    /* that there is none, or nobody */
#define NAME_BYTES 12     /* of a hash, in the name of a key */
#define EXACT_MAX 64      /* keys of a user that are for one exact name: above, those of programs
                           * that have ended go */

struct cards {
	pthread_mutex_t lock;
	struct card *card[PLACES];
	struct service *service[PLACES];
};

/* ---- cards and services ---- */

struct cards *cards_new(void)
{
	struct cards *c = calloc(1, sizeof *c);

	if (c != NULL)
		pthread_mutex_init(&c->lock, NULL);
	return c;
}

void card_unref(struct card *c)
{
	if (c == NULL || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	tao_buf_free(&c->cert);
	free(c->why);
	free(c);
}

void service_unref(struct service *s)
{
	if (s == NULL || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	instance_unref(s->inst);
	principal_unref(s->server);
	card_unref(s->card);
	free(s->name);
	free(s->why);
	free(s);
}

void cards_free(struct cards *c)
{
	if (c == NULL)
		return;
	cards_purge(c, NULL);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* References are given up behind the lock: an instance's last one frees much. */
void cards_purge(struct cards *c, const struct instance *i)
{
	for (size_t k = 0; k < PLACES; k++) {
		struct service *s;
		struct card *card = NULL;

		pthread_mutex_lock(&c->lock);
		s = c->service[k];
		if (i != NULL && s != NULL && s->inst != i)
			s = NULL;
		if (s != NULL)
			c->service[k] = NULL;
		if (i == NULL) {
			card = c->card[k];
			c->card[k] = NULL;
		}
		pthread_mutex_unlock(&c->lock);
		service_unref(s);
		card_unref(card);
	}
}

static size_t place_of(const uint8_t *hash, const char *name)
{
	size_t v = (size_t)hash[0] << 8 | hash[1];

	for (; name != NULL && *name != 0; name++)
		v = v * 31 + (uint8_t)*name;
	return v % PLACES;
}

/* ---- the key that every program has ---- */

enum tao_err peers_key_name_check(const char *name)
{
	if (strncmp(name, PEERS_KEY_PREFIX, strlen(PEERS_KEY_PREFIX)) != 0)
		return TAO_OK;
	return tao_fail(TAO_EINVAL, "keys whose names begin with " PEERS_KEY_PREFIX " are those that the "
	                "host makes for programs: choose another name");
}

/* Of an interpreter, and of what was not measured, the exact name; else user and executable. */
static enum tao_err identity_name(struct instance *i, int exact, struct tao_buf *name)
{
	uint8_t hash[TAO_HASH_LEN];
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	memcpy(hash, i->exe, sizeof hash);
	if (exact) {
		tao_node_encode(instance_name(i), &b);
		e = tao_buf_err(&b);
		if (e == TAO_OK)
			e = tao_sha256(b.p, b.n, hash);
		tao_buf_free(&b);
	}
	tao_buf_str(name, PEERS_KEY_PREFIX);
	tao_buf_hex(name, hash, NAME_BYTES);
	return e == TAO_OK ? tao_buf_err(name) : e;
}

struct exact {
	const struct tao_node *name;
	int runs;
};

static void is_of(struct instance *i, void *arg)
{
	struct exact *x = arg;

	x->runs = x->runs || (instance_runs(i) && tao_node_equal(instance_name(i), x->name));
}

/* Whoever runs scripts with ever other arguments must not use up the keys of his user. A program
 * that comes again gets a new one. */
static enum tao_err drop_exact(struct host *h, uid_t uid, const char *name, void *arg)
{
	size_t *n = arg;
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct exact x = { NULL, 0 };
	struct key_facts f;

	if (peers_key_name_check(name) != TAO_OK && keystore_get(h, uid, name, &stub) == TAO_OK &&
	    custody_open(h, stub.p, stub.n, &k) == TAO_OK) {
		held_key_facts(k, &f);
		x.name = f.principal;
		if (x.name != NULL)
			registry_each(h->registry, is_of, &x);
		if (x.name != NULL && !x.runs && *n >= EXACT_MAX)
			keystore_remove(h, uid, name);
		else if (x.name != NULL)
			++*n;
	}
	held_key_release(k);
	tao_buf_free(&stub);
	return TAO_OK;
}

static enum tao_err make_identity(struct host *h, struct instance *i, int exact, const char *name,
                                  struct tao_buf *stub)
{
	struct key_spec s = {
		.name = name, .type = "p256", .purpose = "tls", .policy = exact
		        ? "exact" : "program",
		.uid = i->uid, .exe = i->exe, .principal = exact ? instance_name(i) : NULL,
		.program = i->program, .pss_salt_len = -1,
	};
	size_t n = 0;
	enum tao_err e;

	tao_buf_reset(stub);
	e = exact ? keystore_each(h, i->uid, drop_exact, &n) : TAO_OK;
	if (e == TAO_OK)
		e = custody_generate(h, &s, stub);
	if (e == TAO_OK)
		e = keystore_put(h, i->uid, name, stub);
	if (e == TAO_OK) {
		host_log_of(h, i->uid, "info", "made key %s for %s of user %u", name, i->program,
		            (unsigned)i->uid);
		audit_event(h, "identity", i, i->uid, TAO_OK, "key", name);
	}
	if (e == TAO_EEXIST) { /* another process of it was faster */
		tao_buf_reset(stub);
		e = keystore_get(h, i->uid, name, stub);
	}
	return e;
}

enum tao_err peers_identity(struct host *h, struct instance *i, struct held_key **k,
                            struct tao_buf *stub, struct tao_buf *cert)
{
	int exact = i->interpreter || i->kind == INSTANCE_PROCESS;
	struct tao_buf name = TAO_BUF_INIT;
	enum tao_err e = identity_name(i, exact, &name);

	*k = NULL;
	if (e == TAO_OK)
		e = keystore_get(h, i->uid, tao_buf_cstr(&name), stub);
	if (e == TAO_ENOTFOUND)
		e = make_identity(h, i, exact, tao_buf_cstr(&name), stub);
	if (e == TAO_OK)
		e = custody_open(h, stub->p, stub->n, k);
	if (e == TAO_OK)
		e = custody_allows(h, *k, i);
	if (e == TAO_OK && cert != NULL)
		e = cert_obtain(h, i, *k, cert);
	if (e != TAO_OK && cert != NULL && cert->n > 0) { /* it could not be put on file */
		host_log("warning", "a certificate is not on file: %s", tao_why());
		e = TAO_OK;
	}
	tao_buf_free(&name);
	return e;
}

/* ---- a program's certificate ---- */

struct wanted {
	struct instance *inst;
	const struct principal *p;
	const char *dns; /* NULL: whatever */
	struct tao_buf *cert;
};

static int has_dns(const struct tao_buf *der, const char *dns)
{
	const unsigned char *p = der->p;
	X509 *x = d2i_X509(NULL, &p, (long)der->n);
	int has = x != NULL && X509_check_host(x, dns, 0, 0, NULL) == 1;

	X509_free(x);
	return has;
}

/* A certificate of this domain that names this program, is valid, and whose key is not revoked. */
static int is_good(struct host *h, const struct wanted *w, const struct tao_buf *der)
{
	uint8_t subject[TAO_HASH_LEN];
	struct principal *p = NULL;
	int good = shown_program(h, der->p, der->n, &p, subject) == TAO_OK && p != NULL &&
	           memcmp(p->hash, w->p->hash, sizeof p->hash) == 0 &&
	           domain_not_revoked(h->domain, p->node, subject) == TAO_OK &&
	           (w->dns == NULL || has_dns(der, w->dns));

	principal_unref(p);
	return good;
}

static enum tao_err look_at_key(struct host *h, uid_t uid, const char *name, void *arg)
{
	struct wanted *w = arg;
	struct tao_buf stub = TAO_BUF_INIT, der = TAO_BUF_INIT;
	struct held_key *k = NULL;

	if (w->cert->n == 0 && cert_on_file(h, uid, name, &der, NULL) == TAO_OK &&
	    is_good(h, w, &der) &&
	    keystore_get(h, uid, name, &stub) == TAO_OK &&
	    custody_open(h, stub.p, stub.n, &k) == TAO_OK &&
	    custody_allows(h, k, w->inst) == TAO_OK)
		tao_buf_put(w->cert, der.p, der.n);
	held_key_release(k);
	tao_buf_free(&stub);
	tao_buf_free(&der);
	return tao_buf_err(w->cert);
}

/* One that it has already, else that of its own key. */
static enum tao_err find_cert(struct host *h, struct wanted *w)
{
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e = keystore_each(h, w->inst->uid, look_at_key, w);

	if (e == TAO_OK && w->cert->n == 0)
		e = peers_identity(h, w->inst, &k, &stub, w->cert);
	if (e == TAO_OK && !is_good(h, w, w->cert)) {
		tao_buf_reset(w->cert);
		e = tao_fail(TAO_EDENIED, "the program has no valid certificate of the domain%s%s",
		             w->dns != NULL ? " for " : "", w->dns != NULL ? w->dns : "");
	}
	held_key_release(k);
	tao_buf_free(&stub);
	return e;
}

/* Never fails for want of a certificate: then it says why. */
static enum tao_err make_card(struct host *h, struct instance *i, const struct principal *p,
                              const char *dns, struct card **out)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct card *c = calloc(1, sizeof *c);
	struct wanted w = { i, p, dns, NULL };

	*out = c;
	if (c == NULL)
		return tao_fail_nomem();
	atomic_store(&c->refs, 1);
	c->cert = empty;
	w.cert = &c->cert;
	c->version = domain_rules_version(h->domain);
	memcpy(c->principal, p->hash, sizeof c->principal);
	if (find_cert(h, &w) != TAO_OK) {
		tao_buf_reset(&c->cert);
		c->why = strdup(tao_why());
	}
	c->until = loop_now() + (c->cert.n > 0 ? FRESH_SECONDS : WHY_SECONDS);
	return TAO_OK;
}

static struct card *card_at_hand(struct host *h, const struct principal *p)
{
	struct cards *cs = h->peers->cards;
	struct card *c;

	pthread_mutex_lock(&cs->lock);
	c = cs->card[place_of(p->hash, NULL)];
	if (c != NULL && memcmp(c->principal, p->hash, sizeof c->principal) == 0 &&
	    c->version == domain_rules_version(h->domain) && loop_now() < c->until)
		atomic_fetch_add(&c->refs, 1);
	else
		c = NULL;
	pthread_mutex_unlock(&cs->lock);
	return c;
}

static void keep_card(struct host *h, struct card *c)
{
	struct cards *cs = h->peers->cards;
	struct card **at = &cs->card[place_of(c->principal, NULL)], *old;

	atomic_fetch_add(&c->refs, 1);
	pthread_mutex_lock(&cs->lock);
	old = *at;
	*at = c;
	pthread_mutex_unlock(&cs->lock);
	card_unref(old);
}

/* The newest instance for which test says yes. */
struct search {
	struct instance **list;
	size_t n, room;
};

static void count_one(struct instance *i, void *arg)
{
	(void)i;
	((struct search *)arg)->room++;
}

static void take_one(struct instance *i, void *arg)
{
	struct search *s = arg;

	if (s->n < s->room && instance_runs(i))
		s->list[s->n++] = instance_ref(i);
}

static int newer_first(const void *a, const void *b)
{
	uint64_t x = (*(struct instance *const *)a)->id, y = (*(struct instance *const *)b)->id;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* Those that run, the newest first, each with a reference. */
static enum tao_err all_running(struct host *h, struct search *s)
{
	memset(s, 0, sizeof *s);
	registry_each(h->registry, count_one, s);
	s->list = calloc(s->room + 1, sizeof *s->list);
	if (s->list == NULL)
		return tao_fail_nomem();
	registry_each(h->registry, take_one, s);
	qsort(s->list, s->n, sizeof *s->list, newer_first);
	return TAO_OK;
}

static void search_clear(struct search *s)
{
	for (size_t i = 0; i < s->n; i++)
		instance_unref(s->list[i]);
	free(s->list);
}

static enum tao_err search_card(struct host *h, const struct principal *p, struct card **out)
{
	struct search s;
	enum tao_err e = all_running(h, &s);

	for (size_t i = 0; e == TAO_OK && *out == NULL && i < s.n; i++)
		if (tao_node_equal(instance_name(s.list[i]), p->node))
			e = make_card(h, s.list[i], p, NULL, out);
	search_clear(&s);
	if (e == TAO_OK && *out == NULL)
		e = tao_fail(TAO_ENOTFOUND, "the peer has ended");
	return e;
}

enum tao_err peers_card(struct host *h, struct instance *i, const struct principal *p, int slow,
                        struct card **out)
{
	enum tao_err e;

	*out = card_at_hand(h, p);
	if (*out != NULL)
		return TAO_OK;
	if (!slow)
		return OP_LATER;
	e = i != NULL ? make_card(h, i, p, NULL, out) : search_card(h, p, out);
	if (e == TAO_OK)
		keep_card(h, *out);
	return e;
}

/* ---- who serves a name ---- */

void peers_answered(struct host *h, struct instance *i)
{
	if (!atomic_exchange(&i->answered, 1))
		atomic_fetch_add(&h->peers->servers, 1);
}

/* The first of them that may be the server; else the thread's last error says why not. */
static void try_each(struct host *h, struct instance *i, const struct principal *client,
                     const struct search *all, int answered, struct service *s)
{
	for (size_t k = 0; s->inst == NULL && k < all->n; k++) {
		const struct tao_node *name = instance_name(all->list[k]);
		char why[TAO_WHY_MAX];

		if (answered && !atomic_load(&all->list[k]->answered))
			continue;
		snprintf(why, sizeof why, "%s", tao_why());
		if (all->list[k] == i || domain_serves(h->domain, name, s->name) != TAO_OK)
			tao_fail(TAO_ENOTFOUND, "%s", why);
		else if (domain_may_connect(h->domain, client->node, name) == TAO_OK) {
			s->inst = instance_ref(all->list[k]);
			s->named = name;
		}
	}
}

static enum tao_err choose_server(struct host *h, struct instance *i,
                                  const struct principal *client, struct service *s)
{
	struct search all;
	enum tao_err e = all_running(h, &all);

	if (e == TAO_OK)
		tao_fail(TAO_ENOTFOUND, s->known ? "no program that serves %s runs on this host"
		         : "no rule says who serves %s", s->name);
	if (e == TAO_OK && s->known) {
		try_each(h, i, client, &all, 1, s);
		try_each(h, i, client, &all, 0, s);
	}
	if (e == TAO_OK && s->inst == NULL)
		s->why = strdup(tao_why());
	search_clear(&all);
	return e;
}

static struct service *service_at_hand(struct host *h, const struct principal *client,
                                       const char *name)
{
	uint64_t newest = registry_newest(h->registry);
	struct cards *cs = h->peers->cards;
	struct service *s;

	pthread_mutex_lock(&cs->lock);
	s = cs->service[place_of(client->hash, name)];
	if (s != NULL && memcmp(s->client, client->hash, sizeof s->client) == 0 &&
	    strcmp(s->name, name) == 0 && s->version == domain_rules_version(h->domain) &&
	    s->newest == newest && s->servers == atomic_load(&h->peers->servers) &&
	    loop_now() < s->until &&
	    (s->inst == NULL || (instance_runs(s->inst) && instance_name(s->inst) == s->named)))
		atomic_fetch_add(&s->refs, 1);
	else
		s = NULL;
	pthread_mutex_unlock(&cs->lock);
	return s;
}

static enum tao_err fill_service(struct host *h, struct instance *i, const struct principal *client,
                                 struct service *s)
{
	enum tao_err e;

	s->version = domain_rules_version(h->domain);
	s->newest = registry_newest(h->registry);
	s->servers = atomic_load(&h->peers->servers);
	s->known = domain_knows_service(h->domain, s->name);
	memcpy(s->client, client->hash, sizeof s->client);
	e = choose_server(h, i, client, s);
	if (e == TAO_OK && s->inst != NULL)
		e = peers_principal(h, s->inst, &s->server);
	if (e == TAO_OK && s->inst != NULL)
		e = make_card(h, s->inst, s->server, s->name, &s->card);
	s->until = loop_now() +
	           (s->card != NULL && s->card->cert.n > 0 ? FRESH_SECONDS : WHY_SECONDS);
	return e;
}

static void keep_service(struct host *h, struct service *s)
{
	struct cards *cs = h->peers->cards;
	struct service **at = &cs->service[place_of(s->client, s->name)], *old;

	atomic_fetch_add(&s->refs, 1);
	pthread_mutex_lock(&cs->lock);
	old = *at;
	*at = s;
	pthread_mutex_unlock(&cs->lock);
	service_unref(old);
}

enum tao_err peers_service(struct host *h, struct instance *i, const struct principal *client,
                           const char *name, int slow, struct service **out)
{
	struct service *s;
	enum tao_err e;

	*out = service_at_hand(h, client, name);
	if (*out != NULL)
		return TAO_OK;
	if (!slow)
		return OP_LATER;
	s = calloc(1, sizeof *s);
	if (s == NULL || (s->name = strdup(name)) == NULL) {
		free(s);
		return tao_fail_nomem();
	}
	atomic_store(&s->refs, 1);
	e = fill_service(h, i, client, s);
	if (e != TAO_OK) {
		service_unref(s);
		return e;
	}
	keep_service(h, s);
	*out = s;
	return TAO_OK;
}
