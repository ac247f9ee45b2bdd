#include "key.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* tao key new, tao key import */

enum { OPT_FOR = 1, OPT_USER, OPT_POLICY, OPT_TYPE, OPT_PURPOSE, OPT_CUSTODY, OPT_PSS_DIGEST,
       OPT_PSS_SALT, OPT_PASS_FILE, OPT_PASS_FD };

static const struct option new_options[] = {
	{ "for", required_argument, NULL, OPT_FOR },
	{ "user", required_argument, NULL, OPT_USER },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "type", required_argument, NULL, OPT_TYPE },
	{ "purpose", required_argument, NULL, OPT_PURPOSE },
	{ "custody", required_argument, NULL, OPT_CUSTODY },
	{ "pss-digest", required_argument, NULL, OPT_PSS_DIGEST },
	{ "pss-salt", required_argument, NULL, OPT_PSS_SALT },
	{ NULL, 0, NULL, 0 },
};

static const struct option import_options[] = {
	{ "for", required_argument, NULL, OPT_FOR },
	{ "user", required_argument, NULL, OPT_USER },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "purpose", required_argument, NULL, OPT_PURPOSE },
	{ "custody", required_argument, NULL, OPT_CUSTODY },
	{ "passphrase-file", required_argument, NULL, OPT_PASS_FILE },
	{ "passphrase-fd", required_argument, NULL, OPT_PASS_FD },
	{ NULL, 0, NULL, 0 },
};

static const char *const policies[] = { "program", "exact", "host", "policy", NULL };
static const char *const types[] = { "p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096",
                                     "rsa-pss-2048", "rsa-pss-3072", "rsa-pss-4096", "ed25519",
                                     "x25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87", NULL };
static const char *const purposes[] = { "any", "tls", "tls13", "sign", "decrypt", NULL };
static const char *const custodies[] = { "host", "program", NULL };
static const char *const pss_digests[] = { "SHA256", "SHA384", "SHA512", NULL };

struct key_new {
	const char *name, *program, *user, *policy, *type, *purpose, *custody;
	const char *pss_digest, *pss_salt;
	const char *file, *pass_file, *pass_fd; /* import */
	struct tao_buf private_key;             /* PKCS#8 */
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
	[OPT_PSS_DIGEST] = { pss_digests, offsetof(struct key_new, pss_digest), "--pss-digest" },
	[OPT_PSS_SALT] = { NULL, offsetof(struct key_new, pss_salt), "--pss-salt" },
	[OPT_PASS_FILE] = { NULL, offsetof(struct key_new, pass_file), "--passphrase-file" },
	[OPT_PASS_FD] = { NULL, offsetof(struct key_new, pass_fd), "--passphrase-fd" },
};

/* Returns 1 when all is there; else 0 with env->status. */
static int parse(struct cmd_env *env, struct key_new *k, int import, int argc, char **argv)
{
	int c;

	while ((c = cmd_option(env, argc, argv, import ? import_options : new_options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (values[c].words != NULL &&
		    !cmd_one_of(env, values[c].name, optarg, values[c].words))
			return 0;
		*(const char **)((char *)k + values[c].slot) = optarg;
	}
	if (optind + import >= argc || k->program == NULL) {
		env->status = cmd_usage(env, optind >= argc ? "the key's name is missing"
		                        : optind + import >= argc ? "the key's file is missing"
		                        : "--for PROGRAM is missing: a key is made for a program");
		return 0;
	}
	k->name = argv[optind++];
	if (import)
		k->file = argv[optind++];
	k->args = argv + optind;
	k->n_args = argc - optind;
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
		cmd_fieldf("certificate", "%s  (written when the program first runs under 'tao "
		           "run')", rs->cert_path);
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

static enum tao_err salt_len(const struct key_new *k, Tao__NewKeyRequest *rq)
{
	char *end;
	unsigned long n = strtoul(k->pss_salt, &end, 10);

	if (end == k->pss_salt || *end != 0 || n > 64)
		return tao_fail(TAO_EINVAL, "--pss-salt is a number of bytes up to 64, not '%s'",
		                k->pss_salt);
	rq->has_pss_salt_len = 1;
	rq->pss_salt_len = (uint32_t)n;
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
	rq.pss_digest = (char *)k->pss_digest;
	if (e == TAO_OK && k->pss_salt != NULL)
		e = salt_len(k, &rq);
	rq.has_private_key = k->file != NULL;
	rq.private_key.data = k->private_key.p;
	rq.private_key.len = k->private_key.n;
	if (e == TAO_OK)
		e = cmd_ask(env, k->file != NULL ? "Host.ImportKey" : "Host.NewKey", &rq.base, fd,
		            &tao__key_response__descriptor, (ProtobufCMessage **)rs);
	free(rq.args);
	return e;
}

static enum tao_err read_key(struct key_new *k)
{
	struct cmd_pass pass = { k->pass_file, k->pass_fd, "passphrase of the key file", 0, 0 };

	return k->file != NULL ? key_read_pem(k->file, &pass, &k->private_key) : TAO_OK;
}

static int make(struct cmd_env *env, struct key_new *k, int import, int argc, char **argv)
{
	Tao__KeyResponse *rs = NULL;
	char *path = NULL;
	int fd = -1, status;
	enum tao_err e;

	if (!parse(env, k, import, argc, argv))
		return env->status;
	e = k->user != NULL ? cmd_user_find(k->user, &k->uid) : TAO_OK;
	if (e == TAO_OK)
		e = cmd_program(k->program, &path, &fd);
	if (e == TAO_OK)
		e = read_key(k);
	if (e == TAO_OK)
		e = ask_host(env, k, path, fd, &rs);
	status = e == TAO_OK ? report(env, k, path, rs) : cmd_failed(env);
	if (rs != NULL)
		tao__key_response__free_unpacked(rs, NULL);
	if (fd >= 0)
		close(fd);
	free(path);
	tao_buf_free(&k->private_key);
	return status;
}

int cmd_key_new(struct cmd_env *env, int argc, char **argv)
{
	struct key_new k = { .policy = "program", .type = "p256", .purpose = "any",
	                     .custody = "host", .uid = getuid(), .private_key = TAO_BUF_INIT };

	return make(env, &k, 0, argc, argv);
}

/* The type is the key's own. */
int cmd_key_import(struct cmd_env *env, int argc, char **argv)
{
	struct key_new k = { .policy = "program", .purpose = "any", .custody = "host",
	                     .uid = getuid(), .private_key = TAO_BUF_INIT };

	return make(env, &k, 1, argc, argv);
}
