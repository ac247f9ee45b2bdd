/* host/seccomp.h, host/landlock.h: what the two processes may do goes on, and
 * each thing that they may not do ends the process or is refused. Every case
 * runs in a child of its own, without the sandbox and with it. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "host/landlock.h"
#include "host/seccomp.h"
#include "tao/file.h"
#include "tao/key.h"
#include "tao/shield.h"
#include "tap.h"

static char dir[] = "/tmp/t_sandbox.XXXXXX", outside[] = "/tmp/t_sandbox-o.XXXXXX";
static char file[64], sock[64], other[64];

/* ---- children ---- */

#define DID 0
#define REFUSED 3 /* an error, and the process goes on */
#define KILLED (128 + SIGSYS)

typedef int sandbox_fn(void);

static int none(void)
{
	return 1;
}

static int files_only(void)
{
	return landlock_keeper(dir, sock) > 0;
}

static int whole(void)
{
	return files_only() && seccomp_keeper();
}

static int in_child(sandbox_fn *sandbox, int (*act)(void))
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (!sandbox())
			_exit(99);
		_exit(act());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- what they try ---- */

static int result(int good)
{
	return good ? DID : REFUSED;
}

static int try_execve(void)
{
	char *argv[] = { "true", NULL };

	return execve("/bin/true", argv, argv + 1) == 0 ? DID : REFUSED;
}

static int try_execveat(void)
{
	char *argv[] = { "true", NULL };
	int fd = open("/bin/true", O_PATH);

	return syscall(SYS_execveat, fd, "", argv, argv + 1, AT_EMPTY_PATH) == 0 ? DID : REFUSED;
}

static int try_inet(void)
{
	return result(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static int try_inet6(void)
{
	return result(socket(AF_INET6, SOCK_DGRAM, 0) >= 0);
}

static int try_netlink(void)
{
	return result(socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
}

static int try_unix(void)
{
	return result(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

static int try_ptrace(void)
{
	return result(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
}

static int try_vm_readv(void)
{
	char from[8] = "", to[8];
	struct iovec l = { to, sizeof to }, r = { from, sizeof from };

	return result(process_vm_readv(getpid(), &l, 1, &r, 1, 0) == sizeof to);
}

static int try_pidfd_getfd(void)
{
	long pidfd = syscall(SYS_pidfd_open, getpid(), 0);

	return result(syscall(SYS_pidfd_getfd, pidfd, 2, 0) >= 0);
}

static int try_setuid(void)
{
	return result(setgroups(0, NULL) == 0);
}

static int try_dumpable(void)
{
	return result(prctl(PR_SET_DUMPABLE, 1) == 0);
}

static int try_fork(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return result(pid > 0);
}

static int try_mmap_exec(void)
{
	return result(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	              MAP_FAILED);
}

static int try_mprotect_exec(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return result(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
}

static int try_open_outside(void)
{
	return result(open(other, O_RDONLY) >= 0);
}

static int try_make_outside(void)
{
	char path[sizeof outside + 8];

	snprintf(path, sizeof path, "%s/new", outside);
	return result(open(path, O_WRONLY | O_CREAT, 0600) >= 0 && unlink(path) == 0);
}

static int try_list_root(void)
{
	return result(open("/", O_RDONLY | O_DIRECTORY) >= 0);
}

static int try_proc(void)
{
	return result(open("/proc/self/maps", O_RDONLY) >= 0);
}

static int try_link_in(void)
{
	char path[sizeof dir + 8];

	snprintf(path, sizeof path, "%s/link", dir);
	return result(link(other, path) == 0 && unlink(path) == 0);
}

static int try_write_inside(void)
{
	return result(open(file, O_RDWR) >= 0);
}

static int try_read_inside(void)
{
	return result(open(file, O_RDONLY) >= 0);
}

static int try_kill(void)
{
	return result(kill(getppid(), 0) == 0);
}

static const struct attempt {
	const char *what;
	int (*act)(void);
	int keeper, measurer;
} attempts[] = {
	{ "execve", try_execve, KILLED, KILLED },
	{ "execveat", try_execveat, KILLED, KILLED },
	{ "a socket of IPv4", try_inet, KILLED, KILLED },
	{ "a socket of IPv6", try_inet6, KILLED, KILLED },
	{ "a netlink socket", try_netlink, KILLED, KILLED },
	{ "a Unix socket", try_unix, DID, KILLED },
	{ "ptrace", try_ptrace, KILLED, KILLED },
	{ "process_vm_readv", try_vm_readv, KILLED, DID },
	{ "pidfd_getfd", try_pidfd_getfd, KILLED, KILLED },
	{ "prctl(PR_SET_DUMPABLE)", try_dumpable, KILLED, KILLED },
	{ "executable memory", try_mmap_exec, REFUSED, REFUSED },
	{ "memory made executable", try_mprotect_exec, REFUSED, REFUSED },
	{ "opening a file elsewhere", try_open_outside, REFUSED, DID },
	{ "making one", try_make_outside, REFUSED, KILLED },
	{ "listing /", try_list_root, REFUSED, DID },
	{ "opening /proc/self/maps", try_proc, REFUSED, DID },
	{ "a link of a file elsewhere", try_link_in, REFUSED, KILLED },
	{ "writing in the state directory", try_write_inside, DID, KILLED },
	{ "reading in it", try_read_inside, DID, DID },
	{ "fork", try_fork, DID, KILLED },
	{ "a signal to another process", try_kill, DID, KILLED },
};

static void refuse(const struct attempt *a)
{
	int got = in_child(none, a->act);

	if (got == REFUSED)
		skip(a->what, "refused here to anybody");
	else
		ok(got == DID, "%s: done without a sandbox (%d)", a->what, got);
	got = in_child(whole, a->act);
	ok(got == a->keeper, "%s: the keeper (%d)", a->what, got);
	got = in_child(seccomp_measurer, a->act);
	ok(got == a->measurer, "%s: the measurer (%d)", a->what, got);
}

/* Of tracing, the measurer has what it takes to see an execve(), and nothing that would show or
 * change what the traced process has in memory and registers. */
static const struct request {
	const char *name;
	enum __ptrace_request number;
	int measurer;
} requests[] = {
	{ "SEIZE", PTRACE_SEIZE, REFUSED },
	{ "INTERRUPT", PTRACE_INTERRUPT, REFUSED },
	{ "LISTEN", PTRACE_LISTEN, REFUSED },
	{ "CONT", PTRACE_CONT, REFUSED },
	{ "DETACH", PTRACE_DETACH, REFUSED },
	{ "ATTACH", PTRACE_ATTACH, KILLED },
	{ "PEEKTEXT", PTRACE_PEEKTEXT, KILLED },
	{ "PEEKDATA", PTRACE_PEEKDATA, KILLED },
	{ "PEEKUSER", PTRACE_PEEKUSER, KILLED },
	{ "POKETEXT", PTRACE_POKETEXT, KILLED },
	{ "POKEDATA", PTRACE_POKEDATA, KILLED },
	{ "POKEUSER", PTRACE_POKEUSER, KILLED },
	{ "GETREGSET", PTRACE_GETREGSET, KILLED },
	{ "SETREGSET", PTRACE_SETREGSET, KILLED },
	{ "SETSIGINFO", PTRACE_SETSIGINFO, KILLED },
	{ "SETOPTIONS", PTRACE_SETOPTIONS, KILLED },
	{ "SYSCALL", PTRACE_SYSCALL, KILLED },
	{ "SINGLESTEP", PTRACE_SINGLESTEP, KILLED },
	{ "KILL", PTRACE_KILL, KILLED },
};

static enum __ptrace_request asked;

/* Of no process: what is not killed fails. */
static int try_request(void)
{
	return result(ptrace(asked, -1, NULL, NULL) == 0);
}

static void trace(void)
{
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		const struct request *q = &requests[i];

		asked = q->number;
		ok(in_child(seccomp_measurer, try_request) == q->measurer,
		   "PTRACE_%s: the measurer is %s",
		   q->name, q->measurer == KILLED ? "killed" : "not");
		ok(in_child(seccomp_keeper, try_request) == KILLED,
		   "PTRACE_%s: the keeper is killed", q->name);
	}
}

/* ---- what must go on ---- */

static void *thread_main(void *arg)
{
	void *volatile p = malloc(1 << 20); /* a heap of the thread's own */

	memset(p, 1, 1 << 20);
	free(p);
	return arg;
}

static int threads(void)
{
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		if (pthread_create(&t[i], NULL, thread_main, NULL) != 0)
			return REFUSED;
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	return DID;
}

static int work(void)
{
	struct tao_signer s = { 0 };
	struct tao_buf b = TAO_BUF_INIT;
	EVP_PKEY *key = NULL, *rsa = NULL;
	char path[64];
	int good;

	snprintf(path, sizeof path, "%s/state", dir);
	good = tao_key_generate("ecdsap256", &key) == TAO_OK &&
	       tao_signer_init(&s, key) == TAO_OK &&
	       tao_key_generate("rsa2048", &rsa) == TAO_OK &&
	       tao_key_sign(rsa, "c", "data", 4, &b) == TAO_OK && threads() == DID &&
	       tao_file_write(path, b.p, b.n, 0600, TAO_FILE_NEW) == TAO_OK &&
	       tao_file_write(path, b.p, b.n, 0644, 0) == TAO_OK &&
	       tao_dir_make(dir, 0755) == TAO_OK && unlink(path) == 0;
	EVP_PKEY_free(key);
	EVP_PKEY_free(rsa);
	tao_signer_clear(&s);
	tao_buf_free(&b);
	return result(good);
}

static int serve(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", sock);
	return result(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 1) == 0 &&
	              chmod(sock, 0666) == 0 && unlink(sock) == 0);
}

/* ---- threads that are there already ---- */

static int pipe_in[2];

static void *execute_later(void *arg)
{
	char byte;

	if (read(pipe_in[0], &byte, 1) == 1)
		syscall(SYS_getpgid, 0); /* not on the list */
	return arg;
}

static int earlier_thread(sandbox_fn *sandbox)
{
	pthread_t t;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (pipe(pipe_in) != 0 || pthread_create(&t, NULL, execute_later, NULL) != 0 || !sandbox())
		return 99;
	if (write(pipe_in[1], "", 1) != 1)
		return 98;
	pthread_join(t, NULL);
	return DID;
}

static int earlier_keeper(void)
{
	return earlier_thread(seccomp_keeper);
}

static int earlier_none(void)
{
	return earlier_thread(none);
}

static void prepare(void)
{
	if (mkdtemp(dir) == NULL || mkdtemp(outside) == NULL)
		exit(1);
	snprintf(file, sizeof file, "%s/file", dir);
	snprintf(other, sizeof other, "%s/other", outside);
	snprintf(sock, sizeof sock, "%s/sock", outside);
	if (tao_file_write(file, "x", 1, 0600, 0) != TAO_OK ||
	    tao_file_write(other, "x", 1, 0600, 0) != TAO_OK)
		exit(1);
}

static void clean(void)
{
	unlink(file);
	unlink(other);
	rmdir(dir);
	rmdir(outside);
}

int main(void)
{
	int landlock;

	if (TAO_ASAN) {
		ok(!seccomp_keeper() && !seccomp_measurer() && !landlock_keeper("/", "/x"),
		   "a build with sanitizers has no sandbox");
		return done();
	}
	prepare();
	landlock = in_child(files_only, work);
	if (landlock == 99) {
		skip("the sandbox", "this kernel has no Landlock");
		clean();
		return done();
	}
	ok(landlock == DID, "under Landlock keys and files work (%d)", landlock);
	ok(in_child(whole, work) == DID, "and under both");
	ok(in_child(whole, serve) == DID, "a socket in a directory of its own");
	ok(in_child(seccomp_measurer, threads) == DID, "the measurer makes threads");
	for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
		refuse(&attempts[i]);
	trace();
	ok(in_child(none, earlier_none) == DID, "a thread of before");
	ok(in_child(none, earlier_keeper) == KILLED, "is bound as well");
	if (geteuid() == 0)
		ok(in_child(whole, try_setuid) == KILLED, "setgroups");
	else
		skip("setgroups", "only root could");
	clean();
	return done();
}
