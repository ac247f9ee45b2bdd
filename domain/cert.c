#include "cert.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "domain.h"

#define SERIAL_BITS 128

enum tao_err cert_name_check(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;
	size_t n = strlen(name);
	unsigned long c;

	if (n == 0 || n > CERT_MAX_NAME)
		return tao_fail(TAO_EINVAL, "the name of a domain has 1 to %d bytes, not %zu",
		                CERT_MAX_NAME, n);
	while (n > 0) {
		int k = UTF8_getc(p, (int)n, &c);

		if (k <= 0 || c < 0x20 || (c >= 0x7f && c < 0xa0))
			return tao_fail(TAO_EINVAL,
			                "the name of a domain is text in UTF-8, without "
			                "control characters");
		p += k;
		n -= (size_t)k;
	}
	return TAO_OK;
}

/* ---- the parts of a certificate; 1 on success, as in libcrypto ---- */

/* As a plain UTF8String: the type leaves out libcrypto's limits of length. */
static int add_name(X509_NAME *name, int nid, const char *text)
{
	return X509_NAME_add_entry_by_NID(name, nid, V_ASN1_UTF8STRING, (const unsigned char *)text,
	                                  -1, -1, 0);
}

static int add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	int r;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	r = ext != NULL && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return r;
}

struct ext {
	int nid;
	const char *value;
};

static int add_exts(X509 *cert, X509 *issuer, const struct ext *ext, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!add_ext(cert, issuer, ext[i].nid, ext[i].value))
			return 0;
	return 1;
}

static int set_serial(X509 *cert)
{
	BIGNUM *bn = BN_new();
	int r = bn != NULL && BN_rand(bn, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
	        BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) != NULL;

	BN_free(bn);
	return r;
}

/* Everything that both kinds have. */
static int set_common(X509 *cert, EVP_PKEY *key, int days, uint32_t seconds)
{
	time_t now = time(NULL);

	return X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
	       X509_set_pubkey(cert, key) &&
	       X509_time_adj_ex(X509_getm_notBefore(cert), 0, -CERT_BACKDATE, &now) != NULL &&
	       X509_time_adj_ex(X509_getm_notAfter(cert), days, (long)seconds, &now) != NULL;
}

static int add_general(GENERAL_NAMES *names, int type, const char *text)
{
	GENERAL_NAME *g = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	if (g == NULL || s == NULL || !ASN1_STRING_set(s, text, -1)) {
		GENERAL_NAME_free(g);
		ASN1_IA5STRING_free(s);
		return 0;
	}
	GENERAL_NAME_set0_value(g, type, s);
	if (sk_GENERAL_NAME_push(names, g) > 0)
		return 1;
	GENERAL_NAME_free(g);
	return 0;
}

static int add_alt_names(X509 *cert, const struct cert_program *p)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	int r = names != NULL && add_general(names, GEN_URI, p->urn);

	for (size_t i = 0; r && i < p->n_dns; i++)
		r = add_general(names, GEN_DNS, p->dns[i]);
	r = r && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
	GENERAL_NAMES_free(names);
	return r;
}

/* common may be NULL. */
static int set_subject(X509 *cert, const char *organisation, const char *unit, const char *common)
{
	X509_NAME *n = X509_NAME_new();
	int r = n != NULL && add_name(n, NID_organizationName, organisation) &&
	        add_name(n, NID_organizationalUnitName, unit) &&
	        (common == NULL || add_name(n, NID_commonName, common)) &&
	        X509_set_subject_name(cert, n);

	X509_NAME_free(n);
	return r;
}

/* ---- the policy certificate ---- */

static const struct ext policy_ext[] = {
	{ NID_basic_constraints, "critical,CA:TRUE,pathlen:0" },
	{ NID_key_usage, "critical,keyCertSign,cRLSign" },
	{ NID_subject_key_identifier, "hash" },
	{ NID_authority_key_identifier, "keyid:always" },
};

static int fill_policy(X509 *cert, EVP_PKEY *key, const char *name, const char *principal)
{
	char common[CERT_MAX_NAME + 32];

	snprintf(common, sizeof common, "Tao policy key of %s", name);
	return set_common(cert, key, 365 * DOMAIN_POLICY_YEARS + DOMAIN_POLICY_YEARS / 4, 0) &&
	       set_subject(cert, name, principal, common) &&
	       X509_set_issuer_name(cert, X509_get_subject_name(cert)) &&
	       add_exts(cert, cert, policy_ext, sizeof policy_ext / sizeof *policy_ext) &&
	       X509_sign(cert, key, EVP_sha256()) > 0;
}

enum tao_err cert_policy(EVP_PKEY *key, const char *name, X509 **out)
{
	uint8_t id[TAO_HASH_LEN];
	struct tao_node *prin = NULL;
	char *text = NULL;
	X509 *cert = NULL;
	enum tao_err e = tao_key_hash(key, id);

	if (e != TAO_OK)
		goto out;
	prin = tao_prin_key(id);
	text = prin != NULL ? tao_node_text(prin) : NULL;
	cert = X509_new();
	if (text == NULL || cert == NULL)
		e = tao_fail_nomem();
	else if (!fill_policy(cert, key, name, text))
		e = tao_fail_crypto("cannot make the policy certificate");
out:
	if (e != TAO_OK) {
		X509_free(cert);
		cert = NULL;
	}
	free(text);
	tao_node_free(prin);
	*out = cert;
	return e;
}

/* ---- a program's certificate ---- */

static int fill_program(X509 *cert, X509 *policy, EVP_PKEY *policy_key, const char *organisation,
                        const struct cert_program *p)
{
	const struct ext ext[] = {
		{ NID_basic_constraints, "critical,CA:FALSE" },
		{ NID_key_usage, p->usage },
		{ NID_ext_key_usage, p->extended_usage },
		{ NID_subject_key_identifier, "hash" },
		{ NID_authority_key_identifier, "keyid:always" },
	};
	const ASN1_TIME *end = X509_get0_notAfter(policy);

	return set_common(cert, p->key, 0, p->seconds) &&
	       (ASN1_TIME_compare(X509_get0_notAfter(cert), end) <= 0 ||
	        X509_set1_notAfter(cert, end)) &&
	       set_subject(cert, organisation, p->principal, p->n_dns > 0 ? p->dns[0] : NULL) &&
	       X509_set_issuer_name(cert, X509_get_subject_name(policy)) &&
	       add_exts(cert, policy, ext, sizeof ext / sizeof *ext) &&
	       add_alt_names(cert, p) && X509_sign(cert, policy_key, EVP_sha256()) > 0;
}

enum tao_err cert_program(X509 *policy, EVP_PKEY *policy_key, const struct cert_program *p,
                          X509 **out)
{
	char *organisation = NULL;
	X509 *cert = NULL;
	enum tao_err e = TAO_OK;

	*out = NULL;
	if (ASN1_TIME_cmp_time_t(X509_get0_notAfter(policy), time(NULL)) <= 0)
		e = tao_fail(TAO_EEXPIRED,
		             "the policy certificate of the domain has expired: make a "
		             "new domain with 'tao init', or set the clock if it is wrong");
	else if (ASN1_TIME_cmp_time_t(X509_get0_notBefore(policy), time(NULL)) > 0)
		e = tao_fail(TAO_EEXPIRED, "the policy certificate of the domain is not valid yet: "
		                           "set the clock");
	if (e == TAO_OK)
		e = cert_organisation(policy, &organisation);
	if (e != TAO_OK)
		return e;
	cert = X509_new();
	if (cert == NULL || !fill_program(cert, policy, policy_key, organisation, p)) {
		e = tao_fail_crypto("cannot make the program certificate");
		X509_free(cert);
		cert = NULL;
	}
	free(organisation);
	*out = cert;
	return e;
}

/* ---- reading and writing ---- */

enum tao_err cert_organisation(X509 *cert, char **out)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_organizationName, -1);
	unsigned char *text = NULL;
	int n = -1;

	if (at >= 0)
		n = ASN1_STRING_to_UTF8(&text,
		                        X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (n < 0)
		return tao_fail(TAO_EFORMAT, "the policy certificate names no organisation");
	*out = strndup((const char *)text, (size_t)n);
	OPENSSL_free(text);
	return *out != NULL ? TAO_OK : tao_fail_nomem();
}

enum tao_err cert_to_der(X509 *cert, struct tao_buf *der)
{
	unsigned char *p = NULL;
	int n = i2d_X509(cert, &p);

	if (n < 0)
		return tao_fail_crypto("cannot encode a certificate");
	tao_buf_put(der, p, (size_t)n);
	OPENSSL_free(p);
	return tao_buf_err(der);
}

enum tao_err cert_to_pem(X509 *cert, struct tao_buf *pem)
{
	BIO *bio = BIO_new(BIO_s_mem());
	enum tao_err e = TAO_OK;
	char *p;
	long n;

	if (bio == NULL || !PEM_write_bio_X509(bio, cert)) {
		e = tao_fail_crypto("cannot encode a certificate");
	} else {
		n = BIO_get_mem_data(bio, &p);
		tao_buf_put(pem, p, (size_t)n);
		e = tao_buf_err(pem);
	}
	BIO_free(bio);
	return e;
}
