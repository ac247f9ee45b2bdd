#include "hold.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proc.h"
#include "process.h"

#define LEAVE_MS 1000 /* from PTRACE_INTERRUPT to the stop, after which it is asked for again */

enum state {
	HOLD_FREE,
	HOLD_ASKED,  /* to be traced */
	HOLD_TRACED,
	HOLD_SEEN,   /* let go */
};

struct hold {
	enum state state;
	uint64_t id;
	pid_t pid;
	uint64_t start;
	void *args;
	size_t args_n;
	enum tao_err *result; /* of who waits while it is HOLD_ASKED */
	int leaving;          /* to be let go at the next stop */
	unsigned stops;
	int64_t until;        /* now_ms() */
	struct process_view seen;
};

struct holder {
	pthread_mutex_t lock; /* of everything below, but while somebody waits */
	pthread_cond_t changed;
	int wake, signals; /* eventfd, signalfd */
	struct hold all[HOLD_PLACES];
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void set_free(struct hold *o)
{
	free(o->args);
	memset(o, 0, sizeof *o);
}

static struct hold *traced(struct holder *h, pid_t pid)
{
	for (size_t i = 0; i < HOLD_PLACES; i++)
		if (h->all[i].state == HOLD_TRACED && h->all[i].pid == pid)
			return &h->all[i];
	return NULL;
}

/* ---- the thread that traces ---- */

static long let_go(pid_t pid, int sig)
{
	return ptrace(PTRACE_DETACH, pid, NULL, (void *)(intptr_t)sig);
}

/* The new program is in place and waits for us before its first instruction. What is seen must be
 * there before it runs and asks for something. */
static void executed(struct hold *o)
{
	pid_t pid = o->pid;
	enum tao_err e = o->args_n > 0 ? measure_started(pid, o->args, o->args_n, &o->seen)
	                               : measure_process(pid, &o->seen);

	if (e == TAO_OK && o->seen.start == o->start) {
		o->until = now_ms() + HOLD_SECONDS * 1000;
		o->state = HOLD_SEEN;
	} else {
		set_free(o);
	}
	let_go(pid, 0);
}

static int is_stop(int sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

static void stopped(struct hold *o, int status)
{
	int event = status >> 16, sig = WSTOPSIG(status);
	int deliver = event == 0 ? sig : 0;

	if (event == PTRACE_EVENT_EXEC) {
		executed(o);
	} else if (o->leaving || ++o->stops >= HOLD_STOPS) {
		let_go(o->pid, deliver);
		set_free(o);
	} else if (event == PTRACE_EVENT_STOP && is_stop(sig)) {
		ptrace(PTRACE_LISTEN, o->pid, NULL, NULL); /* stays stopped until SIGCONT */
	} else {
		ptrace(PTRACE_CONT, o->pid, NULL, (void *)(intptr_t)deliver);
	}
}

/* One that is not known was killed in the moment it was let go. */
static void has_changed(struct holder *h, pid_t pid, int status)
{
	struct hold *o = traced(h, pid);

	if (o != NULL && WIFSTOPPED(status))
		stopped(o, status);
	else if (o != NULL)
		set_free(o);
}

static void wait_all(struct holder *h)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(h->signals, &info, sizeof info) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		has_changed(h, pid, status);
}

static enum tao_err seize(struct holder *h, struct hold *o)
{
	struct hold *before = traced(h, o->pid);

	if (before != NULL) {
		o->leaving = before->leaving;
		o->stops = before->stops;
		set_free(before);
	} else if (ptrace(PTRACE_SEIZE, o->pid, NULL, (void *)PTRACE_O_TRACEEXEC) != 0) {
		return TAO_EPERM; /* hold_start() says so */
	}
	return TAO_OK;
}

/* Whose number it is can be told once it is traced: it goes to no other until we wait for it. */
static int has_number(const struct hold *o)
{
	uint64_t start;

	return proc_start(o->pid, &start) == TAO_OK && start == o->start;
}

static void begin(struct holder *h, struct hold *o)
{
	enum tao_err e = seize(h, o);
	int ours = e == TAO_OK && has_number(o);

	*o->result = e != TAO_OK || ours ? e : TAO_ENOTFOUND;
	o->result = NULL;
	pthread_cond_broadcast(&h->changed);
	if (e != TAO_OK) {
		set_free(o);
		return;
	}
	o->state = HOLD_TRACED;
	o->leaving |= !ours;
	o->until = now_ms() + (ours ? HOLD_SECONDS * 1000 : 0);
}

static void begin_all(struct holder *h)
{
	uint64_t times;

	if (read(h->wake, &times, sizeof times) < 0)
		return;
	for (size_t i = 0; i < HOLD_PLACES; i++)
		if (h->all[i].state == HOLD_ASKED)
			begin(h, &h->all[i]);
}

/* A process whose other thread executed something is traced no more, and nobody was told. */
static void too_late(struct holder *h, struct hold *o)
{
	int status;
	pid_t pid = o->state == HOLD_TRACED ? waitpid(o->pid, &status, WNOHANG | __WALL) : -1;

	if (pid < 0) {
		set_free(o);
	} else if (pid > 0) {
		has_changed(h, pid, status);
	} else {
		o->leaving = 1;
		o->until = now_ms() + LEAVE_MS;
		ptrace(PTRACE_INTERRUPT, o->pid, NULL, NULL);
	}
}

/* Milliseconds to the next time that is over; -1: there is none. */
static int sort_out(struct holder *h)
{
	int64_t next = -1, now = now_ms();

	for (size_t i = 0; i < HOLD_PLACES; i++) {
		struct hold *o = &h->all[i];

		if (o->state >= HOLD_TRACED && o->until <= now)
			too_late(h, o);
		if (o->state >= HOLD_TRACED && (next < 0 || o->until - now < next))
			next = o->until > now ? o->until - now : 0;
	}
	return (int)next;
}

static void *trace(void *arg)
{
	struct holder *h = arg;
	struct pollfd p[] = { { h->wake, POLLIN, 0 }, { h->signals, POLLIN, 0 } };

	for (;;) {
		int ms;

		pthread_mutex_lock(&h->lock);
		begin_all(h);
		wait_all(h);
		ms = sort_out(h);
		pthread_mutex_unlock(&h->lock);
		poll(p, 2, ms);
	}
	return NULL;
}

static enum tao_err start_thread(struct holder *h)
{
	sigset_t child;
	pthread_t thread;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	signal(SIGCHLD, SIG_DFL); /* ignored, it would not come */
	pthread_sigmask(SIG_BLOCK, &child, NULL);
	h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	h->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (h->wake < 0 || h->signals < 0)
		return tao_fail_sys("cannot make descriptors for the thread that traces");
	if (pthread_create(&thread, NULL, trace, h) != 0)
		return tao_fail_nomem();
	pthread_detach(thread);
	return TAO_OK;
}

enum tao_err hold_open(struct holder **out)
{
	struct holder *h = calloc(1, sizeof *h);
	enum tao_err e = h != NULL ? TAO_OK : tao_fail_nomem();

	*out = NULL;
	if (e == TAO_OK && !process_may_trace())
		e = tao_fail(TAO_EPERM, "this process has no CAP_SYS_PTRACE");
	if (e == TAO_OK) {
		pthread_mutex_init(&h->lock, NULL);
		pthread_cond_init(&h->changed, NULL);
		h->wake = h->signals = -1;
		e = start_thread(h);
	}
	if (e == TAO_OK) {
		*out = h;
		return TAO_OK;
	}
	if (h != NULL && h->wake > 0)
		close(h->wake);
	if (h != NULL && h->signals > 0)
		close(h->signals);
	free(h);
	return e;
}

/* ---- those who ask ---- */

static struct hold *free_place(struct holder *h)
{
	struct hold *oldest = NULL;

	for (size_t i = 0; i < HOLD_PLACES; i++) {
		struct hold *o = &h->all[i];

		if (o->state == HOLD_FREE)
			return o;
		if (o->state == HOLD_SEEN && (oldest == NULL || o->until < oldest->until))
			oldest = o;
	}
	return oldest;
}

static enum tao_err enter(struct holder *h, struct hold *o, const struct hold_request *rq,
                          enum tao_err *result)
{
	const uint64_t one = 1;
	void *args = rq->args_n > 0 ? malloc(rq->args_n) : NULL;

	if (rq->args_n > 0 && args == NULL)
		return tao_fail_nomem();
	if (args != NULL)
		memcpy(args, rq->args, rq->args_n);
	set_free(o);
	*o = (struct hold){ .state = HOLD_ASKED, .id = rq->id, .pid = rq->pid, .start = rq->start,
		            .args = args, .args_n = rq->args_n, .result = result };
	if (write(h->wake, &one, sizeof one) == sizeof one)
		return TAO_OK;
	set_free(o);
	return tao_fail_sys("cannot wake the thread that traces");
}

enum tao_err hold_start(struct holder *h, const struct hold_request *rq)
{
	enum tao_err e, result = TAO_ERR_COUNT; /* the thread has not tried */
	struct hold *o;

	if (h == NULL)
		return tao_fail(TAO_EPERM, "only with CAP_SYS_PTRACE a process is traced");
	pthread_mutex_lock(&h->lock);
	o = free_place(h);
	e = o != NULL ? enter(h, o, rq, &result)
	              : tao_fail(TAO_ELIMIT, "%d processes are traced already", HOLD_PLACES);
	while (e == TAO_OK && result == TAO_ERR_COUNT)
		pthread_cond_wait(&h->changed, &h->lock);
	pthread_mutex_unlock(&h->lock);
	if (e == TAO_OK && result != TAO_OK)
		e = tao_fail(result, "process %d %s", (int)rq->pid, result == TAO_EPERM
		             ? "cannot be traced: is a debugger there?" : "is gone");
	return e;
}

enum tao_err hold_seen(struct holder *h, uint64_t id, struct process_view *v)
{
	enum tao_err e = TAO_ENOTFOUND;

	if (h == NULL)
		return tao_fail(TAO_ENOTFOUND, "no process is traced here");
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; e == TAO_ENOTFOUND && i < HOLD_PLACES; i++) {
		struct hold *o = &h->all[i];

		if (o->id != id || o->state < HOLD_TRACED)
			continue;
		e = o->state == HOLD_SEEN ? TAO_OK : TAO_EBUSY;
		*v = o->seen;
	}
	pthread_mutex_unlock(&h->lock);
	return e == TAO_OK ? e : tao_fail(e, e == TAO_EBUSY ? "the process has executed nothing yet"
	                                                     : "no process was traced for this");
}
