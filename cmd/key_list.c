#include "key.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

char *key_certificate(const Tao__KeyInfo *k)
{
	char when[CMD_TIME_MAX], *text = NULL;
	int n;

	if (k->has_retired && k->retired)
		n = asprintf(&text, "no use: its epoch, %u, is retired", k->epoch);
	else if (k->has_cert_misfit && k->cert_misfit)
		n = asprintf(&text, "imported, but for another generation: 'tao cert request %s', "
		             "and import what the CA answers", k->name);
	else if (k->has_cert_imported && k->cert_imported)
		n = asprintf(&text, "imported, %s %s, issued by %s; yours to renew ('tao cert "
		             "import')", k->cert_not_after < time(NULL) ? "expired" : "until",
		             cmd_time(k->cert_not_after, when),
		             k->cert_issuer != NULL ? k->cert_issuer : "?");
	else if (k->has_cert_not_after)
		n = asprintf(&text, "%s %s", k->cert_not_after < time(NULL) ? "expired" : "until",
		             cmd_time(k->cert_not_after, when));
	else if (k->cert_refusal != NULL)
		n = asprintf(&text, "refused: %s", k->cert_refusal);
	else
		n = asprintf(&text, "none yet");
	return n < 0 ? NULL : text;
}

static void table(const ProtobufCMessage *m, const void *arg)
{
	static const char *const titles[] = { "NAME", "USER", "TYPE", "PURPOSE", "CUSTODY",
	                                      "POLICY", "GEN",
	                                      "ORIGIN", "CREATED", "PROGRAM", "CERTIFICATE" };
	const Tao__KeyListResponse *list = (const Tao__KeyListResponse *)m;
	struct cmd_grid g = { .cols = sizeof titles / sizeof titles[0] };
	char user[CMD_USER_MAX], when[CMD_TIME_MAX];

	(void)arg;
	for (size_t i = 0; i < g.cols; i++)
		cmd_cell(&g, "%s", titles[i]);
	for (size_t i = 0; i < list->n_keys; i++) {
		const Tao__KeyInfo *k = list->keys[i];
		char *cert = key_certificate(k);

		cmd_cell(&g, "%s", k->name);
		cmd_cell(&g, "%s", cmd_user_name(k->uid, user));
		cmd_cell(&g, "%s", k->type);
		cmd_cell(&g, "%s", k->purpose);
		cmd_cell(&g, "%s", k->custody);
		cmd_cell(&g, "%s", k->policy);
		cmd_cell(&g, "%u", k->generation);
		cmd_cell(&g, "%s", k->imported ? "imported" : "host");
		cmd_cell(&g, "%s", cmd_time(k->created, when));
		cmd_cell(&g, "%s", k->program != NULL ? k->program : "");
		cmd_cell(&g, "%s", cert != NULL ? cert : "");
		free(cert);
	}
	cmd_grid_print(&g);
}

void key_json(struct tao_json *j, const Tao__KeyInfo *k)
{
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
	tao_json_bool(j, "cert_imported", k->has_cert_imported && k->cert_imported);
	if (k->has_cert_imported && k->cert_imported)
		tao_json_bool(j, "cert_fits", !k->cert_misfit);
	if (k->cert_issuer != NULL)
		tao_json_str(j, "cert_issuer", k->cert_issuer);
	tao_json_str(j, "stub", k->stub_path);
	tao_json_str(j, "certificate", k->cert_path);
	tao_json_int(j, "bits", k->bits);
	tao_json_int(j, "generation", k->generation);
	tao_json_bool(j, "imported", k->imported);
	tao_json_bool(j, "old_generation_works", k->has_old && k->generation > 1);
	if (k->has_key_id)
		tao_json_hex(j, "key_id", k->key_id.data, k->key_id.len);
	if (k->principal != NULL)
		tao_json_str(j, "principal", k->principal);
}

static void json(struct tao_json *j, const ProtobufCMessage *m)
{
	const Tao__KeyListResponse *list = (const Tao__KeyListResponse *)m;

	for (size_t i = 0; i < list->n_keys; i++) {
		tao_json_begin(j, NULL, '{');
		key_json(j, list->keys[i]);
		tao_json_end(j, '}');
	}
}

int cmd_key_list(struct cmd_env *env, int argc, char **argv)
{
	static const struct cmd_list list = { "Host.Keys", &tao__key_list_response__descriptor,
	                                      table, json, NULL };

	return cmd_operands(env, argc, argv, 0, 0) ? cmd_list(env, &list) : env->status;
}
