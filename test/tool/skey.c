/*
 * skey: EVP_SKEY objects of TAO-SECRET, with the cipher TAO-AES-256-GCM.
 *
 *   skey encrypt LABEL POLICY TEXT    prints IV, ciphertext and tag, in hexadecimal
 *   skey decrypt LABEL POLICY HEX     prints the text
 *   skey refusals LABEL POLICY HEX    tries what must not work; prints what did, and the errors
 *
 * POLICY "-" is the default. The label is authenticated besides.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#if OPENSSL_VERSION_PREREQ(3, 5)

#define IV_N 12
#define TAG_N 16
#define TEXT_MAX 4096

static EVP_SKEY *import(const char *label, const char *policy, const char *raw)
{
	OSSL_PARAM params[4], *at = params;

	if (label != NULL)
		*at++ = OSSL_PARAM_construct_utf8_string("label", (char *)label, 0);
	if (strcmp(policy, "-") != 0)
		*at++ = OSSL_PARAM_construct_utf8_string("policy", (char *)policy, 0);
	if (raw != NULL)
		*at++ = OSSL_PARAM_construct_octet_string(OSSL_SKEY_PARAM_RAW_BYTES, (char *)raw,
		                                          32);
	*at = OSSL_PARAM_construct_end();
	return EVP_SKEY_import(NULL, "TAO-SECRET", NULL, OSSL_SKEYMGMT_SELECT_ALL, params);
}

static int encrypt(EVP_SKEY *key, const char *label, const char *text)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "TAO-AES-256-GCM", NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	size_t half = strlen(text) / 2;
	uint8_t out[IV_N + TEXT_MAX + TAG_N];
	int n = 0, more = 0, good;

	good = RAND_bytes(out, IV_N) == 1 &&
	       EVP_CipherInit_SKEY(ctx, cipher, key, out, IV_N, 1, NULL) > 0 &&
	       EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)label, (int)strlen(label)) > 0 &&
	       EVP_CipherUpdate(ctx, out + IV_N, &n, (const uint8_t *)text, (int)half) > 0 &&
	       EVP_CipherUpdate(ctx, out + IV_N + n, &more, (const uint8_t *)text + half,
	                        (int)(strlen(text) - half)) > 0;
	n += more;
	good = good && EVP_CipherFinal_ex(ctx, out + IV_N + n, &more) > 0 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_N, out + IV_N + n) > 0;
	for (int i = 0; good && i < IV_N + n + TAG_N; i++)
		printf("%02x", out[i]);
	puts("");
	EVP_CIPHER_CTX_free(ctx);
	EVP_CIPHER_free(cipher);
	return good;
}

/* key or raw. */
static int decrypt(const char *name, EVP_SKEY *key, const uint8_t *raw, const char *label,
                   const char *hex, char *text)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	long n = 0;
	uint8_t *in = OPENSSL_hexstr2buf(hex, &n);
	int done = 0, more = 0, good = in != NULL && n >= IV_N + TAG_N;

	n -= IV_N + TAG_N;
	good = good && (key != NULL ? EVP_CipherInit_SKEY(ctx, cipher, key, in, IV_N, 0, NULL)
	                            : EVP_CipherInit_ex2(ctx, cipher, raw, in, 0, NULL)) > 0 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_N, in + IV_N + n) > 0 &&
	       EVP_CipherUpdate(ctx, NULL, &more, (const uint8_t *)label, (int)strlen(label)) > 0 &&
	       EVP_CipherUpdate(ctx, (uint8_t *)text, &done, in + IV_N, (int)n) > 0 &&
	       EVP_CipherFinal_ex(ctx, (uint8_t *)text + done, &more) > 0;
	text[good ? done : 0] = 0;
	OPENSSL_free(in);
	EVP_CIPHER_CTX_free(ctx);
	EVP_CIPHER_free(cipher);
	return good;
}

static int take(const OSSL_PARAM params[], void *arg)
{
	(void)params;
	(void)arg;
	return 1;
}

static int kdf(const char *label, const char *policy, uint8_t out[32])
{
	EVP_KDF *k = EVP_KDF_fetch(NULL, "TAO-SECRET", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(k);
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string("label", (char *)label, 0),
		                OSSL_PARAM_construct_utf8_string("policy", (char *)policy, 0),
		                OSSL_PARAM_construct_end() };
	int good = EVP_KDF_derive(ctx, out, 32, params) > 0;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(k);
	return good;
}

static void refusals(EVP_SKEY *key, const char *label, const char *policy, const char *hex)
{
	static const uint8_t zeros[32];
	const uint8_t *bytes;
	uint8_t derived[32];
	char text[TEXT_MAX], *damaged = OPENSSL_strdup(hex);
	size_t n;

	if (strcmp(EVP_SKEY_get0_key_id(key), label) != 0)
		puts("the label is not the key's id");
	if (EVP_SKEY_export(key, OSSL_SKEYMGMT_SELECT_SECRET_KEY, take, NULL))
		puts("exported");
	if (EVP_SKEY_get0_raw_key(key, &bytes, &n))
		puts("raw bytes");
	if (EVP_SKEY_to_provider(key, NULL, NULL, "provider=default") != NULL)
		puts("given to the default provider");
	if (decrypt("AES-256-GCM", key, NULL, label, hex, text))
		puts("used by the default provider's cipher");
	if (decrypt("TAO-AES-256-GCM", NULL, zeros, label, hex, text))
		puts("another key");
	if (import(label, policy, (const char *)zeros) != NULL)
		puts("bytes as a key");
	if (import(NULL, policy, NULL) != NULL)
		puts("no label");
	if (import("", policy, NULL) != NULL)
		puts("an empty label");
	if (!kdf(label, policy, derived) || decrypt("AES-256-GCM", NULL, derived, label, hex, text))
		puts("the KDF's secret is the key");
	if (decrypt("TAO-AES-256-GCM", key, NULL, "other", hex, text))
		puts("authenticated with something else");
	for (size_t i = 0; i < strlen(hex); i += 7) {
		damaged[i] = hex[i] == '0' ? '1' : '0';
		if (decrypt("TAO-AES-256-GCM", key, NULL, label, damaged, text))
			printf("with digit %zu changed\n", i);
		damaged[i] = hex[i];
	}
	if (!decrypt("TAO-AES-256-GCM", key, NULL, label, hex, text))
		puts("does not decrypt any more");
	OPENSSL_free(damaged);
}

int main(int argc, char **argv)
{
	EVP_SKEY *key = argc == 5 ? import(argv[2], argv[3], NULL) : NULL;
	char text[TEXT_MAX] = "";
	int good = key != NULL;

	if (good && strcmp(argv[1], "encrypt") == 0)
		good = encrypt(key, argv[2], argv[4]);
	else if (good && strcmp(argv[1], "decrypt") == 0)
		good = decrypt("TAO-AES-256-GCM", key, NULL, argv[2], argv[4], text) &&
		       puts(text) >= 0;
	else if (good)
		refusals(key, argv[2], argv[3], argv[4]);
	ERR_print_errors_fp(stderr);
	EVP_SKEY_free(key);
	return good ? 0 : 1;
}

#else

int main(void)
{
	puts("OpenSSL before 3.5 has no EVP_SKEY");
	return 3;
}

#endif
