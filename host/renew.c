#include <stdlib.h>

#include "host.h"

#define LOOKS_A_LIFE 60 /* so often within a certificate's life */

/* The instances of one moment, each with a reference. */
struct snapshot {
	struct instance **list;
	size_t n, room;
};

static void count_one(struct instance *i, void *arg)
{
	(void)i;
	((struct snapshot *)arg)->room++;
}

static void take_one(struct instance *i, void *arg)
{
	struct snapshot *s = arg;

	if (s->n < s->room)
		s->list[s->n++] = instance_ref(i);
}

static enum tao_err renew_key(struct host *h, uid_t uid, const char *name, void *arg)
{
	struct instance *inst = arg;
	struct tao_buf stub = TAO_BUF_INIT, cert = TAO_BUF_INIT;
	struct held_key *k = NULL;

	/* What is refused is in NAME.why; the others go on. */
	if (keystore_get(h, uid, name, &stub) == TAO_OK &&
	    custody_open(h, stub.p, stub.n, &k) == TAO_OK &&
	    custody_allows(h, k, inst) == TAO_OK)
		cert_obtain(h, inst, k, &cert);
	held_key_release(k);
	tao_buf_free(&stub);
	tao_buf_free(&cert);
	return TAO_OK;
}

static void renew_all(struct host *h)
{
	struct snapshot s = { NULL, 0, 0 };

	registry_each(h->registry, count_one, &s);
	s.list = s.room > 0 ? calloc(s.room, sizeof *s.list) : NULL;
	if (s.list == NULL)
		return;
	registry_each(h->registry, take_one, &s);
	for (size_t i = 0; i < s.n; i++) {
		if (instance_runs(s.list[i]))
			keystore_each(h, s.list[i]->uid, renew_key, s.list[i]);
		instance_unref(s.list[i]);
	}
	free(s.list);
}

enum tao_err renew_start(struct host *h)
{
	return timer_add(h, h->conf.cert_seconds / LOOKS_A_LIFE, renew_all);
}
