#include "cmd.h"

#include <string.h>

static enum tao_err extend(struct cmd_env *env, const char *text)
{
	struct tao_buf dotted = TAO_BUF_INIT;
	struct tao_parent *p = NULL;
	struct tao_node *sub = NULL;
	enum tao_err e;

	/* A subprincipal starts with a dot: Worker(3) may be written as well. */
	tao_buf_fmt(&dotted, "%s%s", text[0] == '.' ? "" : ".", text);
	e = tao_buf_err(&dotted);
	if (e == TAO_OK)
		e = tao_subprin_parse(tao_buf_cstr(&dotted), dotted.n, &sub);
	if (e == TAO_OK)
		e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = tao_parent_extend(p, sub);
	tao_node_free(sub);
	tao_parent_close(p);
	tao_buf_free(&dotted);
	return e;
}

int cmd_extend(struct cmd_env *env, int argc, char **argv)
{
	if (!cmd_operands(env, argc, argv, 1, 1))
		return env->status;
	return extend(env, argv[optind]) == TAO_OK ? 0 : cmd_failed(env);
}
