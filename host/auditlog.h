/*
 * The audit log's files, read and checked: by tao log, which needs no running
 * host for it, and by taod, which continues the chain where it was left.
 * auditfile.h writes them. Format: tao-formats(7), "The audit log".
 *
 *   DIR/audit/00000001.log ...  full files, in their order
 *   DIR/audit/current.log       the one that is written
 *   DIR/audit/torn-N            what a power cut left of record N
 *
 * A record is a line: a JSON object without white space, whose first members are
 * seq, time, prev and event in this order. prev is the SHA-256 of the line
 * before without its newline, zeros for record 1. Values are strings, integers,
 * true, false and null; there are no objects or arrays inside.
 *
 * Everything read here is untrusted. Errors: TAO_EFORMAT (not such a record),
 * TAO_EALTERED (the sentence names the record), TAO_EVERSION, and those of
 * tao/file.h.
 */
#ifndef HOST_AUDITLOG_H
#define HOST_AUDITLOG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../tao/buf.h"
#include "../tao/key.h"

#define AUDIT_FORMAT 1
#define AUDIT_CONTEXT "tao.Audit Version 1" /* of the checkpoints' signatures */
#define AUDIT_LINE_MAX 32768                /* bytes of a record */
#define AUDIT_MEMBERS_MAX 32
#define AUDIT_TIME_LEN 24                   /* 2026-11-23T08:00:00.123Z */
#define AUDIT_SIGNATURE ",\"signature\":\"" /* a checkpoint's is over what is before it */
#define AUDIT_CURRENT "current.log"
#define AUDIT_NAME_MAX 32                   /* bytes of a file's name, with its NUL */

/* ---- records ---- */

struct audit_member {
	const char *key, *value; /* in the line; a string's value as it is between its quotes */
	size_t key_n, n;
	int is_string;
};

struct audit_record {
	uint64_t seq;
	uint8_t prev[TAO_HASH_LEN];
	const char *time; /* AUDIT_TIME_LEN bytes */
	int has_uid;
	uid_t uid;        /* whose record it is, besides the host's owner's */
	struct audit_member m[AUDIT_MEMBERS_MAX];
	size_t n;
};

/* A line without its newline; r points into it. */
enum tao_err audit_parse(const char *line, size_t n, struct audit_record *r);
const struct audit_member *audit_member(const struct audit_record *r, const char *key);
/* Whether it is a string with this value. */
int audit_is(const struct audit_record *r, const char *key, const char *value);
/* The value's text: a string's without its escapes. */
void audit_text(const struct audit_member *m, struct tao_buf *out);
/* An integer from 0 on; TAO_EFORMAT also when m is NULL. */
enum tao_err audit_number(const struct audit_member *m, uint64_t *out);

/* ---- files ---- */

struct audit_files {
	uint32_t *number; /* of the full ones, ascending */
	size_t n;
	int current;      /* there is a current one */
};

/* dir: DIR/audit. TAO_ENOTFOUND if it does not exist. */
enum tao_err audit_files_list(const char *dir, struct audit_files *f);
void audit_files_clear(struct audit_files *f);
/* The name of the i'th, the current one being the last. */
void audit_file_name(const struct audit_files *f, size_t i, char out[AUDIT_NAME_MAX]);
size_t audit_files_count(const struct audit_files *f);

/* Lines of a file, also while it grows. */
struct audit_cursor {
	int fd;
	struct tao_buf buf;
	size_t used;    /* bytes of buf that were given out */
	uint64_t line;  /* number of the line given last */
};

enum tao_err audit_cursor_open(const char *dir, const char *name, struct audit_cursor *c);
void audit_cursor_close(struct audit_cursor *c); /* one that was not opened must have fd -1 */
/* The next whole line, valid until the next call: 1; 0 there is none yet; -1 it cannot be
 * read, or is longer than a record. */
int audit_cursor_next(struct audit_cursor *c, const char **line, size_t *n);
/* Bytes at the end that are no whole line, after 0. */
size_t audit_cursor_rest(const struct audit_cursor *c);

/* Every record from number `from` on, in order, those that are no records left out, until
 * fn returns other than 0. */
enum tao_err audit_walk(const char *dir, uint64_t from,
                        int (*fn)(const char *line, size_t n, const struct audit_record *r,
                                  void *arg), void *arg);

/* ---- checking ---- */

struct audit_mark { /* a record that somebody noted elsewhere */
	uint64_t seq;
	uint8_t hash[TAO_HASH_LEN];
};

struct audit_verdict {
	uint64_t first, last;      /* records; last 0: none */
	uint64_t signed_to;        /* the last checkpoint; 0: none */
	uint64_t checkpoints, files;
	struct audit_mark head;
	uint8_t key[TAO_HASH_LEN]; /* of the key that signed */
	int ended;                 /* the last record is the checkpoint of a stop */
	size_t rest;               /* bytes of an unfinished record behind it */
	uint64_t bad;              /* TAO_EALTERED: the record that is not as it was written */
};

/* key: hash of the host's key (its principal's key([...])), or NULL: that which the log
 * itself names, the same everywhere. mark: must be in it; NULL: none. */
enum tao_err audit_verify(const char *dir, const uint8_t *key, const struct audit_mark *mark,
                          struct audit_verdict *v);

#endif
