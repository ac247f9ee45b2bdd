/*
 * Keys of Tao channels in TLS, and the bytes that name them on the wire:
 * tao-channel(7) has them all, with why they are so.
 *
 * Everything is HMAC (RFC 2104) or the first block of HKDF-Expand (RFC 5869); integers are
 * big-endian, names are binary principals, C is the client and S the server.
 *
 *   pair key    HKDF-Expand(R, "tao pair v1" | epoch(4) | SHA-256(ancestor) | SHA-256(C) |
 * SHA-256(S), 32)
 *   group key   HKDF-Expand(R, "tao group v1" | epoch(4) | SHA-256(ancestor) | SHA-256(members),
 * 32)
 *               members: the SHA-256 of each, sorted bytewise, joined
 *   id          HMAC-SHA-256(N, "tao id v1" | name), first 16 bytes
 *   tag         HMAC-SHA-256(K, "tao psk tag v1" | identity before the tag), first 16 bytes
 *   psk         HKDF-Expand(K, "tao psk v1" | identity, length of the hash), with that hash
 *   salt        HKDF-Expand(K, "tao x25519 v1" | SHA-256(client share) | SHA-256(server share), 32)
 *
 * R and N are an epoch's root and naming key, K is a pair key. Identity of a PSK, 75 bytes:
 *
 *   format(1) = 1 | epoch(4) | time(4) | hash(1) | TLS version(2) | id C(16) | id S(16) |
 *   nonce(15) | tag(16)
 *
 * Key share of the groups: the groups' own part, then 37 bytes:
 *
 *   format(1) = 1 | epoch(4) | id(16) | nonce(16)
 *
 * Parsed structs point into the bytes given. Results are secrets but for ids and tags: the
 * caller wipes them. Errors: TAO_EFORMAT, TAO_EVERSION, TAO_EINVAL, TAO_ECRYPTO.
 */
#ifndef TAO_TLSKEYS_H
#define TAO_TLSKEYS_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "key.h"
#include "mac.h"

#define TLSKEYS_LEN 32 /* bytes of a root, a naming key, a pair key, a group key, a salt */
#define TLSKEYS_ID 16
#define TLSKEYS_TAG 16
#define TLSKEYS_FORMAT 1
#define TLSKEYS_IDENTITY 75
#define TLSKEYS_IDENTITY_NONCE 15
#define TLSKEYS_SHARE_TAIL 37
#define TLSKEYS_SHARE_NONCE 16
#define TLSKEYS_PSK_MAX 48
#define TLSKEYS_MEMBERS 64 /* of a group key */

enum { TLSKEYS_SHA256 = 1, TLSKEYS_SHA384 = 2 };         /* hashes */
enum { TLSKEYS_X25519 = 0xfe10, TLSKEYS_X25519MLKEM768 = 0xfe11 }; /* groups */

/* What libcrypto has to look up, kept for who derives many; any thread. NULL where a function
 * takes one: it is looked up there. */
struct tlskeys {
	EVP_MD *sha256;
	struct tao_mac mac[TLSKEYS_SHA384 + 1]; /* by hash */
};
enum tao_err tlskeys_new(struct tlskeys **out);
void tlskeys_free(struct tlskeys *t);

enum tao_err tlskeys_pair(const uint8_t root[TLSKEYS_LEN], uint32_t epoch,
                          const uint8_t ancestor[TAO_HASH_LEN], const uint8_t c[TAO_HASH_LEN],
                          const uint8_t s[TAO_HASH_LEN], uint8_t key[TLSKEYS_LEN]);
/* Sorts the hashes in place; 2 to TLSKEYS_MEMBERS, none twice, else TAO_EINVAL. */
enum tao_err tlskeys_group(const uint8_t root[TLSKEYS_LEN], uint32_t epoch,
                           const uint8_t ancestor[TAO_HASH_LEN], uint8_t (*member)[TAO_HASH_LEN],
                           size_t n, uint8_t key[TLSKEYS_LEN]);
enum tao_err tlskeys_id(const uint8_t naming[TLSKEYS_LEN], const void *name, size_t n,
                        uint8_t id[TLSKEYS_ID]);

struct tlskeys_identity {
	uint32_t epoch, time; /* time: low 32 bits of the seconds since 1970 */
	unsigned hash;
	unsigned version;     /* of TLS: 0x0304 */
	const uint8_t *c, *s, *nonce, *tag; /* tag: NULL before it is written */
};
/* Format, length, and that the hash is one. */
enum tao_err tlskeys_identity_parse(const void *p, size_t n, struct tlskeys_identity *out);
/* All TLSKEYS_IDENTITY bytes, with the tag that K gives it. */
enum tao_err tlskeys_identity_write(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                                    const struct tlskeys_identity *i,
                                    uint8_t out[TLSKEYS_IDENTITY]);
/* TAO_OK if the tag is K's, TAO_EALTERED if not; in constant time. */
enum tao_err tlskeys_identity_check(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                                    const uint8_t identity[TLSKEYS_IDENTITY]);
/* psk has room for TLSKEYS_PSK_MAX bytes, *n becomes those of the identity's hash. */
enum tao_err tlskeys_psk(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                         const uint8_t identity[TLSKEYS_IDENTITY], uint8_t psk[TLSKEYS_PSK_MAX],
                         size_t *n);

struct tlskeys_share {
	const uint8_t *public; /* the group's own part */
	size_t public_n;
	uint32_t epoch;
	const uint8_t *id, *nonce;
};
/* Bytes of the group's own part in that side's share; 0: no such group. */
size_t tlskeys_public_len(unsigned group, int server);
enum tao_err tlskeys_share_parse(unsigned group, int server, const void *p, size_t n,
                                 struct tlskeys_share *out);
void tlskeys_share_write(const struct tlskeys_share *s, struct tao_buf *out);
enum tao_err tlskeys_salt(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                          const void *client_share, size_t client_n, const void *server_share,
                          size_t server_n, uint8_t salt[TLSKEYS_LEN]);

#endif
