/*
 * RSA decryption with PKCS#1 v1.5 padding, such that nobody learns whether the
 * padding was right (Bleichenbacher's oracle).
 *
 * pkcs1_decrypt() rejects implicitly: a wrong padding gives a message that
 * looks random, has a random length, and is the same each time for the same
 * key and ciphertext (draft-irtf-cfrg-rsa-guidance, section 7). libcrypto does
 * it from 3.2 on; with an older one it is done here, to the same bytes: KDK =
 * HMAC-SHA-256(SHA-256(d), ciphertext); lengths and message come from a PRF
 * over KDK, and choosing takes the same time whatever is chosen. Blinding is
 * libcrypto's own, on by default.
 *
 * pkcs1_tls_premaster() is TLS's form: 48 bytes, random ones if the padding, the
 * length or the version in it is wrong (RFC 5246 section 7.4.7.1), decided by
 * libcrypto in constant time.
 *
 * What is left: the length of the answer, which the caller sees anyway, and
 * what a caller does with random bytes. TAO_EINVAL: the ciphertext is no number
 * below the modulus, which everybody could see.
 */
#ifndef HOST_PKCS1_H
#define HOST_PKCS1_H

#include <openssl/evp.h>

#include "../tao/buf.h"

#define PKCS1_PREMASTER 48

enum tao_err pkcs1_decrypt(EVP_PKEY *key, const uint8_t *p, size_t n, struct tao_buf *plain);
enum tao_err pkcs1_tls_premaster(EVP_PKEY *key, uint32_t version, uint32_t alt_version,
                                 const uint8_t *p, size_t n, struct tao_buf *plain);
/* Ours, whatever libcrypto has: for tests against it. */
enum tao_err pkcs1_decrypt_here(EVP_PKEY *key, const uint8_t *p, size_t n, struct tao_buf *plain);

#endif
