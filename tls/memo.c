#include <stdlib.h>
#include <string.h>

#include "tls.h"

struct kept {
	uint8_t key[TLS_MEMO_KEY];
	int64_t until; /* 0: free */
	int flags;
	size_t n;
	uint8_t *data;
};

struct memory {
	struct tls_process own;
	struct kept kept[TLS_MEMO_MAX];
};

static _Atomic(struct tls_process *) current;

static struct memory *memory_of_process(void)
{
	return tls_process_get(&current, sizeof(struct memory));
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
	pthread_mutex_lock(&m->own.lock);
	k = find(m, key);
	there = k != NULL && tls_now() < k->until;
	if (there) {
		out->flags = k->flags;
		out->n = k->n;
		memcpy(out->data, k->data, k->n);
	}
	pthread_mutex_unlock(&m->own.lock);
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
	pthread_mutex_lock(&m->own.lock);
	k = find(m, key);
	if (k == NULL)
		k = place(m);
	free(k->data);
	memcpy(k->key, key, TLS_MEMO_KEY);
	k->until = tls_now() + seconds;
	k->flags = in->flags;
	k->n = in->n;
	k->data = data;
	pthread_mutex_unlock(&m->own.lock);
}
