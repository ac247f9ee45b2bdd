#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"
#include "config.h"

#define SYSTEM_DIR TAO_LOCALSTATEDIR "/lib/tao"

static enum tao_err home_state(struct tao_buf *dir)
{
	const char *state = secure_getenv("XDG_STATE_HOME");
	struct passwd *pw = getpwuid(geteuid());

	if (state != NULL && state[0] == '/')
		tao_buf_fmt(dir, "%s/tao", state);
	else if (pw != NULL && pw->pw_dir != NULL && pw->pw_dir[0] == '/')
		tao_buf_fmt(dir, "%s/.local/state/tao", pw->pw_dir);
	else
		return tao_fail(TAO_EINVAL, "this user has no home directory: give one with -d "
		                "DIR");
	return tao_buf_err(dir);
}

static enum tao_err make_absolute(const char *given, struct tao_buf *dir)
{
	char *cwd;

	if (given[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (cwd == NULL)
			return tao_fail_sys("the current directory");
		tao_buf_fmt(dir, "%s/", strcmp(cwd, "/") == 0 ? "" : cwd);
		free(cwd);
	}
	tao_buf_str(dir, given);
	while (dir->n > 1 && dir->p[dir->n - 1] == '/')
		dir->n--;
	return tao_buf_err(dir);
}

enum tao_err host_dir_find(const char *given, struct tao_buf *dir)
{
	const char *env = secure_getenv("TAO_DIR");
	enum tao_err e = TAO_OK;

	if (given == NULL)
		given = env != NULL && env[0] != 0 ? env : NULL;
	if (given != NULL)
		e = make_absolute(given, dir);
	else if (geteuid() == 0)
		tao_buf_str(dir, SYSTEM_DIR);
	else
		e = home_state(dir);
	if (e == TAO_OK)
		e = tao_buf_err(dir);
	if (e == TAO_OK && dir->n > HOST_DIR_MAX)
		e = tao_fail(TAO_ELIMIT, "the directory %s is longer than %d bytes: choose a "
		             "shorter one", tao_buf_cstr(dir), HOST_DIR_MAX);
	return e;
}

static int is_host(const char *dir)
{
	char *path = NULL;
	int found = asprintf(&path, "%s/format", dir) >= 0 && access(path, F_OK) == 0;

	free(path);
	return found;
}

enum tao_err host_dir_reach(const char *given, struct tao_buf *dir)
{
	enum tao_err e = host_dir_find(given, dir);
	const char *env = secure_getenv("TAO_DIR");
	int told = given != NULL || (env != NULL && env[0] != 0);

	if (told || (e == TAO_OK && is_host(tao_buf_cstr(dir))) || !is_host(SYSTEM_DIR))
		return e;
	tao_buf_reset(dir);
	tao_buf_str(dir, SYSTEM_DIR);
	return tao_buf_err(dir);
}
