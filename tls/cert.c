#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "tls.h"

#define CERTS 128 /* peers of one process whose certificates stay decoded; the oldest goes */

struct certs {
	struct tls_process own;
	struct tls_cert *kept[CERTS];
	size_t next;
};

static _Atomic(struct tls_process *) current;

static struct certs *certs_of_process(void)
{
	return tls_process_get(&current, sizeof(struct certs));
}

void tls_cert_release(struct tls_cert *c)
{
	const struct tls_libssl *f = tls_libssl();

	if (c == NULL || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	for (size_t i = 0; i < TLS_TEMPLATES; i++)
		f->SSL_SESSION_free(c->templates[i].session);
	X509_free(c->leaf);
	sk_X509_pop_free(c->chain, X509_free);
	pthread_mutex_destroy(&c->lock);
	free(c->der);
	free(c);
}

/* ---- decoding: libcrypto looks for a decoder of the public key among all providers' each time ---- */

/* The policy certificate is last, and is not shown. */
static size_t n_shown(const struct channel_answer *a)
{
	return a->n_chain > 1 ? a->n_chain - 1 : a->n_chain;
}

static int decode(struct tls_cert *c, const struct channel_answer *a)
{
	for (size_t i = 0; i < n_shown(a); i++) {
		const unsigned char *at = a->chain[i].p;
		X509 *x = d2i_X509(NULL, &at, (long)a->chain[i].n);

		if (x == NULL)
			return 0;
		if (c->leaf == NULL) {
			c->leaf = x;
		} else if (sk_X509_push(c->chain, x) == 0) {
			X509_free(x);
			return 0;
		}
	}
	return c->leaf != NULL;
}

static struct tls_cert *make(const struct channel_answer *a)
{
	struct tls_cert *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	atomic_init(&c->refs, 1);
	pthread_mutex_init(&c->lock, NULL);
	c->chain = sk_X509_new_null();
	c->der = malloc(a->chain[0].n);
	if (c->chain == NULL || c->der == NULL || !decode(c, a)) {
		tls_cert_release(c);
		return NULL;
	}
	c->der_n = a->chain[0].n;
	memcpy(c->der, a->chain[0].p, c->der_n);
	return c;
}

/* ---- those that were decoded before ---- */

static int is_of(const struct tls_cert *c, const struct channel_answer *a)
{
	return c != NULL && c->der_n == a->chain[0].n &&
	       memcmp(c->der, a->chain[0].p, c->der_n) == 0 &&
	       (size_t)sk_X509_num(c->chain) + 1 == n_shown(a);
}

static struct tls_cert *find(struct certs *all, const struct channel_answer *a)
{
	struct tls_cert *found = NULL;

	pthread_mutex_lock(&all->own.lock);
	for (size_t i = 0; i < CERTS && found == NULL; i++)
		if (is_of(all->kept[i], a))
			found = all->kept[i];
	if (found != NULL)
		atomic_fetch_add(&found->refs, 1);
	pthread_mutex_unlock(&all->own.lock);
	return found;
}

static void keep(struct certs *all, struct tls_cert *c)
{
	struct tls_cert *gone;

	atomic_fetch_add(&c->refs, 1);
	pthread_mutex_lock(&all->own.lock);
	gone = all->kept[all->next];
	all->kept[all->next] = c;
	all->next = (all->next + 1) % CERTS;
	pthread_mutex_unlock(&all->own.lock);
	tls_cert_release(gone);
}

struct tls_cert *tls_cert_of(const struct channel_answer *a)
{
	struct certs *all = certs_of_process();
	struct tls_cert *c;

	if (all == NULL || a->n_chain == 0)
		return NULL;
	c = find(all, a);
	if (c != NULL)
		return c;
	c = make(a);
	if (c != NULL)
		keep(all, c);
	return c;
}
