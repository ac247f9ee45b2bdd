/* What the commands share that ask the host for the program they run in. */
#include "cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tao/file.h"

enum tao_err cmd_parent(const struct cmd_env *env, struct tao_parent **out)
{
	const char *socket = secure_getenv("TAO_SOCKET");
	struct host_conf conf;
	enum tao_err e;

	*out = NULL;
	if (env->dir == NULL && socket != NULL && *socket != 0)
		return tao_parent_open(out);
	e = cmd_conf(env, &conf);
	if (e == TAO_OK)
		e = tao_parent_open_at(conf.socket, 0, out);
	host_conf_clear(&conf);
	return e;
}

enum tao_err cmd_input(const char *file, size_t max, struct tao_buf *out)
{
	if (file == NULL || strcmp(file, "-") == 0)
		return tao_fd_read(STDIN_FILENO, "standard input", max, out);
	return tao_file_read(file, max, out);
}

enum tao_err cmd_output(const char *file, const void *p, size_t n, mode_t mode)
{
	if (file != NULL)
		return tao_file_write(file, p, n, mode, 0);
	if (n > 0 && fwrite(p, 1, n, stdout) != n)
		return tao_fail_sys("the output could not be written");
	return TAO_OK;
}

enum tao_err cmd_output_hex(const void *p, size_t n, int raw)
{
	struct tao_buf hex = TAO_BUF_INIT;
	enum tao_err e;

	if (raw)
		return cmd_output(NULL, p, n, 0);
	hex.max = 2 * n + 1;
	tao_buf_hex(&hex, p, n);
	tao_buf_u8(&hex, '\n');
	e = tao_buf_err(&hex);
	if (e == TAO_OK)
		e = cmd_output(NULL, hex.p, hex.n, 0);
	tao_buf_free(&hex);
	return e;
}

int cmd_number(struct cmd_env *env, const char *what, const char *text, int64_t least, int64_t most,
               int64_t *out)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != 0 || v < least || v > most) {
		env->status = cmd_usage(env, "%s is a number from %lld to %lld, not '%s'", what,
		                        (long long)least, (long long)most, text);
		return 0;
	}
	*out = v;
	return 1;
}
