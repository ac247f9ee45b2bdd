#include "cmd.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define LINE_MAX_BYTES 1024    /* of a server's line */
#define LINES_MAX 64           /* of one answer */
#define GREETING_PEEK 5        /* bytes that tell the protocols apart */
#define STEPS 2

/* Those whose server speaks first, in lines: what to say, and how the line begins that ends the
 * answer. */
static const struct protocol {
	const char *name, *greeting, *greeted;
	struct {
		const char *say, *answer;
	} steps[STEPS];
} protocols[] = {
	{ "SMTP", "220", "220 ", { { "EHLO localhost\r\n", "250 " }, { "STARTTLS\r\n", "220 " } } },
	{ "IMAP", "* OK", "* OK", { { "a STARTTLS\r\n", "a OK" } } },
};

static int say(int fd, const void *p, size_t n)
{
	return send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static int hear(int fd, void *p, size_t n)
{
	return recv(fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

/* Byte by byte: what is behind it is TLS's. 0: none, or a longer one. */
static int hear_line(int fd, char line[LINE_MAX_BYTES])
{
	for (size_t n = 0; n + 1 < LINE_MAX_BYTES && hear(fd, line + n, 1); n++) {
		line[n + 1] = 0;
		if (line[n] == '\n')
			return 1;
	}
	return 0;
}

static int begins(const char *line, const char *with)
{
	return strncmp(line, with, strlen(with)) == 0;
}

/* Before the line that ends it there are IMAP's with a '*', or SMTP's with a '-' behind the
 * number. */
static int hear_answer(int fd, const char *wanted)
{
	char line[LINE_MAX_BYTES];

	for (int i = 0; i < LINES_MAX && hear_line(fd, line); i++) {
		if (begins(line, wanted))
			return 1;
		if (line[0] != '*' && !(strlen(line) > 3 && line[3] == '-'))
			return 0;
	}
	return 0;
}

static int by_lines(int fd, const struct protocol *p)
{
	int good = hear_answer(fd, p->greeted);

	for (int i = 0; good && i < STEPS && p->steps[i].say != NULL; i++)
		good = say(fd, p->steps[i].say, strlen(p->steps[i].say)) &&
		       hear_answer(fd, p->steps[i].answer);
	return good;
}

/* Protocol::SSLRequest of MariaDB and MySQL, after the server's first packet. */
static int by_mysql(int fd)
{
	/* A packet's head; 4.1, TLS and secure connection; 16 MiB; UTF-8. */
	static const uint8_t request[4 + 32] = { 32, 0, 0, 1, 0, 0x8A, 0, 0, 0, 0, 0, 1, 33 };
	uint8_t head[4], greeting[LINE_MAX_BYTES];
	size_t n = hear(fd, head, sizeof head) ? (size_t)head[0] | (size_t)head[1] << 8 : 0;

	return n > 0 && n <= sizeof greeting && head[2] == 0 && hear(fd, greeting, n) &&
	       say(fd, request, sizeof request);
}

/* SSLRequest of PostgreSQL, whose server waits for the client. */
static int by_postgres(int fd)
{
	static const uint8_t request[] = { 0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F };
	char answer;

	return say(fd, request, sizeof request) && hear(fd, &answer, 1) && answer == 'S';
}

const char *cmd_starttls(int fd, int wait_ms, int waits_for_us, int *good)
{
	char first[GREETING_PEEK] = { 0 };
	struct pollfd p = { fd, POLLIN, 0 };
	ssize_t n = poll(&p, 1, wait_ms) > 0 ? recv(fd, first, sizeof first, MSG_PEEK) : 0;

	*good = 1;
	for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
		const struct protocol *at = &protocols[i];

		if (n == GREETING_PEEK && memcmp(first, at->greeting, strlen(at->greeting)) == 0) {
			*good = by_lines(fd, at);
			return at->name;
		}
	}
	if (n == GREETING_PEEK && first[3] == 0 && first[4] == 10) {
		*good = by_mysql(fd);
		return "MariaDB";
	}
	if (n == 0 && waits_for_us && by_postgres(fd))
		return "PostgreSQL";
	return NULL;
}
