#include "cmd.h"

#include <time.h>

#include "tao.pb-c.h"

static void certificate(struct cmd_grid *g, const Tao__KeyInfo *k)
{
	char when[CMD_TIME_MAX];

	if (k->has_retired && k->retired)
		cmd_cell(g, "no use: its epoch, %u, is retired", k->epoch);
	else if (k->has_cert_not_after)
		cmd_cell(g, "%s %s", k->cert_not_after < time(NULL) ? "expired" : "until",
		         cmd_time(k->cert_not_after, when));
	else if (k->cert_refusal != NULL)
		cmd_cell(g, "refused: %s", k->cert_refusal);
	else
		cmd_cell(g, "none yet");
}

static void table(const ProtobufCMessage *m, const void *arg)
{
	static const char *const titles[] = { "NAME", "USER", "TYPE", "PURPOSE", "CUSTODY", "POLICY",
	                                      "CREATED", "PROGRAM", "CERTIFICATE" };
	const Tao__KeyListResponse *list = (const Tao__KeyListResponse *)m;
	struct cmd_grid g = { .cols = sizeof titles / sizeof titles[0] };
	char user[CMD_USER_MAX], when[CMD_TIME_MAX];

	(void)arg;
	for (size_t i = 0; i < g.cols; i++)
		cmd_cell(&g, "%s", titles[i]);
	for (size_t i = 0; i < list->n_keys; i++) {
		const Tao__KeyInfo *k = list->keys[i];

		cmd_cell(&g, "%s", k->name);
		cmd_cell(&g, "%s", cmd_user_name(k->uid, user));
		cmd_cell(&g, "%s", k->type);
		cmd_cell(&g, "%s", k->purpose);
		cmd_cell(&g, "%s", k->custody);
		cmd_cell(&g, "%s", k->policy);
		cmd_cell(&g, "%s", cmd_time(k->created, when));
		cmd_cell(&g, "%s", k->program != NULL ? k->program : "");
		certificate(&g, k);
	}
	cmd_grid_print(&g);
}

static void json_one(struct tao_json *j, const Tao__KeyInfo *k)
{
	tao_json_begin(j, NULL, '{');
	tao_json_str(j, "name", k->name);
	tao_json_int(j, "uid", k->uid);
	tao_json_str(j, "type", k->type);
	tao_json_str(j, "purpose", k->purpose);
	tao_json_str(j, "custody", k->custody);
	tao_json_str(j, "policy", k->policy);
	tao_json_str(j, "program", k->program);
	if (k->has_program_hash)
		tao_json_hex(j, "program_hash", k->program_hash.data, k->program_hash.len);
	tao_json_int(j, "created", k->created);
	tao_json_int(j, "epoch", k->epoch);
	tao_json_bool(j, "retired", k->has_retired && k->retired);
	tao_json_hex(j, "spki_hash", k->spki_hash.data, k->spki_hash.len);
	if (k->has_cert_not_after)
		tao_json_int(j, "cert_not_after", k->cert_not_after);
	tao_json_str(j, "cert_refusal", k->cert_refusal);
	tao_json_str(j, "stub", k->stub_path);
	tao_json_str(j, "certificate", k->cert_path);
	tao_json_end(j, '}');
}

static void json(struct tao_json *j, const ProtobufCMessage *m)
{
	const Tao__KeyListResponse *list = (const Tao__KeyListResponse *)m;

	for (size_t i = 0; i < list->n_keys; i++)
		json_one(j, list->keys[i]);
}

int cmd_key_list(struct cmd_env *env, int argc, char **argv)
{
	static const struct cmd_list list = { "Host.Keys", &tao__key_list_response__descriptor, table,
	                                      json, NULL };

	return cmd_operands(env, argc, argv, 0, 0) ? cmd_list(env, &list) : env->status;
}
