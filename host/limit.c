#include "limit.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../tao/err.h"

#define BUCKETS 256
#define SECOND 1000000000ll

static const struct {
	const char *key, *what;
	size_t offset;
} limits[LIMIT_COUNT] = {
	[LIMIT_INSTANCES] = { "max_instances", "programs running",
	                      offsetof(struct host_conf, max_instances) },
	[LIMIT_USER_INSTANCES] = { "max_instances_per_user", "programs running",
	                           offsetof(struct host_conf, max_instances_per_user) },
	[LIMIT_PROGRAM_CONNECTIONS] = { "max_connections_per_program", "connections to the host",
	                                offsetof(struct host_conf, max_connections_per_program) },
	[LIMIT_USER_CONNECTIONS] = { "max_connections_per_user", "connections to the host",
	                             offsetof(struct host_conf, max_connections_per_user) },
	[LIMIT_USER_UNNAMED] = { "max_unnamed_per_user", "connections that are no program's",
	                         offsetof(struct host_conf, max_unnamed_per_user) },
	[LIMIT_PROGRAM_KEYS] = { "max_keys_per_program", "keys made since its start",
	                         offsetof(struct host_conf, max_keys_per_program) },
	[LIMIT_USER_KEYS] = { "max_keys", "keys", offsetof(struct host_conf, max_keys) },
};

static uint32_t allowed(const struct host_conf *c, enum limit l)
{
	return *(const uint32_t *)((const char *)c + limits[l].offset);
}

enum tao_err limit_check(const struct host_conf *c, enum limit l, const char *whose, uint32_t have)
{
	if (have < allowed(c, l))
		return TAO_OK;
	return tao_fail(TAO_ELIMIT, "%s has %u %s already: end or remove some, or raise %s in "
	                "taod.conf", whose, have, limits[l].what, limits[l].key);
}

enum tao_err limit_check_user(const struct host_conf *c, enum limit l, uid_t uid, uint32_t have)
{
	char whose[32];

	snprintf(whose, sizeof whose, "user %u", (unsigned)uid);
	return limit_check(c, l, whose, have);
}

enum tao_err limit_take(const struct host_conf *c, enum limit l, const char *whose,
                        atomic_uint *count)
{
	uint32_t have = atomic_fetch_add(count, 1);
	enum tao_err e = limit_check(c, l, whose, have);

	if (e != TAO_OK)
		atomic_fetch_sub(count, 1);
	return e;
}

enum tao_err limit_size(const struct host_conf *c, const char *op, size_t n, size_t op_max)
{
	if (n > op_max)
		return tao_fail(TAO_ELIMIT, "%s takes at most %zu bytes", op, op_max);
	if (n > c->max_request)
		return tao_fail(TAO_ELIMIT, "%s with %zu bytes: a request may have %u: send less, "
		                "or raise max_request in taod.conf", op, n, c->max_request);
	return TAO_OK;
}

/* ---- rates ---- */

int64_t limit_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

int limit_rate_take(struct limit_rate *r, uint32_t per_second, int64_t now)
{
	int64_t due = atomic_load(&r->due), next;

	do {
		next = (due > now ? due : now) + SECOND / per_second;
		if (next - now > SECOND)
			return 0;
	} while (!atomic_compare_exchange_weak(&r->due, &due, next));
	return 1;
}

enum tao_err limit_costly(const struct host_conf *c, struct limit_user *u,
                          struct limit_rate *program, const char *whose, int64_t now)
{
	if (program != NULL && !limit_rate_take(program, c->max_rate_per_program, now))
		return tao_fail(TAO_ELIMIT, "%s asks for more than %u costly operations a second: "
		                "slow it down, or raise max_rate_per_program in taod.conf", whose,
		                c->max_rate_per_program);
	if (!limit_rate_take(&u->costly, c->max_rate_per_user, now))
		return tao_fail(TAO_ELIMIT, "user %u asks for more than %u costly operations a "
		                "second: slow down, or raise max_rate_per_user in taod.conf",
		                (unsigned)u->uid, c->max_rate_per_user);
	return TAO_OK;
}

enum tao_err limit_memory(const struct host_conf *c, struct limit_user *u, size_t was, size_t now)
{
	int64_t change = (int64_t)now - (int64_t)was;
	int64_t all = atomic_fetch_add(&u->memory, change) + change;

	if (change <= 0 || all <= (int64_t)c->max_memory_per_user)
		return TAO_OK;
	return tao_fail(TAO_ELIMIT, "requests half sent and answers not read of user %u take %lld "
	                "bytes: send and read whole ones, or raise max_memory_per_user in "
	                "taod.conf", (unsigned)u->uid, (long long)all);
}

/* ---- users ---- */

struct limits {
	pthread_mutex_t lock;
	struct limit_user *buckets[BUCKETS];
};

struct limits *limits_new(void)
{
	struct limits *l = calloc(1, sizeof *l);

	if (l != NULL)
		pthread_mutex_init(&l->lock, NULL);
	return l;
}

void limits_free(struct limits *l)
{
	if (l == NULL)
		return;
	for (size_t b = 0; b < BUCKETS; b++)
		while (l->buckets[b] != NULL) {
			struct limit_user *u = l->buckets[b];

			l->buckets[b] = u->next;
			free(u);
		}
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* Lock held. */
static struct limit_user **find(struct limits *l, uid_t uid)
{
	struct limit_user **u = &l->buckets[uid % BUCKETS];

	while (*u != NULL && (*u)->uid != uid)
		u = &(*u)->next;
	return u;
}

static enum tao_err check_user(const struct host_conf *c, const struct limit_user *u, int unnamed)
{
	enum tao_err e = limit_check_user(c, LIMIT_USER_CONNECTIONS, u->uid, u->conns);

	if (e == TAO_OK && unnamed)
		e = limit_check_user(c, LIMIT_USER_UNNAMED, u->uid, u->unnamed);
	return e;
}

/* The entry of that user, made if there is none; lock held. */
static struct limit_user *get(struct limits *l, uid_t uid)
{
	struct limit_user **u = find(l, uid);

	if (*u == NULL && (*u = calloc(1, sizeof **u)) != NULL)
		(*u)->uid = uid;
	return *u;
}

/* Who reconnects does not get a fresh rate. Lock held. */
static void forget_idle(struct limits *l, uid_t uid)
{
	struct limit_user **at = find(l, uid), *u = *at;
	int64_t now = limit_now();

	if (u->conns > 0 || atomic_load(&u->holds) > 0 || atomic_load(&u->costly.due) > now)
		return;
	*at = u->next;
	free(u);
}

enum tao_err limit_connect(struct limits *l, const struct host_conf *c, uid_t uid, int unnamed,
                           struct limit_user **out)
{
	struct limit_user *u;
	enum tao_err e;

	*out = NULL;
	pthread_mutex_lock(&l->lock);
	u = get(l, uid);
	e = u != NULL ? check_user(c, u, unnamed) : tao_fail_nomem();
	if (e == TAO_OK) {
		u->conns++;
		u->unnamed += unnamed != 0;
		*out = u;
	}
	pthread_mutex_unlock(&l->lock);
	return e;
}

void limit_named(struct limits *l, struct limit_user *u)
{
	pthread_mutex_lock(&l->lock);
	u->unnamed--;
	pthread_mutex_unlock(&l->lock);
}

void limit_disconnect(struct limits *l, struct limit_user *u, int unnamed)
{
	if (u == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	u->unnamed -= unnamed != 0;
	u->conns--;
	forget_idle(l, u->uid);
	pthread_mutex_unlock(&l->lock);
}
