#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "state.h"

#define HEX (2 * TAO_HASH_LEN)
#define MAX_OLD 256 /* executables that one replaces at once */

static void hex(const uint8_t *hash, char out[HEX + 1])
{
	for (size_t i = 0; i < TAO_HASH_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static const uint8_t *hash_arg(const struct fact *f, size_t i)
{
	const struct tao_node *t = f->form->kid[i];

	return t->tag == TAO_BYTES ? (const uint8_t *)t->text : NULL;
}

/* ---- until when an executable is accepted ---- */

void domain_changed(struct domain *d)
{
	size_t end, first = rules_range(&d->rules, "Until", &end);

	atomic_store(&d->limits, end - first);
	atomic_store(&d->version, d->rules.version);
}

/* A clock that was set back behind the newest rules is not believed. */
static int64_t now_of(const struct rules *r)
{
	int64_t written = 0, now = time(NULL);

	fact_time(r->date, strlen(r->date), &written);
	return now > written ? now : written;
}

/* The facts Until([exe], ...), as rules_prefix(). */
static size_t untils(const struct rules *r, const uint8_t *exe, size_t *end)
{
	char prefix[HEX + 32] = "Until([";

	hex(exe, prefix + strlen(prefix));
	strcat(prefix, "], ");
	return rules_prefix(r, prefix, end);
}

static int64_t time_of(const struct fact *f)
{
	const struct tao_node *t = f->form->kid[1];
	int64_t seconds = 0;

	return fact_time(t->text, t->len, &seconds) ? seconds : 0;
}

enum tao_err domain_check_until(struct domain *d, const uint8_t *exe)
{
	size_t end, i = untils(&d->rules, exe, &end);
	int64_t now = i < end ? now_of(&d->rules) : 0;
	char text[HEX + 1];

	for (; i < end; i++) {
		const struct fact *f = &d->rules.fact[i];

		if (now < time_of(f))
			continue;
		hex(exe, text);
		return tao_fail(TAO_EEXPIRED, "the executable [%s] was replaced by an upgrade, and "
		                "accepted until %s: start the program again, so that the new "
		                "executable runs (or 'tao trust' this one again, to go back to it)", text,
		                f->form->kid[1]->text);
	}
	return TAO_OK;
}

enum tao_err domain_executable(struct domain *d, const uint8_t exe[TAO_HASH_LEN])
{
	enum tao_err e;

	if (atomic_load(&d->limits) == 0)
		return TAO_OK;
	pthread_mutex_lock(&d->lock);
	e = domain_check_until(d, exe);
	pthread_mutex_unlock(&d->lock);
	return e;
}

/* ---- who follows whom ---- */

/* A list of executables; each once. */
struct exes {
	const uint8_t **list; /* room for all */
	size_t n;
};

static int exes_have(const struct exes *x, const uint8_t *exe)
{
	for (size_t i = 0; i < x->n; i++)
		if (memcmp(x->list[i], exe, TAO_HASH_LEN) == 0)
			return 1;
	return 0;
}

/* new, and all that it follows, directly or not, up to one that is looked for (may be NULL). */
static enum tao_err followed(const struct rules *r, const uint8_t *new, const uint8_t *until,
                             struct exes *out)
{
	size_t end, first = rules_range(r, "Successor", &end);
	char prefix[HEX + 32];

	out->n = 0;
	out->list = calloc(end - first + 1, sizeof *out->list);
	if (out->list == NULL)
		return tao_fail_nomem();
	out->list[out->n++] = new;
	for (size_t at = 0; at < out->n; at++) {
		strcpy(prefix, "Successor([");
		hex(out->list[at], prefix + strlen(prefix));
		strcat(prefix, "], ");
		for (size_t i = rules_prefix(r, prefix, &end); i < end; i++) {
			const uint8_t *old = hash_arg(&r->fact[i], 1);

			if (!exes_have(out, old))
				out->list[out->n++] = old;
			if (until != NULL && memcmp(old, until, TAO_HASH_LEN) == 0)
				return TAO_OK;
		}
	}
	return TAO_OK;
}

enum tao_err domain_follows(const struct rules *r, const uint8_t *new, const uint8_t *old,
                            int *follows)
{
	struct exes x;
	enum tao_err e = followed(r, new, old, &x);

	if (e == TAO_OK)
		*follows = memcmp(new, old, TAO_HASH_LEN) != 0 && exes_have(&x, old);
	free(x.list);
	return e;
}

/* ---- an upgrade: what changes in a copy of the rules ---- */

struct change {
	struct rules next;
	const struct domain_upgrade *u;
	int64_t now;
	char new_hex[HEX + 1];
	uint8_t old[MAX_OLD][TAO_HASH_LEN];
	size_t n_old;
	struct tao_buf told; /* '+' or '-', a fact, NUL */
};

static enum tao_err copy_rules(const struct rules *from, struct rules *to)
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e;

	rules_init(to, from->domain);
	rules_print(from, &text);
	e = tao_buf_err(&text);
	if (e == TAO_OK && from->version > 0)
		e = rules_parse((const char *)text.p, text.n, to);
	tao_buf_free(&text);
	return e;
}

static void tell(struct change *c, char sign, const char *fact)
{
	tao_buf_u8(&c->told, (uint8_t)sign);
	tao_buf_put(&c->told, fact, strlen(fact) + 1);
}

static enum tao_err add(struct change *c, const char *text)
{
	struct fact f;
	enum tao_err e = fact_parse(text, strlen(text), c->next.domain, &f);

	if (e == TAO_OK && !rules_have(&c->next, f.text)) {
		tell(c, '+', f.text);
		e = rules_insert(&c->next, &f);
	}
	fact_clear(&f);
	return e;
}

static enum tao_err drop(struct change *c, size_t at)
{
	struct fact f = { NULL, NULL };
	char *text = strdup(c->next.fact[at].text);
	enum tao_err e = text != NULL ? rules_take(&c->next, text, &f) : tao_fail_nomem();

	if (e == TAO_OK)
		tell(c, '-', text);
	fact_clear(&f);
	free(text);
	return e;
}

static enum tao_err note_old(struct change *c, const uint8_t *exe)
{
	if (memcmp(exe, c->u->exe, TAO_HASH_LEN) == 0)
		return TAO_OK;
	for (size_t i = 0; i < c->n_old; i++)
		if (memcmp(c->old[i], exe, TAO_HASH_LEN) == 0)
			return TAO_OK;
	if (c->n_old == MAX_OLD)
		return tao_fail(TAO_ELIMIT, "an executable replaces at most %d at once", MAX_OLD);
	memcpy(c->old[c->n_old++], exe, TAO_HASH_LEN);
	return TAO_OK;
}

static enum tao_err add_installed(struct change *c)
{
	struct tao_node *form = tao_pred("Installed", 2, tao_term_bytes(c->u->exe, TAO_HASH_LEN),
	                                 tao_term_str(c->u->path));
	char *text = form != NULL ? tao_node_text(form) : NULL;
	enum tao_err e = text != NULL ? add(c, text) : tao_fail_nomem();

	tao_node_free(form);
	free(text);
	return e;
}

/* What was at this path before, and is not any more. */
static enum tao_err take_installed(struct change *c)
{
	size_t end, i = rules_range(&c->next, "Installed", &end);
	enum tao_err e = TAO_OK;

	while (e == TAO_OK && i < end) {
		const struct fact *f = &c->next.fact[i];

		if (strcmp(f->form->kid[1]->text, c->u->path) != 0 ||
		    memcmp(hash_arg(f, 0), c->u->exe, TAO_HASH_LEN) == 0) {
			i++;
			continue;
		}
		e = note_old(c, hash_arg(f, 0));
		if (e == TAO_OK)
			e = drop(c, i);
		end--;
	}
	return e == TAO_OK ? add_installed(c) : e;
}

/* The same fact about the new executable. */
static enum tao_err add_renamed(struct change *c, const char *fact, const char *old_hex)
{
	struct tao_buf b = TAO_BUF_INIT;
	const char *at;
	enum tao_err e;

	while ((at = strstr(fact, old_hex)) != NULL) {
		tao_buf_put(&b, fact, (size_t)(at - fact));
		tao_buf_str(&b, c->new_hex);
		fact = at + HEX;
	}
	tao_buf_str(&b, fact);
	e = tao_buf_err(&b);
	if (e == TAO_OK)
		e = add(c, tao_buf_cstr(&b));
	tao_buf_free(&b);
	return e;
}

/* What the rules give to the old one, they give to the new one. */
static enum tao_err inherit(struct change *c, const char *old_hex)
{
	static const char *const given[] = { "TrustedProgram", "Serves", "Connect", "Unseal" };
	enum tao_err e = TAO_OK;

	for (size_t g = 0; e == TAO_OK && g < sizeof given / sizeof *given; g++) {
		struct tao_buf list = TAO_BUF_INIT; /* the set moves as it grows */
		size_t end, i = rules_range(&c->next, given[g], &end);

		for (; i < end; i++)
			if (strstr(c->next.fact[i].text, old_hex) != NULL)
				tao_buf_put(&list, c->next.fact[i].text, strlen(c->next.fact[i].text) + 1);
		e = tao_buf_err(&list);
		for (size_t at = 0; e == TAO_OK && at < list.n; at += strlen((char *)list.p + at) + 1)
			e = add_renamed(c, (char *)list.p + at, old_hex);
		tao_buf_free(&list);
	}
	return e;
}

/* Not if another of the old ones follows it: then the new one follows that. */
static enum tao_err succeed(struct change *c, const uint8_t *old)
{
	char fact[2 * HEX + 32], old_hex[HEX + 1];
	int have = 0;
	enum tao_err e = domain_follows(&c->next, c->u->exe, old, &have);

	for (size_t i = 0; e == TAO_OK && !have && i < c->n_old; i++) {
		int back = 0;

		e = domain_follows(&c->next, c->old[i], old, &have);
		if (e == TAO_OK && have)
			e = domain_follows(&c->next, old, c->old[i], &back);
		have = have && !back;
	}
	if (e != TAO_OK || have)
		return e;
	hex(old, old_hex);
	snprintf(fact, sizeof fact, "Successor([%s], [%s])", c->new_hex, old_hex);
	e = add(c, fact);
	return e == TAO_OK ? inherit(c, old_hex) : e;
}

/* What has ended stays so; another time that was told before does not. */
static enum tao_err limit(struct change *c, const uint8_t *exe)
{
	char fact[HEX + 64], old_hex[HEX + 1], when[FACT_TIME_MAX];
	size_t end, i = untils(&c->next, exe, &end);
	enum tao_err e = TAO_OK;

	for (; i < end; end--) {
		if (time_of(&c->next.fact[i]) <= c->now)
			return TAO_OK;
		e = drop(c, i);
		if (e != TAO_OK)
			return e;
	}
	hex(exe, old_hex);
	if (!fact_time_text(c->u->until, when))
		return tao_fail(TAO_EINVAL, "this time is too far away");
	snprintf(fact, sizeof fact, "Until([%s], \"%s\")", old_hex, when);
	return add(c, fact);
}

static enum tao_err limit_all(struct change *c)
{
	struct exes x;
	enum tao_err e = followed(&c->next, c->u->exe, NULL, &x);
	uint8_t exe[TAO_HASH_LEN];

	/* The list points into facts, which limit() moves but does not free. */
	for (size_t i = 1; e == TAO_OK && i < x.n; i++) {
		memcpy(exe, x.list[i], sizeof exe);
		e = limit(c, exe);
	}
	free(x.list);
	return e;
}

static enum tao_err change(struct change *c)
{
	size_t end, i;
	enum tao_err e = TAO_OK;

	for (i = 0; e == TAO_OK && i < c->u->n_old; i++)
		e = note_old(c, c->u->old[i]);
	if (e == TAO_OK)
		e = take_installed(c);
	if (e == TAO_OK && c->u->until != 0 && c->n_old == 0) {
		struct exes x; /* named before, without a time */

		e = followed(&c->next, c->u->exe, NULL, &x);
		if (e == TAO_OK && x.n == 1)
			e = tao_fail(TAO_ENOTFOUND, "no older executable of %s is known that this one "
			             "replaces: name it with --replaces HASH, which 'tao key show' prints "
			             "for its keys", c->u->path);
		free(x.list);
	}
	for (i = 0; e == TAO_OK && i < c->n_old; i++)
		e = succeed(c, c->old[i]);
	for (i = untils(&c->next, c->u->exe, &end); e == TAO_OK && i < end; end--)
		e = drop(c, i); /* it is the one that is wanted now */
	if (e == TAO_OK && c->u->until != 0)
		e = limit_all(c);
	return e == TAO_OK ? tao_buf_err(&c->told) : e;
}

/* Lock held: the copy takes the rules' place, if it was written. */
static enum tao_err put_in_place(struct domain *d, struct change *c)
{
	EVP_PKEY *key = NULL;
	enum tao_err e = tao_signer_open(&d->signer, &key);

	if (e == TAO_OK)
		e = rules_save(d->rules_path, key, &c->next);
	if (e == TAO_OK) {
		rules_clear(&d->rules);
		d->rules = c->next;
		memset(&c->next, 0, sizeof c->next);
		domain_changed(d);
	}
	EVP_PKEY_free(key);
	return e;
}

enum tao_err domain_upgrade(struct domain *d, const struct domain_upgrade *u,
                            void (*each)(const char *fact, int removed, void *arg), void *arg)
{
	struct change *c = calloc(1, sizeof *c);
	enum tao_err e;

	if (c == NULL)
		return tao_fail_nomem();
	c->told = (struct tao_buf)TAO_BUF_INIT;
	c->u = u;
	hex(u->exe, c->new_hex);
	pthread_mutex_lock(&d->lock);
	c->now = now_of(&d->rules);
	e = copy_rules(&d->rules, &c->next);
	if (e == TAO_OK)
		e = change(c);
	if (e == TAO_OK && c->told.n > 0)
		e = put_in_place(d, c);
	pthread_mutex_unlock(&d->lock);
	for (size_t at = 0; e == TAO_OK && at < c->told.n; at += strlen((char *)c->told.p + at) + 1)
		each((char *)c->told.p + at + 1, c->told.p[at] == '-', arg);
	rules_clear(&c->next);
	tao_buf_free(&c->told);
	free(c);
	return e;
}
