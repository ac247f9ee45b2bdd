/*
 * The kinds of signing keys, one table: CloudProxy's type names (go/tao/keys.go,
 * 4096-bit RSA added). Private to the key files of this folder.
 */
#ifndef TAO_KEYTYPE_H
#define TAO_KEYTYPE_H

#include <openssl/evp.h>

#include "err.h"
#include "tao.pb-c.h"

#define TAO_KEYTYPE_PUBLIC "-public" /* behind the name of a verifying key's type */

struct tao_keytype {
	const char *name;
	const char *group; /* elliptic curve; NULL: RSA */
	int bits;
	const char *oid;   /* the curve's, DER, oid_n bytes */
	size_t oid_n;
	size_t spki_n;     /* bytes of the SubjectPublicKeyInfo; 0: varies (RSA) */
};

/* NULL: none of them. name may end in "-public": then *is_public is 1. */
const struct tao_keytype *tao_keytype_named(const char *name, int *is_public);
const struct tao_keytype *tao_keytype_of(EVP_PKEY *key);

/* TAO_EVERSION for a newer version, TAO_EFORMAT if version, type or status are
 * missing or not ours. */
enum tao_err tao_cryptoheader_check(const Tao__CryptoHeader *h);

/* Fills in a header of ours; the strings stay the caller's. */
void tao_cryptoheader_fill(Tao__CryptoHeader *h, const char *name, const char *type,
                           const char *purpose);

#endif
