/*
 * Counters: numbers of programs that only go up, kept across restarts, so that an older copy of a
 * program's sealed state can be told from the newest.
 *
 * A counter is its owner's, under a label. Owners are programs: the user and the executable; for
 * an interpreter the whole name, since its executable is every script's. A program that a rule
 * calls the successor of an owner uses the owner's counter, and the first time that it changes it,
 * it becomes the owner: the state has moved on, and the former program no longer has it.
 *
 * A counter has a random id, made with it, that goes into blobs beside the number. A counter that
 * was removed and made again is therefore another one: blobs of the first never open with it.
 *
 * Two numbers: value, and issued >= value, the last one that a blob was given. Sealing issues a
 * number that no blob has had, then makes it the value; a blob opens while its number is the value.
 *   - Sealing at once does both in one write of the table, before the blob is handed out: from then
 * on
 *     nothing older opens. If the host is cut off in between, the program still runs and seals
 *     again. If the whole machine is, the program may be left with a blob that is too old: it never
 *     was told that the newer one exists.
 *   - Sealing in two steps closes that gap. The blob is made for an issued number while value
 * stays;
 *     the program stores it beside the former one, then raises the counter to that number. At each
 * moment
 *     exactly one of the two opens, and GetCounter says which. A number that was never raised to is
 *     passed over by later ones and its blob never opens.
 *
 * The table is DIR/host/counters: a sealed blob (tao/seal.h, kind 3, always in epoch 1, whatever
 * the host's epoch is now) of
 *
 *   "TaoC"  format 1 (1 byte)  count (4)
 *   each counter: kind (1: program, 2: exact name)  user (4)  hash (32)  id (16)
 *                 value (8)  issued (8)  length of label (2)  label
 *
 * Integers are big-endian; hash is the executable's, or that of the binary name. Counters are
 * sorted by kind, user, hash and label. The table is written (and forced to the disk) before any
 * answer that depends on it; readers do not wait for that.
 *
 * What a table cannot see is an older copy of itself put back by whoever may write DIR/host: the
 * host's owner and root, and whoever has the disk while the machine is off.
 *
 * A table that is missing, damaged or another host's is never replaced silently: everything here
 * then fails with a sentence, until the host's owner says 'tao host counters --new'.
 *
 * Errors: TAO_ENOTFOUND (no such counter), TAO_ELIMIT, TAO_EINVAL, TAO_EALTERED (there is no
 * table),
 * TAO_EDENIED (an old blob), TAO_EWRONGPROG (another program's), and those of writing files.
 */
#ifndef HOST_COUNTER_H
#define HOST_COUNTER_H

#include <sys/types.h>

#include "../domain/domain.h"
#include "../tao/seal.h"

#define COUNTER_ID_LEN 16
#define COUNTER_LABEL_MAX 256    /* bytes */
#define COUNTERS_MAX 8192        /* of a host */
#define COUNTERS_MAX_USER 2048   /* of one user's programs together */
#define COUNTERS_MAX_LABELS 64   /* of one program, unless taod.conf says otherwise */
#define COUNTER_TOP INT64_MAX    /* where one ends */

enum counter_kind { COUNTER_PROGRAM = 1, COUNTER_EXACT = 2 };

struct counter_owner {
	enum counter_kind kind;
	uint32_t uid;
	uint8_t hash[TAO_HASH_LEN];
};

struct counter {
	struct counter_owner owner;
	uint8_t id[COUNTER_ID_LEN];
	int64_t value, issued;
	char *label;
};

/* What goes into a blob. */
struct counter_stamp {
	uint8_t id[COUNTER_ID_LEN];
	int64_t number;
};

/* ---- the table's bytes, by themselves ---- */

struct counter_table {
	struct counter *c;
	size_t n;
};

/* TAO_EFORMAT unless it is exactly what counter_table_encode() makes; TAO_EVERSION. */
enum tao_err counter_table_decode(const void *p, size_t n, struct counter_table *out);
enum tao_err counter_table_encode(const struct counter_table *t, struct tao_buf *out);
void counter_table_clear(struct counter_table *t);

/* ---- a host's ---- */

struct counters;

/* An empty table for a new host; TAO_EEXIST. */
enum tao_err counters_create(const char *path, const struct tao_keyset *keys);
/* Always something, NULL only without memory; without a good table everything else fails. sealer
 * and domain outlive it. domain may be NULL: then nobody is a successor. */
struct counters *counters_open(const char *path, const struct tao_sealer *sealer,
                               struct domain *domain, uint32_t max_labels);
void counters_free(struct counters *cs);
/* TAO_OK: there is a table; TAO_EALTERED with the sentence: there is none. */
enum tao_err counters_state(struct counters *cs);
/* The owner's explicit wish for an empty table where there is none: TAO_EEXIST if there is a good
 * one. */
enum tao_err counters_renew(struct counters *cs);
/* Removes one, by its id. */
enum tao_err counters_remove(struct counters *cs, const void *id, size_t n);
/* The callback must not call back. */
enum tao_err counters_each(struct counters *cs,
                           enum tao_err (*fn)(const struct counter *c, void *arg), void *arg);

enum tao_err counter_check_label(const char *label);
/* Makes the counter, or raises it; a number that is not higher changes nothing: calling it at
 * each start is safe. */
enum tao_err counter_init(struct counters *cs, const struct counter_owner *o, const char *label,
                          int64_t number);
enum tao_err counter_get(struct counters *cs, const struct counter_owner *o, const char *label,
                         int64_t *value);
/* A number for a new blob; commit: it is the value from now on. */
enum tao_err counter_next(struct counters *cs, const struct counter_owner *o, const char *label,
                          int commit, struct counter_stamp *out);
/* TAO_OK if the counter is this owner's and a blob of this number may be opened. */
enum tao_err counter_check(struct counters *cs, const struct counter_owner *o,
                           const struct counter_stamp *s);

#endif
