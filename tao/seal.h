/*
 * Sealed blobs: what a host encrypted, and only that host opens.
 *
 *   offset  size
 *     0      4   "TaoS"
 *     4      1   format version = 1
 *     5      1   kind: 1 key, 2 data of a program, 3 (not used here), 4 a running program
 *     6     32   host: SHA-256 of the SubjectPublicKeyInfo of the key in the host's name
 *    38      4   epoch of the sealing key, big-endian
 *    42     32   salt, random
 *    74   n+16   ciphertext and tag
 *
 * AES-256-GCM; key and nonce (32+12 bytes) are
 * HKDF-SHA-256(sealing secret, salt, "tao seal v1" || the first 42 bytes), so a key is used once.
 * Associated data: the caller's, then the first 74 bytes.
 *
 * Errors of opening: TAO_EFORMAT (not a blob), TAO_EVERSION (newer format or
 * epoch), TAO_EOTHERHOST, TAO_EALTERED. They are told apart from plain header
 * bytes, as advice to an honest user; nothing is decided by them.
 */
#ifndef TAO_SEAL_H
#define TAO_SEAL_H

#include "buf.h"
#include "key.h"
#include "shield.h"

#define TAO_SEAL_HEADER 74
#define TAO_SEAL_TAG 16
#define TAO_SEAL_MAX (8u << 20) /* bytes of plaintext */

enum tao_seal_kind { TAO_SEAL_KEY = 1, TAO_SEAL_DATA = 2, TAO_SEAL_INSTANCE = 4 };

struct tao_sealer {
	struct tao_shield *secret; /* TAO_DERIVER_LEN bytes */
	uint8_t host[TAO_HASH_LEN];
	uint32_t epoch;
};

/* From a host's keyset: the secret is derived, the host is the signer's hash, epoch 1. The secret
 * is shielded (shield.h), and open while a blob is sealed or opened. */
enum tao_err tao_sealer_init(struct tao_sealer *s, const struct tao_keyset *ks);
void tao_sealer_clear(struct tao_sealer *s);

enum tao_err tao_seal(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                      size_t aad_n, const void *p, size_t n, struct tao_buf *blob);
enum tao_err tao_unseal(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                        size_t aad_n, const void *blob, size_t blob_n, struct tao_buf *out);

#endif
