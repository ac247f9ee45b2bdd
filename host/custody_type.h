/*
 * Types of sealed keys: what each can do, how it is generated, and what bytes
 * stand for it inside a blob (SealedKey.private_key).
 *
 *   type                              bytes
 *   p256 p384 p521                    the scalar, as long as the field, big-endian
 *   ed25519 x25519                    32 bytes (RFC 8032, RFC 7748)
 *   ml-dsa-44 ml-dsa-65 ml-dsa-87     the seed, 32 bytes (FIPS 204; RFC 9881); needs OpenSSL 3.5
 *   rsa2048 rsa3072 rsa4096           PKCS#8 PrivateKeyInfo, DER, with all CRT values
 *   rsa-pss-2048 -3072 -4096          the same; its AlgorithmIdentifier has the restriction
 *
 * Reading computes the public half anew: a point or public key from the
 * scalar; for RSA, the parts must belong together (n = pq, ed = 1 modulo p-1
 * and q-1, CRT values). The caller compares the result with the stub's.
 *
 * Errors: TAO_EINVAL (no such type, one that this host's libcrypto lacks, not this restriction),
 * TAO_EALTERED (bytes that are no such key), TAO_EFORMAT (an imported key that will not do),
 * TAO_ECRYPTO, TAO_ENOMEM. Keys are the caller's (EVP_PKEY_free).
 */
#ifndef HOST_CUSTODY_TYPE_H
#define HOST_CUSTODY_TYPE_H

#include <openssl/evp.h>

#include "../tao/buf.h"

/* ML-DSA's mu, as a digest: what the algorithm itself makes of public key, context and message
 * (FIPS 204, algorithm 7, line 6), so that a long message need not come here. */
#define KEY_DIGEST_MU "MU"
#define KEY_MU_LEN 64
#define KEY_RSA_EXPONENT_BITS 32 /* a huge exponent makes verifying slow */

/* What a type can do; purposes are in these terms, too. */
#define KEY_SIGNS 1u
#define KEY_DECRYPTS 2u
#define KEY_DERIVES 4u

/* Restriction of RSA-PSS keys. */
struct key_pss {
	const char *digest, *mgf1; /* libcrypto's names; NULL: SHA256, and digest */
	int salt_len;              /* at least; -1: the digest's length */
};

struct key_type {
	const char *name;
	const char *algorithm; /* libcrypto's name */
	const char *group;     /* of elliptic curves */
	unsigned bits;
	unsigned can;
	const char *digest;    /* for whole messages; NULL: takes the message itself */
	int slow;              /* one operation may take more than 0.3 ms */
	unsigned mu;           /* bytes of KEY_DIGEST_MU, if it signs that as well; else 0 */
	const struct key_coding *coding; /* custody_coding.h */
};

/* NULL: none. */
const struct key_type *key_type_named(const char *name);
const struct key_type *key_type_of(EVP_PKEY *key);
/* "p256, p384, ...". */
void key_type_list(struct tao_buf *out);

/* pss: NULL for what is no RSA-PSS key, or for the default. */
enum tao_err key_type_generate(const struct key_type *t, const struct key_pss *pss,
                               EVP_PKEY **out);
/* The restriction of an RSA-PSS key that exists: strings are in *digest and *mgf1.
 * 0: it has none. */
#define KEY_PSS_NAME 32
int key_type_pss(EVP_PKEY *key, char digest[KEY_PSS_NAME], char mgf1[KEY_PSS_NAME],
                 struct key_pss *out);

/* To and from the bytes of a blob. */
enum tao_err key_type_write(const struct key_type *t, EVP_PKEY *key, struct tao_buf *out);
enum tao_err key_type_read(const struct key_type *t, const void *p, size_t n, EVP_PKEY **out);

/* PKCS#8 DER, unencrypted. */
enum tao_err key_pkcs8_write(EVP_PKEY *key, struct tao_buf *out);
/* A key from elsewhere: exactly one PrivateKeyInfo, of one of the types; checked in full (slow). */
enum tao_err key_pkcs8_import(const void *p, size_t n, const struct key_type **t, EVP_PKEY **out);

#endif
