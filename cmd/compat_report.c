/* tao compat: reports, line by line. */
#include "compat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int make_room(struct compat_report *r)
{
	size_t cap = r->cap == 0 ? 16 : 2 * r->cap;
	struct compat_line *line;

	if (r->n < r->cap)
		return 1;
	line = reallocarray(r->line, cap, sizeof *line);
	if (line == NULL)
		return 0;
	r->line = line;
	r->cap = cap;
	return 1;
}

/* Takes the value over. */
static void add(struct compat_report *r, const char *name, char *value)
{
	if (r->err == TAO_OK && (value == NULL || !make_room(r)))
		r->err = TAO_ENOMEM;
	if (r->err != TAO_OK) {
		free(value);
		return;
	}
	r->line[r->n].name = name;
	r->line[r->n++].value = value;
}

void compat_say(struct compat_report *r, const char *name, const char *fmt, ...)
{
	char *value = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0)
		value = NULL;
	va_end(ap);
	add(r, name, value);
}

void compat_say_node(struct compat_report *r, const char *name, const struct tao_node *n)
{
	add(r, name, tao_node_text(n));
}

void compat_say_key(struct compat_report *r, const char *name, const char *word, const void *spki,
                    size_t n)
{
	struct tao_buf b = TAO_BUF_INIT;
	uint8_t hash[TAO_HASH_LEN];

	if (tao_sha256(spki, n, hash) != TAO_OK) {
		r->err = r->err == TAO_OK ? TAO_ECRYPTO : r->err;
		return;
	}
	tao_buf_fmt(&b, "%s([", word);
	tao_buf_hex(&b, hash, sizeof hash);
	tao_buf_str(&b, "])");
	add(r, name, tao_buf_steal(&b));
}

enum tao_err compat_err(const struct compat_report *r)
{
	return r->err == TAO_ENOMEM ? tao_fail_nomem() : r->err;
}

void compat_clear(struct compat_report *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->line[i].value);
	free(r->line);
	memset(r, 0, sizeof *r);
}
