#include <string.h>

#include "tls.h"

#define ALERT_FATAL 2
#define CONTEXT "tao" /* of sessions: a server that verifies must have one for a PSK */
#define STRICT "tao strict"

static int on_security(const SSL *s, const SSL_CTX *ctx, int op, int bits, int nid, void *other, void *arg);

/* ---- callbacks of a connection ---- */

/* A program may have set groups of its own since the beginning. Before a second ClientHello there is
 * none yet. */
static int is_channel(SSL *s, struct tls_conn *c)
{
	if (tls_group_id(s) == 0 || tls_group_used(s))
		return 1;
	tls_conn_why(c, "the program has groups of its own, and " TLS_GROUP " is required");
	tls_raise(c->why);
	return 0;
}

static int on_cert(SSL *s, void *settings)
{
	struct tls_conn *c = tls_conn_ready(s);
	const struct tls_settings *set = settings;

	if (set->renew > 0)
		tls_renew(s, set);
	if (c == NULL)
		return 1;
	if (c->server)
		tls_psk12_suites(s, c);
	tls_demand(s, c);
	tls_demand_name(s, c);
	tls_identity(s, c);
	return !c->pinned || !c->server || is_channel(s, c);
}

/* A resumed session would outlive what policy says of its peer. Who shows nothing to a server may
 * resume. */
static int on_resumable(SSL *s, int forward_secure)
{
	const struct tls_libssl *f = tls_libssl();
	const struct tls_conn *c = tls_conn_of(s);

	(void)forward_secure;
	return c != NULL && c->mode != TLS_OFF &&
	       (c->offers_group || c->pinned || c->psk_used || tls_psk12_chosen(s) ||
	        f->SSL_get_verify_mode(s) != SSL_VERIFY_NONE);
}

/* A session is as good as policy was when it was made. In a renegotiation it is this connection's own, and
 * SSL_set_session() would reset what it stands on. */
static void drop_session(const struct tls_libssl *f, SSL *s, const struct tls_conn *c)
{
	SSL_SESSION *session = f->SSL_get_session(s);
	X509 *peer = session != NULL ? f->SSL_SESSION_get0_peer(session) : NULL;

	if (session != NULL &&
	    f->SSL_get_ssl_method(s) == f->SSL_CTX_get_ssl_method(f->SSL_get_SSL_CTX(s)) &&
	    (c->known || (peer != NULL && tls_is_policys(c, peer))))
		f->SSL_set_session(s, NULL);
}

/* A client takes no session of another context than its own, and those of pre-shared keys that programs
 * make have none. */
void tls_drop_context(SSL *s)
{
	const struct tls_libssl *f = tls_libssl();
	SSL_SESSION *session = f->SSL_get_session(s);
	const unsigned char *id;
	unsigned n = 0;

	if (session == NULL)
		return;
	id = f->SSL_SESSION_get0_id_context(session, &n);
	/* One that is taken up again had its own dropped when it was made. */
	if (n != 0 && (n != sizeof CONTEXT - 1 || memcmp(id, CONTEXT, n) != 0))
		return;
	f->SSL_set_session_id_context(s, NULL, 0);
	f->SSL_SESSION_set1_id_context(session, NULL, 0);
}

/* Who has to be a program shows it: with a key that the program has from elsewhere there would be no
 * certificate to look at. */
static void drop_own_psk(const struct tls_libssl *f, SSL *s, const struct tls_conn *c)
{
	if (c->server ? !c->pinned && !c->set->demand : !c->required)
		return;
	f->SSL_set_psk_use_session_callback(s, tls_psk_use);
	f->SSL_set_psk_find_session_callback(s, tls_psk_find);
	f->SSL_set_psk_client_callback(s, c->set->tls12 ? tls_psk12_client : NULL);
	f->SSL_set_psk_server_callback(s, c->set->tls12 ? tls_psk12_server : NULL);
}

/* A client offers them only where it will have a key. */
static int wants_psk12(const struct tls_conn *c)
{
	return c->set->tls12 && c->mode >= TLS_PREFER && (c->server || (c->known && c->peers));
}

static void settle(SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();

	/* DTLS has no group: policy on certificates is what there is, unless that is not enough. */
	if (c->mode == TLS_REQUIRE || (c->required && c->set->group && !f->SSL_is_dtls(s)))
		tls_group_pin(s, c);
	else
		c->wants_psk12 = wants_psk12(c);
	if (c->wants_psk12 && !c->server)
		tls_psk12_watch(s, c);
	if (f->SSL_get_ciphers(s) == f->SSL_CTX_get_ciphers(f->SSL_get_SSL_CTX(s)))
		tls_psk12_suites(s, c);
	tls_demand(s, c);
	drop_own_psk(f, s, c);
	/* Sessions from before it was required, or demanded, are of another context. */
	if (c->server && (c->pinned || c->set->demand))
		f->SSL_set_session_id_context(s, (const unsigned char *)STRICT, sizeof STRICT - 1);
}

/* The application's own stay, called by these here. It may set them at any time. */
static void take_callbacks(const struct tls_libssl *f, SSL *s, struct tls_conn *c)
{
	void (*info)(const SSL *, int, int) = f->SSL_get_info_callback(s);
	tls_security_fn *security = f->SSL_get_security_callback(s);

	if (info != tls_info) {
		c->theirs.info = info;
		f->SSL_set_info_callback(s, tls_info);
	}
	if (security != on_security) {
		c->theirs.security = security;
		f->SSL_set_security_callback(s, on_security);
	}
}

static struct tls_conn *begin(SSL *s)
{
	struct tls_conn *c = tls_conn_make(s);

	if (c == NULL)
		return NULL;
	tls_conn_begin(c, s);
	if (c->mode == TLS_OFF)
		return c;
	take_callbacks(tls_libssl(), s, c);
	settle(s, c);
	return c;
}

static void begin_first(SSL *s)
{
	struct tls_conn *c = begin(s);

	if (c != NULL && c->mode != TLS_OFF && !c->server)
		drop_session(tls_libssl(), s, c);
}

struct tls_conn *tls_conn_ready(SSL *s)
{
	struct tls_conn *c = tls_conn_of(s);

	if (c == NULL || !c->begun)
		return begin(s);
	if (c->mode != TLS_OFF)
		take_callbacks(tls_libssl(), s, c);
	return c;
}

/* ---- what libssl asks about security ----
 *
 * That callback is the first that a handshake calls, also where the info callback is the program's, and programs
 * hardly ever set it. */

static _Atomic(tls_security_fn *) libssls; /* its own, which is the same in every new SSL_CTX */

/* Asked once when a handshake begins; also where a program asks for the suites of an SSL that it did not use yet,
 * and who began it then begins it again. Later ones, of TLS 1.2, begin when the last one is over. */
static int is_beginning(const struct tls_libssl *f, const SSL *s)
{
	OSSL_HANDSHAKE_STATE state = f->SSL_get_state(s);

	return state == TLS_ST_BEFORE ||
	       (state == TLS_ST_OK && f->SSL_in_init(s) && tls_version(s) < TLS1_3_VERSION);
}

/* Pinned ones have TLS 1.3 and its suites, whatever versions the program sets, and for its virtual hosts. */
static int is_closed(const struct tls_libssl *f, int op, int version, const SSL_CIPHER *suite)
{
	if (op == SSL_SECOP_VERSION)
		return version != TLS1_3_VERSION;
	return (op & SSL_SECOP_OTHER_TYPE) == SSL_SECOP_OTHER_CIPHER &&
	       f->SSL_CIPHER_get_protocol_id(suite) >> 8 != 0x13;
}

/* A client is about to make one, a server has one. */
static void at_hello(SSL *s, struct tls_conn *c)
{
	if (c->server)
		tls_group_look(s, c);
	else
		tls_psk12_suites(s, c);
}

/* What the program's says. That may ask ours, if it was there before. */
static int answer(struct tls_conn *c, const SSL *s, const SSL_CTX *ctx, int op, int bits, int nid,
                  void *other, void *arg)
{
	int good;

	if (c == NULL || c->theirs.security == NULL)
		return atomic_load(&libssls)(s, ctx, op, bits, nid, other, arg);
	c->theirs.asking = 1;
	good = c->theirs.security(s, ctx, op, bits, nid, other, arg);
	c->theirs.asking = 0;
	return good;
}

static int on_security(const SSL *s, const SSL_CTX *ctx, int op, int bits, int nid, void *other, void *arg)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_of(s);

	if (c != NULL && c->theirs.asking)
		return atomic_load(&libssls)(s, ctx, op, bits, nid, other, arg);
	if (s != NULL && op == SSL_SECOP_VERSION && is_beginning(f, s)) {
		begin_first((SSL *)s);
		c = tls_conn_of(s);
	} else if (c != NULL && c->begun && !c->ended && c->mode != TLS_OFF) {
		take_callbacks(f, (SSL *)s, c);
		if (op == SSL_SECOP_VERSION)
			at_hello((SSL *)s, c);
		if (c->pinned && is_closed(f, op, nid, other))
			return 0;
	}
	return answer(c, s, ctx, op, bits, nid, other, arg);
}

/* Servers whose program has its own for security and for information. */
static int on_hello(SSL *s, int *alert, void *arg)
{
	struct tls_conn *c = tls_conn_ready(s);

	(void)alert;
	(void)arg;
	if (c != NULL && c->mode != TLS_OFF)
		tls_group_look(s, c);
	return SSL_CLIENT_HELLO_SUCCESS;
}

static void hook_security(const struct tls_libssl *f, SSL_CTX *ctx)
{
	tls_security_fn *own = f->SSL_CTX_get_security_callback(ctx);

	if (own == on_security)
		return;
	atomic_store(&libssls, own);
	f->SSL_CTX_set_security_callback(ctx, on_security);
}

/* ---- what libssl tells ---- */

/* For early data libssl leaves a handshake in the middle, and says that it is done; then, that another
 * begins. */
static int is_interlude(const struct tls_libssl *f, const SSL *s, int where)
{
	return (where & (SSL_CB_HANDSHAKE_START | SSL_CB_HANDSHAKE_DONE)) != 0 &&
	       f->SSL_get_state(s) == TLS_ST_EARLY_DATA;
}

/* That of the SSL, or of its SSL_CTX. It may call ours, if that was there before. */
static void tell_them(const struct tls_libssl *f, const SSL *s, struct tls_conn *c, int where, int value)
{
	void (*theirs)(const SSL *, int, int) = c->theirs.info;

	if (theirs == NULL)
		theirs = f->SSL_CTX_get_info_callback(f->SSL_get_SSL_CTX(s));
	if (theirs == NULL || theirs == tls_info)
		return;
	c->theirs.telling = 1;
	theirs(s, where, value);
	c->theirs.telling = 0;
}

void tls_info(const SSL *s, int where, int value)
{
	const struct tls_libssl *f = tls_libssl();
	int aside = is_interlude(f, s, where);
	struct tls_conn *c;

	if ((where & SSL_CB_HANDSHAKE_START) && !aside && f->SSL_get_security_callback(s) != on_security)
		begin_first((SSL *)s);
	c = tls_conn_of(s);
	if (c == NULL || c->theirs.telling) /* NULL: in QUIC also the SSL inside (quic.c) */
		return;
	tell_them(f, s, c, where, value);
	if (!c->begun || aside)
		return;
	if (where & SSL_CB_HANDSHAKE_DONE)
		tls_report(s, c, 1);
	else if (c->later && (where & SSL_CB_EXIT) && value > 0)
		tls_report_later(s, c);
	else if ((where & SSL_CB_ALERT) && value >> 8 == ALERT_FATAL)
		tls_report_failure(s, c, where, value);
	tls_quic_info(s, c, where, value);
}

/* ---- every SSL_CTX ---- */

void tls_hook_ctx(SSL_CTX *ctx, const struct tls_settings *set)
{
	const struct tls_libssl *f = tls_libssl();

	f->SSL_CTX_set_cert_cb(ctx, on_cert, (void *)set);
	if (set->mode == TLS_OFF && set->n_peers == 0)
		return;
	if (tls_is_quic(ctx))
		f->SSL_CTX_set_msg_callback(ctx, tls_quic_message);
	hook_security(f, ctx);
	f->SSL_CTX_set_info_callback(ctx, tls_info); /* should the program have its own for security */
	f->SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL); /* or both */
	f->SSL_CTX_set_cert_verify_callback(ctx, tls_verify, NULL);
	f->SSL_CTX_set_client_cert_cb(ctx, tls_identity_asked);
	f->SSL_CTX_set_not_resumable_session_callback(ctx, on_resumable);
	f->SSL_CTX_set_session_id_context(ctx, (const unsigned char *)CONTEXT, sizeof CONTEXT - 1);
	f->SSL_CTX_add_custom_ext(ctx, TLS_EXT,
	                          SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
	                          tls_ext_add, NULL, NULL, tls_ext_parse, NULL);
	f->SSL_CTX_set_psk_use_session_callback(ctx, tls_psk_use);
	f->SSL_CTX_set_psk_find_session_callback(ctx, tls_psk_find);
	if (set->tls12) {
		f->SSL_CTX_set_psk_client_callback(ctx, tls_psk12_client);
		f->SSL_CTX_set_psk_server_callback(ctx, tls_psk12_server);
	}
}
