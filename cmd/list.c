#include "cmd.h"

int cmd_list(struct cmd_env *env, const struct cmd_list *l)
{
	ProtobufCMessage *list = NULL;
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;
	int status = 0;

	if (cmd_ask(env, l->op, NULL, -1, l->type, &list) != TAO_OK)
		return cmd_failed(env);
	if (env->json) {
		tao_json_open(&j, &b);
		tao_json_begin(&j, NULL, '[');
		l->json(&j, list);
		tao_json_end(&j, ']');
		status = cmd_put_json(env, &b);
	} else {
		l->table(list, l->arg);
	}
	protobuf_c_message_free_unpacked(list, NULL);
	return status;
}
