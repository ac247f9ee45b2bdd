#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "peers.h"

#define PLACES 1024 /* certificates that are remembered */
#define URN "urn:tao:"
#define MAX_CERT 65536

/* What is known of a certificate for ever: whether the domain made it, and for whom. */
struct cert {
	int used;
	uint8_t hash[TAO_HASH_LEN], subject[TAO_HASH_LEN];
	struct principal *p; /* NULL: another's */
	int64_t from, until; /* seconds since 1970 */
};

struct shown {
	pthread_mutex_t lock;
	struct cert certs[PLACES];
};

struct shown *shown_new(void)
{
	struct shown *s = calloc(1, sizeof *s);

	if (s != NULL)
		pthread_mutex_init(&s->lock, NULL);
	return s;
}

void shown_free(struct shown *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < PLACES; i++)
		principal_unref(s->certs[i].p);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- reading one ---- */

/* The inverse of domain_principal_urn(): what that writes, and nothing else. */
static enum tao_err from_urn(const uint8_t *urn, size_t n, struct principal **out)
{
	struct tao_buf text = TAO_BUF_INIT, again = TAO_BUF_INIT;
	struct tao_node *name = NULL;
	size_t i = sizeof URN - 1;
	uint8_t c;
	enum tao_err e = TAO_OK;

	if (n < i || memcmp(urn, URN, i) != 0)
		return tao_fail(TAO_EFORMAT, "the certificate names no program");
	for (; e == TAO_OK && i < n; i++)
		if (urn[i] != '%')
			tao_buf_u8(&text, urn[i]);
		else if (n - i < 3 || tao_unhex((const char *)urn + i + 1, 2, &c, 1) != TAO_OK)
			e = tao_fail(TAO_EFORMAT, "the program's name in the certificate is "
			             "malformed");
		else {
			tao_buf_u8(&text, c);
			i += 2;
		}
	if (e == TAO_OK)
		e = tao_buf_err(&text);
	if (e == TAO_OK)
		e = tao_prin_parse((const char *)text.p, text.n, &name);
	if (e == TAO_OK)
		e = domain_principal_urn(name, &again);
	if (e == TAO_OK && (again.n != n || memcmp(again.p, urn, n) != 0))
		e = tao_fail(TAO_EFORMAT, "the program's name in the certificate is not canonical");
	if (e == TAO_OK)
		e = principal_new(name, out);
	tao_node_free(name);
	tao_buf_free(&text);
	tao_buf_free(&again);
	return e;
}

/* Exactly one URI of ours. */
static enum tao_err program_of(X509 *x, struct principal **out)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	enum tao_err e = tao_fail(TAO_EFORMAT, "the certificate names no program");

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type != GEN_URI)
			continue;
		if (*out != NULL)
			e = tao_fail(TAO_EFORMAT, "the certificate names more than one program");
		else
			e = from_urn(ASN1_STRING_get0_data(g->d.ia5),
			             (size_t)ASN1_STRING_length(g->d.ia5), out);
	}
	GENERAL_NAMES_free(names);
	if (e != TAO_OK) {
		principal_unref(*out);
		*out = NULL;
	}
	return e;
}

static int64_t seconds_of(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
}

/* Signed by the policy key; the policy certificate itself is no program's. */
static enum tao_err is_issued(struct host *h, X509 *x, int *issued)
{
	struct tao_buf der = TAO_BUF_INIT;
	const unsigned char *p;
	X509 *ca = NULL;
	enum tao_err e = domain_policy_cert(h->domain, &der);

	*issued = 0;
	if (e == TAO_OK) {
		p = der.p;
		ca = d2i_X509(NULL, &p, (long)der.n);
		*issued = ca != NULL && X509_check_issued(ca, x) == X509_V_OK &&
		          X509_cmp(ca, x) != 0 &&
		          X509_verify(x, X509_get0_pubkey(ca)) == 1;
	}
	X509_free(ca);
	tao_buf_free(&der);
	return e;
}

static enum tao_err read_cert(struct host *h, const uint8_t *der, size_t n, struct cert *c)
{
	const unsigned char *p = der;
	X509 *x = d2i_X509(NULL, &p, (long)n);
	int issued;
	enum tao_err e;

	if (x == NULL || p != der + n) {
		X509_free(x);
		return tao_fail(TAO_EFORMAT, "the peer's certificate is malformed");
	}
	e = is_issued(h, x, &issued);
	if (e == TAO_OK && issued)
		e = program_of(x, &c->p);
	if (e == TAO_OK && issued)
		e = tao_key_hash(X509_get0_pubkey(x), c->subject);
	c->from = seconds_of(X509_get0_notBefore(x));
	c->until = seconds_of(X509_get0_notAfter(x));
	X509_free(x);
	return e;
}

/* ---- remembering it ---- */

static int at_hand(struct shown *s, const uint8_t *hash, struct cert *out)
{
	struct cert *c = &s->certs[((size_t)hash[0] << 8 | hash[1]) % PLACES];
	int there;

	pthread_mutex_lock(&s->lock);
	there = c->used && memcmp(c->hash, hash, sizeof c->hash) == 0;
	if (there) {
		*out = *c;
		if (out->p != NULL)
			principal_ref(out->p);
	}
	pthread_mutex_unlock(&s->lock);
	return there;
}

static void keep(struct shown *s, const struct cert *c)
{
	struct cert *at = &s->certs[((size_t)c->hash[0] << 8 | c->hash[1]) % PLACES];
	struct principal *old;

	if (c->p != NULL)
		principal_ref(c->p);
	pthread_mutex_lock(&s->lock);
	old = at->p;
	*at = *c;
	at->used = 1;
	pthread_mutex_unlock(&s->lock);
	principal_unref(old);
}

enum tao_err shown_program(struct host *h, const void *der, size_t n, struct principal **p,
                           uint8_t subject[TAO_HASH_LEN])
{
	struct shown *s = h->peers->shown;
	struct cert c = { 0 };
	int64_t now = time(NULL);
	enum tao_err e = n > 0 && n <= MAX_CERT ? tao_sha256(der, n, c.hash)
	                 : tao_fail(TAO_EFORMAT, "the peer's certificate is malformed");

	*p = NULL;
	ERR_set_mark();
	if (e == TAO_OK && !at_hand(s, c.hash, &c)) {
		e = read_cert(h, der, n, &c);
		if (e == TAO_OK)
			keep(s, &c);
	}
	ERR_pop_to_mark();
	if (e == TAO_OK && c.p != NULL && (now < c.from || now > c.until))
		e = tao_fail(TAO_EEXPIRED, "the peer's certificate is not valid at this time");
	memcpy(subject, c.subject, sizeof c.subject);
	if (e == TAO_OK)
		*p = c.p;
	else
		principal_unref(c.p);
	return e;
}
