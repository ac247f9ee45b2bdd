/*
 * Secrets that are encrypted in memory between uses, as OpenSSH shields its
 * private keys (sshkey.c, since 8.1): against attacks that read memory a part
 * at a time or with errors (speculative execution, Rowhammer, an over-read of
 * the heap). Whoever wants the secret must read 16 KiB of random bytes without
 * an error in one of them.
 *
 *   prekey  16384 random bytes, in a mapping of their own between two pages that
 *           nobody may touch, kept out of core dumps
 *   digest  SHA-512(prekey): AES-256 key (32) | nonce (12) | not used (20)
 *   kept    AES-256-GCM of the secret, no associated data
 *
 * Each secret has a prekey of its own, so a key is used for one text. A secret
 * is opened for one use into memory that is the caller's to wipe, and the kept
 * form stays as it is. It does not help against somebody who runs code in the
 * process, or reads all of its memory at leisure.
 *
 * Cost: opening takes about 20 microseconds, most of it SHA-512 over the
 * prekey; a P-256 signing key about 250, since libcrypto's object is made anew. So
 * this is for secrets of rare use: the sealing secret is used once for each blob
 * that is sealed or opened, the root's and the policy key once for each statement,
 * certificate or set of rules; none of them in a handshake's signature.
 *
 * OpenSSL's secure heap (CRYPTO_secure_malloc_init) is not used besides: its
 * size is fixed at the start, and libcrypto fails for good where it is full,
 * so that many keys would stop a host; it takes one lock for all threads; and
 * what it gives, locked memory that is wiped and not dumped, taod has for all
 * of its memory.
 *
 * Any thread may open a shield, several at a time. Ownership: a shield is the
 * caller's (tao_shield_free(), NULL-safe, wipes).
 *
 * Errors: TAO_ENOMEM, TAO_ECRYPTO, TAO_ELIMIT (more than TAO_SHIELD_MAX), and
 * TAO_EALTERED: the memory was changed.
 */
#ifndef TAO_SHIELD_H
#define TAO_SHIELD_H

#include <stddef.h>

#include <openssl/evp.h>

#include "buf.h"

#define TAO_SHIELD_PREKEY 16384 /* bytes */
#define TAO_SHIELD_MAX 65536    /* bytes of a secret */

struct tao_shield;

/* Shields a copy of these bytes; the original is the caller's to wipe. */
enum tao_err tao_shield_new(const void *p, size_t n, struct tao_shield **out);
/* Appends the secret; tao_buf_free() wipes it. */
enum tao_err tao_shield_open(const struct tao_shield *s, struct tao_buf *out);
void tao_shield_free(struct tao_shield *s);

/* A signing key whose private half is shielded. Zeroed it is none. */
struct tao_signer {
	EVP_PKEY *public; /* to verify with, and to hash */
	struct tao_shield *shield;
};

/* key stays the caller's, who frees it soon. On failure *s is none. */
enum tao_err tao_signer_init(struct tao_signer *s, EVP_PKEY *key);
/* The key for one use: EVP_PKEY_free() wipes it. */
enum tao_err tao_signer_open(const struct tao_signer *s, EVP_PKEY **key);
void tao_signer_clear(struct tao_signer *s);

#endif
