#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "tls.h"
#include "tao/buf.h"

/* Off unless configured: a certificate cannot be shown to the application here, so one that wants
 * to see who its peer is sees nobody. */
#define SUITES "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES128-GCM-SHA256"
#define TEXT_LEN 100 /* CHANNEL_IDENTITY_LEN bytes as base64url */
#define HASH_AT 9

/* ---- base64url, without padding: three bytes are four characters ---- */

static void swap(char *text, const char *from, const char *to)
{
	for (; *text != 0; text++) {
		const char *at = strchr(from, *text);

		if (at != NULL)
			*text = to[at - from];
	}
}

static void to_text(const uint8_t id[CHANNEL_IDENTITY_LEN], char text[TEXT_LEN + 1])
{
	EVP_EncodeBlock((unsigned char *)text, id, CHANNEL_IDENTITY_LEN);
	swap(text, "+/", "-_");
}

static int from_text(const char *text, uint8_t id[CHANNEL_IDENTITY_LEN])
{
	char plain[TEXT_LEN + 1];

	if (strlen(text) != TEXT_LEN || strpbrk(text, "+/=") != NULL)
		return 0;
	memcpy(plain, text, sizeof plain);
	swap(plain, "-_", "+/");
	return EVP_DecodeBlock(id, (unsigned char *)plain, TEXT_LEN) == CHANNEL_IDENTITY_LEN;
}

/* ---- which suites ---- */

int tls_psk12_chosen(SSL *s)
{
	const struct tls_libssl *f = tls_libssl();
	const SSL_CIPHER *suite = f->SSL_get_pending_cipher(s);
	int kx = suite != NULL ? f->SSL_CIPHER_get_kx_nid(suite) : NID_undef;

	return kx == NID_kx_dhe_psk || kx == NID_kx_ecdhe_psk;
}

/* With forward secrecy and AEAD, and bound to the whole handshake. */
static int is_good(const struct tls_libssl *f, SSL *s, const struct tls_conn *c)
{
	return tls_psk12_chosen(s) && f->SSL_CIPHER_is_aead(f->SSL_get_pending_cipher(s)) &&
	       c->peer_ems;
}

static void on_extension(SSL *s, int from, int type, const unsigned char *data, int n, void *conn)
{
	(void)s;
	(void)from;
	(void)data;
	(void)n;
	if (type == TLSEXT_TYPE_extended_master_secret)
		((struct tls_conn *)conn)->peer_ems = 1;
}

/* Nothing else tells during a handshake. */
void tls_psk12_watch(SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();

	f->SSL_callback_ctrl(s, SSL_CTRL_SET_TLSEXT_DEBUG_CB, (void (*)(void))on_extension);
	f->SSL_ctrl(s, SSL_CTRL_SET_TLSEXT_DEBUG_ARG, 0, c);
}

/* In front of what the application has. */
void tls_psk12_suites(SSL *s, struct tls_conn *conn)
{
	const struct tls_libssl *f = tls_libssl();
	STACK_OF(SSL_CIPHER) *all = f->SSL_get_ciphers(s);
	struct tao_buf list = TAO_BUF_INIT;

	if (!conn->wants_psk12)
		return;
	conn->wants_psk12 = 0;
	tao_buf_fmt(&list, "%s", SUITES);
	for (int i = 0; all != NULL && i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);

		if (f->SSL_CIPHER_get_protocol_id(c) >> 8 != 0x13)
			tao_buf_fmt(&list, ":%s", f->SSL_CIPHER_get_name(c));
	}
	ERR_set_mark();
	if (tao_buf_err(&list) == TAO_OK)
		f->SSL_set_cipher_list(s, tao_buf_cstr(&list));
	ERR_pop_to_mark();
	tao_buf_free(&list);
}

/* ---- callbacks; libssl has them for TLS 1.3 as well ---- */

static int is_for_12(const struct tls_libssl *f, SSL *s, const struct tls_conn *c)
{
	return c != NULL && c->begun && c->set->psk && c->mode >= TLS_PREFER && !c->psk12_asked &&
	       tls_version(s) != TLS1_3_VERSION && f->SSL_get_state(s) != TLS_ST_CW_CLNT_HELLO &&
	       is_good(f, s, c);
}

static unsigned give(struct tls_conn *c, unsigned char *psk, unsigned room)
{
	unsigned n = 0;

	if (c->psk != NULL && c->psk->psk != NULL && c->psk->psk_n <= room &&
	    tls_conn_set_peer(c, c->psk->peer, c->psk->peer_n)) {
		n = (unsigned)c->psk->psk_n;
		memcpy(psk, c->psk->psk, n);
		c->psk_used = 1;
	}
	return n;
}

unsigned tls_psk12_client(SSL *s, const char *hint, char *identity, unsigned room,
                          unsigned char *psk, unsigned psk_room)
{
	const struct tls_libssl *f = tls_libssl();
	const struct channel *ch = tls_channel();
	struct tls_conn *c = tls_conn_of(s);
	unsigned n = 0;

	(void)hint;
	if (!is_for_12(f, s, c) || c->server || c->name[0] == 0 || c->two_names || ch == NULL ||
	    room <= TEXT_LEN)
		return 0;
	c->psk12_asked = 1;
	tls_conn_drop_psk(c); /* the one that it offered for TLS 1.3 */
	c->psk_used = 0;
	ERR_set_mark();
	if (ch->psk_client(ch->arg, c->name, (uint32_t)tls_version(s), CHANNEL_SHA256,
	                   &c->psk) != TAO_OK)
		tls_conn_why(c, "%s", ch->why());
	else if (c->psk->psk == NULL)
		tls_conn_why(c, "%s", c->psk->why != NULL ? c->psk->why : "no key");
	n = give(c, psk, psk_room);
	if (n > 0)
		to_text(c->psk->identity, identity);
	ERR_pop_to_mark();
	return n;
}

unsigned tls_psk12_server(SSL *s, const char *identity, unsigned char *psk, unsigned room)
{
	const struct tls_libssl *f = tls_libssl();
	const struct channel *ch = tls_channel();
	struct tls_conn *c = tls_conn_of(s);
	unsigned n = 0;

	if (!is_for_12(f, s, c) || !c->server || ch == NULL || identity == NULL ||
	    !from_text(identity, c->psk_id))
		return 0;
	c->psk12_asked = 1;
	ERR_set_mark();
	if (ch->psk_server(ch->arg, c->psk_id, CHANNEL_IDENTITY_LEN, (uint32_t)tls_version(s),
	                   c->psk_id[HASH_AT], &c->psk) != TAO_OK)
		tls_conn_why(c, "%s", ch->why());
	n = give(c, psk, room);
	ERR_pop_to_mark();
	return n;
}
