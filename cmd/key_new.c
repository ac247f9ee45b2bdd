#include "cmd.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tao.pb-c.h"

enum { OPT_FOR = 1, OPT_USER, OPT_POLICY, OPT_TYPE, OPT_PURPOSE, OPT_CUSTODY };

static const struct option options[] = {
	{ "for", required_argument, NULL, OPT_FOR },
	{ "user", required_argument, NULL, OPT_USER },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "type", required_argument, NULL, OPT_TYPE },
	{ "purpose", required_argument, NULL, OPT_PURPOSE },
	{ "custody", required_argument, NULL, OPT_CUSTODY },
	{ NULL, 0, NULL, 0 },
};

static const char *const policies[] = { "program", "exact", "host", "policy", NULL };
static const char *const types[] = {
	"p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096", "rsa-pss-2048", "rsa-pss-3072",
	"rsa-pss-4096", "ed25519", "x25519", NULL,
};
static const char *const purposes[] = { "any", "tls", "tls13", "sign", "decrypt", NULL };
static const char *const custodies[] = { "host", "program", NULL };

struct key_new {
	const char *name, *program, *user, *policy, *type, *purpose, *custody;
	char **args; /* policy exact: what follows the program's name */
	int n_args;
	uid_t uid;
};

/* Option val: where its value goes, and what it may be. */
static const struct {
	const char *const *words;
	size_t slot;
	const char *name;
} values[] = {
	[OPT_FOR] = { NULL, offsetof(struct key_new, program), "--for" },
	[OPT_USER] = { NULL, offsetof(struct key_new, user), "--user" },
	[OPT_POLICY] = { policies, offsetof(struct key_new, policy), "--policy" },
	[OPT_TYPE] = { types, offsetof(struct key_new, type), "--type" },
	[OPT_PURPOSE] = { purposes, offsetof(struct key_new, purpose), "--purpose" },
	[OPT_CUSTODY] = { custodies, offsetof(struct key_new, custody), "--custody" },
};

/* Returns 1 when all is there; else 0 with env->status. */
static int parse(struct cmd_env *env, struct key_new *k, int argc, char **argv)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (values[c].words != NULL &&
		    !cmd_one_of(env, values[c].name, optarg, values[c].words))
			return 0;
		*(const char **)((char *)k + values[c].slot) = optarg;
	}
	if (optind >= argc || k->program == NULL) {
		env->status = cmd_usage(env, optind >= argc ? "the key's name is missing"
		                        : "--for PROGRAM is missing: a key is made for a program");
		return 0;
	}
	k->name = argv[optind];
	k->args = argv + optind + 1;
	k->n_args = argc - optind - 1;
	if (k->n_args > 0 && strcmp(k->policy, "exact") != 0) {
		env->status = cmd_usage(env, "'%s' is too much: arguments go with --policy exact",
		                        k->args[0]);
		return 0;
	}
	return 1;
}

static int json(const struct cmd_env *env, const struct key_new *k, const char *path,
                const Tao__KeyResponse *rs)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "name", k->name);
	tao_json_str(&j, "program", path);
	tao_json_int(&j, "uid", k->uid);
	tao_json_str(&j, "policy", k->policy);
	tao_json_str(&j, "purpose", k->purpose);
	tao_json_str(&j, "custody", k->custody);
	tao_json_str(&j, "stub", rs->stub_path);
	tao_json_str(&j, "certificate", rs->cert_path);
	tao_json_str(&j, "notice", rs->notice);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

static int report(const struct cmd_env *env, const struct key_new *k, const char *path,
                  const Tao__KeyResponse *rs)
{
	char user[CMD_USER_MAX];

	if (rs->notice != NULL)
		cmd_notice(env, rs->notice);
	if (env->json)
		return json(env, k, path, rs);
	cmd_fieldf("key", "%s, in applications tao:%s", k->name, k->name);
	cmd_field("program", path);
	cmd_field("user", cmd_user_name(k->uid, user));
	if (rs->stub_path != NULL)
		cmd_fieldf("stub", "%s  (use as ssl_certificate_key)", rs->stub_path);
	if (rs->cert_path != NULL)
		cmd_fieldf("certificate", "%s  (written when the program first runs under 'tao run')",
		           rs->cert_path);
	return 0;
}

/* The arguments as tao run will measure them: the program's name first. */
static enum tao_err put_args(const struct key_new *k, Tao__NewKeyRequest *rq)
{
	if (strcmp(k->policy, "exact") != 0)
		return TAO_OK;
	rq->args = calloc((size_t)k->n_args + 1, sizeof *rq->args);
	if (rq->args == NULL)
		return tao_fail_nomem();
	rq->n_args = (size_t)k->n_args + 1;
	for (size_t i = 0; i < rq->n_args; i++) {
		const char *arg = i == 0 ? k->program : k->args[i - 1];

		rq->args[i].data = (uint8_t *)arg;
		rq->args[i].len = strlen(arg);
	}
	return TAO_OK;
}

static enum tao_err ask_host(struct cmd_env *env, const struct key_new *k, char *path, int fd,
                             Tao__KeyResponse **rs)
{
	Tao__NewKeyRequest rq = TAO__NEW_KEY_REQUEST__INIT;
	enum tao_err e = put_args(k, &rq);

	rq.name = (char *)k->name;
	rq.type = (char *)k->type;
	rq.purpose = (char *)k->purpose;
	rq.custody = (char *)k->custody;
	rq.policy = (char *)k->policy;
	rq.program = path;
	rq.has_uid = 1;
	rq.uid = k->uid;
	if (e == TAO_OK)
		e = cmd_ask(env, "Host.NewKey", &rq.base, fd, &tao__key_response__descriptor,
		            (ProtobufCMessage **)rs);
	free(rq.args);
	return e;
}

int cmd_key_new(struct cmd_env *env, int argc, char **argv)
{
	struct key_new k = { .policy = "program", .type = "p256", .purpose = "any",
	                     .custody = "host", .uid = getuid() };
	Tao__KeyResponse *rs = NULL;
	char *path = NULL;
	int fd = -1, status;
	enum tao_err e;

	if (!parse(env, &k, argc, argv))
		return env->status;
	e = k.user != NULL ? cmd_user_find(k.user, &k.uid) : TAO_OK;
	if (e == TAO_OK)
		e = cmd_program(k.program, &path, &fd);
	if (e == TAO_OK)
		e = ask_host(env, &k, path, fd, &rs);
	status = e == TAO_OK ? report(env, &k, path, rs) : cmd_failed(env);
	if (rs != NULL)
		tao__key_response__free_unpacked(rs, NULL);
	if (fd >= 0)
		close(fd);
	free(path);
	return status;
}
