#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "host.h"

#define LOOKS_A_LIFE 60 /* so often within a certificate's life */
#define SECONDS_MAX 60  /* between two looks */

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

/* Files are read and written: not in a worker. */
static void renewer_ready(struct host *h, struct source *s, uint32_t events)
{
	uint64_t ticks;

	if (events != 0) {
		loop_defer(h, s, POOL_WAITS);
		return;
	}
	if (read(s->fd, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
		host_log("error", "reading the timer: %s", strerror(errno));
	renew_all(h);
	loop_arm(h, s, EPOLLIN);
}

static void renewer_destroy(struct host *h, struct source *s)
{
	(void)h;
	close(s->fd);
	free(s);
}

enum tao_err renew_start(struct host *h)
{
	time_t every = h->conf.cert_seconds / LOOKS_A_LIFE;
	struct itimerspec t;
	struct source *r = calloc(1, sizeof *r);

	if (r == NULL)
		return tao_fail_nomem();
	every = every < 1 ? 1 : every > SECONDS_MAX ? SECONDS_MAX : every;
	t = (struct itimerspec){ { every, 0 }, { every, 0 } };
	r->ready = renewer_ready;
	r->destroy = renewer_destroy;
	r->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->fd < 0 || timerfd_settime(r->fd, 0, &t, NULL) != 0) {
		if (r->fd >= 0)
			close(r->fd);
		free(r);
		return tao_fail_sys("making a timer");
	}
	return loop_add(h, r, EPOLLIN);
}
