/*
 * grouppeer: a TLS server or client that tells what group was negotiated and who the peer is,
 * as the temporary key has it (tao-name). Groups and everything else are openssl.cnf's.
 *
 *   grouppeer server CERTIFICATE KEY     PEM files; on a port of its choice
 *   grouppeer client [-f] [-w] PORT      verifies nobody
 *
 * The server prints "port N" and serves one connection after the other until it is sent a
 * signal. Either prints, for each handshake,
 *
 *   group NAME
 *   peer PRINCIPAL        "none" if the temporary key does not tell
 *
 * or "failed" and a line "error REASON: DATA" for each error in the queue. Then the server sends a
 * byte, which the client waits for; only that proves that the server took the client's Finished.
 *
 *   -f   forks when the first message was sent, and goes on in the child
 *   -w   prints "sent" then, and waits for a line on standard input
 *
 * The client's exit status is 1 if there was no connection.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define NAME_MAX_LEN 4096

static int usage(void)
{
	fprintf(stderr, "usage: grouppeer server CERTIFICATE KEY | client [-f] [-w] PORT\n");
	return 2;
}

static void print_errors(void)
{
	const char *data;
	unsigned long e;
	int flags;

	printf("failed\n");
	while ((e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
		const char *reason = ERR_reason_error_string(e);

		printf("error %s: %s\n", reason != NULL ? reason : "?",
		       flags & ERR_TXT_STRING ? data : "");
	}
	fflush(stdout);
}

static void print_peer(SSL *ssl, int server)
{
	char name[NAME_MAX_LEN] = "none";
	EVP_PKEY *key = NULL;
	const char *group;

	if ((server ? SSL_get_peer_tmp_key(ssl, &key) : SSL_get_tmp_key(ssl, &key)) &&
	    key != NULL &&
	    !EVP_PKEY_get_utf8_string_param(key, "tao-name", name, sizeof name, NULL))
		strcpy(name, "none");
	EVP_PKEY_free(key);
	group = SSL_group_to_name(ssl, (int)SSL_get_negotiated_group(ssl));
	printf("group %s\npeer %s\n", group != NULL ? group : "none", name);
	fflush(stdout);
	ERR_clear_error();
}

static void serve(SSL_CTX *ctx, int fd)
{
	SSL *ssl = SSL_new(ctx);
	char byte = 'x';

	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1) {
		print_peer(ssl, 1);
		SSL_write(ssl, &byte, 1);
		SSL_read(ssl, &byte, 1);
	} else {
		print_errors();
	}
	ERR_clear_error();
	SSL_free(ssl);
	close(fd);
}

static int server(SSL_CTX *ctx, const char *cert, const char *key)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t n = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
	    bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 16) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &n) != 0) {
		print_errors();
		return 1;
	}
	SSL_CTX_set_num_tickets(ctx, 0);
	printf("port %d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (peer >= 0)
			serve(ctx, peer);
	}
}

/* Sends the ClientHello and reads no answer, also if the server was quicker. */
static int say_hello(SSL *ssl, int fd)
{
	BIO *nothing = BIO_new(BIO_s_mem()), *from;
	int r;

	if (nothing == NULL)
		return 0;
	BIO_set_mem_eof_return(nothing, -1);
	SSL_set0_rbio(ssl, nothing);
	r = SSL_connect(ssl);
	if (r == 1 || SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ ||
	    (from = BIO_new_socket(fd, BIO_NOCLOSE)) == NULL)
		return 0;
	SSL_set0_rbio(ssl, from);
	return 1;
}

static int finish(SSL *ssl)
{
	char byte;

	if (SSL_connect(ssl) == 1 && SSL_read(ssl, &byte, 1) == 1) {
		print_peer(ssl, 0);
		return 0;
	}
	print_errors();
	return 1;
}

static int wait_child(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int go_on(SSL *ssl, int forks, int waits)
{
	char line[16];
	pid_t pid;

	if (waits) {
		printf("sent\n");
		fflush(stdout);
		if (fgets(line, sizeof line, stdin) == NULL)
			return 1;
	}
	pid = forks ? fork() : 0;
	return pid == 0 ? finish(ssl) : wait_child(pid);
}

static int client(SSL_CTX *ctx, const char *port, int forks, int waits)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 1;
	SSL *ssl = SSL_new(ctx);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	SSL_set_fd(ssl, fd);
	SSL_set_tlsext_host_name(ssl, "localhost");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && say_hello(ssl, fd))
		r = go_on(ssl, forks, waits);
	else
		print_errors();
	SSL_free(ssl);
	close(fd);
	return r;
}

int main(int argc, char **argv)
{
	int is_server = argc == 4 && strcmp(argv[1], "server") == 0, forks = 0, waits = 0, i = 2, r;
	SSL_CTX *ctx;

	for (; !is_server && i < argc && argv[i][0] == '-'; i++) {
		forks |= argv[i][1] == 'f';
		waits |= argv[i][1] == 'w';
	}
	if (!is_server && (argc < 2 || strcmp(argv[1], "client") != 0 || i + 1 != argc))
		return usage();
	signal(SIGPIPE, SIG_IGN);
	ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	if (ctx == NULL) {
		print_errors();
		return 1;
	}
	r = is_server ? server(ctx, argv[2], argv[3]) : client(ctx, argv[i], forks, waits);
	SSL_CTX_free(ctx);
	return r;
}
