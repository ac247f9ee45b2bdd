/* tao/client.h, one connection: what a host may do wrong, deadlines, descriptors. */
#include "tao/client.h"

#include <sys/stat.h>
#include <sys/time.h>

#include "badhost.h"

#define SOCK     "host"
#define SHORT_MS 150 /* a deadline that is meant to pass */
#define LONG_MS  10000
#define SLACK_MS 8000 /* by which a busy machine may be late; less than LONG_MS */

/* ---- behaviours ---- */

static int closes(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	(void)h, (void)fd, (void)m;
	return -1;
}

static int silent(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	(void)h, (void)fd, (void)m;
	return 0;
}

static int garbage(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	(void)h, (void)m;
	return badhost_send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
}

static int bad_header(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	(void)h, (void)m;
	return badhost_send(fd, "\0\0\0\2\xff\xff\0\0\0\0", 10);
}

static int wrong_seq(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	struct tao_rpc_msg other = *m;

	(void)h;
	other.seq++;
	return badhost_reply(fd, &other, "x", 1);
}

static int wrong_op(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	struct tao_rpc_msg other = *m;

	(void)h;
	other.op[0] ^= 1;
	return badhost_reply(fd, &other, "x", 1);
}

static int twice(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	struct tao_buf b = TAO_BUF_INIT;

	(void)h;
	tao_rpc_put_reply(&b, m->op, m->seq, "x", 1);
	tao_rpc_put_reply(&b, m->op, m->seq + 1, "y", 1);
	return badhost_send_buf(fd, &b);
}

static int huge(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	struct tao_buf b = TAO_BUF_INIT;

	(void)h;
	tao_rpc_put_reply(&b, m->op, m->seq, NULL, 0);
	b.n -= 4;
	tao_buf_u32(&b, TAO_RPC_MAX_REPLY + 1);
	return badhost_send_buf(fd, &b);
}

static int half(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	struct tao_buf b = TAO_BUF_INIT;

	(void)h;
	tao_rpc_put_reply(&b, m->op, m->seq, "answer", 6);
	b.n -= 3;
	badhost_send_buf(fd, &b);
	return -1;
}

static int denies(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	struct tao_buf b = TAO_BUF_INIT;

	(void)h;
	tao_rpc_put_error(&b, m->op, m->seq, TAO_EDENIED, "policy says no");
	return badhost_send_buf(fd, &b);
}

static int no_host_above(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	struct tao_buf b = TAO_BUF_INIT;

	(void)h;
	tao_rpc_put_error(&b, m->op, m->seq, TAO_ENOHOST, "the parent host is not running");
	return badhost_send_buf(fd, &b);
}

/* Answers properly, a byte at a time. */
static int in_pieces(struct badhost *h, int fd, const struct tao_rpc_msg *m, int pause_ms)
{
	struct tao_buf b = TAO_BUF_INIT;
	int r = 0;

	(void)h;
	tao_rpc_put_reply(&b, m->op, m->seq, m->body, m->body_n);
	for (size_t i = 0; i < b.n && r == 0; i++) {
		sleep_ms(pause_ms);
		r = badhost_send(fd, b.p + i, 1);
	}
	tao_buf_free(&b);
	return r;
}

static int pieces(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	return in_pieces(h, fd, m, 1);
}

static int slow_pieces(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	return in_pieces(h, fd, m, 20);
}

static int late(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	sleep_ms(2 * SHORT_MS);
	return badhost_good(h, fd, m);
}

/* ---- one call against each ---- */

static void connect_to(struct tao_conn *c, int timeout_ms)
{
	tao_conn_init(c);
	if (tao_conn_open(c, SOCK, timeout_ms) != TAO_OK)
		printf("# %s\n", tao_why());
}

static void one_call(badhost_fn *behave, enum tao_err want, int stays, const char *part,
                     const char *what)
{
	int before = count_fds();
	struct tao_buf reply = TAO_BUF_INIT;
	struct tao_conn c;
	struct badhost h;

	badhost_start(&h, SOCK, -1, behave);
	connect_to(&c, LONG_MS);
	ok_err(tao_conn_call(&c, "Test.Echo", "hello", 5, -1,
	                     want == TAO_ETIMEOUT ? SHORT_MS : LONG_MS, &reply, NULL, NULL), want,
	       "%s", what);
	if (want == TAO_OK)
		ok_str(tao_buf_cstr(&reply), "hello", "%s: the answer", what);
	else if (!ok(strstr(tao_why(), part) != NULL && reply.n == 0, "%s: the sentence", what))
		printf("# got: %s\n", tao_why());
	ok((c.fd >= 0) == stays, "%s: the connection %s", what, stays ? "stays" : "is closed");
	if (!stays)
		ok(tao_conn_call(&c, "Test.Echo", NULL, 0, -1, SHORT_MS, &reply, NULL, NULL) ==
		           TAO_ENOHOST &&
		       atomic_load(&h.requests) <= 1,
		   "%s: nothing more is sent", what);
	tao_conn_close(&c);
	badhost_stop(&h);
	tao_buf_free(&reply);
	ok(count_fds() == before, "%s: no descriptor is left", what);
}

static void answers(void)
{
	one_call(badhost_good, TAO_OK, 1, NULL, "a good answer");
	one_call(pieces, TAO_OK, 1, NULL, "an answer in pieces of one byte");
	one_call(NULL, TAO_ENOHOST, 0, "closed the connection", "closed at once");
	one_call(closes, TAO_ENOHOST, 0, "closed the connection", "closed without an answer");
	one_call(half, TAO_ENOHOST, 0, "closed the connection",
	         "closed in the middle of an answer");
	one_call(silent, TAO_ETIMEOUT, 0, "did not answer Test.Echo within 150 ms", "no answer");
	one_call(garbage, TAO_EPROTO, 0, "exceeds the limit", "another protocol");
	one_call(bad_header, TAO_EPROTO, 0, "malformed", "a malformed header");
	one_call(wrong_seq, TAO_EPROTO, 0, "another request", "the answer to another request");
	one_call(wrong_op, TAO_EPROTO, 0, "another request", "the answer to another operation");
	one_call(twice, TAO_EPROTO, 0, "more than one", "two answers at once");
	one_call(huge, TAO_EPROTO, 0, "exceeds the limit", "an answer longer than the limit");
	one_call(denies, TAO_EDENIED, 1, "policy says no", "an error");
	one_call(no_host_above, TAO_ENOHOST, 1, "parent", "an error that transport has, too");
}

/* A call never takes the answer of the one before. */
static void late_answer(void)
{
	struct tao_buf reply = TAO_BUF_INIT;
	struct tao_conn c;
	struct badhost h;

	badhost_start(&h, SOCK, -1, late);
	connect_to(&c, LONG_MS);
	ok_err(tao_conn_call(&c, "Test.Echo", "one", 3, -1, SHORT_MS, &reply, NULL, NULL),
	       TAO_ETIMEOUT, "an answer that is late");
	ok(c.fd < 0 && reply.n == 0, "closes the connection");
	ok_err(tao_conn_open(&c, SOCK, LONG_MS), TAO_OK, "which can be opened again");
	ok_err(tao_conn_call(&c, "Test.Echo", "two", 3, -1, LONG_MS, &reply, NULL, NULL), TAO_OK,
	       "and used");
	ok_str(tao_buf_cstr(&reply), "two", "with its own answer");
	tao_conn_close(&c);
	tao_buf_free(&reply);
	badhost_stop(&h);
}

static void sizes(void)
{
	static uint8_t body[TAO_RPC_MAX_REQUEST + 1];
	struct tao_buf reply = TAO_BUF_INIT;
	struct tao_conn c;
	struct badhost h;

	badhost_start(&h, SOCK, -1, badhost_good);
	connect_to(&c, LONG_MS);
	for (size_t i = 0; i < sizeof body; i++)
		body[i] = (uint8_t)(i * 31 >> 3);
	ok_err(tao_conn_call(&c, "Test.Echo", body, sizeof body, -1, LONG_MS, &reply, NULL, NULL),
	       TAO_ELIMIT, "a request longer than the limit is not sent");
	ok_err(
	    tao_conn_call(&c, "Test.Echo", body, sizeof body - 1, -1, LONG_MS, &reply, NULL, NULL),
	    TAO_OK, "one of the greatest length is");
	ok(reply.n == sizeof body - 1 && memcmp(reply.p, body, reply.n) == 0,
	   "and comes back whole");
	reply.max = reply.n + 2;
	ok_err(tao_conn_call(&c, "Test.Echo", "abc", 3, -1, LONG_MS, &reply, NULL, NULL),
	       TAO_ELIMIT, "an answer that the caller has no room for");
	tao_buf_reset(&reply);
	ok_err(tao_conn_call(&c, "Test.Echo", "abc", 3, -1, LONG_MS, &reply, NULL, NULL), TAO_OK,
	       "does not disturb the next call");
	ok_str(tao_buf_cstr(&reply), "abc", "which has its own answer");
	tao_buf_free(&reply);
	ok_err(tao_conn_call(&c, "Test.Echo", "abc", 3, -1, LONG_MS, NULL, NULL, NULL), TAO_OK,
	       "nor does one whose answer nobody wants");
	tao_conn_close(&c);
	badhost_stop(&h);
}

/* What was sealed or unsealed does not stay in the connection's buffers. */
static void wiping(void)
{
	static const char secret[] = "correct horse battery staple";
	struct tao_buf reply = TAO_BUF_INIT;
	struct tao_conn c;
	struct badhost h;

	badhost_start(&h, SOCK, -1, badhost_good);
	connect_to(&c, LONG_MS);
	ok_err(
	    tao_conn_call(&c, "Test.Echo", secret, sizeof secret, -1, LONG_MS, &reply, NULL, NULL),
	    TAO_OK, "a secret goes there and back");
	ok(c.out.cap > 0 && memmem(c.out.p, c.out.cap, secret, 8) == NULL, "the request is wiped");
	ok(c.in.cap > 0 && memmem(c.in.p, c.in.cap, secret, 8) == NULL, "the answer is wiped");
	ok(memmem(reply.p, reply.n, secret, 8) != NULL, "the caller has it");
	tao_buf_free(&reply);
	tao_conn_close(&c);
	badhost_stop(&h);
}

/* ---- deadlines ---- */

/* A call's own deadline counts, not that of the opening. */
static void deadlines(badhost_fn *behave, int open_ms, int call_ms, enum tao_err want, int least,
                      const char *what)
{
	struct tao_conn c;
	struct badhost h;
	int64_t start;

	badhost_start(&h, SOCK, -1, behave);
	connect_to(&c, open_ms);
	start = clock_ms();
	ok_err(tao_conn_call(&c, "Test.Echo", "x", 1, -1, call_ms, NULL, NULL, NULL), want, "%s",
	       what);
	ok_time(start, least - 5, least + SLACK_MS, what);
	tao_conn_close(&c);
	badhost_stop(&h);
}

static int slow_greeting(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	sleep_ms(SHORT_MS * 3 / 4);
	return badhost_good(h, fd, m);
}

/* The least time that a call with very little of it takes: others may be a busy machine's. */
static void shortest(void)
{
	int best = LONG_MS;

	for (int i = 0; i < 10; i++) {
		struct tao_conn c;
		struct badhost h;
		int64_t start;

		badhost_start(&h, SOCK, -1, silent);
		connect_to(&c, LONG_MS);
		start = clock_ms();
		tao_conn_call(&c, "Test.Echo", "x", 1, -1, 10, NULL, NULL, NULL);
		if (clock_ms() - start < best)
			best = (int)(clock_ms() - start);
		tao_conn_close(&c);
		badhost_stop(&h);
	}
	ok(best >= 9 && best < 30, "a call with 10 ms takes %d ms", best);
}

/* Greeting and proof share one deadline. */
static void identify_deadline(void)
{
	struct tao_conn c;
	struct badhost h;
	int64_t start;

	badhost_start(&h, SOCK, -1, slow_greeting);
	connect_to(&c, LONG_MS);
	start = clock_ms();
	ok_err(tao_conn_identify(&c, SHORT_MS, NULL), TAO_ETIMEOUT, "a slow greeting and proof");
	ok_time(start, SHORT_MS - 5, SHORT_MS + SLACK_MS, "a slow greeting and proof");
	ok(c.fd < 0, "close the connection");
	tao_conn_close(&c);
	badhost_stop(&h);
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void alarms(int every_ms)
{
	struct itimerval t = { { 0, every_ms * 1000 }, { 0, every_ms * 1000 } };
	struct sigaction a = { .sa_handler = on_alarm }; /* no SA_RESTART */

	sigaction(SIGALRM, &a, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
}

/* A host that listens but neither accepts nor reads. */
static void stuck_host(const char *what)
{
	static uint8_t body[TAO_RPC_MAX_REQUEST];
	struct sockaddr_un at;
	struct tao_conn c, second;
	int fd = listen_on(&at, SOCK, 0);
	int64_t start;

	connect_to(&c, LONG_MS);
	tao_conn_init(&second);
	start = clock_ms();
	ok_err(tao_conn_call(&c, "Test.Echo", body, sizeof body, -1, SHORT_MS, NULL, NULL, NULL),
	       TAO_ETIMEOUT, "%s: a request that nobody reads", what);
	ok_time(start, SHORT_MS - 5, SHORT_MS + SLACK_MS, what);
	start = clock_ms(); /* that one was closed, but still is in the queue */
	ok_err(tao_conn_open(&second, SOCK, SHORT_MS), TAO_ETIMEOUT, "%s: a full queue", what);
	ok(strstr(tao_why(), "accepts no connection") != NULL, "%s: the sentence", what);
	ok_time(start, SHORT_MS - 5, SHORT_MS + SLACK_MS, what);
	start = clock_ms();
	ok_err(tao_conn_open(&second, SOCK, 0), TAO_ETIMEOUT, "%s: with no time at all", what);
	ok_err(tao_conn_open(&second, SOCK, -5), TAO_ETIMEOUT, "%s: or less", what);
	ok_time(start, 0, SLACK_MS, what);
	ok(second.fd < 0, "%s: no connection", what);
	tao_conn_close(&c);
	tao_conn_close(&second);
	close(fd);
	unlink(SOCK);
}

static void all_deadlines(const char *what)
{
	int before = count_fds();

	deadlines(silent, LONG_MS, SHORT_MS, TAO_ETIMEOUT, SHORT_MS,
	          "a short call after a long opening");
	deadlines(silent, LONG_MS, 10, TAO_ETIMEOUT, 10, "a very short call");
	shortest();
	deadlines(silent, LONG_MS, 0, TAO_ETIMEOUT, 0, "a call with no time");
	deadlines(late, SHORT_MS, LONG_MS, TAO_OK, 2 * SHORT_MS,
	          "a long call after a short opening");
	deadlines(slow_pieces, LONG_MS, SHORT_MS, TAO_ETIMEOUT, SHORT_MS,
	          "an answer that trickles");
	identify_deadline();
	stuck_host(what);
	ok(count_fds() == before, "%s: no descriptor is left", what);
}

/* ---- descriptors ---- */

/* Sends bytes with some descriptors. */
static int send_fds(struct badhost *h, int fd, const void *p, size_t len, size_t n)
{
	union {
		char space[CMSG_SPACE(10 * sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct iovec iov = { (void *)p, len };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = &control,
		            .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = &control.align;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	for (size_t i = 0; i < n; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &h->stop[0], sizeof(int));
	return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

/* Answers with some descriptors: the body says how many; behind that, "-"
 * makes it an error, "+" sends as many again with the rest of the answer. */
static int with_fds(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	size_t n = m->body[0] - (size_t)'0', first;
	char how = m->body_n > 1 ? (char)m->body[1] : 0;
	struct tao_buf b = TAO_BUF_INIT;
	int r;

	if (how == '-')
		tao_rpc_put_error(&b, m->op, m->seq, TAO_EDENIED, "no");
	else
		tao_rpc_put_reply(&b, m->op, m->seq, "ok", 2);
	first = how == '+' ? b.n / 2 : b.n;
	r = send_fds(h, fd, b.p, first, n);
	if (r == 0 && first < b.n)
		r = send_fds(h, fd, b.p + first, b.n - first, n);
	tao_buf_free(&b);
	return r;
}

static void descriptors_of(struct tao_conn *c, const char *body, size_t want, enum tao_err e)
{
	int fds[TAO_CALL_MAX_FDS + 1] = { -7, -7, -7 }, cloexec = 1, before = count_fds();
	size_t n_fds = 77;

	ok_err(tao_conn_call(c, "Test.Fds", body, strlen(body), -1, LONG_MS, NULL, fds, &n_fds), e,
	       "an answer with descriptors: %s", body);
	ok(n_fds == want && fds[TAO_CALL_MAX_FDS] == -7, "%zu come with it", want);
	ok(count_fds() == before + (int)want, "and no others");
	for (size_t i = 0; i < n_fds && n_fds == want; i++) {
		cloexec &= (fcntl(fds[i], F_GETFD) & FD_CLOEXEC) != 0;
		close(fds[i]);
	}
	ok(cloexec, "close-on-exec");
	ok_err(tao_conn_call(c, "Test.Fds", body, strlen(body), -1, LONG_MS, NULL, NULL, NULL), e,
	       "the same, unwanted");
	ok(count_fds() == before, "they are closed");
}

static int takes_fd(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	if (h->passed < 0 || write(h->passed, "!", 1) != 1)
		return -1;
	return badhost_good(h, fd, m);
}

static void sends_descriptor(void)
{
	static uint8_t body[TAO_RPC_MAX_REQUEST]; /* more than goes at once */
	struct tao_conn c;
	struct badhost h;
	int ends[2];
	char byte = 0;

	badhost_start(&h, SOCK, -1, takes_fd);
	connect_to(&c, LONG_MS);
	if (pipe2(ends, O_CLOEXEC) != 0)
		exit(1);
	ok_err(
	    tao_conn_call(&c, "Test.Write", body, sizeof body, ends[1], LONG_MS, NULL, NULL, NULL),
	    TAO_OK, "a request with a descriptor");
	ok(fcntl(ends[1], F_GETFD) >= 0, "which stays the caller's");
	close(ends[1]);
	ok(read(ends[0], &byte, 1) == 1 && byte == '!', "the host had it");
	ok(read(ends[0], &byte, 1) == 0 && atomic_load(&h.extra) == 0, "once");
	close(ends[0]);
	tao_conn_close(&c);
	badhost_stop(&h);
}

static void descriptors(void)
{
	int before = count_fds();
	size_t n_fds = 77;
	struct tao_conn c;
	struct badhost h;

	badhost_start(&h, SOCK, -1, with_fds);
	connect_to(&c, LONG_MS);
	ok_err(tao_conn_call(&c, "Test.Fds", "0", 1, -1, LONG_MS, NULL, NULL, NULL), TAO_OK,
	       "an answer without descriptors"); /* the host has accepted by now */
	descriptors_of(&c, "1", 1, TAO_OK);
	descriptors_of(&c, "2", 2, TAO_OK);
	descriptors_of(&c, "3", 2, TAO_OK);
	descriptors_of(&c, "9", 2, TAO_OK);
	descriptors_of(&c, "1+", 2, TAO_OK);
	descriptors_of(&c, "2+", 2, TAO_OK);
	descriptors_of(&c, "2-", 0, TAO_EDENIED);
	tao_conn_close(&c);
	badhost_stop(&h);
	ok(tao_conn_call(&c, "Test.Fds", NULL, 0, -1, 10, NULL, NULL, &n_fds) == TAO_ENOHOST &&
	       n_fds == 0,
	   "no connection, no descriptors");
	sends_descriptor();
	ok(count_fds() == before, "no descriptor is left");
}

/* The number of a connection that the program closed may be another file by now. */
static void foreign_descriptor(void)
{
	struct tao_conn c;
	struct badhost h;
	int fd;

	badhost_start(&h, SOCK, -1, badhost_good);
	connect_to(&c, LONG_MS);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(fd, c.fd);
	close(fd);
	fd = c.fd;
	tao_conn_close(&c);
	ok(fcntl(fd, F_GETFD) >= 0 && c.fd < 0, "closing does not close another's descriptor");
	close(fd);
	badhost_stop(&h);
}

/* ---- greeting ---- */

static int answers_with(int fd, const struct tao_rpc_msg *m, const char *op, const char *body,
                        size_t n)
{
	return strcmp(m->op, op) == 0 ? badhost_reply(fd, m, body, n) : badhost_good(NULL, fd, m);
}

static int hello_empty(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	(void)h;
	return answers_with(fd, m, "Tao.Hello", "", 0);
}

static int hello_short(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	(void)h;
	return answers_with(fd, m, "Tao.Hello",
	                    "\x0a\x03"
	                    "abc\x12\x01h",
	                    8);
}

static int hello_long(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	char body[2 + 100 + 3] = { 0x0a, 100, [102] = 0x12, 1, 'h' };

	(void)h;
	return answers_with(fd, m, "Tao.Hello", body, sizeof body);
}

static int hello_only(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	return strcmp(m->op, "Tao.Hello") == 0 ? badhost_good(h, fd, m) : -1;
}

static int hello_then_closed(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	badhost_good(h, fd, m);
	return -1;
}

static int prove_bad(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	(void)h;
	return answers_with(fd, m, "Tao.Prove", "\x0a\x09me", 4);
}

static int prove_denied(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	return strcmp(m->op, "Tao.Prove") == 0 ? denies(h, fd, m) : badhost_good(h, fd, m);
}

static void identify(void)
{
	static const struct {
		badhost_fn *fn;
		enum tao_err want;
		const char *what;
	} cases[] = {
		{ badhost_good, TAO_OK, "a host that names the program" },
		{ hello_empty, TAO_EPROTO, "an empty greeting" },
		{ hello_short, TAO_EPROTO, "a short challenge" },
		{ hello_long, TAO_EPROTO, "a long challenge" },
		{ hello_only, TAO_ENOHOST, "a host that closes at the proof" },
		{ hello_then_closed, TAO_ENOHOST, "a host that closes after its greeting" },
		{ prove_bad, TAO_EPROTO, "a malformed answer to the proof" },
		{ prove_denied, TAO_EDENIED, "a refusal" },
		{ silent, TAO_ETIMEOUT, "no greeting" },
	};
	int before = count_fds();

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tao_buf name = TAO_BUF_INIT;
		enum tao_err want = cases[i].want;
		struct tao_conn c;
		struct badhost h;

		badhost_start(&h, SOCK, -1, cases[i].fn);
		connect_to(&c, LONG_MS);
		ok_err(tao_conn_identify(&c, SHORT_MS, &name), want, "%s", cases[i].what);
		ok_str(tao_buf_cstr(&name), want == TAO_OK ? "me" : "", "the name");
		ok((c.fd >= 0) == (want == TAO_OK), "the connection");
		tao_buf_free(&name);
		tao_conn_close(&c);
		badhost_stop(&h);
	}
	ok(count_fds() == before, "no descriptor is left");
}

/* ---- paths ---- */

static enum tao_err try_path(const char *path)
{
	struct tao_conn c;
	enum tao_err e;

	tao_conn_init(&c);
	e = tao_conn_open(&c, path, SHORT_MS);
	tao_conn_close(&c);
	return e;
}

static void paths(void)
{
	char longest[TAO_SOCKET_PATH_MAX + 2];
	int before = count_fds();
	struct sockaddr_un at;
	struct badhost h;

	ok_err(try_path("missing"), TAO_ENOHOST, "a socket that is missing");
	ok(strstr(tao_why(), "'tao up'") != NULL && strstr(tao_why(), "missing") != NULL,
	   "the sentence says what to do, and where");
	ok_err(try_path("no/such/folder"), TAO_ENOHOST, "a folder that is missing");
	close(open("file", O_CREAT | O_WRONLY, 0600));
	ok_err(try_path("file"), TAO_ENOHOST, "a file");
	ok_err(try_path("file/socket"), TAO_ENOHOST, "a file in the place of the folder");
	unlink("file");
	close(listen_on(&at, SOCK, 1));
	ok_err(try_path(SOCK), TAO_ENOHOST, "a socket that a host left behind");
	unlink(SOCK);
	memset(longest, 'x', sizeof longest);
	longest[TAO_SOCKET_PATH_MAX + 1] = 0;
	ok_err(try_path(longest), TAO_ELIMIT, "a path that is too long");
	longest[TAO_SOCKET_PATH_MAX] = 0;
	badhost_start(&h, longest, -1, badhost_good);
	ok_err(try_path(longest), TAO_OK, "the longest path");
	badhost_stop(&h);
	ok(count_fds() == before, "no descriptor is left");
}

/* As another user, who may not write to the socket, or not enter its folder. */
static void permissions(const char *what, mode_t folder, mode_t sock)
{
	struct badhost h;
	pid_t pid;

	if (mkdir("folder", 0700) != 0)
		exit(1);
	badhost_start(&h, "folder/" SOCK, -1, badhost_good);
	chmod("folder/" SOCK, sock);
	chmod("folder", folder);
	pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
			_exit(2);
		_exit(try_path("folder/" SOCK) != TAO_EPERM ||
		      strstr(tao_why(), "this user") == NULL);
	}
	ok(wait_child(pid) == 0, "%s", what);
	chmod("folder", 0700);
	badhost_stop(&h);
	rmdir("folder");
}

int main(void)
{
	char dir[] = "t_client.XXXXXX";

	if (mkdtemp(dir) == NULL || chdir(dir) != 0)
		return 1;
	answers();
	late_answer();
	sizes();
	wiping();
	descriptors();
	foreign_descriptor();
	identify();
	paths();
	permissions("a socket that this user may not write to", 0755, 0000);
	permissions("a folder that this user may not enter", 0000, 0777);
	all_deadlines("undisturbed");
	alarms(7);
	all_deadlines("with signals");
	answers();
	alarms(0);
	return chdir("..") != 0 || rmdir(dir) != 0 ? 1 : done();
}
