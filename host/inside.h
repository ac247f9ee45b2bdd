/*
 * Naming a process for itself, that no tao run has named (DESIGN: who is calling):
 *
 *   - another executable inside an instance becomes an instance of its own,
 *     INSTANCE_FOUND: Measured as running.h says, ended with its process;
 *   - where that is refused, or around no instance, and taod.conf says
 *     `admit = connected`: INSTANCE_PROCESS, Process([exe], uid, "unit").
 *
 * One process running one file is one instance, however often it connects; its
 * forks belong to it by descent. Both kinds count in max_instances.
 *
 * Measuring costs. Each user has a bucket of INSIDE_BURST measurements that fills
 * at INSIDE_RATE a second, so a storm of execs is its user's own trouble: TAO_EBUSY. (Users
 * whose numbers are equal modulo INSIDE_USERS share one.)
 *
 * Errors: TAO_ENOTRUN with the reason; TAO_EBUSY; TAO_ELIMIT.
 */
#ifndef HOST_INSIDE_H
#define HOST_INSIDE_H

#include <stdint.h>
#include <sys/types.h>

#include "../tao/err.h"

#define INSIDE_BURST 64  /* measurements that a user may ask for at once */
#define INSIDE_RATE 16   /* and then in each second */
#define INSIDE_USERS 256 /* buckets */

struct host;
struct conn;
struct instance;
struct process_view;
struct inside; /* the buckets */

struct inside *inside_new(void);
void inside_free(struct inside *s); /* NULL-safe */
/* Takes one of uid's measurements, at that time (nanoseconds, any clock that only goes on). */
enum tao_err inside_take(struct inside *s, uid_t uid, int64_t now);

/* 1 if such a process may be named at all: asked before anything slow. around may be NULL. */
int inside_may(struct host *h, const struct instance *around);
/* Slow. v: what the process of c is. *out is a reference of the caller's. */
enum tao_err inside_name(struct host *h, struct conn *c, const struct process_view *v,
                         struct instance *around, struct instance **out);

#endif
