#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "tls.h"

#define CHAINS 32 /* verdicts on chains that one process keeps; the oldest goes */
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

/* ---- verdicts on chains ---- */

/* Who verified what, and how. The store is referenced: no other one takes its address meanwhile. */
struct chain {
	X509_STORE *store;
	unsigned long flags;
	int purpose, level, depth;
	unsigned char leaf[EVP_MAX_MD_SIZE];
};

struct chains {
	struct tls_process own;
	struct chain kept[CHAINS];
	time_t until[CHAINS];
};

static _Atomic(struct tls_process *) current;

static struct chains *chains_of_process(void)
{
	return tls_process_get(&current, sizeof(struct chains));
}

static int is_known(const struct chain *want)
{
	struct chains *c = chains_of_process();
	int found = 0;

	if (c == NULL)
		return 0;
	pthread_mutex_lock(&c->own.lock);
	for (size_t i = 0; i < CHAINS && !found; i++)
		found = tls_now() < c->until[i] && memcmp(&c->kept[i], want, sizeof *want) == 0;
	pthread_mutex_unlock(&c->own.lock);
	return found;
}

static void remember(const struct chain *good)
{
	struct chains *c = chains_of_process();
	X509_STORE *gone;
	size_t at = 0;

	if (c == NULL || X509_STORE_up_ref(good->store) != 1)
		return;
	pthread_mutex_lock(&c->own.lock);
	for (size_t i = 0; i < CHAINS; i++)
		if (c->until[i] < c->until[at])
			at = i;
	gone = c->kept[at].store;
	c->kept[at] = *good;
	c->until[at] = tls_now() + TLS_KEEP_MAX;
	pthread_mutex_unlock(&c->own.lock);
	X509_STORE_free(gone);
}

/* ---- verification ---- */

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

static int is_now(const X509 *leaf)
{
	time_t now = time(NULL);
	int begun = ASN1_TIME_cmp_time_t(X509_get0_notBefore(leaf), now);

	return (begun == 0 || begun == -1) && ASN1_TIME_cmp_time_t(X509_get0_notAfter(leaf), now) == 1;
}

/* What depends on this connection: host and address, and the time. */
static int fits(const struct tls_libssl *f, SSL *s, X509 *leaf)
{
	X509_VERIFY_PARAM *param = f->SSL_get0_param(s);
	unsigned flags = X509_VERIFY_PARAM_get_hostflags(param);
	char *ip = X509_VERIFY_PARAM_get1_ip_asc(param);
	const char *host = X509_VERIFY_PARAM_get0_host(param, 0);
	int good = host == NULL;

	for (int i = 0; !good && host != NULL; host = X509_VERIFY_PARAM_get0_host(param, ++i))
		good = X509_check_host(leaf, host, 0, flags, NULL) == 1;
	good = good && (ip == NULL || X509_check_ip_asc(leaf, ip, 0) == 1) &&
	       X509_VERIFY_PARAM_get0_email(param) == NULL &&
	       is_now(leaf);
	OPENSSL_free(ip);
	return good;
}

/* An application's own callback sees every certificate every time. So does a list of revoked ones. */
static int may_be_kept(const struct tls_libssl *f, SSL *s, X509_STORE *store)
{
	unsigned long flags = X509_VERIFY_PARAM_get_flags(f->SSL_get0_param(s)) |
	                      X509_VERIFY_PARAM_get_flags(X509_STORE_get0_param(store));

	return f->SSL_get_verify_callback(s) == NULL && X509_STORE_get_verify_cb(store) == NULL &&
	       !(flags & (X509_V_FLAG_CRL_CHECK | X509_V_FLAG_USE_CHECK_TIME));
}

/* As verify(); the chain of a certificate that was good a moment ago is not built again. */
static int verify_or_recall(const struct tls_libssl *f, SSL *s, X509_STORE *store, X509 *leaf,
                            STACK_OF(X509) *chain)
{
	struct chain c;

	memset(&c, 0, sizeof c); /* compared as bytes */
	c.store = store;
	c.flags = X509_VERIFY_PARAM_get_flags(f->SSL_get0_param(s));
	c.purpose = f->SSL_is_server(s);
	c.level = f->SSL_get_security_level(s);
	c.depth = X509_VERIFY_PARAM_get_depth(f->SSL_get0_param(s));
	if (!may_be_kept(f, s, store) || X509_digest(leaf, EVP_sha256(), c.leaf, NULL) != 1)
		return verify(f, s, store, leaf, chain);
	if (is_known(&c))
		return fits(f, s, leaf);
	if (!verify(f, s, store, leaf, chain))
		return 0;
	remember(&c);
	return 1;
}

int tls_accepts(SSL *s, X509 *leaf, STACK_OF(X509) *chain)
{
	const struct tls_libssl *f = tls_libssl();
	struct tls_conn *c = tls_conn_of(s);
	X509_STORE *own;
	int good;

	ERR_set_mark();
	own = tls_trusts_policy(c) ? tls_policy_store(c->set) : NULL;
	good = !uses_dane(f, s) &&
	       verify_or_recall(f, s, own != NULL ? own : store_of(f, s), leaf, chain);
	X509_STORE_free(own);
	ERR_pop_to_mark();
	return good;
}
