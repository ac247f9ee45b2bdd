#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "../tao/err.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

#define OPTIMIZE_TREE 2 /* SCMP_FLTATR_CTL_OPTIMIZE: a binary tree */

/* A condition on one argument: (argument & mask) == value. */
struct when {
	int argument; /* counted from 1; 0: no condition */
	uint64_t mask, value;
};

#define ALL UINT64_MAX
#define ARG(n, mask, value) { (n), (mask), (value) }
#define NOT_EXECUTABLE ARG(3, PROT_EXEC, 0)
#define EXECUTABLE ARG(3, PROT_EXEC, PROT_EXEC)
#define READ_ONLY(n) ARG(n, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)

struct rule {
	const char *calls; /* names between blanks */
	const char *why;
	struct when when;
	int error;         /* 0: allowed; else what it fails with */
};

/* What glibc and libcrypto need in both processes. */
static const struct rule common[] = {
	{ "read readv pread64 write writev lseek close", "descriptors", { 0 }, 0 },
	{ "fstat newfstatat fstatat64 stat lstat statx fstatfs", "which file it is", { 0 }, 0 },
	{ "fcntl dup dup2 dup3 close_range", "descriptors of one's own", { 0 }, 0 },
	{ "readlink readlinkat getdents64", "links and directories", { 0 }, 0 },
	{ "memfd_create ftruncate fchmod", "files in memory, sealed with fcntl", { 0 }, 0 },
	{ "recvmsg recvfrom sendmsg sendto shutdown getsockopt setsockopt", "the other process, "
	  "and programs", { 0 }, 0 },
	{ "poll ppoll", "waiting for it", { 0 }, 0 },
	{ "mmap", "memory that is not executable", NOT_EXECUTABLE, 0 },
	{ "mprotect", "the heaps and stacks of threads", NOT_EXECUTABLE, 0 },
	{ "mmap mprotect", "dlopen fails, as it must", EXECUTABLE, EPERM },
	{ "munmap mremap madvise brk", "malloc", { 0 }, 0 },
	{ "mlock munlock mlock2", "memory for secrets", { 0 }, 0 },
	{ "futex sched_yield", "locks", { 0 }, 0 },
	{ "clone3", "threads: glibc falls back to clone", { 0 }, ENOSYS },
	{ "set_robust_list rseq membarrier set_tid_address gettid", "threads of glibc", { 0 }, 0 },
	{ "rt_sigprocmask rt_sigaction rt_sigreturn sigaltstack restart_syscall", "signals",
	  { 0 }, 0 },
	{ "clock_gettime clock_gettime64 clock_getres gettimeofday time", "time, without vDSO",
	  { 0 }, 0 },
	{ "clock_nanosleep nanosleep", "pauses", { 0 }, 0 },
	{ "getrandom", "libcrypto's seed", { 0 }, 0 },
	{ "getpid getppid getuid geteuid getgid getegid", "who one is", { 0 }, 0 },
	{ "getrusage sysinfo uname getcpu sched_getaffinity", "harmless questions", { 0 }, 0 },
	{ "prctl", "the name of a thread", ARG(1, ALL, PR_SET_NAME), 0 },
	{ "prctl", "malloc's names for mappings (2.41)", ARG(1, ALL, PR_SET_VMA), 0 },
	{ "prctl", "the name of a thread", ARG(1, ALL, PR_GET_NAME), 0 },
	{ "exit exit_group", "the end", { 0 }, 0 },
	{ NULL, NULL, { 0 }, 0 },
};

/* Landlock says which files the keeper may open. */
static const struct rule keeper[] = {
	{ "open openat creat access faccessat faccessat2", "its state directory", { 0 }, 0 },
	{ "rename renameat renameat2 link linkat unlink unlinkat", "files put in place", { 0 }, 0 },
	{ "mkdir mkdirat rmdir chmod fchmodat fchmodat2 umask", "directories of users", { 0 }, 0 },
	{ "fsync fdatasync sync_file_range fallocate truncate flock pwrite64 pwritev utimensat",
	  "state that survives a power cut", { 0 }, 0 },
	{ "getcwd chdir fchdir getdents statfs", "walking through a directory", { 0 }, 0 },
	{ "socket", "Unix sockets", ARG(1, ALL, AF_UNIX), 0 },
	{ "socketpair", "Unix sockets", ARG(1, ALL, AF_UNIX), 0 },
	{ "bind listen accept accept4 connect getsockname getpeername", "its socket, doors, "
	  "a parent's socket", { 0 }, 0 },
	{ "epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2", "the loop", { 0 }, 0 },
	{ "eventfd2 timerfd_create timerfd_settime timerfd_gettime pipe2", "the loop", { 0 }, 0 },
	{ "clone", "threads, and the measurer's start", { 0 }, 0 },
	{ "sched_setaffinity sched_setattr setpriority getpriority", "workers stay on their CPU, slow ones give way",
	  { 0 }, 0 },
	{ "pidfd_open", "the end of a registered process", { 0 }, 0 },
	{ "rt_sigtimedwait rt_sigpending", "SIGTERM and SIGHUP", { 0 }, 0 },
	{ "kill wait4 waitid", "a measurer that hangs, tao down", { 0 }, 0 },
	{ "tgkill", "abort()", { 0 }, 0 },
	{ "getgroups getresuid getresgid prlimit64 getrlimit capget", "questions", { 0 }, 0 },
	{ NULL, NULL, { 0 }, 0 },
};

/* It may look at every file and change none, makes no socket, sends no signal but those that reach
 * a process that it traces. Tracing, it reads and writes neither memory nor registers. */
static const struct rule measurer[] = {
	{ "open", "programs, libraries, /proc", READ_ONLY(2), 0 },
	{ "openat", "programs, libraries, /proc", READ_ONLY(3), 0 },
	{ "process_vm_readv", "another user's environment, with CAP_SYS_PTRACE", { 0 }, 0 },
	{ "ptrace", "a start, seen at its execve (hold.h)", ARG(1, ALL, PTRACE_SEIZE), 0 },
	{ "ptrace", "ending that", ARG(1, ALL, PTRACE_INTERRUPT), 0 },
	{ "ptrace", "ending that", ARG(1, ALL, PTRACE_DETACH), 0 },
	{ "ptrace", "a signal meanwhile", ARG(1, ALL, PTRACE_CONT), 0 },
	{ "ptrace", "SIGSTOP meanwhile", ARG(1, ALL, PTRACE_LISTEN), 0 },
	{ "wait4", "what it traces", { 0 }, 0 },
	{ "clone", "a thread for each measurement, no process",
	  ARG(1, CLONE_VM | CLONE_THREAD, CLONE_VM | CLONE_THREAD), 0 },
	{ NULL, NULL, { 0 }, 0 },
};

/* ---- from tables to a filter ---- */

static int add_call(scmp_filter_ctx ctx, const char *name, const struct rule *r)
{
	int number = seccomp_syscall_resolve_name(name);
	uint32_t action = r->error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO((uint32_t)r->error);
	struct scmp_arg_cmp cmp;

	if (number < 0) /* of another architecture, or newer than libseccomp */
		return 0;
	if (r->when.argument == 0)
		return seccomp_rule_add_array(ctx, action, number, 0, NULL);
	cmp = (struct scmp_arg_cmp){ (unsigned)r->when.argument - 1, SCMP_CMP_MASKED_EQ,
	                             r->when.mask, r->when.value };
	return seccomp_rule_add_array(ctx, action, number, 1, &cmp);
}

static int add_rule(scmp_filter_ctx ctx, const struct rule *r)
{
	char name[32];
	const char *p = r->calls;
	int error = 0;

	while (error == 0 && *p != 0) {
		size_t n = strcspn(p, " ");

		if (n >= sizeof name)
			return -EINVAL;
		memcpy(name, p, n);
		name[n] = 0;
		error = add_call(ctx, name, r);
		p += n + strspn(p + n, " ");
	}
	return error;
}

static int add_rules(scmp_filter_ctx ctx, const struct rule *r)
{
	int error = 0;

	for (; error == 0 && r->calls != NULL; r++)
		error = add_rule(ctx, r);
	return error;
}

static int install(const struct rule *own)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int error;

	if (ctx == NULL) {
		tao_fail_nomem();
		return 0;
	}
	error = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (error == 0)
		error = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (error == 0)
		error = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, OPTIMIZE_TREE);
	if (error == 0)
		error = add_rules(ctx, common);
	if (error == 0)
		error = add_rules(ctx, own);
	if (error == 0)
		error = seccomp_load(ctx);
	seccomp_release(ctx);
	if (error == 0)
		return 1;
	tao_fail(TAO_ESYS, "system calls are not filtered: %s: does this kernel have seccomp?",
	         strerror(-error));
	return 0;
}

static int sanitized(void)
{
	if (TAO_ASAN)
		tao_fail(TAO_ESYS, "system calls are not filtered: this is a build with "
		         "sanitizers");
	return TAO_ASAN;
}

int seccomp_keeper(void)
{
	return !sanitized() && install(keeper);
}

int seccomp_measurer(void)
{
	return !sanitized() && install(measurer);
}
