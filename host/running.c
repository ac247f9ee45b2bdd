#include "running.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "measure_with.h"
#include "proc.h"
#include "stable.h"

/* A file mapped as code, as /proc/PID/maps names it. */
struct code {
	uint64_t from, dev, ino;
	char path[PATH_MAX];
};

struct look {
	struct measure_cache *cache;
	const struct running_request *rq;
	struct measurement *m;
	struct process_view view;
	int fd;                /* the executable */
	char *path;
	struct tao_buf args, env;
	char **argv;           /* points into args */
	const char *conf;
	uint64_t seen[RUNNING_MAX_CODE][2];
	size_t n_seen;
};

/* ---- strings one after another, each ended by NUL ---- */

static const char *next_string(struct tao_rd *r)
{
	const uint8_t *end = r->n > 0 ? memchr(r->p, 0, r->n) : NULL;

	return end != NULL ? (const char *)tao_rd_bytes(r, (size_t)(end + 1 - r->p)) : NULL;
}

/* The last one may lack its NUL where a program wrote over it. */
static enum tao_err read_strings(struct look *l)
{
	enum tao_err e = proc_environ(l->rq->pid, RUNNING_MAX_ENV, &l->env);

	if (e == TAO_OK)
		e = proc_slurp(l->rq->pid, "cmdline", PROC_MAX_CMDLINE, &l->args);
	tao_buf_u8(&l->env, 0);
	if (l->args.n > 0 && l->args.p[l->args.n - 1] != 0)
		tao_buf_u8(&l->args, 0);
	if (e == TAO_OK)
		e = tao_buf_err(&l->env);
	return e == TAO_OK ? tao_buf_err(&l->args) : e;
}

/* ---- environment ---- */

static int matches(const char *pattern, const char *name, size_t n)
{
	size_t k = strcspn(pattern, "*");

	return pattern[k] == '*' ? n >= k && memcmp(pattern, name, k) == 0
	                         : n == k && memcmp(pattern, name, k) == 0;
}

/* What tao run passes or sets, and what shells add. */
static const char *const harmless[] = {
	"TERM", "LANG", "LC_*", "TZ", "NOTIFY_SOCKET", "LISTEN_*", "WATCHDOG_*", "INVOCATION_ID",
	"JOURNAL_STREAM", "PATH", "HOME", "USER", "LOGNAME", "OPENSSL_CONF", "OPENSSL_MODULES",
	"TAO_DOOR", "TAO_SOCKET", "PWD", "OLDPWD", "SHLVL", "_",
#if TAO_ASAN
	"LD_PRELOAD", "ASAN_OPTIONS",
#endif
};

static const char *const harmful[] = { "LD_*", "GLIBC_TUNABLES", "OPENSSL_ENGINES" };

static int listed(const char *const *list, size_t count, const char *name, size_t n)
{
	for (size_t i = 0; i < count; i++)
		if (matches(list[i], name, n))
			return 1;
	return 0;
}

/* tao run itself preloads the sanitizer's library in a build with it. */
static int is_hosts_own(const char *v)
{
#if TAO_ASAN
	if (strcmp(v, "LD_PRELOAD=" TAO_ASAN_RUNTIME) == 0)
		return 1;
#endif
	return strcmp(v, "OPENSSL_MODULES=" TAO_MODULESDIR) == 0;
}

static enum tao_err check_variable(struct look *l, const char *v)
{
	size_t n = strcspn(v, "=");

	if (v[0] == 0 || is_hosts_own(v))
		return TAO_OK;
	if (listed(harmful, sizeof harmful / sizeof *harmful, v, n) ||
	    matches("OPENSSL_MODULES", v, n))
		return tao_fail(TAO_EDENIED, "%s was started with %.*s, so what code it runs "
		                "cannot be told: start it without", l->path, (int)n, v);
	if (l->m->is_interpreter && !listed(harmless, sizeof harmless / sizeof *harmless, v, n))
		return tao_fail(TAO_EDENIED, "%s is an interpreter and was started with %.100s, "
		                "which tao run would not pass: start it with 'tao run', or with "
		                "'env -i'", l->path, v);
	if (v[n] == '=' && matches("OPENSSL_CONF", v, n) && l->conf == NULL)
		l->conf = v + n + 1;
	return TAO_OK;
}

static enum tao_err check_env(struct look *l)
{
	struct tao_rd r = tao_rd_of(l->env.p, l->env.n);
	const char *v;
	enum tao_err e = TAO_OK;

	while (e == TAO_OK && (v = next_string(&r)) != NULL)
		e = check_variable(l, v);
	if (l->conf == NULL)
		l->conf = l->rq->openssl_conf;
	if (e == TAO_OK && l->conf[0] != '/')
		e = tao_fail(TAO_EDENIED, "the OPENSSL_CONF of %s is not an absolute path",
		             l->path);
	return e;
}

/* ---- code ---- */

/* The bytes to c or to the end of r, as text. */
static const char *word(struct tao_rd *r, char c, size_t *n)
{
	const uint8_t *p = r->p, *end = r->n > 0 ? memchr(r->p, c, r->n) : NULL;

	*n = end != NULL ? (size_t)(end - p) : r->n;
	tao_rd_bytes(r, end != NULL ? *n + 1 : *n);
	return (const char *)p;
}

static uint64_t number(const char *p, size_t n, int base)
{
	char text[24];

	snprintf(text, sizeof text, "%.*s", (int)(n < sizeof text ? n : 0), p);
	return strtoull(text, NULL, base);
}

/* proc_pid_maps(5): from-to perms offset major:minor inode path. 1: code of a file. */
static int parse_map(struct tao_rd r, struct code *c)
{
	size_t n;
	const char *p = word(&r, '-', &n);
	int executable;

	c->from = number(p, n, 16);
	word(&r, ' ', &n);
	p = word(&r, ' ', &n);
	executable = n == 4 && p[2] == 'x';
	word(&r, ' ', &n);
	p = word(&r, ':', &n);
	c->dev = number(p, n, 16) << 32;
	p = word(&r, ' ', &n);
	c->dev |= number(p, n, 16);
	p = word(&r, ' ', &n);
	c->ino = number(p, n, 10);
	while (r.n > 0 && *r.p == ' ')
		tao_rd_u8(&r);
	snprintf(c->path, sizeof c->path, "%.*s", (int)(r.n < PATH_MAX ? r.n : 0),
	         (const char *)r.p);
	return executable && c->ino != 0;
}

static int next_map(struct tao_rd *maps, struct code *c, int *is_code)
{
	size_t n;
	const char *line;

	if (maps->n == 0)
		return 0;
	line = word(maps, '\n', &n);
	*is_code = parse_map(tao_rd_of(line, n), c);
	return 1;
}

/* What maps would say of this file. Not all file systems tell stat(2) the same numbers, so it is
 * mapped here to see. */
static enum tao_err numbers_of(int fd, struct code *out)
{
	struct tao_buf text = TAO_BUF_INIT;
	struct tao_rd maps;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *at = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 0);
	int is_code, found = 0;
	enum tao_err e;

	if (at == MAP_FAILED)
		return tao_fail_sys("mapping a file");
	e = proc_slurp(getpid(), "maps", RUNNING_MAX_MAPS, &text);
	maps = tao_rd_of(text.p, text.n);
	while (e == TAO_OK && !found && next_map(&maps, out, &is_code))
		found = out->from == (uint64_t)(uintptr_t)at;
	munmap(at, page);
	tao_buf_free(&text);
	if (e == TAO_OK && !found)
		e = tao_fail(TAO_EFORMAT, "/proc/self/maps is not understood: is /proc the "
		             "kernel's?");
	return e;
}

static enum tao_err check_code(struct look *l, const struct code *c)
{
	struct stable_file f = STABLE_FILE_INIT;
	struct code *is = malloc(sizeof *is);
	enum tao_err e = is != NULL ? stable_open(c->path, l->rq->dev_uid, &f) : tao_fail_nomem();

	if (e == TAO_OK)
		e = numbers_of(f.fd, is);
	if (e == TAO_OK && (is->dev != c->dev || is->ino != c->ino))
		e = tao_fail(TAO_EDENIED, "%s is another file than the process has loaded",
		             c->path);
	if (e != TAO_OK && e != TAO_ENOMEM)
		e = tao_fail(TAO_EDENIED, "process %d (%s) runs code that others could have put "
		             "there: %s", (int)l->rq->pid, l->path, tao_why());
	stable_close(&f);
	free(is);
	return e;
}

static int seen(struct look *l, const struct code *c)
{
	for (size_t i = 0; i < l->n_seen; i++)
		if (l->seen[i][0] == c->dev && l->seen[i][1] == c->ino)
			return 1;
	if (l->n_seen < RUNNING_MAX_CODE) {
		l->seen[l->n_seen][0] = c->dev;
		l->seen[l->n_seen][1] = c->ino;
	}
	l->n_seen++;
	return 0;
}

static enum tao_err check_maps(struct look *l)
{
	struct tao_buf text = TAO_BUF_INIT;
	struct code *c = malloc(sizeof *c);
	struct tao_rd maps;
	int is_code;
	enum tao_err e = c != NULL ? proc_slurp(l->rq->pid, "maps", RUNNING_MAX_MAPS, &text)
	                           : tao_fail_nomem();

	maps = tao_rd_of(text.p, text.n);
	while (e == TAO_OK && next_map(&maps, c, &is_code)) {
		if (is_code && !seen(l, c))
			e = check_code(l, c);
		if (e == TAO_OK && l->n_seen > RUNNING_MAX_CODE)
			e = tao_fail(TAO_ELIMIT, "%s has more than %d files with code", l->path,
			             RUNNING_MAX_CODE);
	}
	free(c);
	tao_buf_free(&text);
	return e;
}

static enum tao_err check_tracer(struct look *l)
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e = proc_slurp(l->rq->pid, "status", PROC_MAX_STATUS, &text);
	const char *line = e == TAO_OK ? strstr(tao_buf_cstr(&text), "\nTracerPid:\t") : NULL;

	if (e == TAO_OK && (line == NULL || strncmp(line + 12, "0\n", 2) != 0))
		e = tao_fail(TAO_EDENIED, "process %d (%s) is being traced: its tracer decides "
		             "what it does", (int)l->rq->pid, l->path);
	tao_buf_free(&text);
	return e;
}

/* ---- the whole ---- */

static enum tao_err open_exe(struct look *l)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/%d/exe", (int)l->rq->pid);
	n = readlink(link, path, sizeof path - 1);
	path[n > 0 ? n : 0] = 0;
	l->path = strdup(path);
	l->fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (l->path == NULL)
		return tao_fail_nomem();
	return l->fd >= 0 ? TAO_OK
	                  : tao_fail_sys("cannot read the executable of process %d",
	                                 (int)l->rq->pid);
}

static enum tao_err split_args(struct look *l)
{
	struct tao_rd r = tao_rd_of(l->args.p, l->args.n);
	const char *s;
	size_t n = 0;

	l->argv = calloc(MEASURE_MAX_ITEMS + 2, sizeof *l->argv);
	if (l->argv == NULL)
		return tao_fail_nomem();
	while (n <= MEASURE_MAX_ITEMS && (s = next_string(&r)) != NULL)
		l->argv[n++] = (char *)s;
	return n > 0 ? TAO_OK : tao_fail(TAO_EDENIED, "process %d (%s) shows no arguments",
	                                 (int)l->rq->pid, l->path);
}

static enum tao_err measure(struct look *l)
{
	char *config[] = { (char *)l->conf, NULL };
	struct measure_request mr = {
		.path = l->path, .fd = l->fd, .uid = l->view.uid, .dev_uid = l->rq->dev_uid,
		.args = l->argv, .config = config, .modules = l->rq->modules,
	};
	struct stat st;
	char *real = NULL;
	enum tao_err e = stable_fd(l->fd, l->rq->dev_uid, &real);

	if (e == TAO_OK && fstat(l->fd, &st) != 0)
		e = tao_fail_sys("cannot examine %s", l->path);
	if (e == TAO_OK)
		e = measure_readable(real, &st, l->view.uid);
	if (e == TAO_OK)
		e = measure_program_with(l->cache, &mr, l->m);
	free(real);
	return e;
}

static enum tao_err measure_whole(struct look *l)
{
	enum tao_err e;

	l->m->is_interpreter = measure_is_interpreter(l->path);
	e = check_tracer(l);
	if (e == TAO_OK)
		e = read_strings(l);
	if (e == TAO_OK)
		e = check_env(l);
	if (e == TAO_OK)
		e = split_args(l);
	if (e == TAO_OK)
		e = measure(l);
	return e == TAO_OK ? check_maps(l) : e;
}

static enum tao_err measure_hint(struct look *l)
{
	struct stat st;

	if (fstat(l->fd, &st) != 0)
		return tao_fail_sys("cannot examine %s", l->path);
	if (stable_fuse(l->fd))
		return tao_fail(TAO_EDENIED, "%s is on a FUSE file system, which may never answer: "
		                "copy it to a local disk", l->path);
	if (st.st_size > (off_t)RUNNING_MAX_HINT)
		return tao_fail(TAO_ELIMIT, "%s is larger than %llu bytes: start it with 'tao run'",
		                l->path, RUNNING_MAX_HINT);
	file_id_of_exe(&st, &l->m->id);
	return measure_file(l->cache, l->fd, l->path, l->m->exe);
}

/* It is now what it was, and what was measured. */
static enum tao_err check_again(const struct look *l)
{
	struct process_view now;
	enum tao_err e = measure_process(l->rq->pid, &now);

	if (e == TAO_OK && (now.start != l->rq->start || now.exec != l->view.exec ||
	                    now.uid != l->view.uid || !file_id_equal(&now.exe, &l->m->id)))
		e = tao_fail(TAO_EBUSY, "process %d became another program while it was measured: "
		             "try again", (int)l->rq->pid);
	return e;
}

enum tao_err measure_running(struct measure_cache *c, const struct running_request *rq,
                             struct measurement *m, char **path)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct look *l = calloc(1, sizeof *l);
	enum tao_err e;

	memset(m, 0, sizeof *m);
	m->copy_fd = -1;
	m->text = (struct tao_buf)TAO_BUF_INIT;
	*path = NULL;
	if (l == NULL)
		return tao_fail_nomem();
	l->cache = c;
	l->rq = rq;
	l->m = m;
	l->args = l->env = empty;
	l->fd = -1;
	e = measure_process(rq->pid, &l->view);
	if (e == TAO_OK)
		e = open_exe(l);
	if (e == TAO_OK)
		e = rq->hint ? measure_hint(l) : measure_whole(l);
	if (e == TAO_OK)
		e = check_again(l);
	*path = l->path;
	if (l->fd >= 0)
		close(l->fd);
	free(l->argv);
	tao_buf_free(&l->args);
	tao_buf_free(&l->env);
	free(l);
	return e;
}
