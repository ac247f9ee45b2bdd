#include "cmd.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPT_DOMAIN = 1, OPT_FILE, OPT_FD };

static const struct option options[] = {
	{ "domain", required_argument, NULL, OPT_DOMAIN },
	{ "passphrase-file", required_argument, NULL, OPT_FILE },
	{ "passphrase-fd", required_argument, NULL, OPT_FD },
	{ NULL, 0, NULL, 0 },
};

static int report(const struct cmd_env *env, const char *dir, const char *domain)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (!env->json) {
		printf("made a Tao host and its domain\n");
		cmd_field("directory", dir);
		cmd_field("domain", domain);
		cmd_fieldf("root key", "%s/host/root.key, under the passphrase", dir);
		if (geteuid() != 0)
			cmd_field("kind", "development: an ordinary user's host");
		printf("next: 'tao%s%s up' starts it, "
		       "then 'tao key new NAME --for PROGRAM' makes a key\n",
		       env->dir != NULL ? " -d " : "", env->dir != NULL ? env->dir : "");
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "dir", dir);
	tao_json_str(&j, "domain", domain);
	tao_json_bool(&j, "development", geteuid() != 0);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

/* Before the passphrase is asked for: typing it twice for nothing annoys. */
static enum tao_err refuse_existing(const char *dir)
{
	struct tao_buf path = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	tao_buf_fmt(&path, "%s/format", dir);
	if (access(tao_buf_cstr(&path), F_OK) == 0)
		e = tao_fail(TAO_EEXIST, "there is a Tao host in %s already: start it with 'tao up', "
		             "or choose another directory with -d", dir);
	tao_buf_free(&path);
	return e;
}

int cmd_init(struct cmd_env *env, int argc, char **argv)
{
	struct cmd_pass pass = { .prompt = "passphrase for the new host", .twice = 1 };
	struct tao_buf dir = TAO_BUF_INIT, secret = TAO_BUF_INIT;
	char host[256] = "localhost";
	const char *domain = host;
	enum tao_err e;
	int c, status = 0;

	gethostname(host, sizeof host - 1);
	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		*(c == OPT_DOMAIN ? &domain : c == OPT_FILE ? &pass.file : &pass.fd) = optarg;
	}
	if (optind < argc)
		return cmd_usage(env, "'%s' is too much; a directory is given with -d", argv[optind]);
	e = host_dir_find(env->dir, &dir);
	if (e == TAO_OK)
		e = refuse_existing(tao_buf_cstr(&dir));
	if (e == TAO_OK)
		e = cmd_passphrase(&pass, &secret);
	if (e == TAO_OK)
		e = host_create(tao_buf_cstr(&dir), domain, secret.p, secret.n);
	status = e == TAO_OK ? report(env, tao_buf_cstr(&dir), domain) : cmd_failed(env);
	tao_buf_free(&secret);
	tao_buf_free(&dir);
	return status;
}
