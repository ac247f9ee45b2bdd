/*
 * rawclient: talks to a Tao host as a careless or hostile program might.
 *
 *   rawclient SOCKET [COMMANDS...]
 *
 * Commands come from standard input, one a line (so that a program has one
 * name whatever it does), after those of the command line. Each prints one
 * line, and more where it says so. There are connections 0 to 2047; commands
 * act on the current one. HEX may be "-" for nothing, and a part of it be
 * "BYTE*COUNT": "0a*100" is a hundred bytes 0a.
 *
 *   use N               makes N the current connection
 *   connect | door      makes it, by the socket path or through $TAO_DOOR
 *   pair                through the door, keeping the host's end as well
 *   hello               Tao.Hello; keeps the challenge
 *   prove [HEX]         Tao.Prove with it, or with that
 *   provewith OP        Tao.Prove and another request in one piece; no answer is read
 *   identify            hello and prove
 *   call OP HEX         a request and its answer: "ok OP HEX", "err OP CODE SENTENCE", "closed"
 *   send OP HEX         a request only; recv: an answer only
 *   recvlen             an answer: "ok OP LENGTH"
 *   bytewise OP HEX     a request byte by byte, each sent alone; and its answer
 *   raw HEX             these bytes
 *   flood N OP HEX      N times that request, as far as the host takes it; how often it did
 *   burst N OP HEX      N requests in one write, then all answers: "N ok"
 *   fd KIND             what goes with the next send: PATH, socket, lingering, two, many
 *   fds                 descriptors that came with answers: how many; closes them
 *   doorsend KIND       through the door: PATH, empty, nothing, listening, lingering, loop (the
 *                       client's end of the current connection), both (ends of a pair), byte
 *   half                no more is sent, answers are still read
 *   shut                closes it
 *   open N [MOST]       connects N more (from the current one on); how many the host keeps. Waits a
 *                       while for that to be at most MOST
 *   opendoor N          the same through the door, each identified; how many
 *   child COMMAND...    a forked child does that, on its parent's connection
 *   fork COMMAND...     the same, but first closes its copy of the current connection
 *   daemon              goes on in a grandchild, the process itself ends
 *   setuid UID          gives up its rights
 *   orphan UID PROGRAM ARG...  an orphan that this process has adopted executes it, as that user
 *   exec PROGRAM ARG... executes it; connections stay open; it reads the rest of a file of commands
 *   mapcode PATH        maps that file as code
 *   traced              from here on a child traces this process
 *   unlink PATH | rename FROM TO
 *   kill PID            ends that process
 *   tracer              whether this one is traced: "traced" or "free"
 *   reuse COMMAND...    connect and hello in a process that ends; then, in another one with the
 *                       same number, that command; "no number" if that could not be had (needs
 * root)
 *   adopt FD            takes that descriptor as the current connection
 *   descriptor          the current connection's
 *   nodoor              closes the door
 *   passpidfd           asks for pidfds on the kept end of a pair
 *   nocreds             asks for no credentials on the kept end of a pair
 *   encode KIND TEXT    form, prin or subprin: its binary form in hex
 *   decode HEX          a principal's text
 *   verify HEX          an attestation: "ROOT | SPEAKER | MESSAGE", or the error
 *   times HEX           an attestation: from when and until when, nanoseconds
 *   sleep MS | pid | echo TEXT
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tao/attest.h"
#include "tao/buf.h"
#include "tao/client.h"
#include "tao/logic.h"
#include "tao/rpc.h"
#include "tao.pb-c.h"

#define CONNS 2048
#define LINE_MAX_LEN (4 << 20)
#define ANSWER_MS 20000
#define QUIET_MS 200 /* a host that is going to close a connection has done so */
#define OPEN_LOOKS 100 /* at what the host keeps */
#define MANY_FDS 20
#define LINGER_SECONDS 600

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

struct conn {
	int fd, kept; /* kept: the host's end of a pair */
	uint64_t seq;
	uint8_t challenge[TAO_CHALLENGE_LEN];
	struct tao_buf in;
};

struct client {
	const char *path;
	struct conn conns[CONNS], *c;
	int send_fds[MANY_FDS]; /* with the next send */
	size_t n_send;
	int got_fds;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "rawclient: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- bytes ---- */

static void put_hex(const char *hex, struct tao_buf *b)
{
	uint8_t byte;

	for (; strcmp(hex, "-") != 0 && *hex != 0; hex += 2) {
		long n = 1;

		if (tao_unhex(hex, strnlen(hex, 2), &byte, 1) != TAO_OK)
			die(hex);
		if (hex[2] == '*') {
			char *end;

			n = strtol(hex + 3, &end, 10);
			hex = end - 2;
		}
		while (n-- > 0)
			tao_buf_u8(b, byte);
	}
	if (tao_buf_err(b) != TAO_OK)
		die("too many bytes");
}

static void print_hex(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("%02x", p[i]);
	putchar('\n');
}

/* ---- sending ---- */

/* The first byte takes the descriptors along. */
static ssize_t send_some(struct client *cl, int fd, const void *p, size_t n, int flags)
{
	union {
		char space[CMSG_SPACE(MANY_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct iovec iov = { (void *)p, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *h;

	if (cl->n_send > 0) {
		m.msg_control = control.space;
		m.msg_controllen = CMSG_SPACE(cl->n_send * sizeof(int));
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(cl->n_send * sizeof(int));
		memcpy(CMSG_DATA(h), cl->send_fds, cl->n_send * sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL | flags);
}

static int send_all(struct client *cl, int fd, const void *p, size_t n)
{
	const uint8_t *at = p;

	do {
		ssize_t done = send_some(cl, fd, at, n, 0);

		while (cl->n_send > 0)
			close(cl->send_fds[--cl->n_send]);
		if (done < 0)
			return 0;
		at += done;
		n -= (size_t)done;
	} while (n > 0);
	return 1;
}

static int send_request(struct client *cl, const char *op, const char *hex, struct tao_buf *b)
{
	struct tao_buf body = TAO_BUF_INIT;

	put_hex(hex, &body);
	tao_rpc_put_request(b, op, cl->c->seq++, body.p, body.n);
	tao_buf_free(&body);
	return tao_buf_err(b) == TAO_OK;
}

/* ---- receiving ---- */

static void take_fds(struct client *cl, struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; h->cmsg_type == SCM_RIGHTS && i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			close(fd);
			cl->got_fds++;
		}
	}
}

/* 1 an answer, 0 the end, -1 time is over. *used: its bytes, still in the buffer. */
static int receive(struct client *cl, struct tao_rpc_msg *m, size_t *used)
{
	struct conn *c = cl->c;
	struct pollfd p = { c->fd, POLLIN, 0 };

	for (;;) {
		union {
			char space[CMSG_SPACE(4 * sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec iov = { NULL, 65536 };
		struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
		                    .msg_controllen = sizeof control.space };
		ssize_t n;

		if (tao_rpc_parse_reply(c->in.p, c->in.n, TAO_RPC_MAX_REPLY, m, used) != TAO_OK)
			die(tao_why());
		if (*used > 0)
			return 1;
		if (c->fd < 0)
			return 0;
		if (poll(&p, 1, ANSWER_MS) <= 0)
			return -1;
		iov.iov_base = tao_buf_room(&c->in, iov.iov_len);
		n = recvmsg(c->fd, &h, MSG_CMSG_CLOEXEC);
		c->in.n -= 65536 - (n > 0 ? (size_t)n : 0);
		if (n <= 0)
			return 0;
		take_fds(cl, &h);
	}
}

static void consume(struct conn *c, size_t used)
{
	memmove(c->in.p, c->in.p + used, c->in.n - used);
	c->in.n -= used;
}

static void print_answer(struct client *cl, int only_length)
{
	struct tao_rpc_msg m;
	size_t used;
	int r = receive(cl, &m, &used);

	if (r <= 0) {
		puts(r == 0 ? "closed" : "timeout");
		return;
	}
	if (m.code != TAO_OK) {
		printf("err %s %d %s\n", m.op, (int)m.code, m.error);
	} else if (only_length) {
		printf("ok %s %zu\n", m.op, m.body_n);
	} else {
		printf("ok %s ", m.op);
		print_hex(m.body, m.body_n);
	}
	consume(cl->c, used);
}

/* ---- connections ---- */

static void use_fd(struct client *cl, int fd)
{
	static const struct tao_buf empty = TAO_BUF_INIT;

	tao_buf_free(&cl->c->in);
	*cl->c = (struct conn){ .fd = fd, .kept = -1, .in = empty };
}

static int connect_path(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int door_fd(void)
{
	const char *door = getenv("TAO_DOOR");

	return door != NULL ? atoi(door) : -1;
}

static int through_door(struct client *cl, int fd)
{
	cl->send_fds[cl->n_send++] = fd;
	return send_all(cl, door_fd(), "", 1);
}

static int open_door(struct client *cl, int keep)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return -1;
	use_fd(cl, pair[0]);
	cl->c->kept = keep ? dup(pair[1]) : -1;
	if (through_door(cl, pair[1]))
		return pair[0];
	close(pair[0]);
	cl->c->fd = -1;
	return -1;
}

static int is_open(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, 0) == 0;
}

/* ---- identification ---- */

static int do_hello(struct client *cl)
{
	struct tao_buf b = TAO_BUF_INIT;
	Tao__HelloResponse *r = NULL;
	struct tao_rpc_msg m;
	size_t used;
	int done = send_request(cl, "Tao.Hello", "-", &b) && send_all(cl, cl->c->fd, b.p, b.n) &&
	           receive(cl, &m, &used) == 1;

	tao_buf_free(&b);
	if (done && m.code == TAO_OK)
		r = tao__hello_response__unpack(NULL, m.body_n, m.body);
	if (r != NULL && r->challenge.len == TAO_CHALLENGE_LEN)
		memcpy(cl->c->challenge, r->challenge.data, TAO_CHALLENGE_LEN);
	if (r == NULL && done)
		printf("err %s %d %s\n", m.op, (int)m.code, m.error);
	else if (r == NULL)
		puts("closed");
	if (done)
		consume(cl->c, used);
	if (r == NULL)
		return 0;
	tao__hello_response__free_unpacked(r, NULL);
	return 1;
}

static void put_prove(struct client *cl, const char *hex, struct tao_buf *b)
{
	struct tao_buf body = TAO_BUF_INIT;

	tao_buf_u8(&body, 1 << 3 | 2);
	if (hex != NULL) {
		struct tao_buf text = TAO_BUF_INIT;

		put_hex(hex, &text);
		tao_buf_varint(&body, text.n);
		tao_buf_put(&body, text.p, text.n);
		tao_buf_free(&text);
	} else {
		tao_buf_varint(&body, TAO_CHALLENGE_LEN);
		tao_buf_put(&body, cl->c->challenge, TAO_CHALLENGE_LEN);
	}
	tao_rpc_put_request(b, "Tao.Prove", cl->c->seq++, body.p, body.n);
	tao_buf_free(&body);
}

/* ---- commands ---- */

typedef void command_fn(struct client *cl, char *args);

static void cmd_use(struct client *cl, char *args)
{
	int n = atoi(args);

	if (n < 0 || n >= CONNS)
		die("no such connection");
	cl->c = &cl->conns[n];
	puts("ok");
}

static void cmd_connect(struct client *cl, char *args)
{
	(void)args;
	use_fd(cl, connect_path(cl->path));
	puts(cl->c->fd >= 0 ? "ok" : "failed");
}

static void cmd_door(struct client *cl, char *args)
{
	(void)args;
	puts(open_door(cl, 0) >= 0 ? "ok" : "failed");
}

static void cmd_pair(struct client *cl, char *args)
{
	(void)args;
	puts(open_door(cl, 1) >= 0 ? "ok" : "failed");
}

static void cmd_hello(struct client *cl, char *args)
{
	(void)args;
	if (do_hello(cl))
		puts("ok Tao.Hello");
}

static void cmd_prove(struct client *cl, char *args)
{
	struct tao_buf b = TAO_BUF_INIT;

	put_prove(cl, *args != 0 ? args : NULL, &b);
	send_all(cl, cl->c->fd, b.p, b.n);
	tao_buf_free(&b);
	print_answer(cl, 0);
}

static void cmd_provewith(struct client *cl, char *args)
{
	struct tao_buf b = TAO_BUF_INIT;

	put_prove(cl, NULL, &b);
	send_request(cl, args, "-", &b);
	puts(send_all(cl, cl->c->fd, b.p, b.n) ? "ok" : "closed");
	tao_buf_free(&b);
}

static void cmd_identify(struct client *cl, char *args)
{
	(void)args;
	if (do_hello(cl))
		cmd_prove(cl, (char *)"");
}

static void cmd_send(struct client *cl, char *args)
{
	char *op = strsep(&args, " ");
	struct tao_buf b = TAO_BUF_INIT;
	int done = send_request(cl, op, args != NULL ? args : "-", &b) &&
	           send_all(cl, cl->c->fd, b.p, b.n);

	tao_buf_free(&b);
	puts(done ? "ok" : "closed");
}

static void cmd_recv(struct client *cl, char *args)
{
	(void)args;
	print_answer(cl, 0);
}

static void cmd_recvlen(struct client *cl, char *args)
{
	(void)args;
	print_answer(cl, 1);
}

static void cmd_call(struct client *cl, char *args)
{
	char *op = strsep(&args, " ");
	struct tao_buf b = TAO_BUF_INIT;

	if (send_request(cl, op, args != NULL ? args : "-", &b))
		send_all(cl, cl->c->fd, b.p, b.n);
	tao_buf_free(&b);
	print_answer(cl, 0);
}

static void cmd_bytewise(struct client *cl, char *args)
{
	char *op = strsep(&args, " ");
	struct tao_buf b = TAO_BUF_INIT;

	send_request(cl, op, args != NULL ? args : "-", &b);
	for (size_t i = 0; i < b.n; i++)
		send_all(cl, cl->c->fd, b.p + i, 1);
	tao_buf_free(&b);
	print_answer(cl, 0);
}

static void cmd_raw(struct client *cl, char *args)
{
	struct tao_buf b = TAO_BUF_INIT;

	put_hex(args, &b);
	puts(send_all(cl, cl->c->fd, b.p, b.n) ? "ok" : "closed");
	tao_buf_free(&b);
}

/* Waits a little when the host takes no more: it may be about to. */
static void cmd_flood(struct client *cl, char *args)
{
	long n = strtol(strsep(&args, " "), NULL, 10), i = 0;
	char *op = strsep(&args, " ");
	struct tao_buf b = TAO_BUF_INIT;
	size_t at = 0;

	send_request(cl, op, args != NULL ? args : "-", &b);
	while (i < n) {
		struct pollfd p = { cl->c->fd, POLLOUT, 0 };
		ssize_t done = send_some(cl, cl->c->fd, b.p + at, b.n - at, MSG_DONTWAIT);

		if (done < 0 && errno != EAGAIN)
			break;
		if (done < 0 && poll(&p, 1, QUIET_MS) == 0)
			break;
		at += done > 0 ? (size_t)done : 0;
		if (at == b.n) {
			at = 0;
			i++;
		}
	}
	printf("%ld sent\n", i);
	tao_buf_free(&b);
}

static void cmd_burst(struct client *cl, char *args)
{
	long n = strtol(strsep(&args, " "), NULL, 10), good = 0;
	char *op = strsep(&args, " ");
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_rpc_msg m;
	uint64_t seq = cl->c->seq;
	size_t used;
	int flags = fcntl(cl->c->fd, F_GETFL);

	for (long i = 0; i < n; i++)
		send_request(cl, op, args != NULL ? args : "-", &b);
	fcntl(cl->c->fd, F_SETFL, flags | O_NONBLOCK);
	for (size_t at = 0; good < n;) {
		struct pollfd p = { cl->c->fd, POLLIN | POLLOUT, 0 };
		ssize_t done = at < b.n ? send(cl->c->fd, b.p + at, b.n - at, MSG_NOSIGNAL) : 0;

		at += done > 0 ? (size_t)done : 0;
		if (at < b.n && (poll(&p, 1, ANSWER_MS) <= 0 || (p.revents & POLLIN) == 0))
			continue;
		if (receive(cl, &m, &used) != 1 || m.seq != seq + (uint64_t)good ||
		    m.code != TAO_OK)
			break;
		good++;
		consume(cl->c, used);
	}
	fcntl(cl->c->fd, F_SETFL, flags);
	printf("%ld ok\n", good);
	tao_buf_free(&b);
}

/* A TCP connection whose close waits: its peer reads nothing, and much is on its way. */
static int lingering(void)
{
	static const struct linger linger = { 1, LINGER_SECONDS };
	static char zeros[65536];
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(l, (struct sockaddr *)&at, sizeof at) != 0 || listen(l, 1) != 0 ||
	    getsockname(l, (struct sockaddr *)&at, &len) != 0 ||
	    connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
		die("lingering");
	while (send(fd, zeros, sizeof zeros, MSG_DONTWAIT) > 0)
		;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	return fd; /* the listener stays open */
}

static int listening(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&at, sizeof(sa_family_t)) != 0 || listen(fd, 1) != 0)
		die("listening");
	return fd;
}

static int fd_of_kind(const char *kind)
{
	int fd = strcmp(kind, "socket") == 0 ? socket(AF_UNIX, SOCK_STREAM, 0)
	         : strcmp(kind, "lingering") == 0 ? lingering()
	         : strcmp(kind, "listening") == 0 ? listening()
	         : open(kind, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(kind);
	return fd;
}

static void cmd_fd(struct client *cl, char *args)
{
	size_t n = strcmp(args, "two") == 0 ? 2 : strcmp(args, "many") == 0 ? MANY_FDS : 1;

	while (cl->n_send < n)
		cl->send_fds[cl->n_send++] = fd_of_kind(n > 1 ? "/dev/null" : args);
	puts("ok");
}

static void cmd_fds(struct client *cl, char *args)
{
	(void)args;
	printf("%d\n", cl->got_fds);
	cl->got_fds = 0;
}

static void cmd_doorsend(struct client *cl, char *args)
{
	int done, pair[2], door = door_fd();

	if (strcmp(args, "byte") == 0)
		done = send(door, "", 1, MSG_NOSIGNAL) == 1;
	else if (strcmp(args, "nothing") == 0)
		done = send(door, "", 0, MSG_NOSIGNAL) == 0;
	else if (strcmp(args, "empty") == 0) { /* no bytes, but a descriptor */
		cl->send_fds[cl->n_send++] = fd_of_kind("/dev/null");
		done = send_all(cl, door, "", 0);
	} else if (strcmp(args, "loop") == 0)
		done = through_door(cl, dup(cl->c->fd));
	else if (strcmp(args, "both") == 0)
		done = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 &&
		       through_door(cl, pair[0]) &&
		       through_door(cl, pair[1]);
	else
		done = through_door(cl, fd_of_kind(args));
	puts(done ? "ok" : "closed");
}

static void cmd_half(struct client *cl, char *args)
{
	(void)args;
	shutdown(cl->c->fd, SHUT_WR);
	puts("ok");
}

static void cmd_shut(struct client *cl, char *args)
{
	(void)args;
	close(cl->c->fd);
	if (cl->c->kept >= 0)
		close(cl->c->kept);
	cl->c->fd = cl->c->kept = -1;
	puts("ok");
}

static void cmd_open(struct client *cl, char *args)
{
	static const struct timespec pause = { 0, QUIET_MS * 1000000L };
	char *rest;
	long n = strtol(args, &rest, 10), most = *rest ? strtol(rest, NULL, 10) : n, kept = n;
	struct conn *first = cl->c;

	for (long i = 0; i < n; i++, cl->c++)
		use_fd(cl, connect_path(cl->path));
	for (int i = 0; i == 0 || (i < OPEN_LOOKS && kept > most); i++) {
		nanosleep(&pause, NULL);
		kept = 0;
		for (struct conn *c = first; c < cl->c; c++)
			kept += c->fd >= 0 && is_open(c->fd);
	}
	cl->c = first;
	printf("%ld open\n", kept);
}

static void cmd_opendoor(struct client *cl, char *args)
{
	long n = strtol(args, NULL, 10), kept = 0;
	struct conn *first = cl->c;

	for (long i = 0; i < n; i++, cl->c++) {
		struct tao_buf b = TAO_BUF_INIT;
		struct tao_rpc_msg m;
		size_t used;

		if (open_door(cl, 0) < 0 || !do_hello(cl))
			break;
		put_prove(cl, NULL, &b);
		send_all(cl, cl->c->fd, b.p, b.n);
		tao_buf_free(&b);
		if (receive(cl, &m, &used) != 1)
			break;
		kept += m.code == TAO_OK;
		consume(cl->c, used);
	}
	cl->c = first;
	printf("%ld open\n", kept);
}

static void run_line(struct client *cl, char *line);

static void in_child(struct client *cl, char *args, int without)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		if (without)
			close(cl->c->fd);
		for (char *command; (command = strsep(&args, ";")) != NULL;)
			run_line(cl, command + strspn(command, " "));
		_exit(0); /* standard input is the parent's */
	}
	waitpid(pid, NULL, 0);
}

static void cmd_child(struct client *cl, char *args)
{
	in_child(cl, args, 0);
}

static void cmd_fork(struct client *cl, char *args)
{
	in_child(cl, args, 1);
}

static void cmd_daemon(struct client *cl, char *args)
{
	static const struct timespec pause = { 0, QUIET_MS * 1000000L };

	(void)cl;
	(void)args;
	fflush(stdout);
	if (fork() != 0)
		_exit(0);
	setsid();
	if (fork() != 0)
		_exit(0);
	nanosleep(&pause, NULL); /* the parents have ended, and the host knows */
	puts("ok");
}

static void cmd_setuid(struct client *cl, char *args)
{
	(void)cl;
	puts(setuid((uid_t)strtoul(args, NULL, 10)) == 0 ? "ok" : "no");
}

static void cmd_exec(struct client *cl, char *args);

static void cmd_orphan(struct client *cl, char *args)
{
	const char *uid = strsep(&args, " ");
	pid_t me = getpid();

	fflush(stdout);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
		die("prctl");
	if (fork() == 0) {
		if (fork() != 0)
			_exit(0);
		while (getppid() != me)
			sched_yield();
		if (setuid((uid_t)strtoul(uid, NULL, 10)) == 0)
			cmd_exec(cl, args);
		_exit(1);
	}
	while (wait(NULL) > 0)
		;
}

static void cmd_exec(struct client *cl, char *args)
{
	char *argv[32];
	size_t n = 0;

	(void)cl;
	while (n < 31 && (argv[n] = strsep(&args, " ")) != NULL)
		n++;
	argv[n] = NULL;
	fflush(stdout);
	fflush(stdin); /* a file's rest is for the program */
	execv(argv[0], argv);
	die(argv[0]);
}

static void cmd_mapcode(struct client *cl, char *args)
{
	int fd = open(args, O_RDONLY | O_CLOEXEC);

	(void)cl;
	puts(fd >= 0 && mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED
	     ? "ok" : "failed");
	close(fd);
}

/* Its parent learns of that when we do, so it must not wait for us. */
static void trace_to_its_end(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status))
		ptrace(PTRACE_CONT, pid, 0, status >> 16 == 0 ? WSTOPSIG(status) : 0);
}

static void cmd_traced(struct client *cl, char *args)
{
	pid_t self = getpid();
	int ready[2];
	char done = 0;

	(void)cl;
	(void)args;
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* where Yama asks for it */
	if (pipe2(ready, O_CLOEXEC) != 0)
		die("pipe");
	if (fork() == 0) {
		done = ptrace(PTRACE_SEIZE, self, 0, 0) == 0;
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (write(ready[1], &done, 1) == 1)
			trace_to_its_end(self);
		_exit(1);
	}
	close(ready[1]);
	puts(read(ready[0], &done, 1) == 1 && done ? "ok" : "failed");
	close(ready[0]);
}

static void cmd_unlink(struct client *cl, char *args)
{
	(void)cl;
	puts(unlink(args) == 0 ? "ok" : "failed");
}

static void cmd_rename(struct client *cl, char *args)
{
	const char *from = strsep(&args, " ");

	(void)cl;
	puts(args != NULL && rename(from, args) == 0 ? "ok" : "failed");
}

static void cmd_kill(struct client *cl, char *args)
{
	long pid = strtol(args, NULL, 10);

	(void)cl;
	puts(pid > 1 && kill((pid_t)pid, SIGKILL) == 0 ? "ok" : "failed");
}

static void cmd_tracer(struct client *cl, char *args)
{
	FILE *f = fopen("/proc/self/status", "r");
	char text[4096] = "", *at = NULL;

	(void)cl;
	(void)args;
	if (f != NULL && fread(text, 1, sizeof text - 1, f) > 0)
		at = strstr(text, "\nTracerPid:\t");
	if (f != NULL)
		fclose(f);
	puts(at == NULL ? "failed" : at[12] == '0' ? "free" : "traced");
}

/* Shares memory and descriptors with its parent, which waits. */
static int connects_and_ends(void *arg)
{
	cmd_connect(arg, (char *)"");
	cmd_hello(arg, (char *)"");
	fflush(stdout);
	_exit(0);
}

static int next_number(pid_t pid)
{
	FILE *f = fopen("/proc/sys/kernel/ns_last_pid", "w");
	int done = f != NULL && fprintf(f, "%d", (int)pid - 1) > 0;

	return f != NULL && fclose(f) == 0 && done;
}

static void run_line(struct client *cl, char *line);

static void cmd_reuse(struct client *cl, char *args)
{
	static char stack[256 << 10] __attribute__((aligned(16)));
	pid_t first, again = 0;

	fflush(stdout);
	first = clone(connects_and_ends, stack + sizeof stack,
	              CLONE_VM | CLONE_FILES | CLONE_VFORK | SIGCHLD, cl);
	if (first < 0 || waitpid(first, NULL, 0) != first)
		die("clone");
	for (int tries = 0; tries < 1000 && again != first && next_number(first); tries++) {
		again = fork();
		if (again == 0) {
			if (getpid() == first)
				run_line(cl, args);
			exit(0);
		}
		waitpid(again, NULL, 0);
	}
	if (again != first)
		puts("no number");
}

static void cmd_adopt(struct client *cl, char *args)
{
	use_fd(cl, atoi(args));
	puts("ok");
}

static void cmd_descriptor(struct client *cl, char *args)
{
	(void)args;
	printf("%d\n", cl->c->fd);
}

static void cmd_nodoor(struct client *cl, char *args)
{
	(void)cl;
	(void)args;
	close(door_fd());
	puts("ok");
}

static void cmd_passpidfd(struct client *cl, char *args)
{
	int on = 1;

	(void)args;
	puts(setsockopt(cl->c->kept, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on) == 0 ? "ok" : "failed");
}

static void cmd_nocreds(struct client *cl, char *args)
{
	int off = 0;

	(void)args;
	puts(setsockopt(cl->c->kept, SOL_SOCKET, SO_PASSCRED, &off, sizeof off) == 0 ? "ok" : "failed");
}

static void cmd_encode(struct client *cl, char *args)
{
	const char *kind = strsep(&args, " ");
	struct tao_node *n = NULL;
	struct tao_buf b = TAO_BUF_INIT;

	(void)cl;
	if ((strcmp(kind, "form") == 0 ? tao_form_parse : strcmp(kind, "prin") == 0 ? tao_prin_parse
	     : tao_subprin_parse)(args, strlen(args), &n) != TAO_OK)
		die(tao_why());
	tao_node_encode(n, &b);
	print_hex(b.p, b.n);
	tao_node_free(n);
	tao_buf_free(&b);
}

static void cmd_decode(struct client *cl, char *args)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *n = NULL;
	char *text;

	(void)cl;
	put_hex(args, &b);
	if (tao_prin_decode(b.p, b.n, &n) != TAO_OK)
		die(tao_why());
	text = tao_node_text(n);
	puts(text);
	free(text);
	tao_node_free(n);
	tao_buf_free(&b);
}

static void verify(char *hex, int times)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_attested a;
	enum tao_err e;

	put_hex(hex, &b);
	e = tao_attestation_verify(b.p, b.n, TAO_NOW, NULL, &a);
	if (e != TAO_OK) {
		printf("err %d %s\n", (int)e, tao_why());
	} else if (times) {
		printf("%lld %lld\n", (long long)a.from, (long long)a.until);
	} else {
		char *root = tao_node_text(a.root), *speaker = tao_node_text(a.speaker);
		char *message = tao_node_text(a.message);

		printf("%s | %s | %s\n", root, speaker, message);
		free(root);
		free(speaker);
		free(message);
	}
	if (e == TAO_OK)
		tao_attested_clear(&a);
	tao_buf_free(&b);
}

static void cmd_verify(struct client *cl, char *args)
{
	(void)cl;
	verify(args, 0);
}

static void cmd_times(struct client *cl, char *args)
{
	(void)cl;
	verify(args, 1);
}

static void cmd_sleep(struct client *cl, char *args)
{
	long ms = strtol(args, NULL, 10);
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	(void)cl;
	fflush(stdout);
	nanosleep(&t, NULL);
	puts("ok");
}

static void cmd_pid(struct client *cl, char *args)
{
	(void)cl;
	(void)args;
	printf("%d\n", (int)getpid());
}

static void cmd_echo(struct client *cl, char *args)
{
	(void)cl;
	puts(args);
}

static const struct {
	const char *name;
	command_fn *fn;
} commands[] = {
	{ "use", cmd_use }, { "connect", cmd_connect }, { "door", cmd_door }, { "pair", cmd_pair },
	{ "hello", cmd_hello }, { "prove", cmd_prove }, { "provewith", cmd_provewith },
	{ "identify", cmd_identify },
	{ "call", cmd_call }, { "send", cmd_send }, { "recv", cmd_recv },
	{ "recvlen", cmd_recvlen },
	{ "bytewise", cmd_bytewise }, { "raw", cmd_raw }, { "flood", cmd_flood },
	{ "burst", cmd_burst }, { "fd", cmd_fd }, { "fds", cmd_fds }, { "doorsend", cmd_doorsend },
	{ "half", cmd_half }, { "shut", cmd_shut }, { "open", cmd_open },
	{ "opendoor", cmd_opendoor },
	{ "child", cmd_child }, { "fork", cmd_fork }, { "daemon", cmd_daemon },
	{ "exec", cmd_exec }, { "setuid", cmd_setuid }, { "orphan", cmd_orphan },
	{ "mapcode", cmd_mapcode }, { "traced", cmd_traced }, { "unlink", cmd_unlink },
	{ "rename", cmd_rename }, { "kill", cmd_kill }, { "tracer", cmd_tracer },
	{ "reuse", cmd_reuse },
	{ "adopt", cmd_adopt }, { "descriptor", cmd_descriptor }, { "nodoor", cmd_nodoor },
	{ "passpidfd", cmd_passpidfd }, { "nocreds", cmd_nocreds }, { "encode", cmd_encode },
	{ "decode", cmd_decode }, { "verify", cmd_verify }, { "times", cmd_times },
	{ "sleep", cmd_sleep }, { "pid", cmd_pid }, { "echo", cmd_echo },
};

static void run_line(struct client *cl, char *line)
{
	char *name = strsep(&line, " ");

	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].fn(cl, line != NULL ? line : (char *)"");
			fflush(stdout);
			return;
		}
	}
	die(name);
}

int main(int argc, char **argv)
{
	static char line[LINE_MAX_LEN];
	static struct client cl;

	if (argc < 2) {
		fprintf(stderr, "usage: rawclient SOCKET [COMMAND...]\n");
		return 2;
	}
	cl.path = argv[1];
	for (size_t i = 0; i < CONNS; i++) {
		cl.c = &cl.conns[i];
		use_fd(&cl, -1);
	}
	cl.c = &cl.conns[0];
	for (int i = 2; i < argc; i++)
		run_line(&cl, argv[i]);
	while (fgets(line, sizeof line, stdin) != NULL) {
		line[strcspn(line, "\n")] = 0;
		if (line[0] != 0)
			run_line(&cl, line);
	}
	return 0;
}
