/*
 * Trees to binary and back. Both directions interpret one table: the fields
 * of each tag in the order of the wire. Integers, counts, lengths and
 * booleans are varints (integers as 64-bit two's complement).
 */
#include "logic_int.h"

#define BIT(tag) (1u << (tag))
#define TERMS                                                                                      \
	(BIT(TAO_PRIN) | BIT(TAO_TAIL) | BIT(TAO_STR) | BIT(TAO_BYTES) | BIT(TAO_INT) |            \
	 BIT(TAO_VAR))
#define FORMS                                                                                      \
	(BIT(TAO_PRED) | BIT(TAO_CONST) | BIT(TAO_NOT) | BIT(TAO_AND) | BIT(TAO_OR) |              \
	 BIT(TAO_IMPLIES) | BIT(TAO_SPEAKSFOR) | BIT(TAO_SAYS) | BIT(TAO_FORALL) |                 \
	 BIT(TAO_EXISTS))

struct dec {
	struct tao_rd r;
	size_t total, nodes;
	enum tao_err err; /* the first failure */
};

static struct tao_node *get_node(struct dec *d, unsigned allowed, unsigned depth);

/* --- primitives --- */

static void bad(struct dec *d, enum tao_err e, const char *what)
{
	if (d->err == TAO_OK)
		d->err = tao_fail(e, "binary form, byte %zu: %s", d->total - d->r.n, what);
}

static uint64_t get_varint(struct dec *d)
{
	uint64_t v = tao_rd_varint(&d->r);

	if (d->r.bad)
		bad(d, TAO_EFORMAT, "cut short, or a number not in its shortest form");
	return v;
}

static int get_bool(struct dec *d)
{
	uint64_t v = get_varint(d);

	if (v > 1)
		bad(d, TAO_EFORMAT, "a truth value is neither 0 nor 1");
	return v == 1;
}

static void get_text(struct dec *d, struct tao_node *n)
{
	uint64_t len = get_varint(d);
	const uint8_t *p = NULL;

	if (d->err == TAO_OK && len <= d->r.n)
		p = tao_rd_bytes(&d->r, (size_t)len);
	if (d->err == TAO_OK && p == NULL && len > 0)
		bad(d, TAO_EFORMAT, "a string is longer than what is left");
	if (d->err == TAO_OK && tao_node_set_text(n, p, (size_t)len) != 0)
		d->err = tao_fail_nomem();
}

static void get_kid(struct dec *d, struct tao_node *n, unsigned allowed, unsigned depth)
{
	struct tao_node *kid = get_node(d, allowed, depth + 1);

	if (kid != NULL && tao_node_add(n, kid) != 0)
		d->err = tao_fail_nomem();
}

static void get_kids(struct dec *d, struct tao_node *n, unsigned allowed, unsigned depth)
{
	uint64_t count = get_varint(d);

	if (count > TAO_LOGIC_MAX_KIDS - n->n_kid) /* a principal has its key already */
		bad(d, TAO_ELIMIT, "a list has too many elements");
	for (; count > 0 && d->err == TAO_OK; count--)
		get_kid(d, n, allowed, depth);
}

static void put_text(struct tao_buf *b, const struct tao_node *n)
{
	tao_buf_varint(b, n->len);
	tao_buf_put(b, n->text, n->len);
}

static void put_kids(struct tao_buf *b, const struct tao_node *n, size_t first)
{
	tao_buf_varint(b, n->n_kid - first);
	for (; first < n->n_kid; first++)
		tao_node_encode(n->kid[first], b);
}

/* --- fields: what they read into a node and write from it --- */

static void get_word(struct dec *d, struct tao_node *n, unsigned depth)
{
	(void)depth;
	get_text(d, n);
	if (d->err == TAO_OK && !tao_word_ok(n->text, n->len))
		bad(d, TAO_EFORMAT, "a principal's word is not lower-case letters, or is reserved");
}

static void get_name(struct dec *d, struct tao_node *n, unsigned depth)
{
	(void)depth;
	get_text(d, n);
	if (d->err == TAO_OK && !tao_name_ok(n->text, n->len))
		bad(d, TAO_EFORMAT, "a name is not a capital letter with letters and digits");
}

static void get_str(struct dec *d, struct tao_node *n, unsigned depth)
{
	(void)depth;
	get_text(d, n);
}

static void get_int(struct dec *d, struct tao_node *n, unsigned depth)
{
	(void)depth;
	n->num = (int64_t)get_varint(d);
}

static void put_int(struct tao_buf *b, const struct tao_node *n)
{
	tao_buf_varint(b, (uint64_t)n->num);
}

static void get_const(struct dec *d, struct tao_node *n, unsigned depth)
{
	(void)depth;
	n->num = get_bool(d);
}

static void put_const(struct tao_buf *b, const struct tao_node *n)
{
	tao_buf_varint(b, n->num != 0);
}

static void get_times(struct dec *d, struct tao_node *n, unsigned depth)
{
	(void)depth;
	n->has_from = get_bool(d);
	n->from = n->has_from ? (int64_t)get_varint(d) : 0;
	n->has_until = get_bool(d);
	n->until = n->has_until ? (int64_t)get_varint(d) : 0;
}

static void put_times(struct tao_buf *b, const struct tao_node *n)
{
	tao_buf_varint(b, n->has_from != 0);
	if (n->has_from)
		tao_buf_varint(b, (uint64_t)n->from);
	tao_buf_varint(b, n->has_until != 0);
	if (n->has_until)
		tao_buf_varint(b, (uint64_t)n->until);
}

static void get_term(struct dec *d, struct tao_node *n, unsigned depth)
{
	get_kid(d, n, TERMS, depth);
}

static void get_form(struct dec *d, struct tao_node *n, unsigned depth)
{
	get_kid(d, n, FORMS, depth);
}

static void put_first(struct tao_buf *b, const struct tao_node *n)
{
	tao_node_encode(n->kid[0], b);
}

static void put_second(struct tao_buf *b, const struct tao_node *n)
{
	tao_node_encode(n->kid[1], b);
}

static void get_terms(struct dec *d, struct tao_node *n, unsigned depth)
{
	get_kids(d, n, TERMS, depth);
}

static void get_forms(struct dec *d, struct tao_node *n, unsigned depth)
{
	get_kids(d, n, FORMS, depth);
}

static void put_all(struct tao_buf *b, const struct tao_node *n)
{
	put_kids(b, n, 0);
}

/* The extensions of a tail or of a subprincipal: at least one. */
static void get_some_exts(struct dec *d, struct tao_node *n, unsigned depth)
{
	get_kids(d, n, BIT(TAO_EXT), depth);
	if (n->n_kid == 0)
		bad(d, TAO_EFORMAT, "a tail of a principal has no extension");
}

/* Within principals and tails the extensions have the tag of a subprincipal. */
static void get_sub_tag(struct dec *d)
{
	if (get_varint(d) != TAO_SUBPRIN)
		bad(d, TAO_EFORMAT, "the extensions of a principal lack their tag");
}

static void get_prin_exts(struct dec *d, struct tao_node *n, unsigned depth)
{
	get_sub_tag(d);
	get_kids(d, n, BIT(TAO_EXT), depth);
}

static void put_prin_exts(struct tao_buf *b, const struct tao_node *n)
{
	tao_buf_varint(b, TAO_SUBPRIN);
	put_kids(b, n, 1);
}

static void get_tail_exts(struct dec *d, struct tao_node *n, unsigned depth)
{
	get_sub_tag(d);
	get_some_exts(d, n, depth);
}

static void put_tail_exts(struct tao_buf *b, const struct tao_node *n)
{
	tao_buf_varint(b, TAO_SUBPRIN);
	put_kids(b, n, 0);
}

struct field {
	void (*get)(struct dec *d, struct tao_node *n, unsigned depth);
	void (*put)(struct tao_buf *b, const struct tao_node *n);
};

#define NAME get_name, put_text

static const struct field fields[][3] = {
	[TAO_PRIN] = { { get_word, put_text },
	               { get_term, put_first },
	               { get_prin_exts, put_prin_exts } },
	[TAO_TAIL] = { { get_tail_exts, put_tail_exts } },
	[TAO_STR] = { { get_str, put_text } },
	[TAO_BYTES] = { { get_str, put_text } },
	[TAO_INT] = { { get_int, put_int } },
	[TAO_VAR] = { { NAME } },
	[TAO_PRED] = { { NAME }, { get_terms, put_all } },
	[TAO_CONST] = { { get_const, put_const } },
	[TAO_NOT] = { { get_form, put_first } },
	[TAO_AND] = { { get_forms, put_all } },
	[TAO_OR] = { { get_forms, put_all } },
	[TAO_IMPLIES] = { { get_form, put_first }, { get_form, put_second } },
	[TAO_SPEAKSFOR] = { { get_term, put_first }, { get_term, put_second } },
	[TAO_SAYS] = { { get_term, put_first },
	               { get_times, put_times },
	               { get_form, put_second } },
	[TAO_FORALL] = { { NAME }, { get_form, put_first } },
	[TAO_EXISTS] = { { NAME }, { get_form, put_first } },
	[TAO_SUBPRIN] = { { get_some_exts, put_all } },
	[TAO_EXT] = { { NAME }, { get_terms, put_all } },
};

#define N_FIELD (sizeof fields[0] / sizeof fields[0][0])

/* --- nodes --- */

static struct tao_node *get_node(struct dec *d, unsigned allowed, unsigned depth)
{
	uint64_t tag = get_varint(d);
	struct tao_node *n = NULL;
	size_t i;

	if (tag > TAO_EXT || !(allowed & BIT(tag)))
		bad(d, TAO_EFORMAT, "this tag must not stand here");
	else if (depth > TAO_LOGIC_MAX_DEPTH)
		bad(d, TAO_ELIMIT, "nested too deeply");
	else if (++d->nodes > TAO_LOGIC_MAX_NODES)
		bad(d, TAO_ELIMIT, "too many terms and formulas");
	else if ((n = tao_node_new((enum tao_tag)tag)) == NULL)
		d->err = tao_fail_nomem();
	for (i = 0; d->err == TAO_OK && i < N_FIELD && fields[tag][i].get != NULL; i++)
		fields[tag][i].get(d, n, depth);
	if (d->err == TAO_OK)
		return n;
	tao_node_free(n);
	return NULL;
}

void tao_node_encode(const struct tao_node *n, struct tao_buf *b)
{
	size_t i;

	if (n == NULL)
		return;
	tao_buf_varint(b, n->tag);
	for (i = 0; i < N_FIELD && fields[n->tag][i].put != NULL; i++)
		fields[n->tag][i].put(b, n);
}

static enum tao_err decode(const void *p, size_t n, struct tao_node **out, unsigned allowed)
{
	struct dec d = { tao_rd_of(p, n), n, 0, TAO_OK };

	*out = NULL;
	if (n > TAO_LOGIC_MAX_TEXT)
		return tao_fail(TAO_ELIMIT, "a binary form is %zu bytes long: at most %u", n,
		                TAO_LOGIC_MAX_TEXT);
	*out = get_node(&d, allowed, 1);
	if (*out != NULL && !tao_rd_done(&d.r))
		bad(&d, TAO_EFORMAT, "bytes follow behind the end");
	if (d.err != TAO_OK) {
		tao_node_free(*out);
		*out = NULL;
	}
	return d.err;
}

enum tao_err tao_form_decode(const void *p, size_t n, struct tao_node **out)
{
	return decode(p, n, out, FORMS);
}

enum tao_err tao_term_decode(const void *p, size_t n, struct tao_node **out)
{
	return decode(p, n, out, TERMS);
}

enum tao_err tao_prin_decode(const void *p, size_t n, struct tao_node **out)
{
	return decode(p, n, out, BIT(TAO_PRIN));
}

enum tao_err tao_subprin_decode(const void *p, size_t n, struct tao_node **out)
{
	return decode(p, n, out, BIT(TAO_SUBPRIN));
}
