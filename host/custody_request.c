#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "custody_int.h"

static int push_dns(GENERAL_NAMES *all, const char *dns)
{
	GENERAL_NAME *g = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	if (g == NULL || s == NULL || ASN1_STRING_set(s, dns, -1) != 1) {
		GENERAL_NAME_free(g);
		ASN1_IA5STRING_free(s);
		return 0;
	}
	GENERAL_NAME_set0_value(g, GEN_DNS, s);
	if (sk_GENERAL_NAME_push(all, g) > 0)
		return 1;
	GENERAL_NAME_free(g);
	return 0;
}

static int add_names(X509_REQ *rq, char **dns, size_t n)
{
	GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
	STACK_OF(X509_EXTENSION) *exts = NULL;
	int good = all != NULL;

	for (size_t i = 0; good && i < n; i++)
		good = push_dns(all, dns[i]);
	good = good &&
	       X509V3_add1_i2d(&exts, NID_subject_alt_name, all, 0, X509V3_ADD_DEFAULT) == 1 &&
	       X509_REQ_add_extensions(rq, exts) == 1;
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	GENERAL_NAMES_free(all);
	return good;
}

/* The digest that the key's kind signs with; none for Ed25519. */
static int sign(X509_REQ *rq, EVP_PKEY *key)
{
	char name[64];
	EVP_MD *md = NULL;
	int good;

	if (EVP_PKEY_get_default_digest_name(key, name, sizeof name) <= 0)
		return 0;
	if (strcmp(name, "UNDEF") != 0 && (md = EVP_MD_fetch(NULL, name, NULL)) == NULL)
		return 0;
	good = X509_REQ_sign(rq, key, md) > 0;
	EVP_MD_free(md);
	return good;
}

static int build(X509_REQ *rq, EVP_PKEY *key, const X509_NAME *subject, char **dns, size_t n,
                 struct tao_buf *out)
{
	unsigned char *p = NULL;
	int len;

	if (X509_REQ_set_version(rq, X509_REQ_VERSION_1) != 1 ||
	    X509_REQ_set_pubkey(rq, key) != 1 ||
	    (subject != NULL && X509_REQ_set_subject_name(rq, subject) != 1) ||
	    (n > 0 && !add_names(rq, dns, n)) || !sign(rq, key))
		return 0;
	len = i2d_X509_REQ(rq, &p);
	if (len > 0)
		tao_buf_put(out, p, (size_t)len);
	OPENSSL_free(p);
	return len > 0;
}

enum tao_err custody_request(struct host *h, struct held_key *k, const X509_NAME *subject,
                             char **dns, size_t n, struct tao_buf *out)
{
	X509_REQ *rq = X509_REQ_new();
	EVP_PKEY *key;
	enum tao_err e = rq != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK && (k->type->can & KEY_SIGNS) == 0)
		e = tao_fail(TAO_EPURPOSE, "key %s, of type %s, signs nothing, and so no request",
		             k->name, k->type->name);
	if (e == TAO_OK)
		e = held_key_use(h, k, &key);
	if (e == TAO_OK) {
		if (!build(rq, key, subject, dns, n, out))
			e = tao_fail_crypto("making a request for key %s", k->name);
		held_key_done(k);
	}
	X509_REQ_free(rq);
	return e == TAO_OK ? tao_buf_err(out) : e;
}
