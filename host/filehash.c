#include "filehash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "stable.h"

#define CACHE_SETS 1024 /* places that a file can be in, times CACHE_WAYS */
#define CACHE_WAYS 4
#define CHUNK (256u << 10) /* bytes read at a time */
#define COPY_NAME_MAX 249 /* memfd_create(2) */

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010u /* Linux 6.3 */
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020 /* Linux 6.3 */
#endif

struct known {
	struct file_id id;
	uint8_t hash[TAO_HASH_LEN];
	int used;
};

struct measure_cache {
	pthread_mutex_t lock;
	struct known known[CACHE_SETS][CACHE_WAYS];
	unsigned char next[CACHE_SETS]; /* whose turn it is to make room */
};

struct measure_cache *measure_cache_new(void)
{
	struct measure_cache *c = calloc(1, sizeof *c);

	if (c != NULL)
		pthread_mutex_init(&c->lock, NULL);
	return c;
}

void measure_cache_free(struct measure_cache *c)
{
	if (c == NULL)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void file_id_of(const struct stat *st, struct file_id *id)
{
	memset(id, 0, sizeof *id);
	id->dev = st->st_dev;
	id->ino = st->st_ino;
	id->size = st->st_size;
	id->mtime = st->st_mtim;
	id->ctime = st->st_ctim;
}

void file_id_of_exe(const struct stat *st, struct file_id *id)
{
	file_id_of(st, id);
	if (st->st_uid == 0 && S_ISREG(st->st_mode) && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0)
		memset(&id->ctime, 0, sizeof id->ctime);
}

static int same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int file_id_equal(const struct file_id *a, const struct file_id *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       same_time(&a->mtime, &b->mtime) && same_time(&a->ctime, &b->ctime);
}

static size_t set_of(const struct file_id *id)
{
	return (size_t)((uint64_t)id->ino * 0x9e3779b97f4a7c15u >> 32 ^ id->dev) % CACHE_SETS;
}

static int recall(struct measure_cache *c, const struct file_id *id, uint8_t hash[TAO_HASH_LEN])
{
	struct known *set = c->known[set_of(id)];
	int found = 0;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < CACHE_WAYS && !found; i++)
		if (set[i].used && file_id_equal(&set[i].id, id)) {
			memcpy(hash, set[i].hash, TAO_HASH_LEN);
			found = 1;
		}
	pthread_mutex_unlock(&c->lock);
	return found;
}

static void remember(struct measure_cache *c, const struct file_id *id,
                     const uint8_t hash[TAO_HASH_LEN])
{
	size_t s = set_of(id);
	size_t at;

	pthread_mutex_lock(&c->lock);
	at = c->next[s]++ % CACHE_WAYS;
	for (size_t i = 0; i < CACHE_WAYS; i++)
		if (c->known[s][i].used && c->known[s][i].id.dev == id->dev &&
		    c->known[s][i].id.ino == id->ino)
			at = i;
	c->known[s][at].id = *id;
	memcpy(c->known[s][at].hash, hash, TAO_HASH_LEN);
	c->known[s][at].used = 1;
	pthread_mutex_unlock(&c->lock);
}

static int cacheable(int fd, const struct stat *st)
{
	struct timespec now;

	return (st->st_uid == 0 || st->st_uid == geteuid()) &&
	       (st->st_mode & (S_IWGRP | S_IWOTH)) == 0 && !stable_served(fd) &&
	       clock_gettime(CLOCK_REALTIME, &now) == 0 &&
	       now.tv_sec - st->st_ctim.tv_sec > CACHE_QUIET;
}

static enum tao_err write_all(int fd, const char *path, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return tao_fail_sys("cannot copy %s into memory", path);
		p += w;
		n -= (size_t)w;
	}
	return TAO_OK;
}

static enum tao_err too_large(const char *path)
{
	return tao_fail(TAO_ELIMIT, "%s is larger than the %llu bytes that the Tao host measures",
	                path, MEASURE_MAX_FILE);
}

/* Hashes the file; what was hashed goes to the descriptor copy unless that is -1. */
static enum tao_err pump(int fd, const char *path, int copy, EVP_MD_CTX *md)
{
	uint8_t *chunk = malloc(CHUNK);
	uint64_t at = 0;
	enum tao_err e = chunk != NULL ? TAO_OK : tao_fail_nomem();

	while (e == TAO_OK) {
		ssize_t n = pread(fd, chunk, CHUNK, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			e = tao_fail_sys("cannot read %s", path);
			break;
		}
		if (n == 0)
			break;
		at += (uint64_t)n;
		if (at > MEASURE_MAX_FILE)
			e = too_large(path);
		else if (EVP_DigestUpdate(md, chunk, (size_t)n) != 1)
			e = tao_fail_crypto("cannot hash %s", path);
		else if (copy >= 0)
			e = write_all(copy, path, chunk, (size_t)n);
	}
	free(chunk);
	return e;
}

static enum tao_err hash_to(int fd, const char *path, int copy, uint8_t hash[TAO_HASH_LEN])
{
	EVP_MD_CTX *md;
	struct stat st;
	enum tao_err e = TAO_OK;

	if (fstat(fd, &st) == 0 && st.st_size > 0 && (uint64_t)st.st_size > MEASURE_MAX_FILE)
		return too_large(path);
	md = EVP_MD_CTX_new();
	if (md == NULL)
		return tao_fail_nomem();
	if (EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		e = tao_fail_crypto("cannot start SHA-256");
	if (e == TAO_OK)
		e = pump(fd, path, copy, md);
	if (e == TAO_OK && EVP_DigestFinal_ex(md, hash, NULL) != 1)
		e = tao_fail_crypto("cannot hash %s", path);
	EVP_MD_CTX_free(md);
	return e;
}

enum tao_err measure_file(struct measure_cache *c, int fd, const char *path,
                          uint8_t hash[TAO_HASH_LEN])
{
	struct stat before, after;
	struct file_id id, id_after;
	enum tao_err e;

	if (fstat(fd, &before) != 0)
		return tao_fail_sys("cannot examine %s", path);
	if (!S_ISREG(before.st_mode))
		return tao_fail(TAO_EINVAL, "%s is not a regular file: name one", path);
	file_id_of(&before, &id);
	if (c != NULL && cacheable(fd, &before) && recall(c, &id, hash))
		return TAO_OK;
	e = hash_to(fd, path, -1, hash);
	if (e != TAO_OK || c == NULL || !cacheable(fd, &before))
		return e;
	if (fstat(fd, &after) != 0)
		return tao_fail_sys("cannot examine %s", path);
	file_id_of(&after, &id_after);
	if (file_id_equal(&id, &id_after))
		remember(c, &id, hash);
	return TAO_OK;
}

enum tao_err filehash_slurp(int fd, const char *path, size_t max, struct tao_buf *out)
{
	struct stat st;
	uint8_t *p;
	size_t got = 0;

	if (fstat(fd, &st) != 0)
		return tao_fail_sys("cannot examine %s", path);
	if (st.st_size < 0 || (uint64_t)st.st_size > max)
		return tao_fail(TAO_ELIMIT, "%s is larger than %zu bytes", path, max);
	p = tao_buf_room(out, (size_t)st.st_size);
	while (p != NULL && got < (size_t)st.st_size) {
		ssize_t n = pread(fd, p + got, (size_t)st.st_size - got, (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return tao_fail_sys("cannot read %s", path);
		if (n == 0)
			return tao_fail(TAO_EBUSY, "%s shrank while it was read: try again", path);
		got += (size_t)n;
	}
	return tao_buf_err(out);
}

/* Returns how long it is, or would be. */
static size_t escape(const char *path, char name[COPY_NAME_MAX + 1])
{
	struct tao_buf b = TAO_BUF_INIT;
	size_t n;

	for (; *path != 0; path++)
		tao_buf_fmt(&b, *path == '/' || *path == '%' ? "%%%02X" : "%c", *path);
	n = b.n;
	snprintf(name, COPY_NAME_MAX + 1, "%s", tao_buf_cstr(&b));
	tao_buf_free(&b);
	return n;
}

static void name_copy(int fd, const char *path, char name[COPY_NAME_MAX + 1])
{
	char self[64], real[PATH_MAX];
	const char *base;
	ssize_t n;

	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	n = readlink(self, real, sizeof real - 1);
	real[n > 0 ? n : 0] = 0;
	path = n > 0 ? real : path;
	base = strrchr(path, '/');
	if (escape(path, name) > COPY_NAME_MAX && base != NULL)
		escape(base + 1, name);
}

static int new_memfd(int fd, const char *path)
{
	char name[COPY_NAME_MAX + 1];
	int copy;

	name_copy(fd, path, name);
	copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (copy < 0 && errno == EINVAL)
		copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return copy;
}

static enum tao_err seal(int fd, const char *path)
{
	const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	if (fchmod(fd, 0555) != 0)
		return tao_fail_sys("cannot make the copy of %s executable", path);
	if (fcntl(fd, F_ADD_SEALS, seals | F_SEAL_EXEC) != 0 &&
	    (errno != EINVAL || fcntl(fd, F_ADD_SEALS, seals) != 0))
		return tao_fail_sys("cannot seal the copy of %s", path);
	return TAO_OK;
}

/* Even a refused write through a writable descriptor would touch the copy's times, by which it is
 * known again. */
static enum tao_err reopen_readonly(int *fd, const char *path)
{
	char self[64];
	int again;

	snprintf(self, sizeof self, "/proc/self/fd/%d", *fd);
	again = open(self, O_RDONLY | O_CLOEXEC);
	if (again < 0)
		return tao_fail_sys("cannot open the copy of %s", path);
	close(*fd);
	*fd = again;
	return TAO_OK;
}

/* The sum is of the bytes that were written, which nobody else has a descriptor to change. */
enum tao_err filehash_copy(int fd, const char *path, int *copy, uint8_t hash[TAO_HASH_LEN])
{
	enum tao_err e;

	*copy = new_memfd(fd, path);
	if (*copy < 0)
		return tao_fail_sys("cannot make room in memory for a copy of %s (vm.memfd_noexec "
		                    "must not be 2)", path);
	e = hash_to(fd, path, *copy, hash);
	if (e == TAO_OK)
		e = seal(*copy, path);
	if (e == TAO_OK)
		e = reopen_readonly(copy, path);
	if (e != TAO_OK) {
		close(*copy);
		*copy = -1;
	}
	return e;
}
