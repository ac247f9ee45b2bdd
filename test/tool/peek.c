/*
 * peek: what a process of the same user may do to another: looks into it in
 * every way that the kernel has.
 *
 *   peek PID
 *
 * Prints a line for each way: "WAY done", or "WAY" and the error. Exit status: 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static void tell(const char *way, int done)
{
	printf("%s %s\n", way, done ? "done" : strerror(errno));
	fflush(stdout);
}

/* An address that it has; one that this program has, if its maps may not be read. */
static uintptr_t some_address(const char *pid)
{
	char path[64], line[512];
	uintptr_t at = 0;
	FILE *maps;

	snprintf(path, sizeof path, "/proc/%s/maps", pid);
	maps = fopen(path, "re");
	tell("maps", maps != NULL && fgets(line, sizeof line, maps) != NULL &&
	                     sscanf(line, "%lx-", &at) == 1);
	if (maps != NULL)
		fclose(maps);
	return at != 0 ? at : (uintptr_t)&tell;
}

static void peek_mem(const char *pid, uintptr_t at)
{
	char path[64], byte;
	int fd;

	snprintf(path, sizeof path, "/proc/%s/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	tell("mem", fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
	if (fd >= 0)
		close(fd);
}

static void peek_vm(pid_t pid, uintptr_t at)
{
	char byte;
	struct iovec to = { &byte, 1 }, from = { (void *)at, 1 };

	tell("process_vm_readv", process_vm_readv(pid, &to, 1, &from, 1, 0) == 1);
}

static void peek_ptrace(const char *way, pid_t pid, int seize)
{
	int done = (seize ? ptrace(PTRACE_SEIZE, pid, NULL, NULL)
	                  : ptrace(PTRACE_ATTACH, pid, NULL, NULL)) == 0;

	tell(way, done);
	if (!done)
		return;
	if (seize)
		ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	waitpid(pid, NULL, __WALL);
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

static void peek_link(const char *way, const char *pid)
{
	char path[64], to[512];

	snprintf(path, sizeof path, "/proc/%s/%s", pid, way);
	tell(way, readlink(path, to, sizeof to) > 0);
}

static void peek_file(const char *way, const char *pid)
{
	char path[64], byte;
	int fd;

	snprintf(path, sizeof path, "/proc/%s/%s", pid, way);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	tell(way, fd >= 0 && read(fd, &byte, 1) >= 0);
	if (fd >= 0)
		close(fd);
}

static void peek_getfd(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	tell("pidfd_getfd", pidfd >= 0 && syscall(SYS_pidfd_getfd, pidfd, 0, 0) >= 0);
}

int main(int argc, char **argv)
{
	pid_t pid = argc == 2 ? (pid_t)atoi(argv[1]) : 0;
	uintptr_t at;

	if (pid <= 0) {
		fprintf(stderr, "usage: peek PID\n");
		return 2;
	}
	at = some_address(argv[1]);
	peek_mem(argv[1], at);
	peek_vm(pid, at);
	peek_ptrace("PTRACE_ATTACH", pid, 0);
	peek_ptrace("PTRACE_SEIZE", pid, 1);
	peek_getfd(pid);
	peek_link("exe", argv[1]);
	peek_link("fd/0", argv[1]);
	peek_file("environ", argv[1]);
	return 0;
}
