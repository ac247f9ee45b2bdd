#include "cmd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tao.pb-c.h"

#define DOWN_TIMEOUT_MS 30000

/* Waits until the process is gone. A pidfd taken while the host still
 * answered cannot mean another process later. */
static enum tao_err wait_gone(int pidfd, int pid)
{
	struct pollfd p = { pidfd, POLLIN, 0 };
	int n;

	do
		n = poll(&p, 1, DOWN_TIMEOUT_MS);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return tao_fail_sys("cannot wait for the host to end");
	if (n == 0)
		return tao_fail(TAO_ETIMEOUT, "the host, process %d, has not ended within %d "
		                "seconds: see its log, and end it with 'kill %d'", pid,
		                DOWN_TIMEOUT_MS / 1000, pid);
	return TAO_OK;
}

static enum tao_err shut_down(struct tao_conn *conn)
{
	struct tao_buf reply = TAO_BUF_INIT;
	Tao__StatusResponse *s = NULL;
	enum tao_err e;
	int pidfd, pid;

	e = cmd_call(conn, "Host.Status", NULL, -1, &tao__status_response__descriptor,
	             (ProtobufCMessage **)&s, NULL, NULL);
	if (e != TAO_OK)
		return e;
	pid = s->pid;
	tao__status_response__free_unpacked(s, NULL);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 && errno != ESRCH)
		return tao_fail_sys("cannot watch the host, process %d", pid);
	e = tao_conn_call(conn, "Host.Shutdown", NULL, 0, -1, TAO_CALL_TIMEOUT_MS, &reply, NULL,
	                  NULL);
	/* It may be gone before its answer is. */
	if (e == TAO_ENOHOST || e == TAO_EPROTO)
		e = TAO_OK;
	if (e == TAO_OK && pidfd >= 0)
		e = wait_gone(pidfd, pid);
	if (pidfd >= 0)
		close(pidfd);
	tao_buf_free(&reply);
	return e;
}

int cmd_down(struct cmd_env *env, int argc, char **argv)
{
	const char *said = "the Tao host is stopped";
	struct host_conf conf;
	struct tao_conn conn;
	enum tao_err e;

	if (!cmd_operands(env, argc, argv, 0, 0))
		return env->status;
	e = cmd_connect(env, &conf, &conn);
	if (e == TAO_OK) {
		e = shut_down(&conn);
	} else if (e == TAO_ENOHOST) {
		said = "the Tao host was not running";
		e = TAO_OK;
	}
	e = cmd_hangs(&conf, e);
	if (e == TAO_OK && !env->json)
		puts(said);
	tao_conn_close(&conn);
	host_conf_clear(&conf);
	return e == TAO_OK ? 0 : cmd_failed(env);
}
