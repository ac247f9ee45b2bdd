#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "../tao/file.h"
#include "cert.h"

#define MAX_CERT_FILE 65536 /* bytes of policy.pem */

static char *join(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* ---- make ---- */

struct paths {
	char *key, *cert, *rules;
};

static enum tao_err paths_set(struct paths *p, const char *dir)
{
	p->key = join(dir, "policy.key");
	p->cert = join(dir, "policy.pem");
	p->rules = join(dir, "rules");
	return p->key != NULL && p->cert != NULL && p->rules != NULL ? TAO_OK : tao_fail_nomem();
}

static void paths_clear(struct paths *p)
{
	free(p->key);
	free(p->cert);
	free(p->rules);
}

static enum tao_err write_cert(const char *path, EVP_PKEY *key, const char *name)
{
	struct tao_buf pem = TAO_BUF_INIT;
	X509 *cert = NULL;
	enum tao_err e = cert_policy(key, name, &cert);

	if (e == TAO_OK)
		e = cert_to_pem(cert, &pem);
	if (e == TAO_OK)
		e = tao_file_write(path, pem.p, pem.n, 0644, 0);
	X509_free(cert);
	tao_buf_free(&pem);
	return e;
}

static enum tao_err write_rules(const char *path, EVP_PKEY *key)
{
	uint8_t id[TAO_HASH_LEN];
	struct rules rules;
	enum tao_err e = tao_key_hash(key, id);

	if (e != TAO_OK)
		return e;
	rules_init(&rules, id);
	e = rules_save(path, key, &rules);
	rules_clear(&rules);
	return e;
}

enum tao_err domain_create(const char *dir, const char *name, const void *pass, size_t pass_n)
{
	struct paths p = { NULL, NULL, NULL };
	struct tao_keyset ks = { 0 };
	enum tao_err e = cert_name_check(name);

	if (e == TAO_OK)
		e = paths_set(&p, dir);
	if (e == TAO_OK)
		e = tao_keyset_generate(&ks);
	if (e == TAO_OK)
		e = tao_dir_make(dir, 0755);
	if (e != TAO_OK)
		goto out;
	/* The key first: its file is never overwritten, so whoever wrote it owns the rest. */
	e = tao_keyset_save(p.key, &ks, pass, pass_n);
	if (e == TAO_EEXIST)
		tao_fail(e, "there is a domain in %s already: use it, or choose another directory",
		         dir);
	if (e != TAO_OK)
		goto out;
	e = write_cert(p.cert, ks.signer, name);
	if (e == TAO_OK)
		e = write_rules(p.rules, ks.signer);
	if (e != TAO_OK) {
		unlink(p.cert);
		unlink(p.rules);
		unlink(p.key);
	}
out:
	tao_keyset_clear(&ks);
	paths_clear(&p);
	return e;
}

/* ---- load ---- */

static enum tao_err read_cert(const char *path, X509 **out)
{
	struct tao_buf pem = TAO_BUF_INIT;
	BIO *bio = NULL;
	enum tao_err e = tao_file_read(path, MAX_CERT_FILE, &pem);

	if (e != TAO_OK)
		goto out;
	bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	ERR_set_mark();
	*out = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	ERR_pop_to_mark();
	if (*out == NULL)
		e = tao_fail(TAO_EFORMAT, "%s is not a certificate: put a good copy of it back",
		             path);
out:
	BIO_free(bio);
	tao_buf_free(&pem);
	return e;
}

/* policy.pem belongs to policy.key, and is as it was signed. */
static enum tao_err check_cert(const char *path, X509 *cert, EVP_PKEY *key)
{
	enum tao_err e = TAO_OK;

	ERR_set_mark();
	if (EVP_PKEY_eq(X509_get0_pubkey(cert), key) != 1)
		e = tao_fail(TAO_ESIGNATURE,
		             "%s is not the certificate of policy.key beside it: put "
		             "this domain's own back",
		             path);
	else if (X509_verify(cert, key) != 1)
		e = tao_fail(TAO_ESIGNATURE, "%s was altered: put a good copy of it back", path);
	ERR_pop_to_mark();
	return e;
}

static enum tao_err load_key(struct domain *d, const char *path, const void *pass, size_t pass_n)
{
	struct tao_keyset ks = { 0 };
	enum tao_err e = tao_keyset_load(path, pass, pass_n, &ks);

	if (e == TAO_OK)
		e = tao_signer_init(&d->signer, ks.signer);
	tao_keyset_clear(&ks);
	return e;
}

/* What a signature of this key looks like is seen from one that it makes. */
static enum tao_err load_rules(struct domain *d, const char *path)
{
	EVP_PKEY *key = NULL;
	enum tao_err e = tao_signer_open(&d->signer, &key);

	rules_init(&d->rules, d->id);
	if (e == TAO_OK)
		e = rules_load(path, key, &d->rules);
	domain_changed(d);
	EVP_PKEY_free(key);
	return e;
}

static enum tao_err load_files(struct domain *d, const struct paths *p, const void *pass,
                               size_t pass_n)
{
	enum tao_err e = load_key(d, p->key, pass, pass_n);

	if (e == TAO_OK)
		e = tao_key_hash(d->signer.public, d->id);
	if (e != TAO_OK)
		return e;
	e = read_cert(p->cert, &d->cert);
	if (e == TAO_OK)
		e = check_cert(p->cert, d->cert, d->signer.public);
	if (e == TAO_OK)
		e = load_rules(d, p->rules);
	if (e == TAO_ENOTFOUND)
		tao_fail(e,
		         "the domain is not complete: put a copy of the file back, or remove the "
		         "directory and make a new domain (%.600s)",
		         tao_why());
	return e;
}

enum tao_err domain_load(const char *dir, const void *pass, size_t pass_n, struct domain **out)
{
	struct paths p = { NULL, NULL, NULL };
	struct domain *d = calloc(1, sizeof *d);
	enum tao_err e;

	*out = NULL;
	if (d == NULL)
		return tao_fail_nomem();
	pthread_mutex_init(&d->lock, NULL);
	e = paths_set(&p, dir);
	if (e == TAO_OK)
		e = load_files(d, &p, pass, pass_n);
	if (e == TAO_OK) {
		d->rules_path = p.rules;
		p.rules = NULL;
		*out = d;
	} else {
		domain_free(d);
	}
	paths_clear(&p);
	return e;
}

void domain_free(struct domain *d)
{
	if (d == NULL)
		return;
	rules_clear(&d->rules);
	X509_free(d->cert);
	tao_signer_clear(&d->signer);
	free(d->rules_path);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

const uint8_t *domain_id(const struct domain *d)
{
	return d->id;
}

enum tao_err domain_policy_key(const struct domain *d, uint8_t hash[TAO_HASH_LEN])
{
	return tao_key_hash(d->signer.public, hash);
}

enum tao_err domain_policy_cert(struct domain *d, struct tao_buf *der)
{
	return cert_to_der(d->cert, der);
}

/* ---- rules ---- */

/* Lock held. */
static enum tao_err save_rules(struct domain *d)
{
	EVP_PKEY *key = NULL;
	enum tao_err e = tao_signer_open(&d->signer, &key);

	if (e == TAO_OK)
		e = rules_save(d->rules_path, key, &d->rules);
	if (e == TAO_OK)
		domain_changed(d);
	EVP_PKEY_free(key);
	return e;
}

enum tao_err domain_add_fact(struct domain *d, const char *fact)
{
	struct fact f;
	char *text = NULL;
	enum tao_err e = fact_parse(fact, strlen(fact), d->id, &f);

	if (e != TAO_OK)
		return e;
	text = strdup(f.text);
	if (text == NULL) {
		fact_clear(&f);
		return tao_fail_nomem();
	}
	pthread_mutex_lock(&d->lock);
	e = rules_insert(&d->rules, &f);
	if (e == TAO_OK) {
		e = save_rules(d);
		if (e != TAO_OK)
			rules_take(&d->rules, text, &f);
	}
	pthread_mutex_unlock(&d->lock);
	fact_clear(&f);
	free(text);
	return e;
}

enum tao_err domain_remove_fact(struct domain *d, const char *fact)
{
	struct fact f, taken = { NULL, NULL };
	enum tao_err e = fact_parse(fact, strlen(fact), d->id, &f);

	if (e != TAO_OK)
		return e;
	pthread_mutex_lock(&d->lock);
	e = rules_take(&d->rules, f.text, &taken);
	if (e == TAO_OK) {
		e = save_rules(d);
		if (e != TAO_OK) /* there is room: it was just taken out */
			rules_insert(&d->rules, &taken);
	}
	pthread_mutex_unlock(&d->lock);
	fact_clear(&taken);
	fact_clear(&f);
	return e;
}

uint64_t domain_rules_version(struct domain *d)
{
	return atomic_load(&d->version);
}

enum tao_err domain_rules(struct domain *d, uint64_t *version, char date[32],
                          void (*each)(const char *fact, void *arg), void *arg)
{
	struct tao_buf copy = TAO_BUF_INIT;
	enum tao_err e;

	/* A copy: the callback is free to take its time, and to ask the domain. */
	pthread_mutex_lock(&d->lock);
	*version = d->rules.version;
	memcpy(date, d->rules.date, RULES_DATE_MAX);
	for (size_t i = 0; i < d->rules.n; i++)
		tao_buf_put(&copy, d->rules.fact[i].text, strlen(d->rules.fact[i].text) + 1);
	pthread_mutex_unlock(&d->lock);
	e = tao_buf_err(&copy);
	for (size_t at = 0; e == TAO_OK && at < copy.n; at += strlen((char *)copy.p + at) + 1)
		each((const char *)copy.p + at, arg);
	tao_buf_free(&copy);
	return e;
}

/* ---- questions ---- */

/* The fact name([a]) or name([a], [b]) is there; lock held. */
static enum tao_err have_hashes(struct domain *d, const char *name, const uint8_t *a,
                                const uint8_t *b, int *have)
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e;

	tao_buf_fmt(&text, "%s([", name);
	tao_buf_hex(&text, a, TAO_HASH_LEN);
	if (b != NULL) {
		tao_buf_str(&text, "], [");
		tao_buf_hex(&text, b, TAO_HASH_LEN);
	}
	tao_buf_str(&text, "])");
	e = tao_buf_err(&text);
	if (e == TAO_OK)
		*have = rules_have(&d->rules, tao_buf_cstr(&text));
	tao_buf_free(&text);
	return e;
}

static void hex(const uint8_t *hash, char out[2 * TAO_HASH_LEN + 1])
{
	for (size_t i = 0; i < TAO_HASH_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

/* what: of which hash is spoken. */
static enum tao_err check_hash(struct domain *d, const uint8_t *hash, const char *what)
{
	char text[2 * TAO_HASH_LEN + 1];
	int revoked = 0;
	enum tao_err e = have_hashes(d, "Revoked", hash, NULL, &revoked);

	if (e != TAO_OK || !revoked)
		return e;
	hex(hash, text);
	return tao_fail(TAO_EDENIED,
	                "the domain has revoked %s [%s]: replace it; its owner can take "
	                "the rule Revoked([%s]) back",
	                what, text, text);
}

typedef int covers_fn(const struct tao_node *pattern, const void *arg);

/* The rule Revoked(X) for whose X the test says yes. */
static enum tao_err check_revoked(struct domain *d, covers_fn *test, const void *arg,
                                  const char *what)
{
	size_t end, i = rules_range(&d->rules, "Revoked", &end);

	for (; i < end; i++) {
		const struct fact *f = &d->rules.fact[i];

		if (f->form->kid[0]->tag == TAO_PRIN && test(f->form->kid[0], arg))
			return tao_fail(TAO_EDENIED,
			                "the domain has revoked %s: its owner can take the "
			                "rule back: %.700s",
			                what, f->text);
	}
	return TAO_OK;
}

static int covers_node(const struct tao_node *pattern, const void *arg)
{
	return fact_covers(pattern, arg);
}

static int covers_program(const struct tao_node *pattern, const void *arg)
{
	return fact_covers_program(pattern, arg);
}

static enum tao_err deny_host(const struct tao_node *host)
{
	char *text = tao_node_text(host);

	tao_fail(TAO_EDENIED,
	         "the domain does not trust the host: its owner can allow it "
	         "with the rule TrustedHost(%.880s)",
	         text != NULL ? text : "?");
	free(text);
	return TAO_EDENIED;
}

/* The programs that a stacked host stands on, itself included. */
static enum tao_err check_below(struct domain *d, const struct tao_node *name, size_t n)
{
	enum tao_err e = TAO_OK;

	for (size_t i = 1; e == TAO_OK && i <= n; i++) {
		const uint8_t *exe = fact_measured(name->kid[i]);

		if (exe != NULL)
			e = check_hash(d, exe, "a program that the host stands on,");
	}
	return e;
}

enum tao_err domain_check_host(struct domain *d, const struct tao_node *host)
{
	size_t end, i = rules_range(&d->rules, "TrustedHost", &end);
	enum tao_err e;

	if (host->tag != TAO_PRIN)
		return tao_fail(TAO_EDENIED, "this is not the name of a host");
	while (i < end && !fact_match(d->rules.fact[i].form->kid[0], host))
		i++;
	if (i == end)
		return deny_host(host);
	if (host->kid[0]->tag == TAO_BYTES && host->kid[0]->len == TAO_HASH_LEN) {
		e = check_hash(d, (const uint8_t *)host->kid[0]->text, "the host's key");
		if (e != TAO_OK)
			return e;
	}
	e = check_below(d, host, tao_prin_ext_count(host));
	return e == TAO_OK ? check_revoked(d, covers_node, host, "the host") : e;
}

/* Neither the program nor anything on the way to it. */
static enum tao_err check_program_revoked(struct domain *d, const struct fact_program *p)
{
	char what[2 * TAO_HASH_LEN + 32] = "the program [";
	enum tao_err e = check_hash(d, p->host_key, "the host's key");

	if (e == TAO_OK)
		e = check_below(d, p->name, p->n_host);
	if (e == TAO_OK)
		e = check_hash(d, p->exe, "the program");
	if (e == TAO_OK && !p->is_process)
		e = domain_check_until(d, p->exe);
	hex(p->exe, what + strlen(what));
	strcat(what, "]");
	if (e == TAO_OK)
		e = check_revoked(d, covers_program, p, what);
	return e;
}

/* By its hash, unless that is a hint only; or by its name. */
static enum tao_err is_trusted(struct domain *d, const struct fact_program *p, int *trusted)
{
	size_t end, i = rules_range(&d->rules, "TrustedProgram", &end);

	*trusted = 0;
	for (; i < end && !*trusted; i++) {
		const struct tao_node *t = d->rules.fact[i].form->kid[0];

		*trusted = t->tag == TAO_PRIN && fact_means_program(t, p);
	}
	return *trusted || p->is_process ? TAO_OK
	                                 : have_hashes(d, "TrustedProgram", p->exe, NULL, trusted);
}

static enum tao_err deny_process(const struct fact_program *p)
{
	char *text = tao_node_text(p->local);

	tao_fail(TAO_EDENIED,
	         "the domain does not trust this process, which was not started with 'tao run': "
	         "start it so, or its owner can allow it with the rule TrustedProgram(%.500s)",
	         text != NULL ? text : "?");
	free(text);
	return TAO_EDENIED;
}

enum tao_err domain_check_program(struct domain *d, const struct fact_program *p,
                                  const uint8_t *subject)
{
	char text[2 * TAO_HASH_LEN + 1];
	int trusted = 0;
	enum tao_err e = is_trusted(d, p, &trusted);

	if (e == TAO_OK && !trusted && p->is_process)
		e = deny_process(p);
	if (e == TAO_OK && !trusted) {
		hex(p->exe, text);
		e = tao_fail(TAO_EDENIED,
		             "the domain does not trust the program [%s]: its owner can "
		             "allow it with 'tao trust PATH'",
		             text);
	}
	if (e == TAO_OK)
		e = domain_check_revoked(d, p, subject);
	return e;
}

enum tao_err domain_check_revoked(struct domain *d, const struct fact_program *p,
                                  const uint8_t *subject)
{
	enum tao_err e = check_program_revoked(d, p);

	if (e == TAO_OK && subject != NULL)
		e = check_hash(d, subject, "the key");
	return e;
}

enum tao_err domain_trusts_host(struct domain *d, const struct tao_node *host)
{
	enum tao_err e;

	pthread_mutex_lock(&d->lock);
	e = domain_check_host(d, host);
	pthread_mutex_unlock(&d->lock);
	return e;
}

enum tao_err domain_trusts_program(struct domain *d, const struct tao_node *name)
{
	struct fact_program p;
	enum tao_err e = fact_program(name, d->id, &p);

	if (e == TAO_OK) {
		pthread_mutex_lock(&d->lock);
		e = domain_check_program(d, &p, NULL);
		pthread_mutex_unlock(&d->lock);
	}
	fact_program_clear(&p);
	return e;
}

enum tao_err domain_self_contained(struct domain *d, const uint8_t exe[TAO_HASH_LEN])
{
	char text[2 * TAO_HASH_LEN + 1];
	int have = 0;
	enum tao_err e;

	pthread_mutex_lock(&d->lock);
	e = check_hash(d, exe, "the program");
	if (e == TAO_OK)
		e = domain_check_until(d, exe);
	if (e == TAO_OK)
		e = have_hashes(d, "SelfContained", exe, NULL, &have);
	pthread_mutex_unlock(&d->lock);
	hex(exe, text);
	if (e == TAO_OK && !have)
		e = tao_fail(TAO_EDENIED,
		             "no rule says that the program [%s] is self-contained: run it "
		             "without --measure=program, or let the domain's owner add the rule "
		             "SelfContained([%s])",
		             text, text);
	return e;
}

enum tao_err domain_successor(struct domain *d, const uint8_t new_exe[TAO_HASH_LEN],
                              const uint8_t old_exe[TAO_HASH_LEN])
{
	char new_text[2 * TAO_HASH_LEN + 1], old_text[2 * TAO_HASH_LEN + 1];
	int have = 0;
	enum tao_err e;

	pthread_mutex_lock(&d->lock);
	e = check_hash(d, new_exe, "the program");
	if (e == TAO_OK)
		e = domain_check_until(d, new_exe);
	if (e == TAO_OK)
		e = have_hashes(d, "Successor", new_exe, old_exe, &have);
	if (e == TAO_OK && !have)
		e = domain_follows(&d->rules, new_exe, old_exe, &have);
	pthread_mutex_unlock(&d->lock);
	hex(new_exe, new_text);
	hex(old_exe, old_text);
	if (e == TAO_OK && !have)
		e = tao_fail(TAO_EDENIED,
		             "the program [%s] does not follow [%s]: if it is its upgrade, "
		             "the domain's owner can add the rule Successor([%s], [%s])",
		             new_text, old_text, new_text, old_text);
	return e;
}

static int may_unseal(struct domain *d, const struct fact_program *p, const char *label)
{
	size_t end, i = rules_range(&d->rules, "Unseal", &end);

	for (; i < end; i++) {
		struct tao_node *const *arg = d->rules.fact[i].form->kid;

		if (strcmp(arg[1]->text, label) == 0 && fact_means_program(arg[0], p))
			return 1;
	}
	return 0;
}

enum tao_err domain_may_unseal(struct domain *d, const struct tao_node *name, const char *label)
{
	char text[2 * TAO_HASH_LEN + 1];
	struct fact_program p;
	enum tao_err e = fact_program(name, d->id, &p);

	if (e == TAO_OK) {
		pthread_mutex_lock(&d->lock);
		e = check_program_revoked(d, &p);
		if (e == TAO_OK && !may_unseal(d, &p, label)) {
			hex(p.exe, text);
			e = tao_fail(TAO_EDENIED,
			             "no rule lets the program [%s] unseal \"%.200s\": the "
			             "domain's owner can add Unseal(PRINCIPAL, \"%.200s\")",
			             text, label, label);
		}
		pthread_mutex_unlock(&d->lock);
	}
	fact_program_clear(&p);
	return e;
}
