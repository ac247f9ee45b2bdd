/*
 * Text of the logic to trees: recursive descent, one token ahead.
 *
 *   form  = or [ "implies" form ]
 *   or    = and { "or" and }            and = high { "and" high }
 *   high  = "(" form ")" | "true" | "false" | "not" high
 *         | ("forall" | "exists") Name ":" form | Name args
 *         | term "speaksfor" pterm
 *         | term { ("from" | "until") pint } "says" form
 *   term  = string | bytes | int | Name | word "(" term ")" exts | "ext" exts
 *   pterm = term | "(" pterm ")"        pint = int | "(" pint ")"
 *   exts  = { "." Name args }           args = "(" [ pterm { "," pterm } ] ")"
 */
#include "logic_int.h"

/* Calls into one another that a parse may nest. A tree of the full depth with
 * its parentheses takes up to two for each level; the rest is for needless ones. */
#define MAX_NEST (4 * TAO_LOGIC_MAX_DEPTH)

struct parser {
	struct tao_lex lex;
	size_t nodes;
	unsigned nest;
};

typedef struct tao_node *parse_fn(struct parser *p);

static parse_fn parse_form, parse_high, parse_term, parse_paren_term;

/* --- helpers; a NULL result means that the lexer's err is set --- */

static struct tao_node *fail(struct parser *p, const char *wanted)
{
	tao_lex_fail(&p->lex, wanted);
	return NULL;
}

/* The lexer gives no more tokens once err is set: no loop must wait for one. */
static void limit(struct parser *p, const char *what, unsigned max)
{
	if (p->lex.err == TAO_OK)
		p->lex.err = tao_fail(TAO_ELIMIT, "column %zu: %s (at most %u): make it smaller",
		                      p->lex.at + 1, what, max);
	p->lex.tok = TAO_TOK_BAD;
}

/* An error was set already, or memory ran out. */
static struct tao_node *drop(struct parser *p, struct tao_node *n)
{
	tao_node_free(n);
	if (p->lex.err == TAO_OK)
		p->lex.err = tao_fail_nomem();
	p->lex.tok = TAO_TOK_BAD;
	return NULL;
}

static struct tao_node *make(struct parser *p, enum tao_tag tag)
{
	struct tao_node *n;

	if (++p->nodes > TAO_LOGIC_MAX_NODES) {
		limit(p, "too many terms and formulas", TAO_LOGIC_MAX_NODES);
		return NULL;
	}
	n = tao_node_new(tag);
	return n != NULL ? n : drop(p, NULL);
}

/* A node with the current token's value; goes on to the next token. */
static struct tao_node *make_text(struct parser *p, enum tao_tag tag)
{
	struct tao_node *n = make(p, tag);

	if (n == NULL)
		return NULL;
	if (p->lex.tok == TAO_TOK_INT)
		n->num = p->lex.num;
	else if (tao_node_set_text(n, p->lex.val, p->lex.len) != 0)
		return drop(p, n);
	tao_lex_next(&p->lex);
	return n;
}

/* n with kid behind its others; takes both, NULL if either is missing. */
static struct tao_node *add(struct parser *p, struct tao_node *n, struct tao_node *kid)
{
	if (n == NULL || kid == NULL) {
		tao_node_free(kid);
		return drop(p, n);
	}
	if (n->n_kid >= TAO_LOGIC_MAX_KIDS) {
		limit(p, "too many arguments or operands", TAO_LOGIC_MAX_KIDS);
		tao_node_free(kid);
		return drop(p, n);
	}
	return tao_node_add(n, kid) == 0 ? n : drop(p, n);
}

/* Steps over the token if it is there. */
static int accept(struct parser *p, int tok)
{
	if (p->lex.tok != tok)
		return 0;
	tao_lex_next(&p->lex);
	return 1;
}

static int accept_word(struct parser *p, enum tao_reserved w)
{
	return accept(p, TAO_TOK_RESERVED + (int)w);
}

static struct tao_node *nested(struct parser *p, parse_fn *parse)
{
	struct tao_node *n;

	if (p->nest >= MAX_NEST) {
		limit(p, "nested too deeply", TAO_LOGIC_MAX_DEPTH);
		return NULL;
	}
	p->nest++;
	n = parse(p);
	p->nest--;
	return n;
}

/* What parse reads, with any number of parentheses around it. */
static struct tao_node *in_parens(struct parser *p, parse_fn *parse)
{
	struct tao_node *n;
	size_t open = 0;

	while (accept(p, '('))
		open++;
	n = parse(p);
	for (; n != NULL && open > 0; open--)
		if (!accept(p, ')')) {
			fail(p, ")");
			n = drop(p, n);
		}
	return n;
}

/* --- terms --- */

static struct tao_node *parse_args(struct parser *p, struct tao_node *n)
{
	if (p->lex.tok != '(' || !p->lex.glued) {
		fail(p, "( directly behind the name");
		return drop(p, n);
	}
	tao_lex_next(&p->lex);
	if (accept(p, ')'))
		return n;
	do {
		n = add(p, n, nested(p, parse_paren_term));
	} while (n != NULL && accept(p, ','));
	if (n != NULL && !accept(p, ')')) {
		fail(p, ", or )");
		n = drop(p, n);
	}
	return n;
}

static struct tao_node *parse_ext(struct parser *p)
{
	struct tao_node *n;

	tao_lex_next(&p->lex); /* the dot */
	if (p->lex.tok != TAO_TOK_NAME || !p->lex.glued)
		return fail(p, "a name with a capital letter directly behind the dot");
	n = make_text(p, TAO_EXT);
	return n == NULL ? NULL : parse_args(p, n);
}

static struct tao_node *parse_exts(struct parser *p, struct tao_node *n)
{
	while (n != NULL && p->lex.tok == '.' && p->lex.glued)
		n = add(p, n, parse_ext(p));
	return n;
}

static struct tao_node *parse_prin(struct parser *p)
{
	struct tao_node *n;

	if (p->lex.tok != TAO_TOK_WORD)
		return fail(p, "a principal such as key([..])");
	n = make_text(p, TAO_PRIN);
	if (n != NULL && (p->lex.tok != '(' || !p->lex.glued)) {
		fail(p, "( directly behind the principal's word");
		return drop(p, n);
	}
	tao_lex_next(&p->lex);
	n = add(p, n, nested(p, parse_term));
	if (n != NULL && !accept(p, ')')) {
		fail(p, ")");
		return drop(p, n);
	}
	return parse_exts(p, n);
}

static struct tao_node *parse_tail(struct parser *p)
{
	tao_lex_next(&p->lex); /* ext */
	if (p->lex.tok != '.' || !p->lex.glued)
		return fail(p, ". directly behind ext");
	return parse_exts(p, make(p, TAO_TAIL));
}

static const struct {
	int tok;
	enum tao_tag tag;
} leaves[] = {
	{ TAO_TOK_STR, TAO_STR },
	{ TAO_TOK_BYTES, TAO_BYTES },
	{ TAO_TOK_INT, TAO_INT },
	{ TAO_TOK_NAME, TAO_VAR },
};

static struct tao_node *parse_term(struct parser *p)
{
	size_t i;

	for (i = 0; i < sizeof leaves / sizeof leaves[0]; i++)
		if (p->lex.tok == leaves[i].tok)
			return make_text(p, leaves[i].tag);
	if (p->lex.tok == TAO_TOK_WORD)
		return parse_prin(p);
	if (p->lex.tok == TAO_TOK_RESERVED + TAO_W_EXT)
		return parse_tail(p);
	return fail(p, "a term");
}

static struct tao_node *parse_paren_term(struct parser *p)
{
	return in_parens(p, parse_term);
}

static struct tao_node *parse_int(struct parser *p)
{
	return p->lex.tok == TAO_TOK_INT ? make_text(p, TAO_INT) : fail(p, "a time (a number)");
}

/* --- formulas --- */

/* Reads "from T" or "until T" into has and when. */
static int parse_time(struct parser *p, int *has, int64_t *when)
{
	struct tao_node *t;

	if (*has) {
		fail(p, "says (from and until stand once each)");
		return -1;
	}
	tao_lex_next(&p->lex);
	t = in_parens(p, parse_int);
	if (t == NULL)
		return -1;
	*has = 1;
	*when = t->num;
	tao_node_free(t);
	p->nodes--; /* it is no node of the tree */
	return 0;
}

static struct tao_node *parse_says(struct parser *p, struct tao_node *speaker)
{
	struct tao_node *n = add(p, make(p, TAO_SAYS), speaker);
	int bad = 0;

	while (n != NULL && !bad && p->lex.tok != TAO_TOK_RESERVED + TAO_W_SAYS) {
		if (p->lex.tok == TAO_TOK_RESERVED + TAO_W_FROM)
			bad = parse_time(p, &n->has_from, &n->from);
		else if (p->lex.tok == TAO_TOK_RESERVED + TAO_W_UNTIL)
			bad = parse_time(p, &n->has_until, &n->until);
		else
			bad = fail(p, "speaksfor, from, until or says") == NULL;
	}
	if (n == NULL || bad)
		return drop(p, n);
	tao_lex_next(&p->lex); /* says */
	return add(p, n, nested(p, parse_form));
}

/* What may follow a term that begins a formula. */
static struct tao_node *parse_term_form(struct parser *p, struct tao_node *t)
{
	if (t == NULL)
		return NULL;
	if (accept_word(p, TAO_W_SPEAKSFOR))
		return add(p, add(p, make(p, TAO_SPEAKSFOR), t), parse_paren_term(p));
	return parse_says(p, t);
}

static struct tao_node *parse_name_form(struct parser *p)
{
	struct tao_node *n = make_text(p, TAO_VAR);

	if (n == NULL || p->lex.tok != '(' || !p->lex.glued)
		return parse_term_form(p, n);
	n->tag = TAO_PRED;
	return parse_args(p, n);
}

static struct tao_node *parse_paren_form(struct parser *p)
{
	struct tao_node *n;

	tao_lex_next(&p->lex); /* ( */
	n = nested(p, parse_form);
	if (n != NULL && !accept(p, ')')) {
		fail(p, ")");
		return drop(p, n);
	}
	return n;
}

static struct tao_node *parse_const(struct parser *p)
{
	struct tao_node *n = make(p, TAO_CONST);

	if (n != NULL)
		n->num = p->lex.tok == TAO_TOK_RESERVED + TAO_W_TRUE;
	tao_lex_next(&p->lex);
	return n;
}

static struct tao_node *parse_not(struct parser *p)
{
	struct tao_node *n = make(p, TAO_NOT);

	tao_lex_next(&p->lex);
	return add(p, n, nested(p, parse_high));
}

static struct tao_node *parse_quantified(struct parser *p)
{
	int forall = p->lex.tok == TAO_TOK_RESERVED + TAO_W_FORALL;
	struct tao_node *n;

	tao_lex_next(&p->lex);
	if (p->lex.tok != TAO_TOK_NAME)
		return fail(p, "a variable");
	n = make_text(p, forall ? TAO_FORALL : TAO_EXISTS);
	if (n != NULL && !accept(p, ':')) {
		fail(p, ":");
		return drop(p, n);
	}
	return add(p, n, nested(p, parse_form));
}

static struct tao_node *parse_other(struct parser *p)
{
	return parse_term_form(p, parse_term(p));
}

static const struct {
	int tok;
	parse_fn *parse;
} high_forms[] = {
	{ '(', parse_paren_form },
	{ TAO_TOK_NAME, parse_name_form },
	{ TAO_TOK_RESERVED + TAO_W_TRUE, parse_const },
	{ TAO_TOK_RESERVED + TAO_W_FALSE, parse_const },
	{ TAO_TOK_RESERVED + TAO_W_NOT, parse_not },
	{ TAO_TOK_RESERVED + TAO_W_FORALL, parse_quantified },
	{ TAO_TOK_RESERVED + TAO_W_EXISTS, parse_quantified },
	{ TAO_TOK_STR, parse_other },
	{ TAO_TOK_BYTES, parse_other },
	{ TAO_TOK_INT, parse_other },
	{ TAO_TOK_WORD, parse_other },
	{ TAO_TOK_RESERVED + TAO_W_EXT, parse_other },
};

static struct tao_node *parse_high(struct parser *p)
{
	size_t i;

	for (i = 0; i < sizeof high_forms / sizeof high_forms[0]; i++)
		if (p->lex.tok == high_forms[i].tok)
			return high_forms[i].parse(p);
	return fail(p, "a formula");
}

/* Operands joined by the word. A left operand of the same kind takes them
 * in, parentheses or not; right operands stay as they are. */
static struct tao_node *parse_list(struct parser *p, enum tao_tag tag, enum tao_reserved word,
                                   parse_fn *operand)
{
	struct tao_node *n = operand(p);

	if (n == NULL || p->lex.tok != TAO_TOK_RESERVED + (int)word)
		return n;
	if (n->tag != tag)
		n = add(p, make(p, tag), n);
	while (n != NULL && accept_word(p, word))
		n = add(p, n, operand(p));
	return n;
}

static struct tao_node *parse_and(struct parser *p)
{
	return parse_list(p, TAO_AND, TAO_W_AND, parse_high);
}

static struct tao_node *parse_or(struct parser *p)
{
	return parse_list(p, TAO_OR, TAO_W_OR, parse_and);
}

static struct tao_node *parse_form(struct parser *p)
{
	struct tao_node *n = parse_or(p);

	if (n == NULL || !accept_word(p, TAO_W_IMPLIES))
		return n;
	return add(p, add(p, make(p, TAO_IMPLIES), n), nested(p, parse_form));
}

/* --- whole texts --- */

static struct tao_node *parse_whole_prin(struct parser *p)
{
	return in_parens(p, parse_prin);
}

static struct tao_node *parse_subprin(struct parser *p)
{
	if (p->lex.tok != '.')
		return fail(p, "a dot");
	p->lex.glued = 1; /* space before the first one does not matter */
	return parse_exts(p, make(p, TAO_SUBPRIN));
}

static unsigned height(const struct tao_node *n)
{
	unsigned h, most = 0;
	size_t i;

	for (i = 0; i < n->n_kid; i++) {
		h = height(n->kid[i]);
		most = h > most ? h : most;
	}
	return most + 1;
}

static enum tao_err parse_whole(const char *text, size_t len, struct tao_node **out,
                                parse_fn *parse)
{
	struct parser p = { .nodes = 0 };
	struct tao_node *n;
	enum tao_err e;

	*out = NULL;
	if (len > TAO_LOGIC_MAX_TEXT)
		return tao_fail(TAO_ELIMIT, "a text of the logic is %zu bytes long: at most %u",
		                len, TAO_LOGIC_MAX_TEXT);
	tao_lex_init(&p.lex, text, len);
	n = parse(&p);
	if (n != NULL && p.lex.tok != TAO_TOK_EOF)
		fail(&p, "the end");
	if (n != NULL && height(n) > TAO_LOGIC_MAX_DEPTH)
		limit(&p, "nested too deeply", TAO_LOGIC_MAX_DEPTH);
	e = p.lex.err;
	tao_lex_free(&p.lex);
	if (e != TAO_OK)
		tao_node_free(n);
	else
		*out = n;
	return e;
}

enum tao_err tao_form_parse(const char *text, size_t len, struct tao_node **out)
{
	return parse_whole(text, len, out, parse_form);
}

enum tao_err tao_term_parse(const char *text, size_t len, struct tao_node **out)
{
	return parse_whole(text, len, out, parse_paren_term);
}

enum tao_err tao_prin_parse(const char *text, size_t len, struct tao_node **out)
{
	return parse_whole(text, len, out, parse_whole_prin);
}

enum tao_err tao_subprin_parse(const char *text, size_t len, struct tao_node **out)
{
	return parse_whole(text, len, out, parse_subprin);
}
