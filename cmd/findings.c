#include "cmd.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const levels[] = {
	[CMD_GOOD] = "ok",
	[CMD_WARNING] = "warning",
	[CMD_BAD] = "error",
};

void cmd_found(struct cmd_findings *f, enum cmd_level level, long line, const char *fmt, ...)
{
	struct cmd_finding *one;
	va_list ap;

	f->bad += level == CMD_BAD;
	if (f->n == f->cap) {
		size_t cap = f->cap == 0 ? 32 : 2 * f->cap;
		struct cmd_finding *more = reallocarray(f->v, cap, sizeof *more);

		if (more == NULL)
			return;
		f->v = more;
		f->cap = cap;
	}
	one = &f->v[f->n++];
	memset(one, 0, sizeof *one);
	one->level = level;
	one->line = line;
	one->file = f->file != NULL ? strdup(f->file) : NULL;
	va_start(ap, fmt);
	if (vasprintf(&one->text, fmt, ap) < 0)
		one->text = NULL;
	va_end(ap);
}

static void put_text(const struct cmd_finding *one)
{
	struct tao_buf b = TAO_BUF_INIT;

	if (one->file != NULL && one->level != CMD_GOOD) {
		cmd_escape(&b, one->file);
		if (one->line > 0)
			tao_buf_fmt(&b, ":%ld", one->line);
		tao_buf_str(&b, ": ");
	}
	cmd_escape(&b, one->text != NULL ? one->text : "out of memory");
	printf("%-9s%s\n", levels[one->level], tao_buf_cstr(&b));
	tao_buf_free(&b);
}

static void put_json(const struct cmd_env *env, const struct cmd_findings *f)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_bool(&j, "works", f->bad == 0);
	tao_json_begin(&j, "findings", '[');
	for (size_t i = 0; i < f->n; i++) {
		const struct cmd_finding *one = &f->v[i];

		tao_json_begin(&j, NULL, '{');
		tao_json_str(&j, "level", levels[one->level]);
		if (one->file != NULL)
			tao_json_str(&j, "file", one->file);
		if (one->line > 0)
			tao_json_int(&j, "line", one->line);
		tao_json_str(&j, "text", one->text);
		tao_json_end(&j, '}');
	}
	tao_json_end(&j, ']');
	tao_json_end(&j, '}');
	cmd_put_json(env, &b);
}

void cmd_findings_clear(struct cmd_findings *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].file);
		free(f->v[i].text);
	}
	free(f->v);
	memset(f, 0, sizeof *f);
}

int cmd_findings_print(const struct cmd_env *env, struct cmd_findings *f)
{
	int status = f->bad > 0;

	if (env->json)
		put_json(env, f);
	for (size_t i = 0; i < f->n && !env->json; i++)
		put_text(&f->v[i]);
	cmd_findings_clear(f);
	return status;
}
