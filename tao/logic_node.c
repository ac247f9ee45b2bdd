/* Trees of the logic: making, freeing, comparing; relations of principals. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "logic_int.h"

#define KEY_WORD "key"

struct tao_node *tao_node_new(enum tao_tag tag)
{
	struct tao_node *n = calloc(1, sizeof *n);

	if (n != NULL)
		n->tag = tag;
	return n;
}

void tao_node_free(struct tao_node *n)
{
	size_t i;

	if (n == NULL)
		return;
	for (i = 0; i < n->n_kid; i++)
		tao_node_free(n->kid[i]);
	free(n->kid);
	free(n->text);
	free(n);
}

int tao_node_set_text(struct tao_node *n, const void *p, size_t len)
{
	char *text = malloc(len + 1);

	if (text == NULL)
		return -1;
	if (len > 0)
		memcpy(text, p, len);
	text[len] = '\0';
	free(n->text);
	n->text = text;
	n->len = len;
	return 0;
}

int tao_node_add(struct tao_node *n, struct tao_node *kid)
{
	struct tao_node **grown;
	size_t room = n->n_kid == 0 ? 1 : 2 * n->n_kid;

	if (kid == NULL)
		return -1;
	/* The room is the next power of two: full when the count is one. */
	if ((n->n_kid & (n->n_kid - 1)) == 0) {
		grown = realloc(n->kid, room * sizeof(struct tao_node *));
		if (grown == NULL) {
			tao_node_free(kid);
			return -1;
		}
		n->kid = grown;
	}
	n->kid[n->n_kid++] = kid;
	return 0;
}

/* A copy of all but the kids. */
static struct tao_node *copy_head(const struct tao_node *n)
{
	struct tao_node *c = tao_node_new(n->tag);

	if (c == NULL)
		return NULL;
	c->num = n->num;
	c->has_from = n->has_from;
	c->has_until = n->has_until;
	c->from = n->from;
	c->until = n->until;
	if (n->text != NULL && tao_node_set_text(c, n->text, n->len) != 0) {
		tao_node_free(c);
		return NULL;
	}
	return c;
}

/* A copy with only the first n_kid kids. */
static struct tao_node *copy_prefix(const struct tao_node *n, size_t n_kid)
{
	struct tao_node *c = copy_head(n);
	size_t i;

	if (c == NULL)
		return NULL;
	for (i = 0; i < n_kid; i++)
		if (tao_node_add(c, tao_node_dup(n->kid[i])) != 0) {
			tao_node_free(c);
			return NULL;
		}
	return c;
}

struct tao_node *tao_node_dup(const struct tao_node *n)
{
	return n == NULL ? NULL : copy_prefix(n, n->n_kid);
}

static int same_head(const struct tao_node *a, const struct tao_node *b)
{
	return a->tag == b->tag && a->len == b->len && a->num == b->num &&
	       (a->len == 0 || memcmp(a->text, b->text, a->len) == 0) &&
	       a->has_from == b->has_from && (!a->has_from || a->from == b->from) &&
	       a->has_until == b->has_until && (!a->has_until || a->until == b->until);
}

static int same_kids(const struct tao_node *a, const struct tao_node *b, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!tao_node_equal(a->kid[i], b->kid[i]))
			return 0;
	return 1;
}

int tao_node_equal(const struct tao_node *a, const struct tao_node *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return same_head(a, b) && a->n_kid == b->n_kid && same_kids(a, b, a->n_kid);
}

/* --- makers --- */

static struct tao_node *leaf(enum tao_tag tag, const void *p, size_t n)
{
	struct tao_node *t = tao_node_new(tag);

	if (t != NULL && tao_node_set_text(t, p, n) != 0) {
		tao_node_free(t);
		return NULL;
	}
	return t;
}

struct tao_node *tao_term_str(const char *s)
{
	return leaf(TAO_STR, s, strlen(s));
}

struct tao_node *tao_term_bytes(const void *p, size_t n)
{
	return leaf(TAO_BYTES, p, n);
}

struct tao_node *tao_term_int(int64_t v)
{
	struct tao_node *t = tao_node_new(TAO_INT);

	if (t != NULL)
		t->num = v;
	return t;
}

/* Every argument is taken or freed, also when the head or an earlier one is missing. */
static struct tao_node *with_args(struct tao_node *head, size_t n, va_list ap)
{
	size_t i;

	for (i = 0; i < n; i++) {
		struct tao_node *arg = va_arg(ap, struct tao_node *);

		if (head == NULL) {
			tao_node_free(arg);
		} else if (tao_node_add(head, arg) != 0) {
			tao_node_free(head);
			head = NULL;
		}
	}
	return head;
}

struct tao_node *tao_pred(const char *name, size_t n, ...)
{
	struct tao_node *t;
	va_list ap;

	va_start(ap, n);
	t = with_args(leaf(TAO_PRED, name, strlen(name)), n, ap);
	va_end(ap);
	return t;
}

struct tao_node *tao_ext(const char *name, size_t n, ...)
{
	struct tao_node *t;
	va_list ap;

	va_start(ap, n);
	t = with_args(leaf(TAO_EXT, name, strlen(name)), n, ap);
	va_end(ap);
	return t;
}

static struct tao_node *with_kids(struct tao_node *head, size_t n, ...)
{
	va_list ap;

	va_start(ap, n);
	head = with_args(head, n, ap);
	va_end(ap);
	return head;
}

struct tao_node *tao_prin_key(const uint8_t hash[32])
{
	return with_kids(leaf(TAO_PRIN, KEY_WORD, strlen(KEY_WORD)), 1, tao_term_bytes(hash, 32));
}

struct tao_node *tao_prin_extend(const struct tao_node *prin, struct tao_node *ext)
{
	return with_kids(tao_node_dup(prin), 1, ext);
}

struct tao_node *tao_speaksfor(struct tao_node *delegate, struct tao_node *delegator)
{
	return with_kids(tao_node_new(TAO_SPEAKSFOR), 2, delegate, delegator);
}

struct tao_node *tao_says(struct tao_node *speaker, int64_t from, int64_t until,
                          struct tao_node *message)
{
	struct tao_node *t = with_kids(tao_node_new(TAO_SAYS), 2, speaker, message);

	if (t != NULL) {
		t->has_from = t->has_until = 1;
		t->from = from;
		t->until = until;
	}
	return t;
}

/* --- relations --- */

int tao_prin_covers(const struct tao_node *parent, const struct tao_node *child)
{
	/* The key term is kid 0 of both: a prefix of the kids covers it as well. */
	return parent != NULL && child != NULL && parent->tag == TAO_PRIN && parent->n_kid > 0 &&
	       parent->n_kid <= child->n_kid && same_head(parent, child) &&
	       same_kids(parent, child, parent->n_kid);
}

size_t tao_prin_ext_count(const struct tao_node *prin)
{
	return prin == NULL || prin->n_kid == 0 ? 0 : prin->n_kid - 1;
}

const struct tao_node *tao_prin_ext(const struct tao_node *prin, size_t i)
{
	return i < tao_prin_ext_count(prin) ? prin->kid[i + 1] : NULL;
}

struct tao_node *tao_prin_prefix(const struct tao_node *prin, size_t n)
{
	size_t count = tao_prin_ext_count(prin);

	return prin == NULL ? NULL : copy_prefix(prin, 1 + (n < count ? n : count));
}
