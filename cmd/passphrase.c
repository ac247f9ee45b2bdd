#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "../tao/file.h"

#define PASS_MAX 1023 /* bytes; tao/file.h has the same limit */

/* Signals that would end or stop the command while the terminal does not echo. */
static void end_signals(sigset_t *set)
{
	static const int signals[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP };

	sigemptyset(set);
	for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
		sigaddset(set, signals[i]);
}

/* One line of the terminal. TAO_EBUSY: a signal came first. */
static enum tao_err read_line(int tty, int signals, struct tao_buf *out)
{
	struct pollfd p[2] = { { tty, POLLIN, 0 }, { signals, POLLIN, 0 } };
	char line[PASS_MAX + 2];
	ssize_t n;

	if (poll(p, 2, -1) < 0)
		return tao_fail_sys("cannot wait for the terminal");
	if (p[1].revents != 0)
		return tao_fail(TAO_EBUSY, "interrupted: nothing was done");
	n = read(tty, line, sizeof line);
	if (n < 0)
		return tao_fail_sys("cannot read the terminal");
	if (n > 0 && line[n - 1] == '\n')
		tao_buf_put(out, line, (size_t)n - 1);
	OPENSSL_cleanse(line, sizeof line);
	if (n > (ssize_t)PASS_MAX && out->n != PASS_MAX)
		return tao_fail(TAO_EINVAL, "a passphrase is at most %d bytes", PASS_MAX);
	if (out->n == 0)
		return tao_fail(TAO_EINVAL, "the passphrase is empty: type at least one character");
	return tao_buf_err(out);
}

static enum tao_err ask(int tty, const char *prompt, struct tao_buf *out)
{
	struct termios was, quiet;
	sigset_t set, before;
	enum tao_err e;
	int signals;

	end_signals(&set);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0 || tcgetattr(tty, &was) != 0) {
		e = tao_fail_sys("cannot prepare the terminal for the passphrase");
		if (signals >= 0)
			close(signals);
		return e;
	}
	quiet = was;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	quiet.c_lflag |= ICANON;
	sigprocmask(SIG_BLOCK, &set, &before);
	tcsetattr(tty, TCSAFLUSH, &quiet);
	dprintf(tty, "%s: ", prompt);
	e = read_line(tty, signals, out);
	dprintf(tty, "\n");
	tcsetattr(tty, TCSAFLUSH, &was);
	close(signals);
	sigprocmask(SIG_SETMASK, &before, NULL); /* a signal that waited acts here */
	return e;
}

static enum tao_err ask_terminal(const struct cmd_pass *p, struct tao_buf *out)
{
	struct tao_buf again = TAO_BUF_INIT;
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	enum tao_err e;

	if (tty < 0)
		return tao_fail(TAO_EINVAL, "there is no terminal to ask for the passphrase: "
		                "use --passphrase-file FILE or --passphrase-fd N");
	e = ask(tty, p->prompt, out);
	if (e == TAO_OK && p->twice) {
		e = ask(tty, "the same again", &again);
		if (e == TAO_OK && (again.n != out->n || memcmp(again.p, out->p, out->n) != 0))
			e = tao_fail(TAO_EINVAL, "the two passphrases differ: nothing was made, "
			             "try again");
	}
	tao_buf_free(&again);
	close(tty);
	return e;
}

static enum tao_err from_fd(const char *text, struct tao_buf *out)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != 0 || fd < 0 || fd > 1 << 20)
		return tao_fail(TAO_EINVAL, "--passphrase-fd is the number of an open descriptor, "
		                "not '%s'", text);
	return tao_passphrase_fd((int)fd, out);
}

/* systemd's LoadCredential= or LoadCredentialEncrypted=. */
static enum tao_err from_credential(struct tao_buf *out)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	enum tao_err e;
	char *path;

	if (dir == NULL || *dir != '/')
		return TAO_ENOTFOUND;
	if (asprintf(&path, "%s/passphrase", dir) < 0)
		return tao_fail_nomem();
	e = access(path, F_OK) == 0 ? tao_passphrase_file(path, out) : TAO_ENOTFOUND;
	free(path);
	return e;
}

enum tao_err cmd_passphrase(const struct cmd_pass *p, struct tao_buf *out)
{
	enum tao_err e = TAO_ENOTFOUND;

	if (p->file != NULL && p->fd != NULL)
		return tao_fail(TAO_EINVAL,
		                "--passphrase-file and --passphrase-fd exclude each other: give "
		                "one");
	if (p->file != NULL)
		return tao_passphrase_file(p->file, out);
	if (p->fd != NULL)
		return from_fd(p->fd, out);
	if (p->credential)
		e = from_credential(out);
	return e == TAO_ENOTFOUND ? ask_terminal(p, out) : e;
}
