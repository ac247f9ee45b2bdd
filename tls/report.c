#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>

#include "tls.h"

#define ALERT(value) ((value) & 0xFF) /* of what an info callback gets (SSL_CTX_set_info_callback(3)) */

/* With TLS 1.3 it is a session that was taken up, before that a suite. */
static int by_psk(const struct tls_libssl *f, const SSL *s, const struct tls_conn *c)
{
	const SSL_CIPHER *cipher = f->SSL_get_current_cipher(s);
	int kx = cipher != NULL ? f->SSL_CIPHER_get_kx_nid(cipher) : NID_undef;

	return c->psk_used && c->psk != NULL &&
	       (f->SSL_session_reused(s) || kx == NID_kx_dhe_psk || kx == NID_kx_ecdhe_psk);
}

static const char *mode_of(const struct tls_libssl *f, const SSL *s, const struct tls_conn *c)
{
	if (by_psk(f, s, c))
		return "psk";
	if (tls_group_used(s))
		return "group";
	return c->peer_ok ? "certificate" : "none";
}

/* With the group alone, its key is what tells the peer. */
static void find_peer(SSL *s, struct tls_conn *c)
{
	uint8_t keyed[CHANNEL_PRINCIPAL_MAX];
	size_t n;

	if (c->peer_n == 0 && c->psk_used && tls_libssl()->SSL_session_reused(s))
		tls_conn_set_peer(c, c->psk->peer, c->psk->peer_n); /* a server that left out the extension */
	n = c->peer_n == 0 ? tls_group_peer(s, keyed) : 0;

	if (n > 0)
		tls_conn_set_peer(c, keyed, n);
}

/* ---- clients without the Tao ----
 *
 * A busy server may have thousands a second of them. Each has its record while there are few; of many,
 * one record tells how many. */

static _Atomic int64_t last_told;  /* when such a record was made last, nanoseconds */
static atomic_uint untold;         /* handshakes since */

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* So many are to be told now; 0: later. */
static uint32_t to_be_told(uint32_t more)
{
	int64_t last = atomic_load(&last_told), now = now_ns();

	atomic_fetch_add(&untold, more);
	if ((last != 0 && now - last < TLS_REPORT_NS) ||
	    !atomic_compare_exchange_strong(&last_told, &last, now))
		return 0;
	return atomic_exchange(&untold, 0);
}

void tls_report_rest(void)
{
	const struct channel *ch = tls_channel();
	struct channel_handshake h = { .server = 1, .completed = 1, .mode = "none" };

	if (atomic_load(&untold) == 0 || ch == NULL || !OPENSSL_init_crypto(0, NULL))
		return; /* the last: libcrypto, and tao.so with it, has ended */
	h.count = to_be_told(0);
	if (h.count > 0)
		ch->handshake(ch->arg, &h);
}

/* ---- records ---- */

void tls_report(const SSL *s, struct tls_conn *c, int completed)
{
	const struct tls_libssl *f = tls_libssl();
	const struct channel *ch = tls_channel();
	struct channel_handshake h = { .server = c->server, .completed = completed, .count = 1 };
	const SSL_CIPHER *cipher;
	int group;

	if (ch == NULL || c->ended || c->mode == TLS_OFF)
		return;
	c->ended = 1;
	ERR_set_mark();
	cipher = f->SSL_get_current_cipher(s);
	group = tls_group_id(s);
	find_peer((SSL *)s, c);
	h.mode = mode_of(f, s, c);
	h.tls_version = (uint32_t)tls_version(s);
	h.group = group > 0 ? f->SSL_group_to_name((SSL *)s, group) : NULL;
	h.cipher = cipher != NULL ? f->SSL_CIPHER_get_name(cipher) : NULL;
	h.name = c->server ? f->SSL_get_servername(s, TLSEXT_NAMETYPE_host_name)
	                   : c->name[0] != 0 ? c->name : NULL;
	h.peer = c->peer;
	h.peer_n = c->peer_n;
	h.why = c->why[0] != 0 ? c->why : completed ? NULL : "the handshake failed";
	if (c->server && completed && h.why == NULL && strcmp(h.mode, "none") == 0)
		h.count = to_be_told(1);
	if (h.count > 0)
		ch->handshake(ch->arg, &h);
	tls_conn_drop_psk(c); /* libssl has made its own keys of it */
	ERR_pop_to_mark();
}

void tls_report_note(const SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();
	const SSL_CIPHER *cipher = c->noted.cipher == NULL ? f->SSL_get_current_cipher(s) : NULL;
	const char *group;
	int id;

	if (cipher == NULL)
		return;
	id = tls_group_id(s);
	group = id > 0 ? f->SSL_group_to_name((SSL *)s, id) : NULL;
	snprintf(c->noted.group, sizeof c->noted.group, "%s", group != NULL ? group : "");
	find_peer((SSL *)s, c);
	c->noted.mode = mode_of(f, s, c);
	c->noted.cipher = f->SSL_CIPHER_get_name(cipher);
}

void tls_report_lost(struct tls_conn *c)
{
	const struct channel *ch = tls_channel();
	struct channel_handshake h = { .server = c->server, .count = 1 };

	/* Programs may free connections after OPENSSL_cleanup(). */
	if (ch == NULL || c->mode == TLS_OFF || !OPENSSL_init_crypto(0, NULL))
		return;
	tls_conn_why(c, "the handshake failed: the connection of QUIC ended before it was done");
	h.tls_version = TLS1_3_VERSION;
	h.mode = c->noted.mode != NULL ? c->noted.mode : "none";
	h.group = c->noted.group[0] != 0 ? c->noted.group : NULL;
	h.cipher = c->noted.cipher;
	h.name = c->name[0] != 0 ? c->name : NULL;
	h.peer = c->peer;
	h.peer_n = c->peer_n;
	h.why = c->why;
	ch->handshake(ch->arg, &h);
}

void tls_report_later(const SSL *s, struct tls_conn *c)
{
	c->later = c->ended = 0;
	tls_report(s, c, 1);
}

/* What the alert of a server mostly means, where the client wants a Tao channel. One that chose the
 * group is there, and refused. */
static const char *hint(int alert, int has_group)
{
	static const struct {
		int alert;
		const char *text;
	} hints[] = {
		{ SSL_AD_PROTOCOL_VERSION, "; its configuration has to allow TLS 1.3" },
		{ SSL_AD_HANDSHAKE_FAILURE, "; is it started by 'tao run', in mode prefer or require?" },
		{ SSL_AD_ILLEGAL_PARAMETER, "; the log of its host says why" },
	};

	if (has_group)
		alert = SSL_AD_ILLEGAL_PARAMETER;
	for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
		if (hints[i].alert == alert)
			return hints[i].text;
	return "";
}

/* The first error since this call of the application's: libssl begins each with an empty queue. */
void tls_report_failure(const SSL *s, struct tls_conn *c, int where, int value)
{
	const char *alert = tls_libssl()->SSL_alert_desc_string_long(value), *data = NULL, *reason;
	int flags = 0;
	unsigned long e = ERR_peek_error_all(NULL, NULL, NULL, &data, &flags);

	reason = e != 0 && !ERR_SYSTEM_ERROR(e) ? ERR_reason_error_string(e) : NULL;
	if ((where & SSL_CB_READ) && c->required && !c->server)
		tls_conn_why(c, "it has to be a Tao channel, and the server ended it: alert %d (%s)%s",
		             ALERT(value), alert, hint(ALERT(value), tls_group_used(s)));
	else if (where & SSL_CB_READ)
		tls_conn_why(c, "the handshake failed: the peer ended it: alert %d (%s)", ALERT(value), alert);
	else if (e != 0 && ERR_GET_LIB(e) != ERR_LIB_SSL && (flags & ERR_TXT_STRING) && data[0] != 0)
		tls_conn_why(c, "the handshake failed: %s", data);
	else if (reason != NULL && c->pinned && c->server)
		tls_conn_why(c, "it has to be a Tao channel: %s", reason);
	else if (reason != NULL)
		tls_conn_why(c, "the handshake failed: %s", reason);
	/* An alert alone would not tell the application why. */
	if ((where & SSL_CB_READ) && c->required && !c->server && !c->ended)
		tls_raise(c->why);
	tls_report(s, c, 0);
}
