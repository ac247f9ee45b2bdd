#include "measurer_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "filehash.h"

#define PACKET_MAX 32768 /* bytes of a packet; a longer body goes into a memfd */
#define HEADER_LEN 13
#define FDS_MAX 2
#define STRING_MAX (128u << 10) /* bytes of one string: Linux's MAX_ARG_STRLEN */

#define FLAG_MEMFD 1
#define FLAG_FD 2
#define FLAGS_ALL (FLAG_MEMFD | FLAG_FD)

#define IS_STATIC 1
#define IS_SCRIPT 2
#define IS_INTERPRETER 4
#define HAS_COPY 8
#define IS_ALL 15

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

void packet_clear(struct packet *p)
{
	tao_buf_free(&p->body);
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static enum tao_err broken(const char *what)
{
	return tao_fail(TAO_EPROTO, "keeper and measurer do not understand each other (%s): "
	                "restart the Tao host", what);
}

/* ---- packets ---- */

static enum tao_err body_to_memfd(const struct tao_buf *body, int *fd)
{
	size_t done = 0;

	*fd = memfd_create("tao-measurer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0)
		return tao_fail_sys("cannot make room for a message to the measurer");
	while (done < body->n) {
		ssize_t n = write(*fd, body->p + done, body->n - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return tao_fail_sys("cannot write a message to the measurer");
		done += (size_t)n;
	}
	if (fcntl(*fd, F_ADD_SEALS, SEALS) != 0)
		return tao_fail_sys("cannot seal a message to the measurer");
	return TAO_OK;
}

static enum tao_err send_raw(int sock, const struct tao_buf *b, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { b->p, b->n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (n_fds > 0) {
		struct cmsghdr *c;

		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n >= 0 ? TAO_OK : tao_fail_sys("cannot send to keeper or measurer");
}

enum tao_err wire_send(int sock, const struct packet *p)
{
	struct tao_buf b = TAO_BUF_INIT;
	int fds[FDS_MAX], memfd = -1;
	size_t n_fds = 0;
	enum tao_err e = tao_buf_err(&p->body);

	if (e == TAO_OK && p->body.n > PACKET_MAX - HEADER_LEN)
		e = body_to_memfd(&p->body, &memfd);
	tao_buf_u32(&b, p->op);
	tao_buf_u32(&b, p->seq);
	tao_buf_u32(&b, (uint32_t)p->body.n);
	tao_buf_u8(&b, (memfd >= 0 ? FLAG_MEMFD : 0) | (p->fd >= 0 ? FLAG_FD : 0));
	if (memfd < 0)
		tao_buf_put(&b, p->body.p, p->body.n);
	if (p->fd >= 0)
		fds[n_fds++] = p->fd;
	if (memfd >= 0)
		fds[n_fds++] = memfd;
	if (e == TAO_OK)
		e = tao_buf_err(&b);
	if (e == TAO_OK)
		e = send_raw(sock, &b, fds, n_fds);
	if (memfd >= 0)
		close(memfd);
	tao_buf_free(&b);
	return e;
}

/* All descriptors that came, at most FDS_MAX; the kernel closes those that have no room. */
static size_t take_fds(struct msghdr *msg, int fds[FDS_MAX])
{
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (n < FDS_MAX)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

static enum tao_err body_from_memfd(int fd, size_t n, struct tao_buf *body)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & SEALS) != SEALS)
		return broken("a body that is not sealed");
	if (filehash_slurp(fd, "a message", WIRE_BODY_MAX, body) != TAO_OK || body->n != n)
		return broken("a body of another length");
	return TAO_OK;
}

static enum tao_err parse_packet(struct tao_rd r, const int *fds, size_t n_fds, struct packet *p)
{
	uint32_t n;
	uint8_t flags;

	p->op = tao_rd_u32(&r);
	p->seq = tao_rd_u32(&r);
	n = tao_rd_u32(&r);
	flags = tao_rd_u8(&r);
	if (r.bad || (flags & ~FLAGS_ALL) != 0 || n > WIRE_BODY_MAX)
		return broken("the header");
	if (n_fds != (size_t)((flags & FLAG_FD) != 0) + ((flags & FLAG_MEMFD) != 0))
		return broken("the number of descriptors");
	if (flags & FLAG_MEMFD)
		return r.n == 0 ? body_from_memfd(fds[n_fds - 1], n, &p->body)
		                : broken("the length");
	if (r.n != n)
		return broken("the length");
	tao_buf_put(&p->body, r.p, n);
	return tao_buf_err(&p->body);
}

enum tao_err wire_receive(int sock, struct packet *p)
{
	uint8_t raw[PACKET_MAX];
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { raw, sizeof raw };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
		              .msg_controllen = sizeof control.room };
	int fds[FDS_MAX];
	size_t n_fds;
	ssize_t n;
	enum tao_err e;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != ECONNRESET)
		return tao_fail_sys("cannot receive from keeper or measurer");
	if (n <= 0)
		return tao_fail(TAO_ENOTFOUND, "keeper or measurer has ended");
	n_fds = take_fds(&msg, fds);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		e = broken("a packet that is too long");
	else
		e = parse_packet(tao_rd_of(raw, (size_t)n), fds, n_fds, p);
	if (e == TAO_OK && (raw[HEADER_LEN - 1] & FLAG_FD)) {
		p->fd = fds[0];
		fds[0] = -1;
	}
	for (size_t i = 0; i < n_fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return e;
}

/* ---- bodies ---- */

void wire_put_string(struct tao_buf *b, const char *s)
{
	size_t n = strlen(s);

	if (n > STRING_MAX && b->err == TAO_OK)
		b->err = TAO_ELIMIT;
	tao_buf_u32(b, (uint32_t)n);
	tao_buf_put(b, s, n);
}

char *wire_get_string(struct tao_rd *r, size_t max)
{
	uint32_t n = tao_rd_u32(r);
	const uint8_t *p = n <= max ? tao_rd_bytes(r, n) : NULL;

	if (p == NULL || memchr(p, 0, n) != NULL) {
		r->bad = 1;
		return NULL;
	}
	return strndup((const char *)p, n);
}

static void put_list(struct tao_buf *b, char **list)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	if (n > MEASURE_MAX_ITEMS && b->err == TAO_OK)
		b->err = TAO_ELIMIT;
	tao_buf_u32(b, (uint32_t)n);
	for (size_t i = 0; i < n; i++)
		wire_put_string(b, list[i]);
}

static void free_list(char **list)
{
	for (char **p = list; p != NULL && *p != NULL; p++)
		free(*p);
	free(list);
}

static char **get_list(struct tao_rd *r)
{
	uint32_t n = tao_rd_u32(r);
	char **list;

	if (n > MEASURE_MAX_ITEMS)
		r->bad = 1;
	list = r->bad ? NULL : calloc(n + 1, sizeof *list);
	for (uint32_t i = 0; list != NULL && i < n; i++) {
		list[i] = wire_get_string(r, STRING_MAX);
		if (list[i] == NULL) {
			free_list(list);
			return NULL;
		}
	}
	return list;
}

enum tao_err wire_put_request(struct tao_buf *b, const struct measure_request *rq)
{
	wire_put_string(b, rq->path);
	tao_buf_u32(b, rq->uid);
	tao_buf_u32(b, rq->dev_uid);
	tao_buf_u8(b, rq->program_only != 0);
	put_list(b, rq->args);
	put_list(b, rq->env);
	put_list(b, rq->config);
	put_list(b, rq->modules);
	if (b->err == TAO_ELIMIT)
		return tao_fail(TAO_ELIMIT, "%s has too many or too long arguments, settings or "
		                "configuration files: at most %d of each, %u bytes each, "
		                "%u together",
		                rq->path, MEASURE_MAX_ITEMS, STRING_MAX, WIRE_BODY_MAX);
	return tao_buf_err(b);
}

enum tao_err wire_get_request(struct tao_rd *r, struct measure_request *out)
{
	uint8_t program_only;

	memset(out, 0, sizeof *out);
	out->fd = -1;
	out->path = wire_get_string(r, PATH_MAX);
	out->uid = tao_rd_u32(r);
	out->dev_uid = tao_rd_u32(r);
	program_only = tao_rd_u8(r);
	out->program_only = program_only;
	out->args = get_list(r);
	out->env = get_list(r);
	out->config = get_list(r);
	out->modules = get_list(r);
	if (!tao_rd_done(r) || program_only > 1) {
		wire_free_request(out);
		return broken("a request");
	}
	if (out->path == NULL || out->args == NULL || out->env == NULL || out->config == NULL ||
	    out->modules == NULL) {
		wire_free_request(out);
		return tao_fail_nomem();
	}
	return TAO_OK;
}

void wire_free_request(struct measure_request *rq)
{
	free((char *)rq->path);
	free_list(rq->args);
	free_list(rq->env);
	free_list(rq->config);
	free_list(rq->modules);
	memset(rq, 0, sizeof *rq);
	rq->fd = -1;
}

enum tao_err wire_put_running(struct tao_buf *b, const struct running_request *rq)
{
	tao_buf_u32(b, (uint32_t)rq->pid);
	tao_buf_u64(b, rq->start);
	tao_buf_u8(b, rq->hint != 0);
	tao_buf_u32(b, rq->dev_uid);
	wire_put_string(b, rq->openssl_conf);
	put_list(b, rq->modules);
	return tao_buf_err(b);
}

enum tao_err wire_get_running(struct tao_rd *r, struct running_request *out)
{
	uint8_t hint;

	memset(out, 0, sizeof *out);
	out->pid = (pid_t)tao_rd_u32(r);
	out->start = tao_rd_u64(r);
	hint = tao_rd_u8(r);
	out->hint = hint;
	out->dev_uid = tao_rd_u32(r);
	out->openssl_conf = wire_get_string(r, PATH_MAX);
	out->modules = get_list(r);
	if (!tao_rd_done(r) || hint > 1 || out->pid <= 0) {
		wire_free_running(out);
		return broken("a request");
	}
	if (out->openssl_conf == NULL || out->modules == NULL) {
		wire_free_running(out);
		return tao_fail_nomem();
	}
	return TAO_OK;
}

void wire_free_running(struct running_request *rq)
{
	free((char *)rq->openssl_conf);
	free_list(rq->modules);
	memset(rq, 0, sizeof *rq);
}

static void put_time(struct tao_buf *b, const struct timespec *t)
{
	tao_buf_u64(b, (uint64_t)t->tv_sec);
	tao_buf_u32(b, (uint32_t)t->tv_nsec);
}

static void get_time(struct tao_rd *r, struct timespec *t)
{
	t->tv_sec = (time_t)tao_rd_u64(r);
	t->tv_nsec = (long)tao_rd_u32(r);
	if (t->tv_nsec >= 1000000000)
		r->bad = 1;
}

static void put_id(struct tao_buf *b, const struct file_id *id)
{
	tao_buf_u64(b, id->dev);
	tao_buf_u64(b, id->ino);
	tao_buf_u64(b, (uint64_t)id->size);
	put_time(b, &id->mtime);
	put_time(b, &id->ctime);
}

static void get_id(struct tao_rd *r, struct file_id *id)
{
	memset(id, 0, sizeof *id);
	id->dev = tao_rd_u64(r);
	id->ino = tao_rd_u64(r);
	id->size = (off_t)tao_rd_u64(r);
	get_time(r, &id->mtime);
	get_time(r, &id->ctime);
	if (id->size < 0)
		r->bad = 1;
}

static void get_hash(struct tao_rd *r, uint8_t hash[TAO_HASH_LEN])
{
	const uint8_t *p = tao_rd_bytes(r, TAO_HASH_LEN);

	if (p != NULL)
		memcpy(hash, p, TAO_HASH_LEN);
}

void wire_put_measurement(struct tao_buf *b, const struct measurement *m)
{
	tao_buf_put(b, m->exe, TAO_HASH_LEN);
	tao_buf_put(b, m->manifest, TAO_HASH_LEN);
	put_id(b, &m->id);
	tao_buf_u8(b, (m->is_static ? IS_STATIC : 0) | (m->is_script ? IS_SCRIPT : 0) |
	           (m->is_interpreter ? IS_INTERPRETER : 0) | (m->copy_fd >= 0 ? HAS_COPY : 0));
	tao_buf_u32(b, (uint32_t)m->text.n);
	tao_buf_put(b, m->text.p, m->text.n);
}

enum tao_err wire_get_measurement(struct tao_rd *r, struct measurement *out, int *has_copy)
{
	uint8_t flags;
	uint32_t n;
	const uint8_t *text;

	get_hash(r, out->exe);
	get_hash(r, out->manifest);
	get_id(r, &out->id);
	flags = tao_rd_u8(r);
	out->is_static = (flags & IS_STATIC) != 0;
	out->is_script = (flags & IS_SCRIPT) != 0;
	out->is_interpreter = (flags & IS_INTERPRETER) != 0;
	*has_copy = (flags & HAS_COPY) != 0;
	n = tao_rd_u32(r);
	text = tao_rd_bytes(r, n);
	if (!tao_rd_done(r) || (flags & ~IS_ALL) != 0 || n > MEASURE_MAX_MANIFEST)
		return broken("a measurement");
	tao_buf_put(&out->text, text, n);
	return tao_buf_err(&out->text);
}

void wire_put_view(struct tao_buf *b, const struct process_view *v)
{
	put_id(b, &v->exe);
	tao_buf_u32(b, v->uid);
	tao_buf_u32(b, (uint32_t)v->pid);
	tao_buf_u32(b, (uint32_t)v->ppid);
	tao_buf_u64(b, v->start);
	tao_buf_u64(b, v->exec);
}

enum tao_err wire_get_view(struct tao_rd *r, struct process_view *out)
{
	get_id(r, &out->exe);
	out->uid = tao_rd_u32(r);
	out->pid = (pid_t)tao_rd_u32(r);
	out->ppid = (pid_t)tao_rd_u32(r);
	out->start = tao_rd_u64(r);
	out->exec = tao_rd_u64(r);
	return tao_rd_done(r) && out->pid > 0 && out->ppid >= 0 ? TAO_OK : broken("a process");
}

void wire_put_result(struct tao_buf *b, enum tao_err e)
{
	tao_buf_u32(b, (uint32_t)e);
	wire_put_string(b, e == TAO_OK ? "" : tao_why());
}

enum tao_err wire_get_result(struct tao_rd *r)
{
	uint32_t e = tao_rd_u32(r);
	char *why = wire_get_string(r, TAO_WHY_MAX);

	if (r->bad || e >= TAO_ERR_COUNT) {
		free(why);
		return broken("an answer");
	}
	if (e != TAO_OK)
		tao_fail((enum tao_err)e, "%s", why != NULL ? why : "out of memory");
	free(why);
	return (enum tao_err)e;
}
