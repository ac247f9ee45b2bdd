/* Channels: names in certificates; handshakes, authorisation, deadlines and ends, over loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/x509v3.h>

#include "tap.h"

#include "../../domain/cert.h"
#include "../../domain/domain.h"
#include "../../tao/channel_int.h"
#include "../../tao/tao.h"

#define HEX64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SERVER "key([" HEX64 "]).Measured([aa], [bb], 0)"
#define CLIENT "key([" HEX64 "]).Measured([cc], [dd], 1000)"
#define LIFE   3600 /* seconds */
#define QUICK  400  /* milliseconds */

/* ---- names in certificates ---- */

static X509 *with_names(const char *const *units, const char *const *uris)
{
	X509 *x = X509_new();
	X509_NAME *subject = X509_NAME_new();
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();

	for (; *units != NULL; units++)
		X509_NAME_add_entry_by_NID(subject, NID_organizationalUnitName, V_ASN1_UTF8STRING,
		                           (const unsigned char *)*units, -1, -1, 0);
	X509_set_subject_name(x, subject);
	X509_NAME_free(subject);
	for (; *uris != NULL; uris++) {
		GENERAL_NAME *g = GENERAL_NAME_new();
		ASN1_IA5STRING *s = ASN1_IA5STRING_new();

		ASN1_STRING_set(s, *uris, -1);
		GENERAL_NAME_set0_value(g, GEN_URI, s);
		sk_GENERAL_NAME_push(names, g);
	}
	X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT);
	GENERAL_NAMES_free(names);
	return x;
}

#define LIST(...)                                                                                  \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}
#define NONE                                                                                       \
	(const char *const[])                                                                      \
	{                                                                                          \
		NULL                                                                               \
	}

static void name_is(X509 *x, const char *want, const char *what)
{
	struct tao_node *n = NULL;
	enum tao_err e = tao_cert_principal(x, &n);
	char *text = n != NULL ? tao_node_text(n) : NULL;

	if (want != NULL)
		ok_str(text, want, "%s", what);
	else
		ok(e == TAO_EFORMAT && n == NULL && *tao_why() != 0, "refused: %s", what);
	free(text);
	tao_node_free(n);
	X509_free(x);
}

static void names(void)
{
	static const struct {
		const char *unit, *uri, *want, *what;
	} one[] = {
		{ "key([00]).A(1)", "urn:tao:key(%5B00%5D).A(1)", "key([00]).A(1)", "a name" },
		{ "key([00]).A(1)", "urn:tao:key(%5b00%5d)%2EA(1)", "key([00]).A(1)",
		  "with other escapes" },
		{ "key([00]).A(2)", "urn:tao:key(%5B00%5D).A(1)", NULL, "another OU" },
		{ "key([00])", "urn:tao:key(%5B00%5D).A(1)", NULL, "a shorter OU" },
		{ "key([00]).A(1)", "URN:TAO:key(%5B00%5D).A(1)", "key([00]).A(1)",
		  "a scheme in capitals" },
		{ "key([AB])", "urn:tao:key(%5BAB%5D)", NULL, "capital hex" },
		{ "key([00]).A(01)", "urn:tao:key(%5B00%5D).A(01)", NULL, "a leading zero" },
		{ "key([00]).A(1)", "urn:tao:key(%5B00%5D).A(1)%0", NULL, "an escape cut" },
		{ "key([00]).A(1)", "urn:tao:key(%5B00%5D).A(1)%", NULL, "an escape cut shorter" },
		{ "key([00]).A(1)", "urn:tao:key(%5B00%5D).A(1)%zz", NULL, "no hex" },
		{ "key([00]).A(1)", "urn:tao:key(%5B00%5D).A(1)%00", NULL, "a NUL behind" },
		{ "Fine(1)", "urn:tao:Fine(1)", NULL, "no principal" },
		{ "", "urn:tao:", NULL, "nothing" },
		{ "key([00])", "https://example.org/", NULL, "another URI" },
	};

	for (size_t i = 0; i < sizeof one / sizeof *one; i++)
		name_is(with_names(LIST(one[i].unit), LIST(one[i].uri)), one[i].want, one[i].what);
	name_is(with_names(LIST("key([00])"), NONE), NULL, "no URI");
	name_is(with_names(NONE, LIST("urn:tao:key(%5B00%5D)")), NULL, "no OU");
	name_is(with_names(LIST("key([00])", "key([01])"), LIST("urn:tao:key(%5B00%5D)")), NULL,
	        "two OUs");
	name_is(
	    with_names(LIST("key([00])"), LIST("urn:tao:key(%5B00%5D)", "urn:tao:key(%5B01%5D)")),
	    NULL, "two names");
	name_is(
	    with_names(LIST("key([00])"), LIST("urn:tao:key(%5B00%5D)", "urn:TAO:key(%5B01%5D)")),
	    NULL, "two names, one in capitals");
	name_is(
	    with_names(LIST("key([01])"), LIST("urn:tao:key(%5B00%5D)", "urn:tao:key(%5B01%5D)")),
	    NULL, "two names, the last one fitting");
	name_is(
	    with_names(LIST("key([00])"), LIST("https://example.org/", "urn:tao:key(%5B00%5D)")),
	    "key([00])", "another URI beside the name");
}

/* ---- two ends ---- */

struct ca {
	EVP_PKEY *key;
	X509 *cert;
};

static struct ca make_ca(const char *name)
{
	struct ca ca = { NULL, NULL };

	if (tao_key_generate("ecdsap256", &ca.key) != TAO_OK ||
	    cert_policy(ca.key, name, &ca.cert) != TAO_OK)
		printf("Bail out! %s\n", tao_why());
	return ca;
}

/* A context as tao_channel_ctx() makes it; own NULL: without a certificate. */
static SSL_CTX *make_ctx(const struct ca *own, const struct ca *trusted, const char *name,
                         uint32_t seconds)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	X509_STORE *store = X509_STORE_new();
	struct tao_buf urn = TAO_BUF_INIT;
	struct tao_node *prin = NULL;
	struct cert_program p = {
		.principal = name, .seconds = seconds, .usage = "critical,digitalSignature",
		.extended_usage = "serverAuth,clientAuth"
	};
	X509 *cert = NULL;

	tao_channel_rules(ctx);
	X509_STORE_add_cert(store, trusted->cert);
	SSL_CTX_set_cert_store(ctx, store);
	if (own == NULL)
		return ctx;
	tao_prin_parse(name, strlen(name), &prin);
	domain_principal_urn(prin, &urn);
	p.urn = tao_buf_cstr(&urn);
	tao_key_generate("ecdsap256", &p.key);
	if (cert_program(own->cert, own->key, &p, &cert) != TAO_OK ||
	    SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, p.key) != 1)
		printf("Bail out! %s\n", tao_why());
	X509_free(cert);
	EVP_PKEY_free(p.key);
	tao_node_free(prin);
	tao_buf_free(&urn);
	return ctx;
}

static void tcp_pair(int fd[2])
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof sa;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(l, (struct sockaddr *)&sa, n) != 0 || listen(l, 1) != 0 ||
	    getsockname(l, (struct sockaddr *)&sa, &n) != 0)
		printf("Bail out! no loopback\n");
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd[0], (struct sockaddr *)&sa, n) != 0)
		printf("Bail out! no connection\n");
	fd[1] = accept(l, NULL, NULL);
	close(l);
}

struct end {
	struct tao_channel_conf conf;
	SSL_CTX *ctx;
	int fd, is_server;
	struct tao_channel *c;
	enum tao_err e;
	char why[TAO_WHY_MAX];
};

static void *shake(void *arg)
{
	struct end *x = arg;

	x->e = tao_channel_shake(&x->conf, x->ctx, x->fd, x->is_server, NULL,
	                         tao_channel_now_ms() + tao_channel_timeout(&x->conf), NULL, &x->c);
	snprintf(x->why, sizeof x->why, "%s", x->e != TAO_OK ? tao_why() : "");
	return NULL;
}

static enum tao_err let_in(const struct tao_node *peer, void *arg)
{
	char *text = tao_node_text(peer);
	int same = arg == NULL || strcmp(text, arg) == 0;

	free(text);
	return same ? TAO_OK : tao_fail(TAO_EDENIED, "not on the list");
}

static const struct tao_channel_conf anybody = { .key = "k",
	                                         .authorise = let_in,
	                                         .timeout_ms = 5000 };

/* Both handshakes at once; contexts are taken. */
static void connect_ends(struct end *client, struct end *server, SSL_CTX *c, SSL_CTX *s)
{
	pthread_t t;
	int fd[2];

	tcp_pair(fd);
	client->ctx = c;
	client->fd = fd[0];
	client->is_server = 0;
	server->ctx = s;
	server->fd = fd[1];
	server->is_server = 1;
	pthread_create(&t, NULL, shake, server);
	shake(client);
	pthread_join(t, NULL);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
}

static void close_ends(struct end *client, struct end *server)
{
	tao_channel_close(client->c);
	tao_channel_close(server->c);
	client->c = server->c = NULL;
}

static enum tao_err first_read(struct end *x)
{
	char byte;
	size_t n;

	return x->c != NULL ? tao_channel_read(x->c, &byte, 1, &n) : x->e;
}

static void connected(const struct ca *ca, struct end *client, struct end *server)
{
	*client = *server = (struct end){ .conf = anybody };
	connect_ends(client, server, make_ctx(ca, ca, CLIENT, LIFE),
	             make_ctx(ca, ca, SERVER, LIFE));
	if (client->c == NULL || server->c == NULL)
		printf("Bail out! no channel: %s; %s\n", client->why, server->why), exit(1);
}

/* ---- what goes through ---- */

struct writer {
	struct tao_channel *c;
	const uint8_t *p;
	size_t n;
	enum tao_err e;
};

static void *write_all(void *arg)
{
	struct writer *w = arg;

	w->e = tao_channel_write(w->c, w->p, w->n);
	return NULL;
}

static void bytes(const struct ca *ca)
{
	static uint8_t big[3 << 20], back[sizeof big];
	struct end client, server;
	struct writer w;
	char *text;
	pthread_t t;
	size_t n, got = 0;

	connected(ca, &client, &server);
	ok(client.e == TAO_OK && server.e == TAO_OK, "two programs of a domain connect");
	text = tao_node_text(tao_channel_peer(client.c));
	ok_str(text, SERVER, "the client knows the server");
	free(text);
	text = tao_node_text(tao_channel_peer(server.c));
	ok_str(text, CLIENT, "and the server the client");
	free(text);

	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (uint8_t)(i * 31 + i / 251);
	w = (struct writer){ .c = client.c, .p = big, .n = sizeof big };
	pthread_create(&t, NULL, write_all, &w);
	while (got < sizeof back &&
	       tao_channel_read(server.c, back + got, sizeof back - got, &n) == TAO_OK && n > 0)
		got += n;
	pthread_join(t, NULL);
	ok(w.e == TAO_OK && got == sizeof back && memcmp(big, back, got) == 0, "3 MiB arrive");

	ok_err(tao_channel_write(server.c, "xyz", 3), TAO_OK, "and an answer");
	ok(tao_channel_read(client.c, back, 1, &n) == TAO_OK && n == 1 && back[0] == 'x' &&
	       tao_channel_pending(client.c) == 2,
	   "of which two bytes are pending");
	tao_channel_close(client.c);
	client.c = NULL;
	ok(tao_channel_read(server.c, back, 1, &n) == TAO_OK && n == 0, "a proper end is one");
	close_ends(&client, &server);
}

static void ends(const struct ca *ca)
{
	struct end client, server;
	char byte;
	size_t n;
	int64_t before;

	connected(ca, &client, &server);
	tao_channel_set_timeout(client.c, QUICK);
	before = tao_channel_now_ms();
	ok_err(tao_channel_read(client.c, &byte, 1, &n), TAO_ETIMEOUT, "a silent peer");
	before = tao_channel_now_ms() - before;
	ok(before >= QUICK - 50 && before < QUICK + 2000, "is waited for as long as was said");
	tao_channel_write(server.c, "z", 1);
	ok(tao_channel_read(client.c, &byte, 1, &n) == TAO_OK && byte == 'z',
	   "and may speak later");
	shutdown(tao_channel_fd(server.c), SHUT_RDWR);
	ok_err(tao_channel_read(client.c, &byte, 1, &n), TAO_EPROTO,
	       "a connection that is cut is no end");
	ok(n == 0, "and gives nothing");
	ok_err(tao_channel_read(client.c, &byte, 1, &n), TAO_EPROTO, "nor later");
	ok_err(tao_channel_write(client.c, "z", 1), TAO_EPROTO, "nor does writing work");
	close_ends(&client, &server);
}

static void broken_pipe(const struct ca *ca)
{
	struct end client, server;
	enum tao_err e = TAO_OK;

	connected(ca, &client, &server);
	tao_channel_close(server.c);
	server.c = NULL;
	for (int i = 0; e == TAO_OK && i < 100; i++) {
		e = tao_channel_write(client.c, "z", 1);
		usleep(1000);
	}
	ok_err(e, TAO_EPROTO, "writing to a peer that is gone fails, without SIGPIPE");
	close_ends(&client, &server);
}

/* A setting of openssl.cnf that would let an attacker shorten what is read. */
static void cut_short(const struct ca *ca)
{
	struct end client, server;
	SSL_CTX *lax = make_ctx(ca, ca, CLIENT, LIFE);
	char byte;
	size_t n;

	client = server = (struct end){ .conf = anybody };
	SSL_CTX_set_options(lax, SSL_OP_IGNORE_UNEXPECTED_EOF);
	connect_ends(&client, &server, lax, make_ctx(ca, ca, SERVER, LIFE));
	if (client.c != NULL && server.c != NULL)
		shutdown(tao_channel_fd(server.c), SHUT_RDWR);
	ok(client.c != NULL && tao_channel_read(client.c, &byte, 1, &n) == TAO_EPROTO,
	   "a cut is no end, whatever openssl.cnf says");
	close_ends(&client, &server);
}

static void slow_reader(const struct ca *ca)
{
	static uint8_t big[64 << 20];
	struct end client, server;

	connected(ca, &client, &server);
	tao_channel_set_timeout(client.c, QUICK);
	ok_err(tao_channel_write(client.c, big, sizeof big), TAO_ETIMEOUT,
	       "a peer that reads nothing");
	ok_err(tao_channel_write(client.c, big, 1), TAO_EPROTO,
	       "after which nothing can be written");
	close_ends(&client, &server);
}

/* ---- who is refused ---- */

static void refused_by_rules(const struct ca *ca)
{
	struct end client, server;
	struct tao_guard *guard = NULL;

	client = server = (struct end){ .conf = anybody };
	server.conf.arg = SERVER; /* the client is another */
	connect_ends(&client, &server, make_ctx(ca, ca, CLIENT, LIFE),
	             make_ctx(ca, ca, SERVER, LIFE));
	ok_err(server.e, TAO_EDENIED, "the server's callback refuses");
	ok(strstr(server.why, "not on the list") != NULL &&
	       strstr(server.why, "127.0.0.1:") != NULL && strstr(server.why, "Measured") != NULL,
	   "with its words, address and name: %s", server.why);
	ok_err(first_read(&client), TAO_EDENIED, "the client hears so");
	close_ends(&client, &server);

	client = server = (struct end){ .conf = anybody };
	client.conf.arg = CLIENT;
	connect_ends(&client, &server, make_ctx(ca, ca, CLIENT, LIFE),
	             make_ctx(ca, ca, SERVER, LIFE));
	ok(client.e == TAO_EDENIED && client.c == NULL, "the client's callback refuses");
	ok_err(server.e, TAO_EDENIED, "and the server hears so");
	close_ends(&client, &server);

	tao_guard_conservative(&guard);
	client = server = (struct end){ .conf = anybody };
	server.conf.guard = guard;
	connect_ends(&client, &server, make_ctx(ca, ca, CLIENT, LIFE),
	             make_ctx(ca, ca, SERVER, LIFE));
	ok_err(server.e, TAO_EDENIED, "a guard refuses, whatever the callback says");
	close_ends(&client, &server);
	tao_guard_free(guard);
}

static void guard_allows(const struct ca *ca)
{
	struct end client, server;
	struct tao_guard *guard = NULL;
	struct tao_node *who = NULL;
	const char *const operations[] = { NULL, "Talk" };

	tao_guard_acl(NULL, &guard);
	tao_prin_parse(CLIENT, strlen(CLIENT), &who);
	tao_guard_authorise(guard, who, "Connect", NULL);
	for (size_t i = 0; i < 2; i++) {
		client = server = (struct end){ .conf = anybody };
		server.conf.guard = guard;
		server.conf.authorise = NULL;
		server.conf.operation = operations[i];
		connect_ends(&client, &server, make_ctx(ca, ca, CLIENT, LIFE),
		             make_ctx(ca, ca, SERVER, LIFE));
		ok_err(server.e, i == 0 ? TAO_OK : TAO_EDENIED,
		       "a list that allows Connect, asked for %s",
		       i == 0 ? "that" : "another operation");
		close_ends(&client, &server);
	}
	tao_node_free(who);
	tao_guard_free(guard);
}

static void refused_by_chain(const struct ca *ca, const struct ca *other)
{
	struct end client, server;
	SSL_CTX *stale;

	client = server = (struct end){ .conf = anybody };
	connect_ends(&client, &server, make_ctx(other, ca, CLIENT, LIFE),
	             make_ctx(ca, ca, SERVER, LIFE));
	ok_err(server.e, TAO_EDENIED, "a client of another domain");
	ok_err(first_read(&client), TAO_EDENIED, "which hears so");
	close_ends(&client, &server);

	client = server = (struct end){ .conf = anybody };
	connect_ends(&client, &server, make_ctx(ca, ca, CLIENT, LIFE),
	             make_ctx(other, ca, SERVER, LIFE));
	ok(client.e == TAO_EDENIED && client.c == NULL, "a server of another domain");
	close_ends(&client, &server);

	client = server = (struct end){ .conf = anybody };
	connect_ends(&client, &server, make_ctx(NULL, ca, CLIENT, LIFE),
	             make_ctx(ca, ca, SERVER, LIFE));
	ok_err(server.e, TAO_EDENIED, "a client without certificate");
	close_ends(&client, &server);

	stale = make_ctx(ca, ca, CLIENT, 1);
	sleep(2);
	client = server = (struct end){ .conf = anybody };
	connect_ends(&client, &server, stale, make_ctx(ca, ca, SERVER, LIFE));
	ok_err(server.e, TAO_EEXPIRED, "a client's certificate that has expired");
	close_ends(&client, &server);
}

static void refused_by_tls(const struct ca *ca)
{
	struct end client, server;
	SSL_CTX *old = make_ctx(ca, ca, CLIENT, LIFE);

	SSL_CTX_set_min_proto_version(old, TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION);
	client = server = (struct end){ .conf = anybody };
	connect_ends(&client, &server, old, make_ctx(ca, ca, SERVER, LIFE));
	ok_err(server.e, TAO_EPROTO, "TLS 1.2");
	close_ends(&client, &server);
}

/* A peer that says nothing, or something else. */
static void refused_by_peer(const struct ca *ca)
{
	struct end x = { .conf = anybody };
	int fd[2];

	x.conf.timeout_ms = QUICK;
	x.is_server = 1;
	x.ctx = make_ctx(ca, ca, SERVER, LIFE);
	tcp_pair(fd);
	x.fd = fd[1];
	shake(&x);
	ok_err(x.e, TAO_ETIMEOUT, "a client that says nothing");
	close(fd[0]);

	tcp_pair(fd);
	x.fd = fd[1];
	(void)!write(fd[0], "GET / HTTP/1.0\r\n\r\n", 18);
	shake(&x);
	ok_err(x.e, TAO_EPROTO, "a client that speaks HTTP");
	close(fd[0]);

	tcp_pair(fd);
	x.fd = fd[1];
	close(fd[0]);
	shake(&x);
	ok_err(x.e, TAO_EPROTO, "a client that goes away");
	ok(x.c == NULL, "gives no channel");
	SSL_CTX_free(x.ctx);
}

static void arguments(void)
{
	struct tao_channel_conf conf = { .key = "k" };
	struct tao_channel *c;
	struct tao_listener *l;

	ok_err(tao_channel_dial(&conf, "127.0.0.1", "1", &c), TAO_EINVAL,
	       "nobody to say who may be it");
	ok_err(tao_channel_listen(&conf, "127.0.0.1", "0", &l), TAO_EINVAL, "nor at a listener");
	conf = anybody;
	conf.key = NULL;
	ok_err(tao_channel_dial(&conf, "127.0.0.1", "1", &c), TAO_EINVAL, "no key");
	conf.key = "../k";
	ok_err(tao_channel_dial(&conf, "127.0.0.1", "1", &c), TAO_EINVAL, "no key's name");
	conf.key = "k";
	ok_err(tao_channel_dial(&conf, "127.0.0.1", "1", &c), TAO_ENOTRUN, "no provider");
	ok(strstr(tao_why(), "tao run") != NULL, "which says what to do: %s", tao_why());
	conf.timeout_ms = -1;
	ok_err(tao_channel_dial(&conf, "127.0.0.1", "1", &c), TAO_EINVAL, "a deadline in the past");
	tao_channel_close(NULL);
	tao_listener_close(NULL);
}

int main(void)
{
	struct ca ca = make_ca("one"), other = make_ca("other");

	names();
	arguments();
	bytes(&ca);
	ends(&ca);
	broken_pipe(&ca);
	cut_short(&ca);
	slow_reader(&ca);
	refused_by_rules(&ca);
	guard_allows(&ca);
	refused_by_chain(&ca, &other);
	refused_by_tls(&ca);
	refused_by_peer(&ca);
	X509_free(ca.cert);
	X509_free(other.cert);
	EVP_PKEY_free(ca.key);
	EVP_PKEY_free(other.key);
	return done();
}
