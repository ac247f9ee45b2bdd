/*
 * Limits: how much of the host one program, and one user, may have.
 *
 * Each is a key of taod.conf (man/taod.conf.5), whose number is what is still
 * allowed; one more is refused with TAO_ELIMIT and a sentence that names the key.
 *
 *   instances      at a time: all, of a user
 *   connections    at a time: of a program, of a user, of a user and no program's (yet)
 *   keys           of a user in the store; made by one start of a program
 *   labels         of counters: counter.h
 *   request size   bytes of one request's body
 *   memory         bytes that requests half received and answers not read take, of a user
 *   request rate   of costly operations (ops.c says which), of a program and of a user: a
 *                  second's worth at once, then that many a second. Cheap ones are not
 *                  counted: fair.h gives them their share, and all of it when nobody else asks.
 *   slow ones      operations of a user that run at once among those that take long
 *
 * struct limit_user counts for one user, and exists as long as that user has a
 * connection or a rate to remember. What a request needs is atomic: no lock between a program and
 * its signature.
 */
#ifndef HOST_LIMIT_H
#define HOST_LIMIT_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf.h"


enum limit {
	LIMIT_INSTANCES,
	LIMIT_USER_INSTANCES,
	LIMIT_PROGRAM_CONNECTIONS,
	LIMIT_USER_CONNECTIONS,
	LIMIT_USER_UNNAMED,
	LIMIT_PROGRAM_KEYS,
	LIMIT_USER_KEYS,
	LIMIT_COUNT
};

/* have of them are there: TAO_ELIMIT if one more is too many. whose: "user 7",
 * "/usr/sbin/nginx". */
enum tao_err limit_check(const struct host_conf *c, enum limit l, const char *whose, uint32_t have);
/* The same with "user N". */
enum tao_err limit_check_user(const struct host_conf *c, enum limit l, uid_t uid, uint32_t have);
/* Takes one of *count, or refuses. */
enum tao_err limit_take(const struct host_conf *c, enum limit l, const char *whose,
                        atomic_uint *count);
/* A request with n bytes, of which this operation takes at most op_max. */
enum tao_err limit_size(const struct host_conf *c, const char *op, size_t n, size_t op_max);

/* A rate: when the last of those allowed would be due. Zero is a fresh one. Lock-free. */
struct limit_rate {
	_Atomic int64_t due; /* nanoseconds */
};
/* 1: allowed, and counted. A second's worth is allowed at once. now: nanoseconds, monotonic. */
int limit_rate_take(struct limit_rate *r, uint32_t per_second, int64_t now);

#define LIMIT_POOLS 2 /* of threads for what takes long (loop.c) */

struct limit_user {
	uid_t uid;
	uint32_t conns, unnamed;         /* under the lock of struct limits */
	uint32_t running[LIMIT_POOLS];   /* under the pool's lock */
	atomic_uint holds;               /* threads that use it beyond the life of a connection */
	_Atomic int64_t memory;
	struct limit_rate costly;
	struct limit_user *next;
};

struct limits;
struct limits *limits_new(void);
void limits_free(struct limits *l);

/* A connection of that user begins. unnamed: it is no program's yet. */
enum tao_err limit_connect(struct limits *l, const struct host_conf *c, uid_t uid, int unnamed,
                           struct limit_user **out);
void limit_named(struct limits *l, struct limit_user *u); /* it is one now */
void limit_disconnect(struct limits *l, struct limit_user *u, int unnamed); /* u may be NULL */

/* A costly operation of this user, and of the program with that rate (NULL: of none), now:
 * limit_now(), in nanoseconds. */
enum tao_err limit_costly(const struct host_conf *c, struct limit_user *u,
                          struct limit_rate *program, const char *whose, int64_t now);
int64_t limit_now(void);
/* A connection's buffers take now instead of was bytes. Counted also when refused. */
enum tao_err limit_memory(const struct host_conf *c, struct limit_user *u, size_t was, size_t now);

#endif
