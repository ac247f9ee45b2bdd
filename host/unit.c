#include "unit.h"

#include <string.h>

#define SLICE "system.slice"

/* Bytes to the next c or to the end, which r is behind then. NULL: there is none. */
static const char *field(struct tao_rd *r, char c, size_t *n)
{
	const void *p = r->p, *end = r->n > 0 ? memchr(r->p, c, r->n) : NULL;

	if (end == NULL)
		return NULL;
	*n = (size_t)((const char *)end - (const char *)p);
	tao_rd_bytes(r, *n + 1);
	return p;
}

static int is(const char *p, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(p, word, n) == 0;
}

static int ends(const char *p, size_t n, const char *suffix)
{
	size_t k = strlen(suffix);

	return n > k && memcmp(p + n - k, suffix, k) == 0;
}

/* system.slice, then slices, then one service. */
static int is_service(const char *path, size_t n)
{
	const char *slash = memchr(path, '/', n);

	if (slash == NULL || !is(path, (size_t)(slash - path), SLICE) || memchr(path, 0, n) != NULL)
		return 0;
	for (;;) {
		n -= (size_t)(slash + 1 - path);
		path = slash + 1;
		slash = memchr(path, '/', n);
		if (slash == NULL)
			return ends(path, n, ".service");
		if (!ends(path, (size_t)(slash - path), ".slice"))
			return 0;
	}
}

static void take(const char *path, size_t n, char unit[UNIT_MAX + 1])
{
	unit[0] = 0;
	if (n < 2 || n - 1 > UNIT_MAX || path[0] != '/' || !is_service(path + 1, n - 1))
		return;
	memcpy(unit, path + 1, n - 1);
	unit[n - 1] = 0;
}

void unit_parse(const void *text, size_t n, char unit[UNIT_MAX + 1])
{
	struct tao_rd all = tao_rd_of(text, n);
	const char *line;
	size_t line_n;

	unit[0] = 0;
	while ((line = field(&all, '\n', &line_n)) != NULL) {
		struct tao_rd r = tao_rd_of(line, line_n);
		size_t id_n = 0, what_n = 0;
		const char *id = field(&r, ':', &id_n);
		const char *what = id != NULL ? field(&r, ':', &what_n) : NULL;
		int first = what != NULL && is(what, what_n, "name=systemd");

		if (first || (what != NULL && what_n == 0 && is(id, id_n, "0")))
			take((const char *)r.p, r.n, unit);
		if (first)
			return;
	}
}

const char *unit_name(const char *unit)
{
	const char *slash = strrchr(unit, '/');

	return slash != NULL ? slash + 1 : unit;
}
