/*
 * Names and logic: terms, principals and formulas of the Tao, in text and in
 * binary.
 *
 * The text and the binary form are CloudProxy's (go/tao/auth; the binary form
 * is documented with its vectors in man/tao-logic.7): what is parsed,
 * printed, encoded and decoded here reads the same there. Deliberately not
 * followed: spaces inside [hex], non-canonical encodings (non-minimal
 * varints, booleans other than 0 and 1, an empty principal tail, an unknown
 * word where a reserved one stands), unbounded depth. tpm2(...) parses.
 *
 * One node type for everything. A tree owns its children; nodes are made by
 * the functions below, never changed afterwards, and freed with
 * tao_node_free() on the root. Functions that take a node to put it into a
 * larger one take ownership of it, also when they fail; NULL children mean
 * that an earlier allocation failed, and yield NULL.
 *
 * Errors: TAO_EFORMAT (malformed, with the position), TAO_ELIMIT (a limit
 * below), TAO_ENOMEM.
 */
#ifndef TAO_LOGIC_H
#define TAO_LOGIC_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

#define TAO_LOGIC_MAX_DEPTH 64           /* nesting of terms and formulas */
#define TAO_LOGIC_MAX_NODES 20000        /* nodes in one tree */
#define TAO_LOGIC_MAX_KIDS 4096          /* arguments of one node */
#define TAO_LOGIC_MAX_TEXT (1u << 20)    /* bytes of a text or an encoding */

/* The tags of the binary form. */
enum tao_tag {
	TAO_PRIN = 1,      /* text: word; kid[0]: key term; kid[1..]: TAO_EXT */
	TAO_TAIL = 2,      /* kid[0..]: TAO_EXT, at least one: "ext.A().B()" */
	TAO_STR = 3,       /* text, len */
	TAO_BYTES = 4,     /* text, len */
	TAO_INT = 5,       /* num */
	TAO_VAR = 6,       /* text: name */
	TAO_PRED = 7,      /* text: name; kids: terms */
	TAO_CONST = 8,     /* num: 0 or 1 */
	TAO_NOT = 9,       /* kid[0] */
	TAO_AND = 10,      /* kids */
	TAO_OR = 11,       /* kids */
	TAO_IMPLIES = 12,  /* kid[0] antecedent, kid[1] consequent */
	TAO_SPEAKSFOR = 13,/* kid[0] delegate, kid[1] delegator */
	TAO_SAYS = 14,     /* kid[0] speaker, kid[1] message; from, until */
	TAO_FORALL = 15,   /* text: variable; kid[0] */
	TAO_EXISTS = 16,   /* text: variable; kid[0] */
	TAO_SUBPRIN = 17,  /* kids: TAO_EXT; only as a root of its own: ".A().B()" */
	TAO_EXT = 18       /* text: name; kids: terms */
};

struct tao_node {
	enum tao_tag tag;
	char *text;   /* NUL-terminated; strings and bytes may hold NULs: use len */
	size_t len;
	int64_t num;
	int has_from, has_until;
	int64_t from, until; /* nanoseconds since 1970 */
	struct tao_node **kid;
	size_t n_kid;
};

void tao_node_free(struct tao_node *n); /* NULL is fine */
struct tao_node *tao_node_dup(const struct tao_node *n);
int tao_node_equal(const struct tao_node *a, const struct tao_node *b);

/* Makers; NULL only when out of memory (or given a NULL child). */
struct tao_node *tao_term_str(const char *s);
struct tao_node *tao_term_bytes(const void *p, size_t n);
struct tao_node *tao_term_int(int64_t v);
/* name(args...): n terms follow, ownership taken. */
struct tao_node *tao_pred(const char *name, size_t n, ...);
struct tao_node *tao_ext(const char *name, size_t n, ...);
/* key([hash]): the principal of a key whose SubjectPublicKeyInfo has this SHA-256. */
struct tao_node *tao_prin_key(const uint8_t hash[32]);
/* A copy of prin with ext behind it; takes ownership of ext, not of prin. */
struct tao_node *tao_prin_extend(const struct tao_node *prin, struct tao_node *ext);
struct tao_node *tao_speaksfor(struct tao_node *delegate, struct tao_node *delegator);
/* from/until: nanoseconds. */
struct tao_node *tao_says(struct tao_node *speaker, int64_t from, int64_t until,
                          struct tao_node *message);

/* Relations on principals: structural, extension by extension. */
/* child is parent, or parent with extensions behind it. */
int tao_prin_covers(const struct tao_node *parent, const struct tao_node *child);
size_t tao_prin_ext_count(const struct tao_node *prin);
const struct tao_node *tao_prin_ext(const struct tao_node *prin, size_t i);
/* A copy of prin with only its first n extensions. */
struct tao_node *tao_prin_prefix(const struct tao_node *prin, size_t n);

/* Text to tree. The whole text must be used. Forms are parsed greedily, as
 * CloudProxy's tools do (one formula from start to end). */
enum tao_err tao_form_parse(const char *text, size_t len, struct tao_node **out);
enum tao_err tao_term_parse(const char *text, size_t len, struct tao_node **out);
enum tao_err tao_prin_parse(const char *text, size_t len, struct tao_node **out);
enum tao_err tao_subprin_parse(const char *text, size_t len, struct tao_node **out);

/* Tree to canonical text (any node) and to binary (any node). */
void tao_node_print(const struct tao_node *n, struct tao_buf *b);
void tao_node_encode(const struct tao_node *n, struct tao_buf *b);
/* malloc'ed text; NULL when out of memory. */
char *tao_node_text(const struct tao_node *n);

/* Binary to tree. The whole input must be used; canonical encodings only. */
enum tao_err tao_form_decode(const void *p, size_t n, struct tao_node **out);
enum tao_err tao_term_decode(const void *p, size_t n, struct tao_node **out);
enum tao_err tao_prin_decode(const void *p, size_t n, struct tao_node **out);
enum tao_err tao_subprin_decode(const void *p, size_t n, struct tao_node **out);

#endif
