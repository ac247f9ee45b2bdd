#include "policy.h"

#include <stdio.h>

static int json(const struct cmd_env *env, const Tao__PolicyResponse *rs)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_int(&j, "version", (int64_t)rs->version);
	tao_json_str(&j, "date", rs->date);
	tao_json_begin(&j, "facts", '[');
	for (size_t i = 0; i < rs->n_facts; i++)
		tao_json_str(&j, NULL, rs->facts[i]);
	tao_json_end(&j, ']');
	tao_json_begin(&j, "notices", '[');
	for (size_t i = 0; i < rs->n_notices; i++)
		tao_json_str(&j, NULL, rs->notices[i]);
	tao_json_end(&j, ']');
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

static void text(const struct cmd_env *env, const Tao__PolicyResponse *rs, int facts)
{
	struct tao_buf b = TAO_BUF_INIT;

	for (size_t i = 0; facts && i < rs->n_facts; i++) {
		cmd_escape(&b, rs->facts[i]);
		tao_buf_u8(&b, '\n');
	}
	tao_buf_fmt(&b, "rules version %llu of ", (unsigned long long)rs->version);
	cmd_escape(&b, rs->date);
	puts(tao_buf_cstr(&b));
	tao_buf_free(&b);
	for (size_t i = 0; i < rs->n_notices; i++)
		cmd_notice(env, rs->notices[i]);
}

int policy_ask(struct cmd_env *env, const char *op, const ProtobufCMessage *rq, int fd, int facts)
{
	Tao__PolicyResponse *rs = NULL;
	int status = 0;

	if (cmd_ask(env, op, rq, fd, &tao__policy_response__descriptor, (ProtobufCMessage **)&rs) !=
	    TAO_OK)
		return cmd_failed(env);
	if (env->json)
		status = json(env, rs);
	else
		text(env, rs, facts);
	tao__policy_response__free_unpacked(rs, NULL);
	return status;
}

int cmd_policy_show(struct cmd_env *env, int argc, char **argv)
{
	if (!cmd_operands(env, argc, argv, 0, 0))
		return env->status;
	return policy_ask(env, "Host.Policy", NULL, -1, 1);
}

static int change(struct cmd_env *env, const char *op, int argc, char **argv)
{
	Tao__FactRequest rq = TAO__FACT_REQUEST__INIT;

	if (!cmd_operands(env, argc, argv, 1, 1))
		return env->status;
	rq.fact = argv[optind];
	return policy_ask(env, op, &rq.base, -1, 0);
}

int cmd_policy_add(struct cmd_env *env, int argc, char **argv)
{
	return change(env, "Host.AddFact", argc, argv);
}

int cmd_policy_remove(struct cmd_env *env, int argc, char **argv)
{
	return change(env, "Host.RemoveFact", argc, argv);
}
