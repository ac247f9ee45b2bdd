/*
 * QUIC as libssl has it, from OpenSSL 3.5 on.
 *
 *   quic CERT KEY CA NAME
 *
 * A server with that certificate and key, and a client that trusts CA and verifies NAME, in one
 * process: two connections, one after the other, and a word there and back in each. Prints a line
 * for each:
 *
 *   done group=GROUP reused=0 peer=yes
 *   failed, and the errors
 *
 * and before them what happens to connections of TLS in the same process: "tls done", "tls failed".
 * Exits with
 * 77 if there is no QUIC.
 */
#include <openssl/ssl.h>

#if OPENSSL_VERSION_PREREQ(3, 5) && !defined(OPENSSL_NO_QUIC)

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/quic.h>

#define WORD "forward"
#define PROTOCOL "\4test"
#define CONNECTIONS 2

struct server {
	SSL_CTX *ctx;
	int fd;
	struct sockaddr_in at;
};

static int choose(SSL *s, const unsigned char **out, unsigned char *n, const unsigned char *in,
                  unsigned in_n, void *arg)
{
	(void)s;
	(void)in_n;
	(void)arg;
	*out = in + 1;
	*n = in[0];
	return SSL_TLSEXT_ERR_OK;
}

static void answer(SSL *s)
{
	char word[64];
	int n = SSL_read(s, word, sizeof word);

	if (n > 0)
		SSL_write(s, word, n);
	SSL_stream_conclude(s, 0);
}

/* To the end of the process. */
static void *serve(void *arg)
{
	struct server *server = arg;
	SSL *l = SSL_new_listener(server->ctx, 0);

	if (l == NULL || !SSL_set_fd(l, server->fd) || !SSL_set_blocking_mode(l, 1) ||
	    !SSL_listen(l))
		return NULL;
	for (;;) {
		SSL *s = SSL_accept_connection(l, 0);

		if (s != NULL)
			answer(s);
		SSL_free(s);
	}
}

static SSL_CTX *make_ctx(const SSL_METHOD *method, char **argv, int server)
{
	SSL_CTX *ctx = SSL_CTX_new(method);
	int good = ctx != NULL;

	if (good && server)
		good = SSL_CTX_use_certificate_chain_file(ctx, argv[1]) == 1 &&
		       SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) == 1;
	else if (good)
		good = SSL_CTX_load_verify_locations(ctx, argv[3], NULL) == 1;
	if (good && server)
		SSL_CTX_set_alpn_select_cb(ctx, choose, NULL);
	else if (good)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (!good)
		ERR_print_errors_fp(stdout);
	return good ? ctx : NULL;
}

static int verify_name(SSL *s, const char *name)
{
	return SSL_set_tlsext_host_name(s, name) && X509_VERIFY_PARAM_set1_host(SSL_get0_param(s),
	                                                                        name, 0);
}

static SSL *make_client(SSL_CTX *ctx, const struct server *server, const char *name)
{
	SSL *s = SSL_new(ctx);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	BIO_ADDR *to = BIO_ADDR_new();
	BIO *b = BIO_new_dgram(fd, BIO_CLOSE);

	BIO_socket_nbio(fd, 1);
	BIO_ADDR_rawmake(to, AF_INET, &server->at.sin_addr, sizeof server->at.sin_addr,
	                 server->at.sin_port);
	SSL_set_bio(s, b, b);
	SSL_set1_initial_peer_addr(s, to);
	BIO_ADDR_free(to);
	SSL_set_alpn_protos(s, (const unsigned char *)PROTOCOL, sizeof PROTOCOL - 1);
	verify_name(s, name);
	SSL_set_blocking_mode(s, 1);
	return s;
}

static void print(SSL *s, int good)
{
	X509 *peer = good ? SSL_get1_peer_certificate(s) : NULL;

	if (good)
		printf("done group=%s reused=%d peer=%s\n", SSL_get0_group_name(s),
		       SSL_session_reused(s), peer != NULL ? "yes" : "no");
	else
		printf("failed\n");
	ERR_print_errors_fp(stdout);
	X509_free(peer);
}

static void connect_once(SSL_CTX *ctx, const struct server *server, const char *name)
{
	SSL *s = make_client(ctx, server, name);
	char word[64];
	int good = SSL_connect(s) == 1 && SSL_write(s, WORD, sizeof WORD) > 0 &&
	           SSL_read(s, word, sizeof word) == sizeof WORD;

	print(s, good);
	SSL_free(s);
}

/* Both ends in one thread. */
static void try_tls(char **argv)
{
	SSL_CTX *client_ctx = make_ctx(TLS_client_method(), argv, 0);
	SSL_CTX *server_ctx = make_ctx(TLS_server_method(), argv, 1);
	SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx);
	BIO *a = NULL, *b = NULL;
	int good = 0;

	BIO_new_bio_pair(&a, 0, &b, 0);
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	verify_name(client, argv[4]);
	for (int i = 0; !good && i < 20; i++) {
		int c = SSL_do_handshake(client), r = SSL_do_handshake(server);

		good = c == 1 && r == 1;
	}
	printf("tls %s\n", good ? "done" : "failed");
	ERR_print_errors_fp(stdout);
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(client_ctx);
	SSL_CTX_free(server_ctx);
}

int main(int argc, char **argv)
{
	struct server server = { .at.sin_family = AF_INET };
	socklen_t n = sizeof server.at;
	SSL_CTX *ctx;
	pthread_t t;

	if (argc != 5)
		return 2;
	server.ctx = make_ctx(OSSL_QUIC_server_method(), argv, 1);
	ctx = make_ctx(OSSL_QUIC_client_method(), argv, 0);
	server.fd = socket(AF_INET, SOCK_DGRAM, 0);
	server.at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (server.ctx == NULL || ctx == NULL || bind(server.fd, (struct sockaddr *)&server.at, n) != 0 ||
	    getsockname(server.fd, (struct sockaddr *)&server.at, &n) != 0 ||
	    pthread_create(&t, NULL, serve, &server) != 0)
		return 2;
	try_tls(argv);
	for (int i = 0; i < CONNECTIONS; i++)
		connect_once(ctx, &server, argv[4]);
	fflush(stdout);
	_exit(0);
}

#else

int main(void)
{
	return 77;
}

#endif
