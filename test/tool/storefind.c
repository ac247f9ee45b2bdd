/*
 * storefind: how many certificates of a URI OSSL_STORE_find() finds.
 *
 *   storefind FROM URI...
 *
 * The criteria are taken from the first certificate of FROM: subject, issuer
 * and serial number, fingerprint, fingerprint of the key. Prints a line for each
 * URI: it and four numbers, -1 for an error.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/store.h>
#include <openssl/x509.h>

static OSSL_STORE_SEARCH *criterion(const char *what, X509 *x, uint8_t hash[EVP_MAX_MD_SIZE])
{
	unsigned n = 0;

	if (strcmp(what, "subject") == 0)
		return OSSL_STORE_SEARCH_by_name(X509_get_subject_name(x));
	if (strcmp(what, "issuer-serial") == 0)
		return OSSL_STORE_SEARCH_by_issuer_serial(X509_get_issuer_name(x),
		                                          X509_get0_serialNumber(x));
	if (strcmp(what, "fingerprint") == 0 && X509_digest(x, EVP_sha256(), hash, &n))
		return OSSL_STORE_SEARCH_by_key_fingerprint(EVP_sha256(), hash, n);
	if (strcmp(what, "key-fingerprint") == 0) {
		uint8_t *spki = NULL;
		int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);

		EVP_Digest(spki, (size_t)len, hash, &n, EVP_sha256(), NULL);
		OPENSSL_free(spki);
		return OSSL_STORE_SEARCH_by_key_fingerprint(EVP_sha256(), hash, n);
	}
	return NULL;
}

/* -1: an error. */
static int count(OSSL_STORE_CTX *store)
{
	int n = 0;

	while (!OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info == NULL && OSSL_STORE_error(store))
			return -1;
		n += info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_CERT;
		OSSL_STORE_INFO_free(info);
	}
	return n;
}

static int found(const char *uri, const char *what, X509 *x)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	OSSL_STORE_SEARCH *search = criterion(what, x, hash);
	OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	int n = -1;

	if (store != NULL && search != NULL && OSSL_STORE_find(store, search))
		n = count(store);
	OSSL_STORE_close(store);
	OSSL_STORE_SEARCH_free(search);
	return n;
}

static X509 *first(const char *uri)
{
	OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	X509 *x = NULL;

	while (store != NULL && x == NULL && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_CERT)
			x = OSSL_STORE_INFO_get1_CERT(info);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(store);
	return x;
}

int main(int argc, char **argv)
{
	static const char *const criteria[] = {
		"subject", "issuer-serial", "fingerprint", "key-fingerprint"
	};
	X509 *x = argc > 1 ? first(argv[1]) : NULL;

	for (int i = 2; x != NULL && i < argc; i++) {
		printf("%s", argv[i]);
		for (size_t k = 0; k < 4; k++)
			printf(" %d", found(argv[i], criteria[k], x));
		putchar('\n');
	}
	ERR_print_errors_fp(stderr);
	X509_free(x);
	return x == NULL;
}
