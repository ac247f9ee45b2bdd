#include "key.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* tao key rotate, tao key delete */

enum { OPT_USER = 1, OPT_OLD, OPT_YES };

static const struct option rotate_options[] = {
	{ "user", required_argument, NULL, OPT_USER },
	{ NULL, 0, NULL, 0 },
};

static const struct option delete_options[] = {
	{ "user", required_argument, NULL, OPT_USER },
	{ "old", no_argument, NULL, OPT_OLD },
	{ "yes", no_argument, NULL, OPT_YES },
	{ NULL, 0, NULL, 0 },
};

/* Returns 1 when all is there; else 0 with env->status. */
static int parse(struct cmd_env *env, int argc, char **argv, const struct option *options,
                 Tao__KeyRequest *rq, int *yes)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (c == OPT_OLD)
			rq->has_old = rq->old = 1;
		else if (c == OPT_YES)
			*yes = 1;
		else if (cmd_user_find(optarg, &rq->uid) == TAO_OK)
			rq->has_uid = 1;
		else
			return env->status = cmd_failed(env), 0;
	}
	if (argc - optind != 1)
		return env->status = cmd_usage(env, "give one key's name"), 0;
	rq->name = argv[optind];
	return 1;
}

static enum tao_err ask_host(struct cmd_env *env, const char *op, Tao__KeyRequest *rq,
                             Tao__KeyResponse **rs)
{
	enum tao_err e = cmd_ask(env, op, &rq->base, -1, &tao__key_response__descriptor,
	                         (ProtobufCMessage **)rs);

	if (e == TAO_OK && (*rs)->notice != NULL)
		cmd_notice(env, (*rs)->notice);
	return e;
}

static int json(const struct cmd_env *env, const char *name, const char *what,
                const Tao__KeyResponse *rs)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "name", name);
	tao_json_str(&j, "done", what);
	tao_json_str(&j, "stub", rs->stub_path);
	tao_json_str(&j, "certificate", rs->cert_path);
	tao_json_str(&j, "notice", rs->notice);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

int cmd_key_rotate(struct cmd_env *env, int argc, char **argv)
{
	Tao__KeyRequest rq = TAO__KEY_REQUEST__INIT;
	Tao__KeyResponse *rs = NULL;
	int status = 0;

	if (!parse(env, argc, argv, rotate_options, &rq, NULL))
		return env->status;
	if (ask_host(env, "Host.RotateKey", &rq, &rs) != TAO_OK)
		return cmd_failed(env);
	if (env->json) {
		status = json(env, rq.name, "rotated", rs);
	} else {
		cmd_fieldf("key", "%s has a new generation", rq.name);
		cmd_field("stub", rs->stub_path);
		cmd_field("certificate", rs->cert_path);
		cmd_fieldf("before", "works until the next rotation, or 'tao key delete %s --old'",
		           rq.name);
	}
	tao__key_response__free_unpacked(rs, NULL);
	return status;
}

/* 1 if the user says so on the terminal. */
static enum tao_err confirm(const Tao__KeyRequest *rq)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	char line[16];
	ssize_t n;

	if (tty < 0)
		return tao_fail(TAO_EINVAL, "there is no terminal to ask whether you mean it: say "
		                "--yes");
	dprintf(tty, "delete %skey %s for ever? [y/N] ", rq->old ? "the older generation of " : "",
	        rq->name);
	n = read(tty, line, sizeof line);
	close(tty);
	return n > 0 && (line[0] == 'y' || line[0] == 'Y')
	       ? TAO_OK : tao_fail(TAO_EDENIED, "nothing was deleted");
}

int cmd_key_delete(struct cmd_env *env, int argc, char **argv)
{
	Tao__KeyRequest rq = TAO__KEY_REQUEST__INIT;
	Tao__KeyResponse *rs = NULL;
	int yes = 0, status = 0;

	if (!parse(env, argc, argv, delete_options, &rq, &yes))
		return env->status;
	if (!yes && confirm(&rq) != TAO_OK)
		return cmd_failed(env);
	if (ask_host(env, "Host.DeleteKey", &rq, &rs) != TAO_OK)
		return cmd_failed(env);
	if (env->json)
		status = json(env, rq.name, "deleted", rs);
	tao__key_response__free_unpacked(rs, NULL);
	return status;
}
