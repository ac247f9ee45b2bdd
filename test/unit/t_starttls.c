/* What tao doctor makes of a server's first words: those that begin TLS, and those that are no such
 * protocol, are cut short, too long or without end. The server's end of a socket pair has said all
 * it will before it is asked. */
#include <sys/socket.h>
#include <unistd.h>

#include "../../cmd/cmd.h"
#include "tap.h"

static const struct {
	const char *what, *says;
	size_t n, times; /* of the whole; 0: once */
	int waits, good;
	const char *name;
} cases[] = {
#define SAYS(text) text, sizeof text - 1
	{ "SMTP", SAYS("220-a\r\n220 b\r\n250-SIZE\r\n250 STARTTLS\r\n220 go\r\n"), 0, 0, 1, "SMTP" },
	{ "SMTP without TLS", SAYS("220 b\r\n250 SIZE\r\n502 what\r\n"), 0, 0, 0, "SMTP" },
	{ "SMTP that ends in a line", SAYS("220 b\r\n250-S"), 0, 0, 0, "SMTP" },
	{ "SMTP that refuses", SAYS("220 b\r\n554 no\r\n220 \r\n220 \r\n"), 0, 0, 0, "SMTP" },
	{ "SMTP without end", SAYS("220-a\r\n"), 100, 0, 0, "SMTP" },
	{ "a line that is too long", SAYS("220-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), 100, 0, 0, "SMTP" },
	{ "IMAP", SAYS("* OK hello\r\n* CAPABILITY x\r\na OK go\r\n"), 0, 0, 1, "IMAP" },
	{ "IMAP without TLS", SAYS("* OK hello\r\na BAD what\r\n"), 0, 0, 0, "IMAP" },
	{ "MariaDB", SAYS("\5\0\0\0\n5.5\0"), 0, 0, 1, "MariaDB" },
	{ "MariaDB that is cut short", SAYS("\6\0\0\0\n5.5\0"), 0, 0, 0, "MariaDB" },
	{ "MariaDB with a packet that is too long", SAYS("\1\4\0\0\nxxxxxxxxxxxxxxxx"), 100, 0, 0, "MariaDB" },
	{ "MariaDB with one of 64 KiB", SAYS("\5\0\1\0\n5.5\0"), 0, 0, 0, "MariaDB" },
	{ "nothing, where the server is to speak first", SAYS(""), 0, 0, 1, NULL },
	{ "less than a greeting", SAYS("220"), 0, 1, 1, NULL },
	{ "another protocol", SAYS("SSH-2.0-x\r\n"), 0, 1, 1, NULL },
	{ "TLS", SAYS("\x15\3\1\0\2\2\x28"), 0, 1, 1, NULL },
};

static void says(int fd, const char *p, size_t n, size_t times)
{
	for (size_t i = 0; i == 0 || i < times; i++)
		if (n > 0 && send(fd, p, n, 0) != (ssize_t)n)
			ok(0, "the pair takes what the server says");
	shutdown(fd, SHUT_WR);
}

static int is_name(const char *name, const char *want)
{
	return want == NULL ? name == NULL : name != NULL && strcmp(name, want) == 0;
}

/* The client says its part first, so the server's answer cannot be there before. */
static void postgres(char answer, const char *want)
{
	const char *name;
	int pair[2], good;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return;
	if (fork() == 0) {
		char request[8];

		if (recv(pair[1], request, sizeof request, MSG_WAITALL) == (ssize_t)sizeof request)
			says(pair[1], &answer, 1, 1);
		_exit(0);
	}
	close(pair[1]);
	name = cmd_starttls(pair[0], 0, 1, &good);
	ok(is_name(name, want), "PostgreSQL that answers %c", answer);
	close(pair[0]);
}

int main(void)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *name;
		int pair[2], good = -1;

		if (!ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "a pair"))
			continue;
		if (cases[i].n > 0)
			says(pair[1], cases[i].says, cases[i].n, cases[i].times);
		else
			shutdown(pair[1], SHUT_RD);
		name = cmd_starttls(pair[0], 0, cases[i].waits && cases[i].n > 0, &good);
		ok(is_name(name, cases[i].name), "%s: which", cases[i].what);
		ok(cases[i].name == NULL || good == cases[i].good, "%s: whether TLS begins",
		   cases[i].what);
		close(pair[0]);
		close(pair[1]);
	}
	postgres('S', "PostgreSQL");
	postgres('N', NULL);
	return done();
}
