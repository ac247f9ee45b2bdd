/*
 * The audit log's files, written: by one thread of taod. Reading, and what they
 * are, is auditlog.h's.
 *
 * Nothing that was written is written again: what a power cut left of a last
 * record is moved aside, and a record says so. A put that fails (full disk)
 * leaves the file as it was, and may be repeated. What others did to the file
 * meanwhile is told in a record; the chain goes on from what was written here,
 * so that tao log verify finds the place.
 *
 * Records are with the kernel when audit_file_put() returns, and on the disk
 * after the next audit_file_sync() or checkpoint: every AUDIT_SIGN_EVERY records,
 * at the end of a file, and when asked for.
 */
#ifndef HOST_AUDITFILE_H
#define HOST_AUDITFILE_H

#include "auditlog.h"
#include "../tao/shield.h"

#define AUDIT_SIGN_EVERY 256 /* records, then a checkpoint */

struct audit_entry {
	int64_t ns;            /* since 1970 */
	struct tao_buf body;   /* the members from event on */
};

struct audit_file;

/* dir: DIR/audit, made if it is not there. max: bytes after which another file is begun.
 * key, the host's, is the caller's and stays valid. Continues the chain. */
enum tao_err audit_file_open(const char *dir, uint32_t max, const struct tao_signer *key,
                             struct audit_file **out);
/* All of them or none. */
enum tao_err audit_file_put(struct audit_file *f, const struct audit_entry *v, size_t n);
/* why: a word. Nothing when the last record is one already, but for "start" and "stop". */
enum tao_err audit_file_checkpoint(struct audit_file *f, const char *why);
enum tao_err audit_file_sync(struct audit_file *f);
void audit_file_close(struct audit_file *f);

struct audit_at {
	struct audit_mark head;  /* the last record */
	uint64_t signed_to;      /* the last checkpoint of this process; 0: none yet */
	uint64_t bytes;          /* of the current file */
	uint32_t number;         /* its number */
	uint32_t altered;        /* how often its size was found changed by somebody else */
};
void audit_file_at(const struct audit_file *f, struct audit_at *at);
/* How the log was left when it was opened: "stop", "kill", or "nothing" (there was none). */
const char *audit_file_left(const struct audit_file *f);

#endif
