#include "ancestor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "../tao/file.h"

#define FORMAT 1
#define AAD "tao channel epoch"
#define FILE_MAX 4096
#define FILE_LEN (1 + 4 + 4 + 2 * TLSKEYS_LEN)
#define FILE_PREFIX "epoch-"
#define SLOTS 3       /* the epoch before, the current one, the next one */
#define BUCKETS 4096  /* of members */

/* The keys of one epoch. */
struct slot {
	int used, on_disk;
	uint32_t epoch;
	struct tao_shield *root, *naming;
	struct member *by_id[BUCKETS];
};

/* A program that entered. */
struct member {
	struct principal *p;
	unsigned times;
	uint8_t id[SLOTS][TLSKEYS_ID];
	int has_id[SLOTS];
	struct member *next_by_id[SLOTS];
	struct member *next; /* by hash of its name */
};

struct local {
	pthread_mutex_t lock;
	pthread_mutex_t preparing;
	char *dir;
	uint32_t seconds, overlap, early;
	uint8_t name[TAO_HASH_LEN];
	const struct tao_sealer *sealer;
	void (*say)(const char *level, const char *why);
	struct slot slots[SLOTS];
	struct member *members[BUCKETS];
};

/* ---- principals ---- */

/* The number in the last of the measurements, which only hosts write. */
static uid_t user_of(const struct tao_node *name)
{
	for (size_t i = tao_prin_ext_count(name); i > 0; i--) {
		const struct tao_node *x = tao_prin_ext(name, i - 1);

		if (strcmp(x->text, "Measured") != 0 && strcmp(x->text, "Process") != 0 &&
		    strcmp(x->text, "Program") != 0)
			continue;
		for (size_t k = 0; k < x->n_kid; k++)
			if (x->kid[k]->tag == TAO_INT)
				return (uid_t)x->kid[k]->num;
		break;
	}
	return SHARE_NOBODY;
}

enum tao_err principal_new(const struct tao_node *name, struct principal **out)
{
	struct principal *p = calloc(1, sizeof *p);
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e;

	*out = NULL;
	if (p == NULL)
		return tao_fail_nomem();
	atomic_store(&p->refs, 1);
	tao_node_encode(name, &b);
	e = tao_buf_err(&b);
	if (e == TAO_OK)
		e = tao_sha256(b.p, b.n, p->hash);
	p->uid = user_of(name);
	p->node = tao_node_dup(name);
	p->bytes = malloc(b.n > 0 ? b.n : 1);
	if (e == TAO_OK && (p->node == NULL || p->bytes == NULL))
		e = tao_fail_nomem();
	if (e == TAO_OK) {
		memcpy(p->bytes, b.p, b.n);
		p->n = b.n;
		*out = p;
	} else {
		principal_unref(p);
	}
	tao_buf_free(&b);
	return e;
}

struct principal *principal_ref(struct principal *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void principal_unref(struct principal *p)
{
	if (p == NULL || atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	tao_node_free(p->node);
	free(p->bytes);
	free(p);
}

/* ---- which epochs ---- */

static uint32_t epoch_at(const struct local *l, int64_t now)
{
	return (uint32_t)(now / l->seconds);
}

static uint32_t local_epoch(void *data, int64_t now)
{
	return epoch_at(data, now);
}

static int accepted(const struct local *l, int64_t now, uint32_t epoch)
{
	uint32_t current = epoch_at(l, now);
	int64_t into = now % l->seconds;

	if (epoch == current)
		return 1;
	if (epoch + 1 == current)
		return into < l->overlap;
	return epoch == current + 1 && into >= (int64_t)l->seconds - l->early;
}

static enum tao_err local_accepts(void *data, int64_t now, uint32_t epoch)
{
	if (accepted(data, now, epoch))
		return TAO_OK;
	return tao_fail(TAO_EEXPIRED, "epoch %" PRIu32 " is over, or not yet there: the present "
	                "one is %" PRIu32, epoch, epoch_at(data, now));
}

/* Lock held. */
static struct slot *slot_of(struct local *l, uint32_t epoch)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (l->slots[i].used && l->slots[i].epoch == epoch)
			return &l->slots[i];
	return NULL;
}

static enum tao_err no_slot(uint32_t epoch)
{
	return tao_fail(TAO_EBUSY, "the keys of epoch %" PRIu32 " are not there: try again", epoch);
}

static int local_ready(void *data, uint32_t epoch)
{
	struct local *l = data;
	int ready;

	pthread_mutex_lock(&l->lock);
	ready = slot_of(l, epoch) != NULL;
	pthread_mutex_unlock(&l->lock);
	return ready;
}

/* ---- ids ---- */

static size_t bucket_of(const uint8_t *id)
{
	return ((size_t)id[0] << 8 | id[1]) % BUCKETS;
}

/* Lock held. */
static enum tao_err give_id(struct slot *s, size_t at, struct member *m,
                            const struct tao_buf *naming)
{
	struct member **b;
	enum tao_err e = tlskeys_id(naming->p, m->p->bytes, m->p->n, m->id[at]);

	if (e != TAO_OK)
		return e;
	b = &s->by_id[bucket_of(m->id[at])];
	m->next_by_id[at] = *b;
	*b = m;
	m->has_id[at] = 1;
	return TAO_OK;
}

/* Lock held. */
static void take_id(struct slot *s, size_t at, struct member *m)
{
	struct member **b = &s->by_id[bucket_of(m->id[at])];

	if (!m->has_id[at])
		return;
	while (*b != m)
		b = &(*b)->next_by_id[at];
	*b = m->next_by_id[at];
	m->has_id[at] = 0;
}

/* Lock held. */
static struct member **find_member(struct local *l, const struct principal *p)
{
	struct member **m = &l->members[bucket_of(p->hash)];

	while (*m != NULL && memcmp((*m)->p->hash, p->hash, TAO_HASH_LEN) != 0)
		m = &(*m)->next;
	return m;
}

/* Lock held. */
static void remove_member(struct local *l, struct member **at)
{
	struct member *m = *at;

	for (size_t i = 0; i < SLOTS; i++)
		take_id(&l->slots[i], i, m);
	*at = m->next;
	principal_unref(m->p);
	free(m);
}

/* Lock held. */
static enum tao_err give_ids(struct local *l, struct member *m)
{
	enum tao_err e = TAO_OK;

	for (size_t i = 0; e == TAO_OK && i < SLOTS; i++) {
		struct tao_buf naming = TAO_BUF_INIT;

		if (!l->slots[i].used)
			continue;
		e = tao_shield_open(l->slots[i].naming, &naming);
		if (e == TAO_OK)
			e = give_id(&l->slots[i], i, m, &naming);
		tao_buf_free(&naming);
	}
	return e;
}

static enum tao_err local_enter(void *data, struct principal *p)
{
	struct local *l = data;
	struct member **at, *m;
	enum tao_err e = TAO_OK;

	pthread_mutex_lock(&l->lock);
	at = find_member(l, p);
	if (*at == NULL && (m = calloc(1, sizeof *m)) != NULL) {
		m->p = principal_ref(p);
		*at = m;
		e = give_ids(l, m);
	}
	if (*at == NULL)
		e = tao_fail_nomem();
	else if (e != TAO_OK)
		remove_member(l, at);
	else
		(*at)->times++;
	pthread_mutex_unlock(&l->lock);
	return e;
}

static void local_leave(void *data, struct principal *p)
{
	struct local *l = data;
	struct member **at;

	pthread_mutex_lock(&l->lock);
	at = find_member(l, p);
	if (*at != NULL && --(*at)->times == 0)
		remove_member(l, at);
	pthread_mutex_unlock(&l->lock);
}

static enum tao_err local_id(void *data, uint32_t epoch, const struct principal *p,
                             uint8_t id[TLSKEYS_ID])
{
	struct local *l = data;
	struct member *m;
	struct slot *s;
	enum tao_err e = TAO_OK;

	pthread_mutex_lock(&l->lock);
	s = slot_of(l, epoch);
	m = *find_member(l, p);
	if (s == NULL)
		e = no_slot(epoch);
	else if (m == NULL)
		e = tao_fail(TAO_ENOTFOUND, "the program is not known to its ancestor");
	else
		memcpy(id, m->id[s - l->slots], TLSKEYS_ID);
	pthread_mutex_unlock(&l->lock);
	return e;
}

static enum tao_err local_resolve(void *data, uint32_t epoch, const uint8_t id[TLSKEYS_ID],
                                  struct principal **out)
{
	struct local *l = data;
	struct member *m = NULL;
	struct slot *s;
	enum tao_err e = TAO_OK;

	*out = NULL;
	pthread_mutex_lock(&l->lock);
	s = slot_of(l, epoch);
	if (s != NULL)
		m = s->by_id[bucket_of(id)];
	while (m != NULL && memcmp(m->id[s - l->slots], id, TLSKEYS_ID) != 0)
		m = m->next_by_id[s - l->slots];
	if (s == NULL)
		e = no_slot(epoch);
	else if (m == NULL)
		e = TAO_ENOTFOUND;
	else
		*out = principal_ref(m->p);
	pthread_mutex_unlock(&l->lock);
	return e == TAO_ENOTFOUND ? tao_fail(e, "no program that runs here has this id") : e;
}

/* ---- keys ---- */

static enum tao_err open_root(struct local *l, uint32_t epoch, struct tao_buf *root)
{
	struct slot *s;
	enum tao_err e;

	pthread_mutex_lock(&l->lock);
	s = slot_of(l, epoch);
	e = s != NULL ? tao_shield_open(s->root, root) : no_slot(epoch);
	pthread_mutex_unlock(&l->lock);
	return e;
}

static enum tao_err local_pair_key(void *data, uint32_t epoch, const struct principal *c,
                                   const struct principal *s, uint8_t key[TLSKEYS_LEN])
{
	struct local *l = data;
	struct tao_buf root = TAO_BUF_INIT;
	enum tao_err e = open_root(l, epoch, &root);

	if (e == TAO_OK)
		e = tlskeys_pair(root.p, epoch, l->name, c->hash, s->hash, key);
	tao_buf_free(&root);
	return e;
}

static enum tao_err local_group_key(void *data, uint32_t epoch, uint8_t (*member)[TAO_HASH_LEN],
                                    size_t n, uint8_t key[TLSKEYS_LEN])
{
	struct local *l = data;
	struct tao_buf root = TAO_BUF_INIT;
	enum tao_err e = open_root(l, epoch, &root);

	if (e == TAO_OK)
		e = tlskeys_group(root.p, epoch, l->name, member, n, key);
	tao_buf_free(&root);
	return e;
}

/* ---- files ---- */

static char *path_of(const struct local *l, uint32_t epoch)
{
	char *path;

	return asprintf(&path, "%s/" FILE_PREFIX "%" PRIu32, l->dir, epoch) < 0 ? NULL : path;
}

static void say(const struct local *l, const char *level)
{
	if (l->say != NULL)
		l->say(level, tao_why());
}

/* Its bytes first: a journal or a copy-on-write file system may keep them all the same. */
static void erase_file(const struct local *l, const char *path)
{
	static const uint8_t zeros[FILE_MAX];
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd >= 0) {
		if (fstat(fd, &st) != 0 ||
		    pwrite(fd, zeros, st.st_size < FILE_MAX ? (size_t)st.st_size : FILE_MAX,
		           0) < 0 ||
		    fsync(fd) != 0) {
			tao_fail_sys("overwriting %s", path);
			say(l, "warning");
		}
		close(fd);
	}
	if (tao_file_remove(path) != TAO_OK)
		say(l, "warning");
}

static void put_plain(const struct local *l, uint32_t epoch, const struct tao_buf *root,
                      const struct tao_buf *naming, struct tao_buf *plain)
{
	tao_buf_u8(plain, FORMAT);
	tao_buf_u32(plain, epoch);
	tao_buf_u32(plain, l->seconds);
	tao_buf_put(plain, root->p, root->n);
	tao_buf_put(plain, naming->p, naming->n);
}

/* Not under the lock: the slot is changed by who prepares alone. */
static enum tao_err write_slot(const struct local *l, struct slot *s)
{
	struct tao_buf root = TAO_BUF_INIT, naming = TAO_BUF_INIT, plain = TAO_BUF_INIT;
	struct tao_buf blob = TAO_BUF_INIT;
	char *path = path_of(l, s->epoch);
	enum tao_err e = path != NULL ? tao_shield_open(s->root, &root) : tao_fail_nomem();

	if (e == TAO_OK)
		e = tao_shield_open(s->naming, &naming);
	if (e == TAO_OK) {
		put_plain(l, s->epoch, &root, &naming, &plain);
		e = tao_buf_err(&plain);
	}
	if (e == TAO_OK)
		e = tao_seal(l->sealer, TAO_SEAL_EPOCH, AAD, strlen(AAD), plain.p, plain.n, &blob);
	if (e == TAO_OK)
		e = tao_file_write(path, blob.p, blob.n, 0600, 0);
	s->on_disk = e == TAO_OK;
	tao_buf_free(&root);
	tao_buf_free(&naming);
	tao_buf_free(&plain);
	tao_buf_free(&blob);
	free(path);
	return e;
}

static enum tao_err parse_plain(const struct local *l, uint32_t epoch, const struct tao_buf *plain,
                                const uint8_t **root, const uint8_t **naming)
{
	struct tao_rd r = tao_rd_of(plain->p, plain->n);
	unsigned format = tao_rd_u8(&r);
	uint32_t number, seconds;

	if (format > FORMAT)
		return tao_fail(TAO_EVERSION, "%s/" FILE_PREFIX "%" PRIu32 " was written by a "
		                "newer version: upgrade taod", l->dir, epoch);
	number = tao_rd_u32(&r);
	seconds = tao_rd_u32(&r);
	*root = tao_rd_bytes(&r, TLSKEYS_LEN);
	*naming = tao_rd_bytes(&r, TLSKEYS_LEN);
	if (!tao_rd_done(&r) || format != FORMAT || number != epoch || seconds != l->seconds)
		return tao_fail(TAO_EFORMAT, "%s/" FILE_PREFIX "%" PRIu32 " holds no keys of this "
		                "epoch", l->dir, epoch);
	return TAO_OK;
}

/* TAO_ENOTFOUND: none, or none that is any good. */
static enum tao_err read_keys(const struct local *l, uint32_t epoch, struct tao_buf *plain)
{
	struct tao_buf blob = TAO_BUF_INIT;
	const uint8_t *root, *naming;
	char *path = path_of(l, epoch);
	enum tao_err e = path != NULL ? tao_file_read(path, FILE_MAX, &blob) : tao_fail_nomem();

	if (e == TAO_OK) {
		e = tao_unseal_any(l->sealer, TAO_SEAL_EPOCH, AAD, strlen(AAD), blob.p, blob.n,
		                   plain);
		if (e == TAO_OK)
			e = parse_plain(l, epoch, plain, &root, &naming);
		if (e != TAO_OK && e != TAO_EVERSION && e != TAO_ENOMEM) {
			say(l, "warning");
			erase_file(l, path);
			e = TAO_ENOTFOUND;
		}
	} else if (e != TAO_ENOTFOUND && e != TAO_ENOMEM) {
		say(l, "warning");
		e = TAO_ENOTFOUND;
	}
	free(path);
	tao_buf_free(&blob);
	return e;
}

/* ---- making and erasing ---- */

static void clear_slot(struct slot *s)
{
	tao_shield_free(s->root);
	tao_shield_free(s->naming);
	s->root = s->naming = NULL;
	s->used = s->on_disk = 0;
}

static enum tao_err shield_keys(const uint8_t *root, const uint8_t *naming, struct slot *s)
{
	enum tao_err e = tao_shield_new(root, TLSKEYS_LEN, &s->root);

	if (e == TAO_OK)
		e = tao_shield_new(naming, TLSKEYS_LEN, &s->naming);
	if (e != TAO_OK)
		clear_slot(s);
	return e;
}

static enum tao_err draw_keys(struct slot *s)
{
	uint8_t keys[2 * TLSKEYS_LEN];
	enum tao_err e = RAND_priv_bytes(keys, sizeof keys) == 1
	                 ? shield_keys(keys, keys + TLSKEYS_LEN, s)
	                 : tao_fail_crypto("drawing the keys of an epoch");

	OPENSSL_cleanse(keys, sizeof keys);
	return e;
}

/* From its file, or fresh. */
static enum tao_err make_keys(const struct local *l, uint32_t epoch, struct slot *s)
{
	struct tao_buf plain = TAO_BUF_INIT;
	const uint8_t *root, *naming;
	enum tao_err e = read_keys(l, epoch, &plain);

	if (e == TAO_OK) {
		e = parse_plain(l, epoch, &plain, &root, &naming);
		if (e == TAO_OK)
			e = shield_keys(root, naming, s);
		s->on_disk = e == TAO_OK;
	} else if (e == TAO_ENOTFOUND) {
		e = draw_keys(s);
	}
	tao_buf_free(&plain);
	s->epoch = epoch;
	return e;
}

/* Lock held. The ids of all who are here, in a new epoch. */
static enum tao_err name_all(struct local *l, size_t at)
{
	struct tao_buf naming = TAO_BUF_INIT;
	enum tao_err e = tao_shield_open(l->slots[at].naming, &naming);

	for (size_t b = 0; e == TAO_OK && b < BUCKETS; b++)
		for (struct member *m = l->members[b]; e == TAO_OK && m != NULL; m = m->next)
			e = give_id(&l->slots[at], at, m, &naming);
	tao_buf_free(&naming);
	return e;
}

/* Lock held. */
static void forget_slot(struct local *l, size_t at)
{
	memset(l->slots[at].by_id, 0, sizeof l->slots[at].by_id);
	for (size_t b = 0; b < BUCKETS; b++)
		for (struct member *m = l->members[b]; m != NULL; m = m->next)
			m->has_id[at] = 0;
	clear_slot(&l->slots[at]);
}

static int is_over(const struct local *l, int64_t now, uint32_t epoch)
{
	uint32_t current = epoch_at(l, now);

	return epoch != current && epoch != current + 1 && !accepted(l, now, epoch);
}

static void erase_old(struct local *l, int64_t now)
{
	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *s = &l->slots[i];
		char *path = s->used && is_over(l, now, s->epoch) ? path_of(l, s->epoch) : NULL;

		if (path == NULL)
			continue;
		pthread_mutex_lock(&l->lock);
		forget_slot(l, i);
		pthread_mutex_unlock(&l->lock);
		erase_file(l, path);
		free(path);
	}
}

static enum tao_err add_slot(struct local *l, uint32_t epoch)
{
	struct slot fresh = { .used = 1 };
	size_t at = 0;
	enum tao_err e;

	while (at < SLOTS && l->slots[at].used)
		at++;
	if (at == SLOTS)
		return tao_fail(TAO_ELIMIT, "too many epochs at once");
	e = make_keys(l, epoch, &fresh);
	if (e != TAO_OK)
		return e;
	if (!fresh.on_disk && write_slot(l, &fresh) != TAO_OK)
		say(l, "warning");
	pthread_mutex_lock(&l->lock);
	l->slots[at] = fresh;
	e = name_all(l, at);
	if (e != TAO_OK)
		forget_slot(l, at);
	pthread_mutex_unlock(&l->lock);
	return e;
}

/* What is there already is on file too, or tried again. */
static enum tao_err need_slot(struct local *l, uint32_t epoch)
{
	struct slot *s = slot_of(l, epoch);

	if (s == NULL)
		return add_slot(l, epoch);
	if (!s->on_disk && write_slot(l, s) != TAO_OK)
		say(l, "warning");
	return TAO_OK;
}

static enum tao_err local_prepare(void *data, int64_t now)
{
	struct local *l = data;
	uint32_t current = epoch_at(l, now);
	enum tao_err e;

	pthread_mutex_lock(&l->preparing);
	erase_old(l, now);
	e = need_slot(l, current);
	if (e == TAO_OK)
		e = need_slot(l, current + 1);
	pthread_mutex_unlock(&l->preparing);
	return e;
}

/* ---- the start and the end ---- */

/* Takes up the epoch before this one, if it is still accepted; erases all others. */
static enum tao_err take_up(struct local *l, int64_t now)
{
	DIR *dir = opendir(l->dir);
	uint32_t epoch, current = epoch_at(l, now);
	struct dirent *d;
	enum tao_err e = TAO_OK;
	char *path, end;

	if (dir == NULL)
		return tao_fail_sys("%s", l->dir);
	while (e == TAO_OK && (d = readdir(dir)) != NULL) {
		if (sscanf(d->d_name, FILE_PREFIX "%" SCNu32 "%c", &epoch, &end) != 1 ||
		    epoch == current || epoch == current + 1)
			continue;
		path = path_of(l, epoch);
		if (path == NULL)
			e = tao_fail_nomem();
		else if (is_over(l, now, epoch))
			erase_file(l, path);
		else
			e = add_slot(l, epoch);
		free(path);
	}
	closedir(dir);
	return e;
}

static void local_free(void *data)
{
	struct local *l = data;

	if (l == NULL)
		return;
	for (size_t b = 0; b < BUCKETS; b++)
		while (l->members[b] != NULL)
			remove_member(l, &l->members[b]);
	for (size_t i = 0; i < SLOTS; i++)
		clear_slot(&l->slots[i]);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->preparing);
	free(l->dir);
	free(l);
}

static const struct ancestor_fns local_fns = {
	.name = "local",
	.epoch = local_epoch,
	.accepts = local_accepts,
	.ready = local_ready,
	.prepare = local_prepare,
	.enter = local_enter,
	.leave = local_leave,
	.id = local_id,
	.resolve = local_resolve,
	.pair_key = local_pair_key,
	.group_key = local_group_key,
	.free = local_free,
};

static enum tao_err set_up(struct local *l, const struct ancestor_conf *c)
{
	struct principal *p = NULL;
	enum tao_err e = principal_new(c->name, &p);

	if (e == TAO_OK)
		memcpy(l->name, p->hash, sizeof l->name);
	principal_unref(p);
	l->seconds = c->seconds;
	l->overlap = c->overlap;
	l->early = c->seconds / 2 < ANCESTOR_EARLY ? c->seconds / 2 : ANCESTOR_EARLY;
	l->sealer = c->sealer;
	l->say = c->say;
	l->dir = strdup(c->dir);
	if (e == TAO_OK && l->dir == NULL)
		e = tao_fail_nomem();
	return e;
}

enum tao_err ancestor_local_new(const struct ancestor_conf *c, int64_t now,
                                struct tao_ancestor *out)
{
	struct local *l = calloc(1, sizeof *l);
	enum tao_err e = l != NULL ? TAO_OK : tao_fail_nomem();

	memset(out, 0, sizeof *out);
	if (e != TAO_OK)
		return e;
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->preparing, NULL);
	e = set_up(l, c);
	if (e == TAO_OK)
		e = tao_dir_make(l->dir, 0700);
	if (e == TAO_OK)
		e = take_up(l, now);
	if (e == TAO_OK)
		e = local_prepare(l, now);
	if (e != TAO_OK) {
		local_free(l);
		return e;
	}
	out->fn = &local_fns;
	out->data = l;
	return TAO_OK;
}

void ancestor_clear(struct tao_ancestor *a)
{
	if (a->fn != NULL)
		a->fn->free(a->data);
	memset(a, 0, sizeof *a);
}
