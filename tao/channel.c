#include "channel_int.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "stub.h"

#define OPERATION      "Connect"
#define LINGER_MS      500   /* for a refused peer to read why */
#define LINGER_MAX     65536 /* bytes of it that are thrown away */
#define NAME_MAX_SHOWN 512

struct tao_channel {
	int fd;
	SSL *ssl;
	BIO_METHOD *method;
	struct tao_node *peer;
	char address[TAO_CHANNEL_ADDRESS_MAX];
	int timeout_ms;
	int64_t deadline; /* of the call in progress */
	int timed_out;    /* in the call in progress */
	int sys;          /* errno of a lost connection */
	int failed;       /* only good for closing */
	/* During the handshake only. */
	const struct tao_channel_conf *conf;
	pthread_mutex_t *asking;
	int judged;
	enum tao_err verdict;
};

/* ---- time ---- */

int64_t tao_channel_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int tao_channel_left(int64_t deadline)
{
	int64_t left = deadline - tao_channel_now_ms();

	return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

int tao_channel_wait(int fd, short events, int64_t deadline)
{
	struct pollfd p = { fd, events, 0 };
	int r;

	do
		r = poll(&p, 1, deadline == INT64_MAX ? -1 : tao_channel_left(deadline));
	while (r < 0 && errno == EINTR);
	return r;
}

int tao_channel_timeout(const struct tao_channel_conf *conf)
{
	return conf->timeout_ms > 0 ? conf->timeout_ms : TAO_CHANNEL_TIMEOUT_MS;
}

/* ---- bytes: a BIO that keeps the deadline and raises no SIGPIPE ---- */

static void io_failed(struct tao_channel *c)
{
	c->sys = errno;
}

/* 1: try again. Else the BIO's caller gets -1, with a retry flag if it was the time. */
static int io_again(struct tao_channel *c, BIO *b, short events)
{
	int r;

	if (errno == EINTR)
		return 1;
	if (errno != EAGAIN && errno != EWOULDBLOCK) {
		io_failed(c);
		return 0;
	}
	r = tao_channel_wait(c->fd, events, c->deadline);
	if (r > 0)
		return 1;
	if (r < 0) {
		io_failed(c);
	} else {
		c->timed_out = 1;
		BIO_set_flags(b, BIO_FLAGS_SHOULD_RETRY |
		                     (events == POLLIN ? BIO_FLAGS_READ : BIO_FLAGS_WRITE));
	}
	return 0;
}

static int bio_read(BIO *b, char *p, int n)
{
	struct tao_channel *c = BIO_get_data(b);
	ssize_t r;

	BIO_clear_retry_flags(b);
	do {
		r = recv(c->fd, p, (size_t)n, MSG_DONTWAIT);
		if (r >= 0)
			return (int)r;
	} while (io_again(c, b, POLLIN));
	return -1;
}

static int bio_write(BIO *b, const char *p, int n)
{
	struct tao_channel *c = BIO_get_data(b);
	ssize_t r;

	BIO_clear_retry_flags(b);
	do {
		r = send(c->fd, p, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r >= 0)
			return (int)r;
	} while (io_again(c, b, POLLOUT));
	return -1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

static BIO *bio_new(struct tao_channel *c)
{
	BIO *b = NULL;

	c->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "Tao channel");
	if (c->method != NULL && BIO_meth_set_read(c->method, bio_read) &&
	    BIO_meth_set_write(c->method, bio_write) && BIO_meth_set_ctrl(c->method, bio_ctrl) &&
	    BIO_meth_set_create(c->method, bio_create))
		b = BIO_new(c->method);
	if (b != NULL)
		BIO_set_data(b, c);
	return b;
}

/* ---- what went wrong ---- */

/* Alerts by which a peer says that it does not want this program. */
static const int refusals[] = {
	SSL_AD_BAD_CERTIFICATE,     SSL_AD_UNSUPPORTED_CERTIFICATE, SSL_AD_CERTIFICATE_REVOKED,
	SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_CERTIFICATE_UNKNOWN,     SSL_AD_UNKNOWN_CA,
	SSL_AD_ACCESS_DENIED,       SSL_AD_CERTIFICATE_REQUIRED,
};

static int is_refusal(unsigned long error)
{
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
		if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
		    ERR_GET_REASON(error) == SSL_AD_REASON_OFFSET + refusals[i])
			return 1;
	return 0;
}

static enum tao_err cut(struct tao_channel *c)
{
	return tao_fail(TAO_EPROTO, "%s cut the connection%s%s", c->address,
	                c->sys != 0 ? ": " : "", c->sys != 0 ? strerror(c->sys) : "");
}

/* r: what the call of libssl returned. */
static enum tao_err io_error(struct tao_channel *c, int r)
{
	int kind = SSL_get_error(c->ssl, r);
	unsigned long error = ERR_peek_error();
	const char *reason = ERR_reason_error_string(error);

	ERR_clear_error();
	if (c->timed_out)
		return tao_fail(TAO_ETIMEOUT, "%s did not answer in time", c->address);
	c->failed = 1;
	if (is_refusal(error))
		return tao_fail(TAO_EDENIED,
		                "%s refused this program (%s): its guard or its domain does not "
		                "know it",
		                c->address, reason);
	if (kind == SSL_ERROR_SSL)
		return tao_fail(TAO_EPROTO, "TLS with %s failed: %s", c->address,
		                reason != NULL ? reason : "libssl gave no reason");
	return cut(c);
}

static enum tao_err handshake_error(struct tao_channel *c, int r)
{
	long verify = SSL_get_verify_result(c->ssl);

	if (c->judged && c->verdict != TAO_OK) {
		ERR_clear_error();
		return c->verdict; /* with its sentence */
	}
	if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
		ERR_clear_error();
		return tao_fail(TAO_EDENIED,
		                "%s shows no certificate: it must be a program of the domain",
		                c->address);
	}
	if (verify == X509_V_OK)
		return io_error(c, r);
	ERR_clear_error();
	if (verify == X509_V_ERR_CERT_HAS_EXPIRED || verify == X509_V_ERR_CERT_NOT_YET_VALID)
		return tao_fail(TAO_EEXPIRED,
		                "the certificate of %s is not valid at this time (%s): start that "
		                "program again with 'tao run', or set the clock",
		                c->address, X509_verify_cert_error_string(verify));
	return tao_fail(TAO_EDENIED,
	                "%s is not a program of this domain: its certificate does not lead to the "
	                "policy certificate (%s)",
	                c->address, X509_verify_cert_error_string(verify));
}

/* ---- who the peer is, and may be ---- */

static enum tao_err ask(const struct tao_channel_conf *conf, const struct tao_node *peer)
{
	const char *op = conf->operation != NULL ? conf->operation : OPERATION;
	enum tao_err e = TAO_OK;

	if (conf->guard != NULL)
		e = tao_guard_is_authorised(conf->guard, peer, op, NULL, NULL, NULL);
	if (e == TAO_OK && conf->authorise != NULL)
		e = conf->authorise(peer, conf->arg);
	return e;
}

static enum tao_err judge(struct tao_channel *c, const X509 *cert)
{
	char *name;
	enum tao_err e = tao_cert_principal(cert, &c->peer);

	if (e != TAO_OK)
		return tao_fail(TAO_EDENIED, "%s: %s", c->address, tao_why());
	if (c->asking != NULL)
		pthread_mutex_lock(c->asking);
	e = ask(c->conf, c->peer);
	if (c->asking != NULL)
		pthread_mutex_unlock(c->asking);
	if (e == TAO_OK)
		return TAO_OK;
	name = tao_node_text(c->peer);
	tao_fail(e, "%s is %.*s: %s", c->address, NAME_MAX_SHOWN, name != NULL ? name : "a program",
	         tao_why());
	free(name);
	return e;
}

/* Within the handshake, so that a peer that is refused hears so at once. */
int tao_channel_verify(int good, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tao_channel *c = ssl != NULL ? SSL_get_app_data(ssl) : NULL;

	if (!good || c == NULL)
		return 0;
	if (X509_STORE_CTX_get_error_depth(store) != 0)
		return 1;
	c->judged = 1;
	c->verdict = judge(c, X509_STORE_CTX_get_current_cert(store));
	if (c->verdict != TAO_OK)
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return c->verdict == TAO_OK;
}

/* A handshake may have verified no certificate: with a pre-shared key that openssl.cnf switched
 * on, there is none on the wire. */
static enum tao_err judge_late(struct tao_channel *c)
{
	X509 *cert = SSL_get0_peer_certificate(c->ssl);

	if (c->judged)
		return c->verdict;
	if (cert == NULL)
		return tao_fail(TAO_EDENIED,
		                "%s shows no certificate: it must be a program of the domain",
		                c->address);
	return judge(c, cert);
}

enum tao_err tao_channel_conf_check(const struct tao_channel_conf *conf)
{
	if (conf->key == NULL)
		return tao_fail(TAO_EINVAL, "a channel needs the name of a key: set .key");
	if (conf->guard == NULL && conf->authorise == NULL)
		return tao_fail(TAO_EINVAL, "say who the peer may be: set .guard or .authorise");
	if (conf->timeout_ms < 0)
		return tao_fail(TAO_EINVAL, "a deadline of %d ms: give 0 or more",
		                conf->timeout_ms);
	return tao_key_name_check(conf->key, strlen(conf->key));
}

/* ---- the handshake ---- */

void tao_channel_address(int fd, char out[TAO_CHANNEL_ADDRESS_MAX])
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof sa;
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getpeername(fd, (struct sockaddr *)&sa, &n) != 0 ||
	    getnameinfo((struct sockaddr *)&sa, n, host, sizeof host, port, sizeof port,
	                NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(out, TAO_CHANNEL_ADDRESS_MAX, "the peer");
	else
		snprintf(out, TAO_CHANNEL_ADDRESS_MAX,
		         strchr(host, ':') != NULL ? "[%.*s]:%s" : "%.*s:%s",
		         TAO_CHANNEL_ADDRESS_MAX - 16, host, port);
}

/* Closing while the peer's bytes are unread would send a reset, which overtakes the alert. */
static void linger(int fd)
{
	int64_t deadline = tao_channel_now_ms() + LINGER_MS;
	char junk[4096];
	ssize_t r = 1;

	shutdown(fd, SHUT_WR);
	for (size_t n = 0; r > 0 && n < LINGER_MAX; n += (size_t)r)
		r = tao_channel_wait(fd, POLLIN, deadline) > 0
		        ? recv(fd, junk, sizeof junk, MSG_DONTWAIT)
		        : 0;
}

static void channel_free(struct tao_channel *c)
{
	if (c == NULL)
		return;
	SSL_free(c->ssl);
	BIO_meth_free(c->method);
	tao_node_free(c->peer);
	close(c->fd);
	free(c);
}

/* Takes fd. */
static enum tao_err channel_new(SSL_CTX *ctx, int fd, const char *server_name,
                                struct tao_channel **out)
{
	struct tao_channel *c = calloc(1, sizeof *c);
	int on = 1;
	BIO *bio;

	*out = NULL;
	if (c == NULL) {
		close(fd);
		return tao_fail_nomem();
	}
	c->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	tao_channel_address(fd, c->address);
	bio = bio_new(c);
	c->ssl = SSL_new(ctx);
	if (bio == NULL || c->ssl == NULL ||
	    (server_name != NULL && SSL_set_tlsext_host_name(c->ssl, server_name) != 1)) {
		BIO_free(bio);
		channel_free(c);
		return tao_fail_crypto("TLS cannot be set up");
	}
	/* openssl.cnf can have libssl take a connection that is cut for a proper close. */
	SSL_clear_options(c->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_set_bio(c->ssl, bio, bio);
	SSL_set_app_data(c->ssl, c);
	*out = c;
	return TAO_OK;
}

enum tao_err tao_channel_shake(const struct tao_channel_conf *conf, SSL_CTX *ctx, int fd,
                               int is_server, const char *server_name, int64_t deadline,
                               pthread_mutex_t *asking, struct tao_channel **out)
{
	struct tao_channel *c;
	enum tao_err e = channel_new(ctx, fd, server_name, &c);
	int r;

	*out = NULL;
	if (e != TAO_OK)
		return e;
	c->conf = conf;
	c->asking = asking;
	c->deadline = deadline;
	c->timeout_ms = tao_channel_timeout(conf);
	ERR_clear_error();
	r = is_server ? SSL_accept(c->ssl) : SSL_connect(c->ssl);
	e = r == 1 ? judge_late(c) : handshake_error(c, r);
	c->conf = NULL;
	c->asking = NULL;
	if (e == TAO_OK) {
		*out = c;
		return TAO_OK;
	}
	if (e == TAO_EDENIED || e == TAO_EEXPIRED)
		linger(fd);
	channel_free(c);
	return e;
}

/* ---- dialling ---- */

static int connect_one(const struct addrinfo *a, int64_t deadline)
{
	int fd =
	    socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	int err = 0;
	socklen_t n = sizeof err;

	if (fd < 0)
		return -1;
	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return fd;
	if (errno == EINPROGRESS) {
		errno = ETIMEDOUT;
		if (tao_channel_wait(fd, POLLOUT, deadline) > 0 &&
		    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0) {
			if (err == 0)
				return fd;
			errno = err;
		}
	}
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

static enum tao_err connect_to(const char *host, const char *port, int64_t deadline, int *fd)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	int r = getaddrinfo(host, port, &hints, &list);

	*fd = -1;
	if (r != 0)
		return tao_fail(TAO_ENOTFOUND, "%s port %s: %s", host, port, gai_strerror(r));
	for (const struct addrinfo *a = list; *fd < 0 && a != NULL; a = a->ai_next)
		*fd = connect_one(a, deadline);
	r = errno;
	freeaddrinfo(list);
	errno = r;
	if (*fd >= 0)
		return TAO_OK;
	tao_fail_sys("%s port %s cannot be reached", host, port);
	return r == ETIMEDOUT ? TAO_ETIMEOUT : TAO_ESYS;
}

/* An address is no server name (RFC 6066). */
static int is_address(const char *host)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *list = NULL;
	int r = getaddrinfo(host, NULL, &hints, &list);

	if (r == 0)
		freeaddrinfo(list);
	return r == 0;
}

enum tao_err tao_channel_dial(const struct tao_channel_conf *conf, const char *host,
                              const char *port, struct tao_channel **out)
{
	int64_t deadline = tao_channel_now_ms() + tao_channel_timeout(conf);
	SSL_CTX *ctx = NULL;
	int fd;
	enum tao_err e = tao_channel_conf_check(conf);

	*out = NULL;
	if (e == TAO_OK)
		e = tao_channel_ctx(conf->key, &ctx, NULL);
	if (e == TAO_OK)
		e = connect_to(host, port, deadline, &fd);
	if (e == TAO_OK)
		e = tao_channel_shake(conf, ctx, fd, 0, is_address(host) ? NULL : host, deadline,
		                      NULL, out);
	SSL_CTX_free(ctx);
	return e;
}

/* ---- an open channel ---- */

const struct tao_node *tao_channel_peer(const struct tao_channel *c)
{
	return c->peer;
}

int tao_channel_fd(const struct tao_channel *c)
{
	return c->fd;
}

size_t tao_channel_pending(const struct tao_channel *c)
{
	return (size_t)SSL_pending(c->ssl);
}

void tao_channel_set_timeout(struct tao_channel *c, int timeout_ms)
{
	c->timeout_ms = timeout_ms > 0 ? timeout_ms : TAO_CHANNEL_TIMEOUT_MS;
}

static enum tao_err begin(struct tao_channel *c)
{
	if (c->failed)
		return tao_fail(TAO_EPROTO, "the channel to %s has failed before: close it",
		                c->address);
	ERR_clear_error();
	c->timed_out = 0;
	c->deadline = tao_channel_now_ms() + c->timeout_ms;
	return TAO_OK;
}

enum tao_err tao_channel_read(struct tao_channel *c, void *p, size_t n, size_t *got)
{
	enum tao_err e = begin(c);
	int r;

	*got = 0;
	if (e != TAO_OK || n == 0)
		return e;
	r = SSL_read_ex(c->ssl, p, n, got);
	if (r == 1)
		return TAO_OK;
	if (SSL_get_error(c->ssl, r) == SSL_ERROR_ZERO_RETURN)
		return TAO_OK;
	return io_error(c, r);
}

enum tao_err tao_channel_write(struct tao_channel *c, const void *p, size_t n)
{
	const uint8_t *from = p;
	enum tao_err e = TAO_OK;

	for (size_t done = 0, put; e == TAO_OK && done < n; done += put) {
		size_t piece = n - done < TAO_CHANNEL_PIECE ? n - done : TAO_CHANNEL_PIECE;
		int r;

		put = 0;
		e = begin(c);
		if (e != TAO_OK)
			return e;
		r = SSL_write_ex(c->ssl, from + done, piece, &put);
		if (r != 1) {
			e = io_error(c, r);
			c->failed = 1; /* a part of a record may be on its way */
		}
	}
	return e;
}

void tao_channel_close(struct tao_channel *c)
{
	if (c == NULL)
		return;
	ERR_clear_error();
	c->deadline = 0;
	if (!c->failed)
		SSL_shutdown(c->ssl);
	ERR_clear_error();
	channel_free(c);
}
