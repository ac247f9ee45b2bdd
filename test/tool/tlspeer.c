/*
 * tlspeer: a TLS server or client that does by hand what openssl's own do not: what an application
 * sets after SSL_CTX_new(), virtual hosts, kept sessions, a pre-shared key that it asks the host for itself.
 *
 *   tlspeer server [OPTIONS] CERTIFICATE KEY   PEM files; prints "port N", serves until a signal
 *   tlspeer client [OPTIONS] PORT              exit status 1 if the connection failed
 *
 * Each handshake gives one line
 *
 *   ok version=V group=G reused=0|1 verify=N verified=0|1 peer=SUBJECT
 *   failed REASON: DATA; ...
 *
 * and is over when a byte went from the server to the client and one back. Options:
 *
 *   -n NAME   client: asks for that name and verifies it
 *   -a FILE   verifies the peer with these authorities
 *   -c CERTIFICATE,KEY   client: shows that
 *   -m 12|13  the highest and lowest version
 *   -g LIST   groups        -l LIST  suites of TLS 1.3      -L LIST  suites of others
 *   -i        an info callback of its own on the SSL_CTX    -I  on each SSL
 *   -y        a verify callback that says yes to all errors -Y  a certificate verify callback, likewise
 *   -p        callbacks of its own for TLS 1.3 pre-shared keys, which have none
 *   -r        a certificate callback of its own, which does nothing
 *   -o        server: a session cache instead of tickets    -k  a session id context of its own
 *   -s FILE   client: offers the session in it
 *   -S FILE   client: keeps the last session that it got
 *   -f        server: a process for each connection
 *   -q        says nothing of a handshake that failed
 *   -v NAME,FILE  server: a virtual host, which demands certificates of these authorities
 *   -x        server: an info callback of its own on each SSL that comes to the virtual host
 *   -X        an info callback of its own on the SSL_CTX, which calls the one that was there
 *             With -i, -I, -x and -X: one more line, "told start=N done=N alert=N": how often it was called
 *   -z        a security callback of its own, which allows everything
 *   -d        an extension debug callback of its own on each SSL; prints "seen"
 *   -t        asks each SSL, which has a list of its own, for its suites
 *   -u        server: a pre-shared key of its own, which is s_server's 00112233445566778899aabbccddeeff
 *   -h HOW    client: a pre-shared key by hand, without tao_tls.so: good; noext, without the extension
 *             0xFF54; binder, with a wrong secret
 *   -j COUNT  so many connections at once, each in a thread
 *   -e        client: ends when its standard input does
 *   -w        client: when the ClientHello was sent, prints "sent" and waits for a line
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>

#include "provider/channel.h"

#define EXTENSION 0xFF54
#define THREADS_MAX 64
#define OWN_PSK_LEN 16

struct options {
	const char *name, *authorities, *show, *version, *groups, *suites, *suites12;
	const char *offer, *keep, *vhost, *by_hand;
	int info_ctx, info_ssl, yes, yes_cert, psk, cert_cb, cache, context, wait, stay, forks, quiet, info_vhost;
	int info_chain, security, debug, asks, own_psk;
	long threads;
	SSL_CTX *virtual;                /* of vhost */
	struct channel_answer *answer;   /* by hand */
	unsigned char identity[CHANNEL_IDENTITY_LEN];
};

static int usage(void)
{
	fprintf(stderr, "usage: tlspeer server [OPTIONS] CERTIFICATE KEY | client [OPTIONS] PORT\n");
	return 2;
}

static void print_errors(void)
{
	const char *data;
	unsigned long e;
	int flags;

	printf("failed");
	while ((e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
		const char *reason = ERR_reason_error_string(e);

		printf(" %s: %s;", reason != NULL ? reason : "?", flags & ERR_TXT_STRING ? data : "");
	}
	printf("\n");
	fflush(stdout);
}

static int die(void)
{
	print_errors();
	exit(1);
}

/* ---- callbacks ---- */

static struct {
	atomic_uint start, done, alert;
} told;
static void (*before)(const SSL *, int, int); /* -X */

static void on_info(const SSL *s, int where, int value)
{
	(void)s;
	(void)value;
	told.start += (where & SSL_CB_HANDSHAKE_START) != 0;
	told.done += (where & SSL_CB_HANDSHAKE_DONE) != 0;
	told.alert += (where & SSL_CB_ALERT) != 0;
}

static void on_info_chained(const SSL *s, int where, int value)
{
	on_info(s, where, value);
	if (before != NULL)
		before(s, where, value);
}

static void print_told(const struct options *o)
{
	if (o->info_ctx || o->info_ssl || o->info_vhost || o->info_chain)
		printf("told start=%u done=%u alert=%u\n", told.start, told.done, told.alert);
	fflush(stdout);
}

static int on_security(const SSL *s, const SSL_CTX *ctx, int op, int bits, int nid, void *other, void *arg)
{
	(void)s;
	(void)ctx;
	(void)op;
	(void)bits;
	(void)nid;
	(void)other;
	(void)arg;
	return 1;
}

static void on_debug(SSL *s, int from, int type, const unsigned char *data, int n, void *arg)
{
	(void)s;
	(void)from;
	(void)data;
	(void)n;
	(void)arg;
	if (type == TLSEXT_TYPE_supported_versions) {
		printf("seen\n");
		fflush(stdout);
	}
}

static unsigned give_psk(SSL *s, const char *identity, unsigned char *psk, unsigned room)
{
	(void)s;
	(void)identity;
	if (room < OWN_PSK_LEN)
		return 0;
	for (int i = 0; i < OWN_PSK_LEN; i++)
		psk[i] = (unsigned char)(i * 0x11);
	return OWN_PSK_LEN;
}

static int say_yes(int ok, X509_STORE_CTX *x)
{
	(void)ok;
	(void)x;
	return 1;
}

static int say_yes_cert(X509_STORE_CTX *x, void *arg)
{
	(void)x;
	(void)arg;
	return 1;
}

static int on_cert(SSL *s, void *arg)
{
	(void)s;
	(void)arg;
	return 1;
}

static int no_use(SSL *s, const EVP_MD *md, const unsigned char **id, size_t *n, SSL_SESSION **out)
{
	(void)s;
	(void)md;
	(void)id;
	(void)n;
	*out = NULL;
	return 1;
}

static int no_find(SSL *s, const unsigned char *id, size_t n, SSL_SESSION **out)
{
	(void)s;
	(void)id;
	(void)n;
	*out = NULL;
	return 1;
}

static int on_session(SSL *s, SSL_SESSION *session)
{
	struct options *o = SSL_get_app_data(s);
	FILE *f = fopen(o->keep, "w");

	if (f == NULL || !PEM_write_SSL_SESSION(f, session))
		die();
	fclose(f);
	return 0;
}

static int on_name(SSL *s, int *alert, void *arg)
{
	struct options *o = arg;
	const char *name = SSL_get_servername(s, TLSEXT_NAMETYPE_host_name);
	size_t n = strcspn(o->vhost, ",");

	(void)alert;
	if (name == NULL || strlen(name) != n || strncmp(name, o->vhost, n) != 0)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_SSL_CTX(s, o->virtual);
	SSL_set_verify(s, SSL_CTX_get_verify_mode(o->virtual), NULL);
	if (o->info_vhost)
		SSL_set_info_callback(s, on_info);
	return SSL_TLSEXT_ERR_OK;
}

/* ---- pre-shared keys by hand ---- */

static const struct channel *channel(void)
{
	const struct channel *ch = NULL;
	OSSL_PARAM wanted[] = {
		OSSL_PARAM_construct_octet_ptr(CHANNEL_PARAM, (void **)&ch, 0),
		OSSL_PARAM_construct_end(),
	};
	OSSL_PROVIDER *p = OSSL_PROVIDER_load(NULL, "tao");

	if (p == NULL || !OSSL_PROVIDER_get_params(p, wanted) || ch == NULL)
		die();
	return ch;
}

static void ask(struct options *o)
{
	const struct channel *ch = channel();

	if (ch->psk_client(ch->arg, o->name, TLS1_3_VERSION, CHANNEL_SHA256, &o->answer) != TAO_OK ||
	    o->answer->psk == NULL) {
		printf("failed no key: %s\n", o->answer != NULL && o->answer->why != NULL ? o->answer->why : ch->why());
		exit(1);
	}
	memcpy(o->identity, o->answer->identity, sizeof o->identity);
}

static int use(SSL *s, const EVP_MD *md, const unsigned char **id, size_t *n, SSL_SESSION **out)
{
	static const unsigned char aes128[] = { 0x13, 0x01 };
	struct options *o = SSL_get_app_data(s);
	unsigned char psk[CHANNEL_SECRET_MAX] = { 0 };
	size_t psk_n = o->answer->psk_n;

	(void)md;
	memcpy(psk, o->answer->psk, psk_n);
	if (strcmp(o->by_hand, "binder") == 0)
		psk[0] ^= 1;
	*out = SSL_SESSION_new();
	*id = o->identity;
	*n = sizeof o->identity;
	return SSL_SESSION_set1_master_key(*out, psk, psk_n) &&
	       SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(s, aes128)) &&
	       SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
}

static void by_hand(SSL_CTX *ctx, struct options *o)
{
	SSL_CTX_set_psk_use_session_callback(ctx, use);
	ask(o);
	if (strcmp(o->by_hand, "noext") != 0)
		SSL_CTX_add_custom_ext(ctx, EXTENSION,
		                       SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
		                       NULL, NULL, NULL, NULL, NULL);
}

/* ---- contexts ---- */

static void set_version(SSL_CTX *ctx, const char *version)
{
	int v = strcmp(version, "12") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;

	SSL_CTX_set_min_proto_version(ctx, v);
	SSL_CTX_set_max_proto_version(ctx, v);
}

static void set_authorities(SSL_CTX *ctx, const char *file)
{
	if (!SSL_CTX_load_verify_file(ctx, file))
		die();
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

static void set_cert(SSL_CTX *ctx, const char *cert, const char *key)
{
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		die();
}

static void set_callbacks(SSL_CTX *ctx, const struct options *o)
{
	if (o->info_ctx)
		SSL_CTX_set_info_callback(ctx, on_info);
	if (o->info_chain) {
		before = SSL_CTX_get_info_callback(ctx);
		SSL_CTX_set_info_callback(ctx, on_info_chained);
	}
	if (o->security)
		SSL_CTX_set_security_callback(ctx, on_security);
	if (o->own_psk)
		SSL_CTX_set_psk_server_callback(ctx, give_psk);
	if (o->yes)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, say_yes);
	if (o->yes_cert)
		SSL_CTX_set_cert_verify_callback(ctx, say_yes_cert, NULL);
	if (o->cert_cb)
		SSL_CTX_set_cert_cb(ctx, on_cert, NULL);
	if (o->psk) {
		SSL_CTX_set_psk_use_session_callback(ctx, no_use);
		SSL_CTX_set_psk_find_session_callback(ctx, no_find);
	}
}

static SSL_CTX *make_ctx(const SSL_METHOD *method, const struct options *o)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (ctx == NULL || (o->groups != NULL && !SSL_CTX_set1_groups_list(ctx, o->groups)) ||
	    (o->suites != NULL && !SSL_CTX_set_ciphersuites(ctx, o->suites)) ||
	    (o->suites12 != NULL && !SSL_CTX_set_cipher_list(ctx, o->suites12)))
		die();
	if (o->version != NULL)
		set_version(ctx, o->version);
	if (o->authorities != NULL)
		set_authorities(ctx, o->authorities);
	if (o->cache)
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (o->context)
		SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"own", 3);
	set_callbacks(ctx, o);
	return ctx;
}

/* ---- a connection ---- */

static void print_peer(SSL *s)
{
	X509 *peer = SSL_get1_peer_certificate(s);
	const char *group = NULL;
	BIO *b = BIO_new(BIO_s_mem());
	char *text;
	long n;

	if (peer != NULL)
		X509_NAME_print_ex(b, X509_get_subject_name(peer), 0, XN_FLAG_ONELINE);
	n = BIO_get_mem_data(b, &text);
	if (SSL_version(s) == TLS1_3_VERSION)
		group = SSL_group_to_name(s, (int)SSL_get_negotiated_group(s));
	printf("ok version=%s group=%s reused=%d verify=%ld verified=%d peer=%.*s\n",
	       SSL_get_version(s), group != NULL ? group : "none", SSL_session_reused(s),
	       SSL_get_verify_result(s), SSL_get0_verified_chain(s) != NULL, (int)n, text);
	fflush(stdout);
	BIO_free(b);
	X509_free(peer);
}

static int finish(SSL *s, int server)
{
	const struct options *o = SSL_get_app_data(s);
	char byte = 'x';
	int good = SSL_do_handshake(s) == 1;

	if (good && server)
		good = SSL_write(s, &byte, 1) == 1 && SSL_read(s, &byte, 1) == 1;
	else if (good)
		good = SSL_read(s, &byte, 1) == 1 && SSL_write(s, &byte, 1) == 1;
	if (good)
		print_peer(s);
	else if (!o->quiet)
		print_errors();
	print_told(o);
	ERR_clear_error();
	if (good)
		SSL_shutdown(s);
	return good;
}

static void set_ssl_callbacks(SSL *s, const struct options *o)
{
	if (o->info_ssl)
		SSL_set_info_callback(s, on_info);
	if (o->debug)
		SSL_set_tlsext_debug_callback(s, on_debug);
}

static void ask_for_suites(SSL *s)
{
	STACK_OF(SSL_CIPHER) *all;

	if (!SSL_set_cipher_list(s, "ECDHE+AESGCM"))
		die();
	all = SSL_get1_supported_ciphers(s);
	if (all == NULL)
		die();
	sk_SSL_CIPHER_free(all);
}

static SSL *make_ssl(SSL_CTX *ctx, struct options *o, int fd)
{
	SSL *s = SSL_new(ctx);
	int on = 1;

	if (s == NULL || !SSL_set_fd(s, fd))
		die();
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	SSL_set_app_data(s, o);
	set_ssl_callbacks(s, o);
	if (o->asks)
		ask_for_suites(s);
	return s;
}

struct listener {
	struct options *o;
	SSL_CTX *ctx;
	int fd;
};

static void *serve(void *arg)
{
	const struct listener *l = arg;

	for (;;) {
		int peer = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
		SSL *s = peer >= 0 ? make_ssl(l->ctx, l->o, peer) : NULL;

		if (s == NULL)
			continue;
		SSL_set_accept_state(s);
		if (!l->o->forks)
			finish(s, 1);
		else if (fork() == 0)
			_exit(!finish(s, 1));
		SSL_free(s);
		close(peer);
	}
	return NULL;
}

static SSL_CTX *server_ctx(struct options *o, const char *cert, const char *key)
{
	SSL_CTX *ctx = make_ctx(TLS_server_method(), o);

	set_cert(ctx, cert, key);
	if (o->vhost != NULL) {
		o->virtual = make_ctx(TLS_server_method(), o);
		set_cert(o->virtual, cert, key);
		set_authorities(o->virtual, strchr(o->vhost, ',') + 1);
		SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
		SSL_CTX_set_tlsext_servername_arg(ctx, o);
	}
	return ctx;
}

static int server(struct options *o, const char *cert, const char *key)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t n = sizeof at;
	struct listener l = { .o = o, .ctx = server_ctx(o, cert, key) };
	pthread_t thread;

	l.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(l.fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(l.fd, 64) != 0 ||
	    getsockname(l.fd, (struct sockaddr *)&at, &n) != 0)
		return 1;
	printf("port %d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (long i = 1; i < o->threads; i++)
		if (pthread_create(&thread, NULL, serve, &l) != 0)
			return 1;
	serve(&l);
	return 1;
}

static int connect_to(const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct linger reset = { 1, 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
		perror("tlspeer: connect");
		exit(1);
	}
	return fd;
}

/* Sends the ClientHello and does not wait for the answer. */
static void say_hello(SSL *s, int fd)
{
	int flags = fcntl(fd, F_GETFL);
	char line[16];

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	SSL_do_handshake(s);
	fcntl(fd, F_SETFL, flags);
	ERR_clear_error();
	printf("sent\n");
	fflush(stdout);
	if (fgets(line, sizeof line, stdin) == NULL)
		exit(1);
}

static SSL *make_client(SSL_CTX *ctx, struct options *o, int fd)
{
	SSL *s = make_ssl(ctx, o, fd);
	SSL_SESSION *session = NULL;
	FILE *f;

	SSL_set_connect_state(s);
	if (o->name != NULL) {
		SSL_set_tlsext_host_name(s, o->name);
		X509_VERIFY_PARAM_set1_host(SSL_get0_param(s), o->name, 0);
	}
	if (o->offer != NULL && (f = fopen(o->offer, "r")) != NULL) {
		session = PEM_read_SSL_SESSION(f, NULL, NULL, NULL);
		fclose(f);
		if (session == NULL || !SSL_set_session(s, session))
			die();
		SSL_SESSION_free(session);
	}
	return s;
}

struct job {
	SSL_CTX *ctx;
	struct options *o;
	const char *port;
	pthread_t thread;
};

static void *work(void *arg)
{
	struct job *j = arg;
	int fd = connect_to(j->port);
	SSL *s = make_client(j->ctx, j->o, fd);

	finish(s, 0);
	SSL_free(s);
	close(fd);
	return NULL;
}

static int at_once(SSL_CTX *ctx, struct options *o, const char *port)
{
	struct job jobs[THREADS_MAX];

	for (long i = 0; i < o->threads; i++) {
		jobs[i] = (struct job){ .ctx = ctx, .o = o, .port = port };
		if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) != 0)
			return 1;
	}
	for (long i = 0; i < o->threads; i++)
		pthread_join(jobs[i].thread, NULL);
	return 0;
}

static int one_client(SSL_CTX *ctx, struct options *o, const char *port)
{
	int fd, good;
	SSL *s;

	if (o->by_hand != NULL)
		by_hand(ctx, o);
	if (o->by_hand != NULL && !SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256"))
		die();
	fd = connect_to(port);
	s = make_client(ctx, o, fd);
	if (o->wait)
		say_hello(s, fd);
	good = finish(s, 0);
	while (o->stay && getchar() != EOF)
		;
	SSL_free(s);
	close(fd);
	return !good;
}

static void show_cert(SSL_CTX *ctx, const char *files)
{
	char *cert = strdup(files), *key = strchr(cert, ',');

	*key++ = 0;
	set_cert(ctx, cert, key);
	free(cert);
}

static int client(struct options *o, const char *port)
{
	SSL_CTX *ctx = make_ctx(TLS_client_method(), o);
	int r;

	if (o->show != NULL)
		show_cert(ctx, o->show);
	if (o->keep != NULL) {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
		SSL_CTX_sess_set_new_cb(ctx, on_session);
	}
	if (o->threads > 0 && o->threads <= THREADS_MAX)
		r = at_once(ctx, o, port);
	else
		r = one_client(ctx, o, port);
	SSL_CTX_free(ctx);
	return r;
}

static int parse(struct options *o, int argc, char **argv)
{
	const struct {
		char letter;
		const char **value;
		int *on;
	} all[] = {
		{ 'n', &o->name, NULL },      { 'a', &o->authorities, NULL }, { 'c', &o->show, NULL },
		{ 'm', &o->version, NULL },   { 'g', &o->groups, NULL },      { 'l', &o->suites, NULL },
		{ 'L', &o->suites12, NULL },  { 's', &o->offer, NULL },       { 'S', &o->keep, NULL },
		{ 'v', &o->vhost, NULL },     { 'h', &o->by_hand, NULL },     { 'i', NULL, &o->info_ctx },
		{ 'I', NULL, &o->info_ssl },  { 'y', NULL, &o->yes },         { 'Y', NULL, &o->yes_cert },
		{ 'p', NULL, &o->psk },       { 'r', NULL, &o->cert_cb },     { 'o', NULL, &o->cache },
		{ 'k', NULL, &o->context },   { 'w', NULL, &o->wait },
		{ 'e', NULL, &o->stay },
		{ 'f', NULL, &o->forks },     { 'q', NULL, &o->quiet },       { 'x', NULL, &o->info_vhost },
		{ 'X', NULL, &o->info_chain }, { 'z', NULL, &o->security },   { 'd', NULL, &o->debug },
		{ 't', NULL, &o->asks },      { 'u', NULL, &o->own_psk },
	};
	int c;

	while ((c = getopt(argc, argv, "n:a:c:m:g:l:L:s:S:v:h:j:iIyYprokwefqxXzdtu")) != -1) {
		if (c == '?')
			return 0;
		if (c == 'j')
			o->threads = strtol(optarg, NULL, 10);
		for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
			if (c == all[i].letter && all[i].on != NULL)
				*all[i].on = 1;
			else if (c == all[i].letter)
				*all[i].value = optarg;
		}
	}
	return 1;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	int is_server = argc > 1 && strcmp(argv[1], "server") == 0;

	if (argc < 3 || (!is_server && strcmp(argv[1], "client") != 0) ||
	    !parse(&o, argc - 1, argv + 1) || argc - 1 - optind != (is_server ? 2 : 1))
		return usage();
	signal(SIGPIPE, SIG_IGN);
	if (o.forks)
		signal(SIGCHLD, SIG_IGN);
	argv += 1 + optind;
	return is_server ? server(&o, argv[0], argv[1]) : client(&o, argv[0]);
}
