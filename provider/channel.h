/*
 * What tao_tls.so asks the host for: Tao channels (man/tao-channel.7).
 *
 * tao_tls.so is a module of its own, in one file with the provider, but a
 * process has one way to its host, and that is the provider's: its
 * connections, its door, its settings. The module gets a table of functions
 * from the loaded provider, as the provider's parameter CHANNEL_PARAM (an
 * octet pointer to struct channel). Both are built together; version tells a
 * mix of two builds, where files were copied.
 *
 * Functions follow the idiom of tao/err.h (why() is the sentence), put nothing
 * on the error queue, and may be called by any thread, also after fork. An
 * answer is the caller's: release() wipes and frees it. All calls but
 * handshake() wait for the host.
 *
 * Errors: those of tao_client_call(); TAO_EPROTO for what does not fit;
 * TAO_EINVAL where the settings of the provider are wrong.
 */
#ifndef PROVIDER_CHANNEL_H
#define PROVIDER_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include "tao/err.h"

#define CHANNEL_PARAM "tao-channel"
#define CHANNEL_VERSION 1
#define CHANNEL_IDENTITY_LEN 75   /* bytes of a PSK identity */
#define CHANNEL_SECRET_MAX 48     /* bytes of a PSK: as long as its hash */
#define CHANNEL_PRINCIPAL_MAX 8192 /* bytes of a principal, binary or text */
#define CHANNEL_CERT_MAX (64u << 10)
#define CHANNEL_CHAIN_MAX 16
#define CHANNEL_WHY_MAX 512       /* bytes of a sentence that goes to the audit log */

enum { CHANNEL_SHA256 = 1, CHANNEL_SHA384 = 2 };

struct channel_der {
	const uint8_t *p;
	size_t n;
};

/* What the host said; what an operation does not answer is 0 or NULL. */
struct channel_answer {
	int known, peers;            /* peer(), psk_client(): tao.proto, PeerResponse */
	int ours, allowed;           /* check_peer() */
	uint32_t seconds;            /* for so long it may be kept */
	const char *why;             /* NULL: nothing to be said */
	const uint8_t *identity;     /* psk_client(): CHANNEL_IDENTITY_LEN bytes */
	const uint8_t *psk;          /* NULL: there is none to be had, and why says so */
	size_t psk_n;
	const uint8_t *peer;         /* principal, binary */
	size_t peer_n;
	const char *peer_text;       /* check_peer() */
	size_t n_chain;              /* the peer's program certificate; the policy certificate is
	                              * last. 0 with a psk: it has none, and why says so */
	struct channel_der chain[CHANNEL_CHAIN_MAX];
};

/* For the audit log: fields as in tao.proto, HandshakeRequest. NULL: not known. */
struct channel_handshake {
	int server, completed;
	const char *mode;
	uint32_t tls_version;
	const char *group, *cipher, *name, *why;
	const uint8_t *peer;
	size_t peer_n;
	uint32_t count;
};

struct channel {
	uint32_t version;
	void *arg;
	/* 1: tao run started this process, or something that its host may know. */
	int (*usable)(void *arg);
	const char *(*why)(void);
	enum tao_err (*peer)(void *arg, const char *name, struct channel_answer **out);
	enum tao_err (*psk_client)(void *arg, const char *name, uint32_t tls_version, int hash,
	                           struct channel_answer **out);
	enum tao_err (*psk_server)(void *arg, const uint8_t *identity, size_t n,
	                           uint32_t tls_version, int hash, struct channel_answer **out);
	/* name: the caller is the client and calls the server that; NULL: the caller is the
	 * server. */
	enum tao_err (*check_peer)(void *arg, const struct channel_der *chain, size_t n, int server,
	                           const char *name, struct channel_answer **out);
	/* Posted: whether it arrived is not known. */
	enum tao_err (*handshake)(void *arg, const struct channel_handshake *h);
	/* The name of the program's own key, for tao:NAME; room for TAO_KEY_NAME_MAX + 1. */
	enum tao_err (*identity)(void *arg, char *name, size_t room);
	void (*release)(struct channel_answer *a);
};

#endif
