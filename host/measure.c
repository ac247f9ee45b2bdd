#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "filehash.h"
#include "libs.h"
#include "measure_with.h"
#include "stable.h"

#define SCRIPT_HEAD 256 /* Linux's BINPRM_BUF_SIZE */
#define SCRIPT_DEPTH 4  /* #! files that name each other as interpreter */

/* One line that names a file. */
struct item {
	const char *path;
	const uint8_t *hash;
};

struct script {
	char *path;
	uint8_t hash[TAO_HASH_LEN];
};

/* What a measurement is made of. */
struct work {
	struct measure_cache *cache;
	const struct measure_request *rq;
	struct measurement *m;
	struct stable_file exe; /* what is executed; fd -1 while it is rq->fd or the copy */
	char *exe_path;
	int exe_fd;             /* borrowed: of exe, rq or m */
	struct script script[SCRIPT_DEPTH];
	size_t script_n;
	struct libs *libs;
};

/* Base names; '*' stands for a version: digits, dots and dashes. */
static const char *const interpreters[] = {
	"sh", "bash*", "rbash", "dash", "ash", "ksh*", "mksh*", "lksh", "zsh*", "fish", "csh",
	"tcsh", "yash", "rc", "busybox", "toybox", "env", "python*", "pypy*", "perl*", "ruby*",
	"node", "nodejs", "deno", "bun", "php*", "php-cgi*", "php-fpm*", "lua*", "luajit*",
	"tclsh*", "wish*", "expect", "awk", "gawk*", "mawk", "nawk", "original-awk", "java",
	"guile*", "racket", "emacs*", "erl", "beam.smp", "escript", "R", "Rscript", "julia*",
	"octave*", "gdb", "sbcl", "ocaml", "ghc*", "groovy", "mono", "mono-sgen", "dotnet",
	"ld-linux-x86-64.so.*", "ld-linux-aarch64.so.*", "qemu-*",
};

int measure_is_interpreter(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;

	for (size_t i = 0; i < sizeof interpreters / sizeof *interpreters; i++) {
		const char *pattern = interpreters[i];
		size_t n = strcspn(pattern, "*");

		if (strncmp(name, pattern, n) != 0)
			continue;
		if (pattern[n] == '*' && (strspn(name + n, "0123456789.-") == strlen(name + n) ||
		                          strcmp(pattern, "qemu-*") == 0))
			return 1;
		if (name[n] == 0)
			return 1;
	}
	return 0;
}

static enum tao_err check_list(char **list, const char *what)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		if (++n > MEASURE_MAX_ITEMS)
			return tao_fail(TAO_ELIMIT, "more than %d %s", MEASURE_MAX_ITEMS, what);
	return TAO_OK;
}

static enum tao_err check_env(char **env)
{
	for (; env != NULL && *env != NULL; env++) {
		const char *v = *env;

		if (*v == '=' || strchr(v, '=') == NULL)
			return tao_fail(TAO_EINVAL,
			                "'%s' is not an environment setting: write NAME=VALUE",
			                v);
		if (strncmp(v, "LD_", 3) == 0 || strncmp(v, "GLIBC_TUNABLES=", 15) == 0)
			return tao_fail(TAO_EDENIED, "%.*s would change which libraries are loaded "
			                "after they were measured: leave it out",
			                (int)strcspn(v, "="), v);
	}
	return TAO_OK;
}

/* The caller's right to read is proved by the descriptor, so it must be a reading one. */
static enum tao_err check_fd(const struct measure_request *rq)
{
	int flags = fcntl(rq->fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(rq->fd, &st) != 0)
		return tao_fail_sys("cannot examine the descriptor of %s", rq->path);
	if ((flags & O_PATH) || (flags & O_ACCMODE) != O_RDONLY)
		return tao_fail(TAO_EPERM, "%s was not opened for reading: only a program that its "
		                "user can read is measured", rq->path);
	if (!S_ISREG(st.st_mode))
		return tao_fail(TAO_EFORMAT, "%s is not a regular file: name a program", rq->path);
	if (stable_fuse(rq->fd))
		return tao_fail(TAO_EDENIED, "%s is on a FUSE file system, which may never answer: "
		                "copy it to a local disk", rq->path);
	return TAO_OK;
}

static enum tao_err check_request(const struct measure_request *rq)
{
	enum tao_err e;

	if (rq->path == NULL || rq->path[0] != '/' || strlen(rq->path) >= PATH_MAX)
		return tao_fail(TAO_EINVAL, "a program to measure needs an absolute path");
	e = check_fd(rq);
	if (e == TAO_OK)
		e = check_list(rq->args, "arguments");
	if (e == TAO_OK)
		e = check_list(rq->env, "environment settings");
	if (e == TAO_OK)
		e = check_list(rq->config, "configuration files");
	if (e == TAO_OK)
		e = check_list(rq->modules, "provider modules");
	return e == TAO_OK ? check_env(rq->env) : e;
}

static int blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The interpreter in a #! line, read as Linux reads it (load_script); NULL: the kernel would
 * refuse. Ends and writes a NUL in head, which has one at head[SCRIPT_HEAD]. */
static char *script_interpreter(char head[SCRIPT_HEAD + 1])
{
	char *last = head + SCRIPT_HEAD - 1;
	char *end = memchr(head, '\n', SCRIPT_HEAD);
	char *name = head + 2, *stop;

	while (name < last && blank(*name))
		name++;
	if (end == NULL) {
		/* Too long a line: the name must have ended, the argument may be cut off. */
		for (stop = name; stop < last && *stop != 0 && !blank(*stop); stop++)
			;
		if (stop == last)
			return NULL;
		end = last;
	}
	if (name >= end)
		return NULL;
	*end = 0;
	name[strcspn(name, " \t")] = 0;
	return *name != 0 ? name : NULL;
}

/* The file's first bytes, the rest zeros. */
static enum tao_err read_head(int fd, const char *path, char head[SCRIPT_HEAD + 1])
{
	ssize_t n;

	memset(head, 0, SCRIPT_HEAD + 1);
	do
		n = pread(fd, head, SCRIPT_HEAD, 0);
	while (n < 0 && errno == EINTR);
	return n >= 0 ? TAO_OK : tao_fail_sys("cannot read %s", path);
}

static enum tao_err keep_script(struct work *w, struct stable_file *f)
{
	struct script *s = &w->script[w->script_n];
	enum tao_err e = measure_file(w->cache, f->fd, f->real, s->hash);

	if (e != TAO_OK)
		return e;
	s->path = strdup(f->real);
	if (s->path == NULL)
		return tao_fail_nomem();
	w->script_n++;
	return TAO_OK;
}

/* The script's interpreter opens it again by the name that was given: it must lead there. */
static enum tao_err open_script(struct work *w, struct stable_file *f)
{
	struct stat st;
	enum tao_err e = stable_open(w->rq->path, w->rq->dev_uid, f);

	if (e == TAO_OK && fstat(w->rq->fd, &st) != 0)
		e = tao_fail_sys("cannot examine %s", w->rq->path);
	if (e == TAO_OK && (st.st_dev != f->st.st_dev || st.st_ino != f->st.st_ino))
		e = tao_fail(TAO_EDENIED, "%s is another file than the open one: try again",
		             w->rq->path);
	return e;
}

/* From f, a #! file, to its interpreter, which f then is. */
static enum tao_err next_interpreter(struct work *w, struct stable_file *f,
                                     char head[SCRIPT_HEAD + 1])
{
	char *interp = script_interpreter(head);
	enum tao_err e;

	if (interp == NULL)
		return tao_fail(TAO_EFORMAT, "%s: its #! line names no interpreter that Linux "
		                "would start: mend the line", f->real);
	if (interp[0] != '/')
		return tao_fail(TAO_EDENIED, "%s: its interpreter '%s' is not an absolute path: "
		                "write one", f->real, interp);
	if (w->script_n == SCRIPT_DEPTH)
		return tao_fail(TAO_ELIMIT, "%s: more than %d #! files name each other",
		                w->rq->path, SCRIPT_DEPTH);
	e = keep_script(w, f);
	stable_close(f);
	if (e == TAO_OK)
		e = stable_open(interp, w->rq->dev_uid, f);
	return e;
}

static enum tao_err follow_script(struct work *w, char head[SCRIPT_HEAD + 1])
{
	enum tao_err e = open_script(w, &w->exe);

	w->m->is_script = 1;
	while (e == TAO_OK && memcmp(head, "#!", 2) == 0) {
		e = next_interpreter(w, &w->exe, head);
		if (e == TAO_OK)
			e = read_head(w->exe.fd, w->exe.real, head);
	}
	if (e != TAO_OK)
		return e;
	w->exe_fd = w->exe.fd;
	w->exe_path = strdup(w->exe.real);
	return w->exe_path != NULL ? TAO_OK : tao_fail_nomem();
}

/* A copy's own directory, which $ORIGIN stands for, is the root: /proc/PID/exe is then a
 * link to "/memfd:NAME (deleted)". */
static enum tao_err take_copy(struct work *w)
{
	enum tao_err e = filehash_copy(w->rq->fd, w->rq->path, &w->m->copy_fd, w->m->exe);

	if (e != TAO_OK)
		return e;
	w->exe_fd = w->m->copy_fd;
	w->exe_path = strdup("/memfd");
	return w->exe_path != NULL ? TAO_OK : tao_fail_nomem();
}

/* In place, unless somebody else could change the file or what is found at its path. */
static enum tao_err take_program(struct work *w)
{
	enum tao_err e = stable_fd(w->rq->fd, w->rq->dev_uid, &w->exe_path);

	if (e == TAO_ENOMEM)
		return e;
	w->exe_fd = w->rq->fd;
	return e == TAO_OK ? TAO_OK : take_copy(w);
}

static enum tao_err refuse_setid(const struct work *w, const struct stat *st)
{
	if ((st->st_mode & (S_ISUID | S_ISGID)) == 0)
		return TAO_OK;
	return tao_fail(TAO_EDENIED, "%s is set-user-ID or set-group-ID, so it would not run as "
	                "its caller: start the program that it would start", w->exe_path);
}

/* Decides what is executed, hashes it and learns how to know it again. */
static enum tao_err identify(struct work *w)
{
	char head[SCRIPT_HEAD + 1];
	struct stat st;
	enum tao_err e = read_head(w->rq->fd, w->rq->path, head);

	if (e == TAO_OK)
		e = memcmp(head, "#!", 2) == 0 ? follow_script(w, head) : take_program(w);
	if (e == TAO_OK && fstat(w->exe_fd, &st) != 0)
		e = tao_fail_sys("cannot examine %s", w->exe_path);
	if (e == TAO_OK)
		e = refuse_setid(w, &st);
	if (e == TAO_OK && w->m->copy_fd < 0)
		e = measure_file(w->cache, w->exe_fd, w->exe_path, w->m->exe);
	if (e != TAO_OK)
		return e;
	file_id_of_exe(&st, &w->m->id);
	w->m->is_interpreter = w->m->is_script ||
	                       measure_is_interpreter(w->m->copy_fd < 0 ? w->exe_path : w->rq->path);
	return TAO_OK;
}

static enum tao_err closure(struct work *w)
{
	enum tao_err e = libs_new(w->cache, w->rq->dev_uid, &w->libs);

	if (e == TAO_OK)
		e = libs_program(w->libs, w->exe_fd,
		                 w->m->copy_fd < 0 ? w->exe_path : w->rq->path, w->exe_path);
	if (e == TAO_ENOTFOUND && w->m->copy_fd >= 0)
		e = tao_fail(e, "%s (%s runs from a sealed copy, since others could change it: "
		             "there, $ORIGIN is /)", tao_why(), w->rq->path);
	if (e != TAO_OK)
		return e;
	w->m->is_static = libs_is_static(w->libs);
	if (w->rq->program_only)
		return TAO_OK;
	for (char **p = w->rq->modules; e == TAO_OK && p != NULL && *p != NULL; p++)
		e = libs_module(w->libs, *p);
	return e;
}

static void put_text(struct tao_buf *b, const char *s)
{
	static const char digits[] = "0123456789abcdef";

	for (const unsigned char *p = (const unsigned char *)s; *p != 0; p++) {
		char esc[3] = { '%', digits[*p >> 4], digits[*p & 15] };

		if (*p < 0x21 || *p == 0x7f || *p == '%')
			tao_buf_put(b, esc, sizeof esc);
		else
			tao_buf_u8(b, *p);
	}
}

static void put_file(struct tao_buf *b, const char *word, const char *path, const uint8_t *hash)
{
	tao_buf_fmt(b, "%s ", word);
	tao_buf_hex(b, hash, TAO_HASH_LEN);
	tao_buf_u8(b, ' ');
	put_text(b, path);
	tao_buf_u8(b, '\n');
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct item *)a)->path, ((const struct item *)b)->path);
}

/* The objects of one kind, sorted. */
static enum tao_err put_objects(const struct work *w, const char *word, unsigned kind)
{
	size_t n = 0, count = libs_count(w->libs);
	struct item *item = calloc(count, sizeof *item);

	if (item == NULL)
		return tao_fail_nomem();
	for (size_t i = 0; i < count; i++) {
		const struct lib *lib = libs_at(w->libs, i);

		if (lib->kinds & kind)
			item[n++] = (struct item){ lib->path, lib->hash };
	}
	qsort(item, n, sizeof *item, by_path);
	for (size_t i = 0; i < n; i++)
		put_file(&w->m->text, word, item[i].path, item[i].hash);
	free(item);
	return TAO_OK;
}

static int may_read(const struct stat *st, uid_t uid, mode_t everybody, mode_t owner)
{
	return (st->st_mode & everybody) != 0 || (st->st_uid == uid && (st->st_mode & owner) != 0);
}

/* A hash in a name tells what a small file holds, so a user gets it of files that he can read.
 * The path is stable: nobody but root changes it meanwhile. */
enum tao_err measure_readable(const char *real, const struct stat *of, uid_t uid)
{
	int good = uid == 0 || may_read(of, uid, S_IROTH, S_IRUSR);
	char *dir = strdup(real);
	struct stat st;

	if (dir == NULL)
		return tao_fail_nomem();
	for (char *slash = strrchr(dir, '/'); good && uid != 0 && slash != NULL && slash != dir;
	     slash = strrchr(dir, '/')) {
		*slash = 0;
		good = stat(dir, &st) == 0 && may_read(&st, uid, S_IXOTH, S_IXUSR);
	}
	free(dir);
	return good ? TAO_OK
	            : tao_fail(TAO_EPERM, "%s is not readable for user %u, so it is not measured "
	                       "for this user: make it readable for everybody with 'chmod a+r'",
	                       real, (unsigned)uid);
}

static enum tao_err put_config(const struct work *w)
{
	enum tao_err e = TAO_OK;

	for (char **p = w->rq->config; e == TAO_OK && p != NULL && *p != NULL; p++) {
		struct stable_file f;
		uint8_t hash[TAO_HASH_LEN];

		e = stable_open(*p, w->rq->dev_uid, &f);
		if (e == TAO_OK)
			e = measure_readable(f.real, &f.st, w->rq->uid);
		if (e == TAO_OK)
			e = measure_file(w->cache, f.fd, f.real, hash);
		if (e == TAO_OK)
			put_file(&w->m->text, "config", f.real, hash);
		stable_close(&f);
	}
	return e;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void put_line(struct tao_buf *b, const char *word, const char *text)
{
	tao_buf_fmt(b, "%s ", word);
	put_text(b, text);
	tao_buf_u8(b, '\n');
}

static enum tao_err put_words(const struct work *w)
{
	char **sorted = NULL;
	size_t n = 0;

	for (char **p = w->rq->args; p != NULL && *p != NULL; p++)
		put_line(&w->m->text, "arg", *p);
	while (w->rq->env != NULL && w->rq->env[n] != NULL)
		n++;
	if (n == 0)
		return TAO_OK;
	sorted = malloc(n * sizeof *sorted);
	if (sorted == NULL)
		return tao_fail_nomem();
	memcpy(sorted, w->rq->env, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, by_text);
	for (size_t i = 0; i < n; i++)
		put_line(&w->m->text, "env", sorted[i]);
	free(sorted);
	return TAO_OK;
}

static enum tao_err write_manifest(struct work *w)
{
	struct tao_buf *b = &w->m->text;
	enum tao_err e;

	tao_buf_str(b, "tao manifest 1\n");
	e = put_objects(w, "interpreter", LIB_INTERPRETER);
	if (e == TAO_OK)
		e = put_objects(w, "library", LIB_LIBRARY);
	if (e == TAO_OK)
		e = put_objects(w, "module", LIB_MODULE);
	for (size_t i = 0; e == TAO_OK && i < w->script_n; i++)
		put_file(b, "script", w->script[i].path, w->script[i].hash);
	if (e == TAO_OK)
		e = put_config(w);
	if (e == TAO_OK)
		e = put_words(w);
	if (e == TAO_OK)
		e = tao_buf_err(b);
	if (e == TAO_OK &&
	    EVP_Digest(b->p, b->n, w->m->manifest, NULL, EVP_sha256(), NULL) != 1)
		e = tao_fail_crypto("cannot hash a manifest");
	return e;
}

enum tao_err measure_program_with(struct measure_cache *cache, const struct measure_request *rq,
                                  struct measurement *m)
{
	struct work w = { .cache = cache, .rq = rq, .m = m, .exe = STABLE_FILE_INIT, .exe_fd = -1 };
	enum tao_err e;

	memset(m, 0, sizeof *m);
	m->copy_fd = -1;
	m->text = (struct tao_buf)TAO_BUF_INIT;
	m->text.max = MEASURE_MAX_MANIFEST;
	e = check_request(rq);
	if (e == TAO_OK)
		e = identify(&w);
	if (e == TAO_OK)
		e = closure(&w);
	if (e == TAO_OK && !rq->program_only)
		e = write_manifest(&w);
	libs_free(w.libs);
	for (size_t i = 0; i < w.script_n; i++)
		free(w.script[i].path);
	free(w.exe_path);
	stable_close(&w.exe);
	if (e != TAO_OK)
		measurement_clear(m);
	return e;
}

enum tao_err measure_program(const struct measure_request *rq, struct measurement *m)
{
	return measure_program_with(NULL, rq, m);
}

void measurement_clear(struct measurement *m)
{
	tao_buf_free(&m->text);
	if (m->copy_fd >= 0)
		close(m->copy_fd);
	m->copy_fd = -1;
}
