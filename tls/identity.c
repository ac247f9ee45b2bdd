#include <openssl/err.h>

#include "tls.h"

/* Only to who has shown to be of the domain: others learn nothing. NULL: none. */
static struct tls_bundle *own(SSL *s, const struct tls_conn *c)
{
	char name[TLS_NAME_MAX];

	if (c->server || c->mode == TLS_OFF || !c->set->identity || !c->peer_ok ||
	    tls_libssl()->SSL_get_certificate(s) != NULL || !tls_ask_identity(name))
		return NULL;
	return tls_bundle_get(name, c->set->renew > 0 ? c->set->renew : TLS_RENEW_DEFAULT);
}

void tls_identity(SSL *s, struct tls_conn *c)
{
	struct tls_bundle *b;

	ERR_set_mark();
	b = own(s, c);
	if (b != NULL)
		tls_libssl()->SSL_use_cert_and_key(s, b->leaf, b->key, b->chain, 1);
	tls_bundle_release(b);
	ERR_pop_to_mark();
}

/* libpq from PostgreSQL 16 on has a callback of its own in the other place. */
int tls_identity_asked(SSL *s, X509 **leaf, EVP_PKEY **key)
{
	const struct tls_conn *c = tls_conn_ready(s);
	struct tls_bundle *b;
	int good;

	ERR_set_mark();
	b = c != NULL ? own(s, c) : NULL;
	good = b != NULL && X509_up_ref(b->leaf) == 1;
	if (good && EVP_PKEY_up_ref(b->key) != 1) {
		X509_free(b->leaf);
		good = 0;
	}
	if (good) {
		*leaf = b->leaf;
		*key = b->key;
	}
	tls_bundle_release(b);
	ERR_pop_to_mark();
	return good;
}
