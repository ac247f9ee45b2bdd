#include <string.h>

#include <openssl/err.h>

#include "tls.h"

/* The handshake ends, whatever the application's callback says, and also where it does not verify. */
static int refuse(X509_STORE_CTX *x, SSL *s, struct tls_conn *c, X509 *leaf, const char *why)
{
	const struct tls_libssl *f = tls_libssl();
	X509_STORE_CTX_verify_cb cb = X509_STORE_CTX_get_verify_cb(x);

	tls_conn_why(c, "%s", why);
	X509_STORE_CTX_set_error(x, X509_V_ERR_APPLICATION_VERIFICATION);
	X509_STORE_CTX_set_error_depth(x, 0);
	X509_STORE_CTX_set_current_cert(x, leaf);
	if (cb != NULL)
		cb(0, x); /* so that it logs */
	X509_STORE_CTX_set_error(x, X509_V_ERR_APPLICATION_VERIFICATION);
	if (f->SSL_get_verify_mode(s) == SSL_VERIFY_NONE)
		f->SSL_set_verify(s, SSL_VERIFY_PEER, f->SSL_get_verify_callback(s));
	tls_raise(why);
	return 0;
}

/* ---- the chain ---- */

/* With the policy certificate as the only one that is trusted; else as the application has it. There is no CRL of the
 * domain: the host knows what was revoked. */
static int verify_by_policy(X509_STORE_CTX *x, SSL *s, const struct tls_conn *c, X509 *leaf)
{
	X509_STORE *store = tls_policy_store(c->set);
	X509_STORE_CTX *own = X509_STORE_CTX_new();
	int idx = tls_libssl()->SSL_get_ex_data_X509_STORE_CTX_idx(), r = 0;

	if (store == NULL || own == NULL ||
	    X509_STORE_CTX_init(own, store, leaf, X509_STORE_CTX_get0_untrusted(x)) != 1 ||
	    X509_STORE_CTX_set_ex_data(own, idx, s) != 1)
		goto out;
	X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(own), X509_STORE_CTX_get0_param(x));
	X509_VERIFY_PARAM_clear_flags(X509_STORE_CTX_get0_param(own),
	                              X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	if (X509_STORE_CTX_get_verify_cb(x) != NULL)
		X509_STORE_CTX_set_verify_cb(own, X509_STORE_CTX_get_verify_cb(x));
	r = X509_verify_cert(own);
	X509_STORE_CTX_set_error(x, X509_STORE_CTX_get_error(own));
	X509_STORE_CTX_set_error_depth(x, X509_STORE_CTX_get_error_depth(own));
	X509_STORE_CTX_set0_verified_chain(x, X509_STORE_CTX_get1_chain(own));
out:
	X509_STORE_CTX_free(own);
	X509_STORE_free(store);
	return r;
}

int tls_is_policys(const struct tls_conn *c, X509 *leaf)
{
	X509 *policy = tls_policy_cert(c->set);
	int is = policy != NULL && X509_check_issued(policy, leaf) == X509_V_OK;

	X509_free(policy);
	return is;
}

int tls_trusts_policy(const struct tls_conn *c)
{
	return c->server ? c->set->demand : c->known && c->set->trust;
}

/* ---- policy ---- */

/* What the certificate says and what the key exchange said must be one. NULL: they are. */
static const char *disagreement(SSL *s, const struct tls_conn *c, const struct tls_verdict *v)
{
	uint8_t keyed[CHANNEL_PRINCIPAL_MAX];
	size_t n;

	if (c->pinned && !tls_group_used(s))
		return "the group " TLS_GROUP " is required, and was not negotiated";
	/* A certificate after the handshake. */
	if (c->psk_used && v->ours && tls_libssl()->SSL_session_reused(s) &&
	    (v->peer_n != c->peer_n || memcmp(v->peer, c->peer, v->peer_n) != 0))
		return "the certificate is another program's than the pre-shared key is with";
	if (!tls_group_used(s) || (c->server && !v->ours))
		return NULL;
	n = tls_group_peer(s, keyed);
	if (n > 0 && v->ours && n == v->peer_n && memcmp(keyed, v->peer, n) == 0)
		return NULL;
	return "the certificate is another program's than the one that the group was keyed for";
}

/* Where the host never answered, who the domain is is not known: no program's certificate is taken on the word of
 * what the application trusts, since it may be revoked. Who is outside of tao run has no host to ask. */
static int is_unjudged(X509 *leaf)
{
	const struct channel *ch = tls_channel();

	return ch != NULL && ch->usable(ch->arg) && tls_is_programs(leaf);
}

/* Why this peer is refused, or NULL. */
static const char *judge(SSL *s, struct tls_conn *c, X509 *leaf, int r, int ours,
                         struct tls_verdict *v)
{
	if (!tls_ask_cert(leaf, c->server, c->name, v))
		return ours || c->required || is_unjudged(leaf) ? v->why : NULL;
	if (v->ours && v->allowed && r <= 0 && !c->server && c->known)
		return "its program certificate does not verify"; /* also for who does not look */
	if (v->ours && !v->allowed)
		return v->why;
	if (!v->ours && !c->server && c->known && c->peers)
		return v->why[0] != 0 ? v->why : "this name is served by programs of the domain only";
	if (!v->ours && c->server && c->set->demand)
		return "this server talks to programs of its domain only";
	return disagreement(s, c, v);
}

/* A client that nobody knows is refused by libssl: the host is not troubled. */
static int is_hopeless(SSL *s, const struct tls_conn *c, int r, int ours)
{
	return r == 0 && !ours && c->server && !c->set->demand &&
	       tls_libssl()->SSL_get_verify_mode(s) != SSL_VERIFY_NONE;
}

static int wants_program(const struct tls_conn *c)
{
	return c->server ? c->set->demand : c->required;
}

int tls_verify(X509_STORE_CTX *x, void *arg)
{
	const struct tls_libssl *f = tls_libssl();
	SSL *s = X509_STORE_CTX_get_ex_data(x, f->SSL_get_ex_data_X509_STORE_CTX_idx());
	X509 *leaf = X509_STORE_CTX_get0_cert(x);
	struct tls_conn *c = tls_conn_ready(s);
	struct tls_verdict v = { 0 };
	const char *why;
	int r, ours;

	(void)arg;
	if (c == NULL || c->mode == TLS_OFF)
		return X509_verify_cert(x);
	/* A raw public key (RFC 7250, OpenSSL 3.2) names nobody. */
	if (leaf == NULL)
		return !wants_program(c) ? X509_verify_cert(x)
		       : refuse(x, s, c, NULL, "a raw public key is no program's certificate");
	/* After a handshake, tickets follow a certificate whatever the callback about resumption said. */
	if (c->server)
		f->SSL_set_num_tickets(s, 0);
	ours = tls_is_policys(c, leaf);
	r = ours && tls_trusts_policy(c) ? verify_by_policy(x, s, c, leaf) : X509_verify_cert(x);
	if (r < 0 || is_hopeless(s, c, r, ours))
		return r;
	ERR_set_mark();
	why = judge(s, c, leaf, r, ours, &v);
	ERR_pop_to_mark();
	if (v.ours && (why == NULL || (r > 0 && c->peer_n == 0))) /* refused: for the record */
		tls_conn_set_peer(c, v.peer, v.peer_n);
	if (why != NULL)
		return refuse(x, s, c, leaf, why);
	c->peer_ok = v.ours && v.allowed && r > 0;
	c->later = v.ours && c->ended;
	return r;
}

/* ---- servers that ask ---- */

void tls_demand(SSL *s, const struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();

	if (c->server && c->set->demand && c->mode != TLS_OFF)
		f->SSL_set_verify(s, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
		                  f->SSL_get_verify_callback(s));
}

void tls_demand_name(SSL *s, const struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();
	X509 *policy;

	if (!c->server || !c->set->demand || c->mode == TLS_OFF)
		return;
	policy = tls_policy_cert(c->set);
	if (policy != NULL)
		f->SSL_add1_to_CA_list(s, policy);
	X509_free(policy);
}
