/*
 * Sealed blobs: what a host encrypted, and only that host opens.
 *
 *   offset  size
 *     0      4   "TaoS"
 *     4      1   format version = 1
 *     5      1   kind: 1 key, 2 data of a program, 3 table of counters, 4 a running program,
 *                  5 data with a counter, 6 keys of channels
 *     6     32   host: SHA-256 of the SubjectPublicKeyInfo of the key in the host's name
 *    38      4   epoch of the sealing key, big-endian
 *    42     32   salt, random
 *    74   n+16   ciphertext and tag
 *
 * AES-256-GCM; key and nonce (32+12 bytes) are
 * HKDF-SHA-256(sealing secret, salt, "tao seal v1" || the first 42 bytes), so a key is used once.
 * Associated data: the caller's, then the first 74 bytes.
 *
 * Epochs. The sealing secret of epoch 1 is derived from the host's keyset; that of epoch N > 1 is
 * HKDF-SHA-256(secret of epoch 1, no salt, "tao seal epoch v1" || N, big-endian). New blobs are of
 * the current epoch; those of earlier ones open until their epoch is retired. Retiring is a rule
 * that the host keeps: whoever has its keyset can still derive every epoch's secret.
 *
 * Errors of opening: TAO_EFORMAT (not a blob), TAO_EVERSION (newer format or
 * epoch), TAO_EOTHERHOST, TAO_EALTERED, TAO_EEXPIRED (its epoch is retired). They are told apart
 * from plain header bytes, as advice to an honest user: whoever changes those gets TAO_EALTERED.
 */
#ifndef TAO_SEAL_H
#define TAO_SEAL_H

#include <stdatomic.h>

#include "buf.h"
#include "key.h"
#include "shield.h"

#define TAO_SEAL_HEADER 74
#define TAO_SEAL_TAG 16
#define TAO_SEAL_MAX (8u << 20) /* bytes of plaintext */

enum tao_seal_kind {
	TAO_SEAL_KEY = 1,
	TAO_SEAL_DATA = 2,
	TAO_SEAL_COUNTERS = 3,
	TAO_SEAL_INSTANCE = 4,
	TAO_SEAL_ROLLBACK = 5,
	TAO_SEAL_EPOCH = 6,
};

/* Any thread may seal and unseal while another one changes the epochs. */
struct tao_sealer {
	struct tao_shield *secret; /* TAO_DERIVER_LEN bytes, of epoch 1 */
	uint8_t host[TAO_HASH_LEN];
	_Atomic uint32_t epoch;          /* of new blobs */
	_Atomic uint32_t oldest;         /* earlier epochs are retired */
};

/* From a host's keyset: the secret is derived, the host is the signer's hash, epoch 1. The secret
 * is shielded (shield.h), and open while a blob is sealed or opened. */
enum tao_err tao_sealer_init(struct tao_sealer *s, const struct tao_keyset *ks);
void tao_sealer_clear(struct tao_sealer *s);
/* 1 <= oldest <= epoch, else TAO_EINVAL. */
enum tao_err tao_sealer_set_epochs(struct tao_sealer *s, uint32_t epoch, uint32_t oldest);
/* TAO_OK, or what unsealing something of that epoch says: TAO_EEXPIRED, TAO_EVERSION. */
enum tao_err tao_sealer_check_epoch(const struct tao_sealer *s, uint32_t epoch);
/* As its header says; 0: no blob. */
uint32_t tao_sealed_epoch(const void *blob, size_t n);

enum tao_err tao_seal(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                      size_t aad_n, const void *p, size_t n, struct tao_buf *blob);
enum tao_err tao_unseal(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                        size_t aad_n, const void *blob, size_t blob_n, struct tao_buf *out);

/* For the host's own things: the first seals in that epoch, the second opens whatever the epoch, so
 * that the caller decides (tao_sealer_check_epoch()). */
enum tao_err tao_seal_in(const struct tao_sealer *s, uint32_t epoch, enum tao_seal_kind kind,
                         const void *aad, size_t aad_n, const void *p, size_t n,
                         struct tao_buf *blob);
enum tao_err tao_unseal_any(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                            size_t aad_n, const void *blob, size_t blob_n, struct tao_buf *out);

#endif
