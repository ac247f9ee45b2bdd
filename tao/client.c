#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#include <openssl/crypto.h>

#include "rpc.h"
#include "tao.pb-c.h"

#define READ_CHUNK   8192
#define QUICK_MS     50     /* an answer this quick costs no poll */
#define KEEP_MAX     65536  /* bytes that an idle connection's buffer may keep */
#define DOOR_MS      1000   /* for asking for a door, and until it is asked for again */
#define DOOR_FIRST   100    /* its descriptor, if there may be so many */
#define BUSY_WAIT_NS 500000 /* between looks for a free connection */
#define QUIET_MS     3000   /* for which a host that does not answer is left alone, at most */
#define PROBE_MS     1000   /* for which it is then waited for, at least if a call may take so long */
#define PROBE_PART   10     /* or for that part of what a call may take */

/* ---- deadlines ---- */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int left_ms(int64_t deadline)
{
	int64_t left = deadline - now_ms();

	return left > 0 ? (int)left : 0;
}

/* Waits for the descriptor; 1 ready, 0 deadline passed, -1 error. */
static int wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd p = { fd, events, 0 };
	int r;

	do {
		r = poll(&p, 1, left_ms(deadline));
	} while (r < 0 && errno == EINTR);
	return r;
}

/* ---- one connection ---- */

void tao_conn_init(struct tao_conn *c)
{
	static const struct tao_buf empty = TAO_BUF_INIT;

	memset(c, 0, sizeof *c);
	c->fd = -1;
	c->in = empty;
	c->out = empty;
}

/* Closes the descriptor only while it is still ours: a daemon may have
 * closed it and got the number again for something else. */
static void close_own(struct tao_conn *c)
{
	struct stat st;

	if (c->fd >= 0 && fstat(c->fd, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		close(c->fd);
	c->fd = -1;
}

void tao_conn_close(struct tao_conn *c)
{
	close_own(c);
	tao_buf_free(&c->in);
	tao_buf_free(&c->out);
}

static enum tao_err adopt(struct tao_conn *c, int fd)
{
	static const struct timeval quick = { 0, QUICK_MS * 1000 };
	struct stat st;

	/* A blocking receive with a limit costs one system call, poll would cost three. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quick, sizeof quick) != 0 ||
	    fstat(fd, &st) != 0) {
		enum tao_err e = tao_fail_sys("preparing a socket");

		close(fd);
		return e;
	}
	c->fd = fd;
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	c->seq = 0;
	c->owed = 0;
	tao_buf_reset(&c->in);
	return TAO_OK;
}

static int still_own(const struct tao_conn *c)
{
	struct stat st;

	return c->fd >= 0 && fstat(c->fd, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino;
}

static enum tao_err connect_failed(const char *path)
{
	switch (errno) {
	case ENOENT:
	case ECONNREFUSED:
	case ENOTDIR:
		return tao_fail(TAO_ENOHOST, "no Tao host answers on %s: start it with 'tao up'",
		                path);
	case EACCES:
	case EPERM:
		return tao_fail(TAO_EPERM,
		                "this user may not connect to %s: use a host of your own "
		                "('tao init', 'tao up'), or ask the owner of this one",
		                path);
	case EAGAIN:
	case EINTR:
		return tao_fail(TAO_ETIMEOUT,
		                "the Tao host on %s accepts no connection: see 'tao status'", path);
	default:
		return tao_fail_sys("connect to %s", path);
	}
}

/* Waits while the host's queue is full, until the deadline. */
static int connect_by(int fd, const struct sockaddr_un *to, int64_t deadline)
{
	int r;

	do {
		int ms = left_ms(deadline);
		/* 0 would mean for ever. */
		struct timeval tv = { ms / 1000, ms > 0 ? ms % 1000 * 1000 : 1000 };

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
		r = connect(fd, (const struct sockaddr *)to, sizeof *to);
	} while (r != 0 && errno == EINTR && left_ms(deadline) > 0);
	return r;
}

enum tao_err tao_conn_open(struct tao_conn *c, const char *path, int timeout_ms)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int64_t deadline = now_ms() + timeout_ms;
	int fd;

	if (strlen(path) > TAO_SOCKET_PATH_MAX)
		return tao_fail(TAO_ELIMIT, "the socket path %s is longer than %d bytes", path,
		                TAO_SOCKET_PATH_MAX);
	strcpy(to.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return tao_fail_sys("socket");
	if (connect_by(fd, &to, deadline) != 0) {
		enum tao_err e = connect_failed(path);

		close(fd);
		return e;
	}
	return adopt(c, fd);
}

static enum tao_err gone(void)
{
	return tao_fail(TAO_ENOHOST, "the Tao host closed the connection: it ended, or has as many "
	                "of this user as it may (max_unnamed_per_user in taod.conf); its log says "
	                "which");
}

static enum tao_err late(const char *op, int timeout_ms)
{
	return tao_fail(TAO_ETIMEOUT,
	                "the Tao host did not answer %s within %d ms: see 'tao status'", op,
	                timeout_ms);
}

/* Sends n bytes; the descriptor goes with the first of them. */
static enum tao_err send_all(int fd, const uint8_t *p, size_t n, int send_fd, int64_t deadline)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };

	while (n > 0) {
		struct iovec iov = { (void *)p, n };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t done;

		if (send_fd >= 0) {
			struct cmsghdr *h;

			m.msg_control = control.space;
			m.msg_controllen = sizeof control.space;
			h = CMSG_FIRSTHDR(&m);
			h->cmsg_level = SOL_SOCKET;
			h->cmsg_type = SCM_RIGHTS;
			h->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(h), &send_fd, sizeof(int));
		}
		done = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			if (wait_for(fd, POLLOUT, deadline) <= 0)
				return TAO_ETIMEOUT;
			continue;
		}
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return errno == EPIPE || errno == ECONNRESET
			           ? gone()
			           : tao_fail_sys("send to the Tao host");
		p += done;
		n -= (size_t)done;
		send_fd = -1;
	}
	return TAO_OK;
}

/* Takes the descriptors out of a message; those not wanted are closed. */
static void take_fds(struct msghdr *m, int *fds, size_t *n_fds)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		size_t n;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			if (fds != NULL && *n_fds < TAO_CALL_MAX_FDS)
				fds[(*n_fds)++] = fd;
			else
				close(fd);
		}
	}
}

/* Receives what is there, waiting for the first byte. */
static enum tao_err receive_some(struct tao_conn *c, int64_t deadline, int *fds, size_t *n_fds)
{
	union {
		char space[CMSG_SPACE(TAO_CALL_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	uint8_t *to = tao_buf_room(&c->in, READ_CHUNK);
	struct iovec iov = { to, READ_CHUNK };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = control.space,
		            .msg_controllen = sizeof control.space };
	/* The socket's own limit ends a blocking receive, so there must be that much time. */
	int flags = MSG_CMSG_CLOEXEC | (left_ms(deadline) < QUICK_MS ? MSG_DONTWAIT : 0);
	int waiting;
	ssize_t n;

	if (to == NULL)
		return tao_buf_err(&c->in);
	do {
		n = recvmsg(c->fd, &m, flags);
		waiting = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
		flags |= MSG_DONTWAIT;
	} while (waiting && wait_for(c->fd, POLLIN, deadline) > 0);
	c->in.n -= READ_CHUNK - (n > 0 ? (size_t)n : 0);
	if (waiting)
		return TAO_ETIMEOUT;
	if (n < 0 && errno != ECONNRESET)
		return tao_fail_sys("receive from the Tao host");
	/* A socket that closes with something unread in it resets the connection. */
	c->taken = n == 0;
	if (n <= 0)
		return gone();
	take_fds(&m, fds, n_fds);
	return TAO_OK;
}

static enum tao_err check_reply(const struct tao_rpc_msg *m, const char *op, uint64_t seq)
{
	if (m->seq != seq || strcmp(m->op, op) != 0)
		return tao_fail(TAO_EPROTO,
		                "the Tao host answered another request than %s: "
		                "check that taod and this program are of one version",
		                op);
	return TAO_OK;
}

/* Answers that nobody waits for come first: those are dropped. *used: 0 while the one that is
 * wanted is not whole. */
static enum tao_err find_reply(struct tao_conn *c, struct tao_rpc_msg *m, size_t *used)
{
	for (;;) {
		enum tao_err e = tao_rpc_parse_reply(c->in.p, c->in.n, TAO_RPC_MAX_REPLY, m, used);

		if (e != TAO_OK || *used == 0 || c->owed == 0)
			return e;
		c->owed--;
		c->in.n -= *used;
		memmove(c->in.p, c->in.p + *used, c->in.n);
		*used = 0;
	}
}

static void do_meanwhile(struct tao_meanwhile *w)
{
	if (w != NULL && !w->done) {
		w->done = 1;
		w->fn(w->arg);
	}
}

static enum tao_err exchange(struct tao_conn *c, const char *op, int send_fd, int timeout_ms,
                             struct tao_meanwhile *w, struct tao_buf *reply, int *fds,
                             size_t *n_fds)
{
	int64_t deadline = now_ms() + timeout_ms;
	uint64_t seq = c->seq++;
	struct tao_rpc_msg m;
	size_t used = 0;
	enum tao_err e;

	c->taken = 0;
	e = send_all(c->fd, c->out.p, c->out.n, send_fd, deadline);
	if (e == TAO_OK)
		do_meanwhile(w);
	while (e == TAO_OK && used == 0) {
		e = receive_some(c, deadline, fds, n_fds);
		if (e == TAO_OK)
			e = find_reply(c, &m, &used);
		if (e == TAO_OK && used == 0 && left_ms(deadline) == 0)
			e = TAO_ETIMEOUT;
	}
	if (e == TAO_ETIMEOUT)
		e = late(op, timeout_ms);
	if (e == TAO_OK)
		e = check_reply(&m, op, seq);
	if (e == TAO_OK && used != c->in.n)
		e = tao_fail(TAO_EPROTO, "the Tao host sent more than one answer to %s", op);
	if (e != TAO_OK) {
		close_own(c);
		return e;
	}
	if (m.code != TAO_OK)
		return tao_fail(m.code, "%s", m.error);
	if (reply != NULL) {
		tao_buf_put(reply, m.body, m.body_n);
		e = tao_buf_err(reply);
	}
	return e;
}

/* Requests and replies may hold what is sealed or was unsealed. Only what was
 * written is wiped: the whole buffer would cost more than the call. The count
 * stays, for who wants to know whether anything had arrived. */
static void wipe_buf(struct tao_buf *b)
{
	if (b->n > 0)
		OPENSSL_cleanse(b->p, b->n);
}

static void empty_buf(struct tao_buf *b)
{
	if (b->cap > KEEP_MAX || b->err != TAO_OK)
		tao_buf_free(b);
	b->n = 0;
}

static enum tao_err conn_call(struct tao_conn *c, const char *op, const void *body, size_t n,
                              int send_fd, int timeout_ms, struct tao_meanwhile *w,
                              struct tao_buf *reply, int *fds, size_t *n_fds)
{
	size_t got = 0;
	enum tao_err e;

	if (n_fds != NULL)
		*n_fds = 0;
	if (c->fd < 0)
		return tao_fail(TAO_ENOHOST, "not connected to a Tao host");
	if (n > TAO_RPC_MAX_REQUEST)
		return tao_fail(TAO_ELIMIT, "%s with %zu bytes exceeds the limit of %u: send less",
		                op, n, TAO_RPC_MAX_REQUEST);
	empty_buf(&c->in);
	empty_buf(&c->out);
	tao_rpc_put_request(&c->out, op, c->seq, body, n);
	e = tao_buf_err(&c->out);
	if (e == TAO_OK)
		e = exchange(c, op, send_fd, timeout_ms, w, reply, fds, &got);
	wipe_buf(&c->in);
	wipe_buf(&c->out);
	if (e != TAO_OK && fds != NULL)
		while (got > 0)
			close(fds[--got]);
	if (n_fds != NULL)
		*n_fds = got;
	return e;
}

enum tao_err tao_conn_call(struct tao_conn *c, const char *op, const void *body, size_t n,
                           int send_fd, int timeout_ms, struct tao_buf *reply, int *fds,
                           size_t *n_fds)
{
	return conn_call(c, op, body, n, send_fd, timeout_ms, NULL, reply, fds, n_fds);
}

static enum tao_err prove(struct tao_conn *c, const Tao__HelloResponse *hello, int timeout_ms,
                          struct tao_buf *name)
{
	Tao__ProveRequest rq = TAO__PROVE_REQUEST__INIT;
	Tao__ProveResponse *rp;
	struct tao_buf reply = TAO_BUF_INIT;
	uint8_t body[TAO_CHALLENGE_LEN + 8];
	enum tao_err e;

	if (hello->challenge.len != TAO_CHALLENGE_LEN)
		return tao_fail(TAO_EPROTO, "the Tao host's challenge has %zu bytes",
		                hello->challenge.len);
	rq.challenge = hello->challenge;
	e = tao_conn_call(c, "Tao.Prove", body, tao__prove_request__pack(&rq, body), -1, timeout_ms,
	                  &reply, NULL, NULL);
	if (e != TAO_OK)
		goto out;
	rp = tao__prove_response__unpack(NULL, reply.n, reply.p);
	if (rp == NULL) {
		e = tao_fail(TAO_EPROTO, "the Tao host's answer to Tao.Prove is malformed");
		goto out;
	}
	if (name != NULL) {
		tao_buf_put(name, rp->name.data, rp->name.len);
		e = tao_buf_err(name);
	}
	tao__prove_response__free_unpacked(rp, NULL);
out:
	tao_buf_free(&reply);
	return e;
}

enum tao_err tao_conn_identify(struct tao_conn *c, int timeout_ms, struct tao_buf *name)
{
	int64_t deadline = now_ms() + timeout_ms;
	struct tao_buf reply = TAO_BUF_INIT;
	Tao__HelloResponse *hello = NULL;
	enum tao_err e;

	e = tao_conn_call(c, "Tao.Hello", NULL, 0, -1, timeout_ms, &reply, NULL, NULL);
	if (e == TAO_OK) {
		hello = tao__hello_response__unpack(NULL, reply.n, reply.p);
		e = hello != NULL
		        ? prove(c, hello, left_ms(deadline), name)
		        : tao_fail(TAO_EPROTO, "the Tao host's answer to Tao.Hello is malformed");
	}
	if (hello != NULL)
		tao__hello_response__free_unpacked(hello, NULL);
	tao_buf_free(&reply);
	if (e != TAO_OK)
		close_own(c);
	return e;
}

/* As tao_conn_call() without waiting: the next call drops the answer. */
static enum tao_err conn_post(struct tao_conn *c, const char *op, const void *body, size_t n)
{
	enum tao_err e;

	empty_buf(&c->out);
	tao_rpc_put_request(&c->out, op, c->seq, body, n);
	e = tao_buf_err(&c->out);
	if (e == TAO_OK)
		e = send_all(c->fd, c->out.p, c->out.n, -1, now_ms());
	c->seq++;
	c->owed++;
	if (e != TAO_OK)
		close_own(c); /* part of it may have gone */
	wipe_buf(&c->out);
	return e;
}

/* ---- a process's pool ---- */

struct slot {
	atomic_int busy;
	struct tao_conn conn;
};

/* The pool of one process. A forked child makes its own and keeps the
 * parent's copy only to free its memory: no lock is ever held over a fork. */
struct pool {
	pid_t pid;
	struct pool *parents;
	struct slot slots[TAO_CLIENT_CONNS];
};

/* Those before it stay: another thread may be reading one. */
struct door {
	int fd;
	dev_t dev;
	ino_t ino;
	struct door *before;
};

struct tao_client {
	char *path;
	int timeout_ms;
	_Atomic(struct door *) door; /* the newest; NULL: none */
	_Atomic int64_t door_asked;  /* when one was asked for, last */
	_Atomic int64_t silent;      /* 0: the host answers; else when it may be asked again */
	atomic_uint answers;         /* so far: whether there was one meanwhile */
	_Atomic(struct pool *) pool;
};

static int set_door(struct tao_client *cl, int fd)
{
	struct door *d = calloc(1, sizeof *d);
	struct stat st;

	if (d == NULL || fstat(fd, &st) != 0) {
		free(d);
		return 0;
	}
	*d = (struct door){ fd, st.st_dev, st.st_ino, atomic_load(&cl->door) };
	while (!atomic_compare_exchange_weak(&cl->door, &d->before, d))
		;
	return 1;
}

/* The descriptor of the door, if it is still that; else -1. */
static int door_of(const struct tao_client *cl)
{
	const struct door *d = atomic_load(&cl->door);
	struct stat st;

	return d != NULL && fstat(d->fd, &st) == 0 && st.st_dev == d->dev && st.st_ino == d->ino
	       ? d->fd : -1;
}

/* TAO_DOOR=FD:INODE, as tao run sets it. */
static void find_door(struct tao_client *cl)
{
	const char *text = secure_getenv("TAO_DOOR");
	unsigned long long ino;
	struct stat st;
	int fd, used = 0;

	if (text == NULL || sscanf(text, "%d:%llu%n", &fd, &ino, &used) != 2 || text[used] != 0)
		return;
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode) || st.st_ino != ino)
		return;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	set_door(cl, fd);
}

struct tao_client *tao_client_new(const char *path, int timeout_ms)
{
	struct tao_client *cl = calloc(1, sizeof *cl);

	if (cl == NULL)
		return NULL;
	cl->path = strdup(path);
	if (cl->path == NULL) {
		free(cl);
		return NULL;
	}
	cl->timeout_ms = timeout_ms;
	find_door(cl);
	return cl;
}

const char *tao_client_path(const struct tao_client *cl)
{
	return cl->path;
}

static void pool_free(struct pool *p)
{
	while (p != NULL) {
		struct pool *next = p->parents;

		for (size_t i = 0; i < TAO_CLIENT_CONNS; i++) {
			/* A connection that another thread of the parent was using at the fork
			 * may be half changed: its memory is left alone. */
			if (atomic_load(&p->slots[i].busy))
				continue;
			tao_conn_close(&p->slots[i].conn);
		}
		free(p);
		p = next;
	}
}

void tao_client_free(struct tao_client *cl)
{
	if (cl == NULL)
		return;
	pool_free(atomic_load(&cl->pool));
	for (struct door *d = atomic_load(&cl->door), *before; d != NULL; d = before) {
		before = d->before;
		free(d);
	}
	free(cl->path);
	free(cl);
}

static struct pool *pool_new(struct pool *parents)
{
	struct pool *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->pid = getpid();
	p->parents = parents;
	for (size_t i = 0; i < TAO_CLIENT_CONNS; i++)
		tao_conn_init(&p->slots[i].conn);
	return p;
}

static struct pool *pool_get(struct tao_client *cl)
{
	struct pool *old = atomic_load(&cl->pool), *fresh;

	if (old != NULL && old->pid == getpid())
		return old;
	fresh = pool_new(old);
	if (fresh == NULL)
		return NULL;
	if (!atomic_compare_exchange_strong(&cl->pool, &old, fresh)) {
		free(fresh); /* another thread of this process was first */
		return old;
	}
	/* The parent's connections: this process only drops its copies. */
	for (size_t i = 0; old != NULL && i < TAO_CLIENT_CONNS; i++)
		close_own(&old->slots[i].conn);
	return fresh;
}

static struct slot *slot_get(struct pool *p, int64_t deadline)
{
	static const struct timespec pause = { 0, BUSY_WAIT_NS };

	for (;;) {
		for (size_t i = 0; i < TAO_CLIENT_CONNS; i++) {
			int is_free = 0;

			if (atomic_compare_exchange_strong(&p->slots[i].busy, &is_free, 1))
				return &p->slots[i];
		}
		if (left_ms(deadline) == 0)
			return NULL;
		nanosleep(&pause, NULL);
	}
}

int tao_client_has_door(const struct tao_client *cl)
{
	return door_of(cl) >= 0;
}

/* A new connection through the door: the host gets one end of a pair. */
static enum tao_err open_door(struct tao_client *cl, struct tao_conn *c, int64_t deadline)
{
	int pair[2], door = door_of(cl);
	enum tao_err e;

	if (door < 0)
		return tao_fail(TAO_ENOHOST, "this process has no door to a Tao host");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return tao_fail_sys("socketpair");
	e = send_all(door, (const uint8_t *)"", 1, pair[1], deadline);
	close(pair[1]);
	if (e != TAO_OK) {
		close(pair[0]);
		return e;
	}
	return adopt(c, pair[0]);
}

/* After chroot, or with another user's rights, there may be no way to the next host. */
static enum tao_err no_way_back(const struct tao_client *cl, enum tao_err e)
{
	return tao_fail(e, "the Tao host that this program was started under has ended, and it "
	                "cannot reach the next one: %s. If one runs, this process cannot get to %s "
	                "(a chroot, another user's rights): start the program again", tao_why(),
	                cl->path);
}

static enum tao_err connect_slot(struct tao_client *cl, struct slot *s, int64_t deadline)
{
	enum tao_err e = open_door(cl, &s->conn, deadline);
	int had_door;

	if (e == TAO_OK) {
		e = tao_conn_identify(&s->conn, left_ms(deadline), NULL);
		if (e != TAO_ENOHOST) /* that: the door's host is gone, another may listen */
			return e;
	}
	had_door = e == TAO_ENOHOST ? tao_client_has_door(cl) : 0;
	e = tao_conn_open(&s->conn, cl->path, left_ms(deadline));
	if (had_door && (e == TAO_ENOHOST || e == TAO_EPERM))
		e = no_way_back(cl, e);
	if (e != TAO_OK)
		return e;
	return tao_conn_identify(&s->conn, left_ms(deadline), NULL);
}

/* ---- a host that does not answer ---- */

static int probe_ms(const struct tao_client *cl)
{
	int part = cl->timeout_ms / PROBE_PART, ms = part > PROBE_MS ? part : PROBE_MS;

	return ms < cl->timeout_ms ? ms : cl->timeout_ms;
}

static int quiet_ms(const struct tao_client *cl)
{
	return cl->timeout_ms < QUIET_MS ? cl->timeout_ms : QUIET_MS;
}

/* How long a call may take; 0: none is made now. Who asks a silent host puts off the others by
 * a time, not by a mark: a child may have been forked meanwhile. */
static int may_take(struct tao_client *cl)
{
	int64_t next = atomic_load(&cl->silent), now;

	if (next == 0)
		return cl->timeout_ms;
	now = now_ms();
	if (now >= next && atomic_compare_exchange_strong(&cl->silent, &next,
	                                                  now + probe_ms(cl) + quiet_ms(cl)))
		return probe_ms(cl);
	return next == 0 ? cl->timeout_ms : 0;
}

static enum tao_err left_alone(const struct tao_client *cl)
{
	return tao_fail(TAO_ETIMEOUT, "the Tao host on %s did not answer before, and is asked "
	                "again in some seconds: see 'tao status'", cl->path);
}

/* After a call that ended with e. One that takes long, while others are answered, tells nothing. */
static void note_answer(struct tao_client *cl, const struct tao_conn *c, enum tao_err e,
                        unsigned answers)
{
	int64_t none = 0;

	if (e == TAO_ETIMEOUT && c->fd < 0) {
		if (atomic_load(&cl->answers) == answers)
			atomic_compare_exchange_strong(&cl->silent, &none, now_ms());
	} else if (e != TAO_ENOMEM && e != TAO_ESYS) {
		atomic_fetch_add(&cl->answers, 1);
		if (atomic_load(&cl->silent) != 0)
			atomic_store(&cl->silent, 0);
	}
}

/* In the place of a dead door, so that no thread finds another descriptor under its number; else
 * above those that programs use. */
static void take_door(struct tao_client *cl, int fd)
{
	int old = door_of(cl), at;

	if (old >= 0)
		at = dup3(fd, old, O_CLOEXEC);
	else
		at = fcntl(fd, F_DUPFD_CLOEXEC, DOOR_FIRST);
	if (at >= 0)
		close(fd);
	else
		at = fd; /* the limit of open files is that low */
	if (!set_door(cl, at))
		close(at);
}

static int door_leads_somewhere(const struct tao_client *cl)
{
	struct pollfd p = { door_of(cl), POLLOUT, 0 };

	return p.fd >= 0 && poll(&p, 1, 0) >= 0 && (p.revents & (POLLHUP | POLLERR)) == 0;
}

void tao_client_keep_door(struct tao_client *cl)
{
	int64_t now = now_ms(), asked = atomic_load(&cl->door_asked);
	int ms = cl->timeout_ms < DOOR_MS ? cl->timeout_ms : DOOR_MS;
	struct tao_conn c;
	int fds[TAO_CALL_MAX_FDS];
	size_t n = 0;

	if (door_leads_somewhere(cl) || (asked != 0 && now - asked < DOOR_MS) ||
	    now < atomic_load(&cl->silent) ||
	    !atomic_compare_exchange_strong(&cl->door_asked, &asked, now))
		return;
	tao_conn_init(&c);
	if (tao_conn_open(&c, cl->path, ms) == TAO_OK &&
	    tao_conn_identify(&c, left_ms(now + ms), NULL) == TAO_OK)
		tao_conn_call(&c, "Tao.Door", NULL, 0, -1, left_ms(now + ms), NULL, fds, &n);
	tao_conn_close(&c);
	if (n > 0)
		take_door(cl, fds[0]);
	while (n > 1)
		close(fds[--n]);
}

/* What is not the same when it is done twice. */
static int only_once(const char *op)
{
	static const char *const ops[] = { "Tao.ExtendTaoName", "Tao.GenerateKey" };

	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
		if (strcmp(op, ops[i]) == 0)
			return 1;
	return 0;
}

static enum tao_err call_slot(struct tao_client *cl, struct slot *s, const char *op,
                              const void *body, size_t n, struct tao_meanwhile *w,
                              struct tao_buf *reply, int64_t deadline)
{
	int fresh = !still_own(&s->conn);
	enum tao_err e = TAO_OK;

	if (fresh) {
		s->conn.fd = -1; /* closed, or somebody else's by now */
		e = connect_slot(cl, s, deadline);
	}
	if (e == TAO_OK)
		e = conn_call(&s->conn, op, body, n, -1, left_ms(deadline), w, reply, NULL, NULL);
	if (e != TAO_ENOHOST || fresh || s->conn.fd >= 0 || s->conn.in.n > 0)
		return e;
	if (s->conn.taken && only_once(op))
		return tao_fail(TAO_ENOHOST, "the Tao host ended while it did %s, and may have "
		                "done it: see whether it did before you ask again", op);
	e = connect_slot(cl, s, deadline);
	if (e == TAO_OK)
		e = conn_call(&s->conn, op, body, n, -1, left_ms(deadline), w, reply, NULL, NULL);
	return e;
}

static enum tao_err take_slot(struct tao_client *cl, int64_t deadline, struct slot **out)
{
	struct pool *p = pool_get(cl);

	if (p == NULL)
		return tao_fail_nomem();
	*out = slot_get(p, deadline);
	if (*out == NULL)
		return tao_fail(TAO_EBUSY,
		                "all %d connections of this process to the Tao host were in "
		                "use for %d ms: try again, or use fewer threads",
		                TAO_CLIENT_CONNS, cl->timeout_ms);
	return TAO_OK;
}

static enum tao_err ask(struct tao_client *cl, struct slot *s, const char *op, const void *body,
                        size_t n, struct tao_meanwhile *w, struct tao_buf *reply, int64_t deadline)
{
	unsigned answers = atomic_load(&cl->answers);
	enum tao_err e = call_slot(cl, s, op, body, n, w, reply, deadline);

	note_answer(cl, &s->conn, e, answers);
	return e;
}

enum tao_err tao_client_call(struct tao_client *cl, const char *op, const void *body, size_t n,
                             struct tao_meanwhile *w, struct tao_buf *reply)
{
	int ms = may_take(cl);
	int64_t deadline = now_ms() + ms;
	struct slot *s;
	enum tao_err e = ms > 0 ? take_slot(cl, deadline, &s) : left_alone(cl);

	if (e != TAO_OK)
		return e;
	e = ask(cl, s, op, body, n, w, reply, deadline);
	atomic_store(&s->busy, 0);
	return e;
}

/* Its answer takes those of the others with it. */
static enum tao_err post_and_wait(struct tao_client *cl, struct slot *s, const char *op,
                                  const void *body, size_t n)
{
	int ms = may_take(cl);

	return ms > 0 ? ask(cl, s, op, body, n, NULL, NULL, now_ms() + ms) : left_alone(cl);
}

enum tao_err tao_client_post(struct tao_client *cl, const char *op, const void *body, size_t n)
{
	/* Where all are waiting for a host that is silent, a record is not worth waiting, too. */
	int64_t deadline = now_ms() + (atomic_load(&cl->silent) == 0 ? cl->timeout_ms : 0);
	struct slot *s;
	enum tao_err e = take_slot(cl, deadline, &s);

	if (e != TAO_OK)
		return e;
	if (still_own(&s->conn) && s->conn.owed < TAO_CLIENT_POSTS)
		e = conn_post(&s->conn, op, body, n);
	else
		e = post_and_wait(cl, s, op, body, n);
	atomic_store(&s->busy, 0);
	return e;
}
