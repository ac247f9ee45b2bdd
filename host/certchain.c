#include "certchain.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#define NAME_SHOWN 200 /* bytes of a name that a sentence repeats */

int64_t certchain_time(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
}

char *certchain_name(const X509_NAME *name)
{
	BIO *bio = BIO_new(BIO_s_mem());
	unsigned long flags = XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB;
	char *p, *text = NULL;
	long n;

	if (bio != NULL && X509_NAME_print_ex(bio, name, 0, flags) >= 0) {
		n = BIO_get_mem_data(bio, &p);
		text = strndup(p, (size_t)n);
	}
	BIO_free(bio);
	return text;
}

static int has_key(X509 *x, const uint8_t *spki_hash)
{
	uint8_t hash[TAO_HASH_LEN];
	EVP_PKEY *key = X509_get0_pubkey(x);

	return key != NULL && tao_key_hash(key, hash) == TAO_OK &&
	       memcmp(hash, spki_hash, sizeof hash) == 0;
}

static int is_known(STACK_OF(X509) *all, const X509 *x)
{
	for (int i = 0; i < sk_X509_num(all); i++)
		if (X509_cmp(sk_X509_value(all, i), x) == 0)
			return 1;
	return 0;
}

/* Each certificate once. */
static enum tao_err read_all(const ProtobufCBinaryData *der, size_t n, STACK_OF(X509) *all)
{
	size_t bytes = 0;

	if (n > CERTCHAIN_MAX_GIVEN)
		return tao_fail(TAO_ELIMIT, "there are %zu certificates, more than %d: give the "
		                "key's own and those of its chain", n, CERTCHAIN_MAX_GIVEN);
	for (size_t i = 0; i < n; i++) {
		const unsigned char *p = der[i].data;
		X509 *x;

		bytes += der[i].len;
		if (bytes > CERTCHAIN_MAX_BYTES)
			return tao_fail(TAO_ELIMIT, "the certificates have more than %d bytes "
			                "together: leave out what is not of the chain",
			                CERTCHAIN_MAX_BYTES);
		x = der[i].len > 0 ? d2i_X509(NULL, &p, (long)der[i].len) : NULL;
		if (x == NULL || p != der[i].data + der[i].len) {
			X509_free(x);
			return tao_fail(TAO_EFORMAT, "certificate %zu is damaged: ask the CA for "
			                "it again", i + 1);
		}
		if (is_known(all, x) || sk_X509_push(all, x) == 0)
			X509_free(x);
	}
	return TAO_OK;
}

/* Takes the certificate out of all, which keeps its order. */
static X509 *take_leaf(STACK_OF(X509) *all, const uint8_t *spki_hash)
{
	for (int i = 0; i < sk_X509_num(all); i++)
		if (has_key(sk_X509_value(all, i), spki_hash))
			return sk_X509_delete(all, i);
	return NULL;
}

static int signed_by(X509 *x, X509 *by)
{
	EVP_PKEY *key = X509_get0_pubkey(by);

	return key != NULL && X509_verify(x, key) == 1;
}

/* The issuer among the others, taken out; NULL if it is not there. *forged: one has its name, but
 * did not sign it. */
static X509 *take_issuer(STACK_OF(X509) *all, X509 *x, int *forged)
{
	for (int i = 0; i < sk_X509_num(all); i++) {
		X509 *by = sk_X509_value(all, i);

		if (X509_check_issued(by, x) != X509_V_OK)
			continue;
		if (X509_check_ca(by) >= 1 && signed_by(x, by))
			return sk_X509_delete(all, i);
		*forged = 1;
	}
	return NULL;
}

static int is_root(X509 *x)
{
	return (X509_get_extension_flags(x) & EXFLAG_SS) != 0;
}

static enum tao_err link_all(STACK_OF(X509) *all, X509 *leaf, STACK_OF(X509) *chain)
{
	X509 *x = leaf;
	int forged = 0;

	while (x != NULL) {
		if (sk_X509_num(chain) > CERTCHAIN_MAX || sk_X509_push(chain, x) == 0) {
			X509_free(x);
			return tao_fail(TAO_ELIMIT, "the chain has more than %d certificates",
			                CERTCHAIN_MAX);
		}
		x = is_root(x) ? NULL : take_issuer(all, x, &forged);
	}
	x = sk_X509_value(chain, sk_X509_num(chain) - 1);
	if (sk_X509_num(chain) > 1 && is_root(x))
		X509_free(sk_X509_pop(chain));
	else if (forged && !is_root(x))
		return tao_fail(TAO_ESIGNATURE, "a certificate of the chain was not signed by the "
		                "one that is there for its issuer: ask the CA for the chain again");
	return sk_X509_num(chain) <= CERTCHAIN_MAX ? TAO_OK
	       : tao_fail(TAO_ELIMIT, "the chain has more than %d certificates", CERTCHAIN_MAX);
}

static enum tao_err about(enum tao_err e, const X509 *x, const char *what)
{
	char *name = certchain_name(X509_get_subject_name(x));

	tao_fail(e, "the certificate of %.*s %s", NAME_SHOWN, name != NULL ? name : "?", what);
	free(name);
	return e;
}

static enum tao_err check_times(STACK_OF(X509) *chain, int64_t now)
{
	for (int i = 0; i < sk_X509_num(chain); i++) {
		const X509 *x = sk_X509_value(chain, i);

		if (certchain_time(X509_get0_notAfter(x)) <= now)
			return about(TAO_EEXPIRED, x, "has expired: ask the CA for a new one");
		if (certchain_time(X509_get0_notBefore(x)) > now)
			return about(TAO_EEXPIRED, x, "is not valid yet: import it then, or set "
			             "this machine's clock");
	}
	return TAO_OK;
}

/* What is left over is a mistake, or there is a gap in the chain before it. */
static enum tao_err check_rest(STACK_OF(X509) *all)
{
	if (sk_X509_num(all) == 0)
		return TAO_OK;
	return about(TAO_ESIGNATURE, sk_X509_value(all, 0),
	             "is not of this key's chain: leave it out, or "
	             "give those that link it");
}

static enum tao_err make_chain(STACK_OF(X509) *all, const char *key, const uint8_t *spki_hash,
                               STACK_OF(X509) *chain)
{
	X509 *leaf = take_leaf(all, spki_hash);

	if (leaf == NULL)
		return tao_fail(TAO_EALTERED, "%s for key %s as it is now: make a request with "
		                "'tao cert request %s' and give that to the CA",
		                sk_X509_num(all) == 1
		                ? "the certificate is not" : "none of the certificates is", key,
		                key);
	return link_all(all, leaf, chain);
}

enum tao_err certchain_check(const ProtobufCBinaryData *der, size_t n, const char *key,
                             const uint8_t spki_hash[TAO_HASH_LEN], int64_t now,
                             STACK_OF(X509) **out)
{
	STACK_OF(X509) *all = sk_X509_new_null(), *chain = sk_X509_new_null();
	enum tao_err e = all != NULL && chain != NULL ? TAO_OK : tao_fail_nomem();

	*out = NULL;
	ERR_set_mark();
	if (e == TAO_OK && n == 0)
		e = tao_fail(TAO_EFORMAT, "there is no certificate");
	if (e == TAO_OK)
		e = read_all(der, n, all);
	if (e == TAO_OK)
		e = make_chain(all, key, spki_hash, chain);
	if (e == TAO_OK)
		e = check_rest(all);
	if (e == TAO_OK)
		e = check_times(chain, now);
	ERR_pop_to_mark();
	if (e == TAO_OK) {
		*out = chain;
		chain = NULL;
	}
	sk_X509_pop_free(all, X509_free);
	sk_X509_pop_free(chain, X509_free);
	return e;
}
