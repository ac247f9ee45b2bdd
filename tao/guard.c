/* What all guards have in common: questions, changes, the file that they follow. */
#include "guard.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "pb.h"
#include "tao.pb-c.h"

#define AUTHORIZED    "Authorized"
#define UNPACK_MEMORY (8 * TAO_ATTEST_MAX) /* as for the links of a chain */

/* The file that a guard follows. */
struct tao_guard_file {
	struct stat at; /* when it was loaded or saved */
	char path[];
};

/* ---- making them ---- */

enum tao_err tao_guard_new(const struct tao_guard_ops *ops, size_t n, EVP_PKEY *policy_key,
                           struct tao_guard **out)
{
	struct tao_guard *g = calloc(1, n);
	uint8_t hash[TAO_HASH_LEN];
	enum tao_err e = TAO_OK;

	*out = NULL;
	if (g == NULL)
		return tao_fail_nomem();
	g->ops = ops;
	if (policy_key != NULL) {
		e = tao_key_hash(policy_key, hash);
		g->policy = e == TAO_OK ? tao_prin_key(hash) : NULL;
		if (e == TAO_OK && (g->policy == NULL || EVP_PKEY_up_ref(policy_key) != 1))
			e = tao_fail_nomem();
		else if (e == TAO_OK)
			g->key = policy_key;
	}
	if (e == TAO_OK)
		*out = g;
	else
		tao_guard_free(g);
	return e;
}

void tao_guard_free(struct tao_guard *g)
{
	if (g == NULL)
		return;
	if (g->ops->clean != NULL)
		g->ops->clean(g);
	EVP_PKEY_free(g->key);
	tao_node_free(g->policy);
	free(g->file);
	free(g);
}

enum tao_err tao_guard_subprincipal(struct tao_guard *g, struct tao_node **out)
{
	*out = NULL;
	return g->ops->subprincipal(g, out);
}

int tao_guard_endorses(const struct tao_guard *g, const struct tao_attested *a)
{
	return g->policy != NULL && a->speaker != NULL && a->message != NULL &&
	       tao_node_equal(g->policy, a->speaker);
}

/* ---- endorsements ---- */

void tao_endorsements_clear(struct tao_endorsements *e)
{
	for (size_t i = 0; i < e->n; i++)
		tao_attested_clear(&e->v[i]);
	free(e->v);
	memset(e, 0, sizeof *e);
}

static enum tao_err take_endorsements(const struct tao_guard *g, const Tao__Attestation *a,
                                      int64_t at, struct tao_endorsements *out)
{
	size_t n = a->n_serialized_endorsements;

	if (n > TAO_GUARD_MAX_ENDORSEMENTS)
		return tao_fail(TAO_ELIMIT,
		                "an attestation carries %zu endorsements, at most %d are "
		                "looked at",
		                n, TAO_GUARD_MAX_ENDORSEMENTS);
	out->v = calloc(n + 1, sizeof *out->v);
	if (out->v == NULL)
		return tao_fail_nomem();
	for (size_t i = 0; i < n; i++) {
		const ProtobufCBinaryData *b = &a->serialized_endorsements[i];
		struct tao_attested *said = &out->v[out->n];
		enum tao_err e = tao_attestation_verify(b->data, b->len, at, g->policy, said);

		if (e == TAO_ENOMEM)
			return e;
		if (e == TAO_OK && tao_guard_endorses(g, said))
			out->n++;
		else
			tao_attested_clear(said);
	}
	return TAO_OK;
}

enum tao_err tao_guard_endorsements(const struct tao_guard *g, const void *attestation, size_t n,
                                    int64_t at, struct tao_endorsements *out)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb = NULL;
	enum tao_err e = TAO_OK;

	memset(out, 0, sizeof *out);
	if (g->policy == NULL)
		return TAO_OK;
	if (n > TAO_ATTEST_MAX)
		return tao_fail(TAO_ELIMIT, "an attestation has at most %u bytes, not %zu",
		                TAO_ATTEST_MAX, n);
	tao_pb_alloc_init(&pa, UNPACK_MEMORY);
	e = tao_pb_unpack(&pa, &tao__attestation__descriptor, attestation, n, "attestation", &pb);
	if (e == TAO_OK)
		e = take_endorsements(g, (const Tao__Attestation *)pb, at, out);
	tao_pb_free(&pa, pb);
	return e;
}

/* ---- predicates ---- */

/* Authorized(who, "op", "args"...) */
static enum tao_err predicate(const struct tao_node *who, const char *op, const char *const *args,
                              struct tao_node **out)
{
	struct tao_node *t[TAO_GUARD_MAX_ARGS] = { NULL };
	size_t n = 0;

	*out = NULL;
	while (args != NULL && args[n] != NULL)
		if (++n > TAO_GUARD_MAX_ARGS)
			return tao_fail(TAO_ELIMIT, "an operation has at most %d arguments",
			                TAO_GUARD_MAX_ARGS);
	for (size_t i = 0; i < n; i++)
		t[i] = tao_term_str(args[i]);
	/* As many of them as it is told: tao_pred() takes no array. */
	*out = tao_pred(AUTHORIZED, n + 2, tao_node_dup(who), tao_term_str(op), t[0], t[1], t[2],
	                t[3], t[4], t[5], t[6], t[7]);
	return *out != NULL ? TAO_OK : tao_fail_nomem();
}

static enum tao_err parse(const char *text, struct tao_node **out)
{
	size_t n = strlen(text);

	*out = NULL;
	if (n > TAO_GUARD_MAX_RULE)
		return tao_fail(TAO_ELIMIT, "a rule has at most %d bytes, not %zu",
		                TAO_GUARD_MAX_RULE, n);
	return tao_form_parse(text, n, out);
}

/* ---- the file that it follows ---- */

static int same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* What loading asks of a set. */
struct demand {
	struct tao_guard *g;
	const struct tao_guard_floor *floor;
	struct tao_guard_set found;
};

static enum tao_err accept_version(const struct tao_guard_set *s, const struct demand *d)
{
	const struct tao_guard_set *have = &d->g->newest;
	uint64_t least = have->version > d->floor->version ? have->version : d->floor->version;

	if (s->version == 0)
		return tao_fail(TAO_EFORMAT,
		                "the rules have no version, so that an old copy could "
		                "not be told from a new one: if CloudProxy wrote them, "
		                "import them and save");
	if (s->version < least)
		return tao_fail(TAO_EEXPIRED,
		                "these are the rules of version %" PRIu64 ", but there was "
		                "a version %" PRIu64 " already: put the newest file back",
		                s->version, least);
	if (s->version == have->version && memcmp(s->hash, have->hash, sizeof s->hash) != 0)
		return tao_fail(TAO_EALTERED,
		                "two different sets of rules were signed as version %" PRIu64
		                ": save the right one again, which gives it the next version",
		                s->version);
	if (s->date < d->floor->date)
		return tao_fail(TAO_EEXPIRED,
		                "the rules of version %" PRIu64 " are older than is "
		                "allowed here: get them anew",
		                s->version);
	return TAO_OK;
}

static enum tao_err accept_load(const struct tao_guard_set *s, void *arg)
{
	struct demand *d = arg;

	d->found = *s;
	return accept_version(s, d);
}

static enum tao_err accept_import(const struct tao_guard_set *s, void *arg)
{
	(void)arg;
	if (s->version != 0)
		return tao_fail(TAO_EINVAL,
		                "these rules have a version, so CloudProxy did not write "
		                "them: load them instead");
	return TAO_OK;
}

/* Remembers a set's identity, and stops. */
static enum tao_err accept_look(const struct tao_guard_set *s, void *arg)
{
	*(struct tao_guard_set *)arg = *s;
	return TAO_EBUSY;
}

static enum tao_err keeps_no_file(const struct tao_guard *g)
{
	if (g->ops->pack == NULL)
		return tao_fail(TAO_EINVAL, "%s has no rules that could be in a file",
		                g->ops->kind);
	if (g->key == NULL)
		return tao_fail(TAO_EINVAL,
		                "%s without a policy key has no signed rules: make it "
		                "with one",
		                g->ops->kind);
	return TAO_OK;
}

static enum tao_err replace(struct tao_guard *g, const void *p, size_t n,
                            const struct tao_guard_floor *floor)
{
	static const struct tao_guard_floor none;
	struct demand d = { g, floor != NULL ? floor : &none, { 0 } };
	enum tao_err e = g->ops->unpack(g, p, n, accept_load, &d);

	if (e == TAO_OK)
		g->newest = d.found;
	return e;
}

/* stat comes first: a file that is exchanged in between is seen as changed the next time. */
static enum tao_err read_set(const char *path, struct stat *at, struct tao_buf *out)
{
	memset(at, 0, sizeof *at);
	(void)!stat(path, at); /* if it fails, so does reading, which has the sentences */
	return tao_file_read(path, TAO_GUARD_MAX_FILE, out);
}

static enum tao_err quote(enum tao_err e, const char *path)
{
	/* Those of file.h name it already. */
	return strstr(tao_why(), path) != NULL ? e : tao_fail(e, "%s: %.800s", path, tao_why());
}

static enum tao_err load_file(struct tao_guard *g, const char *path,
                              const struct tao_guard_floor *floor, struct stat *at)
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = read_set(path, at, &b);

	if (e == TAO_OK)
		e = replace(g, b.p, b.n, floor);
	tao_buf_free(&b);
	return e == TAO_OK ? e : quote(e, path);
}

static enum tao_err follow(struct tao_guard *g, const char *path, const struct stat *at)
{
	size_t n = strlen(path) + 1;
	struct tao_guard_file *f = malloc(sizeof *f + n);

	if (f == NULL)
		return tao_fail_nomem();
	f->at = *at;
	memcpy(f->path, path, n);
	free(g->file);
	g->file = f;
	return TAO_OK;
}

static void follow_none(struct tao_guard *g)
{
	free(g->file);
	g->file = NULL;
}

static enum tao_err refresh(struct tao_guard *g)
{
	struct stat now;
	enum tao_err e;

	if (g->file == NULL)
		return TAO_OK;
	if (stat(g->file->path, &now) == 0 && same_file(&now, &g->file->at))
		return TAO_OK;
	e = load_file(g, g->file->path, &g->floor, &now);
	if (e == TAO_OK)
		g->file->at = now;
	return e;
}

enum tao_err tao_guard_load(struct tao_guard *g, const char *path,
                            const struct tao_guard_floor *floor)
{
	struct stat at;
	enum tao_err e = keeps_no_file(g);

	if (e == TAO_OK)
		e = load_file(g, path, floor, &at);
	if (e == TAO_OK)
		e = follow(g, path, &at);
	if (e == TAO_OK && floor != NULL)
		g->floor = *floor;
	else if (e == TAO_OK)
		memset(&g->floor, 0, sizeof g->floor);
	return e;
}

enum tao_err tao_guard_open(struct tao_guard *g, const void *p, size_t n,
                            const struct tao_guard_floor *floor)
{
	enum tao_err e = keeps_no_file(g);

	if (e == TAO_OK && n > TAO_GUARD_MAX_FILE)
		e = tao_fail(TAO_ELIMIT, "a signed set of rules has at most %u bytes, not %zu",
		             TAO_GUARD_MAX_FILE, n);
	if (e == TAO_OK)
		e = replace(g, p, n, floor);
	if (e == TAO_OK)
		follow_none(g);
	return e;
}

enum tao_err tao_guard_import(struct tao_guard *g, const char *path)
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = keeps_no_file(g);

	if (e == TAO_OK)
		e = tao_file_read(path, TAO_GUARD_MAX_FILE, &b);
	if (e == TAO_OK)
		e = g->ops->unpack(g, b.p, b.n, accept_import, NULL);
	if (e == TAO_OK)
		follow_none(g);
	else
		e = quote(e, path);
	tao_buf_free(&b);
	return e;
}

/* ---- saving ---- */

/* Nobody else's changes are overwritten; what is no set of this guard's is. */
static enum tao_err look_before(struct tao_guard *g, const char *path)
{
	struct tao_guard_set s = { 0 };
	struct tao_buf b = TAO_BUF_INIT;
	struct stat at;

	if (read_set(path, &at, &b) == TAO_OK)
		g->ops->unpack(g, b.p, b.n, accept_look, &s);
	tao_buf_free(&b);
	if (s.version > g->newest.version)
		return tao_fail(TAO_EBUSY,
		                "%s holds version %" PRIu64 " of the rules, which was not "
		                "loaded: load it first, and make the changes again",
		                path, s.version);
	return TAO_OK;
}

static enum tao_err own_key(const struct tao_guard *g, EVP_PKEY *private_key)
{
	if (EVP_PKEY_eq(g->key, private_key) == 1)
		return TAO_OK;
	return tao_fail(TAO_EINVAL,
	                "rules are signed with the guard's policy key, not with another");
}

static enum tao_err write_set(struct tao_guard *g, const char *path, const struct tao_buf *b)
{
	struct stat at;
	enum tao_err e = tao_file_write(path, b->p, b->n, 0644, 0);

	if (e == TAO_OK && stat(path, &at) != 0)
		e = tao_fail_sys("cannot look at %s after writing it", path);
	return e == TAO_OK ? follow(g, path, &at) : e;
}

/* The next version, with the file's lock held. */
static enum tao_err save(struct tao_guard *g, EVP_PKEY *private_key, const char *path)
{
	struct tao_guard_set next = g->newest;
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = look_before(g, path);

	if (e == TAO_OK && next.version == UINT64_MAX)
		e = tao_fail(TAO_ELIMIT, "the rules cannot have a higher version");
	next.version++;
	next.date = (int64_t)time(NULL);
	if (e == TAO_OK)
		e = g->ops->pack(g, private_key, &next, &b);
	if (e == TAO_OK)
		e = write_set(g, path, &b);
	if (e == TAO_OK)
		g->newest = next;
	tao_buf_free(&b);
	return e;
}

enum tao_err tao_guard_save(struct tao_guard *g, EVP_PKEY *private_key, const char *path)
{
	enum tao_err e = keeps_no_file(g);
	int lock = -1;

	if (e == TAO_OK)
		e = own_key(g, private_key);
	if (e == TAO_OK)
		e = tao_file_lock(path, &lock);
	if (e == TAO_OK)
		e = save(g, private_key, path);
	if (lock >= 0)
		close(lock);
	return e;
}

uint64_t tao_guard_version(const struct tao_guard *g)
{
	return g->newest.version;
}

int64_t tao_guard_date(const struct tao_guard *g)
{
	return g->newest.date;
}

/* ---- asking ---- */

static enum tao_err decide(struct tao_guard *g, const struct tao_node *query,
                           const struct tao_endorsements *said, struct tao_decision *d)
{
	enum tao_err e = refresh(g);

	if (e == TAO_OK)
		e = g->ops->ask(g, query, said, d);
	if (e == TAO_OK && !d->yes)
		e = tao_fail(TAO_EDENIED, "%s", d->why);
	return e;
}

/* Every way out leaves a reason, and yes only behind TAO_OK. */
static enum tao_err answer(enum tao_err e, struct tao_guard *g, struct tao_node *query,
                           const struct tao_endorsements *said, struct tao_decision *d)
{
	static const struct tao_endorsements nothing;
	struct tao_decision own;

	if (d == NULL)
		d = &own;
	memset(d, 0, sizeof *d);
	if (e == TAO_OK)
		e = decide(g, query, said != NULL ? said : &nothing, d);
	if (e != TAO_OK) {
		d->yes = 0;
		snprintf(d->why, sizeof d->why, "%s", tao_why());
	}
	tao_node_free(query);
	return e;
}

enum tao_err tao_guard_is_authorised(struct tao_guard *g, const struct tao_node *who,
                                     const char *op, const char *const *args,
                                     const struct tao_endorsements *said, struct tao_decision *d)
{
	struct tao_node *query;
	enum tao_err e = predicate(who, op, args, &query);

	return answer(e, g, query, said, d);
}

enum tao_err tao_guard_query(struct tao_guard *g, const char *text,
                             const struct tao_endorsements *said, struct tao_decision *d)
{
	struct tao_node *query;
	enum tao_err e = parse(text, &query);

	return answer(e, g, query, said, d);
}

/* ---- changing ---- */

typedef enum tao_err change_fn(struct tao_guard *g, const struct tao_node *rule);

static enum tao_err change(enum tao_err e, struct tao_guard *g, struct tao_node *rule,
                           change_fn *fn)
{
	if (e == TAO_OK)
		e = fn(g, rule);
	tao_node_free(rule);
	return e;
}

enum tao_err tao_guard_authorise(struct tao_guard *g, const struct tao_node *who, const char *op,
                                 const char *const *args)
{
	struct tao_node *rule;
	enum tao_err e = predicate(who, op, args, &rule);

	return change(e, g, rule, g->ops->add);
}

enum tao_err tao_guard_retract(struct tao_guard *g, const struct tao_node *who, const char *op,
                               const char *const *args)
{
	struct tao_node *rule;
	enum tao_err e = predicate(who, op, args, &rule);

	return change(e, g, rule, g->ops->retract);
}

enum tao_err tao_guard_add_rule(struct tao_guard *g, const char *text)
{
	struct tao_node *rule;
	enum tao_err e = parse(text, &rule);

	return change(e, g, rule, g->ops->add);
}

enum tao_err tao_guard_retract_rule(struct tao_guard *g, const char *text)
{
	struct tao_node *rule;
	enum tao_err e = parse(text, &rule);

	return change(e, g, rule, g->ops->retract);
}

enum tao_err tao_guard_clear(struct tao_guard *g)
{
	return g->ops->clear(g);
}

size_t tao_guard_count(const struct tao_guard *g)
{
	return g->ops->count(g);
}

enum tao_err tao_guard_list(const struct tao_guard *g, void (*each)(const char *rule, void *arg),
                            void *arg)
{
	for (size_t i = 0; i < g->ops->count(g); i++) {
		char *text = tao_node_text(g->ops->rule(g, i));

		if (text == NULL)
			return tao_fail_nomem();
		each(text, arg);
		free(text);
	}
	return TAO_OK;
}
