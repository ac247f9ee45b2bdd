/* What import needs of a tao.config: protocol buffers in text form, as Go writes them. */
#include "compat.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 8

/* The fields that matter, with CloudProxy's defaults. Others are read over. There is no default
 * for the guard: its absence rather means that the file is not whole. */
static const struct field {
	const char *name;
	const char *preset;
	size_t slot;
} fields[] = {
	{ "name", "Tao example domain", offsetof(struct compat_config, name) },
	{ "policy_keys_path", "policy_keys", offsetof(struct compat_config, policy_keys_path) },
	{ "guard_type", NULL, offsetof(struct compat_config, guard_type) },
	{ "signed_acls_path", "acls", offsetof(struct compat_config, signed_acls_path) },
	{ "signed_rules_path", "rules", offsetof(struct compat_config, signed_rules_path) },
};

#define N_FIELDS (sizeof fields / sizeof fields[0])

struct text {
	const char *p, *end;
	long line;
	int depth;
};

static enum tao_err wrong(const struct text *t, const char *what)
{
	return tao_fail(TAO_EFORMAT, "line %ld: %s", t->line, what);
}

static char **slot(struct compat_config *c, const struct field *f)
{
	return (char **)((char *)c + f->slot);
}

static void skip_space(struct text *t)
{
	for (; t->p < t->end; t->p++) {
		if (*t->p == '#')
			while (t->p + 1 < t->end && t->p[1] != '\n')
				t->p++;
		else if (*t->p == '\n')
			t->line++;
		else if (*t->p != ' ' && *t->p != '\t' && *t->p != '\r' && *t->p != ',' &&
		         *t->p != ';')
			return;
	}
}

static int word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '+' || c == '.';
}

static size_t word(struct text *t, const char **from)
{
	*from = t->p;
	while (t->p < t->end && word_char(*t->p))
		t->p++;
	return (size_t)(t->p - *from);
}

/* A "string"; of the escapes only the quote and the backslash. */
static enum tao_err string(struct text *t, struct tao_buf *out)
{
	for (t->p++; t->p < t->end && *t->p != '"'; t->p++) {
		if (*t->p == '\n' || *t->p == 0)
			return wrong(t, "a string does not end");
		if (*t->p == '\\' && (t->end - t->p < 2 || (t->p[1] != '"' && t->p[1] != '\\')))
			return wrong(t, "a string has an escape that is not read here");
		if (*t->p == '\\')
			t->p++;
		tao_buf_u8(out, (uint8_t)*t->p);
	}
	if (t->p == t->end)
		return wrong(t, "a string does not end");
	t->p++;
	return tao_buf_err(out);
}

static enum tao_err keep(const char *name, size_t n, struct tao_buf *value, struct compat_config *c)
{
	for (size_t i = 0; i < N_FIELDS; i++) {
		if (strlen(fields[i].name) != n || memcmp(fields[i].name, name, n) != 0)
			continue;
		if (value->n == 0)
			return TAO_OK; /* the default */
		free(*slot(c, &fields[i]));
		*slot(c, &fields[i]) = tao_buf_steal(value);
		return *slot(c, &fields[i]) != NULL ? TAO_OK : tao_fail_nomem();
	}
	return TAO_OK;
}

/* One "name: value", or the beginning or end of a block. */
static enum tao_err item(struct text *t, struct compat_config *c)
{
	struct tao_buf value = TAO_BUF_INIT;
	const char *name, *number;
	enum tao_err e = TAO_OK;
	size_t n;

	if (*t->p == '>' || *t->p == '}') {
		t->p++;
		return --t->depth >= 0 ? TAO_OK : wrong(t, "a block ends that did not begin");
	}
	n = word(t, &name);
	skip_space(t);
	if (n == 0 || t->p == t->end)
		return wrong(t, "expected a field and its value");
	if (*t->p == ':') {
		t->p++;
		skip_space(t);
	}
	if (t->p < t->end && (*t->p == '<' || *t->p == '{')) {
		t->p++;
		return ++t->depth <= DEPTH_MAX ? TAO_OK
		                               : wrong(t, "too many blocks in one another");
	}
	if (t->p < t->end && *t->p == '"')
		e = string(t, &value);
	else if (word(t, &number) == 0)
		e = wrong(t, "expected a value");
	if (e == TAO_OK)
		e = keep(name, n, &value, c);
	tao_buf_free(&value);
	return e;
}

enum tao_err compat_config(const struct tao_buf *text, struct compat_config *out)
{
	const char *p = text->n > 0 ? (const char *)text->p : "";
	struct text t = { p, p + text->n, 1, 0 };
	enum tao_err e = TAO_OK;

	memset(out, 0, sizeof *out);
	for (skip_space(&t); e == TAO_OK && t.p < t.end; skip_space(&t))
		e = item(&t, out);
	if (e == TAO_OK && t.depth != 0)
		e = wrong(&t, "a block does not end: the file is truncated");
	for (size_t i = 0; e == TAO_OK && i < N_FIELDS; i++) {
		char **s = slot(out, &fields[i]);

		if (*s == NULL && fields[i].preset == NULL)
			e = tao_fail(TAO_EFORMAT,
			             "%s is missing: the file is truncated or something else",
			             fields[i].name);
		else if (*s == NULL && (*s = strdup(fields[i].preset)) == NULL)
			e = tao_fail_nomem();
	}
	return e;
}

void compat_config_clear(struct compat_config *c)
{
	for (size_t i = 0; i < N_FIELDS; i++)
		free(*slot(c, &fields[i]));
	memset(c, 0, sizeof *c);
}
