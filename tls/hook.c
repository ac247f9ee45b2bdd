#include <string.h>

#include "tls.h"

#define ALERT_FATAL 2
#define CONTEXT "tao" /* of sessions: a server that verifies must have one for a PSK */
#define STRICT "tao strict"

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

static void settle(SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();

	/* DTLS has no group: policy on certificates is what there is, unless that is not enough. */
	if (c->mode == TLS_REQUIRE || (c->required && c->set->group && !f->SSL_is_dtls(s)))
		tls_group_pin(s, c);
	else if (c->set->tls12)
		tls_psk12_suites(s, c);
	f->SSL_callback_ctrl(s, SSL_CTRL_SET_TLSEXT_DEBUG_CB, (void (*)(void))tls_group_watch);
	f->SSL_ctrl(s, SSL_CTRL_SET_TLSEXT_DEBUG_ARG, 0, c);
	tls_demand(s, c);
	drop_own_psk(f, s, c);
	/* Sessions from before it was required, or demanded, are of another context. */
	if (c->server && (c->pinned || c->set->demand))
		f->SSL_set_session_id_context(s, (const unsigned char *)STRICT, sizeof STRICT - 1);
}

void tls_begin(SSL *s, struct tls_conn *c)
{
	tls_conn_begin(c, s);
	if (c->mode == TLS_OFF)
		return;
	settle(s, c);
}

/* Of each handshake's beginning. */
static int is_told(const struct tls_libssl *f, const SSL *s)
{
	void (*own)(const SSL *, int, int) = f->SSL_get_info_callback(s);

	return (own != NULL ? own : f->SSL_CTX_get_info_callback(f->SSL_get_SSL_CTX(s))) == tls_info;
}

/* Another handshake than the last one, where the info callback does not tell. */
static int is_another(SSL *s, const struct tls_conn *c, uint8_t random[SSL3_RANDOM_SIZE])
{
	const struct tls_libssl *f = tls_libssl();

	return !is_told(f, s) &&
	       f->SSL_get_client_random(s, random, SSL3_RANDOM_SIZE) == SSL3_RANDOM_SIZE &&
	       memcmp(random, c->random, SSL3_RANDOM_SIZE) != 0;
}

/* It began with our info callback, and the program has set its own since. */
static int is_under_way(const struct tls_conn *c)
{
	static const uint8_t none[SSL3_RANDOM_SIZE];

	return c->begun && !c->ended && memcmp(c->random, none, sizeof none) == 0;
}

struct tls_conn *tls_conn_ready(SSL *s)
{
	struct tls_conn *c = tls_conn_of(s);
	uint8_t random[SSL3_RANDOM_SIZE] = { 0 };

	if (c != NULL && (is_another(s, c, random) || !c->begun)) {
		if (!is_under_way(c))
			tls_begin(s, c);
		memcpy(c->random, random, sizeof random);
	}
	return c;
}

/* For early data libssl leaves a handshake in the middle, and says that it is done; then, that another
 * begins. */
static int is_interlude(const struct tls_libssl *f, const SSL *s, int where)
{
	return (where & (SSL_CB_HANDSHAKE_START | SSL_CB_HANDSHAKE_DONE)) != 0 &&
	       f->SSL_get_state(s) == TLS_ST_EARLY_DATA;
}

void tls_info(const SSL *s, int where, int value)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_of(s);
	void (*theirs)(const SSL *, int, int);

	if (is_interlude(f, s, where))
		c = NULL;
	if (c != NULL && (where & SSL_CB_HANDSHAKE_START)) {
		tls_begin((SSL *)s, c);
		if (c->mode != TLS_OFF && !c->server)
			drop_session(f, (SSL *)s, c);
	}
	theirs = f->SSL_CTX_get_info_callback(f->SSL_get_SSL_CTX(s));
	if (theirs != NULL && theirs != tls_info)
		theirs(s, where, value);
	if (c == NULL || !c->begun)
		return;
	if (where & SSL_CB_HANDSHAKE_DONE)
		tls_report(s, c, 1);
	else if (c->later && (where & SSL_CB_EXIT) && value > 0)
		tls_report_later(s, c);
	else if ((where & SSL_CB_ALERT) && value >> 8 == ALERT_FATAL)
		tls_report_failure(s, c, where, value);
}

/* ---- every SSL_CTX ---- */

void tls_hook_ctx(SSL_CTX *ctx, const struct tls_settings *set)
{
	const struct tls_libssl *f = tls_libssl();

	if (tls_is_quic(ctx))
		tls_conn_spare();
	f->SSL_CTX_set_cert_cb(ctx, on_cert, (void *)set);
	if (set->mode == TLS_OFF && set->n_peers == 0)
		return;
	f->SSL_CTX_set_info_callback(ctx, tls_info); /* for where it is not set in each SSL */
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
