/*
 * Inside the logic module: what its files share. Not for other modules.
 *
 * logic_node.c makes trees, logic_lex.c and logic_parse.c read text,
 * logic_print.c writes it, logic_bin.c reads and writes the binary form,
 * logic_word.c and logic_rune.c know words and characters.
 */
#ifndef TAO_LOGIC_INT_H
#define TAO_LOGIC_INT_H

#include "logic.h"

/* --- nodes --- */

/* An empty node; NULL when out of memory. */
struct tao_node *tao_node_new(enum tao_tag tag);
/* A copy of the bytes as the node's text; 0, or -1 when out of memory. */
int tao_node_set_text(struct tao_node *n, const void *p, size_t len);
/* Appends kid, which the node owns from then on; 0, or -1 when out of memory
 * (the kid is then freed). */
int tao_node_add(struct tao_node *n, struct tao_node *kid);

/* --- words --- */

/* The reserved words, in the order of the table in logic_word.c. */
enum tao_reserved {
	TAO_W_FROM,
	TAO_W_UNTIL,
	TAO_W_SAYS,
	TAO_W_SPEAKSFOR,
	TAO_W_FORALL,
	TAO_W_EXISTS,
	TAO_W_IMPLIES,
	TAO_W_OR,
	TAO_W_AND,
	TAO_W_NOT,
	TAO_W_FALSE,
	TAO_W_TRUE,
	TAO_W_EXT,
	TAO_W_COUNT
};

/* Which reserved word this is, or -1. */
int tao_word_reserved(const char *p, size_t n);
/* Its spelling. */
const char *tao_word_text(enum tao_reserved w);
/* A principal's word: [a-z]+ and not reserved, or tpm2. */
int tao_word_ok(const char *p, size_t n);
/* The name of a variable, predicate or extension: [A-Z][A-Za-z0-9_]*. */
int tao_name_ok(const char *p, size_t n);

static inline int tao_is_lower(int c)
{
	return c >= 'a' && c <= 'z';
}

static inline int tao_is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static inline int tao_is_name_char(int c)
{
	return tao_is_lower(c) || (c >= 'A' && c <= 'Z') || tao_is_digit(c) || c == '_';
}

/* --- characters --- */

/* The UTF-8 character at p: its length in bytes, or 0 if there is no valid
 * one (truncated, overlong, surrogate, beyond U+10FFFF). */
size_t tao_rune_get(const uint8_t *p, size_t n, uint32_t *rune);
/* Appends it as UTF-8; -1 if it is no character (surrogate, too large). */
int tao_rune_put(struct tao_buf *b, uint32_t rune);
/* As Go's strconv.IsPrint: letters, marks, numbers, punctuation, symbols and
 * the ASCII space, by Unicode 14.0. */
int tao_rune_printable(uint32_t rune);

/* --- tokens --- */

/* Punctuation stands for itself: ( ) , . : */
enum tao_tok {
	TAO_TOK_EOF = 0,
	TAO_TOK_BAD = 1, /* the lexer's err is set */
	TAO_TOK_WORD = 256,
	TAO_TOK_NAME,
	TAO_TOK_STR,
	TAO_TOK_BYTES,
	TAO_TOK_INT,
	TAO_TOK_RESERVED /* + enum tao_reserved */
};

/* The current token, always read one ahead. Owns only buf. */
struct tao_lex {
	const char *s; /* the text */
	size_t n, pos;
	int tok;
	int glued;       /* no space before the token */
	size_t at;       /* where it starts */
	const char *val; /* of words, names, strings, bytes; good until the next token */
	size_t len;
	int64_t num;
	struct tao_buf buf;
	enum tao_err err; /* the first failure; its sentence is kept */
};

void tao_lex_init(struct tao_lex *l, const char *text, size_t len);
void tao_lex_next(struct tao_lex *l);
/* Fails, unless it failed before, with "column N: expected WANTED, found ...". */
void tao_lex_fail(struct tao_lex *l, const char *wanted);
void tao_lex_free(struct tao_lex *l);

#endif
