/*
 * messages: signs and verifies through the message-signing interface of
 * OpenSSL 3.4 and later.
 *
 *   messages KEY-URI ALGORITHM MODE...
 *
 * MODE: "stream" (init, updates, final), "whole" (init, EVP_PKEY_sign), "raw"
 * (a digest: EVP_PKEY_sign_init_ex2), "context" (ML-DSA, with a context string,
 * streamed). The algorithm is fetched from the provider "tao"; what it signs is
 * verified by the default provider, with the public key alone, and by "tao".
 * Prints for each mode: its name and four times yes or no: verified by default,
 * by tao; the same for another message.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/store.h>
#include <openssl/x509.h>

#if OPENSSL_VERSION_PREREQ(3, 5)

#define SIG_MAX 8192

static const uint8_t message[1500] = "a message that is longer than what goes to the host";
static const uint8_t other[1500] = "A message that is longer than what goes to the host";

static EVP_PKEY *load(const char *uri)
{
	OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	EVP_PKEY *key = NULL;

	while (store != NULL && key == NULL && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			key = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(store);
	return key;
}

/* The public half, as everybody has it: a key of the default provider. */
static EVP_PKEY *public_of(EVP_PKEY *key)
{
	uint8_t *der = NULL;
	const uint8_t *at;
	int n = i2d_PUBKEY(key, &der);
	EVP_PKEY *pub;

	at = der;
	pub = n > 0 ? d2i_PUBKEY_ex(NULL, &at, n, NULL, "provider=default") : NULL;
	OPENSSL_free(der);
	return pub;
}

static const OSSL_PARAM *params_of(const char *mode)
{
	static OSSL_PARAM params[2];

	params[0] = OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_CONTEXT_STRING, "ours",
	                                              4);
	params[1] = OSSL_PARAM_construct_end();
	return strcmp(mode, "context") == 0 ? params : NULL;
}

static size_t digest_of(const uint8_t *m, size_t n, const char *algorithm, uint8_t *hash)
{
	size_t len = 0;

	return EVP_Q_digest(NULL, strrchr(algorithm, '-') + 1, NULL, m, n, hash, &len) ? len : 0;
}

static int sign(EVP_PKEY *key, EVP_SIGNATURE *alg, const char *name, const char *mode, uint8_t *sig,
                size_t *n)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	uint8_t hash[EVP_MAX_MD_SIZE];
	int good;

	if (strcmp(mode, "raw") == 0)
		good = EVP_PKEY_sign_init_ex2(ctx, alg, NULL) > 0 &&
		       EVP_PKEY_sign(ctx, sig, n, hash,
		                     digest_of(message, sizeof message, name, hash)) > 0;
	else if (strcmp(mode, "whole") == 0)
		good = EVP_PKEY_sign_message_init(ctx, alg, NULL) > 0 &&
		       EVP_PKEY_sign(ctx, sig, n, message, sizeof message) > 0;
	else
		good = EVP_PKEY_sign_message_init(ctx, alg, params_of(mode)) > 0 &&
		       EVP_PKEY_sign_message_update(ctx, message, 100) > 0 &&
		       EVP_PKEY_sign_message_update(ctx, message + 100, sizeof message - 100) > 0 &&
		       EVP_PKEY_sign_message_final(ctx, sig, n) > 0;
	EVP_PKEY_CTX_free(ctx);
	return good;
}

static int verifies(EVP_PKEY *key, EVP_SIGNATURE *alg, const char *name, const char *mode,
                    int streamed, const uint8_t *m, const uint8_t *sig, size_t n)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	uint8_t hash[EVP_MAX_MD_SIZE];
	int good;

	if (strcmp(mode, "raw") == 0)
		good = EVP_PKEY_verify_init_ex2(ctx, alg, NULL) > 0 &&
		       EVP_PKEY_verify(ctx, sig, n, hash, digest_of(m, sizeof message, name,
		                                                    hash)) == 1;
	else if (!streamed || strcmp(mode, "whole") == 0)
		good = EVP_PKEY_verify_message_init(ctx, alg, params_of(mode)) > 0 &&
		       EVP_PKEY_verify(ctx, sig, n, m, sizeof message) == 1;
	else
		good = EVP_PKEY_verify_message_init(ctx, alg, params_of(mode)) > 0 &&
		       EVP_PKEY_CTX_set_signature(ctx, sig, n) > 0 &&
		       EVP_PKEY_verify_message_update(ctx, m, 700) > 0 &&
		       EVP_PKEY_verify_message_update(ctx, m + 700, sizeof message - 700) > 0 &&
		       EVP_PKEY_verify_message_final(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	return good;
}

int main(int argc, char **argv)
{
	static const char *const words[] = { "no", "yes" };
	uint8_t sig[SIG_MAX];
	EVP_SIGNATURE *tao, *usual;
	EVP_PKEY *key, *pub;

	if (argc < 4)
		return 2;
	key = load(argv[1]);
	pub = key != NULL ? public_of(key) : NULL;
	tao = EVP_SIGNATURE_fetch(NULL, argv[2], "provider=tao");
	usual = EVP_SIGNATURE_fetch(NULL, argv[2], "provider=default");
	for (int i = 3; i < argc && pub != NULL && tao != NULL && usual != NULL; i++) {
		const char *m = argv[i];
		size_t n = sizeof sig;

		if (!sign(key, tao, argv[2], m, sig, &n))
			break;
		/* The default provider of 3.5 takes ML-DSA messages in one step only. */
		printf("%s %s %s %s %s\n", m, words[verifies(pub, usual, argv[2], m, 0, message, sig, n)],
		       words[verifies(key, tao, argv[2], m, 1, message, sig, n)],
		       words[verifies(pub, usual, argv[2], m, 0, other, sig, n)],
		       words[verifies(key, tao, argv[2], m, 1, other, sig, n)]);
	}
	EVP_SIGNATURE_free(tao);
	EVP_SIGNATURE_free(usual);
	EVP_PKEY_free(key);
	EVP_PKEY_free(pub);
	ERR_print_errors_fp(stderr);
	return 0;
}

#else

int main(void)
{
	puts("OpenSSL before 3.5 has no message-signing interface");
	return 3;
}

#endif
