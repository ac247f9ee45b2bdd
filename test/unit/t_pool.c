/* tao/client.h, the pool of a process: threads, forks, restarts, doors. */
#include "tao/client.h"

#include <errno.h>
#include <sys/stat.h>

#include "badhost.h"

#define SOCK     "host"
#define SHORT_MS 200
#define LONG_MS  20000
#define SLACK_MS 1500
#define THREADS  32
#define CALLS    100

/* ---- calls ---- */

/* Calls with a body of its own; 1 if that came back. */
static int echo(struct tao_client *cl, int a, int b)
{
	struct tao_buf body = TAO_BUF_INIT, reply = TAO_BUF_INIT;
	int same;

	tao_buf_fmt(&body, "%d in %d of process %d", b, a, (int)getpid());
	same = tao_client_call(cl, "Test.Echo", body.p, body.n, NULL, &reply) == TAO_OK &&
	       strcmp(tao_buf_cstr(&body), tao_buf_cstr(&reply)) == 0;
	tao_buf_free(&body);
	tao_buf_free(&reply);
	return same;
}

static enum tao_err call(struct tao_client *cl, const char *op)
{
	return tao_client_call(cl, op, "x", 1, NULL, NULL);
}

static void plain(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct badhost h;
	int good = 1;

	ok_str(tao_client_path(cl), SOCK, "the path");
	ok_err(call(cl, "Test.Echo"), TAO_ENOHOST, "no host");
	ok(strstr(tao_why(), "'tao up'") != NULL, "the sentence says what to do");
	badhost_start(&h, SOCK, -1, badhost_good);
	for (int i = 0; i < 10; i++)
		good &= echo(cl, 0, i);
	ok(good, "then there is one: ten calls");
	ok(atomic_load(&h.by_path) == 1, "on one connection");
	tao_client_free(cl);
	badhost_stop(&h);
	tao_client_free(NULL);
}

/* Nobody waits for their answers, and the next call finds its own. */
static void posts(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct badhost h;
	int good = 1;

	ok_err(tao_client_post(cl, "Test.Post", "x", 1), TAO_ENOHOST, "posted to nobody");
	badhost_start(&h, SOCK, -1, badhost_good);
	good &= echo(cl, 1, 0);
	for (int i = 0; i < 3; i++)
		good &= tao_client_post(cl, "Test.Post", "post", 4) == TAO_OK;
	ok(good && echo(cl, 1, 1), "three posted, and a call gets its own answer");
	for (int i = 0; i < 3 * TAO_CLIENT_POSTS; i++)
		good &= tao_client_post(cl, "Test.Post", "post", 4) == TAO_OK;
	ok(good && echo(cl, 1, 2), "so it does after many");
	ok(atomic_load(&h.requests) == 3 + 3 + 3 * TAO_CLIENT_POSTS, "all of them arrived");
	ok(atomic_load(&h.by_path) == 1, "on one connection");
	tao_client_free(cl);
	badhost_stop(&h);
}

static atomic_int work_begun, seconds_seen;

/* Test.When answers when the caller has begun with its work, or never; Test.Second, the second
 * time. */
static int answers_then(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	for (int i = 0; strcmp(m->op, "Test.When") == 0 && !atomic_load(&work_begun); i++) {
		if (i > 2 * SHORT_MS)
			return -1;
		sleep_ms(1);
	}
	if (strcmp(m->op, "Test.Second") == 0 && atomic_fetch_add(&seconds_seen, 1) == 0)
		return -1;
	return badhost_good(h, fd, m);
}

static void work(void *arg)
{
	++*(int *)arg;
	atomic_store(&work_begun, 1);
}

/* Work for the time that the host takes: after the request was sent, before the answer. */
static void meanwhile(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	int times = 0;
	struct tao_meanwhile w = { work, &times, 0 };
	struct badhost h;

	ok_err(tao_client_call(cl, "Test.When", "x", 1, &w, NULL), TAO_ENOHOST,
	       "work, and no host");
	ok(times == 0 && !w.done, "nothing was sent, so it is not done");
	badhost_start(&h, SOCK, -1, answers_then);
	ok_err(tao_client_call(cl, "Test.When", "x", 1, &w, NULL), TAO_OK,
	       "work, and a host that waits for it");
	ok(times == 1 && w.done, "it is done once");
	times = w.done = 0;
	ok_err(tao_client_call(cl, "Test.Second", "x", 1, &w, NULL), TAO_OK,
	       "one that ends the first time");
	ok(times == 1 && w.done, "sent twice, done once");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* A path that is too long is refused, not cut to another. */
static void long_path(void)
{
	char path[2 * TAO_SOCKET_PATH_MAX];
	struct tao_client *cl;
	struct badhost h;

	memset(path, 'y', sizeof path);
	path[TAO_SOCKET_PATH_MAX] = 0;
	badhost_start(&h, path, -1, badhost_good);
	path[TAO_SOCKET_PATH_MAX] = 'y';
	path[sizeof path - 1] = 0;
	cl = tao_client_new(path, LONG_MS);
	ok_err(call(cl, "Test.Echo"), TAO_ELIMIT, "a path that is too long");
	ok(atomic_load(&h.by_path) == 0, "its beginning is not connected to");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* ---- restarts and lost answers ---- */

static void restart(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct badhost h;

	badhost_start(&h, SOCK, -1, badhost_good);
	ok(echo(cl, 0, 0), "a call");
	badhost_stop(&h);
	badhost_start(&h, SOCK, -1, badhost_good);
	ok(echo(cl, 0, 1), "the host was restarted: a call");
	ok(atomic_load(&h.by_path) == 1, "on a new connection");
	badhost_stop(&h);
	ok_err(call(cl, "Test.Echo"), TAO_ENOHOST, "the host has gone");
	ok(strstr(tao_why(), "'tao up'") != NULL, "the sentence says what to do");
	badhost_start(&h, SOCK, -1, badhost_good);
	ok(echo(cl, 0, 2), "and has come back");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* Closes without an answer at Test.Die, in the middle of one at Test.Half, is late at Test.Late. */
static int misbehaves(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	if (strcmp(m->op, "Test.Die") == 0 || strcmp(m->op, "Tao.ExtendTaoName") == 0)
		return -1;
	if (strcmp(m->op, "Test.Half") == 0) {
		badhost_send(fd, "\0\0\0\20", 4);
		return -1;
	}
	if (strcmp(m->op, "Test.Late") == 0)
		sleep_ms(2 * SHORT_MS);
	if (strcmp(m->op, "Test.Deny") == 0) {
		struct tao_buf b = TAO_BUF_INIT;

		tao_rpc_put_error(&b, m->op, m->seq, TAO_ENOHOST, "the parent is not running");
		return badhost_send_buf(fd, &b);
	}
	return badhost_good(h, fd, m);
}

static void lost_answers(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct badhost h;

	badhost_start(&h, SOCK, -1, misbehaves);
	ok_err(call(cl, "Test.Die"), TAO_ENOHOST, "closed without an answer, on a new connection");
	ok(atomic_load(&h.requests) == 1, "is not tried again");
	ok(echo(cl, 0, 0), "a call");
	ok_err(call(cl, "Test.Die"), TAO_ENOHOST, "closed without an answer, on a used one");
	ok(atomic_load(&h.requests) == 4, "is tried again once");
	ok(echo(cl, 0, 1), "a call");
	ok_err(call(cl, "Tao.ExtendTaoName"), TAO_ENOHOST, "closed while it changed something");
	ok(atomic_load(&h.requests) == 6, "is not tried again");
	ok(strstr(tao_why(), "may have done it") != NULL, "the sentence says why");
	ok(echo(cl, 0, 1), "a call");
	ok_err(call(cl, "Test.Half"), TAO_ENOHOST, "closed in the middle of an answer");
	ok(atomic_load(&h.requests) == 8, "is not tried again");
	ok(echo(cl, 0, 2), "a call");
	ok_err(call(cl, "Test.Deny"), TAO_ENOHOST, "an error answer that looks like a lost host");
	ok(atomic_load(&h.requests) == 10, "is not tried again");
	ok(echo(cl, 0, 3), "and the connection stays");
	ok(atomic_load(&h.by_path) == 6, "as many connections as that takes");
	tao_client_free(cl);
	badhost_stop(&h);
}

static void late_answer(void)
{
	struct tao_client *cl = tao_client_new(SOCK, SHORT_MS);
	int64_t start = clock_ms();
	struct badhost h;

	badhost_start(&h, SOCK, -1, misbehaves);
	ok_err(call(cl, "Test.Late"), TAO_ETIMEOUT, "an answer that is late");
	ok_time(start, SHORT_MS - 5, SHORT_MS + SLACK_MS, "is not waited for");
	sleep_ms(3 * SHORT_MS);
	ok(echo(cl, 0, 0) && echo(cl, 0, 1), "nor taken for the next");
	ok(atomic_load(&h.by_path) == 2, "its connection is replaced");
	tao_client_free(cl);
	badhost_stop(&h);
}

static int greets_slowly(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	sleep_ms(SHORT_MS * 2 / 5);
	return badhost_good(h, fd, m);
}

/* All steps of a first call share its deadline; a later call has its own. */
static void one_deadline(void)
{
	struct tao_client *cl = tao_client_new(SOCK, SHORT_MS);
	struct badhost h;
	int64_t start = clock_ms();

	badhost_start(&h, SOCK, -1, greets_slowly);
	ok_err(call(cl, "Test.Echo"), TAO_ETIMEOUT, "a slow greeting, proof and answer");
	ok_time(start, SHORT_MS - 5, SHORT_MS * 8 / 5, "share one deadline");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* ---- threads ---- */

struct caller {
	pthread_t thread;
	struct tao_client *cl;
	int number, calls, good;
	const char *op;
	enum tao_err e;
};

static void *echo_many(void *arg)
{
	struct caller *c = arg;

	for (int i = 0; i < c->calls; i++)
		c->good += echo(c->cl, c->number, i);
	return NULL;
}

static void *call_op(void *arg)
{
	struct caller *c = arg;

	c->e = call(c->cl, c->op);
	return NULL;
}

static void start_caller(struct caller *c, struct tao_client *cl, int number, void *(*fn)(void *),
                         int calls, const char *op)
{
	*c = (struct caller){
		.cl = cl, .number = number, .calls = calls, .op = op, .e = TAO_EINVAL
	};
	if (pthread_create(&c->thread, NULL, fn, c) != 0)
		exit(1);
}

static void threads(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct caller callers[THREADS];
	struct badhost h;
	int good = 0;

	badhost_start(&h, SOCK, -1, badhost_good);
	for (int i = 0; i < THREADS; i++)
		start_caller(&callers[i], cl, i, echo_many, CALLS, NULL);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(callers[i].thread, NULL);
		good += callers[i].good;
	}
	ok(good == THREADS * CALLS, "%d of %d calls of %d threads", good, THREADS * CALLS, THREADS);
	ok(atomic_load(&h.by_path) <= THREADS, "on %d connections", atomic_load(&h.by_path));
	tao_client_free(cl);
	badhost_stop(&h);
}

/* Holds back the answers to Test.Hold until Test.Release. */
static int holds(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	static struct {
		int fd;
		struct tao_rpc_msg m;
	} held[PEERS_MAX]; /* the host's thread alone uses it */
	static int n;

	if (strcmp(m->op, "Test.Hold") == 0 && n < PEERS_MAX) {
		held[n].fd = fd;
		held[n].m = *m;
		n++;
		return 0;
	}
	if (strcmp(m->op, "Test.Release") == 0)
		while (n > 0) {
			n--;
			badhost_reply(held[n].fd, &held[n].m, "", 0);
		}
	return badhost_good(h, fd, m);
}

static void wait_requests(struct badhost *h, int n)
{
	for (int i = 0; i < 1000 && atomic_load(&h->requests) < n; i++)
		sleep_ms(10);
}

/* All connections in use: a call waits for one to be free. */
static void all_busy(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS),
			  *other = tao_client_new(SOCK, LONG_MS);
	struct caller callers[TAO_CLIENT_CONNS], waiting;
	struct badhost h;
	int good = 1;

	badhost_start(&h, SOCK, -1, holds);
	for (int i = 0; i < TAO_CLIENT_CONNS; i++)
		start_caller(&callers[i], cl, i, call_op, 1, "Test.Hold");
	wait_requests(&h, TAO_CLIENT_CONNS);
	start_caller(&waiting, cl, 0, echo_many, 1, NULL);
	sleep_ms(100);
	ok(atomic_load(&h.requests) == TAO_CLIENT_CONNS &&
	       atomic_load(&h.by_path) == TAO_CLIENT_CONNS,
	   "%d calls are on their way, and one waits", TAO_CLIENT_CONNS);
	ok_err(call(other, "Test.Release"), TAO_OK, "the host answers them");
	for (int i = 0; i < TAO_CLIENT_CONNS; i++) {
		pthread_join(callers[i].thread, NULL);
		good &= callers[i].e == TAO_OK;
	}
	ok(good, "they return");
	pthread_join(waiting.thread, NULL);
	ok(waiting.good == 1, "the one that waited has its answer");
	ok(atomic_load(&h.by_path) == TAO_CLIENT_CONNS + 1, "it took no connection of its own");
	tao_client_free(cl);
	tao_client_free(other);
	badhost_stop(&h);
}

/* All connections in use, and the host stuck: nobody waits much longer than the deadline. */
static void all_stuck(void)
{
	struct tao_client *cl = tao_client_new(SOCK, SHORT_MS);
	struct caller callers[2 * TAO_CLIENT_CONNS];
	int64_t start;
	struct badhost h;
	int good = 1, late = 0;

	badhost_start(&h, SOCK, -1, holds);
	start = clock_ms();
	for (int i = 0; i < 2 * TAO_CLIENT_CONNS; i++)
		start_caller(&callers[i], cl, i, call_op, 1, "Test.Hold");
	for (int i = 0; i < 2 * TAO_CLIENT_CONNS; i++) {
		pthread_join(callers[i].thread, NULL);
		good &= callers[i].e == TAO_EBUSY || callers[i].e == TAO_ETIMEOUT;
		late += callers[i].e == TAO_ETIMEOUT;
	}
	ok(good, "twice as many calls as connections to a host that is stuck fail");
	ok(late > 0, "%d of them saw the host", late);
	ok_time(start, SHORT_MS - 5, SHORT_MS + SLACK_MS, "in time");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* ---- a host that does not answer ---- */

#define SILENT_MS 1000 /* what a call may take: then it is also how long the host is left alone */
#define PROMPT    12   /* calls */

static atomic_int mute;

/* Answers nothing while it is mute, not even a greeting; Test.Late never. */
static int falls_silent(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	return atomic_load(&mute) || strcmp(m->op, "Test.Late") == 0 ? 0 : badhost_good(h, fd, m);
}

/* How many calls of a process can have reached the host since then: one that waited, one at once,
 * and one each time that has waited and the host was left alone. It holds however slow the machine
 * is. */
static int may_reach(int64_t since)
{
	return 3 + (int)((clock_ms() - since) / (2 * SILENT_MS));
}

/* So many of them that are made fail as those that were not made. */
static int all_late(struct tao_client *cl, int calls, int *alone)
{
	int late = 1;

	for (int i = 0; i < calls; i++) {
		late &= call(cl, "Test.Echo") == TAO_ETIMEOUT;
		*alone += strstr(tao_why(), "asked again in some seconds") != NULL;
	}
	return late;
}

static void *late_calls(void *arg)
{
	struct caller *c = arg;

	c->good = all_late(c->cl, c->calls, &c->number);
	return NULL;
}

static int answers_again(struct tao_client *cl)
{
	for (int i = 0; i < 2000 && !echo(cl, 0, i); i++)
		sleep_ms(10);
	return echo(cl, 0, 0) && echo(cl, 0, 1);
}

static void silent_host(void)
{
	struct tao_client *cl = tao_client_new(SOCK, SILENT_MS);
	int64_t start = clock_ms();
	struct badhost h;
	int alone = 0;

	badhost_start(&h, SOCK, -1, falls_silent);
	ok(echo(cl, 0, 0), "a host that answers");
	atomic_store(&mute, 1);
	ok_err(call(cl, "Test.Echo"), TAO_ETIMEOUT, "falls silent");
	ok(strstr(tao_why(), "did not answer Test.Echo") != NULL, "the first call was made");
	ok(all_late(cl, PROMPT, &alone), "then %d calls fail", PROMPT);
	ok(alone >= PROMPT - may_reach(start), "%d of them were not made", alone);
	ok(atomic_load(&h.by_path) <= may_reach(start), "to %d connections",
	   atomic_load(&h.by_path));
	call(cl, "Test.Echo");
	if (strstr(tao_why(), "asked again") == NULL) /* that one was made */
		call(cl, "Test.Echo");
	ok(strstr(tao_why(), "Tao host on " SOCK) != NULL, "the sentence names the host");
	ok(tao_client_post(cl, "Test.Post", "x", 1) == TAO_ETIMEOUT, "nothing can be posted");
	ok(atomic_load(&h.by_path) <= may_reach(start), "to %d connections",
	   atomic_load(&h.by_path));
	atomic_store(&mute, 0);
	ok(answers_again(cl), "it answers again");
	start = clock_ms();
	ok(call(cl, "Test.Late") == TAO_ETIMEOUT && echo(cl, 0, 1),
	   "one that was late, and the next at once");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* Of the threads of a process one asks; and its children know. */
static void silent_to_many(void)
{
	struct tao_client *cl = tao_client_new(SOCK, SILENT_MS);
	int64_t start = clock_ms();
	struct caller callers[THREADS];
	struct badhost h;
	int good = 1, alone = 0, before;

	badhost_start(&h, SOCK, -1, falls_silent);
	atomic_store(&mute, 1);
	ok_err(call(cl, "Test.Echo"), TAO_ETIMEOUT, "a host that is silent from the beginning");
	for (int i = 0; i < THREADS; i++)
		start_caller(&callers[i], cl, 0, late_calls, PROMPT, NULL);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(callers[i].thread, NULL);
		good &= callers[i].good;
		alone += callers[i].number;
	}
	ok(good, "%d calls of %d threads fail", THREADS * PROMPT, THREADS);
	ok(alone >= THREADS * PROMPT - may_reach(start), "%d of them were not made", alone);
	before = may_reach(start);
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			alone = 0;
			all_late(cl, PROMPT, &alone);
			_exit(alone < PROMPT - may_reach(start) ? 1 : 0);
		}
		ok(wait_child(pid) == 0, "a child leaves it alone, too");
	}
	ok(atomic_load(&h.by_path) <= before + 3 * may_reach(start), "%d connections in all",
	   atomic_load(&h.by_path));
	atomic_store(&mute, 0);
	ok(answers_again(cl), "it answers again");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* What takes long while others are answered says nothing about the host. */
static void slow_is_not_silent(void)
{
	struct tao_client *cl = tao_client_new(SOCK, SILENT_MS);
	struct caller late;
	struct badhost h;

	badhost_start(&h, SOCK, -1, falls_silent);
	start_caller(&late, cl, 0, call_op, 1, "Test.Late");
	wait_requests(&h, 1);
	ok(echo(cl, 0, 0), "a call, while another");
	pthread_join(late.thread, NULL);
	ok_err(late.e, TAO_ETIMEOUT, "takes too long");
	atomic_store(&mute, 1);
	/* The first one finds the host silent only now, and so there is a second one. */
	for (int i = 0; i < 2; i++) {
		ok_err(call(cl, "Test.Echo"), TAO_ETIMEOUT, "one that is not answered");
		if (!ok(strstr(tao_why(), "did not answer") != NULL &&
		        strstr(tao_why(), "asked again") == NULL, "but was made"))
			printf("# %s\n", tao_why());
	}
	atomic_store(&mute, 0);
	tao_client_free(cl);
	badhost_stop(&h);
}

/* ---- forks ---- */

static void fork_once(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct badhost h;
	pid_t pid;

	badhost_start(&h, SOCK, -1, badhost_good);
	ok(echo(cl, 0, 0) && atomic_load(&h.pid) == (int)getpid(), "a call of the parent");
	pid = fork();
	if (pid == 0)
		_exit(!echo(cl, 1, 0) || !echo(cl, 1, 1));
	ok(wait_child(pid) == 0, "calls of the child");
	ok(atomic_load(&h.pid) == (int)pid && atomic_load(&h.by_path) == 2,
	   "on its own connection");
	ok(echo(cl, 0, 1), "the child has ended: a call of the parent");
	pid = fork();
	if (pid == 0) {
		if (!echo(cl, 1, 0))
			_exit(1);
		tao_client_free(cl);
		_exit(0);
	}
	ok(wait_child(pid) == 0, "a child that frees its client");
	ok(echo(cl, 0, 2), "a call of the parent");
	pid = fork();
	if (pid == 0) {
		tao_client_free(cl);
		_exit(0);
	}
	ok(wait_child(pid) == 0, "a child that frees it unused");
	ok(echo(cl, 0, 3) && atomic_load(&h.by_path) == 3,
	   "a call of the parent, on its first connection");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* The child of a child; and the parent ends first. */
static void fork_twice(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	int ends[2];
	struct badhost h;
	pid_t pid;
	char byte = 0;

	badhost_start(&h, SOCK, -1, badhost_good);
	if (!echo(cl, 0, 0) || pipe2(ends, O_CLOEXEC) != 0)
		exit(1);
	pid = fork();
	if (pid == 0) {
		if (!echo(cl, 1, 0))
			_exit(1);
		if (fork() == 0) {
			while (getppid() == pid)
				sleep_ms(5);
			if (echo(cl, 2, 0) && echo(cl, 2, 1) && write(ends[1], "!", 1) != 1)
				_exit(1);
			tao_client_free(cl);
			_exit(0);
		}
		_exit(!echo(cl, 1, 1));
	}
	close(ends[1]);
	ok(wait_child(pid) == 0, "a child with a child of its own");
	ok(read(ends[0], &byte, 1) == 1 && byte == '!', "which calls when its parent has ended");
	close(ends[0]);
	ok(echo(cl, 0, 1) && atomic_load(&h.by_path) == 3, "a connection for each");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* Children of a process whose threads are calling. */
static void fork_amid_threads(void)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct caller callers[4];
	struct badhost h;
	int good = 1;

	badhost_start(&h, SOCK, -1, badhost_good);
	for (int i = 0; i < 4; i++)
		start_caller(&callers[i], cl, i, echo_many, 3 * CALLS, NULL);
	for (int i = 0; i < 8; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			int fine = 1;

			for (int j = 0; j < 20; j++)
				fine &= echo(cl, 100 + i, j);
			tao_client_free(cl);
			_exit(!fine);
		}
		good &= wait_child(pid) == 0;
	}
	ok(good, "children of a process whose threads are calling");
	for (int i = 0; i < 4; i++) {
		pthread_join(callers[i].thread, NULL);
		good &= callers[i].good == 3 * CALLS;
	}
	ok(good, "do not disturb these");
	tao_client_free(cl);
	badhost_stop(&h);
}

/* ---- a program that closes all descriptors and uses their numbers again ---- */

#define FILES 40

static int files_untouched(const int fds[FILES])
{
	struct stat st;

	for (int i = 0; i < FILES; i++)
		if (fstat(fds[i], &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != 0)
			return 0;
	return 1;
}

/* In a child, since the host's thread needs its own. */
static int daemonize(struct tao_client *cl)
{
	int fds[FILES];

	if (!echo(cl, 1, 0))
		return 10;
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	for (int i = 0; i < FILES; i++)
		fds[i] = open(".", O_TMPFILE | O_RDWR, 0600);
	if (!files_untouched(fds))
		return 11;
	if (!echo(cl, 1, 1) || !echo(cl, 1, 2))
		return 12;
	if (!files_untouched(fds))
		return 13;
	tao_client_free(cl);
	return files_untouched(fds) ? 0 : 14;
}

/* Frees a client whose descriptors are others' by now. */
static int free_after(struct tao_client *cl)
{
	int fds[FILES];

	if (!echo(cl, 1, 0))
		return 30;
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	for (int i = 0; i < FILES; i++)
		fds[i] = open(".", O_TMPFILE | O_RDWR, 0600);
	tao_client_free(cl);
	return files_untouched(fds) ? 0 : 31;
}

/* Calls for the first time when its parent's descriptors are others' by now. */
static int call_after(struct tao_client *cl)
{
	int fds[FILES];

	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	for (int i = 0; i < FILES; i++)
		fds[i] = open(".", O_TMPFILE | O_RDWR, 0600);
	if (!echo(cl, 1, 0))
		return 40;
	return files_untouched(fds) ? 0 : 41;
}

static int reuse_by_socket(struct tao_client *cl)
{
	int pair[2];
	char byte;

	if (!echo(cl, 1, 0))
		return 20;
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return 21;
	for (int i = 0; i < FILES; i++) /* the same socket under all numbers */
		if (dup(pair[0]) < 0)
			return 25;
	if (!echo(cl, 1, 1))
		return 22;
	if (recv(pair[1], &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
		return 23;
	tao_client_free(cl);
	return fcntl(pair[0], F_GETFD) >= 0 ? 0 : 24;
}

static void reuse(int (*fn)(struct tao_client *), int used_before, const char *what)
{
	struct tao_client *cl = tao_client_new(SOCK, LONG_MS);
	struct badhost h;
	pid_t pid;
	int r;

	badhost_start(&h, SOCK, -1, badhost_good);
	if (used_before && !echo(cl, 0, 0))
		exit(1);
	pid = fork();
	if (pid == 0)
		_exit(fn(cl));
	r = wait_child(pid);
	ok(r == 0, "%s", what);
	if (r != 0)
		printf("# %d\n", r);
	tao_client_free(cl);
	badhost_stop(&h);
}

/* ---- doors ---- */

/* The program's end of a door; the host's in ends[0]. Named in the environment as text says. */
static void make_door(int ends[2], const char *fmt)
{
	char text[64] = "";
	struct stat st;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0 || fstat(ends[1], &st) != 0)
		exit(1);
	if (fmt == NULL)
		fmt = "%d:%llu";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof text, fmt, ends[1], (unsigned long long)st.st_ino);
#pragma GCC diagnostic pop
	setenv("TAO_DOOR", text, 1);
}

static void through_door(void)
{
	struct tao_client *cl;
	int ends[2], good = 1;
	struct badhost h;
	pid_t pid;

	make_door(ends, NULL);
	badhost_start(&h, NULL, ends[0], badhost_good);
	cl = tao_client_new("missing", LONG_MS);
	unsetenv("TAO_DOOR");
	for (int i = 0; i < 10; i++)
		good &= echo(cl, 0, i);
	ok(good && atomic_load(&h.by_door) == 1, "ten calls on one connection through the door");
	ok((fcntl(ends[1], F_GETFD) & FD_CLOEXEC) != 0, "the door is close-on-exec");
	pid = fork();
	if (pid == 0)
		_exit(!echo(cl, 1, 0));
	ok(wait_child(pid) == 0 && atomic_load(&h.by_door) == 2,
	   "a child's connection goes through it");
	tao_client_free(cl);
	ok(fcntl(ends[1], F_GETFD) >= 0, "it stays open when the client is freed");
	badhost_stop(&h);
	close(ends[0]);
	close(ends[1]);
}

/* What is not a door is not used, nor touched. */
static void no_doors(void)
{
	static const char *const texts[] = {
		"%d:1%llu",  "%d:",      "%d",       "",         ":",
		"x:%llu",    "%d:%llux", "%d:%llu ", "-%d:%llu", "99999999999%d:%llu",
		"900%d:%llu"
	};
	struct tao_client *cl;
	struct badhost h;
	int ends[2];
	char byte;

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		make_door(ends, texts[i]);
		badhost_start(&h, SOCK, -1, badhost_good);
		cl = tao_client_new(SOCK, LONG_MS);
		ok(echo(cl, 0, 0) && atomic_load(&h.by_path) == 1, "TAO_DOOR=%s: by the path",
		   getenv("TAO_DOOR"));
		ok(recv(ends[0], &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN &&
		       (fcntl(ends[1], F_GETFD) & FD_CLOEXEC) == 0,
		   "what it names is left alone");
		tao_client_free(cl);
		badhost_stop(&h);
		close(ends[0]);
		close(ends[1]);
	}
	unsetenv("TAO_DOOR");
}

/* A file whose inode number is right is no door, either. */
static void file_as_door(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	struct tao_client *cl;
	char text[64];
	struct badhost h;
	struct stat st;

	if (fstat(fd, &st) != 0)
		exit(1);
	snprintf(text, sizeof text, "%d:%llu", fd, (unsigned long long)st.st_ino);
	setenv("TAO_DOOR", text, 1);
	badhost_start(&h, SOCK, -1, badhost_good);
	cl = tao_client_new(SOCK, LONG_MS);
	unsetenv("TAO_DOOR");
	ok(echo(cl, 0, 0) && atomic_load(&h.by_path) == 1, "a file as a door: by the path");
	ok(fstat(fd, &st) == 0 && st.st_size == 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0,
	   "the file is left alone");
	tao_client_free(cl);
	badhost_stop(&h);
	close(fd);
}

/* The host at the door's other end has gone: another may listen on the path. */
static void door_gone(void)
{
	struct badhost at_door, h;
	struct tao_client *cl;
	int ends[2];

	make_door(ends, NULL);
	badhost_start(&at_door, NULL, ends[0], badhost_good);
	badhost_start(&h, SOCK, -1, badhost_good);
	cl = tao_client_new(SOCK, LONG_MS);
	unsetenv("TAO_DOOR");
	ok(echo(cl, 0, 0) && atomic_load(&h.by_path) == 0, "a call through the door");
	badhost_stop(&at_door);
	close(ends[0]);
	ok(echo(cl, 0, 1) && atomic_load(&h.by_path) == 1, "the door's host has gone: by the path");
	badhost_stop(&h);
	ok_err(call(cl, "Test.Echo"), TAO_ENOHOST, "both have gone");
	ok(strstr(tao_why(), "'tao up'") != NULL, "the sentence says what to do");
	tao_client_free(cl);
	close(ends[1]);
}

/* The door's host takes connections and closes them: it is ending. */
static void door_closes(void)
{
	struct badhost at_door, h;
	struct tao_client *cl;
	int ends[2];

	make_door(ends, NULL);
	badhost_start(&at_door, NULL, ends[0], NULL);
	badhost_start(&h, SOCK, -1, badhost_good);
	cl = tao_client_new(SOCK, LONG_MS);
	unsetenv("TAO_DOOR");
	ok(echo(cl, 0, 0) && atomic_load(&h.by_path) == 1,
	   "a door whose host is ending: by the path");
	ok(atomic_load(&at_door.by_door) == 1, "after it was tried");
	tao_client_free(cl);
	badhost_stop(&at_door);
	badhost_stop(&h);
	close(ends[0]);
	close(ends[1]);
}

/* Nobody looks at the door: the call ends at its deadline. */
static void door_stuck(void)
{
	struct tao_client *cl;
	int64_t start;
	int ends[2];

	make_door(ends, NULL);
	cl = tao_client_new("missing", SHORT_MS);
	unsetenv("TAO_DOOR");
	start = clock_ms();
	ok_err(call(cl, "Test.Echo"), TAO_ETIMEOUT, "a door that nobody looks at");
	ok_time(start, SHORT_MS - 5, SHORT_MS + SLACK_MS, "is not waited at");
	while (send(ends[1], "", 1, MSG_DONTWAIT) == 1) /* until it is full */
		;
	start = clock_ms();
	ok(call(cl, "Test.Echo") != TAO_OK, "a door that is full");
	ok_time(start, SHORT_MS - 5, SHORT_MS + SLACK_MS, "is not waited at");
	tao_client_free(cl);
	close(ends[0]);
	close(ends[1]);
}

/* The program closed the door's number and uses it for a connection of its own. */
static void door_reused(void)
{
	int ends[2], pair[2];
	struct tao_client *cl;
	struct badhost h;
	char byte;

	make_door(ends, NULL);
	badhost_start(&h, SOCK, -1, badhost_good);
	cl = tao_client_new(SOCK, LONG_MS);
	unsetenv("TAO_DOOR");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0 || dup2(pair[1], ends[1]) < 0)
		exit(1);
	ok(echo(cl, 0, 0) && atomic_load(&h.by_path) == 1,
	   "the door's number is another's: by the path");
	ok(recv(pair[0], &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "nothing is sent there");
	tao_client_free(cl);
	badhost_stop(&h);
	close(ends[0]);
	close(ends[1]);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	char dir[] = "t_pool.XXXXXX";
	int before;

	unsetenv("TAO_DOOR");
	if (mkdtemp(dir) == NULL || chdir(dir) != 0)
		return 1;
	before = count_fds();
	plain();
	posts();
	meanwhile();
	long_path();
	restart();
	lost_answers();
	late_answer();
	one_deadline();
	fork_once();
	fork_twice();
	reuse(daemonize, 0, "all numbers reused by files");
	reuse(daemonize, 1, "all numbers reused by files, with a parent's connection");
	reuse(free_after, 1, "all numbers reused by files, then freed");
	reuse(call_after, 1, "the parent's numbers reused by files, then a first call");
	reuse(reuse_by_socket, 0, "all numbers reused by a socket");
	reuse(reuse_by_socket, 1, "all numbers reused by a socket, with a parent's connection");
	through_door();
	no_doors();
	file_as_door();
	door_gone();
	door_closes();
	door_stuck();
	door_reused();
	threads();
	all_busy();
	all_stuck();
	silent_host();
	silent_to_many();
	slow_is_not_silent();
	fork_amid_threads();
	ok(count_fds() == before, "no descriptor is left");
	return chdir("..") != 0 || rmdir(dir) != 0 ? 1 : done();
}
