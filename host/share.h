/*
 * Room that users share, in which none of them can leave nothing to another.
 *
 * A user may have as much as is free: the first one half of all, two a third each, n of them
 * 1 in n + 1. So, whoever has taken what, somebody who comes later has half of what is free, and
 * no user is given a part that nobody uses. Nothing is taken away from anybody: who has more than
 * is free by now gets no more until it has less.
 *
 * No locking: the caller's.
 */
#ifndef HOST_SHARE_H
#define HOST_SHARE_H

#include <stddef.h>
#include <sys/types.h>

#define SHARE_BUCKETS 64
#define SHARE_NOBODY ((uid_t)-1) /* a user of its own: what belongs to none of them */

/* All zeros but for max is an empty one. */
struct share {
	size_t used, max;
	struct share_user *users[SHARE_BUCKETS];
};

/* One more for that user: 1; 0: it has its share, or memory ran out. */
int share_take(struct share *s, uid_t uid);
/* n less. */
void share_give(struct share *s, uid_t uid, size_t n);

#endif
