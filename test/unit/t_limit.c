/* Limits at their boundaries, and the queue that is fair to flows. */
#include <pthread.h>

#include "../../host/fair.h"
#include "../../host/limit.h"
#include "tap.h"

#define SECOND 1000000000ll
#define THREADS 4
#define TAKES 5000

/* ---- the queue ---- */

static struct fair_item items[1000];

static uint64_t take_flow(struct fair *f)
{
	struct fair_item *i = fair_take(f, NULL, NULL);

	return i != NULL ? i->flow : 0;
}

static void test_turns(void)
{
	struct fair f = { 0 };
	uint64_t got[6];

	ok(fair_take(&f, NULL, NULL) == NULL, "an empty queue gives nothing");
	for (int i = 0; i < 100; i++)
		fair_put(&f, &items[i], 7);
	fair_put(&f, &items[100], 8);
	fair_put(&f, &items[101], 7 + FAIR_BUCKETS); /* the same bucket as 7 */
	for (int i = 0; i < 6; i++)
		got[i] = take_flow(&f);
	ok(got[0] == 7 && got[1] == 8 && got[2] == 7 + FAIR_BUCKETS && got[3] == 7 && got[4] == 7,
	   "a flow with 100 items delays the others by one");
	ok(f.n == 96, "the rest is there");
	ok(fair_take(&f, NULL, NULL) == &items[4] && fair_take(&f, NULL, NULL) == &items[5],
	   "in its order");
	fair_put(&f, &items[100], 8);
	ok(take_flow(&f) == 7 && take_flow(&f) == 8, "who comes back has its turn");
	while (fair_take(&f, NULL, NULL) != NULL)
		;
	ok(f.n == 0 && f.first == NULL && f.last == NULL, "empty again");
}

static int not_odd(const struct fair_item *i, void *arg)
{
	(*(int *)arg)++;
	return i->flow % 2 == 0;
}

static void test_may(void)
{
	struct fair f = { 0 };
	int asked = 0;

	for (int i = 0; i < 6; i++)
		fair_put(&f, &items[i], (uint64_t)i % 3 + 1); /* 1 2 3 1 2 3 */
	ok(fair_take(&f, not_odd, &asked) == &items[1], "who may not is passed over");
	ok(fair_take(&f, not_odd, &asked) == &items[4], "and again");
	ok(fair_take(&f, not_odd, &asked) == NULL && f.n == 4, "nobody may");
	fair_put(&f, &items[6], 9);
	ok(fair_take(&f, NULL, NULL) == &items[0] && fair_take(&f, NULL, NULL) == &items[2] &&
	       fair_take(&f, NULL, NULL) == &items[6],
	   "those passed over kept their places");
	ok(fair_take(&f, NULL, NULL) == &items[3] && fair_take(&f, NULL, NULL) == &items[5],
	   "all come");
}

/* Against the plain rule, with flows and numbers by chance. */
static void test_model(void)
{
	struct fair f = { 0 };
	uint32_t seed = 1, in = 0, out = 0, served[200] = { 0 }, put[200] = { 0 };
	int good = 1;

	for (size_t i = 0; i < 1000; i++) {
		uint32_t flow;

		seed = seed * 1664525 + 1013904223;
		flow = (seed >> 16) % 200;
		fair_put(&f, &items[i], flow);
		put[flow]++;
		in++;
	}
	for (struct fair_item *i; (i = fair_take(&f, NULL, NULL)) != NULL; out++) {
		served[i->flow]++;
		/* No flow that still waits is a whole turn behind. */
		for (int k = 0; k < 200; k++)
			good &= served[k] + 1 >= served[i->flow] || served[k] == put[k];
	}
	ok(in == out, "1000 items of 200 flows come out");
	ok(good, "and no flow is ever more than one turn ahead of one that waits");
}

/* ---- counts ---- */

static const struct {
	enum limit limit;
	const char *key;
	size_t offset;
} limits[] = {
	{ LIMIT_INSTANCES, "max_instances", offsetof(struct host_conf, max_instances) },
	{ LIMIT_USER_INSTANCES, "max_instances_per_user",
	  offsetof(struct host_conf, max_instances_per_user) },
	{ LIMIT_PROGRAM_CONNECTIONS, "max_connections_per_program",
	  offsetof(struct host_conf, max_connections_per_program) },
	{ LIMIT_USER_CONNECTIONS, "max_connections_per_user",
	  offsetof(struct host_conf, max_connections_per_user) },
	{ LIMIT_USER_UNNAMED, "max_unnamed_per_user",
	  offsetof(struct host_conf, max_unnamed_per_user) },
	{ LIMIT_PROGRAM_KEYS, "max_keys_per_program",
	  offsetof(struct host_conf, max_keys_per_program) },
	{ LIMIT_USER_KEYS, "max_keys", offsetof(struct host_conf, max_keys) },
};

static int names(const char *key)
{
	char want[64];

	snprintf(want, sizeof want, "raise %s in taod.conf", key);
	return strstr(tao_why(), want) != NULL;
}

static void test_counts(void)
{
	ok(sizeof limits / sizeof limits[0] == LIMIT_COUNT, "every limit is tried");
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		struct host_conf c = { 0 };
		atomic_uint n = 0;
		int taken = 0;

		*(uint32_t *)((char *)&c + limits[i].offset) = 3;
		while (taken < 10 && limit_take(&c, limits[i].limit, "/bin/x", &n) == TAO_OK)
			taken++;
		ok(taken == 3 && n == 3, "%s = 3: 3 are", limits[i].key);
		ok_err(limit_check_user(&c, limits[i].limit, 7, 3), TAO_ELIMIT, "4 are not");
		ok(names(limits[i].key) && strstr(tao_why(), "user 7 has 3 ") != NULL,
		   "and the sentence says what to raise");
		ok_err(limit_check(&c, limits[i].limit, "/bin/x", 2), TAO_OK,
		       "with one less there is room");
	}
}

static void test_size(void)
{
	struct host_conf c = { .max_request = 5000, .max_memory_per_user = 100000 };
	struct limit_user u = { .uid = 7 };

	ok_err(limit_size(&c, "Tao.Seal", 5000, 1 << 20), TAO_OK, "a request as large as may be");
	ok_err(limit_size(&c, "Tao.Seal", 5001, 1 << 20), TAO_ELIMIT, "one byte more");
	ok(names("max_request"), "names the key");
	ok_err(limit_size(&c, "Tao.Hello", 1, 0), TAO_ELIMIT, "an operation's own limit");
	ok(strstr(tao_why(), "Tao.Hello takes at most 0") != NULL, "which nothing raises");

	ok_err(limit_memory(&c, &u, 0, 60000), TAO_OK, "memory of a connection");
	ok_err(limit_memory(&c, &u, 0, 40000), TAO_OK, "of another, to the last byte");
	ok_err(limit_memory(&c, &u, 0, 1), TAO_ELIMIT, "one byte more");
	ok(names("max_memory_per_user"), "names the key");
	ok_err(limit_memory(&c, &u, 1, 0), TAO_OK, "giving back is never refused");
	ok_err(limit_memory(&c, &u, 60000, 50000), TAO_OK, "a buffer that shrinks");
	ok_err(limit_memory(&c, &u, 0, 10000), TAO_OK, "makes room");
	ok(u.memory == 100000, "counted exactly");
}

/* ---- rates ---- */

static int takes(struct limit_rate *r, uint32_t per_second, int64_t now, int most)
{
	int n = 0;

	while (n < most && limit_rate_take(r, per_second, now))
		n++;
	return n;
}

static void test_rate(void)
{
	struct limit_rate r = { 0 };
	int64_t t = 5 * SECOND;

	ok(takes(&r, 10, t, 100) == 10, "a second's worth at once");
	ok(takes(&r, 10, t, 1) == 0, "then none");
	ok(takes(&r, 10, t + SECOND / 10 - 1, 1) == 0, "none before the next is due");
	ok(takes(&r, 10, t + SECOND / 10, 100) == 1, "one when it is");
	ok(takes(&r, 10, t + 3 * SECOND, 100) == 10, "rest is saved for a second, not longer");
	r.due = 0;
	ok(takes(&r, 1, t, 5) == 1, "one a second");
	r.due = 0;
	ok(takes(&r, 1000000, t, 2000000) == 1000000, "a million a second");
}

struct taker {
	struct limit_rate *rate;
	int taken;
};

static void *take_many(void *arg)
{
	struct taker *t = arg;

	for (int i = 0; i < TAKES; i++)
		t->taken += limit_rate_take(t->rate, 1000, SECOND);
	return NULL;
}

static void test_threads(void)
{
	struct limit_rate r = { 0 };
	struct taker takers[THREADS] = { { &r, 0 }, { &r, 0 }, { &r, 0 }, { &r, 0 } };
	pthread_t threads[THREADS];
	int all = 0;

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, take_many, &takers[i]);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		all += takers[i].taken;
	}
	ok(all == 1000, "threads together take no more than is allowed");
}

static void test_costly(void)
{
	struct host_conf c = { .max_rate_per_program = 1, .max_rate_per_user = 2 };
	struct limit_user u = { .uid = 7 };
	struct limit_rate a = { 0 }, b = { 0 }, d = { 0 };

	ok_err(limit_costly(&c, &u, &a, "/bin/a", SECOND), TAO_OK, "a costly operation");
	ok_err(limit_costly(&c, &u, &a, "/bin/a", SECOND), TAO_ELIMIT,
	       "a second one of that program");
	ok(names("max_rate_per_program") && strstr(tao_why(), "/bin/a") != NULL,
	   "names key and program");
	ok_err(limit_costly(&c, &u, &b, "/bin/b", SECOND), TAO_OK, "one of another program");
	ok_err(limit_costly(&c, &u, &d, "/bin/d", SECOND), TAO_ELIMIT, "one too many for the user");
	ok(names("max_rate_per_user") && strstr(tao_why(), "user 7") != NULL, "names key and user");
	ok_err(limit_costly(&c, &u, NULL, NULL, SECOND), TAO_ELIMIT, "also without a program");
}

/* ---- users ---- */

static void test_users(void)
{
	struct host_conf c = { .max_connections_per_user = 4, .max_unnamed_per_user = 2,
	                       .max_rate_per_program = 1, .max_rate_per_user = 1 };
	struct limits *l = limits_new();
	struct limit_user *u, *v, *w;
	int64_t later = limit_now() + 3600 * SECOND; /* not over before this test is */

	ok_err(limit_connect(l, &c, 7, 1, &u), TAO_OK, "a connection");
	ok_err(limit_connect(l, &c, 7, 1, &v), TAO_OK, "another of the same user");
	ok(u == v && u->uid == 7, "one entry");
	ok_err(limit_connect(l, &c, 7, 1, &w), TAO_ELIMIT, "a third that is no program's");
	ok(w == NULL && names("max_unnamed_per_user"), "names the key");
	ok_err(limit_connect(l, &c, 7 + 256, 1, &w), TAO_OK, "another user has its own");
	ok(w != u, "and its own entry");
	limit_disconnect(l, w, 1);
	limit_named(l, u);
	ok_err(limit_connect(l, &c, 7, 1, &v), TAO_OK, "one became a program's: room for one");
	ok_err(limit_connect(l, &c, 7, 0, &v), TAO_OK, "a program's own");
	ok_err(limit_connect(l, &c, 7, 0, &w), TAO_ELIMIT, "a fifth of any kind");
	ok(names("max_connections_per_user"), "names the key");
	ok_err(limit_costly(&c, u, NULL, NULL, later), TAO_OK, "a costly operation");
	limit_disconnect(l, u, 0);
	limit_disconnect(l, u, 0);
	limit_disconnect(l, u, 1);
	limit_disconnect(l, u, 1);
	ok_err(limit_connect(l, &c, 7, 1, &v), TAO_OK, "after all were closed");
	ok_err(limit_costly(&c, v, NULL, NULL, later), TAO_ELIMIT,
	       "a rate outlives the connections");
	limit_disconnect(l, NULL, 1);
	limits_free(l);
}

int main(void)
{
	test_turns();
	test_may();
	test_model();
	test_counts();
	test_size();
	test_rate();
	test_threads();
	test_costly();
	test_users();
	return done();
}
