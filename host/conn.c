#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "host.h"
#include "peers.h"
#include "progsock.h"
#include "tao.pb-c.h"
#include "upgrade.h"

#define READ_CHUNK 8192
#define PAUSE_OUT (1u << 20)  /* bytes of unsent replies at which no more requests are answered */
#define KEEP_MAX 65536        /* bytes that a buffer of an idle connection may keep */
#define LATER 2               /* answer_some(): see there */
#define UNCOUNTED 16384       /* bytes of a connection's buffers that are not worth counting */
#define START_TRIES 50        /* to see what a process executes ... */
#define START_PAUSE 1000000   /* ... nanoseconds apart */
#define MAX_FDS 253           /* descriptors with one message: Linux's SCM_MAX_FD */

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04 /* Linux 6.5 */
#endif

/* Room for all that the kernel may put there: what does not fit it would
 * close by itself, on this thread's time. */
union control {
	char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(MAX_FDS * sizeof(int)) +
	           CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/* ---- reading ---- */

/* Closes what somebody sent. A socket that lingers would hold up this thread;
 * one that is not connected has nothing to wait for. */
void conn_close_foreign(int fd)
{
	static const struct linger none = { 0, 0 };
	static const struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	connect(fd, &nobody, sizeof nobody);
	close(fd);
}

static int is_socket(int fd)
{
	int type;
	socklen_t n = sizeof type;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0;
}

/* Keeps the first descriptor in *keep if there is none yet, closes the others. */
static void take_fds(const struct cmsghdr *h, int *keep)
{
	size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
		if (keep != NULL && *keep < 0)
			*keep = fd;
		else
			conn_close_foreign(fd);
	}
}

/* Credentials and descriptors of a message: the sender, 0 if the kernel does not say. */
static pid_t take_control(struct msghdr *m, int *fd)
{
	pid_t sender = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		struct ucred u;

		if (h->cmsg_level != SOL_SOCKET)
			continue;
		if (h->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&u, CMSG_DATA(h), sizeof u);
			sender = u.pid;
		} else if (h->cmsg_type == SCM_RIGHTS) {
			take_fds(h, fd);
		} else if (h->cmsg_type == SCM_PIDFD) {
			/* who has our socket too may ask for them */
			take_fds(h, NULL);
		}
	}
	return sender;
}

/* Without an answer: there is no whole request, or nobody reads. */
static void refuse(struct host *h, struct conn *c)
{
	host_log_of(h, c->uid, "warning", "closed a connection of process %d: %s", (int)c->pid,
	            tao_why());
	audit_event(h, "closed", c->inst, c->uid, TAO_EPROTO, NULL, NULL);
}

/* A program's connection is one process's: a fork makes its own, and who was
 * handed somebody's connection is not that somebody. Nor is a request made by
 * two. had: there are bytes of an unfinished request. */
static enum tao_err check_sender(struct conn *c, pid_t sender, int had)
{
	pid_t before = c->sender;

	c->sender = sender;
	if ((c->state == CONN_PROGRAM || c->state == CONN_PROGSOCK) && sender != c->pid)
		return tao_fail(TAO_EDENIED, "bytes from process %d on the connection of process "
		                "%d", (int)sender, (int)c->pid);
	/* 0: sent before this end of a pair asked for credentials. */
	if (had && before != 0 && before != sender)
		return tao_fail(TAO_EDENIED, "one request from the processes %d and %d",
		                (int)before, (int)sender);
	return TAO_OK;
}

/* 1: read something; 0: nothing there; -1: the end. */
static int conn_read(struct host *h, struct conn *c)
{
	union control control;
	int had = c->in.n > 0;
	uint8_t *to = tao_buf_room(&c->in, READ_CHUNK);
	struct iovec iov = { to, READ_CHUNK };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
	                    .msg_controllen = sizeof control.space };
	pid_t sender;
	ssize_t n;

	if (to == NULL)
		return -1;
	do {
		n = recvmsg(c->source.fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	c->in.n -= READ_CHUNK - (n > 0 ? (size_t)n : 0);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	sender = take_control(&m, &c->passed_fd);
	if (c->passed_fd >= 0 && is_socket(c->passed_fd)) { /* requests come with files only */
		conn_close_foreign(c->passed_fd);
		c->passed_fd = -1;
	}
	if (n == 0)
		return -1;
	if (check_sender(c, sender, had) != TAO_OK) {
		refuse(h, c);
		return -1;
	}
	return 1;
}

int conn_take_fd(int door, int *fd)
{
	union control control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
	                    .msg_controllen = sizeof control.space };
	ssize_t n;

	do {
		n = recvmsg(door, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	take_control(&m, fd); /* an empty message may bring one as well */
	return n > 0 ? 1 : -1;
}

/* Descriptors that nobody read would be closed with the socket, lingering ones too. */
void conn_drain(int fd)
{
	union control control;
	char bytes[READ_CHUNK];
	ssize_t n;

	shutdown(fd, SHUT_RDWR); /* nothing more comes */
	do {
		struct iovec iov = { bytes, sizeof bytes };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
		                    .msg_controllen = sizeof control.space };

		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (n >= 0)
			take_control(&m, NULL);
	} while (n > 0);
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

/* Wipes; keeps a buffer of ordinary size. */
static void empty(struct tao_buf *b)
{
	if (b->cap > KEEP_MAX || b->err != TAO_OK) {
		tao_buf_free(b);
	} else if (b->n > 0) {
		OPENSSL_cleanse(b->p, b->n); /* all of it would cost as much as a system call */
		b->n = 0;
	}
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
	if (c->out.n > 0)
		empty(&c->out); /* replies may hold what was unsealed */
	c->out_done = 0;
	return 1;
}

/* ---- requests ---- */

static enum tao_err wrong_state(const char *op, enum conn_state state)
{
	if (state == CONN_NEW)
		return tao_fail(TAO_EPROTO, "%s is not allowed before Tao.Hello and Tao.Prove", op);
	if (state == CONN_HELLO)
		return tao_fail(TAO_EPROTO, "%s is not allowed between Tao.Hello and Tao.Prove",
		                op);
	if (state == CONN_PROGSOCK)
		return tao_fail(TAO_EPROTO, "%s is no operation of CloudProxy's: this socket, "
		                "which 'tao run --channel=unix' made, has no others", op);
	return tao_fail(TAO_EPROTO, "%s is not allowed on a program's connection", op);
}

/* OP_LATER: it would hold up a worker. */
static enum tao_err not_here(struct conn *c, const struct op *op, const struct tao_rpc_msg *m)
{
	c->later = (op->how & (OP_SLOW | OP_WAITS)) != 0 ? POOL_WAITS : POOL_COMPUTES;
	return (op->how & (OP_SLOW | OP_COMPUTES)) != 0 ||
	       m->body_n > OP_QUICK_BODY ? OP_LATER : TAO_OK;
}

/* Once for a request, also if it then turns out to be for another thread. */
static enum tao_err charge(struct host *h, struct conn *c)
{
	struct instance *i = c->inst;

	if (c->charged)
		return TAO_OK;
	c->charged = 1;
	return limit_costly(&h->conf, c->source.user, i != NULL ? &i->costly : NULL,
	                    i != NULL ? i->program : NULL, limit_now());
}

static enum tao_err run_op(struct host *h, struct conn *c, const struct op *op,
                           const struct tao_rpc_msg *m, int may_be_slow, struct tao_buf *body)
{
	struct request r = { .h = h, .c = c, .inst = c->inst, .m = m, .body = body,
	                     .may_be_slow = may_be_slow, .notes = TAO_BUF_INIT };
	enum tao_err e;

	if (op == NULL)
		return tao_fail(TAO_EINVAL, "this host has no operation %s: is taod older than its "
		                "client?", m->op);
	if ((op->states & (unsigned)c->state) == 0)
		return wrong_state(m->op, c->state);
	/* What comes through a door may be anybody's socket, whose user then did not ask. */
	if (op->states == CONN_NEW && op->fn != op_hello && !c->by_path)
		return tao_fail(TAO_EPROTO, "%s is for connections to the host's socket", m->op);
	e = limit_size(&h->conf, m->op, m->body_n, op->max_body);
	if (e == TAO_OK && c->inst != NULL)
		e = upgrade_check(h, c->inst);
	if (e == TAO_OK && c->state == CONN_PROGSOCK)
		e = progsock_check(h, c);
	if (e == TAO_OK)
		e = audit_refuses(h, op);
	if (e == TAO_OK && (op->how & OP_NOT_REVOKED) != 0 && c->inst != NULL)
		e = peers_not_revoked(h, c->inst);
	if (e == TAO_OK && !may_be_slow)
		e = not_here(c, op, m);
	if (e == TAO_OK && (op->how & OP_COSTLY) != 0)
		e = charge(h, c);
	if (e == TAO_OK && (op->how & OP_WAITS) != 0 && !may_be_slow)
		loop_may_wait(h, &c->source);
	if (e == TAO_OK)
		e = op->fn(&r);
	if (e == TAO_OK)
		e = tao_buf_err(body);
	if (c->inst != NULL && e != OP_LATER)
		atomic_fetch_add_explicit(&c->inst->operations, 1, memory_order_relaxed);
	if (e != OP_LATER)
		audit_op(&r, op, e);
	tao_buf_free(&r.notes);
	return e;
}

/* 0: not answered, it is for a thread that may take its time. */
static int answer(struct host *h, struct conn *c, const struct tao_rpc_msg *m, int may_be_slow)
{
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e = run_op(h, c, op_find(m->op), m, may_be_slow, &body);

	if (e == OP_LATER) {
		tao_buf_free(&body);
		return 0;
	}
	if (e == TAO_OK && body.n > TAO_RPC_MAX_REPLY)
		e = tao_fail(TAO_ELIMIT, "the answer to %s would exceed %u bytes", m->op,
		             TAO_RPC_MAX_REPLY);
	if (e == TAO_OK)
		tao_rpc_put_reply(&c->out, m->op, m->seq, body.p, body.n);
	else
		tao_rpc_put_error(&c->out, m->op, m->seq, e, tao_why());
	tao_buf_free(&body);
	c->charged = 0;
	if (c->passed_fd >= 0) {
		conn_close_foreign(c->passed_fd);
		c->passed_fd = -1;
	}
	return 1;
}

/* Answers whole requests in c->in: 1 some, 0 there was none, -1 it is not the
 * protocol, LATER: the next one is slow, which only some threads may be. */
static int answer_some(struct host *h, struct conn *c, int may_be_slow)
{
	size_t at = 0;
	int later = 0;

	for (uint32_t n = 0; n < c->source.quota && c->out.n < PAUSE_OUT; n++) {
		struct tao_rpc_msg m;
		size_t used;

		if (tao_rpc_parse_request(c->in.p + at, c->in.n - at, TAO_RPC_MAX_REQUEST, &m,
		                          &used) != TAO_OK) {
			refuse(h, c);
			return -1;
		}
		if (used == 0)
			break;
		c->behind = c->in.n - at - used;
		loop_follow(h, &c->source, m.cpu);
		later = !answer(h, c, &m, may_be_slow);
		if (later)
			break;
		at += used;
	}
	if (at == c->in.n) {
		empty(&c->in);
	} else if (at > 0) {
		OPENSSL_cleanse(c->in.p, at);
		memmove(c->in.p, c->in.p + at, c->in.n - at);
		c->in.n -= at;
	}
	if (c->out.err != TAO_OK)
		return -1;
	return later ? LATER : at > 0;
}

/* Reads only when no whole request is left: what a client may leave here is one. */
static int answer_or_read(struct host *h, struct conn *c, int may_be_slow)
{
	int did = c->in.n > 0 ? answer_some(h, c, may_be_slow) : 0;

	if (did != 0)
		return did;
	if (conn_read(h, c) < 0)
		return -1;
	return c->in.n > 0 ? answer_some(h, c, may_be_slow) : 0;
}

/* A program may be idle for ever; everything else is somebody's turn. */
static void set_deadline(struct conn *c, int sent)
{
	int idle = c->inst != NULL && c->in.n == 0 && sent == 1;

	atomic_store(&c->source.deadline, idle ? 0 : loop_now() + CONN_SECONDS);
}

/* What it holds for longer than this turn. */
static enum tao_err count_memory(struct host *h, struct conn *c)
{
	size_t now = c->in.cap + c->out.cap, was = c->memory;

	if (now < UNCOUNTED)
		now = 0;
	if (now == was)
		return TAO_OK;
	c->memory = now;
	return limit_memory(&h->conf, c->source.user, was, now);
}

/* tao run's end closes at its execve(): nothing else has been started since, and the kernel may not
 * be through with it. 0: this is for a thread that may wait. */
static int learn_start(struct host *h, struct conn *c, int may_wait)
{
	static const struct timespec pause = { 0, START_PAUSE };
	int known = c->ran == NULL || instance_learn(h, c->ran);

	if (!may_wait)
		return known;
	for (int i = 0; i < START_TRIES && !known && !atomic_load(&c->ran->ended); i++) {
		nanosleep(&pause, NULL);
		known = instance_learn(h, c->ran);
	}
	return 1;
}

static void conn_ready(struct host *h, struct source *s, uint32_t events)
{
	struct conn *c = (struct conn *)s;
	int did = 0, sent;

	atomic_store(&s->deadline, 0); /* our turn */
	sent = conn_flush(c);
	if (sent == 1) {
		did = answer_or_read(h, c, events == 0);
		if (did >= 0)
			sent = conn_flush(c);
	}
	if (did >= 0 && sent >= 0 && count_memory(h, c) != TAO_OK) {
		refuse(h, c);
		did = -1;
	}
	if (did < 0 || sent < 0) {
		if (learn_start(h, c, events == 0))
			loop_remove(h, s);
		else
			loop_defer(h, s, POOL_WAITS);
		return;
	}
	if (did == LATER && sent == 1) {
		loop_defer(h, s, c->later);
		return;
	}
	set_deadline(c, sent);
	if (sent == 0)
		/* not EPOLLIN: what waits there would wake us for nothing */
		loop_arm(h, s, EPOLLOUT);
	else /* Requests that are here already: EPOLLOUT is true at once. */
		loop_arm(h, s, did == 1 && c->in.n >= 4 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* ---- life ---- */

static void conn_destroy(struct host *h, struct source *s)
{
	struct conn *c = (struct conn *)s;
	struct instance *counted = c->via != NULL ? c->via : c->inst;

	conn_drain(s->fd);
	close(s->fd);
	if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->passed_fd >= 0)
		conn_close_foreign(c->passed_fd);
	drop_send_fds(c);
	instance_unref(c->ran);
	limit_memory(&h->conf, s->user, c->memory, 0);
	limit_disconnect(h->limits, s->user, counted == NULL);
	if (counted != NULL) {
		atomic_fetch_sub(&counted->conns, 1);
		registry_settle(h->registry, counted);
	}
	instance_unref(c->inst);
	instance_unref(c->via);
	instance_unref(c->at);
	free(c->stranger);
	tao_buf_free(&c->in);
	tao_buf_free(&c->out);
	free(c);
}

enum tao_err conn_count_in(struct host *h, struct instance *i)
{
	return limit_take(&h->conf, LIMIT_PROGRAM_CONNECTIONS, i->program, &i->conns);
}

/* Whose the other end is, and that the kernel says so with every message. */
static enum tao_err check_peer(int fd, struct ucred *peer)
{
	socklen_t len = sizeof *peer;
	int on = 1;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
		return tao_fail_sys("credentials of a peer");
	/* The client's end of a connection to this host: it would talk to itself, as its owner. */
	if (peer->pid == getpid())
		return tao_fail(TAO_EDENIED, "a program sent the host an end of a connection to "
		                "the host");
	return TAO_OK;
}

static enum tao_err new_conn(struct host *h, int fd, struct instance *via, struct conn **out)
{
	static const struct tao_buf empty_buf = TAO_BUF_INIT;
	struct conn *c = calloc(1, sizeof *c);
	struct limit_user *user = NULL;
	struct ucred peer;
	enum tao_err e = c != NULL ? check_peer(fd, &peer) : tao_fail_nomem();

	if (e == TAO_OK)
		e = limit_connect(h->limits, &h->conf, peer.uid, via == NULL, &user);
	if (e == TAO_OK && via != NULL)
		e = conn_count_in(h, via);
	if (e == TAO_ELIMIT)
		audit_event(h, "limit", via, peer.uid, e, NULL, NULL);
	if (e != TAO_OK) {
		limit_disconnect(h->limits, user, via == NULL);
		free(c);
		conn_close_foreign(fd);
		return e;
	}
	c->source.fd = fd;
	c->source.ready = conn_ready;
	c->source.destroy = conn_destroy;
	c->source.user = user;
	c->source.flow = via != NULL ? FLOW_INSTANCE(via) : FLOW_USER(peer.uid);
	c->state = CONN_NEW;
	c->by_path = via == NULL;
	c->pid = peer.pid;
	c->uid = peer.uid;
	c->pidfd = c->passed_fd = -1;
	c->via = via != NULL ? instance_ref(via) : NULL;
	c->in = c->out = empty_buf;
	*out = c;
	return TAO_OK;
}

static enum tao_err begin(struct host *h, struct conn *c)
{
	set_deadline(c, 1);
	return loop_add(h, &c->source, EPOLLIN);
}

enum tao_err conn_add(struct host *h, int fd, struct instance *via, uint64_t exec)
{
	struct conn *c;
	enum tao_err e = new_conn(h, fd, via, &c);

	if (e != TAO_OK)
		return e;
	c->via_exec = exec;
	return begin(h, c);
}

enum tao_err conn_add_at(struct host *h, int fd, struct instance *at)
{
	struct conn *c;
	enum tao_err e = new_conn(h, fd, NULL, &c);

	if (e != TAO_OK)
		return e;
	c->state = CONN_PROGSOCK;
	c->by_path = 0;
	c->at = instance_ref(at);
	progsock_accepted(h, c);
	return begin(h, c);
}
