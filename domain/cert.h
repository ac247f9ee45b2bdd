/*
 * X.509 certificates of a domain: its policy certificate and those of its
 * programs. What is in them is told in domain.h.
 *
 * Results are the caller's (X509_free). Errors: TAO_ECRYPTO, TAO_ENOMEM, and
 * TAO_EEXPIRED when the policy certificate is not valid now.
 */
#ifndef DOMAIN_CERT_H
#define DOMAIN_CERT_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "../tao/err.h"
#include "../tao/key.h"

#define CERT_MAX_NAME 64  /* bytes of a domain's name: an organisation's in X.509 */
#define CERT_BACKDATE 300 /* seconds that a certificate's start lies before its making */

/* 1..CERT_MAX_NAME bytes of UTF-8 without control characters; else TAO_EINVAL. */
enum tao_err cert_name_check(const char *name);

enum tao_err cert_policy(EVP_PKEY *key, const char *name, X509 **out);

struct cert_program {
	EVP_PKEY *key;         /* the program's, public */
	const char *principal; /* text of its name */
	const char *urn;
	/* keyUsage, extendedKeyUsage, as in openssl's x509v3.cnf */
	const char *usage, *extended_usage;
	const char *const *dns; /* n_dns names, sorted */
	size_t n_dns;
	uint32_t seconds; /* life; ends with the policy certificate's at the latest */
};
enum tao_err cert_program(X509 *policy, EVP_PKEY *policy_key, const struct cert_program *p,
                          X509 **out);

/* The organisation of a certificate's subject, malloc'ed. TAO_EFORMAT if it has none. */
enum tao_err cert_organisation(X509 *cert, char **out);
enum tao_err cert_to_der(X509 *cert, struct tao_buf *der);
enum tao_err cert_to_pem(X509 *cert, struct tao_buf *pem);

#endif
