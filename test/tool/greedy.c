/*
 * greedy: a program that takes all it can get of a Tao host, and one that only wants its answers.
 *
 *   greedy SOCKET COUNTER MODE ARGS...
 *
 * COUNTER is a file in which greedy ones count, for the honest one to see: how
 * much they got while it got its own says whether the host is fair, whatever
 * the time it took. Greedy modes go on until they are killed.
 *
 *   pipeline CONNS DEPTH OP HEX   that many requests under way on each connection; counts answers
 *   huge CONNS                    the same with requests of a megabyte
 *   unread CONNS                  requests whose answers are never read; counts requests
 *   half CONNS                    large requests, a byte at a time; counts bytes
 *   connect                       connections and nothing else; counts them
 *   honest N DEPTH OP HEX [CONNS] waits until somebody counts, then makes N requests on one
 *                                 connection (CONNS) and prints: answers got, count meanwhile
 *
 * Connections are identified: run it with `tao run` (connect needs it not). HEX may be "-".
 * Exits with 1 if the host closes a connection of pipeline or honest, or sends an error to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tao/buf.h"
#include "tao/client.h"
#include "tao/rpc.h"

#define CONNS_MAX 1024
#define TIMEOUT_MS 60000
#define HUGE_BODY (TAO_RPC_MAX_REQUEST - 64)
#define PIECE 65536 /* bytes */
#define IN_SWING 50 /* counted, before the honest one begins */

struct line {
	struct tao_conn conn;
	struct tao_buf out, in;
	size_t out_done;
	long under_way;
};

struct job {
	const char *socket;
	atomic_ulong *counter;
	const char *op;
	struct tao_buf body;
	long conns, depth;
	struct line lines[CONNS_MAX];
};

static int fail(const char *what)
{
	fprintf(stderr, "greedy: %s: %s\n", what, tao_why());
	return 1;
}

static int open_lines(struct job *j)
{
	static const struct tao_buf empty = TAO_BUF_INIT;

	for (long i = 0; i < j->conns; i++) {
		struct line *l = &j->lines[i];

		tao_conn_init(&l->conn);
		l->in = l->out = empty;
		if (tao_conn_open(&l->conn, j->socket, TIMEOUT_MS) != TAO_OK ||
		    tao_conn_identify(&l->conn, TIMEOUT_MS, NULL) != TAO_OK)
			return 0;
	}
	return 1;
}

/* Sends as much as the host takes; 0 if it closed the connection. */
static int push(struct line *l)
{
	while (l->out_done < l->out.n) {
		ssize_t n = send(l->conn.fd, l->out.p + l->out_done, l->out.n - l->out_done,
		                 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		l->out_done += (size_t)n;
	}
	tao_buf_reset(&l->out);
	l->out_done = 0;
	return 1;
}

static int fill(struct job *j, struct line *l, long most)
{
	if (l->out.n > 0 && !push(l))
		return 0;
	for (; l->out.n < PIECE && l->under_way < j->depth && l->under_way < most; l->under_way++)
		tao_rpc_put_request(&l->out, j->op, 1, j->body.p, j->body.n);
	return push(l);
}

/* Answers that have arrived; -1: an error, or the end. */
static long pull(struct line *l, int errors_too)
{
	uint8_t *to = tao_buf_room(&l->in, PIECE);
	ssize_t n = to != NULL ? recv(l->conn.fd, to, PIECE, MSG_DONTWAIT) : 0;
	size_t at = 0, used;
	struct tao_rpc_msg m;
	long got = 0;

	l->in.n -= PIECE - (n > 0 ? (size_t)n : 0);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		return -1;
	while (tao_rpc_parse_reply(l->in.p + at, l->in.n - at, TAO_RPC_MAX_REPLY, &m, &used) == TAO_OK &&
	       used > 0) {
		if (m.code != TAO_OK && !errors_too) {
			fprintf(stderr, "greedy: %s\n", m.error);
			return -1;
		}
		at += used;
		got++;
	}
	memmove(l->in.p, l->in.p + at, l->in.n - at);
	l->in.n -= at;
	l->under_way -= got;
	return got;
}

/* Waits until some connection can go on. */
static void wait_any(struct job *j)
{
	struct pollfd p[CONNS_MAX];

	for (long i = 0; i < j->conns; i++)
		p[i] = (struct pollfd){ j->lines[i].conn.fd,
		                        (short)(POLLIN | (j->lines[i].out.n > 0 ? POLLOUT : 0)),
		                        0 };
	poll(p, (nfds_t)j->conns, 1000);
}

/* total: requests, 0 for ever. How many were answered, -1 after a failure. */
static long drive(struct job *j, long total, int errors_too)
{
	long done = 0, before;

	while (total == 0 || done < total) {
		before = done;
		for (long i = 0; i < j->conns; i++) {
			struct line *l = &j->lines[i];
			long got, most = total > 0 ? total - done : j->depth;

			if (!fill(j, l, most) || (got = pull(l, errors_too)) < 0)
				return -1;
			done += got;
			if (total == 0)
				atomic_fetch_add(j->counter, (unsigned long)got);
		}
		if (done == before)
			wait_any(j);
	}
	return done;
}

static int unread(struct job *j)
{
	int open = 1;

	for (; open; usleep(100))
		for (long i = 0; open && i < j->conns; i++) {
			j->lines[i].under_way = 0;
			open = fill(j, &j->lines[i], j->depth);
			atomic_fetch_add(j->counter, 1);
		}
	return 1;
}

static int half(struct job *j)
{
	struct tao_buf rq = TAO_BUF_INIT;

	tao_rpc_put_request(&rq, j->op, 1, j->body.p, j->body.n);
	for (size_t at = 0; at < rq.n - 1; at++)
		for (long i = 0; i < j->conns; i++) {
			if (send(j->lines[i].conn.fd, rq.p + at, 1, MSG_NOSIGNAL) < 0)
				return 1;
			atomic_fetch_add(j->counter, 1);
		}
	pause();
	return 0;
}

static int connects(const struct job *j)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	snprintf(to.sun_path, sizeof to.sun_path, "%s", j->socket);
	for (int fd; (fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0; close(fd))
		if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
			atomic_fetch_add(j->counter, 1);
	return 1;
}

static int honest(struct job *j, long total)
{
	unsigned long before;
	long got;

	while ((before = atomic_load(j->counter)) < IN_SWING)
		usleep(1000);
	got = drive(j, total, 0);
	printf("%ld %lu\n", got, atomic_load(j->counter) - before);
	return got >= total ? 0 : 1;
}

static int put_hex(struct tao_buf *b, const char *hex)
{
	unsigned v;

	for (; strcmp(hex, "-") != 0 && hex[0] != 0; hex += 2) {
		if (sscanf(hex, "%2x", &v) != 1)
			return 0;
		tao_buf_u8(b, (uint8_t)v);
	}
	return 1;
}

static atomic_ulong *counter_of(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	void *p = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, 4096) == 0)
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	return p != MAP_FAILED ? p : NULL;
}

static int run(struct job *j, const char *mode, long n)
{
	if (strcmp(mode, "connect") == 0)
		return connects(j);
	if (!open_lines(j))
		return fail("connecting");
	if (strcmp(mode, "honest") == 0)
		return honest(j, n);
	if (strcmp(mode, "unread") == 0)
		return unread(j);
	if (strcmp(mode, "half") == 0)
		return half(j);
	return drive(j, 0, strcmp(mode, "huge") == 0) < 0 ? fail(mode) : 0;
}

int main(int argc, char **argv)
{
	static struct job j = { .body = TAO_BUF_INIT };
	const char *mode = argc > 3 ? argv[3] : "";
	int is_honest = strcmp(mode, "honest") == 0, own = is_honest ||
	                strcmp(mode, "pipeline") == 0;
	long n = argc > 4 ? strtol(argv[4], NULL, 10) : 1;

	if (argc < 4 || (own && argc < 8) || (j.counter = counter_of(argv[2])) == NULL) {
		fprintf(stderr, "usage: greedy SOCKET COUNTER MODE ARGS...\n");
		return 2;
	}
	j.socket = argv[1];
	j.conns = !is_honest ? n : argc > 8 ? strtol(argv[8], NULL, 10) : 1;
	j.depth = own ? strtol(argv[5], NULL, 10) : strcmp(mode, "unread") == 0 ? 64 : 2;
	j.op = own ? argv[6] : strcmp(mode, "unread") == 0 ? "Tao.GetTaoName" : "Tao.Seal";
	if (j.conns < 1 || j.conns > CONNS_MAX || j.depth < 1)
		return 2;
	if (own && !put_hex(&j.body, argv[7]))
		return 2;
	if (!own && strcmp(j.op, "Tao.Seal") == 0)
		memset(tao_buf_room(&j.body, HUGE_BODY), 0xff, HUGE_BODY);
	return run(&j, mode, n);
}
