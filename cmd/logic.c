/* tao logic: formulas, terms and principals from text to hex and back, a line each. */
#include "cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../tao/logic.h"

#define CHUNK   65536
#define MAX_HEX (2 * TAO_LOGIC_MAX_TEXT) /* digits of an encoding */

enum { OPT_TERM = 1, OPT_PRINCIPAL };

static const struct option options[] = {
	{ "term", no_argument, NULL, OPT_TERM },
	{ "principal", no_argument, NULL, OPT_PRINCIPAL },
	{ NULL, 0, NULL, 0 },
};

/* By option; 0: none was given. */
static const struct kind {
	enum tao_err (*parse)(const char *text, size_t len, struct tao_node **out);
	enum tao_err (*decode)(const void *p, size_t n, struct tao_node **out);
} kinds[] = {
	[0] = { tao_form_parse, tao_form_decode },
	[OPT_TERM] = { tao_term_parse, tao_term_decode },
	[OPT_PRINCIPAL] = { tao_prin_parse, tao_prin_decode },
};

/* Appends the other form of the line to out. */
typedef enum tao_err turn_fn(const struct kind *k, const struct tao_rd *line, struct tao_buf *out);

struct direction {
	turn_fn *turn;
	size_t max; /* bytes of a line */
};

/* Standard input, as far as it was read. */
struct input {
	char chunk[CHUNK];
	size_t at, n;
	enum tao_err err;
};

/* What was answered so far is written before this waits for more. 0: there is no more. */
static int fill(struct input *in)
{
	ssize_t got;

	if (fflush(stdout) != 0)
		return 0; /* main() tells */
	do
		got = read(STDIN_FILENO, in->chunk, sizeof in->chunk);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		in->err = tao_fail_sys("cannot read standard input");
	in->at = 0;
	in->n = got > 0 ? (size_t)got : 0;
	return got > 0;
}

/* The next line, without its end; 0 if there is none. Of a longer one than max, max + 1 bytes. */
static int next_line(struct input *in, size_t max, struct tao_buf *line)
{
	int any = 0;

	tao_buf_reset(line);
	while (in->at < in->n || fill(in)) {
		const char *p = in->chunk + in->at, *end = memchr(p, '\n', in->n - in->at);
		size_t n = end != NULL ? (size_t)(end - p) : in->n - in->at;

		tao_buf_put(line, p, n < max + 1 - line->n ? n : max + 1 - line->n);
		in->at += n + (end != NULL);
		any = 1;
		if (end != NULL)
			break;
	}
	return any && in->err == TAO_OK;
}

static enum tao_err encode(const struct kind *k, const struct tao_rd *line, struct tao_buf *out)
{
	struct tao_buf bin = TAO_BUF_INIT;
	struct tao_node *n;
	enum tao_err e = k->parse((const char *)line->p, line->n, &n);

	if (e == TAO_OK) {
		tao_node_encode(n, &bin);
		tao_buf_hex(out, bin.p, bin.n);
		e = tao_buf_err(&bin);
	}
	tao_node_free(n);
	tao_buf_free(&bin);
	return e;
}

static enum tao_err unhex(const struct tao_rd *line, struct tao_buf *out)
{
	uint8_t *to;

	for (size_t i = 0; i < line->n; i++)
		if (!(line->p[i] >= '0' && line->p[i] <= '9') &&
		    !(line->p[i] >= 'a' && line->p[i] <= 'f'))
			return tao_fail(TAO_EFORMAT, "column %zu: expected a lower-case hex digit",
			                i + 1);
	if (line->n % 2 != 0)
		return tao_fail(TAO_EFORMAT, "the number of hex digits is odd");
	to = tao_buf_room(out, line->n / 2);
	if (to == NULL)
		return tao_buf_err(out);
	return tao_unhex((const char *)line->p, line->n, to, line->n / 2);
}

static enum tao_err decode(const struct kind *k, const struct tao_rd *line, struct tao_buf *out)
{
	struct tao_buf bin = TAO_BUF_INIT;
	struct tao_node *n = NULL;
	enum tao_err e =
	    line->n > 0 ? unhex(line, &bin) : tao_fail(TAO_EFORMAT, "the line is empty");

	if (e == TAO_OK)
		e = k->decode(bin.p, bin.n, &n);
	if (e == TAO_OK)
		tao_node_print(n, out);
	tao_node_free(n);
	tao_buf_free(&bin);
	return e;
}

static const struct direction encoding = { encode, TAO_LOGIC_MAX_TEXT };
static const struct direction decoding = { decode, MAX_HEX };

static enum tao_err turn(const struct direction *d, const struct kind *k,
                         const struct tao_buf *line, struct tao_buf *out)
{
	struct tao_rd rd = tao_rd_of(line->p, line->n);
	enum tao_err e = tao_buf_err(line);

	if (e != TAO_OK)
		return e;
	if (rd.n > d->max)
		return tao_fail(TAO_ELIMIT, "the line is longer than %zu bytes", d->max);
	if (rd.n > 0 && rd.p[rd.n - 1] == '\r')
		rd.n--;
	e = d->turn(k, &rd, out);
	return e == TAO_OK ? tao_buf_err(out) : e;
}

/* Returns how many lines were bad. */
static uint64_t turn_all(const struct direction *d, const struct kind *k, struct input *in)
{
	struct tao_buf line = TAO_BUF_INIT, out = TAO_BUF_INIT;
	uint64_t number = 0, bad = 0;

	while (next_line(in, d->max, &line)) {
		tao_buf_reset(&out);
		number++;
		if (turn(d, k, &line, &out) != TAO_OK) {
			bad++;
			tao_buf_reset(&out);
			tao_buf_fmt(&out, "error: %" PRIu64 ": ", number);
			cmd_escape(&out, tao_why());
		}
		tao_buf_u8(&out, '\n');
		fwrite(out.p, 1, out.n, stdout);
	}
	tao_buf_free(&line);
	tao_buf_free(&out);
	return bad;
}

static int logic(struct cmd_env *env, int argc, char **argv, const struct direction *d)
{
	struct input in = { .n = 0 };
	int c, kind = 0;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (kind != 0 && kind != c)
			return cmd_usage(env, "choose --term or --principal");
		kind = c;
	}
	if (optind < argc)
		return cmd_usage(env, "'%s' is too much: the lines come from standard input",
		                 argv[optind]);
	if (turn_all(d, &kinds[kind], &in) == 0 && in.err == TAO_OK)
		return 0;
	if (in.err == TAO_OK)
		tao_fail(TAO_EFORMAT, "some lines are wrong: the output says which and why");
	return cmd_failed(env);
}

int cmd_logic_encode(struct cmd_env *env, int argc, char **argv)
{
	return logic(env, argc, argv, &encoding);
}

int cmd_logic_decode(struct cmd_env *env, int argc, char **argv)
{
	return logic(env, argc, argv, &decoding);
}
