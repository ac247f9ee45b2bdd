/*
 * quicpeer: a server or client of QUIC as libssl has it, from OpenSSL 3.5 on.
 *
 *   quicpeer server [OPTIONS] CERTIFICATE KEY   PEM files; prints "port N", serves until a signal
 *   quicpeer client [OPTIONS] PORT...           a connection to each, one after the other
 *
 * Each connection gives one line
 *
 *   ok group=G cipher=C reused=0|1 verify=N peer=SUBJECT
 *   failed REASON: DATA; ...
 *
 * and is over when a word went from the client to the server and back. Exits with 77 if libssl has
 * no QUIC server.
 * Options:
 *
 *   -n NAME   client: asks for that name and verifies it
 *   -a FILE   verifies the peer with these authorities; a server demands a certificate
 *   -c CERTIFICATE,KEY   client: shows that
 *   -g LIST   groups
 *   -i        an info callback of its own on the SSL_CTX    -I  on each SSL
 *   -p WORD   speaks this protocol (ALPN), not "tao"
 *   -r        client: offers the session of the connection before
 *   -h        client: has libssl's own thread for the connection
 *   -l        client: ends without freeing anything
 *   -m        a message callback of its own
 */
#include <openssl/ssl.h>

#if OPENSSL_VERSION_PREREQ(3, 5) && !defined(OPENSSL_NO_QUIC)

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/quic.h>

#define WORD "forward"
#define PROTOCOL_MAX 64

struct options {
	const char *name, *authorities, *show, *groups, *protocol;
	int info_ctx, info_ssl, resume, thread, leave, messages;
	unsigned char alpn[PROTOCOL_MAX];
	SSL_SESSION *session;
};

static int usage(void)
{
	fprintf(stderr, "usage: quicpeer server [OPTIONS] CERTIFICATE KEY\n"
	                "       quicpeer client [OPTIONS] PORT...\n");
	return 2;
}

static int fail(const char *what)
{
	fprintf(stderr, "quicpeer: %s\n", what);
	ERR_print_errors_fp(stderr);
	return 2;
}

static void print_errors(void)
{
	const char *data;
	unsigned long e;
	int flags;

	flockfile(stdout);
	printf("failed");
	while ((e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0)
		printf(" %s: %s;", ERR_reason_error_string(e), flags & ERR_TXT_STRING ? data : "");
	printf("\n");
	funlockfile(stdout);
}

static void print_done(SSL *s)
{
	X509 *peer = SSL_get1_peer_certificate(s);
	char subject[256] = "none";

	if (peer != NULL)
		X509_NAME_oneline(X509_get_subject_name(peer), subject, sizeof subject);
	printf("ok group=%s cipher=%s reused=%d verify=%ld peer=%s\n", SSL_get0_group_name(s),
	       SSL_get_cipher_name(s), SSL_session_reused(s), SSL_get_verify_result(s), subject);
	X509_free(peer);
}

static void own_info(const SSL *s, int where, int value)
{
	(void)s;
	(void)where;
	(void)value;
}

static void own_message(int sent, int version, int type, const void *data, size_t n,
                        SSL *s, void *arg)
{
	(void)sent;
	(void)version;
	(void)type;
	(void)data;
	(void)n;
	(void)s;
	(void)arg;
}

static int choose(SSL *s, const unsigned char **out, unsigned char *n, const unsigned char *in,
                  unsigned in_n, void *arg)
{
	const struct options *o = arg;

	unsigned char **to = (unsigned char **)(uintptr_t)out;

	(void)s;
	if (SSL_select_next_proto(to, n, o->alpn, o->alpn[0] + 1U, in, in_n) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

static int on_session(SSL *s, SSL_SESSION *session)
{
	struct options *o = SSL_CTX_get_app_data(SSL_get_SSL_CTX(s));

	SSL_SESSION_free(o->session);
	o->session = session;
	return 1;
}

static int show(SSL_CTX *ctx, const char *certificate, const char *key)
{
	return SSL_CTX_use_certificate_chain_file(ctx, certificate) == 1 &&
	       SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1;
}

static int show_pair(SSL_CTX *ctx, const char *pair)
{
	char *certificate = strdup(pair), *key = strchr(certificate, ',');
	int good;

	if (key != NULL)
		*key++ = 0;
	good = key != NULL && show(ctx, certificate, key);
	free(certificate);
	return good;
}

static SSL_CTX *make_ctx(const SSL_METHOD *method, struct options *o, int server)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (ctx == NULL || (o->show != NULL && !show_pair(ctx, o->show)) ||
	    (o->authorities != NULL &&
	     SSL_CTX_load_verify_locations(ctx, o->authorities, NULL) != 1) ||
	    (o->groups != NULL && SSL_CTX_set1_groups_list(ctx, o->groups) != 1))
		return NULL;
	SSL_CTX_set_app_data(ctx, o);
	if (server)
		SSL_CTX_set_alpn_select_cb(ctx, choose, o);
	if (o->authorities != NULL || !server)
		SSL_CTX_set_verify(ctx, server ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
		                               : SSL_VERIFY_PEER, NULL);
	if (o->info_ctx)
		SSL_CTX_set_info_callback(ctx, own_info);
	if (o->messages)
		SSL_CTX_set_msg_callback(ctx, own_message);
	if (o->resume) {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT |
		                                    SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, on_session);
	}
	return ctx;
}

/* ---- server ---- */

/* In a thread: a late packet of a client that was refused begins another connection, which nobody
 * will use. */
static void *answer(void *arg)
{
	SSL *s = arg;
	char word[64];
	int n = SSL_read(s, word, sizeof word);
	size_t written;
	int good = n > 0 &&
	           SSL_write_ex2(s, word, (size_t)n, SSL_WRITE_FLAG_CONCLUDE, &written) == 1;

	if (good)
		print_done(s);
	else
		print_errors();
	fflush(stdout);
	while (good && SSL_read(s, word, sizeof word) > 0)
		;
	SSL_free(s);
	return NULL;
}

static int listen_at(SSL *l, int fd)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t n = sizeof at;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (l == NULL || bind(fd, (struct sockaddr *)&at, n) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &n) != 0 || !SSL_set_fd(l, fd) ||
	    !SSL_set_blocking_mode(l, 1) || !SSL_listen(l))
		return 0;
	printf("port %d\n", ntohs(at.sin_port));
	fflush(stdout);
	return 1;
}

static int serve(struct options *o, char **files)
{
	SSL_CTX *ctx = make_ctx(OSSL_QUIC_server_method(), o, 1);
	pthread_t t;
	SSL *l;

	if (ctx == NULL || !show(ctx, files[0], files[1]))
		return fail("certificate, key or options");
	l = SSL_new_listener(ctx, 0);
	if (!listen_at(l, socket(AF_INET, SOCK_DGRAM, 0)))
		return fail("listening");
	for (;;) {
		SSL *s = SSL_accept_connection(l, 0);

		if (s != NULL && o->info_ssl)
			SSL_set_info_callback(s, own_info);
		if (s != NULL && (pthread_create(&t, NULL, answer, s) != 0 ||
		                  pthread_detach(t) != 0))
			return fail("no thread");
		ERR_clear_error();
	}
}

/* ---- client ---- */

static int aim(SSL *s, long port)
{
	struct in_addr at = { htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), good;
	BIO_ADDR *to = BIO_ADDR_new();
	BIO *b = BIO_new_dgram(fd, BIO_CLOSE);

	if (s == NULL || to == NULL || b == NULL)
		return 0;
	BIO_socket_nbio(fd, 1);
	BIO_ADDR_rawmake(to, AF_INET, &at, sizeof at, htons((uint16_t)port));
	SSL_set_bio(s, b, b);
	good = SSL_set1_initial_peer_addr(s, to) == 1 && SSL_set_blocking_mode(s, 1) == 1;
	BIO_ADDR_free(to);
	return good;
}

static int set(SSL *s, const struct options *o)
{
	if (SSL_set_alpn_protos(s, o->alpn, o->alpn[0] + 1U) != 0)
		return 0;
	if (o->name != NULL && (!SSL_set_tlsext_host_name(s, o->name) ||
	                        !X509_VERIFY_PARAM_set1_host(SSL_get0_param(s), o->name, 0)))
		return 0;
	if (o->info_ssl)
		SSL_set_info_callback(s, own_info);
	return o->session == NULL || SSL_set_session(s, o->session) == 1;
}

static int ask(SSL *s)
{
	char word[64];
	size_t n;

	return SSL_connect(s) == 1 &&
	       SSL_write_ex2(s, WORD, sizeof WORD, SSL_WRITE_FLAG_CONCLUDE, &n) == 1 &&
	       SSL_read(s, word, sizeof word) == sizeof WORD;
}

static int connect_once(SSL_CTX *ctx, struct options *o, long port)
{
	SSL *s = SSL_new(ctx);
	int good;

	if (!aim(s, port) || !set(s, o))
		return fail("a connection cannot be made");
	good = ask(s);
	if (good)
		print_done(s);
	else
		print_errors();
	fflush(stdout);
	if (o->leave)
		_exit(0);
	if (good)
		SSL_shutdown_ex(s, SSL_SHUTDOWN_FLAG_RAPID | SSL_SHUTDOWN_FLAG_NO_STREAM_FLUSH,
		                NULL, 0);
	SSL_free(s);
	return good ? 0 : 1;
}

static int call(struct options *o, char **ports)
{
	SSL_CTX *ctx = make_ctx(o->thread ? OSSL_QUIC_client_thread_method()
	                                  : OSSL_QUIC_client_method(), o, 0);
	int status = 0;

	if (ctx == NULL)
		return fail("options");
	for (; *ports != NULL && status < 2; ports++) {
		int r = connect_once(ctx, o, strtol(*ports, NULL, 10));

		status = r > status ? r : status;
	}
	SSL_SESSION_free(o->session);
	SSL_CTX_free(ctx);
	return status;
}

static int take(struct options *o, int option)
{
	switch (option) {
	case 'n': o->name = optarg; return 1;
	case 'a': o->authorities = optarg; return 1;
	case 'c': o->show = optarg; return 1;
	case 'g': o->groups = optarg; return 1;
	case 'i': return o->info_ctx = 1;
	case 'I': return o->info_ssl = 1;
	case 'p': o->protocol = optarg; return strlen(optarg) < PROTOCOL_MAX;
	case 'r': return o->resume = 1;
	case 'h': return o->thread = 1;
	case 'l': return o->leave = 1;
	case 'm': return o->messages = 1;
	default: return 0;
	}
}

int main(int argc, char **argv)
{
	struct options o = { .protocol = "tao" };
	int server = argc > 1 && strcmp(argv[1], "server") == 0, option;

	if (argc < 2 || (!server && strcmp(argv[1], "client") != 0))
		return usage();
	argc--;
	argv++;
	while ((option = getopt(argc, argv, "n:a:c:g:iIp:rhlm")) != -1)
		if (!take(&o, option))
			return usage();
	if (argc - optind < (server ? 2 : 1))
		return usage();
	o.alpn[0] = (unsigned char)strlen(o.protocol);
	memcpy(o.alpn + 1, o.protocol, o.alpn[0]);
	return server ? serve(&o, argv + optind) : call(&o, argv + optind);
}

#else

int main(void)
{
	return 77;
}

#endif
