#include "cmd.h"

#include <stdio.h>
#include <sys/stat.h>

static int put_conf(const struct cmd_env *env, struct tao_buf *text)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (tao_buf_err(text) != TAO_OK)
		return cmd_failed(env);
	if (!env->json) {
		fwrite(text->p, 1, text->n, stdout);
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "openssl_conf", tao_buf_cstr(text));
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

/* As taod decides at its start: it closes the directory of an ordinary user's host to others. */
static void decide(struct host_conf *conf)
{
	struct stat st;

	if (conf->undumpable == CONF_DEFAULT && stat(conf->dir, &st) == 0)
		conf->undumpable = (st.st_mode & S_IXOTH) != 0 ? CONF_YES : CONF_NO;
}

int cmd_conf_print(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf text = TAO_BUF_INIT;
	struct host_conf conf;
	int status;

	if (!cmd_operands(env, argc, argv, 0, 0))
		return env->status;
	if (cmd_conf(env, &conf) == TAO_OK) {
		decide(&conf);
		host_openssl_conf(&conf, &text);
		status = put_conf(env, &text);
	} else {
		status = cmd_failed(env);
	}
	tao_buf_free(&text);
	host_conf_clear(&conf);
	return status;
}

int cmd_conf_check(struct cmd_env *env, int argc, char **argv)
{
	struct cmd_findings f = { 0 };

	if (!cmd_operands(env, argc, argv, 1, 1))
		return env->status;
	cmd_examine_conf(argv[optind], &f);
	return cmd_findings_print(env, &f);
}
