/*
 * A queue that is fair to flows: each item belongs to a flow (a program's
 * instance, or a user), flows take turns, and inside one flow items come out
 * in their order. So who queues a thousand items delays another's first one by
 * one item, not by a thousand. Exact, not hashed: two flows never share a turn.
 *
 * Nothing is allocated: items are linked through themselves, and the first
 * item of a flow stands for it. Putting and taking cost the same whatever the
 * number of items; with far more than FAIR_BUCKETS flows waiting at once,
 * putting looks through a chain.
 *
 * Not thread-safe: the caller's lock. An item is in one queue at a time.
 */
#ifndef HOST_FAIR_H
#define HOST_FAIR_H

#include <stddef.h>
#include <stdint.h>

#define FAIR_BUCKETS 64

struct fair_item {
	uint64_t flow;
	struct fair_item *next;  /* of its flow */
	struct fair_item *last;  /* of a flow's first: its last one */
	struct fair_item *chain; /* of a flow's first: others of its bucket */
	struct fair_item *turn;  /* of a flow's first: the flow whose turn is next */
};

struct fair {
	struct fair_item *buckets[FAIR_BUCKETS];
	struct fair_item *first, *last; /* turns */
	uint32_t n;                     /* items */
};

/* All zeros is an empty queue. */
void fair_put(struct fair *f, struct fair_item *item, uint64_t flow);
/* The next item; NULL: there is none. may (or NULL) says whether a flow's first item may be
 * taken now: a flow that may not keeps its place. */
struct fair_item *fair_take(struct fair *f, int (*may)(const struct fair_item *, void *),
                            void *arg);

#endif
