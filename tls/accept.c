#include <openssl/err.h>

#include "tls.h"

#define NO_USAGE 255 /* of a TLSA record: there is no such */

/* Adding a record that cannot be is refused in different ways with and without DANE. */
static int uses_dane(const struct tls_libssl *f, SSL *s)
{
	return f->SSL_dane_tlsa_add(s, NO_USAGE, NO_USAGE, NO_USAGE, NULL, 0) >= 0;
}

static X509_STORE *store_of(const struct tls_libssl *f, SSL *s)
{
	X509_STORE *own = NULL;

	f->SSL_ctrl(s, SSL_CTRL_GET_VERIFY_CERT_STORE, 0, &own);
	return own != NULL ? own : f->SSL_CTX_get_cert_store(f->SSL_get_SSL_CTX(s));
}

/* As libssl does it when certificates come over the wire. */
static int verify(const struct tls_libssl *f, SSL *s, X509_STORE *store, X509 *leaf,
                  STACK_OF(X509) *chain)
{
	X509_STORE_CTX *x = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	int good = 0;

	if (x == NULL || X509_STORE_CTX_init(x, store, leaf, chain) != 1 ||
	    X509_STORE_CTX_set_ex_data(x, f->SSL_get_ex_data_X509_STORE_CTX_idx(), s) != 1)
		goto out;
	X509_STORE_CTX_set_default(x, f->SSL_is_server(s) ? "ssl_client" : "ssl_server");
	param = X509_STORE_CTX_get0_param(x);
	X509_VERIFY_PARAM_set_auth_level(param, f->SSL_get_security_level(s));
	X509_VERIFY_PARAM_set1(param, f->SSL_get0_param(s));
	if (f->SSL_get_verify_callback(s) != NULL)
		X509_STORE_CTX_set_verify_cb(x, f->SSL_get_verify_callback(s));
	/* Callbacks may answer yes to an error and look at the result later: nginx's does. */
	good = X509_verify_cert(x) == 1 && X509_STORE_CTX_get_error(x) == X509_V_OK;
out:
	X509_STORE_CTX_free(x);
	return good;
}

/* A name that policy knows is trusted with the domain's policy certificate, whatever else the
 * application trusts. */
static X509_STORE *policy_store(const struct tls_conn *c)
{
	X509 *policy = !c->server && c->known && c->set->trust ? tls_policy_cert(c->set) : NULL;
	X509_STORE *store = policy != NULL ? X509_STORE_new() : NULL;

	if (store != NULL && X509_STORE_add_cert(store, policy) != 1) {
		X509_STORE_free(store);
		store = NULL;
	}
	X509_free(policy);
	return store;
}

int tls_accepts(SSL *s, X509 *leaf, STACK_OF(X509) *chain)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_of(s);
	X509_STORE *own;
	int good;

	ERR_set_mark();
	own = policy_store(c);
	good = !uses_dane(f, s) &&
	       verify(f, s, own != NULL ? own : store_of(f, s), leaf, chain);
	X509_STORE_free(own);
	ERR_pop_to_mark();
	return good;
}
