/*
 * Facts: the statements of a domain's rules, and the matching of principals
 * against those in them.
 *
 * A fact is a ground predicate in the text of tao/logic.h, of one of the
 * predicates that domain.h lists, with arguments of the right kinds. The
 * logic has no `_`; in a tree it is the variable FACT_ANY, which a user
 * therefore cannot write himself.
 *
 * A principal in a fact is a whole name, key([host]).DatalogGuard(key([domain id]))...,
 * or one from the measurement on, re-rooted at the domain id. Both are
 * compared structurally, extension by extension.
 *
 * Errors: TAO_EFORMAT (malformed, or not a fact of this domain), TAO_ELIMIT,
 * TAO_ENOMEM; the sentence says what is wrong with the fact.
 */
#ifndef DOMAIN_FACT_H
#define DOMAIN_FACT_H

#include <stddef.h>
#include <stdint.h>

#include "../tao/buf.h"
#include "../tao/key.h"
#include "../tao/logic.h"

#define FACT_ANY           "Any_" /* stands for `_` in a tree */
#define FACT_MAX_DNS_NAME  253    /* bytes of a DNS name (RFC 1035) */
#define FACT_MAX_DNS_LABEL 63
#define FACT_MAX_UNIT      256 /* bytes of the unit in Process([exe], uid, "unit") */

struct fact {
	char *text;            /* canonical, with `_` */
	struct tao_node *form; /* with FACT_ANY */
};

/* Checks and canonicalises. n bytes of text; a NUL among them is malformed. */
enum tao_err fact_parse(const char *text, size_t n, const uint8_t domain[TAO_HASH_LEN],
                        struct fact *out);
void fact_clear(struct fact *f); /* NULL-safe in its members */

/* Copies text, writing `to` for every word `from`; a word is a longest run of
 * letters, digits and underscores outside "strings", [bytes] and {bytes}. A
 * text that holds the word `to` already is TAO_EFORMAT: with `_` and
 * FACT_ANY, either way round, the copy is thereby the only one of its text. */
enum tao_err fact_rename(const char *text, size_t n, const char *from, const char *to,
                         struct tao_buf *out);

/* A DNS name as it stands in a certificate: labels of letters, digits and
 * hyphens, optionally behind a leading "*.", not an IP address. 1 or 0. */
int fact_dns_name(const char *name, size_t n);

/* "2026-11-23T10:00:00Z", the one way to write a time; seconds since 1970. 1 or 0. */
#define FACT_TIME_MAX 24
int fact_time(const char *text, size_t n, int64_t *seconds);
/* And back; 0 if it has no such text. */
int fact_time_text(int64_t seconds, char text[FACT_TIME_MAX]);

/* name equals pattern, where FACT_ANY in pattern equals anything. */
int fact_match(const struct tao_node *pattern, const struct tao_node *name);
/* As fact_match(), or name has more extensions behind. */
int fact_covers(const struct tao_node *pattern, const struct tao_node *name);

/* What is known of a program from its whole name. Points into the name but
 * for local, which is its own: free with fact_program_clear(). */
struct fact_program {
	const struct tao_node *name;
	const uint8_t *host_key; /* TAO_HASH_LEN bytes: SHA-256 of the host's key */
	const uint8_t *exe;      /* TAO_HASH_LEN bytes: SHA-256 of the executable */
	size_t n_host;           /* extensions of the host's name: up to its guard */
	int is_process;          /* the measurement is Process(...): exe is a hint */
	size_t n_ext;            /* behind the measurement */
	int in_domain;           /* exactly PolicyKey([domain id]) is behind the measurement */
	struct tao_node *local;  /* from the measurement on, re-rooted at the domain id */
};

/* name must be key([host]).DatalogGuard(key([domain])).MEASUREMENT, perhaps
 * with extensions behind; else TAO_EDENIED. On a stacked host, what its parent calls
 * it stands before the guard. The first guard of the domain counts: behind it, a
 * program could write what it likes, and has written it itself. */
enum tao_err fact_program(const struct tao_node *name, const uint8_t domain[TAO_HASH_LEN],
                          struct fact_program *out);
void fact_program_clear(struct fact_program *p);
/* The hash of the executable (TAO_HASH_LEN bytes) that an extension names, or NULL. */
const uint8_t *fact_measured(const struct tao_node *ext);

/* Whether a rule's principal means this program: its whole name or its local
 * one, with or without a final PolicyKey([domain id]). Never a host's name:
 * what is given to a host is not given to its programs. */
int fact_means_program(const struct tao_node *pattern, const struct fact_program *p);
/* Whether a rule's principal is this program, or something it is part of. */
int fact_covers_program(const struct tao_node *pattern, const struct fact_program *p);

#endif
