#include "cmd.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "../tao/file.h"

#define COMMANDS "/lib/tao/commands.so" /* below the directory of bin/ */
#define CONF_MAX 65536
#define EXIT_CANNOT 126

/* What commands.so would have to start over with. */
struct front {
	struct cmd_env env; /* first: functions are given it */
	int argc;
	char **argv;
};

/* ---- the other commands ---- */

/* A program that was copied elsewhere is not to load what others put beside it. */
static int open_beside(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof COMMANDS);
	struct stat exe, st;
	char *slash;
	int fd;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	if (slash == NULL || slash - path < 4 || memcmp(slash - 4, "/bin", 4) != 0 ||
	    stat(path, &exe) != 0)
		return -1;
	strcpy(slash - 4, COMMANDS);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == exe.st_uid &&
	    (st.st_mode & (S_IWGRP | S_IWOTH) & ~exe.st_mode) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void *load_commands(void)
{
	char path[64];
	int fd = open_beside();
	void *module = NULL;

	if (fd >= 0) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		close(fd);
	}
	return module != NULL ? module : dlopen(TAO_PREFIX COMMANDS, RTLD_NOW | RTLD_LOCAL);
}

static int commands(const struct front *f)
{
	void *module = load_commands();
	int (*entry)(int, char **) = NULL;

	if (module != NULL)
		*(void **)&entry = dlsym(module, "tao_commands");
	if (entry == NULL) {
		fprintf(stderr, "tao: its commands cannot be loaded: install it again (%s)\n",
		        dlerror());
		return EXIT_CANNOT;
	}
	optind = 0; /* glibc: start afresh */
	return entry(f->argc, f->argv);
}

int cmd_help(const struct cmd_env *env)
{
	return commands((const struct front *)env);
}

int cmd_version(const struct cmd_env *env)
{
	return commands((const struct front *)env);
}

int cmd_usage(const struct cmd_env *env, const char *why_fmt, ...)
{
	(void)why_fmt;
	return commands((const struct front *)env);
}

/* libcrypto's, for what needs nothing else of it. */
void OPENSSL_cleanse(void *p, size_t n)
{
	explicit_bzero(p, n);
}

/* ---- tao run ---- */

static enum tao_err read_state(struct tao_buf *dir, const char *name, struct tao_buf *text)
{
	struct tao_buf path = TAO_BUF_INIT;
	enum tao_err e;

	tao_buf_fmt(&path, "%s/%s", tao_buf_cstr(dir), name);
	e = tao_buf_err(&path);
	if (e == TAO_OK)
		e = tao_file_read(tao_buf_cstr(&path), CONF_MAX, text);
	tao_buf_free(&path);
	return e;
}

/* Comments, and values of other keys: no line that moves the socket, nor one that takes more of the
 * syntax of config(5) to understand. Destroys the text. */
static int moves_socket(char *text)
{
	char *at = NULL;

	for (char *line = strtok_r(text, "\r\n", &at); line != NULL;
	     line = strtok_r(NULL, "\r\n", &at)) {
		line += strspn(line, " \t");
		if (*line != '#' && (*line == '.' || *line == '[' ||
		                     strpbrk(line, "\\$\"'`") != NULL ||
		                     strstr(line, "socket") != NULL))
			return 1;
	}
	return 0;
}

/* Whether the host in DIR is of this version, and its socket where it is by default. */
static int is_plain(struct tao_buf *dir)
{
	struct tao_buf format = TAO_BUF_INIT, conf = TAO_BUF_INIT;
	enum tao_err e = read_state(dir, "format", &format);
	int plain = e == TAO_OK && strcmp(tao_buf_cstr(&format), HOST_FORMAT) == 0;
	char *text;

	if (plain)
		e = read_state(dir, "taod.conf", &conf);
	plain = plain && (e == TAO_OK || e == TAO_ENOTFOUND) &&
	        (conf.n == 0 || memchr(conf.p, 0, conf.n) == NULL);
	text = tao_buf_steal(&conf);
	plain = plain && (text == NULL || !moves_socket(text));
	free(text);
	tao_buf_free(&format);
	tao_buf_free(&conf);
	return plain;
}

/* Returns only with a connection: else commands.so does it all over, and says what is wrong. */
enum tao_err cmd_open(struct cmd_env *env, struct tao_conn *c)
{
	struct tao_buf path = TAO_BUF_INIT;
	enum tao_err e = host_dir_reach(env->dir, &path);

	tao_conn_init(c);
	if (e == TAO_OK && !is_plain(&path))
		e = TAO_ENOTFOUND;
	tao_buf_str(&path, "/run/tao.sock");
	if (e == TAO_OK)
		e = tao_buf_err(&path);
	if (e == TAO_OK)
		e = tao_conn_open(c, tao_buf_cstr(&path), TAO_CALL_TIMEOUT_MS);
	tao_buf_free(&path);
	if (e != TAO_OK)
		exit(commands((struct front *)env));
	return TAO_OK;
}

/* A closed standard descriptor would be reused for a socket, and then written
 * to. Opened the wrong way round, it still fails; close-on-exec: what tao run
 * becomes finds it closed as it was. */
static void fill_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
}

/* tao run, or tao -d DIR run: written any other way it is commands.so's. */
int main(int argc, char **argv)
{
	struct front f = { .env = { .self = argv[0], .name = "run" }, .argc = argc, .argv = argv };
	int at = argc > 3 && strcmp(argv[1], "-d") == 0 ? 3 : 1;

	fill_standard_descriptors();
	if (argc <= at || strcmp(argv[at], "run") != 0)
		return commands(&f);
	f.env.dir = at == 3 ? argv[2] : NULL;
	return cmd_run(&f.env, argc - at, argv + at);
}
