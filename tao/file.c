#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#define CHUNK 4096
#define PASS_MAX 1023 /* bytes of a passphrase */
#define TEMP_TRIES 8
#define TEMP_PREFIX ".tao-"
#define TEMP_DIGITS 16
#define SWEEP_DEPTH 8 /* directories below one another */

/* Reading */

static enum tao_err fail_open(const char *path)
{
	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		return tao_fail(TAO_ENOTFOUND, "%s does not exist: check the path", path);
	case EACCES:
	case EPERM:
		return tao_fail(TAO_EPERM, "this user may not open %s: check its owner and mode",
		                path);
	default:
		return tao_fail_sys("cannot open %s", path);
	}
}

static int open_read(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

static ssize_t read_some(int fd, void *p, size_t n)
{
	ssize_t got;

	do
		got = read(fd, p, n);
	while (got < 0 && errno == EINTR);
	return got;
}

static enum tao_err read_all(int fd, const char *what, size_t max, struct tao_buf *all)
{
	uint8_t chunk[CHUNK];
	enum tao_err e = TAO_OK;
	ssize_t got;

	while ((got = read_some(fd, chunk, sizeof chunk)) > 0) {
		if ((size_t)got > max - all->n) {
			e = tao_fail(TAO_ELIMIT, "%s is larger than %zu bytes: is it the right "
			             "one?", what, max);
			break;
		}
		tao_buf_put(all, chunk, (size_t)got);
	}
	if (got < 0)
		e = tao_fail_sys("cannot read %s", what);
	OPENSSL_cleanse(chunk, sizeof chunk);
	return e != TAO_OK ? e : tao_buf_err(all);
}

enum tao_err tao_fd_read(int fd, const char *what, size_t max, struct tao_buf *out)
{
	struct tao_buf all = TAO_BUF_INIT; /* out gets the whole, or nothing */
	enum tao_err e;

	all.max = max;
	e = read_all(fd, what, max, &all);
	if (e == TAO_OK) {
		tao_buf_put(out, all.p, all.n);
		e = tao_buf_err(out);
	}
	tao_buf_free(&all);
	return e;
}

enum tao_err tao_file_read(const char *path, size_t max, struct tao_buf *out)
{
	int fd = open_read(path);
	enum tao_err e;

	if (fd < 0)
		return fail_open(path);
	e = tao_fd_read(fd, path, max, out);
	close(fd);
	return e;
}

/* Writing */

struct tao_file {
	char *path;       /* for sentences */
	int dir;          /* the directory, so that it cannot be exchanged in between */
	const char *name; /* in it: the end of path */
	char temp[32];    /* "": there is none, or it is in place */
	int flags;
};

static enum tao_err fail_write(const char *path)
{
	switch (errno) {
	case EEXIST:
		return tao_fail(TAO_EEXIST, "%s exists already and is not overwritten: remove it "
		                            "first, or choose another name", path);
	case EACCES:
	case EPERM:
		return tao_fail(TAO_EPERM, "cannot write %s: %s; check owner and mode of its "
		                "directory", path, strerror(errno));
	case EROFS:
		tao_fail_sys("cannot write %s", path);
		return TAO_EPERM;
	default:
		return tao_fail_sys("cannot write %s, it is as it was before", path);
	}
}

static enum tao_err open_dir(struct tao_file *f)
{
	const char *path = f->path, *slash = strrchr(path, '/');
	char *dir;

	f->name = slash != NULL ? slash + 1 : path;
	if (f->name[0] == 0 || strcmp(f->name, ".") == 0 || strcmp(f->name, "..") == 0)
		return tao_fail(TAO_EINVAL, "'%s' does not name a file", path);
	if (slash == NULL)
		dir = strdup(".");
	else
		dir = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	if (dir == NULL)
		return tao_fail_nomem();
	f->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (f->dir >= 0)
		return TAO_OK;
	if (errno == ENOENT || errno == ENOTDIR)
		return tao_fail(TAO_ENOTFOUND, "cannot write %s: its directory does not exist, "
		                               "make it first", path);
	return fail_write(path);
}

static enum tao_err open_file(const char *path, int flags, struct tao_file **out)
{
	struct tao_file *f = calloc(1, sizeof *f);
	enum tao_err e;

	*out = NULL;
	if (f == NULL)
		return tao_fail_nomem();
	f->dir = -1;
	f->flags = flags;
	f->path = strdup(path);
	e = f->path != NULL ? open_dir(f) : tao_fail_nomem();
	if (e == TAO_OK)
		*out = f;
	else
		tao_file_free(f);
	return e;
}

void tao_file_free(struct tao_file *f)
{
	if (f == NULL)
		return;
	if (f->temp[0] != 0)
		unlinkat(f->dir, f->temp, 0);
	if (f->dir >= 0)
		close(f->dir);
	free(f->path);
	free(f);
}

/* A name of its own and not the target's with a tail, which may be too long. */
static int open_temp(struct tao_file *f)
{
	char name[sizeof f->temp];
	uint8_t r[8];
	int fd = -1;

	for (int i = 0; i < TEMP_TRIES; i++) {
		if (RAND_bytes(r, sizeof r) != 1) {
			errno = EIO;
			return -1;
		}
		snprintf(name, sizeof name, TEMP_PREFIX "%02x%02x%02x%02x%02x%02x%02x%02x", r[0],
		         r[1], r[2], r[3], r[4], r[5], r[6], r[7]);
		fd = openat(f->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		            0600);
		if (fd >= 0 || errno != EEXIST)
			break;
	}
	if (fd >= 0)
		memcpy(f->temp, name, sizeof name);
	return fd;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -1;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static int fill(int fd, const void *p, size_t n, mode_t mode, const struct timespec *mtime,
                int flags)
{
	struct timespec times[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

	if (mtime != NULL)
		times[1] = *mtime;
	if (fchmod(fd, mode) < 0 || write_all(fd, p, n) < 0 ||
	    (mtime != NULL && futimens(fd, times) < 0))
		return -1;
	return (flags & TAO_FILE_VOLATILE) != 0 ? 0 : fsync(fd);
}

static enum tao_err prepare(const char *path, const void *p, size_t n, mode_t mode,
                            const struct timespec *mtime, int flags, struct tao_file **out)
{
	enum tao_err e = open_file(path, flags, out);
	int fd;

	if (e != TAO_OK)
		return e;
	fd = open_temp(*out);
	if (fd < 0 || fill(fd, p, n, mode, mtime, flags) < 0) {
		e = fail_write(path);
		tao_file_free(*out);
		*out = NULL;
	}
	if (fd >= 0)
		close(fd);
	return e;
}

enum tao_err tao_file_prepare(const char *path, const void *p, size_t n, mode_t mode,
                              const struct timespec *mtime, struct tao_file **out)
{
	return prepare(path, p, n, mode, mtime, 0, out);
}

static int put_in_place(const struct tao_file *f)
{
	if ((f->flags & TAO_FILE_NEW) == 0)
		return renameat(f->dir, f->temp, f->dir, f->name);
	if (renameat2(f->dir, f->temp, f->dir, f->name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system without it: a link does not replace either. */
	if (linkat(f->dir, f->temp, f->dir, f->name, 0) < 0)
		return -1;
	unlinkat(f->dir, f->temp, 0);
	return 0;
}

enum tao_err tao_files_place(struct tao_file *const *files, size_t n)
{
	enum tao_err e = TAO_OK;
	size_t placed = 0;

	for (; placed < n && put_in_place(files[placed]) == 0; placed++)
		files[placed]->temp[0] = 0;
	if (placed < n)
		e = fail_write(files[placed]->path);
	for (size_t i = 0; i < placed; i++)
		if ((files[i]->flags & TAO_FILE_VOLATILE) == 0 && fsync(files[i]->dir) < 0 &&
		    e == TAO_OK)
			e = tao_fail_sys("%s is written, but may not survive a power cut",
			                 files[i]->path);
	return e;
}

static int is_so_already(const char *path, const void *p, size_t n, mode_t mode)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct stat st;
	int same = lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == mode &&
	           (size_t)st.st_size == n && tao_file_read(path, n, &b) == TAO_OK && b.n == n &&
	           memcmp(b.p, p, n) == 0;

	tao_buf_free(&b);
	return same;
}

enum tao_err tao_file_write(const char *path, const void *p, size_t n, mode_t mode, int flags)
{
	struct tao_file *f;
	enum tao_err e;

	if ((flags & TAO_FILE_KEEP) != 0 && n > 0 && is_so_already(path, p, n, mode))
		return TAO_OK;
	e = prepare(path, p, n, mode, NULL, flags, &f);
	if (e == TAO_OK)
		e = tao_files_place(&f, 1);
	tao_file_free(f);
	return e;
}

enum tao_err tao_file_lock(const char *path, int *fd)
{
	enum tao_err e = TAO_OK;
	char *lock;
	int got;

	*fd = -1;
	if (asprintf(&lock, "%s.lock", path) < 0)
		return tao_fail_nomem();
	*fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600);
	if (*fd < 0) {
		e = fail_open(lock);
	} else {
		do
			got = flock(*fd, LOCK_EX);
		while (got != 0 && errno == EINTR);
		if (got != 0)
			e = tao_fail_sys("cannot lock %s", lock);
	}
	if (e != TAO_OK && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	free(lock);
	return e;
}

enum tao_err tao_file_remove(const char *path)
{
	struct tao_file *f;
	enum tao_err e = open_file(path, 0, &f);

	if (e == TAO_ENOTFOUND) /* no directory, no file */
		return TAO_OK;
	if (e != TAO_OK)
		return e;
	if (unlinkat(f->dir, f->name, 0) < 0 && errno != ENOENT)
		e = tao_fail_sys("cannot remove %s", path);
	else if (fsync(f->dir) < 0)
		e = tao_fail_sys("%s is removed, but may be back after a power cut", path);
	tao_file_free(f);
	return e;
}

enum tao_err tao_dir_make(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0) {
		if (chmod(path, mode) == 0) /* whatever the umask */
			return TAO_OK;
		return tao_fail_sys("cannot set the mode of %s", path);
	}
	switch (errno) {
	case EEXIST:
		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
			return TAO_OK;
		return tao_fail(TAO_EEXIST, "%s exists and is not a directory: remove it, or "
		                            "choose another path", path);
	case ENOENT:
	case ENOTDIR:
		return tao_fail(TAO_ENOTFOUND, "cannot make the directory %s: the one above it "
		                               "does not exist, make it first", path);
	case EACCES:
	case EPERM:
		return tao_fail(TAO_EPERM, "cannot make the directory %s: %s; check owner and mode "
		                           "of the one above it", path, strerror(errno));
	case EROFS:
		tao_fail_sys("cannot make the directory %s", path);
		return TAO_EPERM;
	default:
		return tao_fail_sys("cannot make the directory %s", path);
	}
}

/* Sweeping */

static int is_temp(const char *name)
{
	size_t n = strlen(TEMP_PREFIX);

	return strncmp(name, TEMP_PREFIX, n) == 0 && strlen(name) == n + TEMP_DIGITS &&
	       strspn(name + n, "0123456789abcdef") == TEMP_DIGITS;
}

static unsigned sweep(int fd, int depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *de;
	struct stat st;
	unsigned n = 0;

	if (d == NULL) {
		close(fd);
		return 0;
	}
	while ((de = readdir(d)) != NULL) {
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (S_ISREG(st.st_mode) && is_temp(de->d_name)) {
			n += unlinkat(fd, de->d_name, 0) == 0;
		} else if (S_ISDIR(st.st_mode) && de->d_name[0] != '.' && depth > 0) {
			int sub = openat(fd, de->d_name,
			                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			n += sub >= 0 ? sweep(sub, depth - 1) : 0;
		}
	}
	closedir(d);
	return n;
}

unsigned tao_dir_sweep(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 ? sweep(fd, SWEEP_DEPTH) : 0;
}

/* Passphrases */

/* Byte by byte: what follows the line in a pipe is somebody else's. */
static enum tao_err read_line(int fd, const char *what, struct tao_buf *out)
{
	uint8_t line[PASS_MAX + 1];
	size_t n = 0;
	ssize_t got = 0;
	enum tao_err e;

	while (n < sizeof line && (got = read_some(fd, line + n, 1)) == 1 && line[n] != '\n')
		n++;
	if (got < 0) {
		e = tao_fail_sys("cannot read the passphrase from %s", what);
	} else if (n == 0 || n > PASS_MAX) {
		e = tao_fail(TAO_EINVAL, "the first line of %s must be the passphrase, 1 to %d "
		                         "bytes: it is %s", what, PASS_MAX,
		                         n == 0 ? "empty" : "longer");
	} else {
		tao_buf_put(out, line, n);
		e = tao_buf_err(out);
	}
	OPENSSL_cleanse(line, sizeof line);
	return e;
}

enum tao_err tao_passphrase_file(const char *path, struct tao_buf *out)
{
	int fd = open_read(path);
	enum tao_err e;

	if (fd < 0)
		return fail_open(path);
	e = read_line(fd, path, out);
	close(fd);
	return e;
}

enum tao_err tao_passphrase_fd(int fd, struct tao_buf *out)
{
	char what[40];

	snprintf(what, sizeof what, "file descriptor %d", fd);
	return read_line(fd, what, out);
}
