#include "cmd.h"

#include <stdio.h>
#include <string.h>

enum { OPT_ISSUER = 1, OPT_FROM, OPT_UNTIL, OPT_OUT };

static const struct option options[] = {
	{ "issuer", required_argument, NULL, OPT_ISSUER },
	{ "from", required_argument, NULL, OPT_FROM },
	{ "until", required_argument, NULL, OPT_UNTIL },
	{ "out", required_argument, NULL, OPT_OUT },
	{ NULL, 0, NULL, 0 },
};

struct wanted {
	const char *issuer, *out, *formula;
	int64_t from, until;
};

/* 1: fine. 0: env->status. */
static int set(struct cmd_env *env, int c, struct wanted *w)
{
	switch (c) {
	case OPT_ISSUER:
		w->issuer = optarg;
		return 1;
	case OPT_FROM:
		return cmd_number(env, "--from", optarg, 0, INT64_MAX, &w->from);
	case OPT_UNTIL:
		return cmd_number(env, "--until", optarg, 0, INT64_MAX, &w->until);
	default:
		w->out = optarg;
		return 1;
	}
}

static int parse(struct cmd_env *env, int argc, char **argv, struct wanted *w)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END)
		if (c == CMD_STOP || !set(env, c, w))
			return 0;
	if (argc - optind != 1) {
		env->status = cmd_usage(env, "give one formula; quote it for the shell");
		return 0;
	}
	w->formula = argv[optind];
	return 1;
}

static enum tao_err attest(struct cmd_env *env, const struct wanted *w, struct tao_buf *att)
{
	struct tao_node *form = NULL, *issuer = NULL;
	struct tao_parent *p = NULL;
	enum tao_err e = tao_form_parse(w->formula, strlen(w->formula), &form);

	if (e == TAO_OK && w->issuer != NULL)
		e = tao_prin_parse(w->issuer, strlen(w->issuer), &issuer);
	if (e == TAO_OK)
		e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = tao_parent_attest(p, issuer, w->from, w->until, form, att);
	tao_node_free(form);
	tao_node_free(issuer);
	tao_parent_close(p);
	return e;
}

int cmd_attest(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { NULL, NULL, NULL, TAO_NOW, TAO_NOW };
	struct tao_buf att = TAO_BUF_INIT;
	enum tao_err e;

	if (!parse(env, argc, argv, &w))
		return env->status;
	e = attest(env, &w, &att);
	if (e == TAO_OK)
		e = cmd_output(w.out, att.p, att.n, 0644);
	tao_buf_free(&att);
	return e == TAO_OK ? 0 : cmd_failed(env);
}
