#include <openssl/err.h>

#include "tls.h"

/* Only to who has shown to be of the domain: others learn nothing. */
void tls_identity(SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();
	char name[TLS_NAME_MAX];
	struct tls_bundle *b;

	if (c->server || c->mode == TLS_OFF || !c->set->identity || !c->peer_ok ||
	    f->SSL_get_certificate(s) != NULL)
		return;
	ERR_set_mark();
	b = tls_ask_identity(name) ? tls_bundle_get(name, c->set->renew > 0 ? c->set->renew
	                                                                    : TLS_RENEW_DEFAULT)
	                           : NULL;
	if (b != NULL)
		f->SSL_use_cert_and_key(s, b->leaf, b->key, b->chain, 1);
	tls_bundle_release(b);
	ERR_pop_to_mark();
}
