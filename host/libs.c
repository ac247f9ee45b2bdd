#include "libs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf.h"
#include "filehash.h"
#include "ldcache.h"
#include "stable.h"

#define LDCACHE_MAX (16u << 20) /* bytes of /etc/ld.so.cache */
#define PRELOAD_MAX 65536       /* bytes of /etc/ld.so.preload */
#define OBJECTS_MAX (MEASURE_MAX_LIBS + 2)
#define NAMES_MAX (4 * OBJECTS_MAX) /* names under which objects were asked for */
#define DIRS_MAX 1024               /* directories looked into for one program */

#if defined(__x86_64__)
#define LOADER "/lib64/ld-linux-x86-64.so.2"
#define DST_LIB "lib/x86_64-linux-gnu"
#elif defined(__aarch64__)
#define LOADER "/lib/ld-linux-aarch64.so.1"
#define DST_LIB "lib/aarch64-linux-gnu"
#endif

static const char *const default_dirs[] = { "/" DST_LIB, "/usr/" DST_LIB, "/lib", "/usr/lib" };
static const char *const legacy_dirs[] = { "tls", "x86_64", "haswell", "avx512_1", "xeon_phi" };

struct object {
	struct lib lib;
	char *real;            /* lib.path */
	char *found;           /* as the loader names it: $ORIGIN is its directory */
	struct elf_info elf;
	dev_t dev;
	ino_t ino;
	struct object *loader; /* who needed it first; NULL: the program or a module */
};

struct alias {
	char *name;
	struct object *object;
};

struct dir_state {
	char *path;
	int there;
};

struct libs {
	struct measure_cache *cache;
	uid_t dev_uid;
	struct object *object[OBJECTS_MAX];
	size_t object_n;
	struct alias alias[NAMES_MAX];
	size_t alias_n;
	struct dir_state dir[DIRS_MAX];
	size_t dir_n;
	struct hwcaps hwcaps;
	struct tao_buf cache_bytes;
	struct ldcache ldcache;
	size_t done_n; /* objects whose needs are resolved */
};

/* A library that a search came upon. */
struct candidate {
	struct stable_file file;
	struct elf_info elf;
	char *found;
};
#define CANDIDATE_INIT { .file = STABLE_FILE_INIT }

static void candidate_clear(struct candidate *c)
{
	stable_close(&c->file);
	elf_info_clear(&c->elf);
	free(c->found);
	c->found = NULL;
}

static int candidate_is(const struct candidate *c)
{
	return c->file.fd >= 0;
}

/* The loader does without a cache; a machine without one is fine. */
static enum tao_err load_cache(struct libs *l)
{
	struct stable_file f = STABLE_FILE_INIT;
	enum tao_err e = stable_open("/etc/ld.so.cache", l->dev_uid, &f);

	if (e == TAO_ENOTFOUND)
		return TAO_OK;
	if (e == TAO_OK)
		e = filehash_slurp(f.fd, f.real, LDCACHE_MAX, &l->cache_bytes);
	if (e == TAO_OK)
		e = ldcache_parse(l->cache_bytes.p, l->cache_bytes.n, &l->ldcache);
	stable_close(&f);
	return e;
}

enum tao_err libs_new(struct measure_cache *cache, uid_t dev_uid, struct libs **out)
{
	struct libs *l = calloc(1, sizeof *l);

	*out = l;
	if (l == NULL)
		return tao_fail_nomem();
	l->cache = cache;
	l->dev_uid = dev_uid;
	l->cache_bytes = (struct tao_buf)TAO_BUF_INIT;
	hwcaps_here(&l->hwcaps);
	return TAO_OK;
}

static void object_free(struct object *o)
{
	if (o == NULL)
		return;
	elf_info_clear(&o->elf);
	free(o->real);
	free(o->found);
	free(o);
}

void libs_free(struct libs *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->object_n; i++)
		object_free(l->object[i]);
	for (size_t i = 0; i < l->alias_n; i++)
		free(l->alias[i].name);
	for (size_t i = 0; i < l->dir_n; i++)
		free(l->dir[i].path);
	tao_buf_free(&l->cache_bytes);
	free(l);
}

static enum tao_err add_alias(struct libs *l, const char *name, struct object *o)
{
	char *copy;

	if (l->alias_n == NAMES_MAX)
		return tao_fail(TAO_ELIMIT, "more than %d library names in one program", NAMES_MAX);
	copy = strdup(name);
	if (copy == NULL)
		return tao_fail_nomem();
	l->alias[l->alias_n++] = (struct alias){ copy, o };
	return TAO_OK;
}

/* The object that the loader would take for the name without looking at any file. */
static struct object *loaded(struct libs *l, const char *name)
{
	for (size_t i = 0; i < l->alias_n; i++)
		if (strcmp(l->alias[i].name, name) == 0)
			return l->alias[i].object;
	for (size_t i = 0; i < l->object_n; i++) {
		const char *soname = l->object[i]->elf.soname;

		if (soname != NULL && strcmp(soname, name) == 0)
			return l->object[i];
	}
	return NULL;
}

static struct object *same_file(struct libs *l, const struct stat *st)
{
	for (size_t i = 0; i < l->object_n; i++)
		if (l->object[i]->dev == st->st_dev && l->object[i]->ino == st->st_ino)
			return l->object[i];
	return NULL;
}

/* Takes what the candidate holds. */
static enum tao_err add_object(struct libs *l, struct candidate *c, unsigned kind,
                               struct object *loader, struct object **out)
{
	struct object *o;
	enum tao_err e;

	if (l->object_n == OBJECTS_MAX)
		return tao_fail(TAO_ELIMIT, "a program needs more than %d libraries",
		                MEASURE_MAX_LIBS);
	o = calloc(1, sizeof *o);
	if (o == NULL)
		return tao_fail_nomem();
	e = measure_file(l->cache, c->file.fd, c->file.real, o->lib.hash);
	if (e != TAO_OK) {
		object_free(o);
		return e;
	}
	o->real = c->file.real;
	o->found = c->found;
	o->elf = c->elf;
	o->dev = c->file.st.st_dev;
	o->ino = c->file.st.st_ino;
	o->loader = loader;
	o->lib.path = o->real;
	o->lib.kinds = kind;
	c->file.real = c->found = NULL;
	c->elf = (struct elf_info){ 0 };
	l->object[l->object_n++] = *out = o;
	return TAO_OK;
}

/* Opens path if it is there and for this machine: else TAO_OK without a candidate. */
static enum tao_err try_path(struct libs *l, const char *path, struct candidate *c)
{
	enum tao_err e = stable_open(path, l->dev_uid, &c->file);

	if (e == TAO_ENOTFOUND)
		return TAO_OK;
	if (e != TAO_OK)
		return e;
	e = elf_read(c->file.fd, path, &c->elf);
	if (e == TAO_EFORMAT && c->elf.foreign) {
		candidate_clear(c);
		return TAO_OK;
	}
	if (e == TAO_OK) {
		c->found = strdup(path);
		if (c->found == NULL)
			e = tao_fail_nomem();
	}
	if (e != TAO_OK)
		candidate_clear(c);
	return e;
}

/* TAO_OK: *there says whether the directory exists, which nobody else can change. */
static enum tao_err dir_there(struct libs *l, const char *path, int *there)
{
	enum tao_err e;

	for (size_t i = 0; i < l->dir_n; i++)
		if (strcmp(l->dir[i].path, path) == 0) {
			*there = l->dir[i].there;
			return TAO_OK;
		}
	e = stable_dir(path, l->dev_uid);
	if (e != TAO_OK && e != TAO_ENOTFOUND)
		return e;
	if (l->dir_n == DIRS_MAX)
		return tao_fail(TAO_ELIMIT, "libraries are looked for in more than %d directories",
		                DIRS_MAX);
	*there = e == TAO_OK;
	l->dir[l->dir_n].there = *there;
	l->dir[l->dir_n].path = strdup(path);
	if (l->dir[l->dir_n].path == NULL)
		return tao_fail_nomem();
	l->dir_n++;
	return TAO_OK;
}

/* Tries DIR/SUB/NAME, sub may be "". */
static enum tao_err try_sub(struct libs *l, const char *dir, const char *sub, const char *name,
                            struct candidate *c)
{
	char path[PATH_MAX];
	int there = 0;
	enum tao_err e;

	if (snprintf(path, sizeof path, "%s/%s", dir, sub) >= (int)sizeof path)
		return tao_fail(TAO_ELIMIT, "a library directory's name is too long: %.60s...",
		                dir);
	e = dir_there(l, path, &there);
	if (e != TAO_OK || !there)
		return e;
	if (snprintf(path, sizeof path, "%s/%s%s%s", dir, sub, *sub != 0 ? "/" : "", name) >=
	    (int)sizeof path)
		return tao_fail(TAO_ELIMIT, "a library's path is too long: %.60s...", dir);
	return try_path(l, path, c);
}

static enum tao_err refuse_legacy(struct libs *l, const char *dir, const char *name)
{
	struct candidate c = CANDIDATE_INIT;

	for (size_t i = 0; i < sizeof legacy_dirs / sizeof *legacy_dirs; i++) {
		enum tao_err e = try_sub(l, dir, legacy_dirs[i], name, &c);

		if (e != TAO_OK)
			return e;
		if (!candidate_is(&c))
			continue;
		candidate_clear(&c);
		return tao_fail(TAO_EFORMAT, "%s/%s holds a variant of %s, which older loaders "
		                "take: move it below glibc-hwcaps", dir, legacy_dirs[i], name);
	}
	return TAO_OK;
}

static enum tao_err try_dir(struct libs *l, const char *dir, const char *name,
                            struct candidate *c)
{
	int there = 0;
	enum tao_err e;

	if (dir[0] != '/')
		return tao_fail(TAO_EDENIED, "%s is looked for in '%s', relative to the current "
		                "directory: link the program with absolute directories", name, dir);
	e = dir_there(l, dir, &there);
	if (e != TAO_OK || !there)
		return e;
	for (size_t i = 0; e == TAO_OK && i < l->hwcaps.n && !candidate_is(c); i++) {
		char sub[64];

		snprintf(sub, sizeof sub, "glibc-hwcaps/%s", l->hwcaps.name[i]);
		e = try_sub(l, dir, sub, name, c);
	}
	if (e == TAO_OK && !candidate_is(c))
		e = try_sub(l, dir, "", name, c);
	if (e == TAO_OK && candidate_is(c))
		e = refuse_legacy(l, dir, name);
	return e;
}

/* The length of $NAME or ${NAME} at s (behind the dollar); 0 if it is not that. */
static size_t is_token(const char *s, const char *name)
{
	size_t curly = *s == '{', n = strlen(name);
	const char *end = s + curly + n;

	if (strncmp(s + curly, name, n) != 0)
		return 0;
	if (curly)
		return *end == '}' ? n + 2 : 0;
	return strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_", *end) ==
	               NULL || *end == 0 ? n : 0;
}

/* Dynamic string tokens; out is a C string. */
static enum tao_err expand(const struct object *o, const char *s, size_t n, struct tao_buf *out)
{
	const char *end = s + n;

	tao_buf_reset(out);
	out->max = PATH_MAX;
	while (s < end) {
		size_t len;

		if (*s++ != '$') {
			tao_buf_put(out, s - 1, 1);
		} else if ((len = is_token(s, "ORIGIN")) > 0) {
			const char *slash = strrchr(o->found, '/');

			tao_buf_put(out, o->found,
			            slash > o->found ? (size_t)(slash - o->found) : 1);
			s += len;
		} else if ((len = is_token(s, "LIB")) > 0) {
			tao_buf_str(out, DST_LIB);
			s += len;
		} else if (is_token(s, "PLATFORM") > 0) {
			return tao_fail(TAO_EFORMAT, "%s looks for libraries by $PLATFORM, which "
			                "the Tao host cannot follow: link it without", o->real);
		} else {
			tao_buf_put(out, "$", 1);
		}
	}
	return tao_buf_err(out);
}

/* A search path: directories between colons, an empty one is the current directory. */
static enum tao_err try_rpath(struct libs *l, const struct object *o, const char *rpath,
                              const char *name, struct candidate *c)
{
	struct tao_buf dir = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	if (rpath == NULL || *rpath == 0)
		return TAO_OK;
	for (const char *s = rpath; e == TAO_OK && !candidate_is(c);) {
		size_t n = strcspn(s, ":");

		e = expand(o, s, n, &dir);
		while (e == TAO_OK && dir.n > 1 && dir.p[dir.n - 1] == '/')
			dir.n--;
		if (e == TAO_OK)
			e = try_dir(l, dir.n > 0 ? tao_buf_cstr(&dir) : ".", name, c);
		if (s[n] == 0)
			break;
		s += n + 1;
	}
	tao_buf_free(&dir);
	return e;
}

static int in_default_dir(const char *path)
{
	const char *slash = strrchr(path, '/');

	for (size_t i = 0; i < sizeof default_dirs / sizeof *default_dirs; i++)
		if (slash != NULL && strlen(default_dirs[i]) == (size_t)(slash - path) &&
		    strncmp(path, default_dirs[i], (size_t)(slash - path)) == 0)
			return 1;
	return 0;
}

static enum tao_err try_system(struct libs *l, const struct object *who, const char *name,
                               struct candidate *c)
{
	const char *cached = ldcache_find(&l->ldcache, name, &l->hwcaps);
	enum tao_err e = TAO_OK;

	if (cached != NULL && !(who->elf.nodeflib && in_default_dir(cached)))
		e = try_path(l, cached, c);
	for (size_t i = 0; i < sizeof default_dirs / sizeof *default_dirs; i++)
		if (e == TAO_OK && !candidate_is(c) && !who->elf.nodeflib)
			e = try_dir(l, default_dirs[i], name, c);
	return e;
}

/* DT_RPATH of who and of those above it, then the program's; not if who has a DT_RUNPATH. */
static enum tao_err try_rpaths(struct libs *l, const struct object *who, const char *name,
                               struct candidate *c)
{
	const struct object *program = l->object[0];
	int saw_program = 0;
	enum tao_err e = TAO_OK;

	if (who->elf.runpath != NULL)
		return TAO_OK;
	for (const struct object *o = who; o != NULL && e == TAO_OK && !candidate_is(c);
	     o = o->loader) {
		saw_program |= o == program;
		e = try_rpath(l, o, o->elf.rpath, name, c);
	}
	if (e == TAO_OK && !candidate_is(c) && !saw_program)
		e = try_rpath(l, program, program->elf.rpath, name, c);
	return e;
}

static enum tao_err search(struct libs *l, const struct object *who, const char *name,
                           struct candidate *c)
{
	struct tao_buf path = TAO_BUF_INIT;
	enum tao_err e;

	if (strchr(name, '/') != NULL) {
		e = expand(who, name, strlen(name), &path);
		if (e == TAO_OK && path.p[0] != '/')
			e = tao_fail(TAO_EDENIED, "%s needs '%s', relative to the current "
			             "directory: link it with an absolute path", who->real, name);
		if (e == TAO_OK)
			e = try_path(l, tao_buf_cstr(&path), c);
		tao_buf_free(&path);
		return e;
	}
	e = try_rpaths(l, who, name, c);
	if (e == TAO_OK && !candidate_is(c))
		e = try_rpath(l, who, who->elf.runpath, name, c);
	if (e == TAO_OK && !candidate_is(c))
		e = try_system(l, who, name, c);
	return e;
}

/* Loads what name stands for; *found says whether it was there. */
static enum tao_err need(struct libs *l, struct object *who, const char *name, int *found)
{
	struct candidate c = CANDIDATE_INIT;
	struct object *o = loaded(l, name);
	enum tao_err e;

	*found = 1;
	if (o != NULL)
		return TAO_OK;
	e = search(l, who, name, &c);
	if (e == TAO_OK && !candidate_is(&c)) {
		*found = 0;
		return TAO_OK;
	}
	if (e == TAO_OK)
		o = same_file(l, &c.file.st);
	if (e == TAO_OK && o == NULL)
		e = add_object(l, &c, LIB_LIBRARY, who, &o);
	if (e == TAO_OK)
		e = add_alias(l, name, o);
	candidate_clear(&c);
	return e;
}

/* Breadth first, as the loader does: the order decides whose name is known already. */
static enum tao_err resolve(struct libs *l)
{
	for (; l->done_n < l->object_n; l->done_n++) {
		struct object *o = l->object[l->done_n];

		for (size_t i = 0; i < o->elf.needed_n; i++) {
			int found;
			enum tao_err e = need(l, o, o->elf.needed[i], &found);

			if (e != TAO_OK)
				return e;
			if (!found)
				return tao_fail(TAO_ENOTFOUND, "%s needs the library %s, which is "
				                "in none of the directories it is looked for: "
				                "install it",
				                o->real, o->elf.needed[i]);
		}
	}
	return TAO_OK;
}

/* Only the system's own loader is known to search as this file does. */
static enum tao_err check_loader(const char *program, const char *interp, const struct stat *st)
{
	struct stat own;

	if (stat(LOADER, &own) == 0 && own.st_dev == st->st_dev && own.st_ino == st->st_ino)
		return TAO_OK;
	return tao_fail(TAO_EFORMAT, "%s is started by %s, which is not this system's %s: link it "
	                "with that, or statically", program, interp, LOADER);
}

static enum tao_err add_interpreter(struct libs *l, struct object *program)
{
	struct candidate c = CANDIDATE_INIT;
	struct object *o = NULL;
	const char *interp = program->elf.interp;
	enum tao_err e;

	if (interp[0] != '/')
		return tao_fail(TAO_EDENIED, "%s names the ELF interpreter '%s', which is not an "
		                "absolute path: link it again", program->real, interp);
	e = try_path(l, interp, &c);
	if (e == TAO_OK && !candidate_is(&c))
		e = tao_fail(TAO_ENOTFOUND, "%s needs the ELF interpreter %s, which is not there",
		             program->real, interp);
	if (e == TAO_OK)
		e = check_loader(program->real, interp, &c.file.st);
	if (e == TAO_OK)
		e = add_object(l, &c, LIB_INTERPRETER, NULL, &o);
	if (e == TAO_OK)
		e = add_alias(l, interp, o);
	candidate_clear(&c);
	return e;
}

/* /etc/ld.so.preload: names between blanks and colons, # to the end of the line. What is missing
 * the loader passes over. */
static enum tao_err add_preloads(struct libs *l)
{
	struct stable_file f = STABLE_FILE_INIT;
	struct tao_buf text = TAO_BUF_INIT;
	char *copy, *save = NULL;
	enum tao_err e = stable_open("/etc/ld.so.preload", l->dev_uid, &f);

	if (e == TAO_ENOTFOUND)
		return TAO_OK;
	if (e == TAO_OK)
		e = filehash_slurp(f.fd, f.real, PRELOAD_MAX, &text);
	stable_close(&f);
	copy = tao_buf_steal(&text);
	if (e == TAO_OK && copy == NULL)
		e = tao_fail_nomem();
	if (e != TAO_OK)
		goto out;
	for (char *hash = strchr(copy, '#'); hash != NULL; hash = strchr(hash, '#'))
		memset(hash, ' ', strcspn(hash, "\n"));
	for (char *s = strtok_r(copy, ": \t\n", &save); e == TAO_OK && s != NULL;
	     s = strtok_r(NULL, ": \t\n", &save)) {
		int found;

		e = need(l, l->object[0], s, &found);
	}
out:
	free(copy);
	return e;
}

static enum tao_err program_object(struct libs *l, int fd, const char *path, const char *where)
{
	struct object *o = calloc(1, sizeof *o);
	struct stat st;
	enum tao_err e;

	if (o == NULL)
		return tao_fail_nomem();
	l->object[l->object_n++] = o;
	o->real = strdup(path);
	o->found = strdup(where);
	if (o->real == NULL || o->found == NULL)
		return tao_fail_nomem();
	if (fstat(fd, &st) != 0)
		return tao_fail_sys("cannot examine %s", path);
	o->dev = st.st_dev;
	o->ino = st.st_ino;
	o->lib.path = o->real;
	o->lib.kinds = LIB_PROGRAM;
	e = elf_read(fd, path, &o->elf);
	if (e == TAO_OK && o->elf.interp == NULL) {
		/* Nobody loads what a static program would need. */
		elf_info_clear(&o->elf);
		l->done_n = 1;
	}
	return e;
}

enum tao_err libs_program(struct libs *l, int fd, const char *path, const char *where)
{
	enum tao_err e = program_object(l, fd, path, where);

	if (e != TAO_OK || libs_is_static(l))
		return e;
	e = load_cache(l);
	if (e == TAO_OK)
		e = add_interpreter(l, l->object[0]);
	if (e == TAO_OK)
		e = add_preloads(l);
	return e == TAO_OK ? resolve(l) : e;
}

enum tao_err libs_module(struct libs *l, const char *path)
{
	struct candidate c = CANDIDATE_INIT;
	struct object *o = NULL;
	enum tao_err e = TAO_OK;

	if (l->ldcache.p == NULL)
		e = load_cache(l);
	if (e == TAO_OK)
		e = stable_open(path, l->dev_uid, &c.file);
	if (e == TAO_OK)
		o = same_file(l, &c.file.st);
	if (o != NULL) {
		o->lib.kinds |= LIB_MODULE;
		goto out;
	}
	if (e == TAO_OK)
		e = elf_read(c.file.fd, path, &c.elf);
	if (e == TAO_OK && (c.found = strdup(path)) == NULL)
		e = tao_fail_nomem();
	if (e == TAO_OK)
		e = add_object(l, &c, LIB_MODULE, NULL, &o);
	if (e == TAO_OK)
		e = add_alias(l, path, o);
	if (e == TAO_OK)
		e = resolve(l);
out:
	candidate_clear(&c);
	return e;
}

int libs_is_static(const struct libs *l)
{
	return l->object[0]->elf.interp == NULL;
}

size_t libs_count(const struct libs *l)
{
	return l->object_n;
}

const struct lib *libs_at(const struct libs *l, size_t i)
{
	return &l->object[i]->lib;
}
