/*
 * The audit log: who asked for what. Never secrets: names, labels, numbers,
 * results. Its files are auditfile.h's, and are read with auditlog.h.
 *
 * What is recorded is said in the table of operations (ops.c): a new operation
 * is recorded by one word there, and adds what it was about with audit_note().
 * What is no operation (a program's end, a certificate) calls audit_event().
 *
 * Records go into a bounded queue and are written by a thread of its own: nobody
 * waits for a disk. Uses of a key are counted in the instance, without a lock:
 * the first is a record, the others are summed up every minute and at the end of
 * the instance. A user who asks more than AUDIT_RATE a second, after a burst, has
 * what is above it summed up as well, so that nobody fills the disk, but for
 * AUDIT_ALWAYS.
 *
 * A log that cannot be written (full disk) is tried again every second. Meanwhile
 * the queue keeps what it can, and a record tells how many were lost. With
 * `audit = on` the host goes on and tao status warns; with `audit = require`
 * audit_refuses(), and nothing is lost.
 */
#ifndef HOST_AUDIT_H
#define HOST_AUDIT_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "auditlog.h"
#include "../tao/json.h"
#include "../tao/stub.h"

#define AUDIT_QUEUE 4096        /* records that wait to be written */
#define AUDIT_QUEUE_BYTES (4u << 20)
#define AUDIT_BURST 1000        /* records of one user */
#define AUDIT_RATE 10           /* and then in a second */
#define AUDIT_REFUSALS 2        /* of an instance in a second: audit_refused() */
#define AUDIT_SUMS 256          /* kinds of records summed up at a time */
#define AUDIT_SUMS_USERS 128    /* of these, for whole users: short-lived instances may be many */
#define AUDIT_USES 256          /* keys of one instance that are counted */
#define AUDIT_TEXT_MAX 512      /* bytes of a text in a record; it is cut */
#define AUDIT_PRINCIPAL_MAX 2048
#define AUDIT_NOTES_MAX 8192    /* bytes of what an operation was about; else it is left out */

struct audit;
struct host;
struct instance;
struct op;
struct request;

/* How an operation is recorded. Refusals are recorded whichever way, limits also
 * where nothing else is. */
enum audit_how {
	AUDIT_NONE,    /* not */
	AUDIT_REFUSED, /* when it was refused, or failed */
	AUDIT_EACH,    /* each */
	AUDIT_ALWAYS,  /* each, also those of whoever asks too much: what the owner alone may do */
	AUDIT_ONCE,    /* once for an instance and key (audit_use()) */
	AUDIT_COUNTED, /* the first for an instance and key, then their number */
};

/* An instance's use of a key; lives as long as the instance. */
struct key_use {
	struct key_use *next;
	uint8_t id[TAO_HASH_LEN];
	char name[TAO_KEY_NAME_MAX + 1];
	atomic_uint seen;   /* operations of the table recorded before, a bit each */
	atomic_ullong n;
	_Atomic unsigned long long told;
};

/* TAO_OK also when the log cannot be written, unless audit = require. */
enum tao_err audit_start(struct host *h, struct audit **out);
/* Writes what waits, the stop and a checkpoint; the host's instances are left as they are. */
void audit_stop(struct host *h);

/* What the operation is about, behind who asks for it. NULL: left out. The host's owner reads
 * it, and the user whose record it is. */
void audit_note(struct request *r, const char *key, const char *text);
void audit_note_int(struct request *r, const char *key, int64_t v);
/* The instance that came of it, with its principal. */
void audit_note_instance(struct request *r, struct instance *i);
/* The key that is used, for AUDIT_ONCE and AUDIT_COUNTED. */
void audit_note_key(struct request *r, const uint8_t id[TAO_HASH_LEN], const char *name);
/* One more record of the caller's, beside the operation's own. */
void audit_note_apart(struct request *r, const char *event, const char *key, const char *text);

/* The same of a request that got no for an answer, for what a peer had sent: peers could use up
 * what the user may have recorded, so more than AUDIT_REFUSALS are summed up. event is a literal,
 * peer may be NULL. Keeps tao_why(). */
void audit_refused(struct request *r, const char *event, const char *peer, enum tao_err e);

/* Called once for each operation (conn.c), with its result; keeps tao_why(). */
void audit_op(struct request *r, const struct op *op, enum tao_err e);
/* TAO_ESYS when the operation must not be done because it could not be recorded. */
enum tao_err audit_refuses(struct host *h, const struct op *op);

/* Something that is no operation. i may be NULL; e with tao_why(), which is kept. key may be NULL.
 * event and key are literals. */
void audit_event(struct host *h, const char *event, struct instance *i, uid_t uid, enum tao_err e,
                 const char *key, const char *text);
/* An instance is over. */
void audit_instance_end(struct host *h, struct instance *i);
void audit_uses_free(struct instance *i);

/* A word for a result: "ok", "denied". Never NULL. */
const char *audit_word(enum tao_err e);

struct audit_state {
	struct audit_mark head;
	/* altered: times that the file was changed by somebody else */
	uint64_t signed_to, bytes, lost, altered;
	int failing;
	char why[TAO_WHY_MAX]; /* when it fails */
};
void audit_state(struct audit *a, struct audit_state *s);

#endif
