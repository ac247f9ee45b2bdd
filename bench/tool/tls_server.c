/*
 * tls_server: answers TLS 1.3 handshakes on 127.0.0.1, in one thread.
 *
 *   tls_server CERTIFICATE KEY [CA]
 *
 * All are PEM files; the certificate's may hold a chain. With a CA each client has to show a
 * certificate of it. Chooses a port and
 * prints "port N". Every handshake is a full one: no tickets, no sessions.
 * When the handshake is over it sends one byte, and closes when the client
 * does. Serves any number of connections at once, each as far as it can go
 * without waiting, as web servers do. Ends when it is sent a signal.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define BACKLOG 128
#define EVENTS 64

static SSL_CTX *make_ctx(const char *cert, const char *key, const char *ca)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1 ||
	    (ca != NULL && SSL_CTX_load_verify_file(ctx, ca) != 1)) {
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	if (ca != NULL)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	return ctx;
}

static void die(const char *what)
{
	fprintf(stderr, "tls_server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int listen_somewhere(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t n = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 ||
	    listen(fd, BACKLOG) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &n) != 0)
		die("listening");
	printf("port %d\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

static void watch(int epoll, int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
		die("epoll_ctl");
}

static void take(SSL_CTX *ctx, int epoll, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1;
	SSL *ssl;

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	ssl = SSL_new(ctx);
	if (ssl == NULL || !SSL_set_fd(ssl, fd))
		die("SSL_new");
	SSL_set_accept_state(ssl);
	watch(epoll, fd, ssl);
}

/* What it sends fits into the socket's buffer, so it only ever waits to read. */
static void serve(SSL *ssl)
{
	char byte = 'x';
	int first = !SSL_is_init_finished(ssl);
	int r = first ? SSL_do_handshake(ssl) : SSL_read(ssl, &byte, 1);

	if (first && r == 1)
		r = SSL_write(ssl, &byte, 1);
	if (r == 1 || SSL_get_error(ssl, r) == SSL_ERROR_WANT_READ)
		return;
	if (first)
		ERR_print_errors_fp(stderr);
	ERR_clear_error();
	close(SSL_get_fd(ssl));
	SSL_free(ssl);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	SSL_CTX *ctx;
	int epoll, listener;

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: tls_server CERTIFICATE KEY [CA]\n");
		return 2;
	}
	ctx = make_ctx(argv[1], argv[2], argv[3]);
	listener = listen_somewhere();
	epoll = epoll_create1(EPOLL_CLOEXEC);
	watch(epoll, listener, NULL);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				take(ctx, epoll, listener);
			else
				serve(events[i].data.ptr);
		}
	}
}
