#include "counter.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "../tao/file.h"

#define MAGIC "TaoC"
#define MAGIC_LEN 4
#define FORMAT 1
#define EPOCH 1 /* of its blob */
#define ENTRY_MIN (1 + 4 + TAO_HASH_LEN + COUNTER_ID_LEN + 8 + 8 + 2 + 1)
#define FILE_MAX (4u << 20)
#define FILE_MODE 0600

_Static_assert(COUNTERS_MAX * (ENTRY_MIN + COUNTER_LABEL_MAX) + TAO_SEAL_HEADER + 64 <= FILE_MAX,
               "the largest table fits");

/* Locks. changing: held by the one thread that changes the table, also while it writes the file.
 * lock: held for a moment by whoever looks at it, and by the changer when the file is written. So
 * what is seen is on the disk, and nobody who only looks waits for the disk. */
struct counters {
	pthread_mutex_t changing, lock;
	char *path;
	const struct tao_sealer *sealer;
	struct domain *domain;
	uint32_t max_labels;
	struct counter_table table;
	char *broken;
};

/* ---- bytes ---- */

static int owner_compare(const struct counter_owner *a, const struct counter_owner *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->uid != b->uid)
		return a->uid < b->uid ? -1 : 1;
	return memcmp(a->hash, b->hash, sizeof a->hash);
}

static int compare(const struct counter *a, const struct counter_owner *o, const char *label)
{
	int c = owner_compare(&a->owner, o);

	return c != 0 ? c : strcmp(a->label, label);
}

enum tao_err counter_check_label(const char *label)
{
	size_t n = label != NULL ? strlen(label) : 0;
	int printable = 1;

	for (size_t i = 0; i < n; i++)
		printable = printable && (unsigned char)label[i] >= ' ' && label[i] != 0x7f;
	if (n < 1 || n > COUNTER_LABEL_MAX || !printable)
		return tao_fail(TAO_EINVAL, "a label is text of 1 to %d bytes, without control "
		                "characters", COUNTER_LABEL_MAX);
	return TAO_OK;
}

void counter_table_clear(struct counter_table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->c[i].label);
	free(t->c);
	t->c = NULL;
	t->n = 0;
}

enum tao_err counter_table_encode(const struct counter_table *t, struct tao_buf *out)
{
	tao_buf_put(out, MAGIC, MAGIC_LEN);
	tao_buf_u8(out, FORMAT);
	tao_buf_u32(out, (uint32_t)t->n);
	for (size_t i = 0; i < t->n; i++) {
		const struct counter *c = &t->c[i];
		size_t n = strlen(c->label);

		tao_buf_u8(out, (uint8_t)c->owner.kind);
		tao_buf_u32(out, c->owner.uid);
		tao_buf_put(out, c->owner.hash, sizeof c->owner.hash);
		tao_buf_put(out, c->id, sizeof c->id);
		tao_buf_u64(out, (uint64_t)c->value);
		tao_buf_u64(out, (uint64_t)c->issued);
		tao_buf_u8(out, (uint8_t)(n >> 8));
		tao_buf_u8(out, (uint8_t)n);
		tao_buf_put(out, c->label, n);
	}
	return tao_buf_err(out);
}

/* 0: malformed. The label is c's from then on. */
static int read_counter(struct tao_rd *r, struct counter *c)
{
	uint8_t kind = tao_rd_u8(r);
	uint64_t value, issued;
	const uint8_t *hash, *id, *label;
	size_t n;

	c->owner.kind = kind;
	c->owner.uid = tao_rd_u32(r);
	hash = tao_rd_bytes(r, sizeof c->owner.hash);
	id = tao_rd_bytes(r, sizeof c->id);
	value = tao_rd_u64(r);
	issued = tao_rd_u64(r);
	n = (size_t)tao_rd_u8(r) << 8;
	n |= tao_rd_u8(r);
	label = tao_rd_bytes(r, n);
	if (r->bad || (kind != COUNTER_PROGRAM && kind != COUNTER_EXACT) ||
	    issued > (uint64_t)COUNTER_TOP || value > issued || memchr(label, 0, n) != NULL)
		return 0;
	memcpy(c->owner.hash, hash, sizeof c->owner.hash);
	memcpy(c->id, id, sizeof c->id);
	c->value = (int64_t)value;
	c->issued = (int64_t)issued;
	c->label = strndup((const char *)label, n);
	return c->label != NULL && counter_check_label(c->label) == TAO_OK;
}

static enum tao_err malformed(void)
{
	return tao_fail(TAO_EFORMAT, "the table of counters is malformed");
}

enum tao_err counter_table_decode(const void *p, size_t n, struct counter_table *out)
{
	struct tao_rd r = tao_rd_of(p, n);
	const uint8_t *magic = tao_rd_bytes(&r, MAGIC_LEN);
	uint8_t format = tao_rd_u8(&r);
	uint32_t count = tao_rd_u32(&r);

	out->c = NULL;
	out->n = 0;
	if (r.bad || memcmp(magic, MAGIC, MAGIC_LEN) != 0 || format == 0)
		return malformed();
	if (format > FORMAT)
		return tao_fail(TAO_EVERSION, "the table of counters has format %d: upgrade taod",
		                format);
	if (count > COUNTERS_MAX || r.n / ENTRY_MIN < count)
		return malformed();
	out->c = calloc(count + 1, sizeof *out->c);
	if (out->c == NULL)
		return tao_fail_nomem();
	for (uint32_t i = 0; i < count; i++) {
		struct counter *c = &out->c[out->n++];

		if (!read_counter(&r, c) || (i > 0 && compare(c - 1, &c->owner, c->label) >= 0)) {
			counter_table_clear(out);
			return malformed();
		}
	}
	if (tao_rd_done(&r))
		return TAO_OK;
	counter_table_clear(out);
	return malformed();
}

/* ---- the file ---- */

static enum tao_err write_table(const char *path, const struct tao_sealer *sealer,
                                const struct counter_table *t, int flags)
{
	struct tao_buf plain = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	enum tao_err e = counter_table_encode(t, &plain);

	if (e == TAO_OK)
		e = tao_seal_in(sealer, EPOCH, TAO_SEAL_COUNTERS, NULL, 0, plain.p, plain.n, &blob);
	if (e == TAO_OK)
		e = tao_file_write(path, blob.p, blob.n, FILE_MODE, flags);
	tao_buf_free(&plain);
	tao_buf_free(&blob);
	return e;
}

static enum tao_err read_table(const char *path, const struct tao_sealer *sealer,
                               struct counter_table *t)
{
	struct tao_buf plain = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	enum tao_err e = tao_file_read(path, FILE_MAX, &blob);

	if (e == TAO_OK)
		e = tao_unseal_any(sealer, TAO_SEAL_COUNTERS, NULL, 0, blob.p, blob.n, &plain);
	if (e == TAO_OK)
		e = counter_table_decode(plain.p, plain.n, t);
	tao_buf_free(&plain);
	tao_buf_free(&blob);
	return e;
}

enum tao_err counters_create(const char *path, const struct tao_keyset *keys)
{
	struct counter_table none = { NULL, 0 };
	struct tao_sealer sealer;
	enum tao_err e = tao_sealer_init(&sealer, keys);

	if (e == TAO_OK)
		e = write_table(path, &sealer, &none, TAO_FILE_NEW);
	tao_sealer_clear(&sealer);
	return e;
}

static char *why_broken(enum tao_err e, const char *path)
{
	struct tao_buf b = TAO_BUF_INIT;
	const char *what = e == TAO_ENOTFOUND ? "is missing" :
	                   e == TAO_EOTHERHOST ? "is another host's" :
	                   e == TAO_EVERSION ? "is a newer version's" : "cannot be read";

	tao_buf_fmt(&b, "the host's table of counters, %s, %s: put it back if it can be found; if "
	            "not, or if this host never had one, its owner makes an empty one with 'tao "
	            "host counters --new'. What is sealed with the former counters is then lost "
	            "for good", path, what);
	return tao_buf_steal(&b);
}

struct counters *counters_open(const char *path, const struct tao_sealer *sealer,
                               struct domain *domain, uint32_t max_labels)
{
	struct counters *cs = calloc(1, sizeof *cs);
	enum tao_err e;

	if (cs == NULL)
		return NULL;
	pthread_mutex_init(&cs->changing, NULL);
	pthread_mutex_init(&cs->lock, NULL);
	cs->sealer = sealer;
	cs->domain = domain;
	cs->max_labels = max_labels;
	cs->path = strdup(path);
	if (cs->path != NULL) {
		e = read_table(path, sealer, &cs->table);
		if (e != TAO_OK)
			cs->broken = why_broken(e, path);
		if (e == TAO_OK || cs->broken != NULL)
			return cs;
	}
	counters_free(cs);
	return NULL;
}

void counters_free(struct counters *cs)
{
	if (cs == NULL)
		return;
	counter_table_clear(&cs->table);
	pthread_mutex_destroy(&cs->changing);
	pthread_mutex_destroy(&cs->lock);
	free(cs->path);
	free(cs->broken);
	free(cs);
}


/* ---- finding ---- */

/* Both are called with the lock held, or by the one that changes. */
static enum tao_err check_table(const struct counters *cs)
{
	return cs->broken == NULL ? TAO_OK : tao_fail(TAO_EALTERED, "%s", cs->broken);
}

static struct counter *find_own(struct counters *cs, const struct counter_owner *o,
                                const char *label)
{
	size_t low = 0, high = cs->table.n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = compare(&cs->table.c[mid], o, label);

		if (c == 0)
			return &cs->table.c[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static int follows(struct counters *cs, const struct counter_owner *o,
                   const struct counter_owner *old)
{
	return cs->domain != NULL && o->kind == COUNTER_PROGRAM && old->kind == COUNTER_PROGRAM &&
	       o->uid == old->uid && domain_successor(cs->domain, o->hash, old->hash) == TAO_OK;
}

/* Its own, else the one of a program that it succeeds: of several the highest. */
static struct counter *find(struct counters *cs, const struct counter_owner *o, const char *label)
{
	struct counter *best = find_own(cs, o, label);

	if (best != NULL)
		return best;
	for (size_t i = 0; i < cs->table.n; i++) {
		struct counter *c = &cs->table.c[i];

		if (strcmp(c->label, label) == 0 && follows(cs, o, &c->owner) &&
		    (best == NULL || c->value > best->value))
			best = c;
	}
	return best;
}

static struct counter *find_id(struct counters *cs, const uint8_t *id)
{
	for (size_t i = 0; i < cs->table.n; i++)
		if (memcmp(cs->table.c[i].id, id, COUNTER_ID_LEN) == 0)
			return &cs->table.c[i];
	return NULL;
}

static enum tao_err no_counter(const char *label)
{
	return tao_fail(TAO_ENOTFOUND, "this program has no counter \"%.200s\": make it first "
	                "(InitCounter, 'tao counter init')", label);
}

/* ---- changing ---- */

static int sort_compare(const void *a, const void *b)
{
	const struct counter *x = b;

	return compare(a, &x->owner, x->label);
}

/* next, which shares its labels with the table, is put in its place once it is on the disk.
 * dropped: a label that next no longer has; added: one that it has first. */
static enum tao_err replace(struct counters *cs, struct counter_table *next, char *dropped,
                            char *added)
{
	enum tao_err e;

	qsort(next->c, next->n, sizeof *next->c, sort_compare);
	e = write_table(cs->path, cs->sealer, next, 0);
	if (e == TAO_OK) {
		pthread_mutex_lock(&cs->lock);
		free(cs->table.c);
		cs->table = *next;
		pthread_mutex_unlock(&cs->lock);
		free(dropped);
	} else {
		free(next->c);
		free(added);
	}
	return e;
}

/* A copy with room for one more. */
static enum tao_err copy(const struct counters *cs, struct counter_table *next)
{
	next->n = cs->table.n;
	next->c = calloc(next->n + 1, sizeof *next->c);
	if (next->c == NULL)
		return tao_fail_nomem();
	if (next->n > 0)
		memcpy(next->c, cs->table.c, next->n * sizeof *next->c);
	return TAO_OK;
}

/* c as it is to be; it is in the table already. */
static enum tao_err change(struct counters *cs, const struct counter *at, const struct counter *c)
{
	struct counter_table next;
	enum tao_err e = copy(cs, &next);

	if (e != TAO_OK)
		return e;
	next.c[at - cs->table.c] = *c;
	return replace(cs, &next, NULL, NULL);
}

static enum tao_err check_room(const struct counters *cs, const struct counter_owner *o)
{
	size_t own = 0, user = 0;

	for (size_t i = 0; i < cs->table.n; i++) {
		own += owner_compare(&cs->table.c[i].owner, o) == 0;
		user += cs->table.c[i].owner.uid == o->uid;
	}
	if (own >= cs->max_labels)
		return tao_fail(TAO_ELIMIT, "this program has %u counters already: use fewer "
		                "labels, or raise max_labels in taod.conf", (unsigned)own);
	if (user >= COUNTERS_MAX_USER || cs->table.n >= COUNTERS_MAX)
		return tao_fail(TAO_ELIMIT, "%s: the host's owner can remove those that are no "
		                "longer needed ('tao host counters')",
		                user >= COUNTERS_MAX_USER ? "this user's programs have too many counters"
		                                          : "the host has too many counters");
	return TAO_OK;
}

static enum tao_err add(struct counters *cs, const struct counter_owner *o, const char *label,
                        int64_t number)
{
	struct counter_table next;
	struct counter c = { .owner = *o, .value = number, .issued = number };
	enum tao_err e = check_room(cs, o);

	if (e == TAO_OK && RAND_bytes(c.id, sizeof c.id) != 1)
		e = tao_fail_crypto("drawing a counter's id");
	if (e != TAO_OK)
		return e;
	c.label = strdup(label);
	e = c.label != NULL ? copy(cs, &next) : tao_fail_nomem();
	if (e != TAO_OK) {
		free(c.label);
		return e;
	}
	next.c[next.n++] = c;
	return replace(cs, &next, NULL, c.label);
}

enum tao_err counter_init(struct counters *cs, const struct counter_owner *o, const char *label,
                          int64_t number)
{
	enum tao_err e = counter_check_label(label);
	struct counter *at, c;

	if (e == TAO_OK && number < 0)
		e = tao_fail(TAO_EINVAL, "a counter is a number from 0 up");
	if (e != TAO_OK)
		return e;
	pthread_mutex_lock(&cs->changing);
	e = check_table(cs);
	at = e == TAO_OK ? find(cs, o, label) : NULL;
	if (e == TAO_OK && at == NULL) {
		e = add(cs, o, label, number);
	} else if (e == TAO_OK && number > at->value) {
		c = *at;
		c.owner = *o;
		c.value = number;
		c.issued = number > c.issued ? number : c.issued;
		e = change(cs, at, &c);
	}
	pthread_mutex_unlock(&cs->changing);
	return e;
}

enum tao_err counter_next(struct counters *cs, const struct counter_owner *o, const char *label,
                          int commit, struct counter_stamp *out)
{
	enum tao_err e = counter_check_label(label);
	struct counter *at, c;

	if (e != TAO_OK)
		return e;
	pthread_mutex_lock(&cs->changing);
	e = check_table(cs);
	at = e == TAO_OK ? find(cs, o, label) : NULL;
	if (e == TAO_OK && at == NULL)
		e = no_counter(label);
	if (e == TAO_OK && at->issued == COUNTER_TOP)
		e = tao_fail(TAO_ELIMIT, "the counter \"%.200s\" is at its end: use another label",
		             label);
	if (e == TAO_OK) {
		c = *at;
		c.owner = *o;
		c.issued++;
		c.value = commit ? c.issued : c.value;
		memcpy(out->id, c.id, sizeof out->id);
		out->number = c.issued;
		e = change(cs, at, &c);
	}
	pthread_mutex_unlock(&cs->changing);
	return e;
}

enum tao_err counters_renew(struct counters *cs)
{
	struct counter_table none = { NULL, 0 };
	enum tao_err e = TAO_OK;

	pthread_mutex_lock(&cs->changing);
	if (cs->broken == NULL)
		e = tao_fail(TAO_EEXIST, "the host has its counters: to remove single ones, use "
		             "'tao host counters --remove ID'");
	if (e == TAO_OK)
		e = write_table(cs->path, cs->sealer, &none, 0);
	if (e == TAO_OK) {
		pthread_mutex_lock(&cs->lock);
		free(cs->broken);
		cs->broken = NULL;
		pthread_mutex_unlock(&cs->lock);
	}
	pthread_mutex_unlock(&cs->changing);
	return e;
}

enum tao_err counters_remove(struct counters *cs, const void *id, size_t n)
{
	struct counter_table next;
	struct counter *at = NULL;
	enum tao_err e;

	pthread_mutex_lock(&cs->changing);
	e = check_table(cs);
	if (e == TAO_OK)
		at = n == COUNTER_ID_LEN ? find_id(cs, id) : NULL;
	if (e == TAO_OK && at == NULL)
		e = tao_fail(TAO_ENOTFOUND, "there is no counter of that id: 'tao host counters' "
		             "lists them");
	if (e == TAO_OK)
		e = copy(cs, &next);
	if (e == TAO_OK) {
		char *label = at->label;

		next.c[at - cs->table.c] = next.c[--next.n];
		e = replace(cs, &next, label, NULL);
	}
	pthread_mutex_unlock(&cs->changing);
	return e;
}

/* ---- looking ---- */

enum tao_err counters_state(struct counters *cs)
{
	enum tao_err e;

	pthread_mutex_lock(&cs->lock);
	e = check_table(cs);
	pthread_mutex_unlock(&cs->lock);
	return e;
}

enum tao_err counters_each(struct counters *cs,
                           enum tao_err (*fn)(const struct counter *c, void *arg), void *arg)
{
	enum tao_err e;

	pthread_mutex_lock(&cs->lock);
	e = check_table(cs);
	for (size_t i = 0; e == TAO_OK && i < cs->table.n; i++)
		e = fn(&cs->table.c[i], arg);
	pthread_mutex_unlock(&cs->lock);
	return e;
}

enum tao_err counter_get(struct counters *cs, const struct counter_owner *o, const char *label,
                         int64_t *value)
{
	enum tao_err e = counter_check_label(label);
	const struct counter *c = NULL;

	if (e != TAO_OK)
		return e;
	pthread_mutex_lock(&cs->lock);
	e = check_table(cs);
	if (e == TAO_OK)
		c = find(cs, o, label);
	if (c != NULL)
		*value = c->value;
	else if (e == TAO_OK)
		e = no_counter(label);
	pthread_mutex_unlock(&cs->lock);
	return e;
}

enum tao_err counter_check(struct counters *cs, const struct counter_owner *o,
                           const struct counter_stamp *s)
{
	const struct counter *c = NULL;
	enum tao_err e;

	pthread_mutex_lock(&cs->lock);
	e = check_table(cs);
	if (e == TAO_OK)
		c = find_id(cs, s->id);
	if (e == TAO_OK && c == NULL)
		e = tao_fail(TAO_ENOTFOUND, "the counter that the data is sealed with is gone");
	else if (e == TAO_OK && owner_compare(&c->owner, o) != 0 && !follows(cs, o, &c->owner))
		e = tao_fail(TAO_EWRONGPROG, "the data is sealed with a counter of another program "
		             "or user");
	else if (e == TAO_OK && s->number < c->value)
		e = tao_fail(TAO_EDENIED, "the data is not the newest under \"%.200s\": it has "
		             "number %lld, and the counter is at %lld", c->label,
		             (long long)s->number, (long long)c->value);
	else if (e == TAO_OK && s->number > c->value)
		e = tao_fail(TAO_EDENIED, "the data is prepared for number %lld of \"%.200s\", and "
		             "the counter is at %lld: raise it first (InitCounter, 'tao counter "
		             "init')", (long long)s->number, c->label, (long long)c->value);
	pthread_mutex_unlock(&cs->lock);
	return e;
}
