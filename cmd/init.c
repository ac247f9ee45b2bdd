#include "cmd.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../host/root.h"

enum { OPT_DOMAIN = 1, OPT_FILE, OPT_FD, OPT_ROOT };

static const struct option options[] = {
	{ "domain", required_argument, NULL, OPT_DOMAIN },
	{ "root", required_argument, NULL, OPT_ROOT },
	{ "passphrase-file", required_argument, NULL, OPT_FILE },
	{ "passphrase-fd", required_argument, NULL, OPT_FD },
	{ NULL, 0, NULL, 0 },
};

static const char *const roots[] = { "soft", "parent", NULL };

static void next_step(const struct cmd_env *env, const struct host_root *root)
{
	const char *d = env->dir != NULL ? " -d " : "", *dir = env->dir != NULL ? env->dir : "";

	printf(root->passphrase
	           ? "next: 'tao%s%s up' starts it, then 'tao key new NAME --for PROGRAM' makes a key\n"
	           : "next: 'tao%s%s up' starts it under the parent host, which runs already; its keys "
	             "are made then\n",
	       d, dir);
}

static int report(const struct cmd_env *env, const struct host_root *root, const char *dir,
                  const char *domain)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (!env->json) {
		printf("made a Tao host and its domain\n");
		cmd_field("directory", dir);
		cmd_field("domain", domain);
		if (root->passphrase)
			cmd_fieldf("root key", "%s/host/root.key, under the passphrase", dir);
		else
			cmd_fieldf("root", "%s", root->name);
		if (geteuid() != 0)
			cmd_field("kind", "development: an ordinary user's host");
		next_step(env, root);
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "dir", dir);
	tao_json_str(&j, "domain", domain);
	tao_json_str(&j, "root", root->name);
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
		e = tao_fail(TAO_EEXIST, "there is a Tao host in %s already: start it with 'tao "
		             "up', or choose another directory with -d", dir);
	tao_buf_free(&path);
	return e;
}

int cmd_init(struct cmd_env *env, int argc, char **argv)
{
	struct cmd_pass pass = { .prompt = "passphrase for the new host", .twice = 1 };
	struct tao_buf dir = TAO_BUF_INIT, secret = TAO_BUF_INIT;
	char host[256] = "localhost";
	const char *domain = host, *root_name = "soft";
	const struct host_root *root;
	enum tao_err e;
	int c, status = 0;

	gethostname(host, sizeof host - 1);
	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		*(c == OPT_DOMAIN ? &domain : c == OPT_ROOT ? &root_name
		  : c == OPT_FILE ? &pass.file : &pass.fd) = optarg;
	}
	if (optind < argc)
		return cmd_usage(env, "'%s' is too much; a directory is given with -d",
		                 argv[optind]);
	if (!cmd_one_of(env, "--root", root_name, roots))
		return env->status;
	root = host_root_find(root_name);
	e = host_dir_find(env->dir, &dir);
	if (e == TAO_OK)
		e = refuse_existing(tao_buf_cstr(&dir));
	if (e == TAO_OK && root->passphrase)
		e = cmd_passphrase(&pass, &secret);
	if (e == TAO_OK)
		e = host_create(tao_buf_cstr(&dir), root, domain, secret.p, secret.n);
	status = e == TAO_OK ? report(env, root, tao_buf_cstr(&dir), domain) : cmd_failed(env);
	tao_buf_free(&secret);
	tao_buf_free(&dir);
	return status;
}
