#include "cmd.h"

#include <stdio.h>
#include <stdlib.h>

static enum tao_err fetch(struct cmd_env *env, char **text)
{
	struct tao_parent *p;
	struct tao_node *name = NULL;
	enum tao_err e = cmd_parent(env, &p);

	*text = NULL;
	if (e == TAO_OK)
		e = tao_parent_name(p, &name);
	if (e == TAO_OK && (*text = tao_node_text(name)) == NULL)
		e = tao_fail_nomem();
	tao_node_free(name);
	tao_parent_close(p);
	return e;
}

int cmd_name(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;
	char *text;
	int status = 0;

	if (!cmd_operands(env, argc, argv, 0, 0))
		return env->status;
	if (fetch(env, &text) != TAO_OK)
		return cmd_failed(env);
	if (env->json) {
		tao_json_open(&j, &b);
		tao_json_begin(&j, NULL, '{');
		tao_json_str(&j, "name", text);
		tao_json_end(&j, '}');
		status = cmd_put_json(env, &b);
	} else {
		printf("%s\n", text);
	}
	free(text);
	return status;
}
