#include "upgrade.h"

#include <string.h>
#include <time.h>

#include "../domain/fact.h"

enum tao_err upgrade_check(struct host *h, const struct instance *i)
{
	return i->kind == INSTANCE_PROCESS ? TAO_OK : domain_executable(h->domain, i->exe);
}

struct old {
	const char *path;
	const uint8_t *exe; /* the new one */
	uint8_t list[UPGRADE_MAX_OLD][TAO_HASH_LEN];
	size_t n;
};

static enum tao_err put_old(struct old *o, const uint8_t *exe)
{
	if (memcmp(exe, o->exe, TAO_HASH_LEN) == 0)
		return TAO_OK;
	for (size_t i = 0; i < o->n; i++)
		if (memcmp(o->list[i], exe, TAO_HASH_LEN) == 0)
			return TAO_OK;
	if (o->n == UPGRADE_MAX_OLD)
		return tao_fail(TAO_ELIMIT, "an executable replaces at most %d at once",
		                UPGRADE_MAX_OLD);
	memcpy(o->list[o->n++], exe, TAO_HASH_LEN);
	return TAO_OK;
}

/* What another user says that his key is for, nobody has checked. */
static enum tao_err of_key(struct host *h, uid_t uid, const char *name, void *arg)
{
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct old *o = arg;
	struct key_facts f;
	enum tao_err e = TAO_OK;

	if (keystore_get(h, uid, name, &stub) == TAO_OK &&
	    custody_open(h, stub.p, stub.n, &k) == TAO_OK) {
		held_key_facts(k, &f);
		if (f.exe != NULL && f.program != NULL && strcmp(f.program, o->path) == 0)
			e = put_old(o, f.exe);
	}
	held_key_release(k);
	tao_buf_free(&stub);
	return e;
}

static enum tao_err collect(struct request *r, const Tao__TrustRequest *rq, struct old *o)
{
	enum tao_err e = TAO_OK;

	for (size_t i = 0; e == TAO_OK && i < rq->n_replaces; i++) {
		if (rq->replaces[i].len != TAO_HASH_LEN)
			return tao_fail(TAO_EINVAL, "a hash has %d bytes", TAO_HASH_LEN);
		e = put_old(o, rq->replaces[i].data);
	}
	return e == TAO_OK ? keystore_each(r->h, r->c->uid, of_key, o) : e;
}

struct telling {
	struct request *r;
	size_t successors, limits;
};

static void tell(const char *fact, int removed, void *arg)
{
	struct telling *t = arg;

	t->successors += !removed && strncmp(fact, "Successor(", 10) == 0;
	t->limits += !removed && strncmp(fact, "Until(", 6) == 0;
	audit_note_apart(t->r, "rule", removed ? "removed" : "added", fact);
	host_log_of(t->r->h, t->r->c->uid, "info", "user %u %s %s", (unsigned)t->r->c->uid,
	            removed ? "removed" : "added", fact);
}

static void explain(const struct telling *t, const Tao__TrustRequest *rq, int64_t until,
                    struct tao_buf *notice)
{
	char when[FACT_TIME_MAX];

	if (t->limits > 0 && fact_time_text(until, when))
		tao_buf_fmt(notice, "%s was upgraded: the executable that it replaces works until "
		            "%s as well, and is refused then", rq->path, when);
	else if (t->successors > 0)
		tao_buf_fmt(notice, "%s was upgraded: the executable that it replaces works as "
		            "well, until 'tao trust %s --both-for TIME' ends that", rq->path,
		            rq->path);
}

enum tao_err upgrade_program(struct request *r, const Tao__TrustRequest *rq,
                             const uint8_t exe[TAO_HASH_LEN], struct tao_buf *notice)
{
	struct old o = { .path = rq->path, .exe = exe };
	struct telling t = { .r = r };
	struct domain_upgrade u = { .exe = exe, .path = rq->path };
	enum tao_err e = TAO_OK;

	if (rq->has_both_for && (rq->both_for < 0 || rq->both_for > UPGRADE_MAX_SECONDS))
		e = tao_fail(TAO_EINVAL, "two executables of a program work side by side for a "
		             "year at most");
	if (e == TAO_OK && rq->has_both_for)
		u.until = (int64_t)time(NULL) + rq->both_for;
	if (e == TAO_OK)
		e = collect(r, rq, &o);
	if (e == TAO_OK) {
		u.old = (const uint8_t (*)[TAO_HASH_LEN])o.list;
		u.n_old = o.n;
		e = domain_upgrade(r->h->domain, &u, tell, &t);
	}
	if (e == TAO_OK)
		explain(&t, rq, u.until, notice);
	return e;
}
