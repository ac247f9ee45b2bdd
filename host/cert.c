#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "host.h"
#include "imported.h"
#include "root.h"
#include "../tao/attest.h"
#include "../tao/file.h"
#include "../tao/stub.h"

#define MAX_CERT 65536
#define MAX_WHY 4096
#define RENEW_PART 3     /* a certificate that has lived this part of its life is renewed */
#define JITTER_PART 12   /* or up to this part later, each at its own time */
#define STATEMENT_NS (600LL * 1000000000) /* the domain answers at once */
#define BACKDATE_NS (60LL * 1000000000)   /* clocks of one machine, set back a little */

static char *why_path(struct host *h, uid_t uid, const char *name)
{
	return host_path(&h->conf, "certs/%u/%s.why", (unsigned)uid, name);
}

char *cert_refusal(struct host *h, uid_t uid, const char *name)
{
	struct tao_buf b = TAO_BUF_INIT;
	char *path = why_path(h, uid, name), *text = NULL;

	if (path != NULL && tao_file_read(path, MAX_WHY, &b) == TAO_OK)
		text = tao_buf_steal(&b);
	free(path);
	tao_buf_free(&b);
	return text;
}

static void keep_refusal(struct host *h, uid_t uid, const char *name, const char *why)
{
	char *path = why_path(h, uid, name);

	if (path != NULL && why != NULL)
		tao_file_write(path, why, strlen(why), 0644, 0);
	else if (path != NULL)
		unlink(path);
	free(path);
}

static enum tao_err read_pem(const char *path, X509 **out)
{
	struct tao_buf pem = TAO_BUF_INIT;
	enum tao_err e = tao_file_read(path, MAX_CERT, &pem);
	BIO *bio = NULL;

	*out = NULL;
	if (e == TAO_OK) {
		bio = BIO_new_mem_buf(pem.p, (int)pem.n);
		*out = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
		if (*out == NULL) {
			e = tao_fail_crypto("%s holds no certificate", path);
			e = tao_fail(TAO_EFORMAT, "%s: start the program again with 'tao run' for "
			             "a new one", tao_why());
		}
	}
	BIO_free(bio);
	tao_buf_free(&pem);
	return e;
}

static int64_t not_after_of(X509 *x)
{
	return certchain_time(X509_get0_notAfter(x));
}

static enum tao_err to_der(X509 *x, struct tao_buf *der)
{
	unsigned char *p = NULL;
	int n = i2d_X509(x, &p);

	if (n <= 0)
		return tao_fail_crypto("writing a certificate");
	tao_buf_put(der, p, (size_t)n);
	OPENSSL_free(p);
	return tao_buf_err(der);
}

enum tao_err cert_on_file(struct host *h, uid_t uid, const char *name, struct tao_buf *der,
                          int64_t *not_after)
{
	char *path = keystore_cert_path(h, uid, name), *why;
	X509 *x = NULL;
	enum tao_err e = path != NULL ? read_pem(path, &x) : tao_fail_nomem();

	if (e == TAO_ENOTFOUND) {
		why = cert_refusal(h, uid, name);
		e = why != NULL
		    ? tao_fail(TAO_ENOTFOUND, "key %s has no certificate: %s", name, why)
		    : tao_fail(TAO_ENOTFOUND, "key %s has no certificate yet: it gets one when its "
		               "program is started with 'tao run'", name);
		free(why);
	}
	if (e == TAO_OK && der != NULL)
		e = to_der(x, der);
	if (e == TAO_OK && not_after != NULL)
		*not_after = not_after_of(x);
	X509_free(x);
	free(path);
	return e;
}

/* Seconds of life at which this certificate is due. Its serial number is random, and the same
 * at every look. */
static int64_t due(const struct host *h, const X509 *x)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
	int64_t life = h->conf.cert_seconds;
	int byte = ASN1_STRING_length(serial) > 0
	           ? ASN1_STRING_get0_data(serial)[ASN1_STRING_length(serial) - 1] : 0;

	return life - life / RENEW_PART - life * byte / 256 / JITTER_PART;
}

/* 1 if the certificate names this principal, by its URI. */
static int names(X509 *x, const char *urn)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	int named = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type == GEN_URI && (size_t)ASN1_STRING_length(g->d.ia5) == strlen(urn) &&
		    memcmp(ASN1_STRING_get0_data(g->d.ia5), urn, strlen(urn)) == 0)
			named = 1;
	}
	GENERAL_NAMES_free(names);
	return named;
}

/* 1 if it names this principal and key, and is not yet due: a program that starts now may run
 * for long. */
static int fits(struct host *h, X509 *x, const char *urn, const struct key_facts *f)
{
	uint8_t hash[TAO_HASH_LEN];

	/* Not yet valid: the clock was set back. */
	return names(x, urn) && not_after_of(x) - time(NULL) > due(h, x) &&
	       ASN1_TIME_cmp_time_t(X509_get0_notBefore(x), time(NULL)) <= 0 &&
	       tao_key_hash(X509_get0_pubkey(x), hash) == TAO_OK &&
	       memcmp(hash, f->spki_hash, sizeof hash) == 0;
}

static enum tao_err to_pem(const struct tao_buf *der, struct tao_buf *pem)
{
	const unsigned char *p = der->p;
	X509 *x = d2i_X509(NULL, &p, (long)der->n);
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	enum tao_err e = TAO_OK;
	long n;

	if (x == NULL || bio == NULL || PEM_write_bio_X509(bio, x) != 1) {
		e = tao_fail_crypto("writing a certificate");
	} else {
		n = BIO_get_mem_data(bio, &text);
		tao_buf_put(pem, text, (size_t)n);
		e = tao_buf_err(pem);
	}
	BIO_free(bio);
	X509_free(x);
	return e;
}

/* The file that has a certificate which the domain gave under rules of that time. */
static enum tao_err prepare(const char *path, const struct tao_buf *der, struct timespec rules,
                            struct tao_file **file)
{
	struct tao_buf pem = TAO_BUF_INIT;
	enum tao_err e = to_pem(der, &pem);

	if (e == TAO_OK)
		e = tao_file_prepare(path, pem.p, pem.n, 0644, &rules, file);
	tao_buf_free(&pem);
	return e;
}

/* SealedKey(NAME, [hash], "key name", "purpose"), and "imported" where it is so. */
static struct tao_node *sealed_key(const struct tao_node *name, const struct key_facts *f)
{
	struct tao_node *hash = tao_term_bytes(f->spki_hash, sizeof f->spki_hash);

	if (f->imported)
		return tao_pred("SealedKey", 5, tao_node_dup(name), hash, tao_term_str(f->name),
		                tao_term_str(f->purpose), tao_term_str("imported"));
	return tao_pred("SealedKey", 4, tao_node_dup(name), hash, tao_term_str(f->name),
	                tao_term_str(f->purpose));
}

/* The host's statement about the key, and the domain's answer to it. */
static enum tao_err issue(struct host *h, const struct tao_node *name, const struct key_facts *f,
                          struct tao_buf *der)
{
	struct tao_node *said = sealed_key(name, f);
	struct tao_buf att = TAO_BUF_INIT;
	int64_t now = tao_now_ns();
	enum tao_err e = said != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK)
		e = h->conf.root->attest(h, h->name, now - BACKDATE_NS, now + STATEMENT_NS, said,
		                         &att);
	if (e == TAO_OK)
		e = domain_issue(h->domain, att.p, att.n, f->spki, f->spki_n, h->conf.cert_seconds,
		                 der);
	tao_node_free(said);
	tao_buf_free(&att);
	return e;
}

/* When the rules were last written; a certificate's file has the same time, whatever the
 * clock says: it may have been set back since. */
static struct timespec rules_time(struct host *h)
{
	char *rules = host_path(&h->conf, "domain/rules");
	struct stat st = { 0 };

	if (rules == NULL || stat(rules, &st) != 0)
		st.st_mtim.tv_sec = 0;
	free(rules);
	return st.st_mtim;
}

/* 1 if the rules changed since: the program may have other DNS names by now, or no trust. */
static int rules_changed(struct host *h, const char *path)
{
	struct timespec r = rules_time(h);
	struct stat c;

	return stat(path, &c) != 0 || r.tv_sec != c.st_mtim.tv_sec ||
	       r.tv_nsec != c.st_mtim.tv_nsec;
}

static enum tao_err reuse(struct host *h, const struct tao_node *name, const struct key_facts *f,
                          struct tao_buf *der)
{
	struct tao_buf urn = TAO_BUF_INIT;
	char *path = keystore_cert_path(h, f->uid, f->name);
	X509 *x = NULL;
	enum tao_err e = path != NULL ? domain_principal_urn(name, &urn) : tao_fail_nomem();

	if (e == TAO_OK)
		e = read_pem(path, &x);
	if (e == TAO_OK && (rules_changed(h, path) || !fits(h, x, tao_buf_cstr(&urn), f)))
		e = TAO_ENOTFOUND;
	if (e == TAO_OK)
		e = to_der(x, der);
	X509_free(x);
	free(path);
	tao_buf_free(&urn);
	return e;
}

/* Whether another running instance is the one that the certificate names. */
struct holder {
	const struct tao_node *name;
	X509 *cert;
	const struct key_facts *facts;
	struct host *host;
	int found;
};

static void is_holder(struct instance *i, void *arg)
{
	struct holder *w = arg;
	struct tao_buf urn = TAO_BUF_INIT;

	if (!w->found && instance_runs(i) && !tao_node_equal(instance_name(i), w->name) &&
	    domain_principal_urn(instance_name(i), &urn) == TAO_OK)
		w->found = fits(w->host, w->cert, tao_buf_cstr(&urn), w->facts);
	tao_buf_free(&urn);
}

/* A server reads its file again at a reload: another start of the program, with
 * other arguments, must not have put its own name there meanwhile. */
static int is_held(struct host *h, const struct tao_node *name, const struct key_facts *f,
                   const char *path)
{
	struct holder w = { .name = name, .facts = f, .host = h };

	if (path == NULL || read_pem(path, &w.cert) != TAO_OK)
		return 0;
	registry_each(h->registry, is_holder, &w);
	X509_free(w.cert);
	return w.found;
}

/* Another generation has taken the key's place, or it was deleted. */
static int is_past(struct host *h, const struct key_facts *f)
{
	struct tao_buf stub = TAO_BUF_INIT;
	struct tao_stub now;
	int past = keystore_get(h, f->uid, f->name, &stub) != TAO_OK ||
	           tao_stub_parse(stub.p, stub.n, &now) != TAO_OK || now.spki_n != f->spki_n ||
	           memcmp(now.spki, f->spki, f->spki_n) != 0;

	tao_buf_free(&stub);
	return past;
}

/* Nor does it replace what the key's owner has brought. */
static enum tao_err put_unless_held(struct host *h, const struct tao_node *name,
                                    const struct key_facts *f, struct timespec rules,
                                    const struct tao_buf *der)
{
	char *path = keystore_cert_path(h, f->uid, f->name);
	struct tao_file *file = NULL;
	enum tao_err e = TAO_OK;

	custody_lock_files(h->custody);
	if (path != NULL && imported_is(path)) {
		host_log_of(h, f->uid, "info", "%s stays the one that was imported", path);
	} else if (is_held(h, name, f, path)) {
		host_log_of(h, f->uid, "info", "%s stays that of the running program it names",
		            path);
	} else if (!is_past(h, f)) {
		e = path != NULL ? prepare(path, der, rules, &file) : tao_fail_nomem();
		if (e == TAO_OK)
			e = tao_files_place(&file, 1);
	}
	custody_unlock_files(h->custody);
	tao_file_free(file);
	free(path);
	return e;
}

/* A renewal that is refused is tried again and again: told when the reason is a new one. */
static void record(struct host *h, struct instance *i, const struct key_facts *f, enum tao_err e)
{
	char why[TAO_WHY_MAX] = "", *before = NULL;

	if (e != TAO_OK) { /* reading a file has sentences of its own */
		snprintf(why, sizeof why, "%s", tao_why());
		before = cert_refusal(h, f->uid, f->name);
		tao_fail(e, "%s", why);
	}
	if (before == NULL || strcmp(before, why) != 0)
		audit_event(h, "certificate", i, i->uid, e, "key", f->name);
	free(before);
}

/* TAO_ENOTFOUND: no other certificate stands in the domain's place. */
static enum tao_err other_authority(struct host *h, const struct key_facts *f, struct tao_buf *der)
{
	struct imported i;
	enum tao_err e = imported_read(h, f->uid, f->name, &i);

	if (e == TAO_ENOTFOUND)
		return e;
	if (e == TAO_OK)
		e = imported_fits(&i, f);
	if (e == TAO_OK)
		e = to_der(sk_X509_value(i.chain, 0), der);
	imported_clear(&i);
	return e == TAO_ENOTFOUND ? tao_fail(TAO_EALTERED, "%s", tao_why()) : e;
}

/* From the domain. */
static enum tao_err ask(struct host *h, struct instance *i, const struct key_facts *f,
                        struct tao_buf *der)
{
	enum tao_err e;

	if (strcmp(f->policy, "host") == 0)
		e = tao_fail(TAO_EDENIED, "every program of this host may use key %s, so no "
		             "certificate can say whose it is: make one with --policy program or "
		             "exact", f->name);
	else
		e = issue(h, instance_name(i), f, der);
	if (e != TAO_OK)
		der->n = 0;
	return e;
}

enum tao_err cert_obtain(struct host *h, struct instance *i, const struct held_key *k,
                         struct tao_buf *der)
{
	const struct tao_node *name = instance_name(i);
	struct timespec rules = rules_time(h); /* before the domain looks at them */
	struct key_facts f;
	enum tao_err e;

	held_key_facts(k, &f);
	e = other_authority(h, &f, der);
	if (e != TAO_ENOTFOUND)
		return e;
	if (reuse(h, name, &f, der) == TAO_OK)
		return TAO_OK;
	der->n = 0;
	e = ask(h, i, &f, der);
	if (e == TAO_OK)
		e = put_unless_held(h, name, &f, rules, der);
	record(h, i, &f, e);
	keep_refusal(h, f.uid, f.name, e == TAO_OK ? NULL : tao_why());
	return e;
}

/* The running instance that a certificate names, with a reference. */
struct named {
	X509 *cert;
	struct instance *found;
};

static void find_named(struct instance *i, void *arg)
{
	struct named *w = arg;
	struct tao_buf urn = TAO_BUF_INIT;

	if (w->found == NULL && instance_runs(i) &&
	    domain_principal_urn(instance_name(i), &urn) == TAO_OK &&
	    names(w->cert, tao_buf_cstr(&urn)))
		w->found = instance_ref(i);
	tao_buf_free(&urn);
}

/* A program that runs keeps its certificate: with none for the next generation there is none. */
static enum tao_err replace(struct host *h, struct instance *i, const struct key_facts *f,
                            const char *path, struct tao_file **file)
{
	struct timespec rules = rules_time(h);
	struct tao_buf der = TAO_BUF_INIT;
	enum tao_err e = ask(h, i, f, &der);

	record(h, i, f, e);
	if (e == TAO_OK)
		e = prepare(path, &der, rules, file);
	if (e == TAO_OK)
		keep_refusal(h, f->uid, f->name, NULL);
	else
		e = tao_fail(e, "key %s stays as it is, for program %s, which runs, would have no "
		             "certificate for the next generation: %s", f->name, i->program,
		             tao_why());
	tao_buf_free(&der);
	return e;
}

static void notice(struct cert_change *c, const char *name)
{
	tao_buf_fmt(&c->notice, "key %s has no certificate now: %s", name, tao_why());
}

static enum tao_err domain_next(struct host *h, const struct key_facts *f, struct cert_change *out)
{
	char *path = keystore_cert_path(h, f->uid, f->name);
	struct named w = { NULL, NULL };
	enum tao_err e;

	if (path == NULL)
		return tao_fail_nomem();
	e = read_pem(path, &w.cert);
	if (e == TAO_OK)
		registry_each(h->registry, find_named, &w);
	else if (e != TAO_ENOTFOUND)
		notice(out, f->name);
	out->goes = e != TAO_ENOTFOUND && w.found == NULL;
	e = w.found != NULL ? replace(h, w.found, f, path, &out->file) : TAO_OK;
	X509_free(w.cert);
	instance_unref(w.found);
	free(path);
	return e;
}

enum tao_err cert_next(struct host *h, const struct held_key *next, struct cert_change *out)
{
	struct tao_buf der = TAO_BUF_INIT;
	struct key_facts f;
	enum tao_err e;

	held_key_facts(next, &f);
	e = other_authority(h, &f, &der);
	tao_buf_free(&der);
	if (e == TAO_ENOTFOUND)
		return domain_next(h, &f, out);
	if (e != TAO_OK)
		notice(out, f.name);
	return TAO_OK;
}

void cert_change_clear(struct cert_change *c)
{
	tao_file_free(c->file);
	tao_buf_free(&c->notice);
	*c = (struct cert_change){ .notice = TAO_BUF_INIT };
}

enum tao_err cert_publish_policy(struct host *h)
{
	struct tao_buf der = TAO_BUF_INIT, pem = TAO_BUF_INIT;
	char *path = host_path(&h->conf, "policy.pem");
	enum tao_err e = path != NULL ? domain_policy_cert(h->domain, &der) : tao_fail_nomem();

	if (e == TAO_OK)
		e = to_pem(&der, &pem);
	if (e == TAO_OK)
		e = tao_file_write(path, pem.p, pem.n, 0644, TAO_FILE_KEEP);
	tao_buf_free(&der);
	tao_buf_free(&pem);
	free(path);
	return e;
}
