/*
 * AES-256-GCM (NIST SP 800-38D) with a 96-bit nonce and a 128-bit tag, under
 * the sealed blobs. Not a public header: a nonce used twice with a key gives
 * both messages and the key's authenticity away, so callers derive a fresh key.
 *
 * Associated data comes in parts, which are taken one behind the other.
 *
 * Errors: TAO_EALTERED (the tag does not fit; sentence is the caller's),
 * TAO_ELIMIT (text or a part above TAO_GCM_MAX), TAO_ECRYPTO.
 */
#ifndef TAO_GCM_H
#define TAO_GCM_H

#include "buf.h"

#define TAO_GCM_KEY 32
#define TAO_GCM_NONCE 12
#define TAO_GCM_TAG 16
#define TAO_GCM_MAX (16u << 20) /* bytes of text, and of a part */

/* Appends the ciphertext of n bytes and the tag. */
enum tao_err tao_gcm_seal(const uint8_t key[TAO_GCM_KEY], const uint8_t nonce[TAO_GCM_NONCE],
                          const struct tao_rd *aad, size_t n_aad, const void *p, size_t n,
                          struct tao_buf *out);
/* text is ciphertext and tag, n bytes with it. Appends the plaintext, nothing
 * if it is not authentic. */
enum tao_err tao_gcm_open(const uint8_t key[TAO_GCM_KEY], const uint8_t nonce[TAO_GCM_NONCE],
                          const struct tao_rd *aad, size_t n_aad, const uint8_t *text, size_t n,
                          struct tao_buf *out);

#endif
