#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "tls.h"

#define FORMAT 1      /* first byte of an identity (tao-channel(7)) */
#define HASH_AT 9
#define VERSION_AT 10

static int hash_of(const struct tls_libssl *f, const SSL_CIPHER *cipher)
{
	const EVP_MD *md = cipher != NULL ? f->SSL_CIPHER_get_handshake_digest(cipher) : NULL;

	switch (md != NULL ? EVP_MD_get_type(md) : NID_undef) {
	case NID_sha256:
		return CHANNEL_SHA256;
	case NID_sha384:
		return CHANNEL_SHA384;
	default:
		return 0;
	}
}

/* A suite of TLS 1.3 with that hash, or with any: the first. */
static const SSL_CIPHER *suite(const struct tls_libssl *f, SSL *s, int hash)
{
	STACK_OF(SSL_CIPHER) *all = f->SSL_get_ciphers(s);

	for (int i = 0; all != NULL && i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);
		int h = f->SSL_CIPHER_get_protocol_id(c) >> 8 == 0x13 ? hash_of(f, c) : 0;

		if (h != 0 && (hash == 0 || h == hash))
			return c;
	}
	return NULL;
}

/* The session, if the application would have accepted who it is with. */
static SSL_SESSION *session_with(const struct tls_libssl *f, SSL *s, struct tls_conn *c,
                                 const SSL_CIPHER *cipher)
{
	int asks = f->SSL_get_verify_mode(s) != SSL_VERIFY_NONE, accepted;

	if (c->cert == NULL)
		c->cert = tls_cert_of(c->psk);
	/* Who asks no client for a certificate is shown none if there is none. */
	if (c->cert == NULL && (asks || !c->server)) {
		tls_conn_why(c, "%s", c->psk->why != NULL ? c->psk->why : "the peer has no certificate");
		return NULL;
	}
	accepted = (!asks && c->server) || tls_accepts(s, c->cert->leaf, c->cert->chain);
	if (asks && !accepted) {
		tls_conn_why(c, "this application does not accept the peer's program certificate");
		return NULL;
	}
	/* Who does not verify may ask for the result later. */
	if (!c->server)
		f->SSL_set_verify_result(s, accepted ? X509_V_OK : X509_V_ERR_UNSPECIFIED);
	return tls_session(s, cipher, c->psk->psk, c->psk->psk_n, c->cert);
}

/* ---- clients ---- */

static int may_offer(const struct tls_libssl *f, SSL *s, const struct tls_conn *c)
{
	long max = f->SSL_ctrl(s, SSL_CTRL_GET_MAX_PROTO_VERSION, 0, NULL);

	return c != NULL && c->begun && !c->server && c->set->psk && c->mode >= TLS_PREFER &&
	       c->known && c->peers && !c->two_names && (max == 0 || max == TLS1_3_VERSION);
}

/* Asked for once in a handshake: HelloRetryRequest or not, it is the same one. */
static void ask(const struct tls_libssl *f, SSL *s, struct tls_conn *c)
{
	const struct channel *ch = tls_channel();
	const SSL_CIPHER *cipher = suite(f, s, 0);

	c->psk_asked = 1;
	if (ch == NULL || cipher == NULL)
		return;
	c->psk_hash = hash_of(f, cipher);
	if (ch->psk_client(ch->arg, c->name, TLS1_3_VERSION, c->psk_hash, &c->psk) != TAO_OK)
		tls_conn_why(c, "%s", ch->why());
	else if (c->psk->psk == NULL)
		tls_conn_why(c, "%s", c->psk->why != NULL ? c->psk->why : "no key");
	if (c->psk != NULL && c->psk->psk == NULL)
		tls_conn_drop_psk(c);
}

int tls_psk_use(SSL *s, const EVP_MD *md, const unsigned char **id, size_t *n, SSL_SESSION **out)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_of(s);
	const SSL_CIPHER *cipher;

	*out = NULL;
	if (c == NULL || c->psk == NULL)
		return 1;
	ERR_set_mark();
	cipher = suite(f, s, c->psk_hash);
	/* After a HelloRetryRequest the server has chosen a suite. */
	if (cipher != NULL &&
	    (md == NULL || EVP_MD_get_type(md) ==
	                   EVP_MD_get_type(f->SSL_CIPHER_get_handshake_digest(cipher))))
		*out = session_with(f, s, c, cipher);
	ERR_pop_to_mark();
	c->psk_used = *out != NULL;
	if (c->psk_used) {
		*id = c->psk->identity;
		*n = CHANNEL_IDENTITY_LEN;
	}
	return 1;
}

/* ---- servers ---- */

/* Cheap, before the host is asked: tickets come here as well. */
static int could_be_ours(const struct tls_libssl *f, SSL *s, const struct tls_conn *c,
                         const unsigned char *id, size_t n)
{
	const unsigned char *ext;
	size_t ext_n;

	return c != NULL && c->begun && c->server && c->mode >= TLS_PREFER && c->set->psk &&
	       n == CHANNEL_IDENTITY_LEN && id[0] == FORMAT &&
	       id[VERSION_AT] == TLS1_3_VERSION >> 8 && id[VERSION_AT + 1] == (TLS1_3_VERSION & 0xFF) &&
	       /* Without the extension, the last checks would not take place. */
	       f->SSL_client_hello_get0_ext(s, TLS_EXT, &ext, &ext_n) == 1 && ext_n == 0;
}

/* Asked for once: after a HelloRetryRequest it is the same one. */
static int found(struct tls_conn *c, const unsigned char *id, int hash)
{
	const struct channel *ch = tls_channel();

	if (c->psk != NULL && memcmp(c->psk_id, id, CHANNEL_IDENTITY_LEN) == 0)
		return c->psk_hash == hash;
	if (ch == NULL || c->psk_asked) /* one guess for a handshake */
		return 0;
	c->psk_asked = 1;
	memcpy(c->psk_id, id, CHANNEL_IDENTITY_LEN);
	c->psk_hash = hash;
	if (ch->psk_server(ch->arg, id, CHANNEL_IDENTITY_LEN, TLS1_3_VERSION, hash, &c->psk) != TAO_OK) {
		tls_conn_why(c, "%s", ch->why());
		return 0;
	}
	if (c->psk->psk != NULL)
		return 1;
	tls_conn_why(c, "%s", c->psk->why != NULL ? c->psk->why : "no such key");
	tls_conn_drop_psk(c);
	return 0;
}

int tls_psk_find(SSL *s, const unsigned char *id, size_t n, SSL_SESSION **out)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_ready(s);
	const SSL_CIPHER *cipher;

	*out = NULL;
	if (c != NULL) /* of a second ClientHello, only what that one offers counts */
		c->psk_used = 0;
	ERR_set_mark();
	cipher = f->SSL_get_pending_cipher(s);
	/* Of another hash than the suite's: the certificates decide. */
	if (could_be_ours(f, s, c, id, n) && hash_of(f, cipher) == id[HASH_AT] &&
	    found(c, id, id[HASH_AT])) {
		*out = session_with(f, s, c, cipher);
		c->psk_used = *out != NULL;
		if (c->psk_used)
			f->SSL_set_num_tickets(s, 0);
	}
	ERR_pop_to_mark();
	return 1;
}

/* ---- the extension: the last gate ---- */

/* The key was that of the PSK's peer, and the application, with the virtual host that was
 * chosen in the end, accepts it still. */
static int passes(const struct tls_libssl *f, SSL *s, struct tls_conn *c)
{
	uint8_t keyed[CHANNEL_PRINCIPAL_MAX];
	int good = 1;

	if (c->pinned && !tls_group_used(s)) {
		tls_conn_why(c, "the group " TLS_GROUP " is required, and was not negotiated");
		return 0;
	}
	if (tls_group_used(s)) {
		size_t n = tls_group_peer(s, keyed);

		good = n == c->psk->peer_n && memcmp(keyed, c->psk->peer, n) == 0;
		if (!good)
			tls_conn_why(c, "the group was keyed for another principal than the PSK is");
	}
	if (good && c->server && f->SSL_get_verify_mode(s) != SSL_VERIFY_NONE) {
		good = c->cert != NULL && tls_accepts(s, c->cert->leaf, c->cert->chain);
		if (!good)
			tls_conn_why(c, "the virtual host does not accept the peer's program certificate");
	}
	return good && tls_conn_set_peer(c, c->psk->peer, c->psk->peer_n);
}

static int gate(SSL *s, struct tls_conn *c, int *alert)
{
	const struct tls_libssl *f = tls_libssl();

	if (c->psk == NULL || !c->psk_used || !f->SSL_session_reused(s))
		return 1;
	if (passes(f, s, c)) {
		c->peer_ok = 1; /* a server may ask for a certificate later */
		return 1;
	}
	tls_raise(c->why);
	*alert = SSL_AD_HANDSHAKE_FAILURE;
	return 0;
}

int tls_ext_add(SSL *s, unsigned type, unsigned context, const unsigned char **out, size_t *n,
                X509 *x, size_t chainidx, int *alert, void *arg)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_ready(s);

	(void)type;
	(void)x;
	(void)chainidx;
	(void)arg;
	*out = NULL;
	*n = 0;
	if (context & SSL_EXT_CLIENT_HELLO)
		tls_drop_context(s);
	if (c == NULL)
		return 0;
	if (context & SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS)
		return gate(s, c, alert) ? 1 : -1;
	if (may_offer(f, s, c) && !c->psk_asked)
		ask(f, s, c);
	return c->psk != NULL;
}

int tls_ext_parse(SSL *s, unsigned type, unsigned context, const unsigned char *in, size_t n,
                  X509 *x, size_t chainidx, int *alert, void *arg)
{
	struct tls_conn *c = tls_conn_of(s);

	(void)type;
	(void)in;
	(void)x;
	(void)chainidx;
	(void)arg;
	if (n != 0) {
		*alert = SSL_AD_DECODE_ERROR;
		return 0;
	}
	if (c == NULL || !(context & SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS))
		return 1;
	return gate(s, c, alert);
}
