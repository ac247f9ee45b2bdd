/* tao random and tao secret: bytes from the host, fresh ones or the same again. */
#include "cmd.h"

#include <stdlib.h>

#include <openssl/crypto.h>

enum { OPT_RAW = 1, OPT_POLICY, OPT_LABEL };

static const struct option random_options[] = {
	{ "raw", no_argument, NULL, OPT_RAW },
	{ NULL, 0, NULL, 0 },
};

static const struct option secret_options[] = {
	{ "raw", no_argument, NULL, OPT_RAW },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "label", required_argument, NULL, OPT_LABEL },
	{ NULL, 0, NULL, 0 },
};

struct wanted {
	const char *policy, *label;
	int raw;
	int64_t n;
};

static int parse(struct cmd_env *env, int argc, char **argv, const struct option *options,
                 int64_t most, struct wanted *w)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (c == OPT_RAW)
			w->raw = 1;
		else
			*(c == OPT_LABEL ? &w->label : &w->policy) = optarg;
	}
	if (argc - optind != 1) {
		env->status = cmd_usage(env, "give the number of bytes");
		return 0;
	}
	return cmd_number(env, "N", argv[optind], 1, most, &w->n);
}

static enum tao_err print(struct cmd_env *env, const struct wanted *w, int secret)
{
	size_t n = (size_t)w->n;
	uint8_t *bytes = malloc(n);
	struct tao_parent *p = NULL;
	enum tao_err e = bytes != NULL ? cmd_parent(env, &p) : tao_fail_nomem();

	if (e == TAO_OK)
		e = secret ? tao_parent_shared_secret_as(p, w->policy, w->label, bytes, n)
		           : tao_parent_random(p, bytes, n);
	if (e == TAO_OK)
		e = cmd_output_hex(bytes, n, w->raw);
	if (bytes != NULL)
		OPENSSL_cleanse(bytes, n);
	free(bytes);
	tao_parent_close(p);
	return e;
}

int cmd_random(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { NULL, NULL, 0, 0 };

	if (!parse(env, argc, argv, random_options, TAO_PARENT_RANDOM_MAX, &w))
		return env->status;
	return print(env, &w, 0) == TAO_OK ? 0 : cmd_failed(env);
}

int cmd_secret(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { NULL, NULL, 0, 0 };

	if (!parse(env, argc, argv, secret_options, TAO_PARENT_SECRET_MAX, &w))
		return env->status;
	return print(env, &w, 1) == TAO_OK ? 0 : cmd_failed(env);
}
