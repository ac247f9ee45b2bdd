/*
 * A TLS client that uses libssl in ways that s_client does not.
 *
 *   oddclient PORT NAME HOW...
 *
 * connects to 127.0.0.1 and asks for NAME; verifies NAME unless HOW says otherwise; sends a line,
 * and prints what it saw. HOW:
 *
 *   none      SSL_VERIFY_NONE, but the result of the verification is printed
 *   fixed     TLSv1_2_client_method(), which no minimum version reaches
 *   plain     nothing else
 *   dtls      DTLS; prints "shook" after the handshake, and sends nothing
 *   info      an info callback of its own, which prints "told" when a handshake is done
 *   dot       accepts whatever is below the domain of NAME
 *   hosts     accepts other.test as well, and names it first
 *   renew     renegotiates (TLS 1.2)
 *   again     SSL_clear() and a second connection with the same SSL
 *   dup       with SSL_dup()'s copy of that SSL
 *   address   whose peer has to have the address 192.0.2.1 in its certificate as well
 *   anyway    again, also where the first one failed
 *   wait      before that, prints "waiting" and waits for a line on standard input
 *   late      the same before the first connection
 *   ca FILE   trusts these
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

static int has(char **how, const char *word)
{
	for (; *how != NULL; how++)
		if (strcmp(*how, word) == 0)
			return 1;
	return 0;
}

static void on_info(const SSL *s, int where, int value)
{
	(void)s;
	(void)value;
	if (where & SSL_CB_HANDSHAKE_DONE)
		printf("told\n");
}

/* Deprecated, and still used. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static const SSL_METHOD *method(char **how)
{
#if OPENSSL_VERSION_MAJOR < 4 /* which has none that is for one version */
	if (has(how, "fixed"))
		return TLSv1_2_client_method();
#endif
	return has(how, "dtls") ? DTLS_client_method() : TLS_client_method();
}
#pragma GCC diagnostic pop

static SSL_CTX *make_ctx(char **how)
{
	SSL_CTX *ctx = SSL_CTX_new(method(how));

	if (ctx == NULL)
		return NULL;
	for (; *how != NULL; how++)
		if (strcmp(*how, "ca") == 0 && how[1] != NULL)
			SSL_CTX_load_verify_locations(ctx, how[1], NULL);
	return ctx;
}

static int connect_to(SSL *s, int port, int datagram)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, datagram ? SOCK_DGRAM : SOCK_STREAM, 0);
	BIO_ADDR *peer = BIO_ADDR_new();
	BIO *b;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
		return 0;
	b = datagram ? BIO_new_dgram(fd, BIO_CLOSE) : BIO_new_socket(fd, BIO_CLOSE);
	if (b == NULL || peer == NULL)
		return 0;
	BIO_ADDR_rawmake(peer, AF_INET, &to.sin_addr, sizeof to.sin_addr, to.sin_port);
	if (datagram)
		BIO_ctrl(b, BIO_CTRL_DGRAM_SET_CONNECTED, 0, peer);
	BIO_ADDR_free(peer);
	SSL_set_bio(s, b, b);
	if (SSL_connect(s) != 1)
		return 0;
	if (datagram)
		printf("shook\n");
	return 1;
}

/* A line there and back. */
static int talk(SSL *s)
{
	char line[64];

	return SSL_is_dtls(s) ||
	       (SSL_write(s, "forward\n", 8) == 8 && SSL_read(s, line, sizeof line) > 0);
}

static void print(SSL *s, int good)
{
	X509 *peer = SSL_get1_peer_certificate(s);

	printf("%s version=%s cipher=%s reused=%d verify=%ld peer=%s\n", good ? "done" : "failed",
	       SSL_get_version(s), SSL_get_cipher(s), SSL_session_reused(s),
	       SSL_get_verify_result(s), peer != NULL ? "yes" : "no");
	X509_free(peer);
	if (!good)
		ERR_print_errors_fp(stdout);
	fflush(stdout);
}

static void set_up(SSL *s, const char *name, char **how)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(s);

	if (has(how, "fixed"))
		SSL_set_max_proto_version(s, TLS1_2_VERSION);
	SSL_set_tlsext_host_name(s, name);
	SSL_set_verify(s, has(how, "none") ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	if (has(how, "hosts"))
		X509_VERIFY_PARAM_set1_host(param, "other.test", 0);
	if (has(how, "dot") && strchr(name, '.') != NULL)
		X509_VERIFY_PARAM_set1_host(param, strchr(name, '.'), 0);
	else if (!has(how, "none"))
		X509_VERIFY_PARAM_add1_host(param, name, 0);
	if (has(how, "info"))
		SSL_set_info_callback(s, on_info);
}

static int copy(SSL **s, const char *name)
{
	SSL *made = SSL_dup(*s);

	if (made == NULL)
		return 0;
	SSL_free(*s);
	*s = made;
	return SSL_set_tlsext_host_name(made, name) == 1;
}

static int waits(void)
{
	printf("waiting\n");
	fflush(stdout);
	return getchar() == '\n';
}

int main(int argc, char **argv)
{
	char **how = argv + 3;
	SSL_CTX *ctx;
	SSL *s;
	int good, datagram;

	if (argc < 3)
		return 2;
	datagram = has(how, "dtls");
	ctx = make_ctx(how);
	s = ctx != NULL ? SSL_new(ctx) : NULL;
	if (s == NULL) {
		ERR_print_errors_fp(stdout);
		return 2;
	}
	set_up(s, argv[2], how);
	good = (!has(how, "late") || waits()) && connect_to(s, atoi(argv[1]), datagram) && talk(s);
	print(s, good);
	if (good && has(how, "renew")) {
		good = SSL_renegotiate(s) == 1 && SSL_do_handshake(s) == 1 && talk(s);
		print(s, good);
	}
	SSL_shutdown(s);
	if (good && has(how, "wait"))
		good = waits();
	if (has(how, "address"))
		X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s), "192.0.2.1");
	if ((good && has(how, "again")) || has(how, "anyway")) {
		good = SSL_clear(s) == 1 && (!has(how, "dup") || copy(&s, argv[2])) &&
		       connect_to(s, atoi(argv[1]), datagram) && talk(s);
		print(s, good);
		SSL_shutdown(s);
	}
	SSL_free(s);
	SSL_CTX_free(ctx);
	return good ? 0 : 1;
}
