#include "cmd.h"

#include <string.h>

#include "tao.pb-c.h"

enum { OPT_LONG = 1 };

static const struct option options[] = {
	{ "long", no_argument, NULL, OPT_LONG },
	{ NULL, 0, NULL, 0 },
};

const char *cmd_instance_name(const Tao__InstanceInfo *in)
{
	const char *slash = strrchr(in->program, '/');

	if (in->label != NULL && *in->label != 0)
		return in->label;
	return slash != NULL && slash[1] != 0 ? slash + 1 : in->program;
}

static void row(struct cmd_grid *g, const Tao__InstanceInfo *in, int full)
{
	char user[CMD_USER_MAX], since[CMD_TIME_MAX];

	cmd_cell(g, "%s", cmd_instance_name(in));
	cmd_cell(g, "%d", in->pid);
	cmd_cell(g, "%s", cmd_user_name(in->uid, user));
	cmd_cell(g, "%s", cmd_time(in->since, since));
	cmd_cell(g, "%u", in->keys);
	cmd_cell(g, "%llu", (unsigned long long)in->operations);
	if (!full)
		return;
	cmd_cell(g, "%llu", (unsigned long long)in->id);
	cmd_cell(g, "%u", in->connections);
	cmd_cell(g, "%s", in->program);
	cmd_cell(g, "%s", in->name);
}

static void table(const ProtobufCMessage *m, const void *arg)
{
	static const char *const titles[] = { "NAME", "PID", "USER", "SINCE", "KEYS", "OPERATIONS",
	                                      "INSTANCE", "CONNECTIONS", "PROGRAM", "PRINCIPAL" };
	const Tao__InstanceListResponse *list = (const Tao__InstanceListResponse *)m;
	int full = *(const int *)arg;
	struct cmd_grid g = { .cols = full ? 10 : 6 };

	for (size_t i = 0; i < g.cols; i++)
		cmd_cell(&g, "%s", titles[i]);
	for (size_t i = 0; i < list->n_instances; i++)
		row(&g, list->instances[i], full);
	cmd_grid_print(&g);
}

static void json(struct tao_json *j, const ProtobufCMessage *m)
{
	const Tao__InstanceListResponse *list = (const Tao__InstanceListResponse *)m;

	for (size_t i = 0; i < list->n_instances; i++) {
		const Tao__InstanceInfo *in = list->instances[i];

		tao_json_begin(j, NULL, '{');
		tao_json_int(j, "id", (int64_t)in->id);
		tao_json_str(j, "name", cmd_instance_name(in));
		tao_json_int(j, "pid", in->pid);
		tao_json_int(j, "uid", in->uid);
		tao_json_int(j, "since", in->since);
		tao_json_int(j, "keys", in->keys);
		tao_json_int(j, "operations", (int64_t)in->operations);
		tao_json_int(j, "connections", in->connections);
		tao_json_str(j, "label", in->label);
		tao_json_str(j, "program", in->program);
		tao_json_str(j, "principal", in->name);
		tao_json_end(j, '}');
	}
}

int cmd_ps(struct cmd_env *env, int argc, char **argv)
{
	int c, full = 0;
	const struct cmd_list list = { "Host.Ps", &tao__instance_list_response__descriptor, table,
	                               json, &full };

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		full = 1;
	}
	if (optind < argc)
		return cmd_usage(env, "'%s' is too much", argv[optind]);
	return cmd_list(env, &list);
}
