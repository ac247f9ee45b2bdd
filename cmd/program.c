#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSWD_BUF 16384 /* bytes for one entry of passwd */

enum tao_err cmd_absolute(const char *path, char **out)
{
	char *cwd;
	int n;

	*out = NULL;
	if (*path == 0)
		return tao_fail(TAO_EINVAL, "an empty path names no file");
	if (*path == '/') {
		*out = strdup(path);
		return *out != NULL ? TAO_OK : tao_fail_nomem();
	}
	cwd = getcwd(NULL, 0);
	if (cwd == NULL)
		return tao_fail_sys("the working directory has no name, so '%s' is found nowhere",
		                    path);
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	n = asprintf(out, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
	free(cwd);
	if (n < 0) {
		*out = NULL;
		return tao_fail_nomem();
	}
	return TAO_OK;
}

/* TAO_ENOTFOUND without a sentence: the search may go on. */
static enum tao_err open_program(const char *path, int *fd)
{
	struct stat st;

	*fd = -1;
	if (stat(path, &st) != 0)
		return errno == ENOENT || errno == ENOTDIR ? TAO_ENOTFOUND
		       : (tao_fail_sys("%s", path), TAO_EPERM);
	if (S_ISDIR(st.st_mode))
		return tao_fail(TAO_EPERM, "%s is a directory: name the program in it", path);
	if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
		return tao_fail(TAO_EPERM, "%s is not executable: check its permissions with 'ls "
		                "-l'", path);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return tao_fail(TAO_EPERM, "%s cannot be read (%s), and so not be measured: "
		                "give its users the right to read it", path, strerror(errno));
	return TAO_OK;
}

static enum tao_err search(const char *name, char **path, int *fd)
{
	enum tao_err e, seen = TAO_ENOTFOUND;
	const char *dir = CMD_PATH;

	for (size_t n; *dir != 0; dir += n + (dir[n] == ':')) {
		n = strcspn(dir, ":");
		if (asprintf(path, "%.*s/%s", (int)n, dir, name) < 0) {
			*path = NULL;
			return tao_fail_nomem();
		}
		e = open_program(*path, fd);
		if (e == TAO_OK)
			return e;
		if (e != TAO_ENOTFOUND)
			seen = e;
		free(*path);
		*path = NULL;
	}
	return seen;
}

enum tao_err cmd_program(const char *name, char **path, int *fd)
{
	enum tao_err e;

	*path = NULL;
	*fd = -1;
	if (*name == 0)
		return tao_fail(TAO_ENOTFOUND, "the program's name is empty: name one");
	if (strchr(name, '/') == NULL) {
		e = search(name, path, fd);
		if (e == TAO_ENOTFOUND)
			tao_fail(e, "%s: no such program in " CMD_PATH "; give its path if it is "
			         "elsewhere", name);
		return e;
	}
	e = cmd_absolute(name, path);
	if (e == TAO_OK)
		e = open_program(*path, fd);
	if (e == TAO_ENOTFOUND)
		tao_fail(e, "%s: no such program; check the path", name);
	if (e != TAO_OK) {
		free(*path);
		*path = NULL;
	}
	return e;
}

enum tao_err cmd_user_find(const char *user, uid_t *uid)
{
	struct passwd pw, *found = NULL;
	char buf[PASSWD_BUF], *end;
	unsigned long v;

	if (getpwnam_r(user, &pw, buf, sizeof buf, &found) == 0 && found != NULL) {
		*uid = pw.pw_uid;
		return TAO_OK;
	}
	errno = 0;
	v = strtoul(user, &end, 10);
	if (errno != 0 || *user < '0' || *user > '9' || *end != 0 || v >= (uid_t)-1)
		return tao_fail(TAO_ENOTFOUND, "there is no user '%s': 'getent passwd' lists them",
		                user);
	*uid = (uid_t)v;
	return TAO_OK;
}

const char *cmd_user_name(uid_t uid, char out[CMD_USER_MAX])
{
	struct passwd pw, *found = NULL;
	char buf[PASSWD_BUF];

	if (getpwuid_r(uid, &pw, buf, sizeof buf, &found) == 0 && found != NULL)
		snprintf(out, CMD_USER_MAX, "%s", pw.pw_name);
	else
		snprintf(out, CMD_USER_MAX, "%lu", (unsigned long)uid);
	return out;
}
