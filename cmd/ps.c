#include "cmd.h"

#include "tao.pb-c.h"

static void table(const Tao__InstanceListResponse *list)
{
	static const char *const titles[] = { "PID", "USER", "SINCE", "USES", "CONNECTIONS", "NAME",
	                                      "PROGRAM", "PRINCIPAL" };
	struct cmd_grid g = { .cols = sizeof titles / sizeof titles[0] };
	char user[CMD_USER_MAX], since[CMD_TIME_MAX];

	for (size_t i = 0; i < g.cols; i++)
		cmd_cell(&g, "%s", titles[i]);
	for (size_t i = 0; i < list->n_instances; i++) {
		const Tao__InstanceInfo *in = list->instances[i];

		cmd_cell(&g, "%d", in->pid);
		cmd_cell(&g, "%s", cmd_user_name(in->uid, user));
		cmd_cell(&g, "%s", cmd_time(in->since, since));
		cmd_cell(&g, "%llu", (unsigned long long)in->operations);
		cmd_cell(&g, "%u", in->connections);
		cmd_cell(&g, "%s", in->label != NULL ? in->label : "");
		cmd_cell(&g, "%s", in->program);
		cmd_cell(&g, "%s", in->name);
	}
	cmd_grid_print(&g);
}

static int json(const struct cmd_env *env, const Tao__InstanceListResponse *list)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '[');
	for (size_t i = 0; i < list->n_instances; i++) {
		const Tao__InstanceInfo *in = list->instances[i];

		tao_json_begin(&j, NULL, '{');
		tao_json_int(&j, "id", (int64_t)in->id);
		tao_json_int(&j, "pid", in->pid);
		tao_json_int(&j, "uid", in->uid);
		tao_json_int(&j, "since", in->since);
		tao_json_int(&j, "operations", (int64_t)in->operations);
		tao_json_int(&j, "connections", in->connections);
		tao_json_str(&j, "label", in->label);
		tao_json_str(&j, "program", in->program);
		tao_json_str(&j, "principal", in->name);
		tao_json_end(&j, '}');
	}
	tao_json_end(&j, ']');
	return cmd_put_json(env, &b);
}

int cmd_ps(struct cmd_env *env, int argc, char **argv)
{
	Tao__InstanceListResponse *list = NULL;
	int status = 0;

	if (!cmd_operands(env, argc, argv, 0, 0))
		return env->status;
	if (cmd_ask(env, "Host.Ps", NULL, -1, &tao__instance_list_response__descriptor,
	            (ProtobufCMessage **)&list) != TAO_OK)
		return cmd_failed(env);
	if (env->json)
		status = json(env, list);
	else
		table(list);
	tao__instance_list_response__free_unpacked(list, NULL);
	return status;
}
