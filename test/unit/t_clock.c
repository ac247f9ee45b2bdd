/* host/host.h: when the machine's clock was set, all timers are due at once, and the root of trust
 * hears of it. */
#include <pthread.h>
#include <time.h>

#include "../../host/host.h"
#include "../../host/root.h"
#include "tap.h"

#define PATIENCE 20 /* seconds, of TIMER_SECONDS_MAX, until a test that cannot succeed any more fails */
#define SET 100     /* seconds */
#define TIMERS 3

struct seen {
	struct host host; /* first */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int due[TIMERS], told;
};

static void note(struct host *h, int *count)
{
	struct seen *s = (struct seen *)h;

	pthread_mutex_lock(&s->lock);
	++*count;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void first(struct host *h)
{
	note(h, &((struct seen *)h)->due[0]);
}

static void second(struct host *h)
{
	note(h, &((struct seen *)h)->due[1]);
}

static void third(struct host *h)
{
	note(h, &((struct seen *)h)->due[2]);
}

static void tell_root(struct host *h)
{
	note(h, &((struct seen *)h)->told);
}

static int count_of(struct seen *s, const int *count)
{
	int n;

	pthread_mutex_lock(&s->lock);
	n = *count;
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* 1 when *count is n. */
static int reaches(struct seen *s, const int *count, int n)
{
	struct timespec until;
	int good;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	pthread_mutex_lock(&s->lock);
	while (*count != n && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0)
		;
	good = *count == n;
	pthread_mutex_unlock(&s->lock);
	return good;
}

/* As if it had been set by so many seconds since the last look. */
static void set_clock(struct seen *s, int seconds)
{
	atomic_fetch_sub(&s->host.clock_offset, seconds);
	clock_look(&s->host);
}

static void all_due(struct seen *s, int n, const char *what)
{
	for (int i = 0; i < TIMERS; i++)
		ok(reaches(s, &s->due[i], n), "%s: timer %d is due", what, i + 1);
	ok(count_of(s, &s->told) == n, "%s: the root of trust hears of it", what);
}

int main(void)
{
	const struct host_root root = { .clock_set = tell_root };
	struct seen s = { .host.conf = { .workers = 1, .max_slow_per_user = 1, .root = &root },
		          .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
	struct loop *l;

	s.host.custody = custody_new();
	clock_start(&s.host);
	ok_err(loop_new(&s.host, &l), TAO_OK, "a loop");
	ok(timer_add(&s.host, TIMER_SECONDS_MAX, first) == TAO_OK &&
	   timer_add(&s.host, TIMER_SECONDS_MAX, second) == TAO_OK &&
	   timer_add(&s.host, TIMER_SECONDS_MAX, third) == TAO_OK,
	   "timers that are due much later");
	ok_err(loop_run(&s.host), TAO_OK, "runs");
	set_clock(&s, 0);
	ok(count_of(&s, &s.told) == 0, "a look finds nothing");
	set_clock(&s, 1);
	ok(count_of(&s, &s.told) == 0, "a second is the clock's being kept right");
	set_clock(&s, SET);
	all_due(&s, 1, "set forward");
	set_clock(&s, -SET);
	all_due(&s, 2, "set back");
	loop_stop(&s.host);
	custody_free(s.host.custody);
	return done();
}
