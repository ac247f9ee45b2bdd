#include "stable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#define LINKS_MAX 40 /* symbolic links on one path, as the kernel's */

struct served_fs {
	unsigned long magic;
	const char *name;
};

static const struct served_fs served[] = {
	{ FUSE_SUPER_MAGIC, "FUSE" },
	{ NFS_SUPER_MAGIC, "NFS" },
	{ 0xff534d42, "CIFS" },
	{ 0xfe534d42, "SMB" },
	{ V9FS_MAGIC, "9P" },
	{ AFS_SUPER_MAGIC, "AFS" },
	{ AFS_FS_MAGIC, "AFS" },
	{ 0x00c36400, "Ceph" },
	{ CODA_SUPER_MAGIC, "Coda" },
	{ PROC_SUPER_MAGIC, "proc" },
};

struct walk {
	uid_t dev_uid;
	int dir;               /* O_PATH: where we are */
	dev_t dev;             /* of the file system that was judged last */
	int judged;
	int sticky;            /* others may add entries to dir, not touch ours */
	int links;
	char real[PATH_MAX];   /* the path of dir; "" is the root */
	char rest[2 * PATH_MAX];
};

static int trusted(uid_t uid, uid_t dev_uid)
{
	return uid == 0 || (dev_uid != 0 && uid == dev_uid);
}

static const struct served_fs *served_by(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return NULL;
	for (size_t i = 0; i < sizeof served / sizeof *served; i++)
		if ((unsigned long)(uint32_t)fs.f_type == served[i].magic)
			return &served[i];
	return NULL;
}

int stable_served(int fd)
{
	return served_by(fd) != NULL;
}

int stable_fuse(int fd)
{
	const struct served_fs *fs = served_by(fd);

	return fs != NULL && fs->magic == FUSE_SUPER_MAGIC;
}

static enum tao_err judge_fs(struct walk *w, int fd, const struct stat *st, const char *path)
{
	const struct served_fs *fs;

	if (w->judged && w->dev == st->st_dev)
		return TAO_OK;
	fs = served_by(fd);
	if (fs != NULL)
		return tao_fail(TAO_EDENIED,
		                "%s is on a file system of type %s, which others can change: "
		                "copy it to a local disk", path, fs->name);
	w->judged = 1;
	w->dev = st->st_dev;
	return TAO_OK;
}

static enum tao_err judge_owner(const struct walk *w, const struct stat *st, const char *path)
{
	if (trusted(st->st_uid, w->dev_uid))
		return TAO_OK;
	return tao_fail(TAO_EDENIED,
	                "%s belongs to user %u, who could change it: give it to root with "
	                "'chown root %s'", path, (unsigned)st->st_uid, path);
}

static enum tao_err judge_mode(const struct stat *st, const char *path)
{
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) == 0)
		return TAO_OK;
	return tao_fail(TAO_EDENIED,
	                "%s can be written by %s: stop that with 'chmod go-w %s'", path,
	                st->st_mode & S_IWOTH ? "everybody" : "its group", path);
}

static enum tao_err judge_dir(struct walk *w, int fd, const struct stat *st, const char *path)
{
	enum tao_err e = judge_fs(w, fd, st, path);

	if (e == TAO_OK)
		e = judge_owner(w, st, path);
	w->sticky = 0;
	if (e == TAO_OK && (st->st_mode & S_ISVTX) && (st->st_mode & (S_IWGRP | S_IWOTH)))
		w->sticky = 1;
	else if (e == TAO_OK)
		e = judge_mode(st, path);
	return e;
}

/* The directory fd, which w->dir is from here on. */
static enum tao_err enter(struct walk *w, int fd, const char *path)
{
	struct stat st;

	if (w->dir >= 0)
		close(w->dir);
	w->dir = fd;
	if (fstat(fd, &st) != 0)
		return tao_fail_sys("cannot examine %s", path);
	return judge_dir(w, fd, &st, path);
}

/* Puts path before what is left to walk. */
static enum tao_err prepend(struct walk *w, const char *path)
{
	char rest[2 * PATH_MAX];

	if (snprintf(rest, sizeof rest, "%s/%s", path, w->rest) >= (int)sizeof rest)
		return tao_fail(TAO_ELIMIT, "a path is longer than %d bytes: shorten it", PATH_MAX);
	strcpy(w->rest, rest);
	return TAO_OK;
}

static enum tao_err to_root(struct walk *w)
{
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return tao_fail_sys("cannot open /");
	w->real[0] = 0;
	return enter(w, fd, "/");
}

static enum tao_err walk_begin(struct walk *w, const char *path, uid_t dev_uid)
{
	w->dev_uid = dev_uid;
	w->dir = -1;
	w->judged = w->links = 0;
	w->rest[0] = 0;
	if (path[0] != '/')
		return tao_fail(TAO_EINVAL, "'%s' is not an absolute path: name it from /", path);
	if (strlen(path) >= PATH_MAX)
		return tao_fail(TAO_ELIMIT, "a path is longer than %d bytes: shorten it", PATH_MAX);
	strcpy(w->rest, path);
	return to_root(w);
}

/* Takes the next name off w->rest; 0 when there is none left. */
static int next_name(struct walk *w, char name[NAME_MAX + 1], enum tao_err *e)
{
	char *p = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(p, "/");

	*e = TAO_OK;
	if (n == 0)
		return 0;
	if (n > NAME_MAX) {
		*e = tao_fail(TAO_ENOTFOUND, "a file name is longer than %d bytes", NAME_MAX);
		return 0;
	}
	memcpy(name, p, n);
	name[n] = 0;
	memmove(w->rest, p + n, strlen(p + n) + 1);
	return 1;
}

static enum tao_err up(struct walk *w)
{
	char *slash = strrchr(w->real, '/');
	int fd = openat(w->dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return tao_fail_sys("cannot go up from %s/", w->real);
	if (slash != NULL)
		*slash = 0;
	return enter(w, fd, w->real[0] != 0 ? w->real : "/");
}

static enum tao_err follow(struct walk *w, int fd, const char *path)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof target - 1);
	enum tao_err e;

	if (n < 0)
		return tao_fail_sys("cannot read the symbolic link %s", path);
	if (++w->links > LINKS_MAX)
		return tao_fail(TAO_ELIMIT, "%s: more than %d symbolic links", path, LINKS_MAX);
	target[n] = 0;
	e = prepend(w, target);
	if (e == TAO_OK && target[0] == '/')
		e = to_root(w);
	return e;
}

static enum tao_err absent(const struct walk *w, const char *path)
{
	if (errno == EACCES)
		return tao_fail(TAO_EPERM, "%s: the Tao host may not look there: make the "
		                "directories above it searchable for everybody", path);
	if (errno != ENOENT && errno != ENOTDIR)
		return tao_fail_sys("cannot look up %s", path);
	if (w->sticky)
		return tao_fail(TAO_EDENIED, "%s is not there, and anybody could put it there: "
		                "use a directory that only root can write", path);
	return tao_fail(TAO_ENOTFOUND, "%s is not there", path);
}

/*
 * One name further. *fd is the O_PATH descriptor of what was found if that is neither a
 * directory nor a symbolic link, else -1; st and w->real then describe it.
 */
static enum tao_err step(struct walk *w, const char *name, int *fd, struct stat *st)
{
	size_t n = strlen(w->real);
	int found;
	enum tao_err e = TAO_OK;

	*fd = -1;
	if (strcmp(name, ".") == 0)
		return TAO_OK;
	if (strcmp(name, "..") == 0)
		return up(w);
	if (snprintf(w->real + n, sizeof w->real - n, "/%s", name) >= (int)(sizeof w->real - n))
		return tao_fail(TAO_ELIMIT, "a path is longer than %d bytes: shorten it", PATH_MAX);
	found = openat(w->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (found < 0)
		return absent(w, w->real);
	if (fstat(found, st) != 0)
		e = tao_fail_sys("cannot examine %s", w->real);
	if (e == TAO_OK && w->sticky)
		e = judge_owner(w, st, w->real);
	if (e == TAO_OK && S_ISLNK(st->st_mode)) {
		e = follow(w, found, w->real);
		if (w->real[0] != 0)
			w->real[n] = 0;
	} else if (e == TAO_OK && S_ISDIR(st->st_mode)) {
		e = judge_dir(w, found, st, w->real);
		close(w->dir);
		w->dir = found;
		return e;
	} else if (e == TAO_OK) {
		*fd = found;
		return TAO_OK;
	}
	close(found);
	return e;
}

/* Walks to the end. *fd as in step(): -1 when the path ends at a directory. */
static enum tao_err walk_all(struct walk *w, int *fd, struct stat *st)
{
	char name[NAME_MAX + 1];
	enum tao_err e;

	*fd = -1;
	while (next_name(w, name, &e)) {
		if (*fd >= 0) {
			close(*fd);
			*fd = -1;
			return tao_fail(TAO_ENOTFOUND, "%s is not a directory", w->real);
		}
		e = step(w, name, fd, st);
		if (e != TAO_OK)
			break;
	}
	return e;
}

/* The O_PATH descriptor is opened anew: the name could be a device by now only if root did it. */
static int reopen(int path_fd)
{
	char self[64];

	snprintf(self, sizeof self, "/proc/self/fd/%d", path_fd);
	return open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static enum tao_err judge_file(struct walk *w, int fd, const struct stat *st)
{
	enum tao_err e;

	if (!S_ISREG(st->st_mode))
		return tao_fail(TAO_EDENIED, "%s is not a regular file: name one", w->real);
	e = judge_fs(w, fd, st, w->real);
	if (e == TAO_OK)
		e = judge_owner(w, st, w->real);
	return e == TAO_OK ? judge_mode(st, w->real) : e;
}

enum tao_err stable_open(const char *path, uid_t dev_uid, struct stable_file *f)
{
	struct walk w;
	int fd = -1;
	enum tao_err e;

	*f = (struct stable_file)STABLE_FILE_INIT;
	e = walk_begin(&w, path, dev_uid);
	if (e == TAO_OK)
		e = walk_all(&w, &fd, &f->st);
	if (e == TAO_OK && fd < 0)
		e = tao_fail(TAO_EDENIED, "%s is a directory: name a file", path);
	if (e == TAO_OK)
		e = judge_file(&w, fd, &f->st);
	if (e != TAO_OK)
		goto out;
	f->fd = reopen(fd);
	f->real = strdup(w.real);
	if (f->fd < 0)
		e = errno == EACCES
		    ? tao_fail(TAO_EPERM, "the Tao host may not read %s: make it readable for "
		               "everybody with 'chmod a+r %s'", w.real, w.real)
		    : tao_fail_sys("cannot open %s", w.real);
	else if (f->real == NULL)
		e = tao_fail_nomem();
out:
	if (fd >= 0)
		close(fd);
	if (w.dir >= 0)
		close(w.dir);
	if (e != TAO_OK)
		stable_close(f);
	return e;
}

void stable_close(struct stable_file *f)
{
	if (f == NULL)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f->real);
	*f = (struct stable_file)STABLE_FILE_INIT;
}

enum tao_err stable_dir(const char *path, uid_t dev_uid)
{
	struct walk w;
	struct stat st;
	int fd = -1;
	enum tao_err e = walk_begin(&w, path, dev_uid);

	if (e == TAO_OK)
		e = walk_all(&w, &fd, &st);
	if (e == TAO_OK && fd >= 0)
		e = tao_fail(TAO_ENOTFOUND, "%s is not a directory", path);
	else if (e == TAO_OK && w.sticky)
		e = tao_fail(TAO_EDENIED, "anybody could put files into %s: use a directory that "
		             "only root can write", path);
	if (fd >= 0)
		close(fd);
	if (w.dir >= 0)
		close(w.dir);
	return e;
}

enum tao_err stable_fd(int fd, uid_t dev_uid, char **real)
{
	char self[64], path[PATH_MAX];
	struct stable_file f = STABLE_FILE_INIT;
	struct stat st;
	ssize_t n;
	enum tao_err e;

	*real = NULL;
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	n = readlink(self, path, sizeof path - 1);
	if (n < 0 || fstat(fd, &st) != 0)
		return tao_fail_sys("cannot examine the open file (is /proc mounted?)");
	path[n] = 0;
	if (path[0] != '/')
		return tao_fail(TAO_EDENIED, "the open file has no path");
	e = stable_open(path, dev_uid, &f);
	if (e == TAO_OK && (f.st.st_dev != st.st_dev || f.st.st_ino != st.st_ino))
		e = tao_fail(TAO_EDENIED, "%s is another file than the open one: try again", path);
	if (e == TAO_OK) {
		*real = f.real;
		f.real = NULL;
	}
	stable_close(&f);
	return e;
}
