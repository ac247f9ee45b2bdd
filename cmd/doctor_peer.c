#include "cmd.h"

#include <dlfcn.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#define PEER_SECONDS 10 /* that one step of connecting may take */
#define PEER_HOST_MAX 256
#define LIBSSL_MAX 32   /* bytes of its name */
#define TAO_GROUP "tao_"
#define GREETING_MS 300       /* so long a server may take that speaks first */
#define LATE_GREETING_MS 5000 /* where TLS at once did not work */

#ifndef SSL_R_RECORD_LAYER_FAILURE
#define SSL_R_RECORD_LAYER_FAILURE 313 /* of OpenSSL 3.2 */
#endif

/* Loaded for this alone: tao run is to start fast. */
#define FUNCTIONS(F) \
	F(TLS_client_method) F(SSL_CTX_new) F(SSL_CTX_free) F(SSL_CTX_set_default_verify_paths) F(SSL_new) \
	F(SSL_free) F(SSL_set_fd) F(SSL_ctrl) F(SSL_get0_param) F(SSL_connect) F(SSL_get_version) \
	F(SSL_session_reused) F(SSL_get1_peer_certificate) F(SSL_get_verify_result) F(SSL_group_to_name) \
	F(SSL_get_current_cipher) F(SSL_CIPHER_get_name)
#define FIELD(name) __typeof__(&name) name;
struct libssl {
	FUNCTIONS(FIELD)
};

static int find_libssl(struct libssl *f)
{
#define WANTED(name) { #name, &f->name },
	const struct {
		const char *name;
		void *to;
	} wanted[] = { FUNCTIONS(WANTED) };
	char name[LIBSSL_MAX];
	void *lib;

	snprintf(name, sizeof name, "libssl.so.%u", OPENSSL_version_major());
	lib = dlopen(name, RTLD_NOW);
	for (size_t i = 0; lib != NULL && i < sizeof wanted / sizeof wanted[0]; i++) {
		void *p = dlsym(lib, wanted[i].name);

		if (p == NULL)
			return 0;
		*(void **)wanted[i].to = p;
	}
	return lib != NULL;
}

/* "HOST:PORT" or "[ADDRESS]:PORT". */
static int split(const char *text, char host[PEER_HOST_MAX], const char **port)
{
	const char *colon = strrchr(text, ':');
	size_t n = colon != NULL ? (size_t)(colon - text) : 0;

	if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n == 0 || n >= PEER_HOST_MAX || colon[1] == 0)
		return 0;
	memcpy(host, text, n);
	host[n] = 0;
	*port = colon + 1;
	return 1;
}

static int connect_to(const char *host, const char *port, struct cmd_findings *f)
{
	struct addrinfo like = { .ai_socktype = SOCK_STREAM }, *all = NULL;
	const struct timeval most = { PEER_SECONDS, 0 };
	int fd = -1, e = getaddrinfo(host, port, &like, &all);

	if (e != 0) {
		cmd_found(f, CMD_BAD, 0, "%s:%s: %s", host, port, gai_strerror(e));
		return -1;
	}
	for (struct addrinfo *a = all; fd < 0 && a != NULL; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd >= 0) {
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
			setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
		}
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
			close(fd);
			fd = -1;
		}
	}
	if (fd < 0)
		cmd_found(f, CMD_BAD, 0, "%s:%s: %m", host, port);
	freeaddrinfo(all);
	return fd;
}

static int is_address(const char *host)
{
	struct addrinfo like = { .ai_flags = AI_NUMERICHOST }, *all = NULL;
	int yes = getaddrinfo(host, NULL, &like, &all) == 0;

	if (yes)
		freeaddrinfo(all);
	return yes;
}

static int is_to_be(X509_VERIFY_PARAM *p, const char *host)
{
	return is_address(host) ? X509_VERIFY_PARAM_set1_ip_asc(p, host) : X509_VERIFY_PARAM_set1_host(p, host, 0);
}

/* The queue, oldest first: a refusal of the Tao has its reason there. */
static void say_failed(struct cmd_findings *f)
{
	const char *data;
	unsigned long e;
	int flags, any = 0;

	while ((e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
		const char *reason = ERR_reason_error_string(e);

		cmd_found(f, CMD_BAD, 0, "no connection: %s%s%s", reason != NULL ? reason : "an error of OpenSSL",
		          flags & ERR_TXT_STRING && *data != 0 ? ": " : "", flags & ERR_TXT_STRING ? data : "");
		any = 1;
	}
	if (!any)
		cmd_found(f, CMD_BAD, 0, "no connection: the server closed it, or did not answer in time");
}

static void say_peer(const struct libssl *l, SSL *s, struct cmd_findings *f)
{
	X509 *peer = l->SSL_get1_peer_certificate(s);
	const X509_NAME *subject = peer != NULL ? X509_get_subject_name(peer) : NULL;
	int at = subject != NULL ? X509_NAME_get_index_by_NID(subject, NID_organizationalUnitName, -1) : -1;
	const ASN1_STRING *ou = at >= 0 ? X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)) : NULL;
	char *whole = subject != NULL ? X509_NAME_oneline(subject, NULL, 0) : NULL;
	long r = l->SSL_get_verify_result(s);

	if (peer == NULL)
		cmd_found(f, CMD_WARNING, 0, "the server showed no certificate");
	else if (r != X509_V_OK)
		cmd_found(f, CMD_BAD, 0, "the server's certificate, %s, does not verify: %s",
		          whole != NULL ? whole : "?", X509_verify_cert_error_string(r));
	else if (ou != NULL)
		cmd_found(f, CMD_GOOD, 0, "the server is %.*s", ASN1_STRING_length(ou),
		          (const char *)ASN1_STRING_get0_data(ou));
	else
		cmd_found(f, CMD_GOOD, 0, "the server's certificate verifies: %s", whole != NULL ? whole : "?");
	OPENSSL_free(whole);
	X509_free(peer);
}

static void say_connected(const struct libssl *l, SSL *s, struct cmd_findings *f)
{
	const char *group = l->SSL_group_to_name(s, (int)l->SSL_ctrl(s, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, NULL));
	int tao = group != NULL && strncmp(group, TAO_GROUP, strlen(TAO_GROUP)) == 0;
	int psk = l->SSL_session_reused(s);

	cmd_found(f, CMD_GOOD, 0, "%s with %s, group %s", l->SSL_get_version(s),
	          l->SSL_CIPHER_get_name(l->SSL_get_current_cipher(s)), group != NULL ? group : "of its own");
	if (psk || tao)
		cmd_found(f, CMD_GOOD, 0, "a Tao channel, %s", psk ? "by a pre-shared key of just these two programs"
		                                                     : "keyed by the group, with certificates");
	else
		cmd_found(f, CMD_WARNING, 0, "no Tao channel: certificates decide; 'tao connect' and 'tao trust "
		          "--serves' say who may talk to whom, 'tao log' what was wrong");
	say_peer(l, s, f);
}

/* What came was no TLS: not even an alert. */
static int is_no_tls(void)
{
	unsigned long e = ERR_peek_last_error();
	int why = ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;

	return e == 0 || ERR_SYSTEM_ERROR(e) || why == SSL_R_WRONG_VERSION_NUMBER ||
	       why == SSL_R_PACKET_LENGTH_TOO_LONG || why == SSL_R_UNEXPECTED_EOF_WHILE_READING || why == SSL_R_RECORD_LAYER_FAILURE;
}

/* 0: the server speaks no TLS; the queue has the errors. */
static int shake_hands(const struct libssl *l, int fd, const char *host, struct cmd_findings *f)
{
	SSL_CTX *ctx = l->SSL_CTX_new(l->TLS_client_method());
	SSL *s = ctx != NULL && l->SSL_CTX_set_default_verify_paths(ctx) ? l->SSL_new(ctx) : NULL;
	int good = s != NULL && l->SSL_set_fd(s, fd), tls = 1;

	if (good && !is_address(host))
		good = l->SSL_ctrl(s, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)host) == 1;
	good = good && is_to_be(l->SSL_get0_param(s), host);
	if (good && l->SSL_connect(s) == 1)
		say_connected(l, s, f);
	else if (!good || !is_no_tls())
		say_failed(f);
	else
		tls = 0;
	l->SSL_free(s);
	l->SSL_CTX_free(ctx);
	return tls;
}

static void say_no_tls(struct cmd_findings *f)
{
	say_failed(f);
	cmd_found(f, CMD_BAD, 0, "what answers there speaks no TLS, nor begins it as SMTP, IMAP, MariaDB and "
	          "PostgreSQL do: is it the right port?");
}

/* 0: it may be one that takes longer, or waits for the client. */
static int try_server(const struct libssl *l, int fd, const char *host, int again, struct cmd_findings *f)
{
	int good;
	const char *protocol = cmd_starttls(fd, again ? LATE_GREETING_MS : GREETING_MS, again, &good);

	if (protocol == NULL)
		return !again && shake_hands(l, fd, host, f);
	ERR_clear_error();
	if (good)
		cmd_found(f, CMD_GOOD, 0, "it speaks %s, and begins TLS when it is asked to", protocol);
	else
		cmd_found(f, CMD_BAD, 0, "it speaks %s, and does not begin TLS: see the server's configuration", protocol);
	if (good && !shake_hands(l, fd, host, f))
		say_failed(f);
	return 1;
}

/* As a program of the host: what tao run says of OpenSSL holds, which tao does not load otherwise. */
static void load_conf(struct cmd_findings *f)
{
	const char *conf = getenv("OPENSSL_CONF");
	char self[PATH_MAX] = "tao"; /* which may be elsewhere than where tao run looks */

	if (conf == NULL) {
		if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
			snprintf(self, sizeof self, "tao");
		cmd_found(f, CMD_WARNING, 0, "tao was not started by 'tao run', and offers nothing of the Tao here: "
		          "'tao run -- %s doctor HOST:PORT' connects as a program of the host", self);
		return;
	}
	OPENSSL_load_builtin_modules();
	if (CONF_modules_load_file(conf, NULL, 0) <= 0)
		cmd_found(f, CMD_BAD, 0, "OpenSSL does not load %s: see 'tao conf check'", conf);
	ERR_clear_error();
}

int cmd_examine_peer(const char *where, struct cmd_findings *f)
{
	char host[PEER_HOST_MAX];
	struct libssl l;
	const char *port;
	int fd;

	if (!split(where, host, &port))
		return 0;
	if (!find_libssl(&l)) {
		cmd_found(f, CMD_BAD, 0, "there is no libssl.so.%u: install the package openssl", OPENSSL_version_major());
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	load_conf(f);
	for (int again = 0, done = 0; !done && again < 2; again++) {
		fd = connect_to(host, port, f);
		done = fd < 0 || try_server(&l, fd, host, again, f);
		if (fd >= 0)
			close(fd);
		if (!done && again)
			say_no_tls(f);
	}
	return 1;
}
