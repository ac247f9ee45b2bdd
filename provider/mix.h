/*
 * What the groups of Tao channels compute in the application: X25519 (RFC 7748), in the hybrid
 * group ML-KEM-768 (FIPS 203) beside it, and HKDF-Extract (RFC 5869) with the salt that the host
 * made. Public parts and shared secrets are joined with ML-KEM in front, as in X25519MLKEM768.
 *
 * What libcrypto would look up by name, and make, for each handshake anew is kept in struct mix:
 * that costs more there than all but the curve itself. One thread at a time has it; others that
 * come meanwhile make their own, so nobody waits, and no fork leaves anything locked.
 *
 * Errors: TAO_EFORMAT (the peer's part is no point or key, or the X25519 result is zero: the
 * peer's fault, told in a sentence), TAO_ECRYPTO. Nothing stays on OpenSSL's error queue.
 * What is secret is the caller's to wipe, also after a failure.
 */
#ifndef PROVIDER_MIX_H
#define PROVIDER_MIX_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include "tao/err.h"
#include "tao/mac.h"

#define MIX_X25519 32     /* bytes of a point, and of a result */
#define MIX_MLKEM_KEY 1184
#define MIX_MLKEM_TEXT 1088
#define MIX_MLKEM_SECRET 32
#define MIX_SECRET 32     /* what comes out of mix_extract(), and its salt */

struct mix_tools;

/* ctx: the provider's inner context, which outlives it; NULL is the default one. */
struct mix {
	OSSL_LIB_CTX *ctx;
	_Atomic(struct mix_tools *) idle; /* those that nobody uses now, or NULL */
	struct tao_mac mac;               /* HMAC-SHA-256 */
};

void mix_init(struct mix *m, OSSL_LIB_CTX *ctx);
void mix_clear(struct mix *m); /* may be used again after it */

/* Private halves. */
struct mix_pair {
	EVP_PKEY *x25519;
	EVP_PKEY *mlkem; /* the client's; NULL: the group has none */
};

struct mix_ikm {
	uint8_t p[MIX_MLKEM_SECRET + MIX_X25519];
	size_t n;
};

/* The client begins: makes a pair, and writes its public part. */
enum tao_err mix_begin(struct mix *m, int hybrid, struct mix_pair *pair, uint8_t *pub);
/* Refuses a peer's public part (server: the server's) whose X25519 point is of small order, so that
 * the result would be zero: before the host is asked, whose work is wasted on it. */
enum tao_err mix_check(int hybrid, int server, const uint8_t *peer);
/* The server answers a client's public part with its own; ikm is whole when mix_answer_end() has
 * added what X25519 gives. */
enum tao_err mix_answer(struct mix *m, int hybrid, const uint8_t *peer, struct mix_pair *pair,
                        uint8_t *pub, struct mix_ikm *ikm);
enum tao_err mix_answer_end(struct mix *m, int hybrid, const uint8_t *peer,
                            const struct mix_pair *pair, struct mix_ikm *ikm);
/* The client has the server's. */
enum tao_err mix_finish(struct mix *m, const struct mix_pair *pair, const uint8_t *peer,
                        struct mix_ikm *ikm);
enum tao_err mix_extract(struct mix *m, const struct mix_ikm *ikm,
                         const uint8_t salt[MIX_SECRET], uint8_t out[MIX_SECRET]);

/* X25519 alone: out has MIX_X25519 bytes. */
enum tao_err mix_x25519(struct mix *m, EVP_PKEY *own, const uint8_t *peer, uint8_t *out);

/* Counts one more holder of the pair's keys. */
void mix_pair_share(const struct mix_pair *pair);
void mix_pair_free(struct mix_pair *pair);

#endif
