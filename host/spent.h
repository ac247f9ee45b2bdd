/*
 * What was used and must not be used again: a set of 64-bit values, each with the time up to which
 * it could be used, so that the set can forget what is too old to matter.
 *
 * Values of SPENT_SPAN seconds are kept together, and freed together. What is freed raises a
 * floor: from then on the caller must refuse what is older than that, whatever the
 * clock says, so that a clock set back brings nothing back.
 *
 * A full set refuses; nothing is ever put out of it to make room. All sets together have room
 * that their users share (share.h). No locking: the caller's.
 */
#ifndef HOST_SPENT_H
#define HOST_SPENT_H

#include <stddef.h>
#include <stdint.h>

#include "../tao/err.h"
#include "share.h"

#define SPENT_SPAN 30 /* seconds */

/* What several sets may hold together. */
struct spent_room {
	struct share share;
	uint64_t mix; /* odd and secret: where values are in a table */
};

struct spent {
	struct spent_span *first;
	size_t n;
	uid_t uid; /* whose, in the room; the caller's to set before the first value */
};

/* TAO_EEXIST: used before; TAO_ELIMIT: max in this set, or no room for uid; TAO_ENOMEM. No sentence
 * with the first. time: seconds of any clock, the same for this value each time. */
enum tao_err spent_add(struct spent *s, struct spent_room *room, size_t max, int64_t time,
                       uint64_t value);
/* Frees what is of before oldest; *floor becomes the end of it, if it was less. */
void spent_sweep(struct spent *s, struct spent_room *room, int64_t oldest, int64_t *floor);
void spent_clear(struct spent *s, struct spent_room *room);

#endif
