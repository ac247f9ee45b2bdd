#include "tls.h"

#define ALERT_FATAL 2
#define CONTEXT "tao" /* of sessions: a server that verifies must have one for a PSK */

/* ---- callbacks of a connection ---- */

static int on_cert(SSL *s, void *settings)
{
	struct tls_conn *c = tls_conn_ready(s);
	const struct tls_settings *set = settings;

	if (set->renew > 0)
		tls_renew(s, set);
	if (c != NULL) {
		tls_demand(s, c);
		tls_identity(s, c);
	}
	return 1;
}

/* A resumed session would outlive what policy says of its peer. Who shows nothing to a server may
 * resume. */
static int on_resumable(SSL *s, int forward_secure)
{
	const struct tls_libssl *f = tls_libssl();
	const struct tls_conn *c = tls_conn_of(s);

	(void)forward_secure;
	return c != NULL && c->mode != TLS_OFF &&
	       (c->offers_group || c->psk_used || f->SSL_get_verify_mode(s) != SSL_VERIFY_NONE);
}

void tls_begin(SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();

	tls_conn_begin(c, s);
	if (c->mode == TLS_OFF)
		return;
	if (c->mode == TLS_REQUIRE || (c->required && c->set->group))
		tls_group_pin(s, c);
	f->SSL_callback_ctrl(s, SSL_CTRL_SET_TLSEXT_DEBUG_CB, (void (*)(void))tls_group_watch);
	f->SSL_ctrl(s, SSL_CTRL_SET_TLSEXT_DEBUG_ARG, 0, c);
	if (c->set->tls12)
		tls_psk12_suites(s, c);
}

struct tls_conn *tls_conn_ready(SSL *s)
{
	struct tls_conn *c = tls_conn_of(s);

	if (c != NULL && !c->begun)
		tls_begin(s, c);
	return c;
}

void tls_info(const SSL *s, int where, int value)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_of(s);
	void (*theirs)(const SSL *, int, int);

	if (c != NULL && (where & SSL_CB_HANDSHAKE_START)) {
		tls_begin((SSL *)s, c);
		if (c->mode != TLS_OFF && !c->server && c->known)
			f->SSL_set_session((SSL *)s, NULL); /* one of before may outlive policy */
	}
	theirs = f->SSL_CTX_get_info_callback(f->SSL_get_SSL_CTX(s));
	if (theirs != NULL && theirs != tls_info)
		theirs(s, where, value);
	if (c == NULL || !c->begun)
		return;
	if (where & SSL_CB_HANDSHAKE_DONE)
		tls_report(s, c, 1);
	else if ((where & SSL_CB_ALERT) && value >> 8 == ALERT_FATAL)
		tls_report_failure(s, c, where, value);
}

/* ---- every SSL_CTX ---- */

void tls_hook_ctx(SSL_CTX *ctx, const struct tls_settings *set)
{
	const struct tls_libssl *f = tls_libssl();

	f->SSL_CTX_set_cert_cb(ctx, on_cert, (void *)set);
	if (set->mode == TLS_OFF && set->n_peers == 0)
		return;
	f->SSL_CTX_set_cert_verify_callback(ctx, tls_verify, NULL);
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
