#include "channel_int.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RENEW_AGAIN 60 /* seconds until a failed renewal is tried again */

struct tao_listener {
	struct tao_channel_conf conf; /* key and operation: its own copies */
	int fd;
	pthread_mutex_t asking; /* guard and callback are asked one at a time */
	pthread_mutex_t renewing;
	SSL_CTX *ctx; /* by renewing */
	time_t renew;
};

/* ---- listening ---- */

static int bind_one(const struct addrinfo *a)
{
	int fd =
	    socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	int on = 1, off = 0, err;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, TAO_CHANNEL_BACKLOG) == 0)
		return fd;
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

/* All addresses: one IPv6 socket takes IPv4 as well. */
static int bind_first(const struct addrinfo *list)
{
	int fd = -1;

	for (const struct addrinfo *a = list; fd < 0 && a != NULL; a = a->ai_next)
		if (a->ai_family == AF_INET6)
			fd = bind_one(a);
	for (const struct addrinfo *a = list; fd < 0 && a != NULL; a = a->ai_next)
		if (a->ai_family != AF_INET6)
			fd = bind_one(a);
	return fd;
}

static enum tao_err bind_to(const char *host, const char *port, int *fd)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE },
			*list = NULL;
	int r = getaddrinfo(host, port, &hints, &list);

	if (r != 0)
		return tao_fail(TAO_ENOTFOUND, "%s port %s: %s",
		                host != NULL ? host : "all addresses", port, gai_strerror(r));
	*fd = bind_first(list);
	r = errno;
	freeaddrinfo(list);
	errno = r;
	return *fd >= 0 ? TAO_OK
	                : tao_fail_sys("cannot listen at %s port %s",
	                               host != NULL ? host : "all addresses", port);
}

static enum tao_err copy_conf(struct tao_channel_conf *to, const struct tao_channel_conf *from)
{
	*to = *from;
	to->key = strdup(from->key);
	to->operation = from->operation != NULL ? strdup(from->operation) : NULL;
	if (to->key == NULL || (from->operation != NULL && to->operation == NULL))
		return tao_fail_nomem();
	return TAO_OK;
}

enum tao_err tao_channel_listen(const struct tao_channel_conf *conf, const char *host,
                                const char *port, struct tao_listener **out)
{
	struct tao_listener *l;
	enum tao_err e = tao_channel_conf_check(conf);

	*out = NULL;
	if (e != TAO_OK)
		return e;
	l = calloc(1, sizeof *l);
	if (l == NULL)
		return tao_fail_nomem();
	l->fd = -1;
	pthread_mutex_init(&l->asking, NULL);
	pthread_mutex_init(&l->renewing, NULL);
	e = copy_conf(&l->conf, conf);
	if (e == TAO_OK)
		e = tao_channel_ctx(l->conf.key, &l->ctx, &l->renew);
	if (e == TAO_OK)
		e = bind_to(host, port, &l->fd);
	if (e != TAO_OK)
		tao_listener_close(l);
	else
		*out = l;
	return e;
}

void tao_listener_close(struct tao_listener *l)
{
	if (l == NULL)
		return;
	if (l->fd >= 0)
		close(l->fd);
	SSL_CTX_free(l->ctx);
	pthread_mutex_destroy(&l->asking);
	pthread_mutex_destroy(&l->renewing);
	free((char *)l->conf.key);
	free((char *)l->conf.operation);
	free(l);
}

int tao_listener_fd(const struct tao_listener *l)
{
	return l->fd;
}

int tao_listener_port(const struct tao_listener *l)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof sa;

	if (getsockname(l->fd, (struct sockaddr *)&sa, &n) != 0)
		return 0;
	return sa.ss_family == AF_INET    ? ntohs(((struct sockaddr_in *)&sa)->sin_port)
	       : sa.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&sa)->sin6_port)
	                                  : 0;
}

/* ---- accepting ---- */

/* A reference to the context. Certificates are short-lived: it is made anew at
 * half of their life; if that fails, the old one does as long as it is valid. */
static SSL_CTX *current(struct tao_listener *l)
{
	SSL_CTX *ctx, *fresh;
	time_t now = time(NULL);

	pthread_mutex_lock(&l->renewing);
	if (now >= l->renew) {
		l->renew = now + RENEW_AGAIN;
		if (tao_channel_ctx(l->conf.key, &fresh, &l->renew) == TAO_OK) {
			SSL_CTX_free(l->ctx);
			l->ctx = fresh;
		}
	}
	ctx = l->ctx;
	SSL_CTX_up_ref(ctx);
	pthread_mutex_unlock(&l->renewing);
	return ctx;
}

/* Connections that ended before they were accepted (accept(2)). */
static int is_passing(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == EINTR || err == ECONNABORTED ||
	       err == EPROTO || err == ENETDOWN || err == EHOSTUNREACH || err == ENETUNREACH;
}

enum tao_err tao_listener_wait(struct tao_listener *l, int timeout_ms, int *fd)
{
	int64_t deadline = timeout_ms < 0 ? INT64_MAX : tao_channel_now_ms() + timeout_ms;

	*fd = -1;
	for (;;) {
		int r = tao_channel_wait(l->fd, POLLIN, deadline);

		if (r == 0)
			return tao_fail(TAO_ETIMEOUT, "nobody connected within %d ms", timeout_ms);
		if (r < 0)
			return tao_fail_sys("waiting for a connection");
		*fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (*fd >= 0)
			return TAO_OK;
		if (!is_passing(errno))
			return tao_fail_sys("accepting a connection");
	}
}

enum tao_err tao_channel_serve(struct tao_listener *l, int fd, struct tao_channel **out)
{
	int64_t deadline = tao_channel_now_ms() + tao_channel_timeout(&l->conf);
	SSL_CTX *ctx = current(l);
	enum tao_err e;

	e = tao_channel_shake(&l->conf, ctx, fd, 1, NULL, deadline, &l->asking, out);
	SSL_CTX_free(ctx);
	return e;
}

enum tao_err tao_channel_accept(struct tao_listener *l, int timeout_ms, struct tao_channel **out)
{
	int fd;
	enum tao_err e = tao_listener_wait(l, timeout_ms, &fd);

	*out = NULL;
	return e == TAO_OK ? tao_channel_serve(l, fd, out) : e;
}
