#include "measurer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "measurer_wire.h"

#define ATTEMPTS 2 /* of one call: the second with a fresh process */

/* A question on its way; lives on the stack of the thread that asks. */
struct call {
	struct call *next;
	uint32_t op, seq;
	int done;
	enum tao_err err;    /* TAO_ENOTFOUND: the measurer died */
	struct packet reply;
};

/*
 * Each caller sends for itself. One of those who wait receives for all; the
 * others sleep on changed. Who receives does so without the lock, so only he,
 * or somebody who sees that nobody receives, closes the socket.
 */
struct measurer {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char *path;
	uid_t dev_uid;
	int fd;            /* -1: none runs */
	pid_t pid;
	int dead;          /* to be reaped and replaced */
	int receiving;
	unsigned programs; /* under way */
	uint32_t seq;
	struct call *calls;
	void (*lost)(void *arg); /* instead of another start */
	void *lost_arg;
	int is_lost;
};

extern char **environ;

/* Between fork and exec of a process with threads: system calls only. */
__attribute__((noreturn)) static void become_measurer(const char *path, int sock)
{
	char *argv[] = { "taod", "--measurer", NULL };
	int null = open("/dev/null", O_RDWR);
	int safe = fcntl(sock, F_DUPFD, MEASURER_FD + 1);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int fd = 0; null >= 0 && fd < MEASURER_FD; fd++)
		dup2(null, fd);
	if (null >= 0 && dup2(safe, MEASURER_FD) == MEASURER_FD) {
		syscall(SYS_close_range, MEASURER_FD + 1, ~0u, 0);
		execve(path, argv, environ);
	}
	_exit(127);
}

/* With the lock. */
static enum tao_err spawn(struct measurer *m)
{
	const struct timeval patience = { .tv_sec = MEASURER_SECONDS };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return tao_fail_sys("cannot make a socket for the measurer");
	setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	m->pid = fork();
	if (m->pid == 0)
		become_measurer(m->path, pair[1]);
	close(pair[1]);
	if (m->pid < 0) {
		enum tao_err e = tao_fail_sys("cannot start the measurer");

		close(pair[0]);
		return e;
	}
	m->fd = pair[0];
	m->dead = 0;
	return TAO_OK;
}

/* With the lock: what was asked may be lost, and is asked again. */
static void fail_calls(struct measurer *m)
{
	for (struct call *c = m->calls; c != NULL; c = c->next)
		if (!c->done) {
			c->done = 1;
			c->err = TAO_ENOTFOUND;
		}
	pthread_cond_broadcast(&m->changed);
}

/* With the lock: nobody is to use this process again. A receiver wakes up. */
static void give_up(struct measurer *m)
{
	if (m->fd < 0 || m->dead)
		return;
	m->dead = 1;
	shutdown(m->fd, SHUT_RDWR);
	kill(m->pid, SIGKILL);
	fail_calls(m);
}

/* With the lock, when nobody receives. */
static void reap(struct measurer *m)
{
	if (m->fd < 0)
		return;
	close(m->fd);
	m->fd = -1;
	while (waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
		;
	m->pid = -1;
	m->dead = 0;
}

static void enlist(struct measurer *m, struct call *c)
{
	c->done = 0;
	c->err = TAO_OK;
	c->seq = ++m->seq;
	c->next = m->calls;
	m->calls = c;
}

static void delist(struct measurer *m, struct call *c)
{
	struct call **p = &m->calls;

	while (*p != NULL && *p != c)
		p = &(*p)->next;
	if (*p == c)
		*p = c->next;
}

/* With the lock: hands an answer to whom it belongs. One to what was given up is
 * dropped; one to what was never asked is a measurer gone mad. */
static int deliver(struct measurer *m, struct packet *p)
{
	if (p->op == WIRE_RESTARTED) {
		fail_calls(m);
		return 1;
	}
	for (struct call *c = m->calls; c != NULL; c = c->next)
		if (c->seq == p->seq && c->op == p->op && !c->done) {
			c->done = 1;
			c->reply = *p;
			*p = (struct packet)PACKET_INIT;
			pthread_cond_broadcast(&m->changed);
			return 1;
		}
	return p->seq <= m->seq;
}

static long left_ms(const struct timespec *until)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (until->tv_sec - now.tv_sec) * 1000 + (until->tv_nsec - now.tv_nsec) / 1000000;
}

/* With the lock, which it lets go meanwhile: receives one answer, whosever it is. */
static void receive_one(struct measurer *m, const struct timespec *until)
{
	struct packet p = PACKET_INIT;
	struct pollfd pfd = { .fd = m->fd, .events = POLLIN };
	long ms = left_ms(until);
	enum tao_err e = TAO_ETIMEOUT;
	int ready;

	m->receiving = 1;
	pthread_mutex_unlock(&m->lock);
	ready = poll(&pfd, 1, ms > 0 ? (int)ms : 0);
	if (ready > 0)
		e = wire_receive(pfd.fd, &p);
	pthread_mutex_lock(&m->lock);
	m->receiving = 0;
	if (ready > 0 && (e != TAO_OK || (!m->dead && !deliver(m, &p))))
		give_up(m);
	packet_clear(&p);
	pthread_cond_broadcast(&m->changed);
}

/* With the lock: until c is done or its time is over. */
static enum tao_err await(struct measurer *m, struct call *c, const struct timespec *until)
{
	while (!c->done) {
		if (left_ms(until) <= 0) {
			kill(m->pid, SIGUSR1); /* its supervisor starts another child */
			return tao_fail(TAO_ETIMEOUT, "measuring took longer than %d seconds: does "
			                "a file system hang?", MEASURER_SECONDS);
		}
		if (m->receiving)
			pthread_cond_timedwait(&m->changed, &m->lock, until);
		else
			receive_one(m, until);
	}
	return c->err;
}

/* With the lock: what came while nobody asked, as that the child was started again. */
static void drain(struct measurer *m)
{
	const struct timespec now = { 0, 0 };
	struct pollfd p = { .fd = m->fd, .events = POLLIN };

	while (!m->dead && !m->receiving && p.fd >= 0 && poll(&p, 1, 0) > 0) {
		receive_one(m, &now);
		p.fd = m->fd; /* others may have had it replaced meanwhile */
	}
}

static enum tao_err start_again(struct measurer *m)
{
	if (m->lost == NULL)
		return spawn(m);
	if (!m->is_lost)
		m->lost(m->lost_arg);
	m->is_lost = 1;
	return tao_fail(TAO_ESYS, "the measurer was killed, and the Tao host ends: start it again");
}

/* With the lock: a process that can be asked. */
static enum tao_err ensure(struct measurer *m)
{
	while (m->dead && m->receiving)
		pthread_cond_wait(&m->changed, &m->lock);
	if (m->fd >= 0)
		drain(m);
	while (m->dead && m->receiving)
		pthread_cond_wait(&m->changed, &m->lock);
	if (m->dead)
		reap(m);
	return m->fd >= 0 ? TAO_OK : start_again(m);
}

/* With the lock. */
static enum tao_err attempt(struct measurer *m, struct call *c, struct packet *q,
                            const struct timespec *until)
{
	enum tao_err e = ensure(m);

	if (e != TAO_OK)
		return e;
	enlist(m, c);
	q->op = c->op;
	q->seq = c->seq;
	e = wire_send(m->fd, q);
	/* EPIPE is a dead measurer; with anything else it is not to be trusted either. */
	if (e == TAO_ESYS) {
		give_up(m);
		e = TAO_ENOTFOUND;
	} else if (e == TAO_OK) {
		e = await(m, c, until);
	}
	delist(m, c);
	return e;
}

/* With the lock: a place among the programs under way. */
static enum tao_err take_place(struct measurer *m, const struct timespec *until)
{
	while (m->programs == MEASURER_JOBS)
		if (pthread_cond_timedwait(&m->changed, &m->lock, until) == ETIMEDOUT)
			return tao_fail(TAO_EBUSY, "the Tao host measures too many programs at "
			                "once: try again");
	m->programs++;
	return TAO_OK;
}

/* Asks q and leaves the answer in c->reply. */
static enum tao_err ask(struct measurer *m, uint32_t op, struct packet *q, struct call *c)
{
	struct timespec until;
	enum tao_err e = TAO_OK;
	int is_program = op == WIRE_PROGRAM || op == WIRE_RUNNING;

	*c = (struct call){ .op = op, .reply = PACKET_INIT };
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += MEASURER_SECONDS;
	pthread_mutex_lock(&m->lock);
	if (is_program)
		e = take_place(m, &until);
	if (e != TAO_OK)
		goto out;
	for (int i = 0; i < ATTEMPTS; i++) {
		e = attempt(m, c, q, &until);
		if (e != TAO_ENOTFOUND)
			break;
	}
	if (e == TAO_ENOTFOUND)
		e = tao_fail(TAO_ESYS, "the measurer ended and ended again when it was restarted: "
		             "restart the Tao host and look at its log");
	if (is_program) {
		m->programs--;
		pthread_cond_broadcast(&m->changed);
	}
out:
	pthread_mutex_unlock(&m->lock);
	return e;
}

enum tao_err measurer_start(const char *taod_path, int dev_uid, struct measurer **out)
{
	struct measurer *m = calloc(1, sizeof *m);
	struct process_view self;
	pthread_condattr_t attr;
	enum tao_err e;

	*out = NULL;
	if (m == NULL)
		return tao_fail_nomem();
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&m->lock, NULL);
	m->fd = m->pid = -1;
	m->dev_uid = dev_uid > 0 ? (uid_t)dev_uid : 0;
	m->path = strdup(taod_path);
	e = m->path != NULL ? spawn(m) : tao_fail_nomem();
	if (e == TAO_OK)
		e = measurer_process(m, getpid(), &self);
	/* An ordinary user's measurer sees no undumpable process, as this one is: it has
	 * answered. */
	if (e == TAO_EPERM && m->dev_uid != 0)
		e = TAO_OK;
	if (e != TAO_OK)
		measurer_stop(m);
	else
		*out = m;
	return e;
}

void measurer_stop(struct measurer *m)
{
	if (m == NULL)
		return;
	pthread_mutex_lock(&m->lock);
	give_up(m);
	reap(m);
	pthread_mutex_unlock(&m->lock);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m->path);
	free(m);
}

/* The answer's payload, or the measurer's error. */
static enum tao_err payload(const struct call *c, struct tao_rd *r)
{
	*r = tao_rd_of(c->reply.body.p, c->reply.body.n);
	return wire_get_result(r);
}

static enum tao_err take_measurement(struct call *c, struct measurement *out)
{
	struct tao_rd r;
	int has_copy = 0;
	enum tao_err e = payload(c, &r);

	if (e == TAO_OK)
		e = wire_get_measurement(&r, out, &has_copy);
	if (e == TAO_OK && has_copy != (c->reply.fd >= 0))
		e = tao_fail(TAO_EPROTO,
		             "the measurer sent no copy of the program: restart the Tao host");
	if (e == TAO_OK) {
		out->copy_fd = c->reply.fd;
		c->reply.fd = -1;
	}
	return e;
}

enum tao_err measurer_program(struct measurer *m, const struct measure_request *rq,
                              struct measurement *out)
{
	struct packet q = PACKET_INIT;
	struct call c = { .reply = PACKET_INIT };
	struct measure_request with_uid = *rq;
	enum tao_err e;

	memset(out, 0, sizeof *out);
	out->copy_fd = -1;
	out->text = (struct tao_buf)TAO_BUF_INIT;
	out->text.max = MEASURE_MAX_MANIFEST;
	with_uid.dev_uid = m->dev_uid;
	if (rq->fd < 0 || rq->path == NULL)
		return tao_fail(TAO_EINVAL, "a program to measure needs a path and a descriptor");
	e = wire_put_request(&q.body, &with_uid);
	q.fd = rq->fd;
	if (e == TAO_OK)
		e = ask(m, WIRE_PROGRAM, &q, &c);
	if (e == TAO_OK)
		e = take_measurement(&c, out);
	if (e != TAO_OK)
		measurement_clear(out);
	q.fd = -1; /* the caller's */
	packet_clear(&q);
	packet_clear(&c.reply);
	return e;
}

enum tao_err measurer_running(struct measurer *m, const struct running_request *rq,
                              struct measurement *out, char **path)
{
	struct packet q = PACKET_INIT;
	struct call c = { .reply = PACKET_INIT };
	struct running_request with_uid = *rq;
	struct tao_rd r;
	int has_copy = 0;
	enum tao_err e;

	memset(out, 0, sizeof *out);
	out->copy_fd = -1;
	out->text = (struct tao_buf)TAO_BUF_INIT;
	out->text.max = MEASURE_MAX_MANIFEST;
	*path = NULL;
	with_uid.dev_uid = m->dev_uid;
	e = wire_put_running(&q.body, &with_uid);
	if (e == TAO_OK)
		e = ask(m, WIRE_RUNNING, &q, &c);
	if (e == TAO_OK)
		e = payload(&c, &r);
	if (e == TAO_OK)
		*path = wire_get_string(&r, PATH_MAX);
	if (e == TAO_OK)
		e = wire_get_measurement(&r, out, &has_copy);
	if (e == TAO_OK && (*path == NULL || has_copy))
		e = tao_fail(TAO_EPROTO, "the measurer sent no path: restart the Tao host");
	packet_clear(&q);
	packet_clear(&c.reply);
	return e;
}

/* A question whose answer is a view. q is done with. */
static enum tao_err ask_view(struct measurer *m, uint32_t op, struct packet *q,
                             struct process_view *v)
{
	struct call c;
	struct tao_rd r;
	enum tao_err e;

	memset(v, 0, sizeof *v);
	e = ask(m, op, q, &c);
	if (e == TAO_OK)
		e = payload(&c, &r);
	if (e == TAO_OK)
		e = wire_get_view(&r, v);
	packet_clear(q);
	packet_clear(&c.reply);
	return e;
}

enum tao_err measurer_process(struct measurer *m, pid_t pid, struct process_view *v)
{
	struct packet q = PACKET_INIT;

	tao_buf_u32(&q.body, (uint32_t)pid);
	return ask_view(m, WIRE_PROCESS, &q, v);
}

enum tao_err measurer_started(struct measurer *m, pid_t pid, const void *args, size_t n,
                              struct process_view *v)
{
	struct packet q = PACKET_INIT;

	tao_buf_u32(&q.body, (uint32_t)pid);
	tao_buf_put(&q.body, args, n);
	return ask_view(m, WIRE_STARTED, &q, v);
}

enum tao_err measurer_hold(struct measurer *m, const struct hold_request *rq)
{
	struct packet q = PACKET_INIT;
	struct call c;
	struct tao_rd r;
	enum tao_err e;

	tao_buf_u64(&q.body, rq->id);
	tao_buf_u32(&q.body, (uint32_t)rq->pid);
	tao_buf_u64(&q.body, rq->start);
	if (rq->args_n > 0)
		tao_buf_put(&q.body, rq->args, rq->args_n);
	e = ask(m, WIRE_HOLD, &q, &c);
	if (e == TAO_OK)
		e = payload(&c, &r);
	if (e == TAO_OK && !tao_rd_done(&r))
		e = tao_fail(TAO_EPROTO, "the measurer said too much: restart the Tao host");
	packet_clear(&q);
	packet_clear(&c.reply);
	return e;
}

enum tao_err measurer_seen(struct measurer *m, uint64_t id, struct process_view *v)
{
	struct packet q = PACKET_INIT;

	tao_buf_u64(&q.body, id);
	return ask_view(m, WIRE_SEEN, &q, v);
}

enum tao_err measurer_caller(struct measurer *m, pid_t pid, struct process_view *v,
                             char unit[UNIT_MAX + 1])
{
	struct packet q = PACKET_INIT;
	char *text = NULL;
	struct call c;
	struct tao_rd r;
	enum tao_err e;

	memset(v, 0, sizeof *v);
	tao_buf_u32(&q.body, (uint32_t)pid);
	e = ask(m, WIRE_CALLER, &q, &c);
	if (e == TAO_OK)
		e = payload(&c, &r);
	if (e == TAO_OK && (text = wire_get_string(&r, UNIT_MAX)) == NULL)
		e = tao_fail(TAO_EPROTO, "the measurer sent no unit: restart the Tao host");
	if (e == TAO_OK)
		e = wire_get_view(&r, v);
	snprintf(unit, UNIT_MAX + 1, "%s", text != NULL ? text : "");
	free(text);
	packet_clear(&q);
	packet_clear(&c.reply);
	return e;
}

void measurer_unit(struct measurer *m, pid_t pid, char unit[UNIT_MAX + 1])
{
	struct packet q = PACKET_INIT;
	struct call c;
	struct tao_rd r;
	char *text = NULL;

	tao_buf_u32(&q.body, (uint32_t)pid);
	if (ask(m, WIRE_UNIT, &q, &c) == TAO_OK && payload(&c, &r) == TAO_OK)
		text = wire_get_string(&r, UNIT_MAX);
	snprintf(unit, UNIT_MAX + 1, "%s", text != NULL && tao_rd_done(&r) ? text : "");
	free(text);
	packet_clear(&q);
	packet_clear(&c.reply);
}

void measurer_is_last(struct measurer *m, void (*lost)(void *arg), void *arg)
{
	pthread_mutex_lock(&m->lock);
	m->lost = lost;
	m->lost_arg = arg;
	pthread_mutex_unlock(&m->lock);
}

pid_t measurer_pid(struct measurer *m)
{
	pid_t pid;

	pthread_mutex_lock(&m->lock);
	pid = m->dead ? -1 : m->pid;
	pthread_mutex_unlock(&m->lock);
	return pid;
}
