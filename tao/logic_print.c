/*
 * Trees to canonical text.
 *
 * says, forall and exists take everything to their right, so they need
 * parentheses wherever something follows. CloudProxy looks only at the
 * nearest operator and prints not{X says A} and B without any, which reads
 * back as another formula; here "right" follows the whole path down from the
 * last parenthesis.
 */
#include <inttypes.h>

#include "logic_int.h"

enum level { LOW, OR, AND, HIGH }; /* how tightly a form binds */

/* Where a form stands. */
struct place {
	enum level level; /* what binds less needs parentheses */
	int last;         /* the last operand of its operator */
	int right;        /* nothing follows before the parenthesis closes */
	int list;         /* the tag of the and/or of which it is an operand, or 0 */
};

static const struct place alone = { LOW, 1, 1, 0 };

typedef void print_fn(struct tao_buf *b, const struct tao_node *n, struct place at);

static void print_form(struct tao_buf *b, const struct tao_node *n, struct place at);

/* --- terms --- */

/* \a \b \t \n \v \f \r are characters 7 to 13 in this order in ASCII. */
static void print_rune(struct tao_buf *b, uint32_t r)
{
	static const char letters[] = "abtnvfr";

	if (r >= 7 && r <= 13)
		tao_buf_fmt(b, "\\%c", letters[r - 7]);
	else if (r < 0x20 || r == 0x7f)
		tao_buf_fmt(b, "\\x%02x", (unsigned)r);
	else if (r < 0x10000)
		tao_buf_fmt(b, "\\u%04x", (unsigned)r);
	else
		tao_buf_fmt(b, "\\U%08x", (unsigned)r);
}

static void print_str(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	const uint8_t *p = (const uint8_t *)n->text;
	size_t i = 0, len;
	uint32_t r;

	(void)at;
	tao_buf_u8(b, '"');
	for (; i < n->len; i += len) {
		len = tao_rune_get(p + i, n->len - i, &r);
		if (len == 0) {
			tao_buf_fmt(b, "\\x%02x", p[i]);
			len = 1;
		} else if (r == '"' || r == '\\') {
			tao_buf_fmt(b, "\\%c", (char)r);
		} else if (tao_rune_printable(r)) {
			tao_buf_put(b, p + i, len);
		} else {
			print_rune(b, r);
		}
	}
	tao_buf_u8(b, '"');
}

static void print_bytes(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_buf_u8(b, '[');
	tao_buf_hex(b, n->text, n->len);
	tao_buf_u8(b, ']');
}

static void print_int(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_buf_fmt(b, "%" PRId64, n->num);
}

static void print_var(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_buf_put(b, n->text, n->len);
}

static void print_kids(struct tao_buf *b, const struct tao_node *n, size_t first, size_t end,
                       const char *between)
{
	size_t i;

	for (i = first; i < end; i++) {
		if (i > first)
			tao_buf_str(b, between);
		tao_node_print(n->kid[i], b);
	}
}

static void print_call(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_buf_put(b, n->text, n->len);
	tao_buf_u8(b, '(');
	print_kids(b, n, 0, n->n_kid, ", ");
	tao_buf_u8(b, ')');
}

static void print_ext(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	tao_buf_u8(b, '.');
	print_call(b, n, at);
}

static void print_prin(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_buf_put(b, n->text, n->len);
	tao_buf_u8(b, '(');
	print_kids(b, n, 0, 1, "");
	tao_buf_u8(b, ')');
	print_kids(b, n, 1, n->n_kid, "");
}

static void print_tail(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	if (n->tag == TAO_TAIL)
		tao_buf_str(b, tao_word_text(TAO_W_EXT));
	print_kids(b, n, 0, n->n_kid, "");
}

/* --- forms --- */

static void print_const(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_buf_str(b, tao_word_text(n->num ? TAO_W_TRUE : TAO_W_FALSE));
}

static void print_not(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	struct place in = { HIGH, 1, at.right, 0 };

	tao_buf_str(b, "not ");
	print_form(b, n->kid[0], in);
}

static void print_list(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	int is_and = n->tag == TAO_AND;
	size_t i;

	if (n->n_kid == 0)
		tao_buf_str(b, tao_word_text(is_and ? TAO_W_TRUE : TAO_W_FALSE));
	for (i = 0; i < n->n_kid; i++) {
		int last = i == n->n_kid - 1;
		struct place in = { is_and ? AND : OR, at.last && last, at.right && last,
			            (int)n->tag };

		if (i > 0)
			tao_buf_str(b, is_and ? " and " : " or ");
		print_form(b, n->kid[i], in);
	}
}

static void print_implies(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	struct place left = { OR, 0, 0, 0 }, right = { LOW, 1, at.right, 0 };

	print_form(b, n->kid[0], left);
	tao_buf_str(b, " implies ");
	print_form(b, n->kid[1], right);
}

static void print_speaksfor(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	print_kids(b, n, 0, 2, " speaksfor ");
}

static void print_says(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_node_print(n->kid[0], b);
	if (n->has_from)
		tao_buf_fmt(b, " from %" PRId64, n->from);
	if (n->has_until)
		tao_buf_fmt(b, " until %" PRId64, n->until);
	tao_buf_str(b, " says ");
	print_form(b, n->kid[1], alone);
}

static void print_quantified(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	(void)at;
	tao_buf_str(b, tao_word_text(n->tag == TAO_FORALL ? TAO_W_FORALL : TAO_W_EXISTS));
	tao_buf_u8(b, ' ');
	tao_buf_put(b, n->text, n->len);
	tao_buf_str(b, ": ");
	print_form(b, n->kid[0], alone);
}

static const struct {
	print_fn *print;
	enum level level;
	int open; /* takes everything to its right */
} printers[] = {
	[TAO_PRIN] = { print_prin, HIGH, 0 },
	[TAO_TAIL] = { print_tail, HIGH, 0 },
	[TAO_STR] = { print_str, HIGH, 0 },
	[TAO_BYTES] = { print_bytes, HIGH, 0 },
	[TAO_INT] = { print_int, HIGH, 0 },
	[TAO_VAR] = { print_var, HIGH, 0 },
	[TAO_PRED] = { print_call, HIGH, 0 },
	[TAO_CONST] = { print_const, HIGH, 0 },
	[TAO_NOT] = { print_not, HIGH, 0 },
	[TAO_AND] = { print_list, AND, 0 },
	[TAO_OR] = { print_list, OR, 0 },
	[TAO_IMPLIES] = { print_implies, LOW, 0 },
	[TAO_SPEAKSFOR] = { print_speaksfor, LOW, 0 },
	[TAO_SAYS] = { print_says, LOW, 1 },
	[TAO_FORALL] = { print_quantified, LOW, 1 },
	[TAO_EXISTS] = { print_quantified, LOW, 1 },
	[TAO_SUBPRIN] = { print_tail, HIGH, 0 },
	[TAO_EXT] = { print_ext, HIGH, 0 },
};

/* Empty lists print as constants; at the end, speaksfor and the open forms bind tightly. */
static enum level level_of(const struct tao_node *n, struct place at)
{
	if ((n->tag == TAO_AND || n->tag == TAO_OR) && n->n_kid == 0)
		return HIGH;
	if (printers[n->tag].open && at.right)
		return HIGH;
	if (n->tag == TAO_SPEAKSFOR && at.last)
		return HIGH;
	return printers[n->tag].level;
}

static void print_form(struct tao_buf *b, const struct tao_node *n, struct place at)
{
	int parens;

	while ((n->tag == TAO_AND || n->tag == TAO_OR) && n->n_kid == 1)
		n = n->kid[0];
	parens = at.level > level_of(n, at);
	/* A list in a list of the same kind prints as one with it; any other
	 * operator has a last operand of its own. */
	if ((int)n->tag != at.list)
		at.last = 1;
	if (parens) {
		at = alone;
		tao_buf_u8(b, '(');
	}
	printers[n->tag].print(b, n, at);
	if (parens)
		tao_buf_u8(b, ')');
}

void tao_node_print(const struct tao_node *n, struct tao_buf *b)
{
	if (n != NULL)
		print_form(b, n, alone);
}

char *tao_node_text(const struct tao_node *n)
{
	struct tao_buf b = TAO_BUF_INIT;
	char *text;

	tao_node_print(n, &b);
	text = tao_buf_steal(&b);
	tao_buf_free(&b);
	return text;
}
