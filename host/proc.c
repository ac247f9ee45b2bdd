#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROC_TEXT_MAX 4096 /* bytes of stat or status that are read; what is needed comes first */
#define TRIES_MAX 8        /* looks at a process that executes another file meanwhile */
#define PARENTS_MAX 4096   /* generations */

/* Fields of /proc/PID/stat behind the command's name, proc_pid_stat(5): state is the first. */
#define FIELD_PPID 1
#define FIELD_START 19

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

/* The command's name may hold blanks and parentheses: the last one ends it. */
static int parse_stat(const char *text, pid_t *ppid, uint64_t *start)
{
	const char *s = strrchr(text, ')');

	if (s == NULL)
		return 0;
	s++;
	for (int field = 0; field <= FIELD_START; field++) {
		s += strspn(s, " ");
		if (*s == 0)
			return 0;
		if (field == FIELD_PPID)
			*ppid = (pid_t)strtol(s, NULL, 10);
		if (field == FIELD_START)
			*start = strtoull(s, NULL, 10);
		s += strcspn(s, " ");
	}
	return 1;
}

static enum tao_err read_stat(int dir, pid_t pid, pid_t *ppid, uint64_t *start)
{
	char text[PROC_TEXT_MAX];
	enum tao_err e = read_text(dir, pid, "stat", text);

	if (e == TAO_OK && !parse_stat(text, ppid, start))
		e = tao_fail(TAO_EFORMAT, "/proc/%d/stat is not understood: is /proc the kernel's?",
		             (int)pid);
	return e;
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

static enum tao_err read_exe(int dir, pid_t pid, struct file_id *id)
{
	int fd = openat(dir, "exe", O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		enum tao_err e = no_access(pid, "exe");

		if (fd >= 0)
			close(fd);
		return e;
	}
	close(fd);
	file_id_of(&st, id);
	return TAO_OK;
}

enum tao_err measure_process(pid_t pid, struct process_view *v)
{
	struct file_id again;
	int dir = -1, same = 0;
	enum tao_err e = open_proc(pid, &dir);

	memset(v, 0, sizeof *v);
	if (e == TAO_OK)
		e = read_exe(dir, pid, &v->exe);
	/* One view, not half of one program and half of the next. */
	for (int i = 0; e == TAO_OK && !same && i < TRIES_MAX; i++) {
		e = read_stat(dir, pid, &v->ppid, &v->start);
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

/* Goes from the process of *dir to its parent, whose descriptor then is in *dir. */
static int to_parent(int *dir, pid_t *pid, uint64_t *start)
{
	pid_t parent, still, grandparent;
	uint64_t parent_start, own_start;
	int up = -1, good;

	if (read_stat(*dir, *pid, &parent, &own_start) != TAO_OK || parent <= 0 ||
	    open_proc(parent, &up) != TAO_OK)
		return 0;
	/* A parent that ended before it was opened is the parent no more: its number may be
	 * another's by now. */
	good = read_stat(up, parent, &grandparent, &parent_start) == TAO_OK &&
	       read_stat(*dir, *pid, &still, &own_start) == TAO_OK && still == parent;
	close(*dir);
	*dir = up;
	*pid = parent;
	*start = parent_start;
	return good;
}

int measure_descends(pid_t pid, pid_t ancestor, uint64_t start)
{
	int dir = -1, found = 0;
	pid_t parent;
	uint64_t at;

	if (open_proc(pid, &dir) != TAO_OK)
		return 0;
	if (read_stat(dir, pid, &parent, &at) != TAO_OK)
		goto out;
	for (int i = 0; i < PARENTS_MAX; i++) {
		if (pid == ancestor) {
			found = at == start;
			break;
		}
		if (!to_parent(&dir, &pid, &at))
			break;
	}
out:
	if (dir >= 0)
		close(dir);
	return found;
}
