/*
 * taod: the Tao host. Main program of its two processes: the keeper, and,
 * started by it as `taod --measurer`, the measurer (measurer.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "config.h"
#include "host.h"
#include "process.h"
#include "root.h"
#include "../tao/file.h"

struct options {
	const char *dir;
	const char *pass_file;
	int pass_fd;
	int foreground, test;
};

static const char usage[] =
	"usage: taod [-d DIR] [--passphrase-file FILE | --passphrase-fd N] [--foreground]\n"
	"       taod [-d DIR] --test\n"
	"  -d, --dir DIR            the host's directory (tao init made it)\n"
	"      --passphrase-file F  first line of F is the passphrase of the host's keys\n"
	"      --passphrase-fd N    the same, from descriptor N\n"
	"  -f, --foreground         stay in the foreground, log to stderr\n"
	"  -t, --test               check taod.conf and end\n"
	"  -h, --help               this text\n"
	"  -V, --version            the version\n"
	"Without a passphrase option, $CREDENTIALS_DIRECTORY/passphrase is read (systemd). A host that\n"
	"has its root in a parent needs none. See taod(8).\n";

static int fail(void)
{
	fprintf(stderr, "taod: %s\n", tao_why());
	return 1;
}

/* ---- options ---- */

static const struct option longs[] = {
	{ "dir", required_argument, NULL, 'd' },
	{ "passphrase-file", required_argument, NULL, 'p' },
	{ "passphrase-fd", required_argument, NULL, 'P' },
	{ "foreground", no_argument, NULL, 'f' },
	{ "test", no_argument, NULL, 't' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* A descriptor's number; one that cannot be open if it is none. */
static int number(const char *text)
{
	char *end;
	long v = strtol(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && *end == 0 && v < INT_MAX ? (int)v : INT_MAX;
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	int c;

	*o = (struct options){ .pass_fd = -1 };
	while ((c = getopt_long(argc, argv, "d:fthV", longs, NULL)) != -1) {
		switch (c) {
		case 'd': o->dir = optarg; break;
		case 'p': o->pass_file = optarg; break;
		case 'P': o->pass_fd = number(optarg); break;
		case 'f': o->foreground = 1; break;
		case 't': o->test = 1; break;
		case 'h': fputs(usage, stdout); return 0;
		case 'V': puts("taod " TAO_VERSION); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (optind == argc)
		return -1;
	fputs(usage, stderr);
	return 2;
}

static enum tao_err read_passphrase(const struct options *o, struct tao_buf *pass)
{
	const char *creds = secure_getenv("CREDENTIALS_DIRECTORY");
	char path[4096];

	if (o->pass_fd >= 0)
		return tao_passphrase_fd(o->pass_fd, pass);
	if (o->pass_file != NULL)
		return tao_passphrase_file(o->pass_file, pass);
	if (creds != NULL) {
		snprintf(path, sizeof path, "%s/passphrase", creds);
		return tao_passphrase_file(path, pass);
	}
	return tao_fail(TAO_EINVAL, "the host's keys are under a passphrase: give it with "
	                "--passphrase-file FILE or --passphrase-fd N");
}

static enum tao_err lock_dir(struct host *h, int *fd)
{
	char *path = host_path(&h->conf, "lock");
	enum tao_err e = TAO_OK;

	if (path == NULL)
		return tao_fail_nomem();
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0)
		e = tao_fail_sys("opening %s", path);
	else if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
		e = errno == EWOULDBLOCK
		    ? tao_fail(TAO_EBUSY, "a taod runs on %s already: see 'tao -d %s status', stop "
		               "it with 'tao -d %s down'", h->conf.dir, h->conf.dir, h->conf.dir)
		    : tao_fail_sys("locking %s", path);
	free(path);
	return e;
}

/* ---- foreground and background ---- */

/* stderr becomes DIR/taod.log. */
static enum tao_err log_to_file(struct host *h)
{
	char *path = host_path(&h->conf, "taod.log");
	int log = -1;
	enum tao_err e = TAO_OK;

	if (path != NULL)
		log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (log < 0 || dup2(log, STDERR_FILENO) < 0)
		e = tao_fail_sys("opening the log %s", path != NULL ? path : "");
	if (log >= 0)
		close(log);
	free(path);
	return e;
}

static void log_to_terminal(int terminal)
{
	if (terminal >= 0)
		dup2(terminal, STDERR_FILENO);
}

/* The parent's wait ends. */
static enum tao_err go_background(int ready)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	enum tao_err e = TAO_OK;

	if (null < 0)
		e = tao_fail_sys("opening /dev/null");
	if (e == TAO_OK && write(ready, "", 1) != 1)
		e = tao_fail_sys("telling that taod is ready");
	if (e == TAO_OK) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (null >= 0)
		close(null);
	close(ready);
	return e;
}

/* For those who move the log away. */
static void hang_up(struct host *h, int to_file)
{
	if (!to_file)
		host_log("info", "nothing to reload: restart taod for a changed taod.conf");
	else if (log_to_file(h) == TAO_OK)
		host_log("info", "the log is open anew; restart taod for a changed taod.conf");
	else
		host_log("warning", "%s", tao_why());
}

static int wait_signal(struct host *h, const sigset_t *set, int to_file)
{
	int sig;

	host_log("info", "taod %s serves %s", TAO_VERSION, h->conf.socket);
	do {
		sigwait(set, &sig);
		if (sig == SIGHUP)
			hang_up(h, to_file);
	} while (sig == SIGHUP);
	host_log("info", "taod ends");
	return atomic_load(&h->lost_measurer);
}

static int serve(struct host *h, struct tao_buf *pass, int ready)
{
	sigset_t set;
	int lock = -1, terminal = -1, status = 1;
	enum tao_err e = lock_dir(h, &lock);

	/* Before any thread is: all inherit it, and only wait_signal() takes them. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	h->guards.memory = process_lock_memory();
	/* For a start that fails. */
	if (ready >= 0)
		terminal = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (e == TAO_OK && ready >= 0)
		e = log_to_file(h);
	if (e == TAO_OK)
		e = host_start(h, pass);
	tao_buf_free(pass);
	if (e == TAO_OK && ready >= 0)
		e = go_background(ready);
	if (e != TAO_OK)
		log_to_terminal(terminal);
	if (terminal >= 0)
		close(terminal);
	status = e == TAO_OK ? wait_signal(h, &set, ready >= 0) : fail();
	if (lock >= 0 && e != TAO_EBUSY)
		host_end(h);
	else
		host_conf_clear(&h->conf);
	if (lock >= 0)
		close(lock);
	return status;
}

/* The parent ends when the child serves, or says why not. */
static int in_background(struct host *h, struct tao_buf *pass)
{
	int p[2];
	char byte;
	pid_t child;

	if (pipe2(p, O_CLOEXEC) != 0 || (child = fork()) < 0) {
		tao_fail_sys("starting taod in the background");
		return fail();
	}
	if (child == 0) {
		close(p[0]);
		setsid();
		return serve(h, pass, p[1]);
	}
	close(p[1]);
	host_conf_clear(&h->conf);
	return read(p[0], &byte, 1) == 1 ? 0 : 1;
}

static int keeper(const struct options *o)
{
	struct host h = { 0 };
	struct tao_buf dir = TAO_BUF_INIT, pass = TAO_BUF_INIT;
	enum tao_err e = host_dir_find(o->dir, &dir);
	int status = 1;

	if (e == TAO_OK)
		e = host_conf_load(tao_buf_cstr(&dir), &h.conf);
	if (e == TAO_OK && o->test) {
		printf("taod: %s/taod.conf is good\n", h.conf.dir);
		host_conf_clear(&h.conf);
		tao_buf_free(&dir);
		return 0;
	}
	if (e == TAO_OK)
		e = host_check_owner(&h);
	if (e == TAO_OK && h.conf.root->passphrase)
		e = read_passphrase(o, &pass);
	if (e == TAO_OK) {
		process_guard_memory();
		process_raise_files();
		status = o->foreground ? serve(&h, &pass, -1) : in_background(&h, &pass);
	} else {
		fail();
		host_conf_clear(&h.conf);
	}
	tao_buf_free(&dir);
	tao_buf_free(&pass);
	return status;
}

int main(int argc, char **argv)
{
	struct options o;
	int status;

	/* The host's own libcrypto must never load the provider that asks the host. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	if (argc == 2 && strcmp(argv[1], "--measurer") == 0)
		return measurer_main(MEASURER_FD);
	status = parse_options(argc, argv, &o);
	return status >= 0 ? status : keeper(&o);
}
