/*
 * A host in a thread of the test program, which speaks tao/rpc.h on a socket
 * and, if given one, through a door, and does with each request what the test
 * says: mostly something that no real host does.
 *
 *   struct badhost h;
 *   badhost_start(&h, "sock", -1, badhost_good);
 *   ...
 *   badhost_stop(&h);
 *
 * It measures nobody and asks for no credentials. Its signals are blocked, so
 * that those of a test reach the test.
 */
#ifndef TEST_BADHOST_H
#define TEST_BADHOST_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tao/client.h"
#include "tao/rpc.h"
#include "tap.h"

#define PEERS_MAX 200
#define FIXED     3 /* descriptors polled besides the peers */

struct badhost;

/* Deals with one request; -1 closes the connection. */
typedef int badhost_fn(struct badhost *h, int fd, const struct tao_rpc_msg *m);

struct badhost {
	int stop[2];
	badhost_fn *behave; /* NULL: closes connections as they come */
	pthread_t thread;
	nfds_t n;
	struct pollfd poll[FIXED + PEERS_MAX]; /* stop, socket, door, peers */
	struct tao_buf in[FIXED + PEERS_MAX];
	int passed; /* the descriptor that came with the request; -1: none */
	struct sockaddr_un path;
	atomic_int by_path, by_door; /* connections so far */
	atomic_int requests;         /* so far, other than Hello and Prove */
	atomic_int extra;            /* descriptors that came while there was one */
	atomic_int pid;              /* whose the newest connection is */
};

__attribute__((unused)) static void sleep_ms(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&t, &t) != 0)
		;
}

static int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- what a behaviour may use ---- */

__attribute__((unused)) static int badhost_send(int fd, const void *p, size_t n)
{
	for (const char *at = p; n > 0;) {
		ssize_t done = send(fd, at, n, MSG_NOSIGNAL);

		if (done <= 0)
			return -1;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

__attribute__((unused)) static int badhost_send_buf(int fd, struct tao_buf *b)
{
	int r = badhost_send(fd, b->p, b->n);

	tao_buf_free(b);
	return r;
}

__attribute__((unused)) static int badhost_reply(int fd, const struct tao_rpc_msg *m,
                                                 const void *body, size_t n)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_rpc_put_reply(&b, m->op, m->seq, body, n);
	return badhost_send_buf(fd, &b);
}

/* As a host should: greets, names the program, and sends back all other bodies. */
static int badhost_good(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	/* HelloResponse{challenge, host "h"}, ProveResponse{name "me"} */
	static const uint8_t hello[2 + TAO_CHALLENGE_LEN + 3] = {
		[0] = 0x0a, TAO_CHALLENGE_LEN, 'c', 'h', [2 + TAO_CHALLENGE_LEN] = 0x12, 1, 'h'
	};

	(void)h;
	if (strcmp(m->op, "Tao.Hello") == 0)
		return badhost_reply(fd, m, hello, sizeof hello);
	if (strcmp(m->op, "Tao.Prove") != 0)
		return badhost_reply(fd, m, m->body, m->body_n);
	if (m->body_n != 2 + TAO_CHALLENGE_LEN || memcmp(m->body, hello, m->body_n) != 0)
		return -1;
	return badhost_reply(fd, m, "\x0a\x02me", 4);
}

/* ---- its thread ---- */

static void badhost_add(struct badhost *h, int fd, atomic_int *count)
{
	static const struct tao_buf none = TAO_BUF_INIT;
	struct ucred peer = { 0 };
	socklen_t len = sizeof peer;

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	atomic_store(&h->pid, (int)peer.pid);
	atomic_fetch_add(count, 1);
	if (h->behave == NULL || h->n == FIXED + PEERS_MAX) {
		close(fd);
		return;
	}
	h->in[h->n] = none;
	h->poll[h->n++] = (struct pollfd){ fd, POLLIN, 0 };
}

/* Receives bytes, and the descriptor that may come with them. */
static ssize_t badhost_receive(int fd, void *p, size_t n, int *passed)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { p, n };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = control.space,
		            .msg_controllen = sizeof control.space };
	ssize_t got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (c != NULL && c->cmsg_type == SCM_RIGHTS)
		memcpy(passed, CMSG_DATA(c), sizeof(int));
	return got;
}

static void badhost_remove(struct badhost *h, nfds_t i)
{
	close(h->poll[i].fd);
	tao_buf_free(&h->in[i]);
	h->n--;
	h->poll[i] = h->poll[h->n];
	h->in[i] = h->in[h->n];
}

/* Answers the whole requests of a peer; -1 closes it. */
static int badhost_answer(struct badhost *h, int fd, struct tao_buf *in)
{
	struct tao_rpc_msg m;
	size_t used;

	for (;;) {
		if (tao_rpc_parse_request(in->p, in->n, TAO_RPC_MAX_REQUEST, &m, &used) != TAO_OK)
			return -1;
		if (used == 0)
			return 0;
		if (strcmp(m.op, "Tao.Hello") != 0 && strcmp(m.op, "Tao.Prove") != 0)
			atomic_fetch_add(&h->requests, 1);
		if (h->behave(h, fd, &m) != 0)
			return -1;
		memmove(in->p, in->p + used, in->n - used);
		in->n -= used;
	}
}

static int badhost_serve(struct badhost *h, nfds_t i)
{
	uint8_t bytes[65536];
	int r, passed = -1;
	ssize_t n = badhost_receive(h->poll[i].fd, bytes, sizeof bytes, &passed);

	if (n <= 0)
		return -1;
	if (passed >= 0 && h->passed >= 0) {
		atomic_fetch_add(&h->extra, 1);
		close(passed);
	} else if (passed >= 0) {
		h->passed = passed;
	}
	tao_buf_put(&h->in[i], bytes, (size_t)n);
	r = badhost_answer(h, h->poll[i].fd, &h->in[i]);
	if (h->passed >= 0 && h->in[i].n == 0) {
		close(h->passed);
		h->passed = -1;
	}
	return r;
}

static void badhost_door(struct badhost *h)
{
	int fd = -1;
	char byte;

	if (badhost_receive(h->poll[2].fd, &byte, 1, &fd) <= 0)
		h->poll[2].fd = -1;
	else if (fd >= 0)
		badhost_add(h, fd, &h->by_door);
}

static void *badhost_run(void *arg)
{
	struct badhost *h = arg;

	while (poll(h->poll, h->n, -1) >= 0 && h->poll[0].revents == 0) {
		for (nfds_t i = h->n; i-- > FIXED;)
			if (h->poll[i].revents != 0 && badhost_serve(h, i) != 0)
				badhost_remove(h, i);
		if (h->poll[1].revents != 0) {
			int fd = accept4(h->poll[1].fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				badhost_add(h, fd, &h->by_path);
		}
		if (h->poll[2].revents != 0)
			badhost_door(h);
	}
	return NULL;
}

/* ---- start and stop ---- */

/* A listening socket; exits the test program if there can be none. */
static int listen_on(struct sockaddr_un *at, const char *path, int backlog)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(at, 0, sizeof *at);
	at->sun_family = AF_UNIX;
	strcpy(at->sun_path, path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, sizeof *at) != 0 ||
	    listen(fd, backlog) != 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

/* door: the host's end of one, or -1; stays the caller's. path NULL: none. */
static void badhost_start(struct badhost *h, const char *path, int door, badhost_fn *behave)
{
	sigset_t all, old;

	memset(h, 0, sizeof *h);
	h->behave = behave;
	h->passed = -1;
	if (pipe2(h->stop, O_CLOEXEC) != 0)
		exit(1);
	h->poll[0] = (struct pollfd){ h->stop[0], POLLIN, 0 };
	h->poll[1] =
	    (struct pollfd){ path != NULL ? listen_on(&h->path, path, 100) : -1, POLLIN, 0 };
	h->poll[2] = (struct pollfd){ door, POLLIN, 0 };
	h->n = FIXED;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&h->thread, NULL, badhost_run, h) != 0)
		exit(1);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void badhost_stop(struct badhost *h)
{
	if (write(h->stop[1], "", 1) != 1)
		exit(1);
	pthread_join(h->thread, NULL);
	while (h->n > FIXED)
		badhost_remove(h, h->n - 1);
	close(h->stop[0]);
	close(h->stop[1]);
	if (h->poll[1].fd >= 0) {
		close(h->poll[1].fd);
		unlink(h->path.sun_path);
	}
	if (h->passed >= 0)
		close(h->passed);
}

/* ---- for the tests ---- */

/* Open descriptors of this process. */
__attribute__((unused)) static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* ok() with the time that something took since a moment: at least, and less than. */
__attribute__((unused)) static void ok_time(int64_t since, int least, int below, const char *what)
{
	int took = (int)(clock_ms() - since);

	if (!ok(took >= least && took < below, "%s", what))
		printf("# took %d ms, not %d to %d\n", took, least, below);
}

/* The child's exit status, 0 if all was well. */
__attribute__((unused)) static int wait_child(pid_t pid)
{
	int status = -1;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#endif
