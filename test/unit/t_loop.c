/* Threads for slow operations: how many of them one user may have, and who comes next. */
#include <pthread.h>
#include <time.h>

#include "../../host/host.h"
#include "tap.h"

#define ALLOWED 2 /* max_slow_per_user */
#define MANY 6
#define PATIENCE 20 /* seconds until a test that cannot succeed any more fails */

struct slow {
	struct source source; /* first */
	struct stage *stage;
	int who;
};

/* Where slow operations wait until the test lets them go. */
struct stage {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int running[2], done[2]; /* of user 0 and of user 1 */
	int most;                /* of user 0 at one time */
	int open;
	uint64_t order[4 * MANY]; /* flows, as they were served */
	int n;
};

static void work(struct host *h, struct source *s, uint32_t events)
{
	struct slow *me = (struct slow *)s;
	struct stage *t = me->stage;

	(void)h;
	(void)events;
	pthread_mutex_lock(&t->lock);
	t->order[t->n++] = s->flow;
	t->running[me->who]++;
	if (t->running[0] > t->most)
		t->most = t->running[0];
	pthread_cond_broadcast(&t->changed);
	while (!t->open)
		pthread_cond_wait(&t->changed, &t->lock);
	t->running[me->who]--;
	t->done[me->who]++;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* 1 when *count is n. */
static int reaches(struct stage *t, const int *count, int n)
{
	struct timespec until;
	int good;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	pthread_mutex_lock(&t->lock);
	while (*count != n && pthread_cond_timedwait(&t->changed, &t->lock, &until) == 0)
		;
	good = *count == n;
	pthread_mutex_unlock(&t->lock);
	return good;
}

static void open_up(struct stage *t)
{
	pthread_mutex_lock(&t->lock);
	t->open = 1;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static void put(struct host *h, struct stage *t, struct slow *s, struct limit_user *u, int who,
                uint64_t flow)
{
	*s = (struct slow){ .source = { .flow = flow, .user = u, .ready = work }, .stage = t,
	                    .who = who };
	loop_defer(h, &s->source, POOL_COMPUTES);
}

static struct stage stage_new(void)
{
	return (struct stage){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
}

static void test_users(void)
{
	struct host h = { .conf = { .workers = 1, .max_slow_per_user = ALLOWED } };
	struct limit_user a = { .uid = 1 }, b = { .uid = 2 };
	struct stage t = stage_new();
	struct slow of_a[MANY], of_b[ALLOWED];
	struct loop *l;

	ok_err(loop_new(&h, &l), TAO_OK, "a loop");
	ok_err(loop_run(&h), TAO_OK, "runs");
	for (int i = 0; i < MANY; i++)
		put(&h, &t, &of_a[i], &a, 0, 7);
	ok(reaches(&t, &t.running[0], ALLOWED), "a user has %d threads", ALLOWED);
	for (int i = 0; i < ALLOWED; i++)
		put(&h, &t, &of_b[i], &b, 1, 8);
	ok(reaches(&t, &t.running[1], ALLOWED), "another user, who came later, gets as many at "
	   "once");
	ok(reaches(&t, &t.running[0], ALLOWED), "the first one has no more");
	open_up(&t);
	ok(reaches(&t, &t.done[0], MANY), "all is done in the end");
	ok(reaches(&t, &t.done[1], ALLOWED), "for both");
	ok(t.most == ALLOWED, "never %d at a time", ALLOWED + 1);
	loop_stop(&h);
}

/* One thread for the user: a program with much to do, then one with one thing. */
static void test_turns(void)
{
	struct host h = { .conf = { .workers = 1, .max_slow_per_user = 1 } };
	struct limit_user a = { .uid = 1 };
	struct stage t = stage_new();
	struct slow greedy[MANY], honest;
	struct loop *l;

	ok_err(loop_new(&h, &l), TAO_OK, "another loop");
	ok_err(loop_run(&h), TAO_OK, "runs");
	put(&h, &t, &greedy[0], &a, 0, 7);
	ok(reaches(&t, &t.running[0], 1), "the first one has begun");
	for (int i = 1; i < MANY; i++)
		put(&h, &t, &greedy[i], &a, 0, 7);
	put(&h, &t, &honest, &a, 1, 8);
	open_up(&t);
	ok(reaches(&t, &t.done[0], MANY) && reaches(&t, &t.done[1], 1), "all is done");
	ok(t.order[1] == 8 || t.order[2] == 8, "a program's one operation waits for one of the "
	   "other's");
	loop_stop(&h);
}

int main(void)
{
	test_users();
	test_turns();
	return done();
}
