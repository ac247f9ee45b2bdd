#include "cmd.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tao.pb-c.h"

#define LAST_MAX 1000000
#define LOOK_MS 200     /* --follow: how often, in files */
#define ASK_MS 1000     /* ... and at the host */

enum { OPT_FOLLOW = 1, OPT_SINCE };

static const struct option options[] = {
	{ "follow", no_argument, NULL, OPT_FOLLOW },
	{ "since", required_argument, NULL, OPT_SINCE },
	{ NULL, 0, NULL, 0 },
};

/* What is shown, and how far it is. */
struct show {
	struct cmd_env *env;
	char *dir;                     /* of the files; NULL: the host is asked */
	struct stat seen;              /* the current file, when it was read last */
	char since[AUDIT_TIME_LEN + 1]; /* "": from the beginning */
	uint64_t next;                 /* record */
	char **last;                   /* the last records, a ring; NULL: all are printed */
	size_t n_last, at;
};

/* ---- --since ---- */

static enum tao_err put_since(struct show *s, time_t t)
{
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(s->since, sizeof s->since, "%Y-%m-%dT%H:%M:%S.000Z", &tm) != AUDIT_TIME_LEN)
		return tao_fail(TAO_EINVAL, "that time is out of range");
	return TAO_OK;
}

/* 30s, 10m, 2h, 1d ago; -1: it is not of that kind. */
static time_t ago(const char *text)
{
	static const char units[] = "smhd";
	static const long seconds[] = { 1, 60, 3600, 86400 };
	char *end;
	long v = strtol(text, &end, 10);
	const char *unit = *end != 0 ? strchr(units, *end) : NULL;

	if (!isdigit((unsigned char)text[0]) || unit == NULL || end[1] != 0 || v > 100000000)
		return -1;
	return time(NULL) - v * seconds[unit - units];
}

static enum tao_err parse_since(struct show *s, const char *text)
{
	static const struct {
		const char *format;
		int utc, today;
	} formats[] = {
		{ "%Y-%m-%dT%H:%M:%SZ", 1, 0 }, { "%Y-%m-%dT%H:%M:%S", 0, 0 },
		{ "%Y-%m-%dT%H:%M", 0, 0 },
		{ "%Y-%m-%d %H:%M:%S", 0, 0 }, { "%Y-%m-%d %H:%M", 0, 0 }, { "%Y-%m-%d", 0, 0 },
		{ "%H:%M:%S", 0, 1 }, { "%H:%M", 0, 1 },
	};
	time_t now = time(NULL), t = ago(text);

	if (t >= 0)
		return put_since(s, t);
	for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
		struct tm tm = { 0 };
		const char *end;

		if (formats[i].today)
			localtime_r(&now, &tm);
		tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
		tm.tm_isdst = -1;
		end = strptime(text, formats[i].format, &tm);
		if (end != NULL && *end == 0)
			return put_since(s, formats[i].utc ? timegm(&tm) : mktime(&tm));
	}
	return tao_fail(TAO_EINVAL, "'%s' is no time: write 2026-01-31T08:00, 2026-01-31, 08:00 or "
	                "10m", text);
}

/* ---- printing ---- */

static void print(const struct show *s, const char *line, size_t n)
{
	struct audit_record r;
	struct tao_buf b = TAO_BUF_INIT;

	if (s->env->json) {
		printf("%.*s\n", (int)n, line);
	} else if (audit_parse(line, n, &r) == TAO_OK) {
		cmd_record_text(&r, &b);
		fputs(tao_buf_cstr(&b), stdout);
	}
	tao_buf_free(&b);
}

static int take(const char *line, size_t n, const struct audit_record *r, void *arg)
{
	struct show *s = arg;

	s->next = r->seq + 1;
	if (memcmp(r->time, s->since, strlen(s->since)) < 0)
		return 0;
	if (s->last == NULL) {
		print(s, line, n);
	} else {
		free(s->last[s->at]);
		s->last[s->at] = strndup(line, n);
		s->at = (s->at + 1) % s->n_last;
	}
	return ferror(stdout) != 0;
}

static void print_last(struct show *s)
{
	for (size_t i = 0; s->last != NULL && i < s->n_last; i++) {
		char *line = s->last[(s->at + i) % s->n_last];

		if (line != NULL)
			print(s, line, strlen(line));
		free(line);
	}
	free(s->last);
	s->last = NULL; /* from here on, all */
}

/* ---- reading ---- */

static enum tao_err ask_page(struct show *s, int *more)
{
	Tao__LogRequest rq = TAO__LOG_REQUEST__INIT;
	Tao__LogResponse *rp = NULL;
	struct audit_record r;
	enum tao_err e;

	rq.has_from = 1;
	rq.from = s->next;
	e = cmd_ask(s->env, "Host.Log", &rq.base, -1, &tao__log_response__descriptor,
	            (ProtobufCMessage **)&rp);
	if (e != TAO_OK)
		return e;
	for (size_t i = 0; i < rp->n_records; i++)
		if (audit_parse((char *)rp->records[i].data, rp->records[i].len, &r) == TAO_OK)
			take((char *)rp->records[i].data, rp->records[i].len, &r, s);
	*more = rp->more && rp->next > s->next - (rp->n_records > 0);
	s->next = rp->next;
	tao__log_response__free_unpacked(rp, NULL);
	return TAO_OK;
}

static enum tao_err read_new(struct show *s)
{
	struct tao_buf path = TAO_BUF_INIT;
	struct stat st = { 0 };
	int more = 1, same;
	enum tao_err e = TAO_OK;

	if (s->dir == NULL) {
		while (e == TAO_OK && more && !ferror(stdout))
			e = ask_page(s, &more);
		return e;
	}
	tao_buf_fmt(&path, "%s/" AUDIT_CURRENT, s->dir);
	same = stat(tao_buf_cstr(&path), &st) == 0 && st.st_ino == s->seen.st_ino &&
	       st.st_size == s->seen.st_size;
	tao_buf_free(&path);
	s->seen = st;
	return same ? TAO_OK : audit_walk(s->dir, s->next, take, s);
}

/* The files, where this user may read them; else what the host gives out. */
static enum tao_err find_source(struct show *s)
{
	struct host_conf conf;
	enum tao_err e = cmd_conf(s->env, &conf);

	if (e == TAO_OK) {
		s->dir = host_path(&conf, "audit");
		e = s->dir != NULL ? TAO_OK : tao_fail_nomem();
	}
	if (e == TAO_OK && access(s->dir, R_OK | X_OK) != 0 && errno == EACCES) {
		free(s->dir);
		s->dir = NULL;
	}
	host_conf_clear(&conf);
	return e;
}

/* Until a signal says that it is enough. */
static enum tao_err follow(struct show *s, const sigset_t *set)
{
	long ms = s->dir != NULL ? LOOK_MS : ASK_MS;
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
	enum tao_err e = TAO_OK;

	while (e == TAO_OK && fflush(stdout) == 0 && sigtimedwait(set, NULL, &pause) < 0) {
		e = read_new(s);
		if (e == TAO_ENOHOST && s->dir == NULL) /* it may be restarted */
			e = TAO_OK;
	}
	return e;
}

static int show(struct show *s, int following)
{
	sigset_t set;
	enum tao_err e;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (following)
		sigprocmask(SIG_BLOCK, &set, NULL);
	e = find_source(s);
	if (e == TAO_OK)
		e = read_new(s);
	print_last(s);
	if (e == TAO_OK && following)
		e = follow(s, &set);
	free(s->dir);
	return e == TAO_OK ? 0 : cmd_failed(s->env);
}

int cmd_log(struct cmd_env *env, int argc, char **argv)
{
	struct show s = { .env = env, .next = 1 };
	int c, following = 0;
	int64_t n;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_FOLLOW)
			following = 1;
		else if (parse_since(&s, optarg) != TAO_OK)
			return cmd_usage(env, "%s", tao_why());
	}
	if (optind < argc) {
		if (!cmd_number(env, "N", argv[optind], 1, LAST_MAX, &n))
			return env->status;
		s.n_last = (size_t)n;
		s.last = calloc(s.n_last, sizeof *s.last);
		if (s.last == NULL) {
			tao_fail_nomem();
			return cmd_failed(env);
		}
	}
	if (optind + 1 < argc) {
		free(s.last);
		return cmd_usage(env, "'%s' is too much", argv[optind + 1]);
	}
	return show(&s, following);
}
