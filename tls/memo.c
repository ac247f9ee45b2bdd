#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tls.h"

struct kept {
	uint8_t key[TLS_MEMO_KEY];
	int64_t until; /* 0: free */
	int flags;
	size_t n;
	uint8_t *data;
};

/* One of each process: a child may have been forked while the lock was held. */
struct memory {
	pid_t pid;
	pthread_mutex_t lock;
	struct kept kept[TLS_MEMO_MAX];
};

static _Atomic(struct memory *) current;

static struct memory *memory_of_process(void)
{
	struct memory *m = atomic_load(&current), *fresh;
	pid_t pid = getpid();

	if (m != NULL && m->pid == pid)
		return m;
	fresh = calloc(1, sizeof *fresh);
	if (fresh == NULL)
		return NULL;
	fresh->pid = pid;
	pthread_mutex_init(&fresh->lock, NULL);
	if (atomic_compare_exchange_strong(&current, &m, fresh))
		return fresh; /* the parent's is left as it is: its lock may be held for ever */
	pthread_mutex_destroy(&fresh->lock);
	free(fresh);
	return m;
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Lock held. */
static struct kept *find(struct memory *m, const uint8_t *key)
{
	for (size_t i = 0; i < TLS_MEMO_MAX; i++)
		if (m->kept[i].until != 0 && memcmp(m->kept[i].key, key, TLS_MEMO_KEY) == 0)
			return &m->kept[i];
	return NULL;
}

/* Lock held. Free, or the one that ends first. */
static struct kept *place(struct memory *m)
{
	struct kept *best = &m->kept[0];

	for (size_t i = 0; i < TLS_MEMO_MAX; i++)
		if (m->kept[i].until < best->until)
			best = &m->kept[i];
	return best;
}

int tls_memo_get(const uint8_t key[TLS_MEMO_KEY], struct tls_memo *out)
{
	struct memory *m = memory_of_process();
	const struct kept *k;
	int there;

	if (m == NULL)
		return 0;
	pthread_mutex_lock(&m->lock);
	k = find(m, key);
	there = k != NULL && now() < k->until;
	if (there) {
		out->flags = k->flags;
		out->n = k->n;
		memcpy(out->data, k->data, k->n);
	}
	pthread_mutex_unlock(&m->lock);
	return there;
}

void tls_memo_put(const uint8_t key[TLS_MEMO_KEY], const struct tls_memo *in, unsigned seconds)
{
	struct memory *m = memory_of_process();
	uint8_t *data = malloc(in->n + 1);
	struct kept *k;

	if (m == NULL || data == NULL || seconds == 0) {
		free(data);
		return;
	}
	memcpy(data, in->data, in->n);
	pthread_mutex_lock(&m->lock);
	k = find(m, key);
	if (k == NULL)
		k = place(m);
	free(k->data);
	memcpy(k->key, key, TLS_MEMO_KEY);
	k->until = now() + seconds;
	k->flags = in->flags;
	k->n = in->n;
	k->data = data;
	pthread_mutex_unlock(&m->lock);
}
