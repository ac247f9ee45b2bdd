#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "tls.h"
#include "tao/buf.h"

/* Fields of what i2d_SSL_SESSION() writes (libssl's ssl_asn1.c): [3] is the peer's certificate, [5]
 * the result of its verification, which is "not verified" in a new session and X509_V_OK where it
 * is missing. No function sets either. */
#define TAG_PEER 0xA3
#define TAG_RESULT 0xA5
#define TAG_CONTEXT 0xA0

/* One element at *at; 0 at the end or where it is none. */
static int element(const unsigned char **at, const unsigned char *end, const unsigned char **from,
                   size_t *n)
{
	const unsigned char *p = *at;
	long length;
	int tag, class, r;

	if (p >= end)
		return 0;
	r = ASN1_get_object(&p, &length, &tag, &class, end - *at);
	if (r & 0x80 || length < 0 || length > end - p)
		return 0;
	*from = *at;
	*at = p + length;
	*n = (size_t)(*at - *from);
	return 1;
}

static void put_length(struct tao_buf *b, size_t n)
{
	const uint8_t bytes[] = { 0x83, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

	tao_buf_put(b, bytes, sizeof bytes);
}

static int put_peer(struct tao_buf *b, X509 *peer)
{
	const uint8_t tag = TAG_PEER;
	unsigned char *der = NULL;
	int n = peer != NULL ? i2d_X509(peer, &der) : 0;

	if (n > 0) {
		tao_buf_put(b, &tag, 1);
		put_length(b, (size_t)n);
		tao_buf_put(b, der, (size_t)n);
	}
	OPENSSL_free(der);
	return n >= 0;
}

/* The fields of a session, with peer in their place and no result. */
static int splice(const unsigned char *in, size_t in_n, X509 *peer, struct tao_buf *fields)
{
	const unsigned char *end = in + in_n, *from;
	int tag, class, done = 0;
	long length;
	size_t n;

	if (ASN1_get_object(&in, &length, &tag, &class, (long)in_n) & 0x80 ||
	    tag != V_ASN1_SEQUENCE || length != end - in)
		return 0;
	while (element(&in, end, &from, &n)) {
		int is_field = (from[0] & TAG_CONTEXT) == TAG_CONTEXT;

		if (!done && is_field && from[0] >= TAG_PEER)
			done = put_peer(fields, peer);
		if (from[0] != TAG_PEER && from[0] != TAG_RESULT)
			tao_buf_put(fields, from, n);
	}
	return in == end && (done || put_peer(fields, peer)) && tao_buf_err(fields) == TAO_OK;
}

static SSL_SESSION *grafted(const struct tls_libssl *f, SSL_SESSION *plain, X509 *peer)
{
	struct tao_buf fields = TAO_BUF_INIT, whole = TAO_BUF_INIT;
	const uint8_t sequence = V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED;
	const unsigned char *at;
	SSL_SESSION *session = NULL;
	unsigned char *der = NULL;
	int n = f->i2d_SSL_SESSION(plain, &der);

	if (n > 0 && splice(der, (size_t)n, peer, &fields)) {
		tao_buf_put(&whole, &sequence, 1);
		put_length(&whole, fields.n);
		tao_buf_put(&whole, fields.p, fields.n);
		at = whole.p;
		if (tao_buf_err(&whole) == TAO_OK)
			session = f->d2i_SSL_SESSION(NULL, &at, (long)whole.n);
	}
	OPENSSL_clear_free(der, n > 0 ? (size_t)n : 0);
	tao_buf_free(&fields);
	tao_buf_free(&whole);
	return session;
}

/* A client that has a context for sessions must find it in this one. */
static int take_context(const struct tls_libssl *f, SSL *s, SSL_SESSION *to)
{
	SSL_SESSION *own = f->SSL_get_session(s);
	const unsigned char *id = NULL;
	unsigned n = 0;

	if (own != NULL)
		id = f->SSL_SESSION_get0_id_context(own, &n);
	return n == 0 || f->SSL_SESSION_set1_id_context(to, id, n) == 1;
}

static SSL_SESSION *with_key(const struct tls_libssl *f, SSL_SESSION *session, const uint8_t *psk,
                             size_t n)
{
	if (session != NULL && f->SSL_SESSION_set1_master_key(session, psk, n) == 1)
		return session;
	f->SSL_SESSION_free(session);
	return NULL;
}

static SSL_SESSION *make(const struct tls_libssl *f, const SSL_CIPHER *cipher, X509 *peer)
{
	static const uint8_t none[CHANNEL_SECRET_MAX];
	SSL_SESSION *plain = f->SSL_SESSION_new(), *session = NULL;

	if (plain != NULL && f->SSL_SESSION_set1_master_key(plain, none, sizeof none) == 1 &&
	    f->SSL_SESSION_set_cipher(plain, cipher) == 1 &&
	    f->SSL_SESSION_set_protocol_version(plain, TLS1_3_VERSION) == 1)
		session = grafted(f, plain, peer);
	f->SSL_SESSION_free(plain);
	return session;
}

/* Lock held. The peer's for that suite, made when it is first wanted. */
static SSL_SESSION *template_of(const struct tls_libssl *f, struct tls_cert *peer,
                                const SSL_CIPHER *cipher)
{
	size_t i = 0;

	while (i < TLS_TEMPLATES - 1 && peer->templates[i].session != NULL &&
	       peer->templates[i].cipher != cipher)
		i++;
	if (peer->templates[i].session == NULL || peer->templates[i].cipher != cipher) {
		f->SSL_SESSION_free(peer->templates[i].session);
		peer->templates[i].session = make(f, cipher, peer->leaf);
		peer->templates[i].cipher = cipher;
	}
	return peer->templates[i].session;
}

/* Its time is when it was made, and libssl takes that for when the session began. */
static SSL_SESSION *copy_of(const struct tls_libssl *f, struct tls_cert *peer,
                            const SSL_CIPHER *cipher)
{
	SSL_SESSION *t, *copy;

	pthread_mutex_lock(&peer->lock);
	t = template_of(f, peer, cipher);
	copy = t != NULL ? f->SSL_SESSION_dup(t) : NULL;
	pthread_mutex_unlock(&peer->lock);
	if (copy != NULL)
		f->tls_set_time(copy, time(NULL));
	return copy;
}

SSL_SESSION *tls_session(SSL *s, const SSL_CIPHER *cipher, const uint8_t *psk, size_t n,
                         struct tls_cert *peer)
{
	const struct tls_libssl *f = tls_libssl();
	SSL_SESSION *session = peer != NULL ? copy_of(f, peer, cipher) : make(f, cipher, NULL);

	session = with_key(f, session, psk, n);
	if (session != NULL && !f->SSL_is_server(s) && !take_context(f, s, session)) {
		f->SSL_SESSION_free(session);
		session = NULL;
	}
	return session;
}
