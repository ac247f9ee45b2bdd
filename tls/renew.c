#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "tls.h"

#define PROGRAM_URN "urn:tao:" /* domain/domain.h */
#define NAME_PARAM "tao-name" /* of tao.so's keys (provider-tao(7)) */
#define MAX_SLOTS 16          /* of certificates in one connection: one for each kind of key */

/* One certificate that the connection could show. */
struct slot {
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;
	struct tls_bundle *newer; /* to be shown instead */
};

static int key_name(EVP_PKEY *key, char name[TLS_NAME_MAX])
{
	size_t n = 0;

	return EVP_PKEY_get_utf8_string_param(key, NAME_PARAM, name, TLS_NAME_MAX, &n) == 1 && n > 0;
}

int tls_is_programs(X509 *cert)
{
	static const char scheme[] = PROGRAM_URN;
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int is = 0;

	for (int i = 0; !is && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		is = g->type == GEN_URI &&
		     (size_t)ASN1_STRING_length(g->d.ia5) >= sizeof scheme - 1 &&
		     memcmp(ASN1_STRING_get0_data(g->d.ia5), scheme, sizeof scheme - 1) == 0;
	}
	GENERAL_NAMES_free(names);
	return is;
}

static int has_name(const GENERAL_NAMES *names, GENERAL_NAME *name)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
		if (GENERAL_NAME_cmp(sk_GENERAL_NAME_value(names, i), name) == 0)
			return 1;
	return 0;
}

/* The new one is for all that the old one is for. */
static int has_names_of(X509 *new, X509 *old)
{
	GENERAL_NAMES *now = X509_get_ext_d2i(new, NID_subject_alt_name, NULL, NULL);
	GENERAL_NAMES *before = X509_get_ext_d2i(old, NID_subject_alt_name, NULL, NULL);
	int has = before != NULL ||
	          X509_NAME_cmp(X509_get_subject_name(new), X509_get_subject_name(old)) == 0;

	for (int i = 0; has && i < sk_GENERAL_NAME_num(before); i++)
		has = has_name(now, sk_GENERAL_NAME_value(before, i));
	GENERAL_NAMES_free(now);
	GENERAL_NAMES_free(before);
	return has;
}

/* A certificate of another authority for the same key is its owner's business, until he imports a
 * newer one for the same names. */
static int replaces(const struct tls_bundle *b, X509 *cert)
{
	if (b->policy != NULL)
		return X509_check_issued(b->policy, cert) == X509_V_OK;
	return tls_is_programs(cert) ||
	       (ASN1_TIME_compare(X509_get0_notBefore(b->leaf), X509_get0_notBefore(cert)) >= 0 &&
	        has_names_of(b->leaf, cert));
}

/* What the host has instead of this certificate, or NULL. */
static struct tls_bundle *newer(X509 *cert, EVP_PKEY *key, unsigned seconds)
{
	char name[TLS_NAME_MAX];
	struct tls_bundle *b;

	if (!key_name(key, name))
		return NULL;
	b = tls_bundle_get(name, seconds);
	if (b != NULL && X509_cmp(cert, b->leaf) != 0 && replaces(b, cert))
		return b;
	tls_bundle_release(b);
	return NULL;
}

/* References of its own: clearing the connection drops the connection's. */
static int take_slot(const struct tls_libssl *f, SSL *s, struct slot *slot)
{
	STACK_OF(X509) *chain = NULL;

	memset(slot, 0, sizeof *slot);
	slot->cert = f->SSL_get_certificate(s);
	slot->key = f->SSL_get_privatekey(s);
	if (slot->cert == NULL || slot->key == NULL)
		return 0;
	X509_up_ref(slot->cert);
	EVP_PKEY_up_ref(slot->key);
	f->SSL_ctrl(s, SSL_CTRL_GET_CHAIN_CERTS, 0, &chain);
	slot->chain = chain != NULL ? X509_chain_up_ref(chain) : NULL;
	return 1;
}

static void drop_slot(struct slot *slot)
{
	X509_free(slot->cert);
	EVP_PKEY_free(slot->key);
	sk_X509_pop_free(slot->chain, X509_free);
	tls_bundle_release(slot->newer);
}

static size_t take_slots(const struct tls_libssl *f, SSL *s, struct slot slots[MAX_SLOTS])
{
	size_t n = 0;

	for (long op = SSL_CERT_SET_FIRST; n < MAX_SLOTS; op = SSL_CERT_SET_NEXT) {
		if (f->SSL_ctrl(s, SSL_CTRL_SET_CURRENT_CERT, op, NULL) != 1)
			break;
		n += take_slot(f, s, &slots[n]);
	}
	f->SSL_ctrl(s, SSL_CTRL_SET_CURRENT_CERT, SSL_CERT_SET_FIRST, NULL);
	return n;
}

/* Cleared first: a key of another kind would leave the old certificate to choose from. */
static void show(const struct tls_libssl *f, SSL *s, struct slot *slots, size_t n)
{
	f->SSL_certs_clear(s);
	for (size_t i = 0; i < n; i++) {
		const struct tls_bundle *b = slots[i].newer;

		if (b == NULL || f->SSL_use_cert_and_key(s, b->leaf, b->key, b->chain, 1) != 1)
			f->SSL_use_cert_and_key(s, slots[i].cert, slots[i].key, slots[i].chain, 1);
	}
	f->SSL_ctrl(s, SSL_CTRL_SET_CURRENT_CERT, SSL_CERT_SET_FIRST, NULL);
}

int tls_renew(SSL *s, const struct tls_settings *set)
{
	const struct tls_libssl *f = tls_libssl();
	struct slot slots[MAX_SLOTS];
	size_t n, changed = 0;

	if (f == NULL || f->SSL_get_certificate(s) == NULL)
		return 1;
	ERR_set_mark();
	n = take_slots(f, s, slots);
	for (size_t i = 0; i < n; i++) {
		slots[i].newer = newer(slots[i].cert, slots[i].key, set->renew);
		changed += slots[i].newer != NULL;
	}
	if (changed > 0)
		show(f, s, slots, n);
	for (size_t i = 0; i < n; i++)
		drop_slot(&slots[i]);
	ERR_pop_to_mark();
	return 1;
}
