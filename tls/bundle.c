#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/store.h>

#include "tls.h"

#define PROPERTIES "provider=tao"
#define AGAIN_SECONDS 1 /* until the host is asked again while there is nothing yet */
#define POLICY "ca" /* no key has this name: tao:ca is the policy certificate */

struct entry {
	char name[TLS_NAME_MAX];
	struct tls_bundle *newest; /* NULL: none yet */
	time_t next;               /* when the host is asked again */
	int asking;                /* a thread does */
	struct entry *after;
};

struct cache {
	struct tls_process own;
	struct entry *first;
	unsigned n;
	X509 *policy;        /* in store, which trusts it alone; NULL: not asked for yet */
	X509_STORE *store;
};

static _Atomic(struct tls_process *) current;

static struct tls_bundle *up_ref(struct tls_bundle *b)
{
	if (b != NULL)
		atomic_fetch_add(&b->refs, 1);
	return b;
}

void tls_bundle_release(struct tls_bundle *b)
{
	if (b == NULL || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	EVP_PKEY_free(b->key);
	X509_free(b->leaf);
	X509_free(b->policy);
	sk_X509_pop_free(b->chain, X509_free);
	free(b);
}

/* ---- asking the host, by way of the provider's store ---- */

static int is_self_issued(X509 *x)
{
	return X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
}

/* The leaf comes first, the policy certificate last. */
static int take_cert(struct tls_bundle *b, X509 *x)
{
	if (b->leaf == NULL) {
		b->leaf = x;
	} else if (is_self_issued(x) && b->policy == NULL) {
		b->policy = x;
	} else if (sk_X509_num(b->chain) >= TLS_MAX_CHAIN || sk_X509_push(b->chain, x) == 0) {
		X509_free(x);
		return 0;
	}
	return 1;
}

/* Read again, for certificates of a store remember its properties, and libcrypto then looks for
 * SHA-1 in tao.so when it first checks one. */
static X509 *without_properties(X509 *x)
{
	unsigned char *der = NULL;
	const unsigned char *at;
	int n = i2d_X509(x, &der);
	X509 *copy;

	at = der;
	copy = n > 0 ? d2i_X509(NULL, &at, n) : NULL;
	OPENSSL_free(der);
	return copy;
}

static int take(struct tls_bundle *b, OSSL_STORE_INFO *info)
{
	switch (OSSL_STORE_INFO_get_type(info)) {
	case OSSL_STORE_INFO_PKEY:
		if (b->key == NULL)
			b->key = OSSL_STORE_INFO_get1_PKEY(info);
		return b->key != NULL;
	case OSSL_STORE_INFO_CERT: {
		X509 *x = without_properties(OSSL_STORE_INFO_get0_CERT(info));

		return x != NULL && take_cert(b, x);
	}
	default:
		return 1;
	}
}

static int load_all(struct tls_bundle *b, OSSL_STORE_CTX *store)
{
	int good = 1;

	while (good && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info == NULL)
			good = OSSL_STORE_eof(store) && !OSSL_STORE_error(store);
		else
			good = take(b, info);
		OSSL_STORE_INFO_free(info);
	}
	return good;
}

/* Key, certificate and, for one of the domain's, policy certificate, fitting together; of tao:ca
 * the last alone. */
static int is_whole(struct tls_bundle *b, const char *name)
{
	if (strcmp(name, POLICY) == 0)
		return b->leaf != NULL && is_self_issued(b->leaf);
	return b->key != NULL && b->leaf != NULL && X509_check_private_key(b->leaf, b->key) == 1;
}

/* NULL if it is not all there. */
static struct tls_bundle *load(const char *name)
{
	char uri[TLS_NAME_MAX + 8];
	struct tls_bundle *b = calloc(1, sizeof *b);
	OSSL_STORE_CTX *store;
	int good;

	if (b == NULL)
		return NULL;
	atomic_init(&b->refs, 1);
	b->chain = sk_X509_new_null();
	snprintf(uri, sizeof uri, "tao:%s", name);
	store = OSSL_STORE_open_ex(uri, NULL, PROPERTIES, NULL, NULL, NULL, NULL, NULL);
	good = store != NULL && b->chain != NULL && load_all(b, store);
	OSSL_STORE_close(store);
	if (good && is_whole(b, name))
		return b;
	tls_bundle_release(b);
	return NULL;
}

/* ---- the cache ---- */

static struct cache *cache_of_process(void)
{
	return tls_process_get(&current, sizeof(struct cache));
}

/* Lock held. */
static struct entry *entry_of(struct cache *c, const char *name)
{
	struct entry *e = c->first;

	while (e != NULL && strcmp(e->name, name) != 0)
		e = e->after;
	if (e != NULL || c->n == TLS_MAX_KEYS)
		return e;
	e = calloc(1, sizeof *e);
	if (e == NULL)
		return NULL;
	snprintf(e->name, sizeof e->name, "%s", name);
	e->after = c->first;
	c->first = e;
	c->n++;
	return e;
}

/* The host is asked without the lock: other threads' handshakes go on. */
static void refresh(struct cache *c, struct entry *e, const char *name)
{
	struct tls_bundle *b = load(name), *old = NULL;

	pthread_mutex_lock(&c->own.lock);
	if (b != NULL) {
		old = e->newest;
		e->newest = b;
	} else if (e->newest == NULL) {
		e->next = tls_now() + AGAIN_SECONDS;
	}
	e->asking = 0;
	pthread_cond_broadcast(&c->own.changed);
	pthread_mutex_unlock(&c->own.lock);
	tls_bundle_release(old);
}

struct tls_bundle *tls_bundle_get(const char *name, unsigned seconds)
{
	struct cache *c = cache_of_process();
	struct tls_bundle *b = NULL;
	struct entry *e;
	time_t t = tls_now();
	int ask;

	if (c == NULL)
		return NULL;
	pthread_mutex_lock(&c->own.lock);
	e = entry_of(c, name);
	/* Until the first answer there is nothing to go on with. */
	while (e != NULL && e->newest == NULL && e->asking)
		pthread_cond_wait(&c->own.changed, &c->own.lock);
	ask = e != NULL && (e->next == 0 || t >= e->next);
	if (ask) {
		e->next = t + (time_t)seconds;
		e->asking = 1;
	}
	pthread_mutex_unlock(&c->own.lock);
	if (ask)
		refresh(c, e, name);
	if (e != NULL) {
		pthread_mutex_lock(&c->own.lock);
		b = up_ref(e->newest);
		pthread_mutex_unlock(&c->own.lock);
	}
	return b;
}

X509 *tls_policy_cert(const struct tls_settings *set)
{
	struct tls_bundle *b;
	X509 *x = NULL;

	ERR_set_mark();
	b = tls_bundle_get(POLICY, set->renew > 0 ? set->renew : TLS_RENEW_DEFAULT);
	if (b != NULL && X509_up_ref(b->leaf) == 1)
		x = b->leaf;
	tls_bundle_release(b);
	ERR_pop_to_mark();
	return x;
}

/* Lock held. Another store for another certificate: what was said of chains in the old one stays there. */
static X509_STORE *store_of(struct cache *c, X509 *policy)
{
	X509_STORE *store;

	if (c->policy != NULL && X509_cmp(c->policy, policy) == 0)
		return c->store;
	store = X509_STORE_new();
	if (store == NULL || X509_STORE_add_cert(store, policy) != 1 || X509_up_ref(policy) != 1) {
		X509_STORE_free(store);
		return NULL;
	}
	X509_free(c->policy);
	X509_STORE_free(c->store);
	c->policy = policy;
	c->store = store;
	return store;
}

X509_STORE *tls_policy_store(const struct tls_settings *set)
{
	X509 *policy = tls_policy_cert(set);
	struct cache *c = cache_of_process();
	X509_STORE *store = NULL;

	if (policy != NULL && c != NULL) {
		pthread_mutex_lock(&c->own.lock);
		store = store_of(c, policy);
		if (store != NULL && X509_STORE_up_ref(store) != 1)
			store = NULL;
		pthread_mutex_unlock(&c->own.lock);
	}
	X509_free(policy);
	return store;
}
