#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define PROC_TEXT_MAX 4096 /* bytes of stat or status that are read; what is needed comes first */
#define TRIES_MAX 8        /* looks at a process that executes another file meanwhile */

/* Fields of /proc/PID/stat behind the command's name, proc_pid_stat(5): state is the first. */
#define FIELD_PPID 1
#define FIELD_START 19
#define FIELD_START_CODE 23
#define FIELD_START_STACK 25
#define FIELD_START_DATA 42
#define FIELD_ENV_START 47
#define FIELD_ENV_END 48
#define FIELDS 49

/* The numbers among them. */
struct stat_view {
	uint64_t field[FIELDS];
};

static enum tao_err no_access(pid_t pid, const char *what)
{
	if (errno == ENOENT || errno == ESRCH)
		return tao_fail(TAO_ENOTFOUND, "process %d is gone", (int)pid);
	if (errno == EACCES || errno == EPERM)
		return tao_fail(TAO_EPERM, "may not read /proc/%d/%s: start the Tao host with "
		                "CAP_SYS_PTRACE", (int)pid, what);
	return tao_fail_sys("cannot read /proc/%d/%s", (int)pid, what);
}

/* The directory stays that of this very process, even when the number is given again. */
static enum tao_err open_proc(pid_t pid, int *dir)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	*dir = pid > 0 ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (pid <= 0)
		return tao_fail(TAO_EINVAL, "%d is not a process", (int)pid);
	return *dir >= 0 ? TAO_OK : no_access(pid, "");
}

static enum tao_err read_text(int dir, pid_t pid, const char *name, char text[PROC_TEXT_MAX])
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return no_access(pid, name);
	n = read(fd, text, PROC_TEXT_MAX - 1);
	if (n < 0) {
		enum tao_err e = no_access(pid, name);

		close(fd);
		return e;
	}
	close(fd);
	text[n] = 0;
	return TAO_OK;
}

/* FNV-1a: values that the kernel drew, to tell them apart. */
static uint64_t mix(uint64_t h, uint64_t v)
{
	for (int i = 0; i < 64; i += 8)
		h = (h ^ (v >> i & 0xff)) * 0x100000001b3u;
	return h;
}

/* The command's name may hold blanks and parentheses: the last one ends it. */
static int parse_stat(const char *text, struct stat_view *v)
{
	const char *s = strrchr(text, ')');

	memset(v, 0, sizeof *v);
	for (size_t field = 0; s != NULL && field < FIELDS; field++) {
		s += 1;
		s += strspn(s, " ");
		if (*s == 0)
			return 0;
		v->field[field] = strtoull(s, NULL, 10);
		s += strcspn(s, " ") - 1;
	}
	return s != NULL;
}

static enum tao_err read_stat(int dir, pid_t pid, struct stat_view *v)
{
	char text[PROC_TEXT_MAX];
	enum tao_err e = read_text(dir, pid, "stat", text);

	if (e == TAO_OK && !parse_stat(text, v))
		e = tao_fail(TAO_EFORMAT, "/proc/%d/stat is not understood: is /proc the kernel's?",
		             (int)pid);
	return e;
}

/* 0 while execve() is not through with it, and where the kernel does not tell (a stack at 0). */
static uint64_t exec_of(const struct stat_view *v)
{
	static const int fields[] = { FIELD_START_CODE, FIELD_START_STACK, FIELD_START_DATA };
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		if (v->field[fields[i]] == 0)
			return 0;
		h = mix(h, v->field[fields[i]]);
	}
	return h;
}

/* In status the command's name is escaped: no line of its own can come out of it. */
static enum tao_err read_uid(int dir, pid_t pid, uid_t *uid)
{
	char text[PROC_TEXT_MAX];
	enum tao_err e = read_text(dir, pid, "status", text);
	const char *line = e == TAO_OK ? strstr(text, "\nUid:\t") : NULL;

	if (e == TAO_OK && line == NULL)
		e = tao_fail(TAO_EFORMAT,
		             "/proc/%d/status is not understood: is /proc the kernel's?",
		             (int)pid);
	if (e == TAO_OK)
		*uid = (uid_t)strtoul(line + 6, NULL, 10);
	return e;
}

/* As fstat(), without asking who serves the file system, as FUSE's may never answer. */
static int stat_known(int fd, struct stat *st)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &x) != 0)
		return -1;
	memset(st, 0, sizeof *st);
	st->st_dev = makedev(x.stx_dev_major, x.stx_dev_minor);
	st->st_ino = x.stx_ino;
	st->st_mode = x.stx_mode;
	st->st_uid = x.stx_uid;
	st->st_gid = x.stx_gid;
	st->st_size = (off_t)x.stx_size;
	st->st_mtim = (struct timespec){ x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec };
	st->st_ctim = (struct timespec){ x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec };
	return 0;
}

static enum tao_err read_exe(int dir, pid_t pid, struct file_id *id)
{
	int fd = openat(dir, "exe", O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || stat_known(fd, &st) != 0) {
		enum tao_err e = no_access(pid, "exe");

		if (fd >= 0)
			close(fd);
		return e;
	}
	close(fd);
	file_id_of_exe(&st, id);
	return TAO_OK;
}

enum tao_err proc_start(pid_t pid, uint64_t *start)
{
	struct stat_view v;
	int dir = -1;
	enum tao_err e = open_proc(pid, &dir);

	if (e == TAO_OK)
		e = read_stat(dir, pid, &v);
	if (e == TAO_OK)
		*start = v.field[FIELD_START];
	if (dir >= 0)
		close(dir);
	return e;
}

enum tao_err measure_process(pid_t pid, struct process_view *v)
{
	struct stat_view stat;
	struct file_id again;
	int dir = -1, same = 0;
	enum tao_err e = open_proc(pid, &dir);

	memset(v, 0, sizeof *v);
	v->pid = pid;
	if (e == TAO_OK)
		e = read_exe(dir, pid, &v->exe);
	/* One view, not half of one program and half of the next. */
	for (int i = 0; e == TAO_OK && !same && i < TRIES_MAX; i++) {
		e = read_stat(dir, pid, &stat);
		v->ppid = (pid_t)stat.field[FIELD_PPID];
		v->start = stat.field[FIELD_START];
		v->exec = exec_of(&stat);
		if (e == TAO_OK)
			e = read_uid(dir, pid, &v->uid);
		if (e == TAO_OK)
			e = read_exe(dir, pid, &again);
		same = e == TAO_OK && file_id_equal(&again, &v->exe);
		if (e == TAO_OK)
			v->exe = again;
	}
	if (e == TAO_OK && !same)
		e = tao_fail(TAO_EBUSY, "process %d executes one file after another: try again",
		             (int)pid);
	if (dir >= 0)
		close(dir);
	return e;
}

/* Appends what a file in /proc holds, up to max bytes. */
static enum tao_err slurp(int dir, pid_t pid, const char *name, size_t max, struct tao_buf *out)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	while (fd >= 0 && n > 0 && out->n <= max) {
		uint8_t *to = tao_buf_room(out, PROC_TEXT_MAX);

		if (to == NULL)
			break;
		n = read(fd, to, PROC_TEXT_MAX);
		out->n -= PROC_TEXT_MAX - (n > 0 ? (size_t)n : 0);
	}
	if (fd < 0 || n < 0) {
		enum tao_err e = no_access(pid, name);

		if (fd >= 0)
			close(fd);
		return e;
	}
	close(fd);
	if (out->n > max)
		return tao_fail(TAO_ELIMIT, "/proc/%d/%s has more than %zu bytes", (int)pid, name,
		                max);
	return tao_buf_err(out);
}

enum tao_err proc_slurp(pid_t pid, const char *name, size_t max, struct tao_buf *out)
{
	int dir = -1;
	enum tao_err e = open_proc(pid, &dir);

	if (e == TAO_OK)
		e = slurp(dir, pid, name, max, out);
	if (dir >= 0)
		close(dir);
	return e;
}

/* The file is its user's alone, whom CAP_SYS_PTRACE does not make one; the memory is open to it. */
static enum tao_err read_memory(int dir, pid_t pid, size_t max, struct tao_buf *out)
{
	struct stat_view v;
	struct iovec to, from;
	size_t n;
	enum tao_err e = read_stat(dir, pid, &v);

	if (e != TAO_OK)
		return e;
	n = v.field[FIELD_ENV_END] - v.field[FIELD_ENV_START];
	if (v.field[FIELD_ENV_START] == 0 || v.field[FIELD_ENV_END] < v.field[FIELD_ENV_START])
		return tao_fail(TAO_EPERM, "may not read the environment of process %d: start the "
		                "Tao host with CAP_SYS_PTRACE", (int)pid);
	if (n > max)
		return tao_fail(TAO_ELIMIT, "process %d has more than %zu bytes of environment",
		                (int)pid, max);
	to = (struct iovec){ tao_buf_room(out, n), n };
	from = (struct iovec){ (void *)(uintptr_t)v.field[FIELD_ENV_START], n };
	if (n > 0 && to.iov_base == NULL)
		return tao_buf_err(out);
	if (n > 0 && process_vm_readv(pid, &to, 1, &from, 1, 0) != (ssize_t)n)
		return no_access(pid, "environ");
	return TAO_OK;
}

enum tao_err proc_environ(pid_t pid, size_t max, struct tao_buf *out)
{
	int dir = -1;
	enum tao_err e = open_proc(pid, &dir);

	if (e == TAO_OK)
		e = slurp(dir, pid, "environ", max, out);
	if (e == TAO_EPERM)
		e = read_memory(dir, pid, max, out);
	if (dir >= 0)
		close(dir);
	return e;
}

enum tao_err measure_started(pid_t pid, const void *args, size_t n, struct process_view *v)
{
	struct tao_buf line = TAO_BUF_INIT;
	struct process_view again;
	enum tao_err e = measure_process(pid, v);

	if (e == TAO_OK)
		e = proc_slurp(pid, "cmdline", PROC_MAX_CMDLINE, &line);
	if (e == TAO_OK)
		e = measure_process(pid, &again);
	if (e == TAO_OK && (line.n < n || memcmp(line.p + line.n - n, args, n) != 0 ||
	                    v->start != again.start || v->exec != again.exec))
		e = tao_fail(TAO_EDENIED, "process %d has other arguments", (int)pid);
	tao_buf_free(&line);
	return e;
}

enum tao_err proc_unit(pid_t pid, char unit[UNIT_MAX + 1])
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e = proc_slurp(pid, "cgroup", UNIT_MAX_TEXT, &text);

	unit_parse(text.p, e == TAO_OK ? text.n : 0, unit);
	tao_buf_free(&text);
	return e;
}
