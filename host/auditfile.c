#include "auditfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../tao/file.h"
#include "../tao/json.h"

#define TORN_MAX (64u << 20) /* bytes that are moved aside */
#define NUMBER_MAX 99999999

struct audit_file {
	char *dir, *current;  /* current: its path */
	uint32_t max;
	const struct tao_signer *key;
	char *spki;           /* hex */
	int fd;               /* -1: the next put begins a file */
	struct audit_at at;
	uint64_t unsigned_n;  /* records since the last checkpoint */
	const char *left;
	size_t torn;          /* bytes moved aside, to be told */
	int64_t altered;      /* bytes found where at.bytes were expected, to be told; -1: none */
};

/* What a put would make of the head; kept only if it is written. */
struct batch {
	struct tao_buf text;
	struct audit_mark head;
	uint64_t signed_to, unsigned_n;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- lines ---- */

static void put_time(struct tao_buf *b, int64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	char text[32];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	tao_buf_fmt(b, "%s.%03dZ", text, (int)(ns / 1000000 % 1000));
}

/* The members before event; a brace is open then. */
static size_t begin_line(struct batch *b, int64_t ns)
{
	size_t start = b->text.n;

	tao_buf_fmt(&b->text, "{\"seq\":%llu,\"time\":\"", (unsigned long long)b->head.seq + 1);
	put_time(&b->text, ns);
	tao_buf_str(&b->text, "\",\"prev\":\"");
	tao_buf_hex(&b->text, b->head.hash, TAO_HASH_LEN);
	tao_buf_str(&b->text, "\",");
	return start;
}

static enum tao_err end_line(struct batch *b, size_t start)
{
	enum tao_err e;

	tao_buf_u8(&b->text, '}');
	e = tao_buf_err(&b->text);
	if (e == TAO_OK)
		e = tao_sha256(b->text.p + start, b->text.n - start, b->head.hash);
	tao_buf_u8(&b->text, '\n');
	b->head.seq++;
	b->unsigned_n++;
	return e != TAO_OK ? e : tao_buf_err(&b->text);
}

static enum tao_err add_line(struct batch *b, int64_t ns, const void *body, size_t n)
{
	size_t start = begin_line(b, ns);

	tao_buf_put(&b->text, body, n);
	return end_line(b, start);
}

static enum tao_err add_checkpoint(struct audit_file *f, struct batch *b, const char *why)
{
	struct tao_buf sig = TAO_BUF_INIT;
	size_t start = begin_line(b, now_ns());
	EVP_PKEY *key = NULL;
	enum tao_err e;

	tao_buf_fmt(&b->text, "\"event\":\"checkpoint\",\"why\":\"%s\",\"key\":\"%s\"", why,
	            f->spki);
	e = tao_buf_err(&b->text);
	if (e == TAO_OK)
		e = tao_signer_open(f->key, &key);
	if (e == TAO_OK)
		e = tao_key_sign(key, AUDIT_CONTEXT, b->text.p + start, b->text.n - start, &sig);
	tao_buf_str(&b->text, AUDIT_SIGNATURE);
	tao_buf_hex(&b->text, sig.p, sig.n);
	tao_buf_u8(&b->text, '"');
	if (e == TAO_OK)
		e = end_line(b, start);
	b->signed_to = b->head.seq;
	b->unsigned_n = 0;
	EVP_PKEY_free(key);
	tao_buf_free(&sig);
	return e;
}

/* What happened to the file, before anything else. */
static enum tao_err add_findings(struct audit_file *f, struct batch *b)
{
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	if (f->torn > 0) {
		tao_buf_fmt(&body, "\"event\":\"torn\",\"bytes\":%zu,\"kept\":\"torn-%llu\"",
		            f->torn, (unsigned long long)f->at.head.seq + 1);
		e = add_line(b, now_ns(), body.p, body.n);
	}
	body.n = 0;
	if (e == TAO_OK && f->altered >= 0) {
		tao_buf_fmt(&body, "\"event\":\"altered\",\"expected\":%llu,\"found\":%lld",
		            (unsigned long long)f->at.bytes, (long long)f->altered);
		e = add_line(b, now_ns(), body.p, body.n);
	}
	tao_buf_free(&body);
	return e;
}

/* ---- the file ---- */

static void batch_begin(const struct audit_file *f, struct batch *b)
{
	static const struct tao_buf empty = TAO_BUF_INIT;

	*b = (struct batch){ empty, f->at.head, f->at.signed_to, f->unsigned_n };
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -1;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

/* Writes and keeps what is in it, or leaves the file as it was; frees. */
static enum tao_err commit(struct audit_file *f, struct batch *b, enum tao_err e)
{
	off_t was = f->altered >= 0 ? (off_t)f->altered : (off_t)f->at.bytes;

	if (e == TAO_OK && b->text.n > 0 && write_all(f->fd, b->text.p, b->text.n) != 0) {
		e = tao_fail_sys("writing the audit log %s", f->current);
		if (ftruncate(f->fd, was) != 0) /* half a record: the next start moves it aside */
			tao_fail(e, "%s, and half a record stays there", tao_why());
	}
	if (e == TAO_OK) {
		f->at.bytes = (uint64_t)was + b->text.n;
		f->at.head = b->head;
		f->at.signed_to = b->signed_to;
		f->unsigned_n = b->unsigned_n;
		f->torn = 0;
		f->at.altered += f->altered >= 0;
		f->altered = -1;
	}
	tao_buf_free(&b->text);
	return e;
}

static void sync_dir(const struct audit_file *f)
{
	int d = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (d >= 0) {
		fsync(d);
		close(d);
	}
}

/* Begins the current file with the record that says which one it is. */
static enum tao_err begin_file(struct audit_file *f)
{
	struct batch b;
	char body[80];
	int n = snprintf(body, sizeof body, "\"event\":\"file\",\"format\":%d,\"number\":%u",
	                 AUDIT_FORMAT, f->at.number);
	enum tao_err e;

	f->fd = open(f->current, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
	             0640);
	if (f->fd < 0)
		return tao_fail_sys("making the audit log %s", f->current);
	fchmod(f->fd, 0640); /* whatever the umask */
	f->at.bytes = 0;
	f->altered = -1;
	batch_begin(f, &b);
	e = commit(f, &b, add_line(&b, now_ns(), body, (size_t)n));
	if (e == TAO_OK) {
		sync_dir(f);
		return TAO_OK;
	}
	unlink(f->current);
	close(f->fd);
	f->fd = -1;
	return e;
}

static enum tao_err rename_current(struct audit_file *f)
{
	struct tao_buf to = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	if (f->at.number >= NUMBER_MAX)
		return tao_fail(TAO_ELIMIT, "the audit log has %u files: move it away",
		                f->at.number);
	tao_buf_fmt(&to, "%s/%08u.log", f->dir, f->at.number);
	if (renameat2(AT_FDCWD, f->current, AT_FDCWD, tao_buf_cstr(&to), RENAME_NOREPLACE) != 0 &&
	    errno != ENOENT) /* somebody removed it: the chain tells */
		e = tao_fail_sys("naming the audit log %s", tao_buf_cstr(&to));
	tao_buf_free(&to);
	if (e == TAO_OK)
		f->at.number++;
	return e;
}

static enum tao_err put_checkpoint(struct audit_file *f, const char *why)
{
	struct batch b;
	enum tao_err e;

	batch_begin(f, &b);
	e = commit(f, &b, add_checkpoint(f, &b, why));
	return e == TAO_OK ? audit_file_sync(f) : e;
}

static enum tao_err rotate(struct audit_file *f)
{
	enum tao_err e = f->unsigned_n > 0 ? put_checkpoint(f, "rotation") : TAO_OK;

	if (e == TAO_OK)
		e = rename_current(f);
	if (e != TAO_OK)
		return e;
	close(f->fd);
	f->fd = -1;
	return TAO_OK;
}

/* Has anybody else had a hand in it? */
static void look(struct audit_file *f)
{
	struct stat mine, there;

	if (f->fd < 0 || fstat(f->fd, &mine) != 0)
		return;
	if (stat(f->current, &there) != 0 || there.st_ino != mine.st_ino ||
	    there.st_dev != mine.st_dev) {
		if (rename_current(f) == TAO_OK) {
			close(f->fd);
			f->fd = -1;
		}
	} else if ((uint64_t)mine.st_size != f->at.bytes) {
		f->altered = mine.st_size;
	}
}

static enum tao_err ready(struct audit_file *f)
{
	enum tao_err e = TAO_OK;

	look(f);
	if (f->fd >= 0 && f->at.bytes >= f->max)
		e = rotate(f);
	if (e == TAO_OK && f->fd < 0)
		e = begin_file(f);
	return e;
}

enum tao_err audit_file_put(struct audit_file *f, const struct audit_entry *v, size_t n)
{
	struct batch b;
	enum tao_err e = ready(f);

	if (e != TAO_OK)
		return e;
	batch_begin(f, &b);
	e = add_findings(f, &b);
	for (size_t i = 0; e == TAO_OK && i < n; i++) {
		e = add_line(&b, v[i].ns, v[i].body.p, v[i].body.n);
		if (e == TAO_OK && b.unsigned_n >= AUDIT_SIGN_EVERY)
			e = add_checkpoint(f, &b, "count");
	}
	return commit(f, &b, e);
}

enum tao_err audit_file_checkpoint(struct audit_file *f, const char *why)
{
	int always = strcmp(why, "start") == 0 || strcmp(why, "stop") == 0;
	enum tao_err e;

	if (!always && f->unsigned_n == 0)
		return TAO_OK;
	e = ready(f);
	return e == TAO_OK ? put_checkpoint(f, why) : e;
}

enum tao_err audit_file_sync(struct audit_file *f)
{
	if (f->fd >= 0 && fdatasync(f->fd) != 0)
		return tao_fail_sys("writing the audit log %s to the disk", f->current);
	return TAO_OK;
}

void audit_file_at(const struct audit_file *f, struct audit_at *at)
{
	*at = f->at;
}

const char *audit_file_left(const struct audit_file *f)
{
	return f->left;
}

/* ---- where it was left ---- */

struct found {
	struct audit_mark head;
	uint64_t bytes, number;
	int stopped, any;
};

/* The last record of a file, and how far it is whole. */
static enum tao_err read_end(const struct audit_file *f, const char *name, struct found *at)
{
	struct audit_cursor c;
	struct audit_record r;
	const char *line;
	uint64_t bytes = 0;
	size_t n;
	int got = 0;
	enum tao_err e = audit_cursor_open(f->dir, name, &c);

	memset(at, 0, sizeof *at);
	while (e == TAO_OK && (got = audit_cursor_next(&c, &line, &n)) == 1) {
		bytes += n + 1;
		if (audit_parse(line, n, &r) != TAO_OK)
			continue;
		if (!at->any && audit_number(audit_member(&r, "number"), &at->number) != TAO_OK)
			at->number = 0;
		at->any = 1;
		at->bytes = bytes;
		at->head.seq = r.seq;
		at->stopped = audit_is(&r, "event", "checkpoint") && audit_is(&r, "why", "stop");
		e = tao_sha256(line, n, at->head.hash);
	}
	audit_cursor_close(&c);
	return e;
}

static enum tao_err keep_torn(struct audit_file *f, const struct found *at)
{
	struct tao_buf path = TAO_BUF_INIT, all = TAO_BUF_INIT;
	enum tao_err e;

	all.max = TORN_MAX;
	tao_buf_fmt(&path, "%s/torn-%llu", f->dir, (unsigned long long)at->head.seq + 1);
	e = tao_file_read(f->current, TORN_MAX, &all);
	if (e == TAO_OK && all.n > at->bytes) {
		f->torn = all.n - at->bytes;
		e = tao_file_write(tao_buf_cstr(&path), all.p + at->bytes, f->torn, 0640, 0);
		if (e == TAO_OK && truncate(f->current, (off_t)at->bytes) != 0)
			e = tao_fail_sys("cutting %s", f->current);
	}
	tao_buf_free(&path);
	tao_buf_free(&all);
	return e;
}

static enum tao_err resume(struct audit_file *f, const struct found *at)
{
	enum tao_err e = keep_torn(f, at);

	if (e != TAO_OK)
		return e;
	f->at.bytes = at->bytes;
	f->fd = open(f->current, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	return f->fd >= 0 ? TAO_OK : tao_fail_sys("opening the audit log %s", f->current);
}

/* An empty current file, or one without a record, is no file of the chain. */
static enum tao_err set_aside(struct audit_file *f, struct found *at)
{
	enum tao_err e = keep_torn(f, at);

	if (e == TAO_OK && unlink(f->current) != 0)
		e = tao_fail_sys("removing the empty %s", f->current);
	return e;
}

static enum tao_err find_end(struct audit_file *f)
{
	struct audit_files files;
	struct found old = { 0 }, at = { 0 };
	char name[AUDIT_NAME_MAX];
	enum tao_err e = audit_files_list(f->dir, &files);

	if (e != TAO_OK)
		return e;
	f->at.number = files.n > 0 ? files.number[files.n - 1] + 1 : 1;
	if (files.current)
		e = read_end(f, AUDIT_CURRENT, &at);
	if (e == TAO_OK && !at.any && files.n > 0) {
		audit_file_name(&files, files.n - 1, name);
		e = read_end(f, name, &old);
	}
	if (e == TAO_OK && files.n == 0 && at.number > 0 && at.number <= NUMBER_MAX)
		f->at.number = (uint32_t)at.number; /* those before it were moved away */
	f->at.head = at.any ? at.head : old.head;
	f->left = !at.any && !old.any ? "nothing" : at.any && at.stopped ? "stop" : "kill";
	if (e == TAO_OK && at.any) {
		e = resume(f, &at);
	} else if (e == TAO_OK && files.current) {
		at.head = old.head;
		e = set_aside(f, &at);
	}
	audit_files_clear(&files);
	return e;
}

static enum tao_err set_key(struct audit_file *f, const struct tao_signer *key)
{
	struct tao_buf spki = TAO_BUF_INIT, hex = TAO_BUF_INIT;
	enum tao_err e = tao_key_spki(key->public, &spki);

	f->key = key;
	tao_buf_hex(&hex, spki.p, spki.n);
	if (e == TAO_OK)
		e = tao_buf_err(&hex);
	f->spki = tao_buf_steal(&hex);
	tao_buf_free(&spki);
	return e == TAO_OK && f->spki == NULL ? tao_fail_nomem() : e;
}

enum tao_err audit_file_open(const char *dir, uint32_t max, const struct tao_signer *key,
                             struct audit_file **out)
{
	struct audit_file *f = calloc(1, sizeof *f);
	enum tao_err e;

	*out = NULL;
	if (f == NULL)
		return tao_fail_nomem();
	f->fd = -1;
	f->altered = -1;
	f->max = max;
	f->dir = strdup(dir);
	if (asprintf(&f->current, "%s/" AUDIT_CURRENT, dir) < 0)
		f->current = NULL;
	e = f->dir != NULL && f->current != NULL ? tao_dir_make(dir, 0750) : tao_fail_nomem();
	if (e == TAO_OK)
		e = set_key(f, key);
	if (e == TAO_OK)
		e = find_end(f);
	if (e != TAO_OK) {
		audit_file_close(f);
		return e;
	}
	*out = f;
	return TAO_OK;
}

void audit_file_close(struct audit_file *f)
{
	if (f == NULL)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f->dir);
	free(f->current);
	free(f->spki);
	free(f);
}
