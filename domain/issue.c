#include <stdlib.h>
#include <string.h>

#include "../tao/attest.h"
#include "cert.h"
#include "state.h"

#define ATTESTATION_DELEGATION 5 /* field number of Attestation.serialized_delegation */

/* ---- urn:tao: ---- */

/* Unreserved characters of RFC 3986, and three that RFC 8141 allows in a URN
 * and that keep a name readable. */
static int urn_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != 0 && strchr("-._~(),", c) != NULL);
}

enum tao_err domain_principal_urn(const struct tao_node *name, struct tao_buf *out)
{
	char *text = tao_node_text(name);

	if (text == NULL)
		return tao_fail_nomem();
	tao_buf_str(out, "urn:tao:");
	for (const char *p = text; *p != 0; p++) {
		if (urn_plain(*p))
			tao_buf_u8(out, (uint8_t)*p);
		else
			tao_buf_fmt(out, "%%%02X", (unsigned)(unsigned char)*p);
	}
	free(text);
	return tao_buf_err(out);
}

/* ---- what the attestation says ---- */

static enum tao_err refuse_delegation(const void *attestation, size_t n)
{
	struct tao_rd r = tao_rd_of(attestation, n);

	while (r.n > 0 && !r.bad) {
		uint64_t tag = tao_rd_varint(&r);

		if (tag >> 3 == ATTESTATION_DELEGATION)
			return tao_fail(TAO_EDENIED,
			                "a certificate needs an attestation by the host "
			                "itself, not one by a key that speaks for the program");
		if ((tag & 7) != 2) /* all fields of an Attestation have a length */
			r.bad = 1;
		tao_rd_bytes(&r, tao_rd_varint(&r));
	}
	return r.bad ? tao_fail(TAO_EFORMAT, "this is not an attestation") : TAO_OK;
}

/* A key that a program holds itself may speak for the program by a
 * delegation; that a key is sealed can be told by the host only. The name of a host
 * at the root is its key's, so nothing is between; that of a stacked host is given by its
 * parent, who lets the key speak for it. */
static enum tao_err check_delegation(const void *attestation, size_t n,
                                     const struct fact_program *p)
{
	if (p->n_host > 1)
		return TAO_OK;
	return refuse_delegation(attestation, n);
}

/* Purposes of keys (as the host seals them in): what a certificate is for. */
static const struct purpose {
	const char *name, *extended;
	int signs, opens; /* decrypts, or agrees on keys */
} purposes[] = {
	{ "tls", "serverAuth,clientAuth", 1, 0 },
	{ "tls13", "serverAuth,clientAuth", 1, 0 },
	{ "any", "serverAuth,clientAuth", 1, 1 },
	{ "sign", "emailProtection", 1, 0 },
	{ "decrypt", "emailProtection", 0, 1 },
};

/* TAO_EDENIED if the domain does not know it. */
static enum tao_err find_purpose(const struct tao_node *t, const struct purpose **out)
{
	const struct purpose *p = purposes, *end = p + sizeof purposes / sizeof *purposes;

	while (p < end && (strlen(p->name) != t->len || memcmp(p->name, t->text, t->len) != 0))
		p++;
	*out = p;
	if (p == end)
		return tao_fail(TAO_EDENIED,
		                "a key for '%.64s' gets no certificate: the domain does not "
		                "know this purpose",
		                t->text);
	return TAO_OK;
}

/* keyUsage: what the purpose allows, of what the key is able to do. */
static enum tao_err key_usage(const struct purpose *p, EVP_PKEY *key, struct tao_buf *out)
{
	int signs = p->signs && !EVP_PKEY_is_a(key, "X25519");

	tao_buf_str(out, "critical");
	if (signs)
		tao_buf_str(out, ",digitalSignature");
	if (p->opens && EVP_PKEY_is_a(key, "RSA"))
		tao_buf_str(out, ",keyEncipherment");
	else if (p->opens && (EVP_PKEY_is_a(key, "EC") || EVP_PKEY_is_a(key, "X25519")))
		tao_buf_str(out, ",keyAgreement");
	else if (!signs)
		return tao_fail(TAO_EDENIED, "a key of this type cannot serve the purpose '%s'",
		                p->name);
	return tao_buf_err(out);
}

/* SealedKey(NAME, [hash], "key name", "purpose"), and "imported" for keys that were elsewhere. */
static enum tao_err check_statement(const struct tao_node *m, const uint8_t *hash)
{
	static const char imported[] = "imported";

	if (m->tag != TAO_PRED || strcmp(m->text, "SealedKey") != 0 || m->n_kid < 4 ||
	    m->n_kid > 5 || m->kid[0]->tag != TAO_PRIN || m->kid[1]->tag != TAO_BYTES ||
	    m->kid[2]->tag != TAO_STR || m->kid[3]->tag != TAO_STR)
		return tao_fail(TAO_EDENIED,
		                "the attestation is not about a sealed key: a certificate "
		                "needs SealedKey(NAME, [hash], \"key name\", \"purpose\")");
	if (m->kid[1]->len != TAO_HASH_LEN || memcmp(m->kid[1]->text, hash, TAO_HASH_LEN) != 0)
		return tao_fail(TAO_EDENIED,
		                "the attestation is about another key than the one that is "
		                "to be certified: ask the host for both again");
	if (m->n_kid == 5 &&
	    (m->kid[4]->tag != TAO_STR || m->kid[4]->len != sizeof imported - 1 ||
	     memcmp(m->kid[4]->text, imported, m->kid[4]->len) != 0))
		return tao_fail(TAO_EDENIED, "the attestation says something about a sealed key "
		                "that is not known here: upgrade the domain");
	return TAO_OK;
}

/* Its host says it, by the key that the host's name starts with. A host
 * attests for a program whatever the program says, so the program's own word
 * about a key is worth nothing here. That the root's name is the beginning of the speaker's
 * (the second line) follows from the chain, as long as every root is a key. */
static enum tao_err check_speaker(const struct tao_attested *a, const struct fact_program *p)
{
	if (tao_prin_ext_count(a->speaker) == p->n_host && tao_prin_covers(a->speaker, p->name) &&
	    tao_prin_ext_count(a->root) == 0 && tao_prin_covers(a->root, p->name))
		return TAO_OK;
	return tao_fail(TAO_EDENIED,
	                "only the host itself can tell that a key is sealed: the attestation "
	                "is by another, or names a program of another host");
}

static enum tao_err check_name(const struct fact_program *p)
{
	if (p->in_domain)
		return TAO_OK;
	return tao_fail(
	    TAO_EDENIED,
	    "only a program's own name, its measurement and the PolicyKey of "
	    "the domain behind it, gets a certificate: a subprincipal does not, nor does "
	    "a program of another domain");
}

/* ---- what is certified ---- */

struct dns {
	char *name[DOMAIN_MAX_DNS];
	size_t n;
};

static void dns_clear(struct dns *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->name[i]);
	l->n = 0;
}

/* Keeps the list sorted, and each name once. */
static enum tao_err dns_add(struct dns *l, const char *name)
{
	size_t at = 0;

	while (at < l->n && strcmp(l->name[at], name) < 0)
		at++;
	if (at < l->n && strcmp(l->name[at], name) == 0)
		return TAO_OK;
	if (l->n == DOMAIN_MAX_DNS)
		return tao_fail(TAO_ELIMIT,
		                "the rules give the program more than %d DNS names: remove "
		                "some Serves rules",
		                DOMAIN_MAX_DNS);
	memmove(l->name + at + 1, l->name + at, (l->n - at) * sizeof *l->name);
	l->name[at] = strdup(name);
	if (l->name[at] == NULL) {
		memmove(l->name + at, l->name + at + 1, (l->n - at) * sizeof *l->name);
		return tao_fail_nomem();
	}
	l->n++;
	return TAO_OK;
}

/* Lock held. */
static enum tao_err dns_collect(const struct rules *r, const struct fact_program *p, struct dns *l)
{
	size_t end, i = rules_range(r, "Serves", &end);
	enum tao_err e = TAO_OK;

	for (; e == TAO_OK && i < end; i++) {
		struct tao_node *const *arg = r->fact[i].form->kid;

		if (fact_means_program(arg[0], p))
			e = dns_add(l, arg[1]->text);
	}
	return e;
}

/* All that the rules have to say, of one version of them. */
static enum tao_err ask_rules(struct domain *d, const struct fact_program *p, const uint8_t *hash,
                              struct dns *l)
{
	struct tao_node *host = tao_prin_prefix(p->name, p->n_host);
	enum tao_err e;

	if (host == NULL)
		return tao_fail_nomem();
	pthread_mutex_lock(&d->lock);
	e = domain_check_host(d, host);
	if (e == TAO_OK)
		e = domain_check_program(d, p, hash);
	if (e == TAO_OK)
		e = dns_collect(&d->rules, p, l);
	pthread_mutex_unlock(&d->lock);
	tao_node_free(host);
	return e;
}

static enum tao_err make_cert(struct domain *d, const struct fact_program *p, EVP_PKEY *key,
                              const struct purpose *purpose, const struct dns *l,
                              uint32_t seconds, struct tao_buf *der)
{
	struct tao_buf urn = TAO_BUF_INIT, usage = TAO_BUF_INIT;
	char *principal = tao_node_text(p->name);
	EVP_PKEY *policy = NULL;
	X509 *cert = NULL;
	enum tao_err e = principal != NULL ? domain_principal_urn(p->name, &urn) : tao_fail_nomem();

	if (e == TAO_OK)
		e = key_usage(purpose, key, &usage);
	if (e == TAO_OK)
		e = tao_signer_open(&d->signer, &policy);
	if (e == TAO_OK) {
		struct cert_program c = {
			.key = key,
			.principal = principal,
			.urn = tao_buf_cstr(&urn),
			.usage = tao_buf_cstr(&usage),
			.extended_usage = purpose->extended,
			.dns = (const char *const *)l->name,
			.n_dns = l->n,
			.seconds = seconds != 0 ? seconds : DOMAIN_CERT_SECONDS,
		};

		e = cert_program(d->cert, policy, &c, &cert);
	}
	if (e == TAO_OK)
		e = cert_to_der(cert, der);
	X509_free(cert);
	EVP_PKEY_free(policy);
	free(principal);
	tao_buf_free(&urn);
	tao_buf_free(&usage);
	return e;
}

enum tao_err domain_issue(struct domain *d, const void *attestation, size_t attestation_n,
                          const void *spki, size_t spki_n, uint32_t seconds,
                          struct tao_buf *cert_der)
{
	uint8_t hash[TAO_HASH_LEN];
	struct tao_attested a = { 0 };
	struct fact_program p = { 0 };
	struct dns dns = { .n = 0 };
	const struct purpose *purpose = NULL;
	EVP_PKEY *key = NULL;
	enum tao_err e = tao_attestation_verify(attestation, attestation_n, TAO_NOW, NULL, &a);

	if (e == TAO_OK)
		e = tao_sha256(spki, spki_n, hash);
	if (e == TAO_OK)
		e = check_statement(a.message, hash);
	if (e == TAO_OK)
		e = find_purpose(a.message->kid[3], &purpose);
	if (e == TAO_OK)
		e = fact_program(a.message->kid[0], d->id, &p);
	if (e == TAO_OK)
		e = check_delegation(attestation, attestation_n, &p);
	if (e == TAO_OK)
		e = check_speaker(&a, &p);
	if (e == TAO_OK)
		e = check_name(&p);
	if (e == TAO_OK)
		e = tao_key_from_spki_any(spki, spki_n, &key);
	if (e == TAO_OK)
		e = ask_rules(d, &p, hash, &dns);
	if (e == TAO_OK)
		e = make_cert(d, &p, key, purpose, &dns, seconds, cert_der);
	dns_clear(&dns);
	fact_program_clear(&p);
	EVP_PKEY_free(key);
	tao_attested_clear(&a);
	return e;
}
