#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "host.h"
#include "tao.pb-c.h"

#define READ_CHUNK 8192
#define REQUESTS_A_TURN 16          /* then another connection has its turn */
#define MAX_PENDING_OUT (8u << 20)  /* bytes of replies that a slow reader may leave */

/* ---- reading ---- */

/* Credentials and descriptors that came with bytes. */
static enum tao_err take_control(struct conn *c, struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET)
			continue;
		if (h->cmsg_type == SCM_CREDENTIALS) {
			struct ucred u;

			memcpy(&u, CMSG_DATA(h), sizeof u);
			c->sender = u.pid;
		} else if (h->cmsg_type == SCM_RIGHTS) {
			size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; i < n; i++) {
				int fd;

				memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
				if (c->passed_fd < 0)
					c->passed_fd = fd;
				else
					close(fd);
			}
		}
	}
	/* The connection is one process's: a fork makes its own, and a program
	 * that was handed somebody's connection is not that somebody. */
	if (c->state == CONN_PROGRAM && c->sender != c->pid)
		return tao_fail(TAO_EDENIED, "bytes from process %d on the connection of process %d",
		                (int)c->sender, (int)c->pid);
	return TAO_OK;
}

/* 1: read something; 0: nothing there; -1: the end. */
static int conn_read(struct conn *c)
{
	union {
		char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	uint8_t *to = tao_buf_room(&c->in, READ_CHUNK);
	struct iovec iov = { to, READ_CHUNK };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
	                    .msg_controllen = sizeof control.space };
	ssize_t n;

	if (to == NULL)
		return -1;
	do {
		n = recvmsg(c->source.fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	c->in.n -= READ_CHUNK - (n > 0 ? (size_t)n : 0);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n <= 0)
		return -1;
	if (take_control(c, &m) != TAO_OK) {
		host_log("warning", "closed a connection: %s", tao_why());
		return -1;
	}
	return 1;
}

/* ---- writing ---- */

static void drop_send_fds(struct conn *c)
{
	while (c->n_send_fds > 0)
		close(c->send_fds[--c->n_send_fds]);
}

static void attach_fds(struct conn *c, struct msghdr *m, char *space, size_t space_n)
{
	struct cmsghdr *h;

	if (c->n_send_fds == 0)
		return;
	memset(space, 0, space_n);
	m->msg_control = space;
	m->msg_controllen = CMSG_SPACE(c->n_send_fds * sizeof(int));
	h = CMSG_FIRSTHDR(m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(c->n_send_fds * sizeof(int));
	memcpy(CMSG_DATA(h), c->send_fds, c->n_send_fds * sizeof(int));
}

/* 1: all sent; 0: the reader is slow; -1: the reader is gone. */
static int conn_flush(struct conn *c)
{
	union {
		char space[CMSG_SPACE(TAO_CALL_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;

	while (c->out_done < c->out.n) {
		struct iovec iov = { c->out.p + c->out_done, c->out.n - c->out_done };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		attach_fds(c, &m, control.space, sizeof control.space);
		n = sendmsg(c->source.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		drop_send_fds(c);
		c->out_done += (size_t)n;
	}
	tao_buf_reset(&c->out); /* replies may hold what was unsealed */
	c->out_done = 0;
	return 1;
}

/* ---- requests ---- */

static enum tao_err run_op(struct host *h, struct conn *c, const struct tao_rpc_msg *m,
                           struct tao_buf *body)
{
	const struct op *op = op_find(m->op);
	struct request r = { h, c, c->inst, m, body };
	enum tao_err e;

	if (op == NULL)
		return tao_fail(TAO_EINVAL, "this host has no operation %s: is taod older than its client?",
		                m->op);
	if ((op->states & (unsigned)c->state) == 0)
		return tao_fail(TAO_EPROTO, "%s is not allowed before Tao.Hello and Tao.Prove", m->op);
	if (m->body_n > op->max_body)
		return tao_fail(TAO_ELIMIT, "%s takes at most %zu bytes", m->op, op->max_body);
	if (c->inst != NULL)
		atomic_fetch_add_explicit(&c->inst->operations, 1, memory_order_relaxed);
	e = op->fn(&r);
	return e == TAO_OK ? tao_buf_err(body) : e;
}

static void answer(struct host *h, struct conn *c, const struct tao_rpc_msg *m)
{
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e = run_op(h, c, m, &body);

	if (e == TAO_OK && body.n > TAO_RPC_MAX_REPLY)
		e = tao_fail(TAO_ELIMIT, "the answer to %s would exceed %u bytes", m->op,
		             TAO_RPC_MAX_REPLY);
	if (e == TAO_OK)
		tao_rpc_put_reply(&c->out, m->op, m->seq, body.p, body.n);
	else
		tao_rpc_put_error(&c->out, m->op, m->seq, e, tao_why());
	tao_buf_free(&body);
	if (c->passed_fd >= 0) {
		close(c->passed_fd);
		c->passed_fd = -1;
	}
}

/* Answers the whole requests in c->in; -1: not the protocol. */
static int answer_some(struct host *h, struct conn *c)
{
	size_t at = 0;

	for (int n = 0; n < REQUESTS_A_TURN && !c->closing; n++) {
		struct tao_rpc_msg m;
		size_t used;

		if (tao_rpc_parse_request(c->in.p + at, c->in.n - at, TAO_RPC_MAX_REQUEST, &m, &used) !=
		    TAO_OK) {
			host_log("warning", "closed a connection of process %d: %s", (int)c->pid, tao_why());
			return -1;
		}
		if (used == 0)
			break;
		answer(h, c, &m);
		at += used;
	}
	OPENSSL_cleanse(c->in.p, at);
	memmove(c->in.p, c->in.p + at, c->in.n - at);
	c->in.n -= at;
	return c->out.err == TAO_OK && c->out.n - c->out_done <= MAX_PENDING_OUT ? (at > 0) : -1;
}

static void conn_ready(struct host *h, struct source *s, uint32_t events)
{
	struct conn *c = (struct conn *)s;
	int sent, got = 0, did = 0;

	(void)events;
	sent = conn_flush(c);
	if (sent == 1) {
		got = conn_read(c);
		if (got >= 0 && c->in.n > 0)
			did = answer_some(h, c);
		sent = conn_flush(c);
	}
	if (got < 0 || did < 0 || sent < 0 || (c->closing && sent == 1)) {
		loop_remove(h, s);
		return;
	}
	/* Pipelined requests that are here already: EPOLLOUT is true at once. */
	loop_arm(h, s, sent == 0 || (did == 1 && c->in.n >= 4) ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* ---- life ---- */

static void conn_destroy(struct host *h, struct source *s)
{
	struct conn *c = (struct conn *)s;

	close(s->fd);
	if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->passed_fd >= 0)
		close(c->passed_fd);
	drop_send_fds(c);
	if (c->inst != NULL) {
		atomic_fetch_sub(&c->inst->conns, 1);
		registry_settle(h->registry, c->inst);
	}
	instance_unref(c->inst);
	instance_unref(c->via);
	tao_buf_free(&c->in);
	tao_buf_free(&c->out);
	free(c);
}

enum tao_err conn_add(struct host *h, int fd, struct instance *via)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct conn *c = calloc(1, sizeof *c);
	struct ucred peer;
	socklen_t len = sizeof peer;
	int on = 1;

	if (c == NULL || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
		enum tao_err e = c == NULL ? tao_fail_nomem() : tao_fail_sys("credentials of a peer");

		free(c);
		close(fd);
		return e;
	}
	c->source.fd = fd;
	c->source.ready = conn_ready;
	c->source.destroy = conn_destroy;
	c->state = CONN_NEW;
	c->by_path = via == NULL;
	c->pid = peer.pid;
	c->uid = peer.uid;
	c->pidfd = c->passed_fd = -1;
	c->via = via != NULL ? instance_ref(via) : NULL;
	c->in = c->out = empty;
	return loop_add(h, &c->source, EPOLLIN);
}

/* ---- who is calling ---- */

static enum tao_err not_run(void)
{
	return tao_fail(TAO_ENOTRUN, "this process was not started with 'tao run', so it has no name "
	                "and no keys here: start it as 'tao run PROGRAM ARGS'");
}

/* From here to conn_prove() the descriptor holds the process: if it still
 * lives then, the number was not given to another in between. */
enum tao_err conn_hello(struct host *h, struct conn *c)
{
	(void)h;
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0)
		return not_run();
	if (RAND_bytes(c->challenge, sizeof c->challenge) != 1)
		return tao_fail_crypto("drawing a challenge");
	c->state = CONN_HELLO;
	return TAO_OK;
}

static int still_alive(int pidfd)
{
	struct pollfd p = { pidfd, POLLIN, 0 };

	return poll(&p, 1, 0) == 0;
}

static enum tao_err identify(struct host *h, struct conn *c, struct instance **out)
{
	struct process_view v;
	struct instance *i = NULL;
	enum tao_err e = TAO_OK;

	if (c->via != NULL)
		i = instance_ref(c->via);
	else
		e = registry_find(h, c->pid, &i);
	if (e == TAO_OK)
		e = measurer_process(h->measurer, c->pid, &v);
	if (e == TAO_OK && !file_id_equal(&v.exe, &i->file))
		e = tao_fail(TAO_ENOTRUN, "this process runs another executable than %s, which 'tao run' "
		             "started: give it a name of its own with 'tao run PROGRAM ARGS'", i->program);
	if (e == TAO_OK && !still_alive(c->pidfd))
		e = not_run();
	if (e == TAO_OK && atomic_fetch_add(&i->conns, 1) >= INSTANCE_MAX_CONNS) {
		atomic_fetch_sub(&i->conns, 1);
		e = tao_fail(TAO_ELIMIT, "%s has %d connections to the host already", i->program,
		             INSTANCE_MAX_CONNS);
	}
	if (e == TAO_OK) {
		atomic_store(&i->last_pid, c->pid);
		*out = i;
	} else {
		instance_unref(i);
	}
	return e;
}

enum tao_err conn_prove(struct host *h, struct conn *c, const void *challenge, size_t n)
{
	enum tao_err e;

	if (n != sizeof c->challenge || CRYPTO_memcmp(challenge, c->challenge, n) != 0)
		e = tao_fail(TAO_EPROTO, "the challenge came back wrong");
	else if (c->sender != c->pid)
		e = tao_fail(TAO_EDENIED, "process %d answered the challenge of process %d",
		             (int)c->sender, (int)c->pid);
	else
		e = identify(h, c, &c->inst);
	close(c->pidfd);
	c->pidfd = -1;
	c->state = e == TAO_OK ? CONN_PROGRAM : CONN_NEW;
	return e;
}

/* ---- doors ---- */

struct door {
	struct source source;
	struct instance *inst;
};

static void door_destroy(struct host *h, struct source *s)
{
	struct door *d = (struct door *)s;

	close(s->fd);
	atomic_store(&d->inst->door_open, 0);
	registry_settle(h->registry, d->inst);
	instance_unref(d->inst);
	free(d);
}

/* Only a local stream socket is served: the host writes to what comes here. */
static int is_local_stream(int fd)
{
	int domain = 0, type = 0;
	socklen_t n = sizeof domain, m = sizeof type;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == 0 && type == SOCK_STREAM;
}

/* Takes one descriptor from the door: 1 served, 0 nothing there, -1 the end. */
static int door_take(struct host *h, struct door *d)
{
	union {
		char space[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
	                    .msg_controllen = sizeof control.space };
	struct conn holder = { .passed_fd = -1, .state = CONN_NEW };
	ssize_t n;

	do {
		n = recvmsg(d->source.fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n <= 0)
		return -1;
	take_control(&holder, &m);
	if (holder.passed_fd >= 0 && !is_local_stream(holder.passed_fd)) {
		host_log("warning", "%s sent something else than a socket through its door",
		         d->inst->program);
		close(holder.passed_fd);
	} else if (holder.passed_fd >= 0 && conn_add(h, holder.passed_fd, d->inst) != TAO_OK) {
		host_log("error", "cannot serve a connection: %s", tao_why());
	}
	return 1;
}

static void door_ready(struct host *h, struct source *s, uint32_t events)
{
	int r = 1;

	(void)events;
	for (int i = 0; r == 1 && i < REQUESTS_A_TURN; i++)
		r = door_take(h, (struct door *)s);
	if (r < 0)
		loop_remove(h, s);
	else
		loop_arm(h, s, EPOLLIN);
}

enum tao_err door_add(struct host *h, struct instance *i, int *program_end)
{
	struct door *d = calloc(1, sizeof *d);
	struct stat st;
	int pair[2];
	enum tao_err e;

	if (d == NULL)
		return tao_fail_nomem();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		free(d);
		return tao_fail_sys("socketpair");
	}
	d->source.fd = pair[0];
	d->source.ready = door_ready;
	d->source.destroy = door_destroy;
	d->inst = instance_ref(i);
	i->door = fstat(pair[1], &st) == 0 ? st.st_ino : 0;
	atomic_store(&i->door_open, 1);
	e = loop_add(h, &d->source, EPOLLIN);
	if (e != TAO_OK)
		close(pair[1]);
	else
		*program_end = pair[1];
	return e;
}

/* ---- the end of a registered process ---- */

static void watch_destroy(struct host *h, struct source *s)
{
	struct door *d = (struct door *)s;

	close(s->fd);
	registry_settle(h->registry, d->inst);
	instance_unref(d->inst);
	free(d);
}

static void watch_ready(struct host *h, struct source *s, uint32_t events)
{
	(void)events;
	atomic_store(&((struct door *)s)->inst->ended, 1);
	loop_remove(h, s);
}

enum tao_err watch_add(struct host *h, struct instance *i, int pidfd)
{
	struct door *w = calloc(1, sizeof *w);

	if (w == NULL) {
		close(pidfd);
		return tao_fail_nomem();
	}
	w->source.fd = pidfd;
	w->source.ready = watch_ready;
	w->source.destroy = watch_destroy;
	w->inst = instance_ref(i);
	return loop_add(h, &w->source, EPOLLIN);
}
