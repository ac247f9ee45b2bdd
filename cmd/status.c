#include "cert.h"

#include <stdio.h>
#include <time.h>

static void sandbox(const Tao__StatusResponse *s)
{
	char landlock[32];

	snprintf(landlock, sizeof landlock, "Landlock ABI %u", s->landlock);
	cmd_fieldf("sandbox", "%s, %s, %s, %s", s->seccomp ? "seccomp" : "no seccomp",
	           s->landlock != 0 ? landlock : "no Landlock",
	           s->memory_locked ? "memory locked" : "memory not locked",
	           s->no_capabilities ? "no capabilities" : "capabilities kept");
}

static void text(const Tao__StatusResponse *s, const struct cmd_findings *f)
{
	char since[CMD_TIME_MAX], ago[CMD_TIME_MAX];

	cmd_fieldf("host", "running since %s (%s), process %d, version %s",
	           cmd_time(s->since, since),
	           cmd_duration(time(NULL) - s->since, ago), s->pid, s->version);
	cmd_field("principal", s->principal);
	cmd_field("directory", s->dir);
	cmd_field("socket", s->socket);
	cmd_field("domain", s->domain);
	cmd_fieldf("root", "%s%s", s->root, s->development ? "; development host" : "");
	cmd_field("parent", s->parent);
	if (s->has_delegated_until)
		cmd_fieldf("delegation", "until %s", cmd_time(s->delegated_until, since));
	cmd_fieldf("rules", "version %llu", (unsigned long long)s->rules_version);
	if (s->recalled > 0)
		cmd_fieldf("programs", "%u, %u of them recalled at the start", s->instances,
		           s->recalled);
	else
		cmd_fieldf("programs", "%u", s->instances);
	cmd_fieldf("keys", "%u", s->keys);
	cmd_fieldf("workers", "%u", s->workers);
	if (s->has_audit_records)
		cmd_fieldf("audit log", "%llu records, signed to record %llu, %llu lost",
		           (unsigned long long)s->audit_records,
		           (unsigned long long)s->audit_signed, (unsigned long long)s->audit_lost);
	sandbox(s);
	for (size_t i = 0; i < s->n_warnings; i++)
		cmd_field("warning", s->warnings[i]);
	for (size_t i = 0; i < f->n; i++)
		cmd_field(f->v[i].level == CMD_BAD ? "error" : "warning", f->v[i].text);
}

static void put_level(struct tao_json *j, const struct cmd_findings *f, enum cmd_level level)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].level == level)
			tao_json_str(j, NULL, f->v[i].text);
}

static int json(const struct cmd_env *env, const Tao__StatusResponse *s,
                const struct cmd_findings *f)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_bool(&j, "running", 1);
	tao_json_str(&j, "version", s->version);
	tao_json_str(&j, "principal", s->principal);
	tao_json_str(&j, "root", s->root);
	if (s->parent != NULL)
		tao_json_str(&j, "parent", s->parent);
	if (s->has_delegated_until)
		tao_json_int(&j, "delegated_until", s->delegated_until);
	tao_json_str(&j, "dir", s->dir);
	tao_json_int(&j, "pid", s->pid);
	tao_json_int(&j, "since", s->since);
	tao_json_bool(&j, "development", s->development);
	tao_json_bool(&j, "sanitizer", s->sanitizer);
	tao_json_str(&j, "domain", s->domain);
	tao_json_int(&j, "rules_version", (int64_t)s->rules_version);
	tao_json_int(&j, "instances", s->instances);
	tao_json_int(&j, "recalled", s->recalled);
	tao_json_int(&j, "keys", s->keys);
	tao_json_int(&j, "workers", s->workers);
	tao_json_str(&j, "socket", s->socket);
	tao_json_int(&j, "audit_records", (int64_t)s->audit_records);
	tao_json_int(&j, "audit_signed", (int64_t)s->audit_signed);
	tao_json_int(&j, "audit_lost", (int64_t)s->audit_lost);
	tao_json_bool(&j, "seccomp", s->seccomp);
	tao_json_int(&j, "landlock", s->landlock);
	tao_json_bool(&j, "memory_locked", s->memory_locked);
	tao_json_bool(&j, "no_capabilities", s->no_capabilities);
	tao_json_begin(&j, "warnings", '[');
	for (size_t i = 0; i < s->n_warnings; i++)
		tao_json_str(&j, NULL, s->warnings[i]);
	put_level(&j, f, CMD_WARNING);
	tao_json_end(&j, ']');
	tao_json_begin(&j, "errors", '[');
	put_level(&j, f, CMD_BAD);
	tao_json_end(&j, ']');
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

static int not_running(const struct cmd_env *env)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	cmd_failed(env);
	if (env->json) {
		tao_json_open(&j, &b);
		tao_json_begin(&j, NULL, '{');
		tao_json_bool(&j, "running", 0);
		tao_json_end(&j, '}');
		cmd_put_json(env, &b);
	}
	return 1;
}

static enum tao_err ask(struct tao_conn *conn, Tao__StatusResponse **s, struct cmd_findings *f)
{
	enum tao_err e = cmd_call(conn, "Host.Status", NULL, -1, &tao__status_response__descriptor,
	                          (ProtobufCMessage **)s, NULL, NULL);

	if (e == TAO_OK)
		cert_look(conn, f);
	return e;
}

int cmd_status(struct cmd_env *env, int argc, char **argv)
{
	struct cmd_findings f = { .v = NULL };
	Tao__StatusResponse *s = NULL;
	struct host_conf conf;
	struct tao_conn conn;
	enum tao_err e;
	int status = 0;

	if (!cmd_operands(env, argc, argv, 0, 0))
		return env->status;
	e = cmd_connect(env, &conf, &conn);
	if (e == TAO_OK)
		e = ask(&conn, &s, &f);
	e = cmd_hangs(&conf, e);
	tao_conn_close(&conn);
	host_conf_clear(&conf);
	if (e == TAO_ENOHOST)
		return not_running(env);
	if (e != TAO_OK)
		return cmd_failed(env);
	if (env->json)
		status = json(env, s, &f);
	else
		text(s, &f);
	cmd_findings_clear(&f);
	tao__status_response__free_unpacked(s, NULL);
	return status;
}
