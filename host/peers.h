/*
 * Tao channels: what the host does for programs that talk to each other in TLS (tao-channel(7)).
 *
 *   ancestor.h      epochs, ids, pair and group keys
 *   peers.c         names of programs, who may talk to whom, pair keys at hand; with the host
 *   peers_nonce.c   what is drawn and what is spent
 *   peers_cert.c    certificates that peers are shown; the one that every program has
 *   peers_check.c   certificates that peers have shown
 *   op_peers.c, op_group.c    the operations (tao.proto, "Tao channels")
 *
 * What a handshake needs is at hand: a verdict on a pair is kept with the version of the rules that
 * it is of, and is asked for anew when that has changed; a change of the rules wipes all pair keys.
 * What
 * is not at hand is found by a thread that may be slow.
 *
 * Limits are at the top of the files; those on one pair or program refuse, and put nothing out that
 * tells what was used. What a pair takes is its client's user's: a server is chosen by others.
 *
 * Errors: TAO_EDENIED with the reason, TAO_EEXPIRED, TAO_ENOTFOUND, TAO_ELIMIT, OP_LATER (with
 * !slow only) when a slow thread has to do it.
 */
#ifndef HOST_PEERS_H
#define HOST_PEERS_H

#include <pthread.h>

#include "ancestor.h"
#include "host.h"
#include "spent.h"

#define PEERS_TIME 300        /* seconds: an identity is good for so long, before and after */
#define PEERS_NONCE_SECONDS 300 /* a nonce of a client's share is good for so long */
#define PEERS_VERDICT_SECONDS 10 /* programs keep what they were told for so long */
#define PEERS_DNS_MAX 253
#define PEERS_CHAIN_MAX 10    /* certificates that a peer may show */

struct peers;

/* A program's certificate, to show to its peers; never changed, reference-counted. */
struct card {
	atomic_uint refs;
	uint8_t principal[TAO_HASH_LEN];
	uint64_t version; /* of the rules */
	int64_t until;    /* loop_now() */
	struct tao_buf cert; /* DER; empty: none is to be had */
	char *why;           /* then */
	struct card *next;
};

/* Who serves a name, for one client; never changed, reference-counted. */
struct service {
	atomic_uint refs;
	char *name;
	uint8_t client[TAO_HASH_LEN];
	uint64_t version, newest; /* of the rules; the newest instance */
	uint64_t servers;         /* how many had answered then */
	int64_t until;            /* loop_now() */
	int known;                /* some program is said to serve it */
	struct instance *inst;    /* NULL: nobody, and why says so */
	const struct tao_node *named; /* its name then */
	struct principal *server;
	struct card *card;
	char *why;
};

/* ---- with the host (peers.c) ---- */

/* Needs domain, sealer and name. */
enum tao_err peers_start(struct host *h);
/* What is due from time to time; needs the loop. */
enum tao_err peers_watch(struct host *h);
void peers_free(struct host *h);
/* The rules have changed: wipes what may not be true any more. */
void peers_purge(struct host *h);
/* An instance is over; with its last reference. */
void peers_instance_end(struct host *h, struct instance *i);
void peers_instance_free(struct instance *i);

/* ---- programs and pairs (peers.c) ---- */

/* TAO_EDENIED if the domain has revoked it; costs nothing while the rules stay as they are. */
enum tao_err peers_not_revoked(struct host *h, struct instance *i);
/* Its name as it is now, known to the ancestor; a reference. */
enum tao_err peers_principal(struct host *h, struct instance *i, struct principal **out);
const struct tao_ancestor *peers_ancestor(struct host *h);
/* May the client talk to the server? key: NULL, or for their pair key in that epoch. */
enum tao_err peers_pair(struct host *h, uint32_t epoch, struct principal *c, struct principal *s,
                        uint8_t key[TLSKEYS_LEN]);
/* The keys of that epoch are accepted and there. TAO_EEXPIRED, OP_LATER. */
enum tao_err peers_epoch(struct host *h, uint32_t epoch, int slow);
uint32_t peers_now(struct host *h); /* the present epoch */
/* 1 while the clock is behind what it was: no identity is made or accepted, since those that were
 * answered then are not remembered. */
int peers_clock_was_set_back(struct host *h, int64_t now);
/* Lower case, without the dot at its end; TAO_EINVAL: neither a DNS name nor an address. */
enum tao_err peers_name(const char *name, char out[PEERS_DNS_MAX + 1]);

/* ---- nonces (peers_nonce.c) ---- */

struct nonces;
enum tao_err nonces_new(const struct host_conf *c, struct nonces **out);
void nonces_free(struct nonces *n);
/* Before it, identities are refused. */
int64_t nonces_floor(struct nonces *n);
/* A nonce that tells its own instance again. */
enum tao_err nonces_identity(struct nonces *n, const struct instance *i,
                             uint8_t out[TLSKEYS_IDENTITY_NONCE]);
int nonces_identity_is_own(struct nonces *n, const struct instance *i,
                           const uint8_t nonce[TLSKEYS_IDENTITY_NONCE]);
/* count of them, for client shares of i. */
enum tao_err nonces_shares(struct nonces *n, const struct instance *i, size_t count, uint8_t *out);
/* 1: it was drawn for i; *drawn: when, and as which one. */
int nonces_share_is_own(struct nonces *n, const struct instance *i,
                        const uint8_t nonce[TLSKEYS_SHARE_NONCE], uint64_t *drawn);
/* Of the pair, of the instance: the second time is TAO_EDENIED. */
enum tao_err nonces_spend_identity(struct nonces *n, struct spent *s, int64_t time,
                                   const uint8_t nonce[TLSKEYS_IDENTITY_NONCE]);
enum tao_err nonces_spend_share(struct nonces *n, struct instance *i, uint64_t drawn);
/* Frees what is too old to matter; everything. */
void nonces_sweep_identities(struct nonces *n, struct spent *s, int64_t now);
void nonces_clear(struct nonces *n, struct spent *s);
/* peers.c: spends a PSK's nonce in the pair that it is of. time: when it was drawn, whole. */
enum tao_err peers_spend(struct host *h, const struct tlskeys_identity *id, int64_t time,
                         const struct principal *c, const struct principal *s);

/* ---- certificates to show (peers_cert.c) ---- */

#define PEERS_KEY_PREFIX "identity-" /* names of keys that the host makes for programs */

/* The key of its own that i has for channels, and its certificate: made if they are not there.
 * Slow.
 * cert may be NULL. */
enum tao_err peers_identity(struct host *h, struct instance *i, struct held_key **k,
                            struct tao_buf *stub, struct tao_buf *cert);
/* TAO_EINVAL: keys of that name are the host's to make. */
enum tao_err peers_key_name_check(const char *name);
/* Those at hand, or new ones (slow); a reference. i: an instance of that name, NULL: it is looked
 * for. */
enum tao_err peers_card(struct host *h, struct instance *i, const struct principal *p, int slow,
                        struct card **out);
/* i: the client. Of the programs that may be the server, the newest that was one already, else the
 * newest: the same executable may run as server and as client. */
enum tao_err peers_service(struct host *h, struct instance *i, const struct principal *client,
                           const char *name, int slow, struct service **out);
/* i is the server of a channel. */
void peers_answered(struct host *h, struct instance *i);
void card_unref(struct card *c);       /* NULL-safe */
void service_unref(struct service *s); /* NULL-safe */
struct cards;
struct cards *cards_new(void);
void cards_free(struct cards *c);
void cards_purge(struct cards *c, const struct instance *i); /* NULL: all */

/* ---- certificates that were shown (peers_check.c) ---- */

struct shown;
struct shown *shown_new(void);
void shown_free(struct shown *s);
/* A certificate of this domain for a program: *p is a reference, NULL if it is another's. subject:
 * the SHA-256 of its key. TAO_EEXPIRED: it is not valid now. */
enum tao_err shown_program(struct host *h, const void *der, size_t n, struct principal **p,
                           uint8_t subject[TAO_HASH_LEN]);

struct peers {
	pthread_mutex_t lock; /* of pairs and of instances' names */
	struct tao_ancestor ancestor;
	struct pair **pairs;
	struct share room; /* of pairs */
	struct nonces *nonces;
	struct tlskeys *keys;
	atomic_ullong servers; /* how many instances were the server of a channel */
	struct cards *cards;
	struct shown *shown;
};

#endif
