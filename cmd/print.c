#include "cmd.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define FIELD_WIDTH 13
#define GAP "  "

/* Length of the well-formed UTF-8 character at s (RFC 3629), 0 if there is none. */
static size_t utf8(const unsigned char *s)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3
	           : s[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static int is_control(const unsigned char *s)
{
	return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

void cmd_escape(struct tao_buf *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	while (*s != 0) {
		size_t n = utf8(s);

		if (n == 0 || is_control(s)) {
			tao_buf_fmt(out, "\\x%02x", *s++);
			continue;
		}
		tao_buf_put(out, s, n);
		s += n;
	}
}

void cmd_notice(const struct cmd_env *env, const char *sentence)
{
	struct tao_buf b = TAO_BUF_INIT;

	cmd_escape(&b, sentence);
	fprintf(stderr, "tao%s%s: %s\n", *env->name != 0 ? " " : "", env->name, tao_buf_cstr(&b));
	tao_buf_free(&b);
}

int cmd_failed(const struct cmd_env *env)
{
	cmd_notice(env, tao_why());
	return 1;
}

void cmd_field(const char *name, const char *text)
{
	struct tao_buf b = TAO_BUF_INIT;

	if (text == NULL)
		return;
	cmd_escape(&b, text);
	printf("%-*s%s\n", FIELD_WIDTH, name, tao_buf_cstr(&b));
	tao_buf_free(&b);
}

void cmd_fieldf(const char *name, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) >= 0)
		cmd_field(name, text);
	va_end(ap);
	free(text);
}

int cmd_put_json(const struct cmd_env *env, struct tao_buf *b)
{
	int status = 0;

	if (tao_buf_err(b) != TAO_OK)
		status = cmd_failed(env);
	else
		printf("%s\n", tao_buf_cstr(b));
	tao_buf_free(b);
	return status;
}

const char *cmd_time(int64_t seconds, char out[CMD_TIME_MAX])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL ||
	    strftime(out, CMD_TIME_MAX, "%Y-%m-%dT%H:%M:%S%z", &tm) == 0)
		snprintf(out, CMD_TIME_MAX, "%lld", (long long)seconds);
	return out;
}

const char *cmd_duration(int64_t seconds, char out[CMD_TIME_MAX])
{
	long long s = seconds < 0 ? 0 : seconds;

	if (s < 60)
		snprintf(out, CMD_TIME_MAX, "%lld s", s);
	else if (s < 3600)
		snprintf(out, CMD_TIME_MAX, "%lld min", s / 60);
	else if (s < 48 * 3600)
		snprintf(out, CMD_TIME_MAX, "%lld h %lld min", s / 3600, s / 60 % 60);
	else
		snprintf(out, CMD_TIME_MAX, "%lld days", s / 86400);
	return out;
}

static size_t width(const char *s)
{
	size_t n = 0;

	for (; s != NULL && *s != 0; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

void cmd_cell(struct cmd_grid *g, const char *fmt, ...)
{
	struct tao_buf clean = TAO_BUF_INIT;
	char *text = NULL;
	va_list ap;

	if (g->n == g->cap) {
		size_t cap = g->cap == 0 ? 64 : 2 * g->cap;
		char **more = reallocarray(g->cell, cap, sizeof *more);

		if (more == NULL)
			return;
		g->cell = more;
		g->cap = cap;
	}
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text != NULL)
		cmd_escape(&clean, *text != 0 ? text : "-");
	g->cell[g->n++] = tao_buf_steal(&clean);
	free(text);
}

/* The line, without the blanks at its end, cut at the terminal's edge. */
static void put_line(struct tao_buf *line, size_t edge)
{
	const char *s = tao_buf_cstr(line), *p = s;

	while (line->n > 0 && s[line->n - 1] == ' ')
		line->p[--line->n] = 0;
	for (size_t n = 0; *p != 0; p++) {
		n += (*p & 0xc0) != 0x80;
		if (n > edge)
			break;
	}
	printf("%.*s\n", (int)(p - s), s);
}

void cmd_grid_print(struct cmd_grid *g)
{
	struct tao_buf line = TAO_BUF_INIT;
	struct winsize ws;
	size_t edge = (size_t)-1;

	if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
		edge = ws.ws_col;
	for (size_t row = 0; row + g->cols <= g->n; row += g->cols) {
		tao_buf_reset(&line);
		for (size_t col = 0; col < g->cols; col++) {
			const char *s = g->cell[row + col] != NULL ? g->cell[row + col] : "?";
			size_t most = 0;

			for (size_t i = col; i < g->n; i += g->cols)
				most = width(g->cell[i]) > most ? width(g->cell[i]) : most;
			tao_buf_fmt(&line, "%s%*s%s", s, (int)(most - width(s)), "", GAP);
		}
		put_line(&line, edge);
	}
	for (size_t i = 0; i < g->n; i++)
		free(g->cell[i]);
	free(g->cell);
	memset(g, 0, sizeof *g);
	tao_buf_free(&line);
}
