/*
 * Channels, for the files that make them: credentials (channel_cred.c),
 * handshake and bytes (channel.c), listening (channel_listen.c).
 */
#ifndef TAO_CHANNEL_INT_H
#define TAO_CHANNEL_INT_H

#include <pthread.h>
#include <time.h>

#include <openssl/ssl.h>

#include "channel.h"

/* A context with the program's key, certificate and chain, that trusts the
 * domain's policy certificate. renew: when to make another; NULL: not wanted. */
enum tao_err tao_channel_ctx(const char *key, SSL_CTX **out, time_t *renew);

/* TLS 1.3, no resumption, a verified peer. 1 on success. */
int tao_channel_rules(SSL_CTX *ctx);
/* The peer's certificate is verified; depth 0 is asked about. */
int tao_channel_verify(int good, X509_STORE_CTX *store);

/* Milliseconds of a clock that only goes forward; what is left, 0 to INT_MAX. */
int64_t tao_channel_now_ms(void);
int tao_channel_left(int64_t deadline);

/* Waits until the descriptor is ready for events: 1, or 0 when the time has come, or -1 with errno.
 * deadline INT64_MAX: for ever. */
int tao_channel_wait(int fd, short events, int64_t deadline);

#define TAO_CHANNEL_ADDRESS_MAX 280 /* "[HOST]:PORT" */
/* The other end's, for sentences. */
void tao_channel_address(int fd, char out[TAO_CHANNEL_ADDRESS_MAX]);

/* Does the handshake on fd and takes it, also when that fails. asking: held while
 * guard and callback are asked; may be NULL. */
enum tao_err tao_channel_shake(const struct tao_channel_conf *conf, SSL_CTX *ctx, int fd,
                               int is_server, const char *server_name, int64_t deadline,
                               pthread_mutex_t *asking, struct tao_channel **out);

/* Key and authorisation are given, and the deadline is none in the past; else TAO_EINVAL. */
enum tao_err tao_channel_conf_check(const struct tao_channel_conf *conf);
int tao_channel_timeout(const struct tao_channel_conf *conf);

#endif
