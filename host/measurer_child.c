#include "measurer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/capability.h>

#include "hold.h"
#include "measure_with.h"
#include "measurer_wire.h"
#include "proc.h"
#include "seccomp.h"

/* The keeper counts a job as done a little before this side does. */
#define JOBS_MAX (2 * MEASURER_JOBS)

#define RESTART_MS 20 /* between a death and the next child: fifty a second at most */

struct child {
	int sock;
	struct measure_cache *cache;
	struct holder *holder; /* NULL: none is traced here */
	atomic_int threads;
	atomic_int receiving; /* or about to */
};

/* Answers in; body holds result and payload. */
typedef enum tao_err answer_fn(struct child *c, struct packet *in, struct packet *out);

static enum tao_err answer_program(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	struct measure_request rq;
	struct measurement m;
	enum tao_err e = wire_get_request(&r, &rq);

	if (e != TAO_OK)
		return e;
	rq.fd = in->fd;
	e = measure_program_with(c->cache, &rq, &m);
	if (e == TAO_OK) {
		wire_put_result(&out->body, e);
		wire_put_measurement(&out->body, &m);
		out->fd = m.copy_fd;
		m.copy_fd = -1;
	}
	measurement_clear(&m);
	wire_free_request(&rq);
	return e;
}

static enum tao_err answer_process(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	pid_t pid = (pid_t)tao_rd_u32(&r);
	struct process_view v;
	enum tao_err e;

	(void)c;
	if (!tao_rd_done(&r))
		return tao_fail(TAO_EPROTO, "the measurer got a malformed request");
	e = measure_process(pid, &v);
	if (e == TAO_OK) {
		wire_put_result(&out->body, e);
		wire_put_view(&out->body, &v);
	}
	return e;
}

static enum tao_err answer_started(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	pid_t pid = (pid_t)tao_rd_u32(&r);
	size_t n = r.n;
	const uint8_t *args = tao_rd_bytes(&r, n);
	struct process_view v;
	enum tao_err e;

	(void)c;
	if (!tao_rd_done(&r) || n == 0)
		return tao_fail(TAO_EPROTO, "the measurer got a malformed request");
	e = measure_started(pid, args, n, &v);
	if (e == TAO_OK) {
		wire_put_result(&out->body, e);
		wire_put_view(&out->body, &v);
	}
	return e;
}

static enum tao_err answer_hold(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	struct hold_request rq = { .id = tao_rd_u64(&r) };
	enum tao_err e;

	rq.pid = (pid_t)tao_rd_u32(&r);
	rq.start = tao_rd_u64(&r);
	rq.args_n = r.n;
	rq.args = tao_rd_bytes(&r, rq.args_n);
	if (!tao_rd_done(&r) || rq.pid <= 0)
		return tao_fail(TAO_EPROTO, "the measurer got a malformed request");
	e = hold_start(c->holder, &rq);
	if (e == TAO_OK)
		wire_put_result(&out->body, e);
	return e;
}

static enum tao_err answer_seen(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	uint64_t id = tao_rd_u64(&r);
	struct process_view v;
	enum tao_err e;

	if (!tao_rd_done(&r))
		return tao_fail(TAO_EPROTO, "the measurer got a malformed request");
	e = hold_seen(c->holder, id, &v);
	if (e == TAO_OK) {
		wire_put_result(&out->body, e);
		wire_put_view(&out->body, &v);
	}
	return e;
}

static enum tao_err answer_unit(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	pid_t pid = (pid_t)tao_rd_u32(&r);
	char unit[UNIT_MAX + 1];
	enum tao_err e;

	(void)c;
	if (!tao_rd_done(&r))
		return tao_fail(TAO_EPROTO, "the measurer got a malformed request");
	e = proc_unit(pid, unit);
	if (e == TAO_OK) {
		wire_put_result(&out->body, e);
		wire_put_string(&out->body, unit);
	}
	return e;
}

/* A process of no unit, or of one that cannot be told, is one of none. */
static enum tao_err answer_caller(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	pid_t pid = (pid_t)tao_rd_u32(&r);
	char unit[UNIT_MAX + 1];
	struct process_view v;
	enum tao_err e;

	(void)c;
	if (!tao_rd_done(&r))
		return tao_fail(TAO_EPROTO, "the measurer got a malformed request");
	e = measure_process(pid, &v);
	if (e == TAO_OK) {
		wire_put_result(&out->body, e);
		wire_put_string(&out->body, proc_unit(pid, unit) == TAO_OK ? unit : "");
		wire_put_view(&out->body, &v);
	}
	return e;
}

static enum tao_err answer_running(struct child *c, struct packet *in, struct packet *out)
{
	struct tao_rd r = tao_rd_of(in->body.p, in->body.n);
	struct running_request rq;
	struct measurement m;
	char *path = NULL;
	enum tao_err e = wire_get_running(&r, &rq);

	if (e != TAO_OK)
		return e;
	e = measure_running(c->cache, &rq, &m, &path);
	if (e == TAO_OK) {
		wire_put_result(&out->body, e);
		wire_put_string(&out->body, path);
		wire_put_measurement(&out->body, &m);
	}
	free(path);
	measurement_clear(&m);
	wire_free_running(&rq);
	return e;
}

static const struct {
	answer_fn *answer;
	int with_fd;
	int is_job; /* may take long: another thread receives meanwhile */
} ops[] = {
	[WIRE_PROGRAM] = { answer_program, 1, 1 },
	[WIRE_PROCESS] = { answer_process, 0, 0 },
	[WIRE_RUNNING] = { answer_running, 0, 1 },
	[WIRE_UNIT] = { answer_unit, 0, 0 },
	[WIRE_CALLER] = { answer_caller, 0, 0 },
	[WIRE_HOLD] = { answer_hold, 0, 0 },
	[WIRE_SEEN] = { answer_seen, 0, 0 },
	[WIRE_STARTED] = { answer_started, 0, 0 },
};

/* A keeper that is gone shows at the next receive. */
static void respond(struct child *c, struct packet *in, answer_fn *answer)
{
	struct packet out = PACKET_INIT;
	enum tao_err e = answer(c, in, &out);

	out.op = in->op;
	out.seq = in->seq;
	if (e == TAO_OK)
		e = tao_buf_err(&out.body);
	if (e != TAO_OK) {
		packet_clear(&out);
		wire_put_result(&out.body, e);
	}
	e = wire_send(c->sock, &out);
	packet_clear(&out);
	if (e != TAO_OK) {
		/* Perhaps there was no memory for a long answer. */
		wire_put_result(&out.body, e);
		wire_send(c->sock, &out);
		packet_clear(&out);
	}
}

static enum tao_err answer_busy(struct child *c, struct packet *in, struct packet *out)
{
	(void)c;
	(void)in;
	(void)out;
	return tao_fail(TAO_EBUSY, "the Tao host measures too many programs at once: try again");
}

static void *receive_all(void *arg);

/* Sees to it that somebody receives while this thread is busy for long; 0 if nobody can. */
static int leave_receiving(struct child *c)
{
	pthread_t thread;

	if (atomic_load(&c->receiving) > 0)
		return 1;
	if (atomic_load(&c->threads) > JOBS_MAX)
		return 0;
	atomic_fetch_add(&c->threads, 1);
	atomic_fetch_add(&c->receiving, 1);
	if (pthread_create(&thread, NULL, receive_all, c) == 0) {
		pthread_detach(thread);
		return 1;
	}
	atomic_fetch_sub(&c->threads, 1);
	atomic_fetch_sub(&c->receiving, 1);
	return 0;
}

/* 0: the keeper does not speak our language. */
static int serve(struct child *c, struct packet *in)
{
	if (in->op >= sizeof ops / sizeof *ops || ops[in->op].answer == NULL ||
	    (in->fd >= 0) != ops[in->op].with_fd)
		return 0;
	if (ops[in->op].is_job && !leave_receiving(c)) {
		respond(c, in, answer_busy);
		return 1;
	}
	respond(c, in, ops[in->op].answer);
	return 1;
}

/* Each thread receives for itself, so that a question costs no hand-over. Counted as receiving
 * already when it begins. NULL: the keeper is gone; else it is not to be talked to. */
static void *receive_all(void *arg)
{
	struct child *c = arg;
	struct packet in = PACKET_INIT;
	enum tao_err e = TAO_OK;
	int going = 1;

	while (going && (e = wire_receive(c->sock, &in)) == TAO_OK) {
		atomic_fetch_sub(&c->receiving, 1);
		going = serve(c, &in);
		packet_clear(&in);
		atomic_fetch_add(&c->receiving, 1);
	}
	packet_clear(&in);
	if (!going || e != TAO_ENOTFOUND)
		_exit(1);
	if (atomic_load(&c->receiving) < atomic_load(&c->threads))
		_exit(0); /* answers of the others have no reader; the cache is theirs */
	return NULL;
}

/* Keeps CAP_SYS_PTRACE if it is there. Threads inherit what their maker has. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3] = { { 0, 0, 0 } };
	const uint32_t keep = 1u << CAP_SYS_PTRACE;

	if (syscall(SYS_capget, &h, d) != 0)
		return 0;
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		d[i].permitted &= i == 0 ? keep : 0;
		d[i].effective = d[i].permitted;
		d[i].inheritable = 0;
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &h, d) == 0;
}

/* Signals to the whole process group or unit are the keeper's affair: this process ends when the
 * keeper closes the socket. */
static int confine(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1,
		SIGUSR2 };
	const struct rlimit none = { 0, 0 };

	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		signal(ignored[i], SIG_IGN);
	return setrlimit(RLIMIT_CORE, &none) == 0 &&
	       prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
	       prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_NAME, "taod-measurer", 0, 0, 0) == 0 && drop_capabilities();
}

/* 0: the keeper is gone. 1: it does not speak our language, or nothing can be done here. */
static int serve_all(int fd)
{
	/* Not on the stack: the other threads, too, see that the keeper is gone, and may look at it
	 * when this one has left. */
	static struct child c = { .threads = 1, .receiving = 1 };

	c.sock = fd;
	/* Where it cannot be done, the keeper looks from outside. */
	hold_open(&c.holder);
	/* A kernel without seccomp is told by the keeper. */
	seccomp_measurer();
	c.cache = measure_cache_new();
	if (c.cache == NULL)
		return 1;
	receive_all(&c);
	measure_cache_free(c.cache);
	return 0;
}

/* ---- the supervisor ---- */

static pid_t start_serving(int fd, const sigset_t *waited)
{
	pid_t supervisor = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	/* Without its supervisor nobody would start it again. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != supervisor)
		_exit(1);
	signal(SIGUSR1, SIG_IGN);
	sigprocmask(SIG_UNBLOCK, waited, NULL);
	exit(serve_all(fd));
}

/* Until the child has ended; its status as of waitpid(2). */
static int await_child(pid_t pid, const sigset_t *waited)
{
	int sig, status;

	while (waitpid(pid, &status, WNOHANG) == 0)
		if (sigwait(waited, &sig) == 0 && sig == SIGUSR1)
			kill(pid, SIGKILL);
	return status;
}

static void tell_keeper(int fd)
{
	struct packet p = PACKET_INIT;

	p.op = WIRE_RESTARTED;
	wire_send(fd, &p);
	packet_clear(&p);
}

int measurer_main(int fd)
{
	const struct timespec pause = { 0, RESTART_MS * 1000000l };
	sigset_t waited;
	int status;

	if (!confine())
		return 1;
	sigemptyset(&waited);
	sigaddset(&waited, SIGCHLD);
	sigaddset(&waited, SIGUSR1);
	sigprocmask(SIG_BLOCK, &waited, NULL);
	signal(SIGUSR1, SIG_DFL);
	for (;;) {
		pid_t pid = start_serving(fd, &waited);

		if (pid < 0)
			return 1;
		status = await_child(pid, &waited);
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		tell_keeper(fd);
		nanosleep(&pause, NULL);
	}
}
