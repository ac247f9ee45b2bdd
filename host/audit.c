#include "audit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auditfile.h"
#include "config.h"
#include "host.h"

#define BATCH 128          /* records written at once */
#define RETRY_SECONDS 1
#define SUM_SECONDS 60
#define BUCKETS 64         /* of users; those that share one share its rate */
#define MILLI 1000

struct bucket {
	int64_t at_ms;
	int64_t tokens; /* thousandths */
};

struct sum {
	const char *event;
	uint64_t instance, n;
	uid_t uid;
	enum tao_err result;
};

struct audit {
	struct host *h;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct audit_entry queue[AUDIT_QUEUE];
	size_t first, n, bytes;
	struct bucket buckets[BUCKETS];
	struct sum sums[AUDIT_SUMS];
	size_t n_sums;
	uint64_t lost, lost_ever;
	struct audit_state state;
	atomic_int refuse;      /* state.failing, or the queue is half full */
	int stopping, started;
	/* the thread's own */
	struct audit_file *file;
	struct audit_entry batch[BATCH];
	size_t n_batch;
};

/* ---- words ---- */

const char *audit_word(enum tao_err e)
{
	static const char *const words[] = {
		[TAO_OK] = "ok", [TAO_ENOMEM] = "no_memory", [TAO_EINVAL] = "invalid",
		[TAO_EFORMAT] = "malformed", [TAO_ELIMIT] = "limit", [TAO_ECRYPTO] = "crypto",
		[TAO_ESYS] = "system", [TAO_ENOTFOUND] = "not_found", [TAO_EEXIST] = "exists",
		[TAO_EDENIED] = "denied", [TAO_EPASS] = "passphrase", [TAO_ENOHOST] = "no_host",
		[TAO_EPERM] = "not_permitted", [TAO_ETIMEOUT] = "timeout", [TAO_EPROTO] = "protocol",
		[TAO_ENOTRUN] = "not_run", [TAO_EOTHERHOST] = "other_host", [TAO_EALTERED] = "altered",
		[TAO_EWRONGPROG] = "wrong_program", [TAO_EEXPIRED] = "expired",
		[TAO_EVERSION] = "version", [TAO_ESIGNATURE] = "signature", [TAO_EBUSY] = "busy",
		[TAO_EUNKNOWNKEY] = "unknown_key", [TAO_EPURPOSE] = "purpose",
	};
	size_t i = (size_t)e;

	return i < sizeof words / sizeof words[0] && words[i] != NULL ? words[i] : "failed";
}

/* Text of any length and content, cut between characters. */
static void put_text(struct tao_json *j, const char *key, const char *text, size_t max)
{
	struct tao_buf cut = TAO_BUF_INIT;
	size_t n = max;

	if (strlen(text) <= max) {
		tao_json_str(j, key, text);
		return;
	}
	while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	tao_buf_put(&cut, text, n);
	tao_buf_str(&cut, "...");
	tao_json_str(j, key, tao_buf_cstr(&cut));
	tao_buf_free(&cut);
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the queue ---- */

/* Takes over the body. Lock held. */
static void push(struct audit *a, struct tao_buf *body)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct audit_entry *v;

	if (body->err != TAO_OK || a->n == AUDIT_QUEUE || a->bytes + body->n > AUDIT_QUEUE_BYTES) {
		a->lost++;
		a->lost_ever++;
		tao_buf_free(body);
		return;
	}
	v = &a->queue[(a->first + a->n) % AUDIT_QUEUE];
	v->ns = now_ns(CLOCK_REALTIME);
	v->body = *body;
	*body = empty;
	a->bytes += v->body.n;
	if (a->n++ == 0)
		pthread_cond_signal(&a->wake);
	if (a->n > AUDIT_QUEUE / 2 || a->bytes > AUDIT_QUEUE_BYTES / 2)
		atomic_store(&a->refuse, 1);
}

static void push_now(struct audit *a, struct tao_buf *body)
{
	pthread_mutex_lock(&a->lock);
	push(a, body);
	pthread_mutex_unlock(&a->lock);
}

/* One more that is only counted, of an instance or (0) of its user. 0 if there is no place. Lock
 * held. */
static int count(struct audit *a, const char *event, uint64_t instance, uid_t uid, enum tao_err e)
{
	size_t places = instance != 0 ? AUDIT_SUMS - AUDIT_SUMS_USERS : AUDIT_SUMS;
	struct sum *s = a->sums, *end = a->sums + a->n_sums;

	while (s < end && (s->event != event || s->instance != instance || s->uid != uid ||
	                   s->result != e))
		s++;
	if (s == end && a->n_sums >= places)
		return 0;
	if (s == end) {
		*s = (struct sum){ event, instance, 0, uid, e };
		a->n_sums++;
	}
	s->n++;
	return 1;
}

/* Lock held. */
static void sum_up(struct audit *a, const char *event, uint64_t instance, uid_t uid, enum tao_err e)
{
	if (count(a, event, instance, uid, e) || count(a, event, 0, uid, e))
		return;
	a->lost++;
	a->lost_ever++;
}

/* One of the records that this user may have. Lock held. */
static int take_token(struct audit *a, uid_t uid)
{
	struct bucket *b = &a->buckets[uid % BUCKETS];
	int64_t now = now_ns(CLOCK_MONOTONIC) / 1000000;

	b->tokens += (now - b->at_ms) * AUDIT_RATE;
	b->at_ms = now;
	if (b->tokens > (int64_t)AUDIT_BURST * MILLI)
		b->tokens = (int64_t)AUDIT_BURST * MILLI;
	if (b->tokens < MILLI)
		return 0;
	b->tokens -= MILLI;
	return 1;
}

/* Whether this user may have one more record of its own. Else it is summed up. */
static int admits(struct audit *a, const char *event, uint64_t instance, uid_t uid, enum tao_err e)
{
	int may;

	pthread_mutex_lock(&a->lock);
	may = take_token(a, uid);
	if (!may)
		sum_up(a, event, instance, uid, e);
	pthread_mutex_unlock(&a->lock);
	return may;
}

/* ---- making records ---- */

static void put_instance(struct tao_json *j, struct instance *i)
{
	char *name = tao_node_text(instance_name(i));

	if (name != NULL)
		put_text(j, "program", name, AUDIT_PRINCIPAL_MAX);
	free(name);
	put_text(j, "path", i->program, AUDIT_TEXT_MAX);
	if (i->label != NULL)
		put_text(j, "label", i->label, AUDIT_TEXT_MAX);
	tao_json_int(j, "instance", (int64_t)i->id);
}

static void put_who(struct tao_json *j, const char *event, struct instance *i, pid_t pid, uid_t uid)
{
	tao_json_str(j, "event", event);
	if (i != NULL)
		put_instance(j, i);
	if (pid > 0)
		tao_json_int(j, "pid", pid);
	tao_json_int(j, "uid", i != NULL ? i->uid : uid);
}

static void put_result(struct tao_json *j, enum tao_err e, const char *why)
{
	tao_json_str(j, "result", audit_word(e));
	if (e != TAO_OK)
		put_text(j, "why", why, AUDIT_TEXT_MAX);
}

/* ---- operations ---- */

/* Members are there once: what the host says by itself, and what was noted first. */
static int is_taken(const struct request *r, const char *key)
{
	static const char *const own[] = { "seq", "time", "prev", "event", "pid", "uid", "result",
	                                   "why",
	                                   "cut" };
	static const char *const of_instance[] = { "program", "path", "label", "instance" };
	char quoted[40];
	int n = snprintf(quoted, sizeof quoted, "\"%s\":", key);

	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (strcmp(key, own[i]) == 0)
			return 1;
	for (size_t i = 0; r->inst != NULL && i < sizeof of_instance / sizeof of_instance[0]; i++)
		if (strcmp(key, of_instance[i]) == 0)
			return 1;
	return (r->use != NULL && strcmp(key, "key") == 0) ||
	       (r->notes.n > 0 && memmem(r->notes.p, r->notes.n, quoted, (size_t)n) != NULL);
}

static int notes_open(struct request *r, const char *key, struct tao_json *j)
{
	r->notes.max = AUDIT_NOTES_MAX;
	tao_json_open(j, &r->notes);
	j->comma = r->notes.n > 0;
	return !is_taken(r, key);
}

void audit_note(struct request *r, const char *key, const char *text)
{
	struct tao_json j;

	if (text != NULL && notes_open(r, key, &j))
		put_text(&j, key, text, AUDIT_TEXT_MAX);
}

void audit_note_int(struct request *r, const char *key, int64_t v)
{
	struct tao_json j;

	if (notes_open(r, key, &j))
		tao_json_int(&j, key, v);
}

void audit_note_instance(struct request *r, struct instance *i)
{
	struct tao_json j;

	if (notes_open(r, "instance", &j))
		put_instance(&j, i);
}

static struct key_use *find_use(struct key_use *u, const struct key_use *end, const uint8_t *id)
{
	for (; u != end; u = u->next)
		if (memcmp(u->id, id, sizeof u->id) == 0)
			return u;
	return NULL;
}

static struct key_use *add_use(struct instance *i, struct key_use *seen, const uint8_t *id,
                               const char *name)
{
	struct key_use *u, *first = seen, *other;

	if (atomic_fetch_add(&i->n_uses, 1) >= AUDIT_USES || (u = calloc(1, sizeof *u)) == NULL) {
		atomic_fetch_sub(&i->n_uses, 1);
		return NULL;
	}
	memcpy(u->id, id, sizeof u->id);
	snprintf(u->name, sizeof u->name, "%s", name);
	do {
		other = find_use(first, seen, id);
		if (other != NULL) {
			free(u);
			atomic_fetch_sub(&i->n_uses, 1);
			return other;
		}
		seen = first;
		u->next = first;
	} while (!atomic_compare_exchange_weak(&i->uses, &first, u));
	return u;
}

void audit_note_key(struct request *r, const uint8_t id[TAO_HASH_LEN], const char *name)
{
	struct key_use *first;

	if (r->inst == NULL) {
		audit_note(r, "key", name);
		return;
	}
	first = atomic_load(&r->inst->uses);
	r->use = find_use(first, NULL, id);
	if (r->use == NULL)
		r->use = add_use(r->inst, first, id, name);
	if (r->use == NULL)
		audit_note(r, "key", name);
}

void audit_uses_free(struct instance *i)
{
	struct key_use *u = atomic_load(&i->uses);

	while (u != NULL) {
		struct key_use *next = u->next;

		free(u);
		u = next;
	}
}

/* Whether the use of a key need not be recorded by itself any more. */
static int only_counts(struct request *r, const struct op *op, enum tao_err e)
{
	unsigned bit = op->audit == AUDIT_ONCE ? 1 : 2;

	if (r->use == NULL || e != TAO_OK)
		return 0;
	if (op->audit == AUDIT_COUNTED)
		atomic_fetch_add_explicit(&r->use->n, 1, memory_order_relaxed);
	if ((atomic_load_explicit(&r->use->seen, memory_order_relaxed) & bit) != 0)
		return 1;
	if ((atomic_fetch_or(&r->use->seen, bit) & bit) != 0)
		return 1;
	if (op->audit == AUDIT_COUNTED)
		atomic_fetch_add(&r->use->told, 1); /* by a record of its own */
	return 0;
}

static int concerns(struct request *r, const struct op *op, enum tao_err e)
{
	switch (op->audit) {
	case AUDIT_NONE:
		return e == TAO_ELIMIT || e == TAO_EBUSY;
	case AUDIT_REFUSED:
		return e != TAO_OK;
	case AUDIT_ONCE:
	case AUDIT_COUNTED:
		return !only_counts(r, op, e);
	default:
		return 1;
	}
}

static void record_op(struct request *r, const struct op *op, enum tao_err e, const char *why)
{
	struct tao_buf body = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &body);
	put_who(&j, op->name, r->inst, r->c->pid, r->c->uid);
	if (r->use != NULL)
		tao_json_str(&j, "key", r->use->name);
	if (r->notes.err != TAO_OK) {
		tao_json_bool(&j, "cut", 1);
	} else if (r->notes.n > 0) {
		tao_buf_u8(&body, ',');
		tao_buf_put(&body, r->notes.p, r->notes.n);
	}
	put_result(&j, e, why);
	push_now(r->h->audit, &body);
}

void audit_op(struct request *r, const struct op *op, enum tao_err e)
{
	struct audit *a = r->h->audit;
	char why[TAO_WHY_MAX] = "";
	uid_t uid = r->inst != NULL ? r->inst->uid : r->c->uid;

	if (a == NULL || !concerns(r, op, e))
		return;
	if (e != TAO_OK)
		snprintf(why, sizeof why, "%s", tao_why());
	if (op->audit == AUDIT_ALWAYS ? e == TAO_OK || admits(a, op->name, 0, uid, e)
	                              : admits(a, op->name, r->inst != NULL ? r->inst->id : 0, uid,
	                                       e))
		record_op(r, op, e, why);
	if (e != TAO_OK)
		tao_fail(e, "%s", why);
}

void audit_note_apart(struct request *r, const char *event, const char *key, const char *text)
{
	struct tao_buf body = TAO_BUF_INIT;
	struct tao_json j;

	if (r->h->audit == NULL)
		return;
	tao_json_open(&j, &body);
	put_who(&j, event, r->inst, r->c->pid, r->c->uid);
	put_text(&j, key, text, AUDIT_TEXT_MAX);
	put_result(&j, TAO_OK, "");
	push_now(r->h->audit, &body);
}

void audit_refused(struct request *r, const char *event, const char *peer, enum tao_err e)
{
	struct audit *a = r->h->audit;
	struct tao_buf body = TAO_BUF_INIT;
	char why[TAO_WHY_MAX];
	struct tao_json j;

	if (a == NULL)
		return;
	if (!limit_rate_take(&r->inst->refusals, AUDIT_REFUSALS, limit_now())) {
		pthread_mutex_lock(&a->lock);
		sum_up(a, event, r->inst->id, r->inst->uid, e);
		pthread_mutex_unlock(&a->lock);
		return;
	}
	if (!admits(a, event, r->inst->id, r->inst->uid, e))
		return;
	snprintf(why, sizeof why, "%s", tao_why());
	tao_json_open(&j, &body);
	put_who(&j, event, r->inst, r->c->pid, r->c->uid);
	if (peer != NULL)
		put_text(&j, "peer", peer, AUDIT_TEXT_MAX);
	put_result(&j, e, why);
	push_now(a, &body);
	tao_fail(e, "%s", why);
}

enum tao_err audit_refuses(struct host *h, const struct op *op)
{
	struct audit *a = h->audit;

	if (a == NULL || !h->conf.audit_require || op->audit == AUDIT_NONE ||
	    op->audit == AUDIT_REFUSED || op->fn == op_shutdown ||
	    !atomic_load_explicit(&a->refuse, memory_order_relaxed))
		return TAO_OK;
	return tao_fail(TAO_ESYS, "the audit log of the host cannot be written, and without it "
	                "nothing is done here (audit = require in taod.conf): 'tao status' says "
	                "why");
}

/* ---- events ---- */

void audit_event(struct host *h, const char *event, struct instance *i, uid_t uid, enum tao_err e,
                 const char *key, const char *text)
{
	struct tao_buf body = TAO_BUF_INIT;
	char why[TAO_WHY_MAX] = "";
	struct tao_json j;

	if (h->audit == NULL)
		return;
	if (e != TAO_OK)
		snprintf(why, sizeof why, "%s", tao_why());
	if (admits(h->audit, event, i != NULL ? i->id : 0, i != NULL ? i->uid : uid, e)) {
		tao_json_open(&j, &body);
		put_who(&j, event, i, i != NULL ? i->pid : 0, uid);
		if (key != NULL)
			put_text(&j, key, text, AUDIT_TEXT_MAX);
		put_result(&j, e, why);
		push_now(h->audit, &body);
	}
	if (e != TAO_OK)
		tao_fail(e, "%s", why);
}

/* Half of the queue is for what happens. */
static int has_room(struct audit *a, uid_t uid)
{
	int has;

	pthread_mutex_lock(&a->lock);
	has = a->n < AUDIT_QUEUE / 2 && a->bytes < AUDIT_QUEUE_BYTES / 2 && take_token(a, uid);
	pthread_mutex_unlock(&a->lock);
	return has;
}

/* What an instance did with its keys since it was told last. For what there is no room now is told
 * a minute later, with what comes then. */
static void tell_uses(struct instance *i, void *arg)
{
	struct audit *a = arg;

	for (struct key_use *u = atomic_load(&i->uses); u != NULL; u = u->next) {
		unsigned long long n = atomic_load(&u->n), told = atomic_load(&u->told);
		struct tao_buf body = TAO_BUF_INIT;
		struct tao_json j;

		if (n <= told || !has_room(a, i->uid))
			continue;
		told = atomic_exchange(&u->told, n);
		if (n <= told) /* told by another thread meanwhile */
			continue;
		tao_json_open(&j, &body);
		put_who(&j, "used", i, i->pid, i->uid);
		tao_json_str(&j, "key", u->name);
		tao_json_int(&j, "n", (int64_t)(n - told));
		tao_json_int(&j, "all", (int64_t)n);
		push_now(a, &body);
	}
}

/* The uses that there is no room for are summed up like other records. */
static void sum_uses(struct instance *i, void *arg)
{
	struct audit *a = arg;

	pthread_mutex_lock(&a->lock);
	for (struct key_use *u = atomic_load(&i->uses); u != NULL; u = u->next)
		if (atomic_load(&u->n) > atomic_exchange(&u->told, atomic_load(&u->n)))
			sum_up(a, "used", i->id, i->uid, TAO_OK);
	pthread_mutex_unlock(&a->lock);
}

void audit_instance_end(struct host *h, struct instance *i)
{
	if (h->audit == NULL)
		return;
	tell_uses(i, h->audit);
	sum_uses(i, h->audit);
	audit_event(h, "end", i, i->uid, TAO_OK, NULL, NULL);
}

/* ---- the thread ---- */

static void tell_sums(struct audit *a)
{
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < a->n_sums; i++) {
		const struct sum *s = &a->sums[i];
		struct tao_buf body = TAO_BUF_INIT;
		struct tao_json j;

		tao_json_open(&j, &body);
		tao_json_str(&j, "event", "summary");
		tao_json_int(&j, "uid", s->uid);
		if (s->instance != 0)
			tao_json_int(&j, "instance", (int64_t)s->instance);
		tao_json_str(&j, "of", s->event);
		tao_json_int(&j, "n", (int64_t)s->n);
		tao_json_str(&j, "result", audit_word(s->result));
		push(a, &body);
	}
	a->n_sums = 0;
	pthread_mutex_unlock(&a->lock);
}

/* Moves what waits into the batch. Lock held. */
static void take(struct audit *a)
{
	while (a->n > 0 && a->n_batch < BATCH) {
		a->batch[a->n_batch++] = a->queue[a->first];
		a->bytes -= a->queue[a->first].body.n;
		a->first = (a->first + 1) % AUDIT_QUEUE;
		a->n--;
	}
}

static void drop_batch(struct audit *a)
{
	while (a->n_batch > 0)
		tao_buf_free(&a->batch[--a->n_batch].body);
}

static enum tao_err open_file(struct audit *a)
{
	char *dir;
	enum tao_err e;

	if (a->file != NULL)
		return TAO_OK;
	dir = host_path(&a->h->conf, "audit");
	if (dir == NULL)
		return tao_fail_nomem();
	e = audit_file_open(dir, a->h->conf.audit_bytes, &a->h->signer, &a->file);
	free(dir);
	return e;
}

/* How many there was no room for, before those that come after them. */
static enum tao_err put_lost(struct audit *a)
{
	struct audit_entry v = { now_ns(CLOCK_REALTIME), TAO_BUF_INIT };
	uint64_t n;
	enum tao_err e = TAO_OK;

	pthread_mutex_lock(&a->lock);
	n = a->lost;
	pthread_mutex_unlock(&a->lock);
	if (n == 0)
		return TAO_OK;
	tao_buf_fmt(&v.body, "\"event\":\"lost\",\"n\":%llu", (unsigned long long)n);
	e = audit_file_put(a->file, &v, 1);
	tao_buf_free(&v.body);
	if (e == TAO_OK) {
		pthread_mutex_lock(&a->lock);
		a->lost -= n;
		pthread_mutex_unlock(&a->lock);
	}
	return e;
}

static enum tao_err write_batch(struct audit *a)
{
	enum tao_err e = open_file(a);

	if (e == TAO_OK && a->n_batch > 0)
		e = audit_file_put(a->file, a->batch, a->n_batch);
	if (e == TAO_OK)
		drop_batch(a);
	return e;
}

/* Tells the other threads how it goes. */
static void note_state(struct audit *a, enum tao_err e)
{
	struct audit_at at = { .number = 0 };
	int before, altered;

	if (a->file != NULL)
		audit_file_at(a->file, &at);
	pthread_mutex_lock(&a->lock);
	before = a->state.failing;
	a->state.head = at.head;
	a->state.signed_to = at.signed_to;
	a->state.bytes = at.bytes;
	altered = at.altered > a->state.altered;
	a->state.altered = at.altered;
	a->state.failing = e != TAO_OK;
	snprintf(a->state.why, sizeof a->state.why, "%s", e != TAO_OK ? tao_why() : "");
	atomic_store(&a->refuse, e != TAO_OK || a->n > AUDIT_QUEUE / 2 ||
	                         a->bytes > AUDIT_QUEUE_BYTES / 2);
	pthread_mutex_unlock(&a->lock);
	if (e != TAO_OK && !before)
		host_log("error", "the audit log cannot be written: %s", tao_why());
	else if (e == TAO_OK && before)
		host_log("info", "the audit log is written again");
	if (altered)
		host_log("warning", "the audit log was changed by somebody else: 'tao log verify' "
		         "says where");
}

/* Waits for records, until that second; 1: there may be some, or it stops. */
static int wait_until(struct audit *a, int64_t second)
{
	struct timespec t = { (time_t)second, 0 };
	int timed_out = 0;

	while (a->n == 0 && !a->stopping && !timed_out)
		timed_out = pthread_cond_timedwait(&a->wake, &a->lock, &t) != 0;
	return !timed_out;
}

static void pause_after_failure(struct audit *a)
{
	struct timespec t = { (time_t)(now_ns(CLOCK_MONOTONIC) / 1000000000 + RETRY_SECONDS), 0 };

	pthread_mutex_lock(&a->lock);
	if (!a->stopping)
		pthread_cond_timedwait(&a->wake, &a->lock, &t);
	pthread_mutex_unlock(&a->lock);
}

static void *work(void *arg)
{
	struct audit *a = arg;
	int64_t next = now_ns(CLOCK_MONOTONIC) / 1000000000 + SUM_SECONDS;
	int more = 1, last;
	enum tao_err e = TAO_OK;

	while (more) {
		pthread_mutex_lock(&a->lock);
		if (a->n_batch == 0 && e == TAO_OK)
			wait_until(a, next);
		take(a);
		last = a->stopping && a->n == 0;
		pthread_mutex_unlock(&a->lock);
		e = write_batch(a);
		if (e == TAO_OK)
			e = put_lost(a);
		if (now_ns(CLOCK_MONOTONIC) / 1000000000 >= next) {
			next += SUM_SECONDS;
			registry_each(a->h->registry, tell_uses, a);
			tell_sums(a);
			log_tell(a->h->log, 0);
			if (e == TAO_OK)
				e = audit_file_checkpoint(a->file, "time");
		}
		note_state(a, e);
		more = !last && !(e != TAO_OK && a->stopping);
		if (e != TAO_OK && more)
			pause_after_failure(a);
	}
	return NULL;
}

/* ---- beginning and end ---- */

static enum tao_err put_start(struct audit *a)
{
	struct audit_entry v = { now_ns(CLOCK_REALTIME), TAO_BUF_INIT };
	char *name = tao_node_text(a->h->name);
	struct tao_json j;
	enum tao_err e = name != NULL ? TAO_OK : tao_fail_nomem();

	tao_json_open(&j, &v.body);
	tao_json_str(&j, "event", "start");
	tao_json_str(&j, "host", name);
	tao_json_str(&j, "version", TAO_VERSION);
	tao_json_int(&j, "pid", getpid());
	tao_json_str(&j, "after", audit_file_left(a->file));
	if (e == TAO_OK)
		e = audit_file_put(a->file, &v, 1);
	if (e == TAO_OK)
		e = audit_file_checkpoint(a->file, "start");
	tao_buf_free(&v.body);
	free(name);
	return e;
}

static enum tao_err new_audit(struct host *h, struct audit **out)
{
	struct audit *a = calloc(1, sizeof *a);
	pthread_condattr_t attr;

	if (a == NULL)
		return tao_fail_nomem();
	a->h = h;
	for (size_t i = 0; i < BUCKETS; i++)
		a->buckets[i].tokens = (int64_t)AUDIT_BURST * MILLI;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->wake, &attr);
	pthread_condattr_destroy(&attr);
	*out = a;
	return TAO_OK;
}

enum tao_err audit_start(struct host *h, struct audit **out)
{
	enum tao_err e = new_audit(h, out);
	struct audit *a = *out;

	if (e != TAO_OK)
		return e;
	e = open_file(a);
	if (e == TAO_OK)
		e = put_start(a);
	note_state(a, e);
	if (e != TAO_OK && h->conf.audit_require)
		return tao_fail(e, "the host does not start without its audit log (audit = require "
		                "in taod.conf): %s", tao_why());
	errno = pthread_create(&a->thread, NULL, work, a);
	if (errno != 0)
		return tao_fail_sys("starting the audit log's thread");
	a->started = 1;
	return TAO_OK;
}

static void put_stop(struct audit *a)
{
	struct audit_entry v = { now_ns(CLOCK_REALTIME), TAO_BUF_INIT };
	enum tao_err e;

	tao_buf_fmt(&v.body, "\"event\":\"stop\",\"pid\":%d", (int)getpid());
	e = audit_file_put(a->file, &v, 1);
	if (e == TAO_OK)
		e = audit_file_checkpoint(a->file, "stop");
	if (e != TAO_OK)
		host_log("error", "the audit log ends without its last records: %s", tao_why());
	tao_buf_free(&v.body);
}

void audit_stop(struct host *h)
{
	struct audit *a = h->audit;

	if (a == NULL)
		return;
	if (a->started) {
		registry_each(h->registry, tell_uses, a);
		registry_each(h->registry, sum_uses, a);
		tell_sums(a);
		pthread_mutex_lock(&a->lock);
		a->stopping = 1;
		pthread_cond_signal(&a->wake);
		pthread_mutex_unlock(&a->lock);
		pthread_join(a->thread, NULL);
		if (a->file != NULL)
			put_stop(a);
	}
	h->audit = NULL;
	drop_batch(a);
	for (; a->n > 0; a->n--, a->first = (a->first + 1) % AUDIT_QUEUE)
		tao_buf_free(&a->queue[a->first].body);
	audit_file_close(a->file);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

void audit_state(struct audit *a, struct audit_state *s)
{
	memset(s, 0, sizeof *s);
	if (a == NULL)
		return;
	pthread_mutex_lock(&a->lock);
	*s = a->state;
	s->lost = a->lost_ever;
	pthread_mutex_unlock(&a->lock);
}
