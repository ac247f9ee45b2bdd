/* tao seal and tao unseal. */
#include "cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BLOB  (1u << 20) /* more than a host makes */
#define BLOB_MODE 0644       /* sealed: no secret */
#define DATA_MODE 0600
#define SECOND    INT64_C(1000000000)

enum { OPT_POLICY = 1, OPT_OUT, OPT_SHOW, OPT_LABEL, OPT_EXPIRES, OPT_ROLLBACK, OPT_PREPARE };

static const struct option seal_options[] = {
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "label", required_argument, NULL, OPT_LABEL },
	{ "expires", required_argument, NULL, OPT_EXPIRES },
	{ "rollback", required_argument, NULL, OPT_ROLLBACK },
	{ "prepare", no_argument, NULL, OPT_PREPARE },
	{ "out", required_argument, NULL, OPT_OUT },
	{ NULL, 0, NULL, 0 },
};

static const struct option unseal_options[] = {
	{ "show-policy", no_argument, NULL, OPT_SHOW },
	{ "label", required_argument, NULL, OPT_LABEL },
	{ "rollback", no_argument, NULL, OPT_ROLLBACK },
	{ "out", required_argument, NULL, OPT_OUT },
	{ NULL, 0, NULL, 0 },
};

struct wanted {
	struct tao_sealing how;
	const char *out, *file;
	int show, rollback, prepare;
};

/* Nanoseconds since 1970, or a number with s, m, h or d behind it: from now on. */
static int parse_expires(struct cmd_env *env, const char *text, int64_t *out)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno == 0 && end != text && v > 0 && *end == 0) {
		*out = v;
		return 1;
	}
	if (cmd_seconds(text, out) && *out > 0 && *out <= (INT64_MAX - tao_now_ns()) / SECOND) {
		*out = tao_now_ns() + *out * SECOND;
		return 1;
	}
	env->status = cmd_usage(env, "--expires is a number of nanoseconds since 1970, or of "
	                        "seconds, minutes, hours or days from now (90s, 5m, 12h, 30d), not "
	                        "'%s'", text);
	return 0;
}

static int set(struct cmd_env *env, int c, struct wanted *w)
{
	switch (c) {
	case OPT_POLICY:
		w->how.policy = optarg;
		break;
	case OPT_LABEL:
		w->how.label = optarg;
		break;
	case OPT_EXPIRES:
		return parse_expires(env, optarg, &w->how.expires);
	case OPT_ROLLBACK:
		w->rollback = 1;
		w->how.label = optarg != NULL ? optarg : w->how.label;
		break;
	case OPT_PREPARE:
		w->prepare = 1;
		break;
	case OPT_SHOW:
		w->show = 1;
		break;
	case OPT_OUT:
		w->out = optarg;
		break;
	}
	return 1;
}

static int parse(struct cmd_env *env, int argc, char **argv, const struct option *options,
                 struct wanted *w)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END)
		if (c == CMD_STOP || !set(env, c, w))
			return 0;
	w->file = argv[optind];
	if (argc - optind > 1)
		env->status = cmd_usage(env, "give one file, or none for standard input");
	else if (w->prepare && !w->rollback)
		env->status = cmd_usage(env, "--prepare is for --rollback");
	else if (options == seal_options && (w->prepare || env->json) && w->out == NULL)
		env->status = cmd_usage(env, "say with --out where the sealed data goes");
	else
		return 1;
	return 0;
}

/* ---- sealing ---- */

struct sealed {
	struct tao_buf blob;
	uint32_t epoch;
	int64_t counter; /* prepared */
};

static enum tao_err seal(struct tao_parent *p, const struct wanted *w, const struct tao_buf *data,
                         struct sealed *s)
{
	if (w->prepare)
		return tao_parent_rollback_prepare(p, data->p, data->n, &w->how, &s->blob,
		                                   &s->counter);
	if (w->rollback)
		return tao_parent_rollback_seal_as(p, data->p, data->n, &w->how, &s->blob,
		                                   &s->epoch);
	return tao_parent_seal_as(p, data->p, data->n, &w->how, &s->blob, &s->epoch);
}

static int print_sealed(const struct cmd_env *env, const struct wanted *w, const struct sealed *s)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (!env->json) {
		if (w->prepare)
			printf("%lld\n", (long long)s->counter);
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "file", w->out);
	tao_json_int(&j, "bytes", (int64_t)s->blob.n);
	if (w->prepare)
		tao_json_int(&j, "counter", s->counter);
	else
		tao_json_int(&j, "epoch", s->epoch);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

int cmd_seal(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { .out = NULL };
	struct sealed s = { .blob = TAO_BUF_INIT };
	struct tao_buf data = TAO_BUF_INIT;
	struct tao_parent *p = NULL;
	int status;
	enum tao_err e;

	if (!parse(env, argc, argv, seal_options, &w))
		return env->status;
	e = cmd_input(w.file, TAO_PARENT_SEAL_MAX, &data);
	if (e == TAO_OK)
		e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = seal(p, &w, &data, &s);
	if (e == TAO_OK)
		e = cmd_output(w.out, s.blob.p, s.blob.n, BLOB_MODE);
	status = e == TAO_OK ? print_sealed(env, &w, &s) : cmd_failed(env);
	tao_parent_close(p);
	tao_buf_free(&data);
	tao_buf_free(&s.blob);
	return status;
}

/* ---- unsealing ---- */

static int print_unsealed(const struct cmd_env *env, const struct tao_unsealed *what)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (!env->json) {
		printf("%s\n", what->policy);
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "policy", what->policy);
	if (what->label[0] != 0)
		tao_json_str(&j, "label", what->label);
	if (what->expires != 0)
		tao_json_int(&j, "expires", what->expires);
	tao_json_int(&j, "epoch", what->epoch);
	tao_json_int(&j, "host_epoch", what->host_epoch);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

int cmd_unseal(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { .out = NULL };
	struct tao_buf data = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	struct tao_unsealed what;
	struct tao_parent *p = NULL;
	int status = 0;
	enum tao_err e;

	if (!parse(env, argc, argv, unseal_options, &w))
		return env->status;
	e = cmd_input(w.file, MAX_BLOB, &blob);
	if (e == TAO_OK)
		e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = (w.rollback ? tao_parent_rollback_unseal_as : tao_parent_unseal_as)(
			p, blob.p, blob.n, w.how.label, &data, &what);
	if (e == TAO_OK && w.show)
		status = print_unsealed(env, &what);
	else if (e == TAO_OK)
		e = cmd_output(w.out, data.p, data.n, DATA_MODE);
	if (e != TAO_OK)
		status = cmd_failed(env);
	tao_parent_close(p);
	tao_buf_free(&data);
	tao_buf_free(&blob);
	return status;
}
