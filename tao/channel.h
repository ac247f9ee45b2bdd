/*
 * Channels: TLS connections between programs that know each other's names.
 *
 * Both ends show a program certificate (`tao:NAME`: the sealed key, its
 * certificate and chain, through OpenSSL's store in the default library
 * context, so the program runs under `tao run`). The peer's chain must end at
 * the domain's policy certificate, tao:ca, and nowhere else; its name is then the
 * urn:tao: URI of the certificate, which must be the same as the OU. Whoever it
 * is, it must be authorised before the channel is handed out.
 *
 * TLS 1.3 only, without resumption. There is nothing of ours on the wire: any
 * TLS 1.3 peer with a program certificate can be at the other end.
 *
 * A TLS 1.3 client is done before the server has judged it: a refused one
 * learns so from its first read (TAO_EDENIED).
 *
 * Channels block, up to a deadline; looking up a host's name is outside it. No
 * SIGPIPE is raised. A channel is used by one thread at a time, a listener by
 * any number.
 *
 * Errors: TAO_EDENIED (the peer is not of the domain, not authorised, or has
 * refused this program), TAO_EEXPIRED (a certificate, often because of the
 * clock), TAO_ETIMEOUT, TAO_EPROTO (no TLS, or the connection was cut),
 * TAO_ENOTFOUND (no such host, key or certificate), TAO_ENOTRUN (OpenSSL has no
 * Tao provider here), what the host says about the key, TAO_EINVAL,
 * TAO_ECRYPTO, TAO_ESYS, TAO_ENOMEM. Sentences name the peer's address, and its
 * principal once it is known.
 */
#ifndef TAO_CHANNEL_H
#define TAO_CHANNEL_H

#include <stddef.h>

#include <openssl/x509.h>

#include "err.h"
#include "guard.h"
#include "logic.h"

#define TAO_CHANNEL_TIMEOUT_MS 10000
#define TAO_CHANNEL_BACKLOG    128 /* connections that wait to be accepted */
#define TAO_CHANNEL_PIECE      65536

/* Zeroed but for what is set. Dial and listen copy it, with its strings; guard and arg
 * must live as long as a listener. */
struct tao_channel_conf {
	const char *key; /* name of this program's key: "web" for tao:web */
	int timeout_ms;  /* of connecting with the handshake, of each read, of each
	                  * TAO_CHANNEL_PIECE bytes written; 0: TAO_CHANNEL_TIMEOUT_MS */

	/* Who may be the peer. At least one of the two; with both, both must say yes. To let
	 * every program of the domain in, use the liberal guard. */
	struct tao_guard *guard; /* asked for Authorized(PEER, operation) */
	const char *operation;   /* NULL: "Connect" */
	/* TAO_OK: yes. With anything else its code and sentence are what fails. */
	enum tao_err (*authorise)(const struct tao_node *peer, void *arg);
	void *arg;
	/* A listener asks them one at a time, whichever threads accept. */
};

struct tao_channel;
struct tao_listener;

/* Connects to a host (name or address) and port (number or service). */
enum tao_err tao_channel_dial(const struct tao_channel_conf *conf, const char *host,
                              const char *port, struct tao_channel **out);

/* host: address to listen at, NULL for all; port "0": one that is free. */
enum tao_err tao_channel_listen(const struct tao_channel_conf *conf, const char *host,
                                const char *port, struct tao_listener **out);
int tao_listener_port(const struct tao_listener *l); /* 0 if that cannot be told */
int tao_listener_fd(const struct tao_listener *l);   /* for poll(2) */
void tao_listener_close(struct tao_listener *l);     /* its channels live on; NULL is fine */

/* Waits for the next connection (timeout_ms; -1: for ever) and does the
 * handshake. After any error but TAO_ESYS the listener goes on: a peer that was refused is no
 * reason to stop. */
enum tao_err tao_channel_accept(struct tao_listener *l, int timeout_ms, struct tao_channel **out);
/* Its two halves, for servers that shake hands in threads of their own: one slow peer then keeps
 * nobody waiting. *fd is a connected socket, close-on-exec; tao_channel_serve() takes it,
 * also when it fails. */
enum tao_err tao_listener_wait(struct tao_listener *l, int timeout_ms, int *fd);
enum tao_err tao_channel_serve(struct tao_listener *l, int fd, struct tao_channel **out);

/* The peer's principal; it is the channel's. */
const struct tao_node *tao_channel_peer(const struct tao_channel *c);
int tao_channel_fd(const struct tao_channel *c);         /* for poll(2), if nothing is pending */
size_t tao_channel_pending(const struct tao_channel *c); /* bytes that were read ahead */
void tao_channel_set_timeout(struct tao_channel *c, int timeout_ms);

/* At least one byte, at most n; *got is 0 when the peer has closed the channel
 * properly. After TAO_ETIMEOUT it can be called again. */
enum tao_err tao_channel_read(struct tao_channel *c, void *p, size_t n, size_t *got);
/* All of it. After an error the channel can only be closed. */
enum tao_err tao_channel_write(struct tao_channel *c, const void *p, size_t n);
/* Tells the peer, does not wait for it, frees; NULL is fine. */
void tao_channel_close(struct tao_channel *c);

/* The principal that a certificate names: exactly one urn:tao: URI among its
 * alternative names, canonical, and exactly one OU with the same text; else TAO_EFORMAT. It says
 * nothing about who signed the certificate: verify that first. For programs that do
 * their TLS themselves. */
enum tao_err tao_cert_principal(const X509 *cert, struct tao_node **out);

#endif
