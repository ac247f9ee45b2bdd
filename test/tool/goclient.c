/*
 * goclient: what a program built against CloudProxy's client library does on its
 * channel, written from the description of its messages alone: nothing of this
 * project is in it, so that both sides cannot be wrong in the same way. It is as
 * strict about replies as that library (go/tao/rpc.go): data or policy that is
 * not wanted, or is missing or empty where it is wanted, is "malformed".
 *
 *   goclient [SCRIPT]
 *
 * Where the host is, the environment tells: channel type unix, and a path. Sequence numbers
 * start at 0. Commands are lines of the script, or of standard input, and print one line each: "ok"
 * and what came, or "err SENTENCE", "malformed WHY", "closed". HEX may be "-" for nothing.
 *
 *   connect             (again); the first command that needs the host does it by itself
 *   keep                this connection is descriptor 9, also after exec
 *   name | extend HEX | random N | secret N POLICY | attest ISSUER FORM [TIME EXPIRATION]
 *   seal POLICY HEX | unseal HEX | init LABEL N | counter LABEL
 *   rseal LABEL POLICY HEX | runseal HEX
 *   op NAME             some operation, without a body
 *   many N              N requests for random bytes, each of its own length, in one write; their
 *                       replies in whatever order, found by their numbers
 *   mixed N             the same, every other one for a counter "mixed", which is slow to make
 *   pieces              GetTaoName, byte by byte
 *   raw HEX             these bytes; "open" if the host keeps the connection, after half a second
 *   env                 what the environment says
 *   fork COMMAND...     in a child, on this connection; anew COMMAND... in a child, on one of its
 * own
 *   adopt               descriptor 9 is the connection
 *   run PROGRAM SCRIPT  executes it in a child, and waits for its end
 *   exec PROGRAM SCRIPT executes it: goclient again, on a connection of its own
 *   ask                 sends GetTaoName, and reads no answer; answer: reads one
 *   daemon              goes on in a grandchild; the process itself ends
 *   wait FILE           until there is that file
 *   say TEXT            prints that
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_MESSAGE (20u << 20) /* bytes: the library's limit */
#define MAX_MANY 2000
#define LINE_LEN (4 << 20)
#define ANSWER_MS 20000
#define QUIET_MS 500 /* a host that is going to close a connection has done so */
#define POLL_US 20000
#define HANDED 9

static int sock = -1;
static uint64_t seq;

struct bytes {
	uint8_t *p;
	size_t n;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "goclient: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- writing: varints and fields by hand ---- */

static void put(struct bytes *b, const void *p, size_t n)
{
	b->p = realloc(b->p, b->n + n + 1);
	if (b->p == NULL)
		die("memory");
	if (n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void put_byte(struct bytes *b, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	put(b, &byte, 1);
}

static void put_varint(struct bytes *b, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		put_byte(b, (unsigned)(v & 0x7f) | 0x80);
	put_byte(b, (unsigned)v);
}

static void put_number(struct bytes *b, unsigned field, int64_t v)
{
	put_byte(b, field << 3);
	put_varint(b, (uint64_t)v);
}

static void put_bytes(struct bytes *b, unsigned field, const void *p, size_t n)
{
	put_byte(b, field << 3 | 2);
	put_varint(b, n);
	put(b, p, n);
}

static void put_text(struct bytes *b, unsigned field, const char *text)
{
	put_bytes(b, field, text, strlen(text));
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at = c != 0 ? strchr(digits, c) : NULL;

	if (at == NULL)
		die("hex");
	return (int)(at - digits);
}

static struct bytes unhex(const char *hex)
{
	struct bytes b = { NULL, 0 };

	if (hex == NULL)
		die("an argument is missing");
	for (; strcmp(hex, "-") != 0 && *hex != 0; hex += 2)
		put_byte(&b, (unsigned)(hex_digit(hex[0]) << 4 | hex_digit(hex[1])));
	return b;
}

static void put_hex_field(struct bytes *b, unsigned field, const char *hex)
{
	struct bytes v = unhex(hex);

	put_bytes(b, field, v.p, v.n);
	free(v.p);
}

static void put_frame(struct bytes *b, const struct bytes *m)
{
	uint8_t n[4] = { (uint8_t)(m->n >> 24), (uint8_t)(m->n >> 16), (uint8_t)(m->n >> 8),
		         (uint8_t)m->n };

	put(b, n, sizeof n);
	put(b, m->p, m->n);
}

static void put_request(struct bytes *b, const char *op, uint64_t number, const struct bytes *body)
{
	struct bytes head = { NULL, 0 };

	put_text(&head, 1, op);
	put_number(&head, 2, (int64_t)number);
	put_frame(b, &head);
	put_frame(b, body);
	free(head.p);
}

/* ---- the connection ---- */

static const char *setting(const char *name)
{
	const char *v = getenv(name);

	return v != NULL ? v : "";
}

static void reach_host(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	if (strcmp(setting("CLOUDPROXY_TAO_HOST_CHANNEL_TYPE"), "unix") != 0)
		die("the channel type is not unix");
	snprintf(at.sun_path, sizeof at.sun_path, "%s", setting("CLOUDPROXY_TAO_HOST_SPEC"));
	if (sock >= 0)
		close(sock);
	seq = 0;
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(sock, (struct sockaddr *)&at, sizeof at) != 0)
		printf("no connection: %s\n", strerror(errno));
}

/* The library writes header and body one after the other. 0: the host has hung up. */
static int send_all(const struct bytes *b)
{
	size_t done = 0;

	if (sock < 0)
		reach_host();
	while (done < b->n) {
		ssize_t n = send(sock, b->p + done, b->n - done, MSG_NOSIGNAL);

		if (n <= 0)
			return 0;
		done += (size_t)n;
	}
	return 1;
}

/* ---- reading ---- */

/* 0: closed. */
static int receive(void *to, size_t n)
{
	uint8_t *p = to;

	while (n > 0) {
		struct pollfd ready = { sock, POLLIN, 0 };
		ssize_t got;

		if (poll(&ready, 1, ANSWER_MS) <= 0)
			die("no answer");
		got = recv(sock, p, n, 0);
		if (got <= 0)
			return 0;
		p += got;
		n -= (size_t)got;
	}
	return 1;
}

static int receive_frame(struct bytes *m)
{
	uint8_t n[4];

	m->p = NULL;
	m->n = 0;
	if (!receive(n, sizeof n))
		return 0;
	m->n = (size_t)n[0] << 24 | (size_t)n[1] << 16 | (size_t)n[2] << 8 | n[3];
	if (m->n > MAX_MESSAGE)
		die("a message of the host is too long");
	m->p = calloc(1, m->n + 1);
	if (m->p == NULL)
		die("memory");
	return receive(m->p, m->n);
}

struct field {
	unsigned number, type;
	uint64_t v;       /* type 0; length of type 2 */
	const uint8_t *p; /* type 2 */
};

static int get_varint(const struct bytes *m, size_t *at, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; shift < 64 && *at < m->n; shift += 7) {
		uint8_t byte = m->p[(*at)++];

		*v |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return 1;
	}
	return 0;
}

/* 1: a field; 0: the end; -1: no protocol buffer. Fixed types are skipped by their length. */
static int get_field(const struct bytes *m, size_t *at, struct field *f)
{
	uint64_t key;

	if (*at == m->n)
		return 0;
	if (!get_varint(m, at, &key))
		return -1;
	f->number = (unsigned)(key >> 3);
	f->type = key & 7;
	f->p = m->p + *at;
	f->v = f->type == 1 ? 8 : 4;
	if (f->type != 1 && f->type != 5 && !get_varint(m, at, &f->v))
		return -1;
	if (f->type == 0)
		return 1;
	f->p = m->p + *at;
	if (f->type > 5 || f->type == 3 || f->type == 4 || f->v > m->n - *at)
		return -1;
	*at += f->v;
	return 1;
}

struct reply {
	struct bytes head, body;
	char op[64], *error;     /* error: NULL for success */
	uint64_t seq;
	const uint8_t *data;
	size_t data_n;
	int has_op, has_seq, has_data, has_policy, has_counter;
	char policy[64];
	int64_t counter;
};

static void reply_free(struct reply *r)
{
	free(r->head.p);
	free(r->body.p);
	free(r->error);
}

static void copy_text(char *to, size_t size, const struct field *f)
{
	snprintf(to, size, "%.*s", (int)f->v, (const char *)f->p);
}

static const char *parse_head(struct reply *r)
{
	struct field f;
	size_t at = 0;
	int more;

	while ((more = get_field(&r->head, &at, &f)) == 1) {
		if (f.number == 1 && f.type == 2) {
			r->has_op = 1;
			copy_text(r->op, sizeof r->op, &f);
		} else if (f.number == 2 && f.type == 0) {
			r->has_seq = 1;
			r->seq = f.v;
		} else if (f.number == 3 && f.type == 2) {
			r->error = strndup((const char *)f.p, f.v);
		} else if (f.number <= 3) {
			return "a field of the header has another type";
		}
	}
	return more < 0 || !r->has_op || !r->has_seq ? "the header" : NULL;
}

static const char *parse_body(struct reply *r)
{
	struct field f;
	size_t at = 0;
	int more;

	while ((more = get_field(&r->body, &at, &f)) == 1) {
		if (f.number == 1 && f.type == 2) {
			r->has_data = 1;
			r->data = f.p;
			r->data_n = f.v;
		} else if (f.number == 2 && f.type == 2) {
			r->has_policy = 1;
			copy_text(r->policy, sizeof r->policy, &f);
		} else if (f.number == 3 && f.type == 0) {
			r->has_counter = 1;
			r->counter = (int64_t)f.v;
		} else if (f.number <= 3) {
			return "a field of the body has another type";
		}
	}
	return more < 0 ? "the body" : NULL;
}

#define WANT_NOTHING 0
#define WANT_DATA 1
#define WANT_POLICY 2
#define WANT_COUNTER 4

static const char *check(const struct reply *r, int want)
{
	if (r->error != NULL)
		return r->body.n > 0 ? "an error with a body" : NULL;
	if (r->has_data != ((want & WANT_DATA) != 0))
		return r->has_data ? "data" : "no data";
	if (r->has_data && r->data_n == 0)
		return "empty data";
	if (r->has_policy != ((want & WANT_POLICY) != 0))
		return r->has_policy ? "a policy" : "no policy";
	/* The library does not look at it elsewhere. */
	if (want == WANT_COUNTER && !r->has_counter)
		return "no counter";
	return NULL;
}

/* 0: closed. *wrong: why it is malformed, or NULL. */
static int receive_reply(struct reply *r, const char **wrong)
{
	memset(r, 0, sizeof *r);
	*wrong = NULL;
	if (!receive_frame(&r->head) || !receive_frame(&r->body))
		return 0;
	*wrong = parse_head(r);
	if (*wrong == NULL && r->error == NULL)
		*wrong = parse_body(r);
	return 1;
}

static void show(const struct reply *r)
{
	printf("ok");
	if (r->has_data) {
		putchar(' ');
		for (size_t i = 0; i < r->data_n; i++)
			printf("%02x", r->data[i]);
	}
	if (r->has_policy)
		printf(" %s", r->policy);
	if (r->has_counter)
		printf(" %lld", (long long)r->counter);
	putchar('\n');
}

static void answer(const char *op, uint64_t number, int want)
{
	struct reply r;
	const char *wrong;

	if (!receive_reply(&r, &wrong)) {
		puts("closed");
		reply_free(&r);
		return;
	}
	if (wrong == NULL && (strcmp(r.op, op) != 0 || r.seq != number))
		wrong = "a reply to something else";
	if (wrong == NULL)
		wrong = check(&r, want);
	if (wrong != NULL)
		printf("malformed %s\n", wrong);
	else if (r.error != NULL)
		printf("err %s\n", r.error);
	else
		show(&r);
	reply_free(&r);
}

static void call(const char *op, struct bytes *body, int want)
{
	struct bytes b = { NULL, 0 };

	put_request(&b, op, seq, body);
	if (send_all(&b))
		answer(op, seq, want);
	else
		puts("closed");
	seq++;
	free(b.p);
	free(body->p);
}

/* ---- commands ---- */

static char *word(char **rest)
{
	char *w = strsep(rest, " ");

	return w != NULL && *w == 0 ? word(rest) : w;
}

static const char *need(char **rest)
{
	const char *w = word(rest);

	if (w == NULL)
		die("an argument is missing");
	return w;
}

static int64_t need_number(char **rest)
{
	return strtoll(need(rest), NULL, 10);
}

static void attest(char **rest)
{
	struct bytes b = { NULL, 0 };
	const char *issuer = need(rest), *form = need(rest), *time = word(rest);

	put_hex_field(&b, 1, form);
	if (time != NULL) {
		put_number(&b, 4, strtoll(time, NULL, 10));
		put_number(&b, 5, need_number(rest));
	}
	if (strcmp(issuer, "-") != 0)
		put_hex_field(&b, 6, issuer);
	call("Tao.Attest", &b, WANT_DATA);
}

static void secret(char **rest)
{
	struct bytes b = { NULL, 0 };

	put_number(&b, 2, need_number(rest));
	put_text(&b, 3, need(rest));
	call("Tao.GetSharedSecret", &b, WANT_DATA);
}

/* data and policy, and perhaps label. */
static void seal(char **rest, const char *op, int labelled)
{
	struct bytes b = { NULL, 0 };
	const char *label = labelled ? need(rest) : NULL, *policy = need(rest);

	put_hex_field(&b, 1, need(rest));
	put_text(&b, 3, policy);
	if (label != NULL)
		put_text(&b, 7, label);
	call(op, &b, WANT_DATA);
}

static void with_data(char **rest, const char *op, int want)
{
	struct bytes b = { NULL, 0 };

	put_hex_field(&b, 1, need(rest));
	call(op, &b, want);
}

static void counter(char **rest, int init)
{
	struct bytes b = { NULL, 0 };

	put_text(&b, 7, need(rest));
	if (init)
		put_number(&b, 8, need_number(rest));
	call(init ? "Tao.InitCounter" : "Tao.GetCounter", &b, init ? WANT_NOTHING : WANT_COUNTER);
}

static void random_bytes(char **rest)
{
	struct bytes b = { NULL, 0 };

	put_number(&b, 2, need_number(rest));
	call("Tao.GetRandomBytes", &b, WANT_DATA);
}

/* Requests with numbers from seq on; the I-th one for I + 1 random bytes, or a counter. */
static void put_many(struct bytes *b, long n, int mixed)
{
	for (long i = 0; i < n; i++) {
		struct bytes body = { NULL, 0 };
		int slow = mixed && i % 2 == 1;

		if (slow) {
			put_text(&body, 7, "mixed");
			put_number(&body, 8, i);
		} else {
			put_number(&body, 2, i + 1);
		}
		put_request(b, slow ? "Tao.InitCounter" : "Tao.GetRandomBytes", seq + (uint64_t)i,
		            &body);
		free(body.p);
	}
}

static const char *check_one_of_many(const struct reply *r, long n, int mixed, char *seen)
{
	uint64_t i = r->seq - seq;
	int slow = mixed && i % 2 == 1;

	if (i >= (uint64_t)n || seen[i])
		return "a number that was not asked with, or twice";
	seen[i] = 1;
	if (r->error != NULL)
		return r->error;
	if (strcmp(r->op, slow ? "Tao.InitCounter" : "Tao.GetRandomBytes") != 0)
		return "another operation";
	if (!slow && r->data_n != i + 1)
		return "the data of another request";
	return check(r, slow ? WANT_NOTHING : WANT_DATA);
}

static void many(long n, int mixed)
{
	struct bytes b = { NULL, 0 };
	char seen[MAX_MANY] = "";
	const char *wrong = NULL;
	long got = 0;

	if (n <= 0 || n > MAX_MANY)
		die("many");
	put_many(&b, n, mixed);
	for (int open = send_all(&b); open && wrong == NULL && got < n; ) {
		struct reply r;

		open = receive_reply(&r, &wrong);
		if (open && wrong == NULL)
			wrong = check_one_of_many(&r, n, mixed, seen);
		if (wrong != NULL)
			printf("malformed %s\n", wrong);
		got += open && wrong == NULL;
		reply_free(&r);
	}
	if (wrong == NULL)
		printf("ok %ld\n", got);
	seq += (uint64_t)n;
	free(b.p);
}

static void pieces(void)
{
	struct bytes b = { NULL, 0 }, none = { NULL, 0 };

	put_request(&b, "Tao.GetTaoName", seq, &none);
	for (size_t i = 0; i < b.n; i++) {
		struct bytes one = { b.p + i, 1 };

		if (!send_all(&one))
			break;
	}
	answer("Tao.GetTaoName", seq++, WANT_DATA);
	free(b.p);
}

static void raw(const char *hex)
{
	struct bytes b = unhex(hex);
	struct pollfd p = { .events = POLLIN };
	char byte;
	int there = send_all(&b);

	p.fd = sock;
	there = there && (poll(&p, 1, QUIET_MS) == 0 || recv(sock, &byte, 1, 0) > 0);
	puts(there ? "open" : "closed");
	free(b.p);
}

static void env(void)
{
	static const char *const names[] = {
		"CLOUDPROXY_TAO_HOST_CHANNEL_TYPE", "CLOUDPROXY_TAO_HOST_SPEC",
		"CLOUDPROXY_TAO_HOST_TYPE", "CLOUDPROXY_TAO_HOSTED_TYPE", "TAO_DOMAIN",
	};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		printf("%s%s=%s", i > 0 ? " " : "", names[i], setting(names[i]));
	putchar('\n');
}

static void ask(void)
{
	struct bytes b = { NULL, 0 }, none = { NULL, 0 };

	put_request(&b, "Tao.GetTaoName", seq, &none);
	puts(send_all(&b) ? "asked" : "closed");
	free(b.p);
}

static void become(char **rest)
{
	const char *program = need(rest);

	fflush(stdout);
	execl(program, program, word(rest), (char *)NULL);
	die(program);
}

static void run(char **rest)
{
	fflush(stdout);
	if (fork() == 0)
		become(rest);
	wait(NULL);
	puts("ran");
}

static void daemonize(void)
{
	fflush(stdout);
	if (fork() != 0)
		_exit(0);
	setsid();
	if (fork() != 0)
		_exit(0);
	puts("daemon");
}

static void wait_for_file(const char *path)
{
	while (access(path, F_OK) != 0)
		usleep(POLL_US);
	puts("there");
}

static void command(char *line);

static void in_child(char *rest, int anew)
{
	fflush(stdout);
	if (fork() == 0) {
		if (anew)
			reach_host();
		command(rest);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
}

static int operation(const char *what, char **rest)
{
	struct bytes none = { NULL, 0 };

	if (strcmp(what, "name") == 0)
		call("Tao.GetTaoName", &none, WANT_DATA);
	else if (strcmp(what, "extend") == 0)
		with_data(rest, "Tao.ExtendTaoName", WANT_NOTHING);
	else if (strcmp(what, "random") == 0)
		random_bytes(rest);
	else if (strcmp(what, "secret") == 0)
		secret(rest);
	else if (strcmp(what, "attest") == 0)
		attest(rest);
	else if (strcmp(what, "seal") == 0)
		seal(rest, "Tao.Seal", 0);
	else if (strcmp(what, "unseal") == 0)
		with_data(rest, "Tao.Unseal", WANT_DATA | WANT_POLICY);
	else if (strcmp(what, "init") == 0)
		counter(rest, 1);
	else if (strcmp(what, "counter") == 0)
		counter(rest, 0);
	else if (strcmp(what, "rseal") == 0)
		seal(rest, "Tao.RollbackProtectedSeal", 1);
	else if (strcmp(what, "runseal") == 0)
		with_data(rest, "Tao.RollbackProtectedUnseal", WANT_DATA | WANT_POLICY);
	else if (strcmp(what, "op") == 0)
		call(need(rest), &none, WANT_DATA);
	else
		return 0;
	return 1;
}

static void command(char *line)
{
	char *rest = line;
	const char *what = need(&rest);

	if (operation(what, &rest))
		return;
	if (strcmp(what, "connect") == 0)
		reach_host();
	else if (strcmp(what, "many") == 0)
		many(need_number(&rest), 0);
	else if (strcmp(what, "mixed") == 0)
		many(need_number(&rest), 1);
	else if (strcmp(what, "pieces") == 0)
		pieces();
	else if (strcmp(what, "raw") == 0)
		raw(need(&rest));
	else if (strcmp(what, "env") == 0)
		env();
	else if (strcmp(what, "ask") == 0)
		ask();
	else if (strcmp(what, "answer") == 0)
		answer("Tao.GetTaoName", seq++, WANT_DATA);
	else if (strcmp(what, "fork") == 0 || strcmp(what, "anew") == 0)
		in_child(rest, what[0] == 'a');
	else if (strcmp(what, "run") == 0)
		run(&rest);
	else if (strcmp(what, "keep") == 0)
		dup2(sock, HANDED);
	else if (strcmp(what, "adopt") == 0)
		sock = HANDED;
	else if (strcmp(what, "exec") == 0)
		become(&rest);
	else if (strcmp(what, "daemon") == 0)
		daemonize();
	else if (strcmp(what, "wait") == 0)
		wait_for_file(need(&rest));
	else if (strcmp(what, "say") == 0)
		puts(rest);
	else
		die(what);
}

int main(int argc, char **argv)
{
	char *line = malloc(LINE_LEN);

	if (line == NULL || (argc > 1 && freopen(argv[1], "r", stdin) == NULL))
		die(argc > 1 ? argv[1] : "memory");
	while (fgets(line, LINE_LEN, stdin) != NULL) {
		line[strcspn(line, "\n")] = 0;
		command(line);
		fflush(stdout);
	}
	free(line);
	return 0;
}
