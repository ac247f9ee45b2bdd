/*
 * A context of the inner library that holds and checks an RSA operation's
 * parameters, for its public key: padding, salt, digests and what a restricted
 * key allows are OpenSSL's own business. It verifies and encrypts; what
 * it says of the rest goes to the host.
 *
 * Functions are 1 or 0, or NULL, and leave nothing on the error queue.
 */
#ifndef PROVIDER_INNER_H
#define PROVIDER_INNER_H

#include "provider.h"

/* begin: one of EVP_PKEY_*_init(). The caller's: EVP_PKEY_CTX_free(). */
EVP_PKEY_CTX *inner_new(struct prov *p, EVP_PKEY *pub, int (*begin)(EVP_PKEY_CTX *));
/* NULL also for NULL. */
EVP_PKEY_CTX *inner_dup(const EVP_PKEY_CTX *c);
/* NULL has no parameters: 0. */
int inner_get_params(EVP_PKEY_CTX *c, OSSL_PARAM params[]);
/* NULL takes none, but nothing is set in any case: 1 if params has none. */
int inner_set_params(EVP_PKEY_CTX *c, const OSSL_PARAM params[]);
/* One of its parameters as a number, of the padding for example. EVP_PKEY_CTX_get_rsa_padding() of
 * OpenSSL 3.0 crashes where the number that was set is no padding, and
 * EVP_PKEY_CTX_get_rsa_pss_saltlen() makes 0 of OpenSSL 3.1's default. */
int inner_get_int(EVP_PKEY_CTX *c, const char *name, int *out);

#endif
