/* tao up of a host that is rooted in a parent: taod becomes a program of the parent. */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../tao/file.h"
#include "up.h"

#define WAIT_SECONDS 60     /* for its first answer */
#define LOOK_NS 20000000    /* between looks */
#define SAID_MAX (1u << 20) /* bytes of a log that are read back */

/* The parent's directory: taod.conf's, else the one that tao without -d means. */
static enum tao_err parent_dir(const struct host_conf *conf, struct tao_buf *dir)
{
	enum tao_err e = TAO_OK;

	if (conf->parent != NULL)
		tao_buf_str(dir, conf->parent);
	else
		e = host_dir_find(NULL, dir);
	if (e == TAO_OK)
		e = tao_buf_err(dir);
	if (e == TAO_OK && strcmp(tao_buf_cstr(dir), conf->dir) == 0)
		e = tao_fail(TAO_EINVAL, "the host in %s has its root in a parent: say in its "
		             "taod.conf where that is, with 'parent = DIRECTORY'", conf->dir);
	return e;
}

static enum tao_err own_path(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

	if (n < 0)
		return tao_fail_sys("finding this program");
	path[n] = 0;
	return TAO_OK;
}

/* As a daemon's: its own session, nothing to read, its words in the log. */
static enum tao_err spawn_logged(char **args, const char *log, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int err;

	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, log,
	                                 O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0640);
	posix_spawn_file_actions_adddup2(&actions, 2, 1);
	err = posix_spawn(pid, args[0], &actions, &attr, args, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	errno = err;
	return err != 0 ? tao_fail_sys("cannot start %s", args[0]) : TAO_OK;
}

/* It has ended: what it wrote since says why. */
static int show_log(const struct cmd_env *env, const char *log, off_t from)
{
	struct tao_buf text = TAO_BUF_INIT;
	int fd = open(log, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && lseek(fd, from, SEEK_SET) == from &&
	    tao_fd_read(fd, log, SAID_MAX, &text) == TAO_OK && text.n > 0) {
		fwrite(text.p, 1, text.n, stderr);
	} else {
		tao_fail(TAO_ESYS, "taod ended while it started: see %s", log);
		cmd_failed(env);
	}
	if (fd >= 0)
		close(fd);
	tao_buf_free(&text);
	return 1;
}

static int wait_for_answer(const struct cmd_env *env, const struct host_conf *conf, pid_t pid,
                           const char *log, off_t from)
{
	static const struct timespec pause = { 0, LOOK_NS };
	time_t end = time(NULL) + WAIT_SECONDS;

	do {
		struct tao_conn c;
		enum tao_err e;

		if (waitpid(pid, NULL, WNOHANG) == pid)
			return show_log(env, log, from);
		tao_conn_init(&c);
		e = tao_conn_open(&c, conf->socket, TAO_CALL_TIMEOUT_MS);
		tao_conn_close(&c);
		if (e == TAO_OK)
			return 0;
		nanosleep(&pause, NULL);
	} while (time(NULL) < end);
	tao_fail(TAO_ETIMEOUT, "taod, process %d, does not answer yet: see %s", (int)pid, log);
	return cmd_failed(env);
}

static int in_background(const struct cmd_env *env, const struct host_conf *conf, char **args)
{
	char *log = host_path(conf, "taod.log");
	struct stat st;
	off_t from;
	pid_t pid;
	int status;

	if (log == NULL) {
		tao_fail_nomem();
		return cmd_failed(env);
	}
	from = stat(log, &st) == 0 ? st.st_size : 0;
	status = spawn_logged(args, log, &pid) == TAO_OK
	         ? wait_for_answer(env, conf, pid, log, from) : cmd_failed(env);
	free(log);
	return status;
}

int cmd_up_parent(const struct cmd_env *env, const struct host_conf *conf, int foreground)
{
	char tao[PATH_MAX], taod[PATH_MAX];
	struct tao_buf dir = TAO_BUF_INIT;
	int status;

	if (cmd_find_taod(taod) != TAO_OK || own_path(tao) != TAO_OK ||
	    parent_dir(conf, &dir) != TAO_OK) {
		status = cmd_failed(env);
	} else {
		char *args[] = { tao, "-d", (char *)tao_buf_cstr(&dir), "run", "--quiet", "--",
		                 taod,
		                 "-d", conf->dir, "--foreground", NULL };

		if (foreground) {
			execv(tao, args);
			tao_fail_sys("cannot start %s", tao);
		}
		status = foreground ? cmd_failed(env) : in_background(env, conf, args);
	}
	tao_buf_free(&dir);
	return status;
}
