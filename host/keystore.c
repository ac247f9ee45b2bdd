#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "../tao/file.h"
#include "../tao/stub.h"

#define MAX_PEM (2 * TAO_STUB_MAX)

char *keystore_stub_path(struct host *h, uid_t uid, const char *name)
{
	return host_path(&h->conf, "keys/%u/%s.pem", (unsigned)uid, name);
}

char *keystore_cert_path(struct host *h, uid_t uid, const char *name)
{
	return host_path(&h->conf, "certs/%u/%s.pem", (unsigned)uid, name);
}

struct count {
	uint32_t n;
};

static enum tao_err count_one(struct host *h, uid_t uid, const char *name, void *arg)
{
	(void)h;
	(void)uid;
	(void)name;
	((struct count *)arg)->n++;
	return TAO_OK;
}

static enum tao_err make_user_dirs(struct host *h, uid_t uid)
{
	static const char *const tops[] = { "keys", "certs" };
	enum tao_err e = TAO_OK;

	for (size_t i = 0; e == TAO_OK && i < 2; i++) {
		char *dir = host_path(&h->conf, "%s/%u", tops[i], (unsigned)uid);

		e = dir != NULL ? tao_dir_make(dir, 0755) : tao_fail_nomem();
		free(dir);
	}
	return e;
}

enum tao_err keystore_put(struct host *h, uid_t uid, const char *name, const struct tao_buf *stub)
{
	struct tao_buf pem = TAO_BUF_INIT;
	struct count count = { 0 };
	char *path = keystore_stub_path(h, uid, name);
	enum tao_err e = path != NULL ? make_user_dirs(h, uid) : tao_fail_nomem();

	if (e == TAO_OK)
		e = keystore_each(h, uid, count_one, &count);
	if (e == TAO_OK && count.n >= h->conf.max_keys)
		e = tao_fail(TAO_ELIMIT, "user %u has %u keys already: raise max_keys in taod.conf",
		             (unsigned)uid, count.n);
	if (e == TAO_OK)
		e = tao_stub_to_pem(stub->p, stub->n, &pem);
	if (e == TAO_OK)
		e = tao_file_write(path, pem.p, pem.n, 0644, TAO_FILE_NEW);
	if (e == TAO_EEXIST)
		e = tao_fail(TAO_EEXIST, "user %u has a key %s already: choose another name",
		             (unsigned)uid, name);
	free(path);
	tao_buf_free(&pem);
	return e;
}

enum tao_err keystore_get(struct host *h, uid_t uid, const char *name, struct tao_buf *stub)
{
	struct tao_buf pem = TAO_BUF_INIT;
	enum tao_err e = tao_key_name_check(name, strlen(name));
	char *path;

	if (e != TAO_OK)
		return e;
	path = keystore_stub_path(h, uid, name);
	e = path != NULL ? tao_file_read(path, MAX_PEM, &pem) : tao_fail_nomem();
	if (e == TAO_ENOTFOUND)
		e = tao_fail(TAO_ENOTFOUND, "there is no key %s for user %u on this host: 'tao key list' "
		             "shows those there are, 'tao key new %s --for PROGRAM' makes one", name,
		             (unsigned)uid, name);
	if (e == TAO_OK)
		e = tao_stub_from_pem((const char *)pem.p, pem.n, stub);
	if (e == TAO_ENOTFOUND && pem.n > 0)
		e = tao_fail(TAO_EFORMAT, "%s holds no stub: restore it from a backup", path);
	free(path);
	tao_buf_free(&pem);
	return e;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t n)
{
	while (n > 0)
		free(names[--n]);
	free(names);
}

/* Names of a directory with this suffix, which is cut off; sorted. */
static enum tao_err list_dir(const char *path, const char *suffix, char ***out, size_t *count)
{
	DIR *d = opendir(path);
	size_t n = 0, cap = 0, tail = strlen(suffix);
	char **names = NULL;
	struct dirent *de;
	enum tao_err e = TAO_OK;

	*out = NULL;
	*count = 0;
	if (d == NULL)
		return errno == ENOENT ? TAO_OK : tao_fail_sys("reading %s", path);
	while (e == TAO_OK && (de = readdir(d)) != NULL) {
		size_t len = strlen(de->d_name);

		if (de->d_name[0] == '.' || len <= tail || strcmp(de->d_name + len - tail, suffix) != 0)
			continue;
		if (n == cap) {
			char **more = realloc(names, (cap = cap * 2 + 16) * sizeof *names);

			if (more == NULL) {
				e = tao_fail_nomem();
				break;
			}
			names = more;
		}
		names[n] = strndup(de->d_name, len - tail);
		e = names[n] != NULL ? TAO_OK : tao_fail_nomem();
		n += e == TAO_OK;
	}
	closedir(d);
	if (e != TAO_OK) {
		free_names(names, n);
		return e;
	}
	if (n > 0)
		qsort(names, n, sizeof *names, compare);
	*out = names;
	*count = n;
	return TAO_OK;
}

enum tao_err keystore_each(struct host *h, uid_t uid,
                           enum tao_err (*fn)(struct host *h, uid_t uid, const char *name,
                                              void *arg), void *arg)
{
	char *dir = host_path(&h->conf, "keys/%u", (unsigned)uid);
	char **names = NULL;
	size_t n = 0;
	enum tao_err e = dir != NULL ? list_dir(dir, ".pem", &names, &n) : tao_fail_nomem();

	for (size_t i = 0; e == TAO_OK && i < n; i++)
		e = fn(h, uid, names[i], arg);
	free_names(names, n);
	free(dir);
	return e;
}

enum tao_err keystore_users(struct host *h,
                            enum tao_err (*fn)(struct host *h, uid_t uid, void *arg), void *arg)
{
	char *dir = host_path(&h->conf, "keys");
	char **names = NULL;
	size_t n = 0;
	enum tao_err e = dir != NULL ? list_dir(dir, "", &names, &n) : tao_fail_nomem();

	for (size_t i = 0; e == TAO_OK && i < n; i++) {
		char *end;
		unsigned long uid = strtoul(names[i], &end, 10);

		if (*end == 0 && uid <= UINT32_MAX)
			e = fn(h, (uid_t)uid, arg);
	}
	free_names(names, n);
	free(dir);
	return e;
}
