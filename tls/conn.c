#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "tls.h"

/* FreeRADIUS writes, without having asked for them, to 10 to 16 and to the low numbers that it was given
 * for sessions: in an SSL those are others'. */
#define FIRST_PLACE 32

static int place = -1; /* of struct tls_conn in an SSL's ex_data: set once, before the first SSL */
static _Atomic(const struct tls_settings *) settings_of_all;

struct tls_conn *tls_conn_of(const SSL *s)
{
	const struct tls_libssl *f = tls_libssl();

	return f != NULL && s != NULL && place >= 0 ? f->SSL_get_ex_data(s, place) : NULL;
}

void tls_conn_drop_psk(struct tls_conn *c)
{
	const struct channel *ch = tls_channel();

	/* Programs may free connections after OPENSSL_cleanup(), when tao.so is gone. */
	if (c->psk != NULL && ch != NULL && OPENSSL_init_crypto(0, NULL))
		ch->release(c->psk);
	c->psk = NULL;
	tls_cert_release(c->cert);
	c->cert = NULL;
}

int tls_conn_set_peer(struct tls_conn *c, const uint8_t *peer, size_t n)
{
	uint8_t *copy = malloc(n + 1);

	if (copy == NULL)
		return 0;
	memcpy(copy, peer, n);
	free(c->peer);
	c->peer = copy;
	c->peer_n = n;
	return 1;
}

void tls_conn_why(struct tls_conn *c, const char *fmt, ...)
{
	va_list ap;

	if (c->why[0] != 0)
		return;
	va_start(ap, fmt);
	vsnprintf(c->why, sizeof c->why, fmt, ap);
	va_end(ap);
}

/* ---- names ---- */

/* As tao.proto has reference names: lower case, without a last dot. */
static void put_name(char name[TLS_HOST_MAX], const char *text)
{
	size_t n = strlen(text);

	if (n > 1 && text[n - 1] == '.')
		n--;
	if (n >= TLS_HOST_MAX)
		n = 0; /* no name is that long */
	for (size_t i = 0; i < n; i++) /* whatever the program's locale is */
		name[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
	name[n] = 0;
}

/* What the application verifies is what it means; else what it asks for. */
static void find_name(struct tls_conn *c, const struct tls_libssl *f, SSL *s)
{
	X509_VERIFY_PARAM *param = f->SSL_get0_param(s);
	const char *host = X509_VERIFY_PARAM_get0_host(param, 0);
	int is_name = host != NULL && host[0] != '.'; /* else whatever is below it */
	const char *sni = f->SSL_get_servername(s, TLSEXT_NAMETYPE_host_name);
	char asked[TLS_HOST_MAX], *ip;

	ERR_set_mark();
	ip = X509_VERIFY_PARAM_get1_ip_asc(param); /* an error if there is none */
	ERR_pop_to_mark();
	put_name(c->name, sni != NULL ? sni : ip != NULL ? ip : "");
	memcpy(asked, c->name, sizeof asked);
	if (is_name || c->name[0] == 0)
		put_name(c->name, host != NULL ? host : "");
	c->two_names = sni != NULL && strcmp(asked, c->name) != 0;
	OPENSSL_free(ip);
}

/* Of all the names that would do. */
static enum tls_mode strictest(const struct tls_conn *c, const struct tls_libssl *f, SSL *s)
{
	enum tls_mode mode = tls_settings_mode(c->set, c->name), other;
	char name[TLS_HOST_MAX];
	const char *host;

	for (int i = 1; !c->server &&
	                (host = X509_VERIFY_PARAM_get0_host(f->SSL_get0_param(s), i)) != NULL; i++) {
		put_name(name, host);
		other = tls_settings_mode(c->set, name);
		mode = other > mode ? other : mode;
	}
	return mode;
}

/* ---- a handshake ---- */

static void forget(struct tls_conn *c)
{
	tls_conn_drop_psk(c);
	free(c->peer);
	*c = (struct tls_conn){ .set = c->set, .theirs = c->theirs };
}

static void ask_about_name(struct tls_conn *c)
{
	struct tls_verdict v;

	if (c->name[0] == 0)
		return;
	if (!tls_ask_name(c->name, &v)) {
		tls_conn_why(c, "%s", v.why);
		return;
	}
	c->known = v.known;
	c->peers = v.peers;
}

/* What the application verifies may be one of several names: the first one that policy knows counts. */
static void ask_about_others(struct tls_conn *c, const struct tls_libssl *f, SSL *s)
{
	X509_VERIFY_PARAM *param = f->SSL_get0_param(s);
	char first[TLS_HOST_MAX];
	const char *host;

	memcpy(first, c->name, sizeof first);
	for (int i = 1; !c->known && (host = X509_VERIFY_PARAM_get0_host(param, i)) != NULL; i++) {
		put_name(c->name, host);
		ask_about_name(c);
	}
	if (!c->known)
		memcpy(c->name, first, sizeof first);
}

void tls_conn_begin(struct tls_conn *c, SSL *s)
{
	const struct tls_libssl *f = tls_libssl();

	forget(c);
	c->server = f->SSL_is_server(s);
	if (!c->server)
		find_name(c, f, s);
	c->mode = strictest(c, f, s);
	c->begun = 1;
	if (c->mode == TLS_OFF)
		return;
	if (!c->server) {
		ask_about_name(c);
		ask_about_others(c, f, s);
	}
	c->required = c->mode == TLS_REQUIRE ||
	              (c->mode == TLS_PREFER && !c->server && c->known && c->peers);
}

/* ---- with the SSL ---- */

struct tls_conn *tls_conn_make(SSL *s)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_of(s);

	if (c != NULL || f == NULL || place < 0)
		return c;
	c = calloc(1, sizeof *c);
	if (c == NULL || !f->SSL_set_ex_data(s, place, c)) {
		free(c);
		return NULL;
	}
	c->set = atomic_load(&settings_of_all);
	return c;
}

static void drop(void *ssl, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *arg)
{
	(void)ssl;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)arg;
	if (ptr == NULL)
		return;
	if (((struct tls_conn *)ptr)->server)
		tls_report_rest();
	tls_quic_end(ptr);
	forget(ptr);
	free(ptr);
}

/* SSL_dup() copies what was set in the SSL, and with it callbacks that stand for others. */
static int copy(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **value, int idx, long argl,
                void *arg)
{
	const struct tls_conn *old = *value;
	struct tls_conn *c;

	(void)to;
	(void)from;
	(void)idx;
	(void)argl;
	(void)arg;
	if (old == NULL)
		return 1;
	*value = c = calloc(1, sizeof *c);
	if (c == NULL)
		return 0;
	c->set = old->set;
	c->theirs = old->theirs;
	return 1;
}

static void take_place(void)
{
	int taken;

	do
		taken = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, NULL, NULL, NULL);
	while (taken >= 0 && taken < FIRST_PLACE - 1);
	place = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, NULL, copy, drop);
}

int tls_conn_setup(const struct tls_settings *set)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	atomic_store(&settings_of_all, set);
	return pthread_once(&once, take_place) == 0 && place >= 0;
}
