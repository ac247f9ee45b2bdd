#include "channel_int.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/store.h>

#include "stub.h"

#define CHAIN_DEPTH 3 /* certificates between a program's and the policy certificate */
#define URI_MAX     (sizeof "tao:" + TAO_KEY_NAME_MAX)

/* What a tao: URI holds. */
struct found {
	EVP_PKEY *key;
	STACK_OF(X509) * certs;
};

static void found_clear(struct found *f)
{
	EVP_PKEY_free(f->key);
	sk_X509_pop_free(f->certs, X509_free);
}

/* OpenSSL's own errors are about the other ways to read a URI. The provider's have
 * codes of ours and a sentence. */
static enum tao_err store_failed(const char *uri)
{
	char said[TAO_WHY_MAX / 2] = "";
	enum tao_err e = TAO_ENOTFOUND;
	unsigned long error;
	const char *data;
	int flags;

	while ((error = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
		if (ERR_GET_LIB(error) < ERR_LIB_USER || (flags & ERR_TXT_STRING) == 0)
			continue;
		snprintf(said, sizeof said, "%s", data);
		if (ERR_GET_REASON(error) < TAO_ERR_COUNT)
			e = (enum tao_err)ERR_GET_REASON(error);
	}
	if (said[0] != 0)
		return tao_fail(e, "%s: %s", uri, said);
	return tao_fail(TAO_ENOTRUN,
	                "OpenSSL has no Tao provider here, so there is no %s: start the program "
	                "with 'tao run'",
	                uri);
}

static int keep(struct found *f, OSSL_STORE_INFO *info)
{
	X509 *cert;

	switch (OSSL_STORE_INFO_get_type(info)) {
	case OSSL_STORE_INFO_PKEY:
		if (f->key == NULL)
			f->key = OSSL_STORE_INFO_get1_PKEY(info);
		return f->key != NULL;
	case OSSL_STORE_INFO_CERT:
		cert = OSSL_STORE_INFO_get1_CERT(info);
		if (cert != NULL && sk_X509_push(f->certs, cert) > 0)
			return 1;
		X509_free(cert);
		return 0;
	default:
		return 1;
	}
}

static enum tao_err load(const char *uri, struct found *f)
{
	OSSL_STORE_CTX *store;
	int good = 1;

	memset(f, 0, sizeof *f);
	ERR_clear_error();
	f->certs = sk_X509_new_null();
	if (f->certs == NULL)
		return tao_fail_nomem();
	store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	if (store == NULL)
		return store_failed(uri);
	while (good && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		good = info != NULL ? keep(f, info) : !OSSL_STORE_error(store);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(store);
	return good ? TAO_OK : store_failed(uri);
}

/* ---- into a context ---- */

/* The certificate of the key, then what leads to the policy certificate but not that itself: the
 * peer has it, or does not trust it. */
static int use_chain(SSL_CTX *ctx, const struct found *f)
{
	for (int i = 1; i < sk_X509_num(f->certs); i++) {
		X509 *cert = sk_X509_value(f->certs, i);

		if (X509_self_signed(cert, 0) != 1 && !SSL_CTX_add1_chain_cert(ctx, cert))
			return 0;
	}
	return 1;
}

static time_t half_life(const X509 *cert)
{
	int days = 0, seconds = 0;
	time_t now = time(NULL), left;

	if (!ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)))
		return now;
	left = (time_t)days * 86400 + seconds;
	return now + (left > 0 ? left / 2 : 0);
}

static enum tao_err use_own(SSL_CTX *ctx, const char *key, time_t *renew)
{
	char uri[URI_MAX];
	struct found f;
	enum tao_err e;

	snprintf(uri, sizeof uri, "tao:%s", key);
	e = load(uri, &f);
	if (e == TAO_OK && f.key == NULL)
		e = tao_fail(TAO_ENOTFOUND, "%s has no key: see 'tao key list'", uri);
	if (e == TAO_OK && sk_X509_num(f.certs) == 0)
		e = tao_fail(TAO_ENOTFOUND, "%s has no certificate: 'tao cert show %s' says why",
		             uri, key);
	if (e == TAO_OK && (SSL_CTX_use_certificate(ctx, sk_X509_value(f.certs, 0)) != 1 ||
	                    SSL_CTX_use_PrivateKey(ctx, f.key) != 1 || !use_chain(ctx, &f)))
		e = tao_fail_crypto("key and certificate of %s cannot be used for TLS", uri);
	if (e == TAO_OK && renew != NULL)
		*renew = half_life(sk_X509_value(f.certs, 0));
	found_clear(&f);
	return e;
}

/* A store of its own: whatever else was put into the context's is not trusted here. */
static enum tao_err use_trust(SSL_CTX *ctx)
{
	X509_STORE *store = X509_STORE_new();
	struct found f;
	enum tao_err e = load("tao:ca", &f);

	if (store == NULL) {
		found_clear(&f);
		return tao_fail_nomem();
	}
	SSL_CTX_set_cert_store(ctx, store);
	if (e == TAO_OK && sk_X509_num(f.certs) == 0)
		e = tao_fail(TAO_ENOTFOUND,
		             "the Tao host gave no policy certificate for tao:ca: see "
		             "'tao doctor'");
	for (int i = 0; e == TAO_OK && i < sk_X509_num(f.certs); i++) {
		X509 *ca = sk_X509_value(f.certs, i);

		if (!X509_STORE_add_cert(store, ca) || !SSL_CTX_add_client_CA(ctx, ca))
			e = tao_fail_crypto("the policy certificate cannot be used for TLS");
	}
	found_clear(&f);
	return e;
}

int tao_channel_rules(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
	                   tao_channel_verify);
	SSL_CTX_set_verify_depth(ctx, CHAIN_DEPTH);
	return SSL_CTX_set_num_tickets(ctx, 0) &&
	       SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION);
}

enum tao_err tao_channel_ctx(const char *key, SSL_CTX **out, time_t *renew)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	enum tao_err e = TAO_OK;

	*out = NULL;
	if (ctx == NULL || !tao_channel_rules(ctx))
		e = tao_fail_crypto("TLS 1.3 cannot be set up");
	if (e == TAO_OK)
		e = use_trust(ctx);
	if (e == TAO_OK)
		e = use_own(ctx, key, renew);
	if (e != TAO_OK)
		SSL_CTX_free(ctx);
	else
		*out = ctx;
	return e;
}
