/* tao counter: counters of the program that it runs in. */
#include "cmd.h"

#include <stdio.h>

static int print(struct cmd_env *env, const char *label, int64_t value)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (!env->json) {
		printf("%lld\n", (long long)value);
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "label", label);
	tao_json_int(&j, "counter", value);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

int cmd_counter_get(struct cmd_env *env, int argc, char **argv)
{
	struct tao_parent *p = NULL;
	int64_t value;
	enum tao_err e;

	if (!cmd_operands(env, argc, argv, 1, 1))
		return env->status;
	e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = tao_parent_get_counter(p, argv[optind], &value);
	tao_parent_close(p);
	return e == TAO_OK ? print(env, argv[optind], value) : cmd_failed(env);
}

int cmd_counter_init(struct cmd_env *env, int argc, char **argv)
{
	struct tao_parent *p = NULL;
	int64_t value = 0;
	enum tao_err e;

	if (!cmd_operands(env, argc, argv, 1, 2))
		return env->status;
	if (argc - optind == 2 && !cmd_number(env, "N", argv[optind + 1], 0, INT64_MAX, &value))
		return env->status;
	e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = tao_parent_init_counter(p, argv[optind], value);
	tao_parent_close(p);
	return e == TAO_OK ? 0 : cmd_failed(env);
}
