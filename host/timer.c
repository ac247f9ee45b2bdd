#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "host.h"

struct timer {
	struct source source;
	void (*due)(struct host *h);
	time_t every;
	struct timer *next;
};

static enum tao_err arm(struct timer *t, int now)
{
	struct itimerspec at = { { t->every, 0 }, { now ? 0 : t->every, now } };

	return timerfd_settime(t->source.fd, 0, &at, NULL) == 0
	       ? TAO_OK : tao_fail_sys("setting a timer");
}

/* Files are read and written: not in a worker. */
static void timer_ready(struct host *h, struct source *s, uint32_t events)
{
	uint64_t ticks;

	if (events != 0) {
		loop_defer(h, s, POOL_WAITS);
		return;
	}
	if (read(s->fd, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
		host_log("error", "reading the timer: %s", strerror(errno));
	((struct timer *)s)->due(h);
	loop_arm(h, s, EPOLLIN);
}

static void timer_destroy(struct host *h, struct source *s)
{
	(void)h;
	close(s->fd);
	free(s);
}

enum tao_err timer_add(struct host *h, time_t every, void (*due)(struct host *h))
{
	struct timer *t = calloc(1, sizeof *t);
	enum tao_err e;

	if (t == NULL)
		return tao_fail_nomem();
	t->due = due;
	t->every = every < 1 ? 1 : every > TIMER_SECONDS_MAX ? TIMER_SECONDS_MAX : every;
	t->source.ready = timer_ready;
	t->source.destroy = timer_destroy;
	t->source.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	e = t->source.fd >= 0 ? arm(t, 0) : tao_fail_sys("making a timer");
	if (e != TAO_OK) {
		if (t->source.fd >= 0)
			close(t->source.fd);
		free(t);
		return e;
	}
	e = loop_add(h, &t->source, EPOLLIN);
	if (e != TAO_OK)
		return e;
	t->next = h->timers;
	h->timers = t;
	return TAO_OK;
}

void timers_now(struct host *h)
{
	for (struct timer *t = h->timers; t != NULL; t = t->next)
		if (arm(t, 1) != TAO_OK)
			host_log("error", "%s", tao_why());
}
