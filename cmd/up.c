#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../host/root.h"
#include "config.h"
#include "tao.pb-c.h"
#include "up.h"

#define PASS_FD 3 /* taod reads the passphrase here */

enum { OPT_FOREGROUND = 1, OPT_FILE, OPT_FD };

static const struct option options[] = {
	{ "foreground", no_argument, NULL, OPT_FOREGROUND },
	{ "passphrase-file", required_argument, NULL, OPT_FILE },
	{ "passphrase-fd", required_argument, NULL, OPT_FD },
	{ NULL, 0, NULL, 0 },
};

enum tao_err cmd_find_taod(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof "/taod");
	char *slash;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	if (slash != NULL) {
		strcpy(slash, "/taod");
		if (access(path, X_OK) == 0)
			return TAO_OK;
	}
	snprintf(path, PATH_MAX, "%s/taod", TAO_SBINDIR);
	if (access(path, X_OK) == 0)
		return TAO_OK;
	return tao_fail(TAO_ENOTFOUND, "taod is neither beside this tao nor at %s: "
	                "install it with 'make install'", path);
}

/* A pipe that holds the passphrase: it fits, so nobody waits. */
static enum tao_err pass_pipe(const struct tao_buf *secret, int *fd)
{
	enum tao_err e = TAO_OK;
	int p[2];

	*fd = -1;
	if (pipe2(p, O_CLOEXEC) != 0)
		return tao_fail_sys("cannot make a pipe for the passphrase");
	if (write(p[1], secret->p, secret->n) != (ssize_t)secret->n || write(p[1], "\n", 1) != 1)
		e = tao_fail_sys("cannot hand the passphrase to taod");
	close(p[1]);
	if (e == TAO_OK)
		*fd = p[0];
	else
		close(p[0]);
	return e;
}

/* taod itself goes into the background; its first process ends when it is
 * ready, or with a sentence. */
static int spawn_taod(const struct cmd_env *env, const char *path, char **args, int fd)
{
	posix_spawn_file_actions_t actions;
	int err, status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, PASS_FD);
	err = posix_spawn(&pid, path, &actions, NULL, args, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err != 0) {
		errno = err;
		tao_fail_sys("cannot start %s", path);
		return cmd_failed(env);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	if (WIFEXITED(status))
		return WEXITSTATUS(status) == 0 ? 0 : 1;
	tao_fail(TAO_ESYS, "taod was ended by signal %d while it started: see its log in the "
	         "host's directory", WTERMSIG(status));
	return cmd_failed(env);
}

static int exec_taod(const struct cmd_env *env, const char *path, char **args, int fd)
{
	if (fd == PASS_FD)
		fcntl(fd, F_SETFD, 0);
	else
		dup2(fd, PASS_FD);
	execv(path, args);
	tao_fail_sys("cannot start %s", path);
	return cmd_failed(env);
}

static int start(const struct cmd_env *env, const char *dir, int foreground,
                 const struct tao_buf *secret)
{
	char path[PATH_MAX], number[16];
	char *args[] = { "taod", "-d", (char *)dir, "--passphrase-fd", number,
	                 foreground ? "--foreground" : NULL, NULL };
	int fd, status;

	snprintf(number, sizeof number, "%d", PASS_FD);
	if (cmd_find_taod(path) != TAO_OK || pass_pipe(secret, &fd) != TAO_OK)
		return cmd_failed(env);
	status = (foreground ? exec_taod : spawn_taod)(env, path, args, fd);
	close(fd);
	return status;
}

static enum tao_err ask(struct cmd_env *env, Tao__StatusResponse **s)
{
	*s = NULL;
	return cmd_ask(env, "Host.Status", NULL, -1, &tao__status_response__descriptor,
	               (ProtobufCMessage **)s);
}

/* Frees the answer. */
static int report(struct cmd_env *env, const char *socket, const char *how, Tao__StatusResponse *s)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (env->json) {
		tao_json_open(&j, &b);
		tao_json_begin(&j, NULL, '{');
		tao_json_str(&j, "socket", socket);
		tao_json_str(&j, "principal", s->principal);
		tao_json_int(&j, "pid", s->pid);
		tao_json_end(&j, '}');
	} else {
		tao_buf_fmt(&b, "the Tao host %s on ", how);
		cmd_escape(&b, socket);
		tao_buf_str(&b, " as ");
		cmd_escape(&b, s->principal);
	}
	tao__status_response__free_unpacked(s, NULL);
	return cmd_put_json(env, &b);
}

static int bring_up(struct cmd_env *env, const struct host_conf *conf, struct cmd_pass *pass,
                    int foreground)
{
	struct tao_buf secret = TAO_BUF_INIT;
	Tao__StatusResponse *s;
	int status;

	pass->prompt = "passphrase of the host";
	pass->credential = 1;
	if (!conf->root->passphrase)
		status = cmd_up_parent(env, conf, foreground);
	else if (cmd_passphrase(pass, &secret) != TAO_OK)
		status = cmd_failed(env);
	else
		status = start(env, conf->dir, foreground, &secret);
	tao_buf_free(&secret);
	if (status != 0)
		return status;
	return ask(env, &s) == TAO_OK ? report(env, conf->socket, "answers", s) : cmd_failed(env);
}

int cmd_up(struct cmd_env *env, int argc, char **argv)
{
	struct cmd_pass pass = { 0 };
	struct host_conf conf;
	struct tao_conn conn;
	Tao__StatusResponse *s = NULL;
	int c, status, foreground = 0;
	enum tao_err e;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_FOREGROUND)
			foreground = 1;
		else
			*(c == OPT_FILE ? &pass.file : &pass.fd) = optarg;
	}
	if (optind < argc)
		return cmd_usage(env, "'%s' is too much", argv[optind]);
	e = cmd_connect(env, &conf, &conn);
	tao_conn_close(&conn);
	/* A taod that was killed a moment ago takes connections and answers none. */
	if (e == TAO_OK && !foreground)
		e = ask(env, &s);
	if (e == TAO_ENOHOST) {
		status = bring_up(env, &conf, &pass, foreground);
	} else if (e == TAO_OK && foreground) {
		/* A supervisor must not take this for a service that ended well. */
		tao_fail(TAO_EBUSY, "the Tao host in %s is running already: stop it with 'tao "
		         "down'", conf.dir);
		status = cmd_failed(env);
	} else {
		status = e == TAO_OK
		         ? report(env, conf.socket, "is running already,", s) : cmd_failed(env);
	}
	host_conf_clear(&conf);
	return status;
}
