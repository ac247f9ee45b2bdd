#include "cmd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tao.pb-c.h"

#define STOP_SECONDS 30
#define TELL_MS 2000        /* then it says what it waits for */
#define STAT_MAX 1024       /* bytes of /proc/PID/stat */
#define START_FIELD 22      /* of it: starttime */

/* ---- which program ---- */

/* text is N, or PREFIX and N. */
static int is_number(const char *text, const char *prefix, uint64_t n)
{
	char number[24];

	snprintf(number, sizeof number, "%llu", (unsigned long long)n);
	if (strcmp(text, number) == 0)
		return 1;
	return strncmp(text, prefix, strlen(prefix)) == 0 &&
	       strcmp(text + strlen(prefix), number) == 0;
}

static int is_meant(const Tao__InstanceInfo *in, const char *text)
{
	return is_number(text, "pid:", (uint64_t)in->pid) || is_number(text, "id:", in->id) ||
	       strcmp(text, cmd_instance_name(in)) == 0;
}

static enum tao_err ambiguous(const Tao__InstanceListResponse *list, const char *text)
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e;

	for (size_t i = 0; i < list->n_instances; i++) {
		const Tao__InstanceInfo *in = list->instances[i];

		if (is_meant(in, text))
			tao_buf_fmt(&b, "%s%s (id:%llu, pid:%d)", b.n > 0 ? ", " : "",
			            cmd_instance_name(in), (unsigned long long)in->id, in->pid);
	}
	e = tao_fail(TAO_EINVAL, "'%s' may be any of these: %s; say which", text, tao_buf_cstr(&b));
	tao_buf_free(&b);
	return e;
}

static enum tao_err choose(const Tao__InstanceListResponse *list, const char *text,
                           const Tao__InstanceInfo **out)
{
	size_t n = 0;

	for (size_t i = 0; i < list->n_instances; i++)
		if (is_meant(list->instances[i], text)) {
			*out = list->instances[i];
			n++;
		}
	if (n == 0)
		return tao_fail(TAO_ENOTFOUND, "no program '%s' of yours runs under this host: see "
		                "'tao ps'", text);
	return n == 1 ? TAO_OK : ambiguous(list, text);
}

/* ---- its process ---- */

/* Start time of a process, clock ticks since boot; 0: it is gone. */
static uint64_t start_of(pid_t pid)
{
	char path[40], text[STAT_MAX];
	char *p;
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = 0;
	p = strrchr(text, ')'); /* behind the name, which may hold anything: field 2 */
	for (int field = 2; p != NULL && field < START_FIELD; field++) {
		p = strchr(p, ' ');
		p = p != NULL ? p + 1 : NULL;
	}
	return p != NULL ? strtoull(p, NULL, 10) : 0;
}

/* The descriptor holds the process: what started when the host says it did,
 * with the descriptor open, is the one that the host means. */
static enum tao_err hold(const Tao__InstanceInfo *in, int *pidfd)
{
	*pidfd = (int)syscall(SYS_pidfd_open, in->pid, 0);
	if (*pidfd < 0 && errno != ESRCH)
		return tao_fail_sys("process %d", in->pid);
	if (*pidfd >= 0 && in->has_start && start_of(in->pid) == in->start)
		return TAO_OK;
	if (*pidfd >= 0)
		close(*pidfd);
	*pidfd = -1;
	return tao_fail(TAO_ENOTFOUND, "%s, process %d, has ended already", cmd_instance_name(in),
	                in->pid);
}

static enum tao_err send_it(const Tao__InstanceInfo *in, int pidfd, int sig)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) == 0 || errno == ESRCH)
		return TAO_OK;
	if (errno == EPERM)
		return tao_fail(TAO_EPERM, "process %d is another user's: stop it as that user, or "
		                "as root", in->pid);
	return tao_fail_sys("signalling process %d", in->pid);
}

/* 1: it has ended. */
static int ended(int pidfd, int ms)
{
	struct pollfd p = { pidfd, POLLIN, 0 };
	int n;

	do
		n = poll(&p, 1, ms);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

static enum tao_err wait_for_it(struct cmd_env *env, const Tao__InstanceInfo *in, int pidfd,
                                int seconds)
{
	int left = seconds * 1000, first = left < TELL_MS ? left : TELL_MS;
	char text[200];

	if (seconds == 0 || ended(pidfd, first))
		return TAO_OK;
	left -= first;
	if (left > 0) {
		snprintf(text, sizeof text, "waiting for %.64s, process %d, for %d seconds at most",
		         cmd_instance_name(in), in->pid, seconds);
		cmd_notice(env, text);
	}
	if (left > 0 && ended(pidfd, left))
		return TAO_OK;
	return tao_fail(TAO_ETIMEOUT, "%s, process %d, still runs after %d seconds: 'tao kill "
	                "pid:%d' ends it", cmd_instance_name(in), in->pid, seconds, in->pid);
}

/* ---- commands ---- */

static enum tao_err signal_one(struct cmd_env *env, const Tao__InstanceListResponse *list,
                               const char *which, int sig, int seconds)
{
	const Tao__InstanceInfo *in = NULL;
	int pidfd = -1;
	enum tao_err e = choose(list, which, &in);

	if (e == TAO_OK)
		e = hold(in, &pidfd);
	if (e == TAO_OK)
		e = send_it(in, pidfd, sig);
	if (e == TAO_OK)
		e = wait_for_it(env, in, pidfd, seconds);
	if (pidfd >= 0)
		close(pidfd);
	return e;
}

static int ask_and_signal(struct cmd_env *env, const char *which, int sig, int seconds)
{
	Tao__InstanceListResponse *list = NULL;
	enum tao_err e = cmd_ask(env, "Host.Ps", NULL, -1, &tao__instance_list_response__descriptor,
	                         (ProtobufCMessage **)&list);

	if (e == TAO_OK) {
		e = signal_one(env, list, which, sig, seconds);
		tao__instance_list_response__free_unpacked(list, NULL);
	}
	return e == TAO_OK ? 0 : cmd_failed(env);
}

/* TERM, SIGTERM or 15; 0: there is none of that name. */
static int signal_named(const char *text)
{
	const char *name = strncmp(text, "SIG", 3) == 0 ? text + 3 : text;
	char *end;
	long n = strtol(text, &end, 10);

	if (text[0] >= '1' && text[0] <= '9' && *end == 0 && n < NSIG)
		return (int)n;
	for (int sig = 1; sig < NSIG; sig++)
		if (sigabbrev_np(sig) != NULL && strcmp(sigabbrev_np(sig), name) == 0)
			return sig;
	return 0;
}

/* The only operand, or NULL with the usage explained. */
static const char *operand(struct cmd_env *env, int argc, char **argv)
{
	if (optind + 1 == argc)
		return argv[optind];
	if (optind == argc)
		env->status = cmd_usage(env, "something is missing");
	else
		env->status = cmd_usage(env, "'%s' is too much", argv[optind + 1]);
	return NULL;
}

int cmd_stop(struct cmd_env *env, int argc, char **argv)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 1 }, { NULL, 0, NULL, 0 },
	};
	int64_t seconds = STOP_SECONDS;
	const char *which;
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP || !cmd_number(env, "--timeout", optarg, 0, 86400, &seconds))
			return env->status;
	}
	which = operand(env, argc, argv);
	return which != NULL ? ask_and_signal(env, which, SIGTERM, (int)seconds) : env->status;
}

int cmd_kill(struct cmd_env *env, int argc, char **argv)
{
	static const struct option options[] = {
		{ "signal", required_argument, NULL, 1 }, { NULL, 0, NULL, 0 },
	};
	const char *which;
	int c, sig = SIGKILL;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		sig = signal_named(optarg);
		if (sig == 0)
			return cmd_usage(env, "there is no signal '%s'", optarg);
	}
	which = operand(env, argc, argv);
	return which != NULL ? ask_and_signal(env, which, sig, 0) : env->status;
}
