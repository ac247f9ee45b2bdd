#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tao.pb-c.h"

#define RUN_MAX 1024    /* --env, --config: each at most that many, as host/measure.h */
#define DOOR_FIRST 100  /* the door's descriptor: above those that programs count on */
#define EXIT_CANNOT 126
#define EXIT_NOT_FOUND 127
#define PASSWD_BUF 16384

enum { OPT_ENV = 1, OPT_CONFIG, OPT_MEASURE, OPT_CHANNEL, OPT_OPENSSL, OPT_NAME, OPT_PREPARE,
       OPT_QUIET };

static const struct option options[] = {
	{ "env", required_argument, NULL, OPT_ENV },
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "measure", required_argument, NULL, OPT_MEASURE },
	{ "channel", required_argument, NULL, OPT_CHANNEL },
	{ "openssl-conf", required_argument, NULL, OPT_OPENSSL },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "prepare", no_argument, NULL, OPT_PREPARE },
	{ "quiet", no_argument, NULL, OPT_QUIET },
	{ NULL, 0, NULL, 0 },
};

static const char *const measures[] = { "closure", "program", NULL };
static const char *const channels[] = { "door", "unix", NULL };

/* What a program gets of the caller's environment, unmeasured. '*' at the end matches all. */
static const char *const passed[] = {
	"TERM", "LANG", "LC_*", "TZ", "NOTIFY_SOCKET", "LISTEN_*", "WATCHDOG_*", "INVOCATION_ID",
	"JOURNAL_STREAM", NULL,
};

/* What --env may not set, and why. */
static const struct {
	const char *pattern, *advice;
} refused[] = {
	{ "OPENSSL_CONF", "use --openssl-conf FILE, which measures the file" },
	{ "OPENSSL_MODULES", "the host chooses the modules" },
	{ "LD_*", "the code that it loads would not be measured" },
	{ "TAO_*", "these are the host's own" },
	{ "CLOUDPROXY_TAO_*", "the host sets them, with --channel=unix" },
};

/* NULL-terminated, owned strings. */
struct list {
	char **v;
	size_t n;
};

struct run {
	struct list env, config; /* --env, --config */
	struct list vars;        /* the program's environment */
	char *openssl_conf;
	const char *measure, *label, *channel;
	int quiet, prepare;
	char **args;             /* PROGRAM ARG... */
	char *path;
	int fd;                  /* the executable */
	struct tao_conn conn;    /* closes at execve(), by which the host sees the program start */
};

static void list_free(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

/* Takes ownership of text; NULL stands for a failed allocation. */
static enum tao_err list_add(struct list *l, char *text)
{
	char **more = text != NULL ? reallocarray(l->v, l->n + 2, sizeof *more) : NULL;

	if (more == NULL) {
		free(text);
		return tao_fail_nomem();
	}
	l->v = more;
	l->v[l->n++] = text;
	l->v[l->n] = NULL;
	return TAO_OK;
}

static int matches(const char *pattern, const char *name, size_t n)
{
	size_t len = strlen(pattern);

	if (len > 0 && pattern[len - 1] == '*')
		return n >= len - 1 && strncmp(pattern, name, len - 1) == 0;
	return n == len && strncmp(pattern, name, n) == 0;
}

/* NAME=VALUE; replaces an earlier one of that name. */
static enum tao_err set_var(struct list *vars, const char *text)
{
	size_t n = strcspn(text, "=") + 1;
	char *copy = strdup(text);

	for (size_t i = 0; copy != NULL && i < vars->n; i++) {
		if (strncmp(vars->v[i], copy, n) == 0) {
			free(vars->v[i]);
			vars->v[i] = copy;
			return TAO_OK;
		}
	}
	return list_add(vars, copy);
}

static enum tao_err set_pair(struct list *vars, const char *name, const char *value)
{
	char *text;
	enum tao_err e;

	if (asprintf(&text, "%s=%s", name, value) < 0)
		return tao_fail_nomem();
	e = set_var(vars, text);
	free(text);
	return e;
}

/* ---- options ---- */

static enum tao_err add_env(struct run *r, const char *text)
{
	size_t n = strcspn(text, "=");
	const char *value;

	if (n == 0 || (*text >= '0' && *text <= '9') ||
	    strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != n)
		return tao_fail(TAO_EINVAL, "--env is NAME=VALUE or NAME, not '%s'", text);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (matches(refused[i].pattern, text, n))
			return tao_fail(TAO_EINVAL, "--env may not set %.*s: %s", (int)n, text,
			                refused[i].advice);
	if (r->env.n >= RUN_MAX)
		return tao_fail(TAO_ELIMIT, "at most %d variables can be given with --env",
		                RUN_MAX);
	if (text[n] == '=')
		return set_var(&r->env, text);
	value = getenv(text);
	if (value == NULL)
		return tao_fail(TAO_EINVAL, "--env %s: there is no such variable here; "
		                "give its value, --env %s=VALUE", text, text);
	return set_pair(&r->env, text, value);
}

static enum tao_err add_config(struct run *r, const char *path)
{
	char *absolute;
	enum tao_err e;

	if (r->config.n >= RUN_MAX)
		return tao_fail(TAO_ELIMIT, "at most %d files can be given with --config", RUN_MAX);
	e = cmd_absolute(path, &absolute);
	return e == TAO_OK ? list_add(&r->config, absolute) : e;
}

static enum tao_err take(struct run *r, int c)
{
	switch (c) {
	case OPT_ENV:
		return add_env(r, optarg);
	case OPT_CONFIG:
		return add_config(r, optarg);
	case OPT_OPENSSL:
		free(r->openssl_conf);
		return cmd_absolute(optarg, &r->openssl_conf);
	case OPT_MEASURE:
		r->measure = optarg;
		return TAO_OK;
	case OPT_CHANNEL:
		r->channel = optarg;
		return TAO_OK;
	case OPT_NAME:
		r->label = optarg;
		return TAO_OK;
	case OPT_PREPARE:
		r->prepare = 1;
		return TAO_OK;
	default:
		r->quiet = 1;
		return TAO_OK;
	}
}

/* Returns 1 when there is a program to run; else 0 with env->status. */
static int parse(struct cmd_env *env, struct run *r, int argc, char **argv)
{
	int c;

	env->in_order = 1;
	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (c == OPT_MEASURE && !cmd_one_of(env, "--measure", optarg, measures))
			return 0;
		if (c == OPT_CHANNEL && !cmd_one_of(env, "--channel", optarg, channels))
			return 0;
		if (take(r, c) != TAO_OK) {
			env->status = cmd_usage(env, "%s", tao_why());
			return 0;
		}
	}
	r->args = argv + optind;
	if (optind >= argc)
		env->status = cmd_usage(env, "no program is given");
	return optind < argc;
}

/* ---- the environment ---- */

static enum tao_err pass_on(struct list *vars)
{
	enum tao_err e = TAO_OK;

	for (char **v = environ; e == TAO_OK && *v != NULL; v++) {
		size_t n = strcspn(*v, "=");

		for (size_t i = 0; (*v)[n] == '=' && passed[i] != NULL; i++) {
			if (!matches(passed[i], *v, n))
				continue;
			e = set_var(vars, *v);
			break;
		}
	}
	return e;
}

static enum tao_err set_user(struct list *vars)
{
	struct passwd pw, *found = NULL;
	char buf[PASSWD_BUF];
	enum tao_err e;

	if (getpwuid_r(getuid(), &pw, buf, sizeof buf, &found) != 0 || found == NULL)
		return set_pair(vars, "HOME", "/");
	e = set_pair(vars, "HOME", pw.pw_dir);
	if (e == TAO_OK)
		e = set_pair(vars, "USER", pw.pw_name);
	return e == TAO_OK ? set_pair(vars, "LOGNAME", pw.pw_name) : e;
}

static enum tao_err build_env(struct run *r, const Tao__RunResponse *rs)
{
	enum tao_err e = pass_on(&r->vars);

	if (e == TAO_OK)
		e = set_pair(&r->vars, "PATH", CMD_PATH);
	if (e == TAO_OK)
		e = set_user(&r->vars);
	for (size_t i = 0; e == TAO_OK && i < r->env.n; i++)
		e = set_var(&r->vars, r->env.v[i]);
	for (size_t i = 0; e == TAO_OK && i < rs->n_settings; i++) {
		if (*rs->settings[i] == '=' || strchr(rs->settings[i], '=') == NULL)
			return tao_fail(TAO_EPROTO, "the host sent a setting without a name: "
			                "check that tao and taod are of one version");
		e = set_var(&r->vars, rs->settings[i]);
	}
	return e;
}

/* Puts the door at a number that disturbs nobody, and names it. */
static enum tao_err place_door(struct run *r, int fd)
{
	char text[64];
	struct stat st;
	int door = fcntl(fd, F_DUPFD, DOOR_FIRST);

	if (door < 0)
		door = fcntl(fd, F_DUPFD, 3); /* the limit of open files is that low */
	if (door < 0 || fstat(door, &st) != 0)
		return tao_fail_sys("no descriptor is free for the Tao's door; see 'ulimit -n'");
	snprintf(text, sizeof text, "%d:%llu", door, (unsigned long long)st.st_ino);
	return set_pair(&r->vars, "TAO_DOOR", text);
}

/* ---- running ---- */

static ProtobufCBinaryData *as_bytes(char **v, size_t *n)
{
	ProtobufCBinaryData *b;

	for (*n = 0; v != NULL && v[*n] != NULL; ++*n)
		;
	b = calloc(*n + 1, sizeof *b);
	for (size_t i = 0; b != NULL && i < *n; i++) {
		b[i].data = (uint8_t *)v[i];
		b[i].len = strlen(v[i]);
	}
	return b;
}

static enum tao_err ask_host(struct cmd_env *env, struct run *r, Tao__RunResponse **rs,
                             int fds[TAO_CALL_MAX_FDS], size_t *n_fds)
{
	Tao__RunRequest rq = TAO__RUN_REQUEST__INIT;
	enum tao_err e;

	rq.path = r->path;
	rq.args = as_bytes(r->args, &rq.n_args);
	rq.env = as_bytes(r->env.v, &rq.n_env);
	rq.config = as_bytes(r->config.v, &rq.n_config);
	rq.measure = (char *)r->measure;
	rq.label = (char *)r->label;
	rq.channel = (char *)r->channel;
	rq.has_prepare = rq.prepare = r->prepare;
	rq.openssl_conf = r->openssl_conf;
	e = cmd_open(env, &r->conn);
	if (e == TAO_OK && (rq.args == NULL || rq.env == NULL || rq.config == NULL))
		e = tao_fail_nomem();
	if (e == TAO_OK)
		e = cmd_call(&r->conn, "Host.Run", &rq.base, r->fd, &tao__run_response__descriptor,
		             (ProtobufCMessage **)rs, fds, n_fds);
	if (e == TAO_OK && *n_fds != ((*rs)->has_copy && (*rs)->copy ? 2 : 1))
		e = tao_fail(TAO_EPROTO, "the host sent %zu descriptors with its answer: "
		             "check that tao and taod are of one version", *n_fds);
	free(rq.args);
	free(rq.env);
	free(rq.config);
	return e;
}

/* Returns only when it fails: the exit status. */
static int become(struct cmd_env *env, struct run *r, int copy)
{
	int err;

	if (copy >= 0)
		fexecve(copy, r->args, r->vars.v);
	else
		execve(r->path, r->args, r->vars.v);
	err = errno;
	tao_fail_sys("%s cannot be executed", r->path);
	cmd_failed(env);
	return err == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT;
}

static int run(struct cmd_env *env, struct run *r)
{
	int fds[TAO_CALL_MAX_FDS] = { -1, -1 };
	Tao__RunResponse *rs = NULL;
	size_t n_fds = 0;
	int status = EXIT_CANNOT;
	enum tao_err e = cmd_program(r->args[0], &r->path, &r->fd);

	if (e == TAO_ENOTFOUND)
		status = EXIT_NOT_FOUND;
	if (e == TAO_OK)
		e = ask_host(env, r, &rs, fds, &n_fds);
	for (size_t i = 0; e == TAO_OK && !r->quiet && i < rs->n_notices; i++)
		cmd_notice(env, rs->notices[i]);
	if (e == TAO_OK && r->prepare) {
		status = rs->n_notices > 0;
		goto out;
	}
	if (e == TAO_OK)
		e = build_env(r, rs);
	if (e == TAO_OK)
		e = place_door(r, fds[0]);
	if (e == TAO_OK)
		status = become(env, r, fds[1]);
	else
		cmd_failed(env);
out:
	if (rs != NULL)
		tao__run_response__free_unpacked(rs, NULL);
	return status; /* the descriptors go with this process */
}

int cmd_run(struct cmd_env *env, int argc, char **argv)
{
	struct run r = { .measure = "closure", .fd = -1 };
	int status;

	tao_conn_init(&r.conn);
	status = parse(env, &r, argc, argv) ? run(env, &r) : env->status;
	list_free(&r.env);
	list_free(&r.config);
	list_free(&r.vars);
	tao_conn_close(&r.conn);
	free(r.openssl_conf);
	free(r.path);
	if (r.fd >= 0)
		close(r.fd);
	return status;
}
