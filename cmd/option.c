#include "cmd.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Above every character, so that no subcommand's own value is the same. */
enum { OPT_JSON = 0x1000, OPT_VERSION };

static const struct option globals[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
};
#define N_GLOBALS (sizeof globals / sizeof globals[0])

static int stop(struct cmd_env *env, int status)
{
	env->status = status;
	return CMD_STOP;
}

static int wrong(struct cmd_env *env, int c, char **argv)
{
	const char *word = argv[optind - 1];
	int is_long = strncmp(word, "--", 2) == 0;

	if (c == ':')
		return stop(env, cmd_usage(env, "option '%s' needs a value", word));
	if (is_long && optopt != 0 && strchr(word, '=') != NULL)
		return stop(env, cmd_usage(env, "option '%.*s' takes no value",
		                           (int)strcspn(word, "="), word));
	if (is_long)
		return stop(env, cmd_usage(env, "unknown option '%s'", word));
	return stop(env, cmd_usage(env, "unknown option '-%c'", optopt));
}

int cmd_option(struct cmd_env *env, int argc, char **argv, const struct option *own)
{
	struct option all[CMD_OPTIONS_MAX + N_GLOBALS + 1];
	size_t n = 0;
	int c;

	memset(all, 0, sizeof all);
	for (; own != NULL && own->name != NULL && n < CMD_OPTIONS_MAX; own++)
		all[n++] = *own;
	memcpy(all + n, globals, sizeof globals);
	opterr = 0;
	for (;;) {
		c = getopt_long(argc, argv, env->in_order ? "+:d:h" : ":d:h", all, NULL);
		switch (c) {
		case 'd':
			env->dir = optarg;
			break;
		case OPT_JSON:
			env->json = 1;
			break;
		case 'h':
			return stop(env, cmd_help(env));
		case OPT_VERSION:
			return stop(env, cmd_version(env));
		case '?':
		case ':':
			return wrong(env, c, argv);
		default:
			return c;
		}
	}
}

int cmd_operands(struct cmd_env *env, int argc, char **argv, int least, int most)
{
	int n;

	if (cmd_option(env, argc, argv, NULL) == CMD_STOP)
		return 0;
	n = argc - optind;
	if (n >= least && n <= most)
		return 1;
	if (n < least)
		env->status = cmd_usage(env, "something is missing");
	else
		env->status = cmd_usage(env, "'%s' is too much", argv[optind + most]);
	return 0;
}

int cmd_one_of(struct cmd_env *env, const char *option, const char *word,
               const char *const *words)
{
	struct tao_buf list = TAO_BUF_INIT;

	for (size_t i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], word) == 0) {
			tao_buf_free(&list);
			return 1;
		}
		tao_buf_fmt(&list, "%s%s", i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ",
		            words[i]);
	}
	env->status = cmd_usage(env, "%s is %s, not '%s'", option, tao_buf_cstr(&list), word);
	tao_buf_free(&list);
	return 0;
}

int cmd_seconds(const char *text, int64_t *out)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno != 0 || v < 0 || text[0] < '0' || text[0] > '9' || *end == 0 || end[1] != 0)
		return 0;
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (*end == units[i].unit && v <= INT64_MAX / units[i].seconds) {
			*out = v * units[i].seconds;
			return 1;
		}
	return 0;
}
