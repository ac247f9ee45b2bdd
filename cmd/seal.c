/* tao seal and tao unseal. */
#include "cmd.h"

#include <stdio.h>
#include <string.h>

#define MAX_BLOB  (1u << 20) /* more than a host makes */
#define BLOB_MODE 0644       /* sealed: no secret */
#define DATA_MODE 0600

enum { OPT_POLICY = 1, OPT_OUT, OPT_SHOW };

static const struct option seal_options[] = {
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "out", required_argument, NULL, OPT_OUT },
	{ NULL, 0, NULL, 0 },
};

static const struct option unseal_options[] = {
	{ "show-policy", no_argument, NULL, OPT_SHOW },
	{ "out", required_argument, NULL, OPT_OUT },
	{ NULL, 0, NULL, 0 },
};

struct wanted {
	const char *policy, *out, *file;
	int show;
};

static int parse(struct cmd_env *env, int argc, char **argv, const struct option *options,
                 struct wanted *w)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (c == OPT_SHOW)
			w->show = 1;
		else
			*(c == OPT_POLICY ? &w->policy : &w->out) = optarg;
	}
	if (argc - optind > 1) {
		env->status = cmd_usage(env, "give one file, or none for standard input");
		return 0;
	}
	w->file = argv[optind];
	return 1;
}

int cmd_seal(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { NULL, NULL, NULL, 0 };
	struct tao_buf data = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	struct tao_parent *p = NULL;
	enum tao_err e;

	if (!parse(env, argc, argv, seal_options, &w))
		return env->status;
	e = cmd_input(w.file, TAO_PARENT_SEAL_MAX, &data);
	if (e == TAO_OK)
		e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = tao_parent_seal(p, data.p, data.n, w.policy, &blob);
	if (e == TAO_OK)
		e = cmd_output(w.out, blob.p, blob.n, BLOB_MODE);
	tao_parent_close(p);
	tao_buf_free(&data);
	tao_buf_free(&blob);
	return e == TAO_OK ? 0 : cmd_failed(env);
}

int cmd_unseal(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { NULL, NULL, NULL, 0 };
	struct tao_buf data = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	char policy[TAO_PARENT_POLICY_MAX];
	struct tao_parent *p = NULL;
	enum tao_err e;

	if (!parse(env, argc, argv, unseal_options, &w))
		return env->status;
	e = cmd_input(w.file, MAX_BLOB, &blob);
	if (e == TAO_OK)
		e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = tao_parent_unseal(p, blob.p, blob.n, &data, policy);
	if (e == TAO_OK && w.show)
		printf("%s\n", policy);
	else if (e == TAO_OK)
		e = cmd_output(w.out, data.p, data.n, DATA_MODE);
	tao_parent_close(p);
	tao_buf_free(&data);
	tao_buf_free(&blob);
	return e == TAO_OK ? 0 : cmd_failed(env);
}
