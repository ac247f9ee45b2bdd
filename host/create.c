#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "root.h"
#include "../tao/file.h"

static const char sample_conf[] =
	"# taod.conf: settings of this Tao host; taod.conf(5) lists them all.\n"
	"#\n"
	"# workers = 2                      threads that answer requests\n"
	"# certificate_lifetime = 259200    seconds\n"
	"# max_instances = 16384           programs running at once; see taod.conf(5) for all limits\n";

/* Directories of a host: owner-only ones hold secrets. */
static const struct {
	const char *name;
	mode_t mode;
} dirs[] = {
	{ "host", 0700 }, { "keys", 0755 }, { "certs", 0755 }, { "run", 0755 },
};

/* Missing parents too, so that `tao init` works on a fresh machine. */
static enum tao_err make_parents(const char *dir)
{
	char path[HOST_DIR_MAX + 1];

	for (size_t i = 1; dir[i] != 0; i++) {
		if (dir[i] != '/')
			continue;
		memcpy(path, dir, i);
		path[i] = 0;
		if (mkdir(path, 0755) != 0 && errno != EEXIST)
			return tao_fail(errno == EACCES ? TAO_EPERM : TAO_ESYS,
			                "making the directory %s: %s: "
			                "choose another with -d DIR or TAO_DIR", path,
			                strerror(errno));
	}
	return TAO_OK;
}

static enum tao_err make_dirs(const struct host_conf *c)
{
	enum tao_err e = TAO_OK;

	for (size_t i = 0; e == TAO_OK && i < sizeof dirs / sizeof dirs[0]; i++) {
		char *path = host_path(c, "%s", dirs[i].name);

		e = path != NULL ? tao_dir_make(path, dirs[i].mode) : tao_fail_nomem();
		free(path);
	}
	return e;
}

static enum tao_err put(const struct host_conf *c, const char *name, const char *text)
{
	char *path = host_path(c, "%s", name);
	enum tao_err e;

	if (path == NULL)
		return tao_fail_nomem();
	e = tao_file_write(path, text, strlen(text), 0644, TAO_FILE_NEW);
	free(path);
	return e;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static enum tao_err make_dir(const char *dir, int *made)
{
	struct stat st;
	char path[HOST_DIR_MAX + 16];
	enum tao_err e = make_parents(dir);

	if (e != TAO_OK)
		return e;
	snprintf(path, sizeof path, "%s/format", dir);
	if (lstat(path, &st) == 0)
		return tao_fail(TAO_EEXIST, "there is a Tao host in %s already: use it with 'tao "
		                "up', or choose another directory with -d", dir);
	*made = lstat(dir, &st) != 0;
	return tao_dir_make(dir, geteuid() == 0 ? 0755 : 0700);
}

/* What host_create() makes: must not be there before, must not stay after a failure. */
static const char *const parts[] = { "host", "keys", "certs", "run", "domain", "taod.conf" };

static void remove_parts(const struct host_conf *c)
{
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		char *path = host_path(c, "%s", parts[i]);

		if (path != NULL)
			nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
		free(path);
	}
}

static enum tao_err check_empty(const char *dir)
{
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		char path[HOST_DIR_MAX + 16];
		struct stat st;

		snprintf(path, sizeof path, "%s/%s", dir, parts[i]);
		if (lstat(path, &st) == 0)
			return tao_fail(TAO_EEXIST, "%s is in the way: choose another directory "
			                "with -d", path);
	}
	return TAO_OK;
}

static enum tao_err put_conf(const struct host_conf *c)
{
	char text[sizeof sample_conf + 64];

	/* A soft root is the default: such files stay as they were. */
	snprintf(text, sizeof text, "%s%s%s%s", sample_conf,
	         c->root != &host_root_soft ? "\nroot = " : "",
	         c->root != &host_root_soft ? c->root->name : "",
	         c->root != &host_root_soft ? "\n" : "");
	return put(c, "taod.conf", text);
}

enum tao_err host_create(const char *dir, const struct host_root *root, const char *domain_name,
                         const void *pass, size_t pass_n)
{
	struct host_conf c = { .dir = (char *)dir, .root = root };
	int made = 0;
	enum tao_err e = make_dir(dir, &made);

	if (e == TAO_OK)
		e = check_empty(dir);
	if (e != TAO_OK)
		return e;
	e = make_dirs(&c);
	if (e == TAO_OK)
		e = root->create(&c, domain_name, pass, pass_n);
	if (e == TAO_OK)
		e = put_conf(&c);
	if (e == TAO_OK) /* last: a directory without it is no host */
		e = put(&c, "format", HOST_FORMAT);
	if (e == TAO_OK)
		return TAO_OK;
	remove_parts(&c);
	if (made)
		rmdir(dir);
	return e;
}
