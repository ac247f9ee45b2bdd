/*
 * The TLS 1.3 groups of Tao channels: tao_x25519 (code point 0xFE10) and tao_x25519mlkem768
 * (0xFE11; announced where libcrypto is 3.5 or later, as found when the program runs). The bytes
 * and why they are so: tao-channel(7). Both are KEMs: the client generates a key, the server
 * encapsulates to it, the client decapsulates.
 *
 *   share   public part ‖ format 1 (1) ‖ epoch (4) ‖ id (16) ‖ nonce (16)
 *   secret  HKDF-Extract(salt, X25519 result), salt being the host's
 *
 * The host is asked when a share is made (Tao.GroupNonces, for a batch of nonces), when a server
 * encapsulates (Tao.GroupServer) and when a client decapsulates (Tao.GroupClient); never
 * before, so that who does not use a group does not ask. It gets both shares and
 * never a result of X25519. What it answers is checked; if it refuses, so does the KEM: there is
 * no way back to plain X25519 from here.
 *
 * A batch of nonces belongs to one process: it is dropped in a forked child, when the UTC day
 * changes (epochs do then), when half of its time has passed, and when the host
 * refused a share.
 *
 * Errors: those of prov_call(); TAO_EFORMAT for the peer's share and nothing else; group_raise()
 * turns them into reasons that name the group.
 */
#ifndef PROVIDER_GROUP_H
#define PROVIDER_GROUP_H

#include <stdatomic.h>

#include "mix.h"
#include "provider.h"
#include "reply.h"

#define GROUP_FORMAT 1
#define GROUP_ID 16
#define GROUP_NONCE 16
#define GROUP_TAIL (1 + 4 + GROUP_ID + GROUP_NONCE)
#define GROUP_PUBLIC_MAX (MIX_MLKEM_KEY + MIX_X25519)
#define GROUP_SHARE_MAX (GROUP_PUBLIC_MAX + GROUP_TAIL)
#define GROUP_BATCH REPLY_NONCES_MAX /* nonces asked for at once */

struct group {
	const char *name; /* of the group, its key management and its KEM */
	unsigned id;      /* TLS code point */
	int bits, security_bits;
	int hybrid;       /* with ML-KEM */
	size_t client_public, server_public; /* bytes in front of a share's tail */
};

extern const struct group group_x25519;
extern const struct group group_mlkem;

/* 1 if this libcrypto has ML-KEM. */
int group_has_mlkem(void);

/* A share, split; points into it. */
struct share {
	const uint8_t *pub;
	uint32_t epoch;
	const uint8_t *id, *nonce;
};
/* TAO_EFORMAT: the length or the format is another. */
enum tao_err group_share(const struct group *g, int server, const uint8_t *p, size_t n,
                         struct share *s);

/* Writes a client's tail, with a nonce that is used for no other. */
enum tao_err group_tail(struct prov *p, uint8_t tail[GROUP_TAIL]);
/* Forgets the batch; at the end, and when the host no longer knows it. */
void group_drop_nonces(struct prov *p);

/* Who the peer is: its principal, binary. Owned by whoever asked; group_peer_free(). */
struct group_peer {
	size_t n;
	uint8_t name[];
};
/* The server's share and the salt, for a client's share (whole) and the server's public part.
 * w: what is done while the host works (tao/client.h). */
enum tao_err group_ask_server(struct prov *p, const struct group *g, const uint8_t *client,
                              const uint8_t *pub, struct tao_meanwhile *w, uint8_t *share,
                              uint8_t salt[MIX_SECRET], struct group_peer **peer);
/* The salt of both shares, for the client. */
enum tao_err group_ask_client(struct prov *p, const struct group *g, const uint8_t *client,
                              const uint8_t *server, struct tao_meanwhile *w,
                              uint8_t salt[MIX_SECRET], struct group_peer **peer);
void group_peer_free(struct group_peer *peer); /* NULL is fine */

/*
 * The key object (keymgmt/tao_x25519.c): a client's share with the private halves, or just a share,
 * which a server was sent. It is counted by reference. Once OpenSSL has it, only the peer
 * changes, from NULL to what the KEM learnt, and that is read by other threads.
 */
struct group_key {
	atomic_int refs;
	struct prov *prov;
	const struct group *group;
	struct mix_pair pair;
	size_t share_n; /* 0: nothing yet */
	uint8_t share[GROUP_SHARE_MAX];
	_Atomic(struct group_peer *) peer;
};
struct group_key *group_key_up_ref(struct group_key *k);
void group_key_free(struct group_key *k); /* drops one count; NULL is fine */

/* As prov_raise(), with the reason of a group; returns 0. */
int group_raise_at(struct prov *p, const char *file, int line, const char *func,
                   enum tao_err e);
#define group_raise(p, e) group_raise_at(p, __FILE__, __LINE__, __func__, e)

OSSL_FUNC_provider_get_capabilities_fn group_capabilities;

#endif
