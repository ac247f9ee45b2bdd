#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "sealedkey.h"
#include "../tao/file.h"
#include "../tao/stub.h"

#define MAX_PEM (2 * TAO_STUB_MAX)
#define MAX_DELETED 64 /* bytes of a file that says what was deleted */
#define DELETED_FORMAT "tao deleted key 1\nbelow %u\n"

char *keystore_stub_path(struct host *h, uid_t uid, const char *name)
{
	return host_path(&h->conf, "keys/%u/%s.pem", (unsigned)uid, name);
}

char *keystore_cert_path(struct host *h, uid_t uid, const char *name)
{
	return host_path(&h->conf, "certs/%u/%s.pem", (unsigned)uid, name);
}

char *keystore_old_path(struct host *h, uid_t uid, const char *name)
{
	return host_path(&h->conf, "keys/%u/%s.old", (unsigned)uid, name);
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

/* Takes over path. */
static enum tao_err prepare_stub(char *path, const struct tao_buf *stub, struct tao_file **file)
{
	struct tao_buf pem = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? tao_stub_to_pem(stub->p, stub->n, &pem) : tao_fail_nomem();

	if (e == TAO_OK)
		e = tao_file_prepare(path, pem.p, pem.n, 0644, NULL, file);
	free(path);
	tao_buf_free(&pem);
	return e;
}

/* Takes over path. */
static enum tao_err write_new_stub(char *path, const struct tao_buf *stub)
{
	struct tao_buf pem = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? tao_stub_to_pem(stub->p, stub->n, &pem) : tao_fail_nomem();

	if (e == TAO_OK)
		e = tao_file_write(path, pem.p, pem.n, 0644, TAO_FILE_NEW);
	free(path);
	tao_buf_free(&pem);
	return e;
}

/* Takes over path. */
static enum tao_err read_stub(char *path, struct tao_buf *stub)
{
	struct tao_buf pem = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? tao_file_read(path, MAX_PEM, &pem) : tao_fail_nomem();

	if (e == TAO_OK) {
		e = tao_stub_from_pem((const char *)pem.p, pem.n, stub);
		if (e == TAO_ENOTFOUND)
			e = tao_fail(TAO_EFORMAT, "%s holds no stub: restore it from a backup",
			             path);
	}
	free(path);
	tao_buf_free(&pem);
	return e;
}

/* Takes over path. */
static enum tao_err remove_file(char *path)
{
	enum tao_err e = path != NULL ? tao_file_remove(path) : tao_fail_nomem();

	free(path);
	return e;
}

enum tao_err keystore_put(struct host *h, uid_t uid, const char *name, const struct tao_buf *stub)
{
	struct count count = { 0 };
	enum tao_err e = make_user_dirs(h, uid);

	if (e == TAO_OK)
		e = keystore_each(h, uid, count_one, &count);
	if (e == TAO_OK)
		e = limit_check_user(&h->conf, LIMIT_USER_KEYS, uid, count.n);
	if (e == TAO_OK)
		e = write_new_stub(keystore_stub_path(h, uid, name), stub);
	if (e == TAO_EEXIST)
		e = tao_fail(TAO_EEXIST, "user %u has a key %s already: choose another name, or "
		             "take that one ('tao key pem %s' writes its stub)", (unsigned)uid,
		             name, name);
	return e;
}

enum tao_err keystore_get(struct host *h, uid_t uid, const char *name, struct tao_buf *stub)
{
	enum tao_err e = tao_key_name_check(name, strlen(name));

	if (e == TAO_OK)
		e = read_stub(keystore_stub_path(h, uid, name), stub);
	if (e == TAO_ENOTFOUND)
		e = tao_fail(TAO_ENOTFOUND, "there is no key %s for user %u on this host: 'tao key "
		             "list' shows those there are, 'tao key new %s --for PROGRAM' makes "
		             "one", name, (unsigned)uid, name);
	return e;
}

/* ---- generations ---- */

enum tao_err keystore_get_old(struct host *h, uid_t uid, const char *name, struct tao_buf *stub)
{
	enum tao_err e = tao_key_name_check(name, strlen(name));

	if (e == TAO_OK)
		e = read_stub(keystore_old_path(h, uid, name), stub);
	if (e == TAO_ENOTFOUND)
		e = tao_fail(TAO_ENOTFOUND, "key %s has no older generation that still works",
		             name);
	return e;
}

enum tao_err keystore_prepare(struct host *h, uid_t uid, const char *name,
                              const struct tao_buf *now, const struct tao_buf *next,
                              struct tao_file **old, struct tao_file **stub)
{
	enum tao_err e = prepare_stub(keystore_old_path(h, uid, name), now, old);

	return e == TAO_OK ? prepare_stub(keystore_stub_path(h, uid, name), next, stub) : e;
}

enum tao_err keystore_remove_old(struct host *h, uid_t uid, const char *name)
{
	return remove_file(keystore_old_path(h, uid, name));
}

enum tao_err keystore_remove(struct host *h, uid_t uid, const char *name)
{
	enum tao_err e = remove_file(keystore_cert_path(h, uid, name));

	if (e == TAO_OK)
		e = remove_file(host_path(&h->conf, "certs/%u/%s.why", (unsigned)uid, name));
	if (e == TAO_OK)
		e = keystore_remove_old(h, uid, name);
	if (e == TAO_OK)
		/* last: it is there until all is done */
		e = remove_file(keystore_stub_path(h, uid, name));
	return e;
}

static char *deleted_path(struct host *h, const uint8_t *key_id)
{
	struct tao_buf hex = TAO_BUF_INIT;
	char *path;

	tao_buf_hex(&hex, key_id, SEALEDKEY_ID_LEN);
	path = hex.err == TAO_OK
	       ? host_path(&h->conf, "keys/deleted/%s", tao_buf_cstr(&hex)) : NULL;
	tao_buf_free(&hex);
	return path;
}

enum tao_err keystore_retired(struct host *h, const uint8_t *key_id, uint32_t *below)
{
	char *path = deleted_path(h, key_id), again[MAX_DELETED];
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? tao_file_read(path, MAX_DELETED, &b) : tao_fail_nomem();

	*below = 0;
	if (e == TAO_ENOTFOUND) {
		e = TAO_OK;
	} else if (e == TAO_OK) {
		/* What was written, byte for byte, or nothing is believed. */
		if (sscanf(tao_buf_cstr(&b), DELETED_FORMAT, below) == 1)
			snprintf(again, sizeof again, DELETED_FORMAT, *below);
		if (*below == 0 || strcmp(again, tao_buf_cstr(&b)) != 0)
			e = tao_fail(TAO_EFORMAT, "%s does not say which keys were deleted, and so "
			             "the key is not opened: restore it from a backup", path);
	}
	free(path);
	tao_buf_free(&b);
	return e;
}

enum tao_err keystore_retire(struct host *h, const uint8_t *key_id, uint32_t below)
{
	char *dir = host_path(&h->conf, "keys/deleted"), *path = deleted_path(h, key_id);
	char text[MAX_DELETED];
	uint32_t before;
	enum tao_err e = dir != NULL && path != NULL ? tao_dir_make(dir, 0755) : tao_fail_nomem();

	if (e == TAO_OK)
		e = keystore_retired(h, key_id, &before);
	if (e == TAO_OK && below > before) {
		snprintf(text, sizeof text, DELETED_FORMAT, below);
		e = tao_file_write(path, text, strlen(text), 0644, 0);
	}
	free(dir);
	free(path);
	return e;
}

/* ---- lists ---- */

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

		if (de->d_name[0] == '.' || len <= tail ||
		    strcmp(de->d_name + len - tail, suffix) != 0)
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
