/*
 * tao_tls.so: a configuration module for OpenSSL that reaches every TLS
 * connection of a program, without the program knowing.
 *
 * openssl.cnf names it (man/tao_tls.5). OpenSSL then calls OPENSSL_init() here
 * before the program's first SSL_CTX exists; from there on each new SSL_CTX
 * passes module.c, which adds to it what is this module's and takes nothing
 * away. What a program sets itself afterwards wins.
 *
 * Today that is one callback: before a handshake shows a certificate, renew.c
 * looks whether the key is one of the Tao's, and whether the host has a newer
 * certificate or a newer generation of that key; the connection then gets
 * those. Program certificates live for days: so no server needs a reload for them.
 *
 * The module never pulls libssl into a program: libssl's functions are found
 * in the copy that the program has loaded, when its first SSL_CTX is made. It
 * does nothing in a program whose libcrypto is not the one that it is linked
 * to. It stays in memory once loaded (CONF_modules_unload() would leave dangling
 * callbacks), starts no thread, installs no handler, reads no environment.
 *
 * Nothing here may fail a handshake: on any error the connection goes on with
 * the certificate that the program configured. Errors leave nothing on
 * the program's queue.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdatomic.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#define TLS_NAME_MAX 256        /* bytes of a key's name, with its NUL */
#define TLS_MAX_KEYS 64         /* keys of one process that are looked after */
#define TLS_MAX_CHAIN 8         /* certificates behind a leaf */
#define TLS_RENEW_DEFAULT 30    /* seconds between two looks at the host for one key */
#define TLS_RENEW_MAX 86400

/* The libssl of this process. */
struct tls_libssl {
	void (*set_cert_cb)(SSL_CTX *ctx, int (*cb)(SSL *s, void *arg), void *arg);
	X509 *(*get_certificate)(const SSL *s);
	EVP_PKEY *(*get_privatekey)(const SSL *s);
	long (*ctrl)(SSL *s, int cmd, long larg, void *parg);
	void (*certs_clear)(SSL *s);
	int (*use_cert_and_key)(SSL *s, X509 *cert, EVP_PKEY *key, STACK_OF(X509) *chain, int override);
};

/* libssl.c: NULL while none is loaded, or it lacks one of these. */
const struct tls_libssl *tls_libssl(void);

/* What the host has for a key, at one time; does not change. */
struct tls_bundle {
	atomic_int refs;
	EVP_PKEY *key;           /* opaque, of tao.so */
	X509 *leaf;
	STACK_OF(X509) *chain;   /* to be sent: without the policy certificate */
	X509 *policy;            /* the domain's, self-signed; NULL: the leaf is of another authority */
};

/* bundle.c: the newest one that this process knows of the key, NULL if none. The
 * host is asked at the first call and then every that many seconds, by one
 * thread; the others go on with what there is. A forked child asks anew. If the host does
 * not answer, the last good one stays. */
struct tls_bundle *tls_bundle_get(const char *name, unsigned seconds);
void tls_bundle_release(struct tls_bundle *b); /* NULL is fine */

/* renew.c: SSL_CTX_set_cert_cb()'s callback; always 1. */
int tls_renew(SSL *s, void *settings);

struct tls_settings {
	unsigned renew; /* seconds; 0: off */
};

#endif
