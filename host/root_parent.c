#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "host.h"
#include "process.h"
#include "root.h"
#include "../domain/cert.h"
#include "../tao/attest.h"
#include "../tao/file.h"
#include "../tao/tao.h"

#define SECRET_LEN 32
#define SECRET_MAX 65536 /* bytes of host/secret.sealed */
#define SECRET_FORMAT "tao parent secret "
#define SECRET_VERSION "1\n"
#define NEW_FORMAT "tao new host 1\n"
#define NEW_MAX 512
#define NAME_MAX_TEXT (4 * INSTANCE_MAX_NAME)
#define SECOND_NS 1000000000LL
#define BACKDATE_NS (60 * SECOND_NS) /* of the delegation: a clock set back a little */
#define RETRY_FIRST_NS SECOND_NS
#define RETRY_LAST_NS (60 * SECOND_NS)
#define LOOK_SECONDS 60 /* the renewer looks at the clock that often: it may be set */

struct parent {
	struct tao_parent *tao;
	struct tao_buf delegation;
	int64_t until, renew_at; /* ns since 1970; until: of the whole chain */
	int64_t retry;           /* ns: to wait after the next failure */
	char *why;               /* the last renewal failed; NULL: it did not */
	pthread_mutex_t lock;    /* of all above but tao */
	pthread_cond_t changed;
	pthread_t renewer;
	int has_renewer, ends;
};

/* ---- who am I ---- */

static enum tao_err explain(struct host *h, enum tao_err e)
{
	if (e == TAO_ENOTRUN || e == TAO_ENOHOST)
		return tao_fail(e, "the host in %s has its root in a parent: start it with 'tao -d "
		                "%s up', or as 'tao -d PARENT run -- taod -d %s --foreground' "
		                "(%.400s)", h->conf.dir, h->conf.dir, h->conf.dir, tao_why());
	return e;
}

/* The parent of an ordinary user cannot look at who asks when that is kept from the user's
 * debuggers: then it has to be as open as all else of that user. */
static enum tao_err first_name(struct host *h, struct parent *p, struct tao_node **name)
{
	enum tao_err e = tao_parent_name(p->tao, name);

	if (e == TAO_EPERM || e == TAO_ENOTRUN) {
		process_show_memory();
		e = tao_parent_name(p->tao, name);
		if (e == TAO_OK)
			host_log("warning", "the parent is an ordinary user's host and could not "
			         "identify this one: its memory is open to debuggers of its user");
		else
			process_guard_memory();
	}
	return explain(h, e);
}

static enum tao_err extend(struct host *h, struct parent *p)
{
	struct tao_buf text = TAO_BUF_INIT;
	struct tao_node *sub = NULL;
	enum tao_err e;

	tao_buf_str(&text, ".DatalogGuard(key([");
	tao_buf_hex(&text, domain_id(h->domain), TAO_HASH_LEN);
	tao_buf_str(&text, "]))");
	e = tao_buf_err(&text);
	if (e == TAO_OK)
		e = tao_subprin_parse(tao_buf_cstr(&text), text.n, &sub);
	if (e == TAO_OK)
		e = tao_parent_extend(p->tao, sub);
	tao_node_free(sub);
	tao_buf_free(&text);
	return e;
}

/* Puts the guard behind base, what the parent calls this taod, unless it is there. */
static enum tao_err guarded(struct host *h, struct parent *p, const struct tao_node *base,
                            struct tao_node **name)
{
	const struct tao_node *last = base->n_kid > 1 ? base->kid[base->n_kid - 1] : NULL;
	int there = last != NULL && name_is_guard(last, domain_id(h->domain));
	enum tao_err e = there ? TAO_OK : extend(h, p);

	*name = NULL;
	if (e != TAO_OK)
		return e;
	*name = there ? tao_node_dup(base) : name_guarded(base, domain_id(h->domain));
	return *name != NULL ? TAO_OK : tao_fail_nomem();
}

/* Still the same for the parent, who may have been started again meanwhile. */
static enum tao_err same_name(struct host *h, struct parent *p)
{
	struct tao_node *base = NULL, *name = NULL;
	enum tao_err e = tao_parent_name(p->tao, &base);
	char *text;

	if (e == TAO_OK && tao_node_equal(base, h->name)) {
		tao_node_free(base);
		return TAO_OK;
	}
	if (e == TAO_OK)
		e = guarded(h, p, base, &name);
	if (e == TAO_OK && !tao_node_equal(name, h->name)) {
		text = tao_node_text(base);
		e = tao_fail(TAO_EDENIED, "the parent calls this host %.600s now, which is not its "
		             "name: start it again", text != NULL ? text : "?");
		free(text);
	}
	tao_node_free(name);
	tao_node_free(base);
	return e;
}

/* ---- the secret ---- */

/* The executable of the last measurement in it: term, or NULL. */
static const struct tao_node *last_exe(const struct tao_node *name)
{
	const struct tao_node *ext;

	for (size_t i = tao_prin_ext_count(name); i-- > 0;) {
		ext = tao_prin_ext(name, i);
		if (ext->n_kid > 0 && (strcmp(ext->text, "Measured") == 0 ||
		                       strcmp(ext->text, "Program") == 0))
			return ext->kid[0];
	}
	return NULL;
}

/* What the parent's domain has to be told, if the last start was another executable's. */
static enum tao_err wrong_program(struct host *h, const char *path, const struct tao_node *base)
{
	char *file = host_path(&h->conf, "host/principal"), *now = NULL, *then = NULL;
	struct tao_buf text = TAO_BUF_INIT;
	struct tao_node *old = NULL;
	const struct tao_node *exe = last_exe(base), *was = NULL;

	if (file != NULL && tao_file_read(file, NAME_MAX_TEXT, &text) == TAO_OK &&
	    tao_prin_parse((const char *)text.p, text.n, &old) == TAO_OK)
		was = last_exe(old);
	if (exe != NULL && was != NULL && !tao_node_equal(exe, was)) {
		now = tao_node_text(exe);
		then = tao_node_text(was);
	}
	if (now != NULL && then != NULL)
		tao_fail(TAO_EWRONGPROG, "%s was sealed for another taod: if this one is its "
		         "upgrade, let the owner of the parent's domain say so with \"tao policy "
		         "add 'Successor(%s, %s)'\", else run the one that has the second hash",
		         path, now, then);
	else
		tao_fail(TAO_EWRONGPROG, "%s was sealed for another taod or user: run that one, "
		         "or, if this taod is its upgrade, let the owner of the parent's domain "
		         "add the rule Successor([this taod], [that one])", path);
	tao_node_free(old);
	tao_buf_free(&text);
	free(file);
	free(now);
	free(then);
	return TAO_EWRONGPROG;
}

static enum tao_err no_secret(struct host *h, const char *path, const struct tao_node *base,
                              enum tao_err e)
{
	switch (e) {
	case TAO_ENOTFOUND:
		return tao_fail(e, "%s is missing, and without it the host's keys cannot be "
		                "opened: put a copy of it back", path);
	case TAO_EOTHERHOST:
		return tao_fail(e, "%s was sealed by another parent: run this host under that one, "
		                "or make a new one here with 'tao init --root parent'", path);
	case TAO_EWRONGPROG:
		return wrong_program(h, path, base);
	default:
		return e;
	}
}

static enum tao_err check_secret(const char *path, struct tao_buf *file)
{
	const size_t format = strlen(SECRET_FORMAT), version = strlen(SECRET_VERSION);
	const char *text = tao_buf_cstr(file);

	if (file->n <= format + version || strncmp(text, SECRET_FORMAT, format) != 0)
		return tao_fail(TAO_EFORMAT, "%s is not the secret of a host: put a copy of it "
		                "back", path);
	if (strncmp(text + format, SECRET_VERSION, version) != 0)
		return tao_fail(TAO_EVERSION, "%s was written by a newer version: upgrade this one",
		                path);
	return TAO_OK;
}

static enum tao_err unseal_secret(struct host *h, struct parent *p, const struct tao_node *base,
                                  struct tao_buf *secret)
{
	const size_t skip = strlen(SECRET_FORMAT SECRET_VERSION);
	char policy[TAO_PARENT_POLICY_MAX];
	char *path = host_path(&h->conf, "host/secret.sealed");
	struct tao_buf file = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? tao_file_read(path, SECRET_MAX, &file) : tao_fail_nomem();

	if (e == TAO_OK)
		e = check_secret(path, &file);
	if (e == TAO_OK)
		e = tao_parent_unseal(p->tao, file.p + skip, file.n - skip, secret, policy);
	if (e == TAO_OK && secret->n != SECRET_LEN)
		e = tao_fail(TAO_EFORMAT, "%s holds no secret of a host: put a copy of it back",
		             path);
	if (e != TAO_OK && path != NULL)
		e = no_secret(h, path, base, e);
	tao_buf_free(&file);
	free(path);
	return e;
}

static enum tao_err seal_secret(struct host *h, struct parent *p, const struct tao_buf *secret)
{
	char *path = host_path(&h->conf, "host/secret.sealed");
	struct tao_buf file = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? TAO_OK : tao_fail_nomem();

	tao_buf_str(&file, SECRET_FORMAT SECRET_VERSION);
	if (e == TAO_OK)
		e = tao_parent_seal(p->tao, secret->p, secret->n, "program", &file);
	if (e == TAO_OK)
		e = tao_file_write(path, file.p, file.n, 0600, 0);
	tao_buf_free(&file);
	free(path);
	return e;
}

/* ---- the first start ---- */

/* host/new: the domain's name. TAO_ENOTFOUND: the keys were made before. */
static enum tao_err read_new(const char *path, struct tao_buf *name)
{
	const size_t n = strlen(NEW_FORMAT);
	struct tao_buf file = TAO_BUF_INIT;
	enum tao_err e = tao_file_read(path, NEW_MAX, &file);

	if (e == TAO_OK && (file.n <= n + 1 || memcmp(file.p, NEW_FORMAT, n) != 0 ||
	                    memchr(file.p, 0, file.n) != NULL || file.p[file.n - 1] != '\n'))
		e = tao_fail(TAO_EFORMAT, "%s was changed: make the host again with 'tao init "
		             "--root parent'", path);
	if (e == TAO_OK) {
		tao_buf_put(name, file.p + n, file.n - n - 1);
		e = tao_buf_err(name);
	}
	tao_buf_free(&file);
	return e;
}

static enum tao_err clear_unfinished(const struct host_conf *c)
{
	static const char *const files[] = { "host/root.key", "host/counters", "host/secret.sealed",
	                                     "host/principal", "domain/policy.key",
	                                     "domain/policy.pem", "domain/rules" };
	enum tao_err e = TAO_OK;

	for (size_t i = 0; e == TAO_OK && i < sizeof files / sizeof files[0]; i++) {
		char *path = host_path(c, "%s", files[i]);

		if (path == NULL)
			e = tao_fail_nomem();
		else if (unlink(path) != 0 && access(path, F_OK) == 0)
			e = tao_fail_sys("removing %s", path);
		free(path);
	}
	return e;
}

static enum tao_err make_all(struct host *h, struct parent *p, const char *domain_name,
                             struct tao_buf *secret)
{
	uint8_t *to = tao_buf_room(secret, SECRET_LEN);
	enum tao_err e = to != NULL ? TAO_OK : tao_buf_err(secret);

	if (e == TAO_OK && RAND_priv_bytes(to, SECRET_LEN) != 1)
		e = tao_fail_crypto("drawing the host's secret");
	if (e == TAO_OK)
		e = clear_unfinished(&h->conf);
	if (e == TAO_OK)
		e = root_make_keys(&h->conf, domain_name, secret->p, secret->n);
	if (e == TAO_OK)
		e = seal_secret(h, p, secret);
	return e;
}

/* A start that was interrupted begins anew: host/new goes last. */
static enum tao_err obtain_secret(struct host *h, struct parent *p, const struct tao_node *base,
                                  struct tao_buf *secret)
{
	char *path = host_path(&h->conf, "host/new");
	struct tao_buf name = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? read_new(path, &name) : tao_fail_nomem();

	if (e == TAO_ENOTFOUND) {
		e = unseal_secret(h, p, base, secret);
	} else if (e == TAO_OK) {
		e = make_all(h, p, tao_buf_cstr(&name), secret);
		if (e == TAO_OK && unlink(path) != 0)
			e = tao_fail_sys("removing %s", path);
		if (e == TAO_OK)
			host_log("info", "made the keys of this host and of its domain");
	}
	tao_buf_free(&name);
	free(path);
	return e;
}

/* ---- the domain trusts this host under the name that it has now ---- */

static enum tao_err forget_name(struct host *h, const struct tao_buf *old)
{
	struct tao_node *name = NULL;
	enum tao_err e = tao_prin_parse((const char *)old->p, old->n, &name);

	if (e == TAO_OK)
		e = root_trust_host(h->domain, name, 0);
	tao_node_free(name);
	return e;
}

static enum tao_err trust_own_name(struct host *h)
{
	char *path = host_path(&h->conf, "host/principal"), *now = tao_node_text(h->name);
	struct tao_buf old = TAO_BUF_INIT;
	enum tao_err e = path != NULL && now != NULL ? tao_file_read(path, NAME_MAX_TEXT, &old)
	                                             : tao_fail_nomem();

	if (e == TAO_OK && strcmp(tao_buf_cstr(&old), now) == 0)
		goto out;
	if (e == TAO_OK) {
		host_log("info", "the parent calls this host otherwise than before: its name is %s",
		         now);
		e = forget_name(h, &old);
	}
	if (e == TAO_OK || e == TAO_ENOTFOUND)
		e = root_trust_host(h->domain, h->name, 1);
	if (e == TAO_OK)
		e = tao_file_write(path, now, strlen(now), 0600, 0);
out:
	tao_buf_free(&old);
	free(path);
	free(now);
	return e;
}

/* ---- the delegation ---- */

static struct tao_node *speaks_for_me(struct host *h)
{
	return tao_speaksfor(tao_prin_key(h->root), tao_node_dup(h->name));
}

/* What the parent gave must hold from the key that this host's name starts with. */
static enum tao_err check(struct host *h, const struct tao_buf *att, const struct tao_node *said,
                          int64_t *until)
{
	struct tao_node *root = tao_prin_prefix(h->name, 0);
	struct tao_attested a = { 0 };
	enum tao_err e = root != NULL
	                 ? tao_attestation_verify(att->p, att->n, TAO_NOW, root, &a) : tao_fail_nomem();

	if (e == TAO_OK && (!tao_node_equal(a.speaker, h->name) ||
	                    !tao_node_equal(a.message, said)))
		e = tao_fail(TAO_EPROTO, "the parent attested another statement than it was asked "
		             "for");
	if (e == TAO_OK)
		*until = a.until;
	tao_attested_clear(&a);
	tao_node_free(root);
	return e;
}

static enum tao_err delegate(struct host *h, struct parent *p)
{
	struct tao_node *said = speaks_for_me(h);
	struct tao_buf att = TAO_BUF_INIT;
	int64_t now = tao_now_ns(), until = 0;
	enum tao_err e = said != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK)
		e = tao_parent_attest(p->tao, h->name, now - BACKDATE_NS,
		                      now + h->conf.delegation_seconds * SECOND_NS, said, &att);
	if (e == TAO_OK)
		e = check(h, &att, said, &until);
	if (e == TAO_OK) {
		pthread_mutex_lock(&p->lock);
		tao_buf_free(&p->delegation);
		p->delegation = att;
		p->until = until;
		p->renew_at = now + (until - now > 2 * SECOND_NS ? (until - now) / 2 : SECOND_NS);
		p->retry = RETRY_FIRST_NS;
		pthread_mutex_unlock(&p->lock);
	} else {
		tao_buf_free(&att);
	}
	tao_node_free(said);
	return e;
}

static void keep_why(struct parent *p, enum tao_err e)
{
	char *why = e != TAO_OK ? strdup(tao_why()) : NULL;

	if (why != NULL && (p->why == NULL || strcmp(why, p->why) != 0))
		host_log("warning", "the parent does not renew its delegation: %s", why);
	else if (e == TAO_OK && p->why != NULL)
		host_log("info", "the parent has renewed its delegation");
	free(p->why);
	p->why = why;
	if (e == TAO_OK)
		return;
	p->renew_at = tao_now_ns() + p->retry;
	p->retry = p->retry < RETRY_LAST_NS / 2 ? 2 * p->retry : RETRY_LAST_NS;
}

static void renew(struct host *h, struct parent *p)
{
	enum tao_err e = same_name(h, p);

	if (e == TAO_OK)
		e = delegate(h, p);
	pthread_mutex_lock(&p->lock);
	keep_why(p, e);
	pthread_mutex_unlock(&p->lock);
}

/* Monotonic: at most as long as until the renewal. With the lock. */
static void sleep_until_due(struct parent *p)
{
	int64_t left = p->renew_at - tao_now_ns();
	struct timespec t;

	if (left > LOOK_SECONDS * SECOND_NS)
		left = LOOK_SECONDS * SECOND_NS;
	clock_gettime(CLOCK_MONOTONIC, &t);
	left += t.tv_nsec;
	t.tv_sec += left / SECOND_NS;
	t.tv_nsec = left % SECOND_NS;
	pthread_cond_timedwait(&p->changed, &p->lock, &t);
}

static void *renewer(void *arg)
{
	struct host *h = arg;
	struct parent *p = h->root_data;

	pthread_mutex_lock(&p->lock);
	while (!p->ends) {
		int64_t now = tao_now_ns();
		/* A clock that was set far back made the delegation, or the next try, one of the
		 * future. */
		int future = p->why == NULL
		             ? now + h->conf.delegation_seconds * SECOND_NS + BACKDATE_NS < p->until
		             : now + RETRY_LAST_NS < p->renew_at;

		if (now < p->renew_at && !future) {
			sleep_until_due(p);
			continue;
		}
		pthread_mutex_unlock(&p->lock);
		renew(h, p);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the table ---- */

static enum tao_err parent_create(const struct host_conf *c, const char *domain_name,
                                  const void *pass, size_t pass_n)
{
	char *path = host_path(c, "host/new");
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e = path != NULL ? cert_name_check(domain_name) : tao_fail_nomem();

	(void)pass;
	(void)pass_n;
	tao_buf_fmt(&text, NEW_FORMAT "%s\n", domain_name);
	if (e == TAO_OK)
		e = tao_buf_err(&text);
	if (e == TAO_OK)
		e = tao_file_write(path, text.p, text.n, 0600, TAO_FILE_NEW);
	tao_buf_free(&text);
	free(path);
	return e;
}

static struct parent *parent_new(void)
{
	struct parent *p = calloc(1, sizeof *p);
	pthread_condattr_t attr;

	if (p == NULL)
		return NULL;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&p->lock, NULL);
	p->retry = RETRY_FIRST_NS;
	return p;
}

static enum tao_err parent_load(struct host *h, const struct tao_buf *pass)
{
	struct parent *p = parent_new();
	struct tao_buf secret = TAO_BUF_INIT;
	struct tao_node *base = NULL;
	enum tao_err e;

	(void)pass;
	h->root_data = p;
	e = p != NULL ? tao_parent_open(&p->tao) : tao_fail_nomem();
	if (e == TAO_OK)
		e = first_name(h, p, &base);
	if (e == TAO_OK)
		e = obtain_secret(h, p, base, &secret);
	if (e == TAO_OK)
		e = root_load_keys(h, secret.p, secret.n);
	if (e == TAO_OK)
		e = guarded(h, p, base, &h->name);
	if (e == TAO_OK)
		e = delegate(h, p);
	if (e == TAO_OK)
		e = trust_own_name(h);
	tao_node_free(base);
	tao_buf_free(&secret);
	return e;
}

static enum tao_err parent_serve(struct host *h)
{
	struct parent *p = h->root_data;

	if (pthread_create(&p->renewer, NULL, renewer, h) != 0)
		return tao_fail(TAO_ESYS, "cannot start the thread that renews the delegation");
	p->has_renewer = 1;
	return TAO_OK;
}

static enum tao_err parent_attest(struct host *h, const struct tao_node *issuer, int64_t from,
                                  int64_t until, const struct tao_node *message,
                                  struct tao_buf *out)
{
	struct parent *p = h->root_data;
	struct tao_buf chain = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	pthread_mutex_lock(&p->lock);
	if (tao_now_ns() >= p->until)
		e = tao_fail(TAO_EEXPIRED, "the parent's delegation to this host has ended and was "
		             "not renewed: see that the parent runs (%.500s)",
		             p->why != NULL ? p->why : "the next try is near");
	else
		tao_buf_put(&chain, p->delegation.p, p->delegation.n);
	pthread_mutex_unlock(&p->lock);
	if (e == TAO_OK)
		e = tao_buf_err(&chain);
	if (e == TAO_OK)
		e = root_attest(h, issuer, from, until, message, &chain, out);
	tao_buf_free(&chain);
	return e;
}

static void parent_facts(struct host *h, struct root_facts *out)
{
	struct parent *p = h->root_data;
	struct tao_node *base = tao_prin_prefix(h->name, tao_prin_ext_count(h->name) - 1);

	out->parent = base != NULL ? tao_node_text(base) : NULL;
	tao_node_free(base);
	pthread_mutex_lock(&p->lock);
	out->delegated_until = p->until / SECOND_NS;
	if (p->why != NULL &&
	    asprintf(&out->warning, "the parent does not renew its delegation: %s", p->why) < 0)
		out->warning = NULL;
	pthread_mutex_unlock(&p->lock);
}

static void parent_clock_set(struct host *h)
{
	struct parent *p = h->root_data;

	pthread_mutex_lock(&p->lock);
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static void parent_end(struct host *h)
{
	struct parent *p = h->root_data;

	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->ends = 1;
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (p->has_renewer)
		pthread_join(p->renewer, NULL);
	tao_parent_close(p->tao);
	tao_buf_free(&p->delegation);
	free(p->why);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
	h->root_data = NULL;
}

const struct host_root host_root_parent = {
	.name = "parent",
	.create = parent_create,
	.load = parent_load,
	.serve = parent_serve,
	.attest = parent_attest,
	.facts = parent_facts,
	.clock_set = parent_clock_set,
	.end = parent_end,
};
