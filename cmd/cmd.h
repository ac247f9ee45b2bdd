/*
 * tao(1): what its subcommands share.
 *
 * One file per subcommand, one table in main.c that drives dispatch and
 * usage. A subcommand returns its exit status: 0 done, 1 failed (a sentence
 * on stderr, "tao NAME: SENTENCE"), 2 usage. `tao run` exits with 127 (no such program) and 126
 * (not executable, refused, no host) as a shell does.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include "../host/conf.h"
#include "../tao/client.h"
#include "../tao/json.h"

struct cmd_env {
	const char *self;     /* argv[0] */
	const char *name;     /* "key new": for sentences and usage */
	const char *dir;      /* -d DIR as given, or NULL */
	int json;             /* --json */
};

struct cmd {
	const char *name;     /* "run", "key" */
	const char *sub;      /* "new", or NULL */
	const char *args;     /* usage: what follows the name */
	const char *help;     /* one line */
	int (*fn)(struct cmd_env *env, int argc, char **argv);
	const char *details;  /* --help: options, one a line; may be NULL */
};

extern const struct cmd cmd_table[]; /* ended by a NULL name */

/* Connects to the host of env->dir; explains when it is not running. */
enum tao_err cmd_connect(struct cmd_env *env, struct host_conf *conf, struct tao_conn *c);
/* Prints "tao NAME: tao_why()" to stderr; returns 1. */
int cmd_failed(const struct cmd_env *env);
/* Prints how it is used; returns 2. */
int cmd_usage(const struct cmd_env *env, const char *why_fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
