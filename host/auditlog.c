#include "auditlog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define CHUNK 65536
#define FILES_MAX 100000
#define KEY_MAX 32       /* bytes of a member's name */
#define DIGITS_MAX 19    /* of a number: fits int64_t */
#define LIST_TRIES 5     /* the host may begin a new file meanwhile */

/* ---- records ---- */

static int peek(const struct tao_rd *r)
{
	return r->n > 0 ? r->p[0] : -1;
}

static void expect(struct tao_rd *r, char c)
{
	if (tao_rd_u8(r) != (uint8_t)c)
		r->bad = 1;
}

static int is_hex(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static void escape(struct tao_rd *r)
{
	uint8_t c = tao_rd_u8(r);

	if (c != 0 && strchr("\"\\bfnrt", c) != NULL)
		return;
	if (c != 'u')
		r->bad = 1;
	for (int i = 0; i < 4; i++)
		if (!is_hex(tao_rd_u8(r)))
			r->bad = 1;
}

/* What is between the quotes. */
static const char *string(struct tao_rd *r, size_t *n)
{
	const char *start;

	expect(r, '"');
	start = (const char *)r->p;
	while (!r->bad && peek(r) != '"') {
		uint8_t c = tao_rd_u8(r);

		if (c < 0x20)
			r->bad = 1;
		else if (c == '\\')
			escape(r);
	}
	*n = r->bad ? 0 : (size_t)((const char *)r->p - start);
	expect(r, '"');
	return start;
}

static void number(struct tao_rd *r)
{
	int zero, digits = 0;

	if (peek(r) == '-')
		tao_rd_u8(r);
	zero = peek(r) == '0';
	for (; peek(r) >= '0' && peek(r) <= '9'; digits++)
		tao_rd_u8(r);
	if (digits == 0 || digits > DIGITS_MAX || (zero && digits > 1))
		r->bad = 1;
}

static void word(struct tao_rd *r)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		size_t n = strlen(words[i]);

		if (r->n >= n && memcmp(r->p, words[i], n) == 0) {
			tao_rd_bytes(r, n);
			return;
		}
	}
	r->bad = 1;
}

static void value(struct tao_rd *r, struct audit_member *m)
{
	m->is_string = peek(r) == '"';
	if (m->is_string) {
		m->value = string(r, &m->n);
		return;
	}
	m->value = (const char *)r->p;
	if (peek(r) == '-' || (peek(r) >= '0' && peek(r) <= '9'))
		number(r);
	else
		word(r);
	m->n = r->bad ? 0 : (size_t)((const char *)r->p - m->value);
}

static int is_key(const struct audit_member *m)
{
	for (size_t i = 0; i < m->key_n; i++)
		if ((m->key[i] < 'a' || m->key[i] > 'z') && m->key[i] != '_')
			return 0;
	return m->key_n > 0 && m->key_n <= KEY_MAX;
}

static void member(struct tao_rd *r, struct audit_record *rec)
{
	struct audit_member *m = &rec->m[rec->n];

	m->key = string(r, &m->key_n);
	expect(r, ':');
	value(r, m);
	if (r->bad || !is_key(m)) {
		r->bad = 1;
		return;
	}
	for (size_t i = 0; i < rec->n; i++)
		if (rec->m[i].key_n == m->key_n && memcmp(rec->m[i].key, m->key, m->key_n) == 0)
			r->bad = 1;
	rec->n++;
}

static int named(const struct audit_member *m, const char *key)
{
	return m->key_n == strlen(key) && memcmp(m->key, key, m->key_n) == 0;
}

const struct audit_member *audit_member(const struct audit_record *r, const char *key)
{
	for (size_t i = 0; i < r->n; i++)
		if (named(&r->m[i], key))
			return &r->m[i];
	return NULL;
}

int audit_is(const struct audit_record *r, const char *key, const char *value)
{
	const struct audit_member *m = audit_member(r, key);

	return m != NULL && m->is_string && m->n == strlen(value) &&
	       memcmp(m->value, value, m->n) == 0;
}

enum tao_err audit_number(const struct audit_member *m, uint64_t *out)
{
	if (m == NULL || m->is_string || m->value[0] < '0' || m->value[0] > '9')
		return tao_fail(TAO_EFORMAT, "a number is missing in a record of the audit log");
	*out = 0;
	for (size_t i = 0; i < m->n; i++)
		*out = *out * 10 + (uint64_t)(m->value[i] - '0');
	return TAO_OK;
}

/* The four that every record begins with, and whose it is. */
static int heads(struct audit_record *r)
{
	static const char *const first[] = { "seq", "time", "prev", "event" };
	const struct audit_member *uid = audit_member(r, "uid");
	uint64_t v;

	if (r->n < 4)
		return 0;
	for (size_t i = 0; i < 4; i++)
		if (!named(&r->m[i], first[i]))
			return 0;
	r->has_uid = uid != NULL;
	if (uid != NULL && (audit_number(uid, &v) != TAO_OK || v > UINT32_MAX))
		return 0;
	r->uid = uid != NULL ? (uid_t)v : 0;
	r->time = r->m[1].value;
	return audit_number(&r->m[0], &r->seq) == TAO_OK && r->seq > 0 && r->m[1].is_string &&
	       r->m[1].n == AUDIT_TIME_LEN && r->m[2].is_string && r->m[3].is_string &&
	       tao_unhex(r->m[2].value, r->m[2].n, r->prev, sizeof r->prev) == TAO_OK;
}

enum tao_err audit_parse(const char *line, size_t n, struct audit_record *r)
{
	struct tao_rd rd = tao_rd_of(line, n);

	r->n = 0;
	if (n > AUDIT_LINE_MAX)
		rd.bad = 1;
	expect(&rd, '{');
	while (!rd.bad && r->n < AUDIT_MEMBERS_MAX) {
		member(&rd, r);
		if (peek(&rd) != ',')
			break;
		tao_rd_u8(&rd);
	}
	expect(&rd, '}');
	if (!tao_rd_done(&rd) || !heads(r))
		return tao_fail(TAO_EFORMAT, "a line of the audit log is not a record");
	return TAO_OK;
}

static uint32_t hex4(const char *s)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 4 | (uint32_t)(s[i] <= '9' ? s[i] - '0' : s[i] - 'a' + 10);
	return v;
}

void audit_text(const struct audit_member *m, struct tao_buf *out)
{
	static const char named_as[] = "bfnrt", meant[] = "\b\f\n\r\t";

	for (size_t i = 0; i < m->n; i++) {
		const char *at;

		if (!m->is_string || m->value[i] != '\\') {
			tao_buf_u8(out, (uint8_t)m->value[i]);
			continue;
		}
		i++;
		at = strchr(named_as, m->value[i]);
		if (m->value[i] == 'u') { /* the host writes control characters so, nothing else */
			tao_buf_u8(out, (uint8_t)hex4(m->value + i + 1));
			i += 4;
		} else {
			tao_buf_u8(out, at != NULL ? (uint8_t)meant[at - named_as] : (uint8_t)m->value[i]);
		}
	}
}

/* ---- files ---- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static enum tao_err add_name(struct audit_files *f, const char *name)
{
	size_t digits = strspn(name, "0123456789");
	uint32_t *more;

	if (strcmp(name, AUDIT_CURRENT) == 0)
		f->current = 1;
	if (digits != 8 || strcmp(name + digits, ".log") != 0)
		return TAO_OK;
	if (f->n == FILES_MAX)
		return tao_fail(TAO_ELIMIT, "the audit log has more than %d files: move old ones "
		                "away", FILES_MAX);
	more = reallocarray(f->number, f->n + 1, sizeof *more);
	if (more == NULL)
		return tao_fail_nomem();
	f->number = more;
	more[f->n++] = (uint32_t)strtoul(name, NULL, 10);
	return TAO_OK;
}

enum tao_err audit_files_list(const char *dir, struct audit_files *f)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	enum tao_err e = TAO_OK;

	memset(f, 0, sizeof *f);
	if (d == NULL && errno == ENOENT)
		return tao_fail(TAO_ENOTFOUND, "there is no audit log %s: the host has not run yet",
		                dir);
	if (d == NULL && errno == EACCES)
		return tao_fail(TAO_EPERM, "this user may not read %s", dir);
	if (d == NULL)
		return tao_fail_sys("cannot read %s", dir);
	while (e == TAO_OK && (entry = readdir(d)) != NULL)
		e = add_name(f, entry->d_name);
	closedir(d);
	if (f->n > 0)
		qsort(f->number, f->n, sizeof *f->number, by_number);
	if (e != TAO_OK)
		audit_files_clear(f);
	return e;
}

void audit_files_clear(struct audit_files *f)
{
	free(f->number);
	memset(f, 0, sizeof *f);
}

size_t audit_files_count(const struct audit_files *f)
{
	return f->n + (f->current != 0);
}

void audit_file_name(const struct audit_files *f, size_t i, char out[AUDIT_NAME_MAX])
{
	if (i < f->n)
		snprintf(out, AUDIT_NAME_MAX, "%08u.log", f->number[i]);
	else
		strcpy(out, AUDIT_CURRENT);
}

enum tao_err audit_cursor_open(const char *dir, const char *name, struct audit_cursor *c)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct tao_buf path = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	*c = (struct audit_cursor){ .fd = -1, .buf = empty };
	tao_buf_fmt(&path, "%s/%s", dir, name);
	c->fd = open(tao_buf_cstr(&path), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	if (c->fd < 0 && errno == ENOENT)
		e = tao_fail(TAO_ENOTFOUND, "%s does not exist", tao_buf_cstr(&path));
	else if (c->fd < 0 && errno == EACCES)
		e = tao_fail(TAO_EPERM, "this user may not read %s", tao_buf_cstr(&path));
	else if (c->fd < 0)
		e = tao_fail_sys("cannot open %s", tao_buf_cstr(&path));
	tao_buf_free(&path);
	return e;
}

void audit_cursor_close(struct audit_cursor *c)
{
	if (c->fd < 0)
		return;
	close(c->fd);
	c->fd = -1;
	tao_buf_free(&c->buf);
}

size_t audit_cursor_rest(const struct audit_cursor *c)
{
	return c->buf.n - c->used;
}

/* More bytes behind those that were not given out: 1, 0 the end, -1. */
static int more_bytes(struct audit_cursor *c)
{
	uint8_t *room;
	ssize_t n;

	if (c->used > 0) /* else there may be no buffer yet */
		memmove(c->buf.p, c->buf.p + c->used, c->buf.n - c->used);
	c->buf.n -= c->used;
	c->used = 0;
	room = tao_buf_room(&c->buf, CHUNK);
	if (room == NULL)
		return -1;
	do
		n = read(c->fd, room, CHUNK);
	while (n < 0 && errno == EINTR);
	c->buf.n -= CHUNK - (n > 0 ? (size_t)n : 0);
	if (n < 0)
		tao_fail_sys("reading the audit log");
	return n < 0 ? -1 : n > 0;
}

int audit_cursor_next(struct audit_cursor *c, const char **line, size_t *n)
{
	size_t seen = 0;

	for (;;) {
		size_t have = audit_cursor_rest(c);
		uint8_t *start = have > 0 ? c->buf.p + c->used : NULL;
		uint8_t *end = have > seen ? memchr(start + seen, '\n', have - seen) : NULL;
		int got;

		if (end != NULL) {
			*line = (const char *)start;
			*n = (size_t)(end - start);
			c->used += *n + 1;
			c->line++;
			return 1;
		}
		if (have > AUDIT_LINE_MAX) {
			tao_fail(TAO_EFORMAT, "line %llu of the audit log is longer than %d bytes",
			         (unsigned long long)c->line + 1, AUDIT_LINE_MAX);
			return -1;
		}
		seen = have;
		got = more_bytes(c);
		if (got <= 0)
			return got;
	}
}

/* ---- walking ---- */

/* Number of a file's first record; 0: it has none. */
static uint64_t first_seq(const char *dir, const char *name)
{
	struct audit_cursor c;
	struct audit_record r;
	const char *line;
	uint64_t seq = 0;
	size_t n;

	if (audit_cursor_open(dir, name, &c) == TAO_OK && audit_cursor_next(&c, &line, &n) == 1 &&
	    audit_parse(line, n, &r) == TAO_OK)
		seq = r.seq;
	audit_cursor_close(&c);
	return seq;
}

/* The file in which record `from` would be. */
static size_t file_of(const char *dir, const struct audit_files *f, uint64_t from)
{
	size_t low = 0, high = audit_files_count(f);
	char name[AUDIT_NAME_MAX];

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;
		uint64_t seq;

		audit_file_name(f, mid, name);
		seq = first_seq(dir, name);
		if (seq != 0 && seq <= from)
			low = mid;
		else
			high = mid;
	}
	return low;
}

struct walk {
	uint64_t from;
	int (*fn)(const char *line, size_t n, const struct audit_record *r, void *arg);
	void *arg;
	int stopped;
};

static enum tao_err walk_file(const char *dir, const char *name, struct walk *w)
{
	struct audit_cursor c;
	struct audit_record r;
	const char *line;
	size_t n;
	int got = 0;
	enum tao_err e = audit_cursor_open(dir, name, &c);

	while (e == TAO_OK && !w->stopped && (got = audit_cursor_next(&c, &line, &n)) == 1)
		if (audit_parse(line, n, &r) == TAO_OK && r.seq >= w->from) {
			w->from = r.seq + 1;
			w->stopped = w->fn(line, n, &r, w->arg);
		}
	audit_cursor_close(&c);
	return e == TAO_OK && got < 0 ? TAO_EFORMAT : e;
}

enum tao_err audit_walk(const char *dir, uint64_t from,
                        int (*fn)(const char *line, size_t n, const struct audit_record *r,
                                  void *arg), void *arg)
{
	struct walk w = { from, fn, arg, 0 };
	struct audit_files f;
	char name[AUDIT_NAME_MAX];
	enum tao_err e = audit_files_list(dir, &f);

	if (e != TAO_OK)
		return e;
	for (size_t i = file_of(dir, &f, from);
	     e == TAO_OK && !w.stopped && i < audit_files_count(&f); i++) {
		audit_file_name(&f, i, name);
		e = walk_file(dir, name, &w);
		/* a new one was begun; what moved is read by the next call */
		if (e == TAO_ENOTFOUND)
			e = TAO_OK;
	}
	audit_files_clear(&f);
	return e;
}

/* ---- checking ---- */

struct check {
	struct audit_verdict *v;
	const uint8_t *key;
	const struct audit_mark *mark;
	const char *file;
	uint64_t line;
	uint32_t number;   /* of the file; 0: the current one, not known yet */
	uint32_t before;   /* of the file before it; 0: none */
	int found;         /* the mark */
	EVP_PKEY *pkey;    /* of the last checkpoint */
	uint8_t pkey_hash[TAO_HASH_LEN];
	int has_key;
};

static enum tao_err bad(struct check *c, uint64_t seq, const char *what)
{
	c->v->bad = seq;
	return tao_fail(TAO_EALTERED, "record %llu %s (%s, line %llu): this log is not as the host "
	                "wrote it", (unsigned long long)seq, what, c->file,
	                (unsigned long long)c->line);
}

/* The key that a checkpoint names: the host's, or else the first one's. */
static enum tao_err check_key(struct check *c, const struct audit_record *r)
{
	const struct audit_member *m = audit_member(r, "key");
	uint8_t spki[TAO_SPKI_MAX], hash[TAO_HASH_LEN];

	if (m == NULL || !m->is_string || m->n == 0 || m->n % 2 != 0 || m->n / 2 > sizeof spki ||
	    tao_unhex(m->value, m->n, spki, m->n / 2) != TAO_OK ||
	    tao_sha256(spki, m->n / 2, hash) != TAO_OK)
		return bad(c, r->seq, "is a checkpoint without a key");
	if (c->key != NULL && memcmp(hash, c->key, sizeof hash) != 0)
		return bad(c, r->seq, "is signed by another key than the host's");
	if (c->has_key && memcmp(hash, c->pkey_hash, sizeof hash) == 0)
		return TAO_OK;
	if (c->has_key)
		return bad(c, r->seq, "is signed by another key than those before");
	if (tao_key_from_spki(spki, m->n / 2, &c->pkey) != TAO_OK)
		return bad(c, r->seq, "is a checkpoint without a proper key");
	memcpy(c->pkey_hash, hash, sizeof hash);
	memcpy(c->v->key, hash, sizeof hash);
	c->has_key = 1;
	return TAO_OK;
}

static enum tao_err check_checkpoint(struct check *c, const char *line,
                                     const struct audit_record *r)
{
	const struct audit_member *m = &r->m[r->n - 1];
	uint8_t *sig = malloc(m->n / 2 + 1);
	enum tao_err e = sig != NULL ? check_key(c, r) : tao_fail_nomem();

	if (e == TAO_OK && (!audit_is(r, "event", "checkpoint") || !named(m, "signature") ||
	    !m->is_string || m->n % 2 != 0 || tao_unhex(m->value, m->n, sig, m->n / 2) != TAO_OK))
		e = bad(c, r->seq, "is a checkpoint without a signature");
	if (e == TAO_OK &&
	    tao_key_verify(c->pkey, AUDIT_CONTEXT, line,
	                   (size_t)(m->value - line) - strlen(AUDIT_SIGNATURE), sig,
	                   m->n / 2) != TAO_OK)
		e = bad(c, r->seq, "has a signature that does not verify");
	if (e == TAO_OK) {
		c->v->checkpoints++;
		c->v->signed_to = r->seq;
	}
	free(sig);
	return e;
}

/* The first record of a file says which one it is. */
static enum tao_err check_file_record(struct check *c, const struct audit_record *r)
{
	uint64_t format, number;

	if (!audit_is(r, "event", "file") ||
	    audit_number(audit_member(r, "format"), &format) != TAO_OK ||
	    audit_number(audit_member(r, "number"), &number) != TAO_OK)
		return bad(c, r->seq, "begins a file, and is not of that kind");
	if (format > AUDIT_FORMAT)
		return tao_fail(TAO_EVERSION, "%s was written by a newer version: upgrade this one",
		                c->file);
	if (number != c->number)
		return bad(c, r->seq, "says that its file is another one");
	return TAO_OK;
}

static enum tao_err check_place(struct check *c, const struct audit_record *r)
{
	static const uint8_t none[TAO_HASH_LEN];
	const struct audit_verdict *v = c->v;
	uint64_t number;

	/* The current file is the one behind the last; alone, the one that it says it is. */
	if (c->number == 0)
		c->number = c->before != 0 ? c->before + 1
		            : audit_number(audit_member(r, "number"), &number) == TAO_OK
		            ? (uint32_t)number : 1;

	if (v->last == 0) {
		if (r->seq == 1 && memcmp(r->prev, none, sizeof none) != 0)
			return bad(c, 1, "does not begin a chain");
		if (r->seq != 1 && c->number <= 1)
			return bad(c, 1, "is missing, where the log begins");
		return TAO_OK;
	}
	if (r->seq != v->last + 1)
		return bad(c, v->last + 1,
		           r->seq > v->last ? "is missing" : "is not where it belongs");
	if (memcmp(r->prev, v->head.hash, sizeof r->prev) != 0)
		return bad(c, v->last, "was changed: the one behind it does not follow it");
	return TAO_OK;
}

static enum tao_err check_line(struct check *c, const char *line, size_t n)
{
	struct audit_verdict *v = c->v;
	struct audit_record r;
	enum tao_err e;

	if (audit_parse(line, n, &r) != TAO_OK)
		return bad(c, v->last + 1, "is not a record");
	e = check_place(c, &r);
	if (e == TAO_OK && c->line == 1)
		e = check_file_record(c, &r);
	if (e == TAO_OK && audit_is(&r, "event", "checkpoint"))
		e = check_checkpoint(c, line, &r);
	if (e == TAO_OK)
		e = tao_sha256(line, n, v->head.hash);
	if (e != TAO_OK)
		return e;
	if (v->last == 0)
		v->first = r.seq;
	v->last = v->head.seq = r.seq;
	v->ended = audit_is(&r, "event", "checkpoint") && audit_is(&r, "why", "stop");
	if (c->mark != NULL && c->mark->seq == r.seq) {
		c->found = memcmp(c->mark->hash, v->head.hash, TAO_HASH_LEN) == 0;
		if (!c->found)
			return bad(c, r.seq, "is not the one that was noted");
	}
	return TAO_OK;
}

static enum tao_err check_one_file(struct check *c, const char *dir, int last)
{
	struct audit_cursor cur;
	const char *line;
	size_t n;
	int got = 0;
	enum tao_err e = audit_cursor_open(dir, c->file, &cur);

	while (e == TAO_OK && (got = audit_cursor_next(&cur, &line, &n)) == 1) {
		c->line = cur.line;
		e = check_line(c, line, n);
	}
	c->line = cur.line + 1;
	if (e == TAO_OK && got < 0)
		e = bad(c, c->v->last + 1, "cannot be read");
	c->v->rest = e == TAO_OK ? audit_cursor_rest(&cur) : 0;
	if (e == TAO_OK && c->v->rest > 0 && !last)
		e = bad(c, c->v->last + 1, "is not whole");
	audit_cursor_close(&cur);
	return e;
}

static enum tao_err check_files(struct check *c, const char *dir, const struct audit_files *f)
{
	char name[AUDIT_NAME_MAX];
	enum tao_err e = TAO_OK;

	c->file = name;
	for (size_t i = 0; e == TAO_OK && i < audit_files_count(f); i++) {
		c->before = c->number;
		audit_file_name(f, i, name);
		c->number = i < f->n ? f->number[i] : 0;
		c->line = 1;
		if (i > 0 && c->number != 0 && c->number != c->before + 1)
			e = bad(c, c->v->last + 1, "is missing with its file");
		if (e == TAO_OK)
			e = check_one_file(c, dir, i + 1 == audit_files_count(f));
		c->v->files++;
	}
	if (e == TAO_OK && c->mark != NULL && !c->found)
		e = bad(c, c->mark->seq, "was noted, and is not in the log");
	c->file = NULL; /* its name was this function's */
	return e;
}

static int same_files(const struct audit_files *a, const struct audit_files *b)
{
	return a->n == b->n && a->current == b->current &&
	       (a->n == 0 || memcmp(a->number, b->number, a->n * sizeof *a->number) == 0);
}

enum tao_err audit_verify(const char *dir, const uint8_t *key, const struct audit_mark *mark,
                          struct audit_verdict *v)
{
	enum tao_err e = TAO_OK;

	for (int i = 0, again = 1; again && i < LIST_TRIES; i++) {
		struct check c = { .v = v, .key = key, .mark = mark };
		struct audit_files before, after = { 0 };

		memset(v, 0, sizeof *v);
		e = audit_files_list(dir, &before);
		if (e != TAO_OK)
			return e;
		e = check_files(&c, dir, &before);
		EVP_PKEY_free(c.pkey);
		again = audit_files_list(dir, &after) == TAO_OK && !same_files(&before, &after);
		audit_files_clear(&before);
		audit_files_clear(&after);
	}
	return e;
}
