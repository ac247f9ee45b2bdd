/*
 * nomem: does one thing with keys again and again, each time with another allocation that fails.
 *
 *   nomem tao | all THING KEY [PEER]
 *
 * With `tao`, the allocations of our modules fail, one by one, with `all` also those that libcrypto
 * makes meanwhile. THING is load (a URI or file: what is in it), sign, message (Ed25519), decrypt,
 * derive (with PEER, a file with a public key), write (stub and public key), print, handshake (TLS
 * 1.3, with the certificate of KEY, a URI) or make (KEY is a type). What fails must fail cleanly:
 * the thing is done once more without a failure after each, and must succeed. Prints "N failures, M
 * of them noticed", and exits with 1 if anything was wrong. With sanitizers, which have an
 * allocator of their own, it does nothing of all this and exits with 77.
 */
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/store.h>

#define FAILURES_MAX 100000
#define MODULES_MAX 4
#define WRITTEN_MAX 16384

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static struct { uintptr_t from, to; } modules[MODULES_MAX];
static int n_modules, everybody;
static long left = -1, failed; /* allocations until the one that fails; -1: none does */

static int fails(const void *caller)
{
	uintptr_t at = (uintptr_t)caller;
	int ours = everybody;

	if (left < 0)
		return 0;
	for (int i = 0; i < n_modules; i++)
		ours |= at >= modules[i].from && at < modules[i].to;
	if (!ours || left-- > 0)
		return 0;
	failed++;
	return 1;
}

#ifndef SANITIZED
void *malloc(size_t n)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}
#endif

/* Where the code of our modules is. */
static int note_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (strstr(info->dlpi_name, "/tao.so") == NULL && strstr(info->dlpi_name, "/tao_tls.so") == NULL)
		return 0;
	for (int i = 0; i < info->dlpi_phnum && n_modules < MODULES_MAX; i++) {
		if (info->dlpi_phdr[i].p_type != PT_LOAD || !(info->dlpi_phdr[i].p_flags & PF_X))
			continue;
		modules[n_modules].from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		modules[n_modules].to = modules[n_modules].from + info->dlpi_phdr[i].p_memsz;
		n_modules++;
	}
	return 0;
}

/* ---- things ---- */

static EVP_PKEY *key, *peer;
static X509 *cert;

static EVP_PKEY *load(const char *uri, int *n)
{
	OSSL_STORE_CTX *s = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	EVP_PKEY *found = NULL;

	*n = 0;
	while (s != NULL && !OSSL_STORE_eof(s)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(s);

		if (info == NULL && OSSL_STORE_error(s))
			break;
		if (info == NULL)
			continue;
		++*n;
		if (found == NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			found = OSSL_STORE_INFO_get1_PKEY(info);
		if (cert == NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_CERT)
			cert = OSSL_STORE_INFO_get1_CERT(info);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(s);
	return found;
}

static int do_load(const char *uri)
{
	int n;
	EVP_PKEY *k = load(uri, &n);

	EVP_PKEY_free(k);
	return k != NULL;
}

static int do_sign(const char *digest)
{
	static const uint8_t text[] = "what is signed";
	EVP_MD_CTX *c = EVP_MD_CTX_new(), *copy = EVP_MD_CTX_new();
	uint8_t sig[1024];
	size_t n = sizeof sig;
	int good = c != NULL && copy != NULL &&
	           EVP_DigestSignInit_ex(c, NULL, digest, NULL, NULL, key, NULL) == 1 &&
	           (digest == NULL || EVP_MD_CTX_copy_ex(copy, c) == 1) &&
	           EVP_DigestSign(digest != NULL ? copy : c, sig, &n, text, sizeof text) == 1;

	EVP_MD_CTX_free(copy);
	EVP_MD_CTX_free(c);
	c = good ? EVP_MD_CTX_new() : NULL;
	good = c != NULL && EVP_DigestVerifyInit_ex(c, NULL, digest, NULL, NULL, key, NULL) == 1 &&
	       EVP_DigestVerify(c, sig, n, text, sizeof text) == 1;
	EVP_MD_CTX_free(c);
	return good;
}

static int do_digest(const char *arg)
{
	(void)arg;
	return do_sign("SHA256");
}

static int do_message(const char *arg)
{
	(void)arg;
	return do_sign(NULL);
}

static int do_decrypt(const char *arg)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	uint8_t box[1024], out[1024];
	size_t n = sizeof box, m = sizeof out;
	int good = c != NULL && EVP_PKEY_encrypt_init(c) == 1 &&
	           EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING) == 1 &&
	           EVP_PKEY_encrypt(c, box, &n, (const uint8_t *)"secret", 6) == 1 &&
	           EVP_PKEY_decrypt_init(c) == 1 &&
	           EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING) == 1 &&
	           EVP_PKEY_decrypt(c, out, &m, box, n) == 1 && m == 6;

	(void)arg;
	EVP_PKEY_CTX_free(c);
	return good;
}

static int do_derive(const char *arg)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	uint8_t secret[256];
	size_t n = sizeof secret;
	int good = c != NULL && EVP_PKEY_derive_init(c) == 1 &&
	           EVP_PKEY_derive_set_peer(c, peer) == 1 &&
	           EVP_PKEY_derive(c, secret, &n) == 1;

	(void)arg;
	EVP_PKEY_CTX_free(c);
	return good;
}

/* Who hears of no failure has the whole. */
static int do_write(const char *arg)
{
	static uint8_t first[WRITTEN_MAX];
	static long first_n;
	BIO *b = BIO_new(BIO_s_mem());
	int good = b != NULL && PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) == 1 &&
	           PEM_write_bio_PUBKEY(b, key) == 1;
	char *p;
	long n = good ? BIO_get_mem_data(b, &p) : 0;

	(void)arg;
	if (good && first_n == 0 && n <= WRITTEN_MAX)
		memcpy(first, p, (size_t)(first_n = n));
	if (good && (n != first_n || memcmp(first, p, (size_t)n) != 0)) {
		fprintf(stderr, "written is %ld bytes, not %ld\n%.*s\n", n, first_n, (int)n, p);
		exit(1);
	}
	BIO_free(b);
	return good;
}

static int do_print(const char *arg)
{
	BIO *b = BIO_new(BIO_s_mem());
	int good = b != NULL && EVP_PKEY_print_private(b, key, 0, NULL) == 1;

	(void)arg;
	BIO_free(b);
	return good;
}

/* Both ends by turns, until neither can go on. */
static int shake(SSL *server, SSL *client)
{
	BIO *a = NULL, *b = NULL;

	if (server == NULL || client == NULL || BIO_new_bio_pair(&a, 0, &b, 0) != 1)
		return 0;
	SSL_set_bio(server, a, a);
	SSL_set_bio(client, b, b);
	SSL_set_accept_state(server);
	SSL_set_connect_state(client);
	for (int turn = 0; turn < 10; turn++) {
		SSL_do_handshake(client);
		SSL_do_handshake(server);
	}
	return SSL_is_init_finished(client) && SSL_is_init_finished(server);
}

static int do_handshake(const char *arg)
{
	SSL_CTX *server = SSL_CTX_new(TLS_server_method()), *client = SSL_CTX_new(TLS_client_method());
	SSL *s = NULL, *c = NULL;
	int good = server != NULL && client != NULL && SSL_CTX_use_certificate(server, cert) == 1 &&
	           SSL_CTX_use_PrivateKey(server, key) == 1;

	(void)arg;
	if (good) {
		s = SSL_new(server);
		c = SSL_new(client);
		good = shake(s, c);
	}
	SSL_free(s);
	SSL_free(c);
	SSL_CTX_free(server);
	SSL_CTX_free(client);
	return good;
}

static int do_make(const char *type)
{
	EVP_PKEY *k = strcmp(type, "EC") == 0 ? EVP_PKEY_Q_keygen(NULL, "provider=tao", type,
	                                                          "P-256")
	                                      : EVP_PKEY_Q_keygen(NULL, "provider=tao", type);

	EVP_PKEY_free(k);
	return k != NULL;
}

static const struct {
	const char *name;
	int (*fn)(const char *arg);
	int wants_key;
} things[] = {
	{ "load", do_load, 0 }, { "sign", do_digest, 1 }, { "message", do_message, 1 },
	{ "decrypt", do_decrypt, 1 }, { "derive", do_derive, 1 }, { "write", do_write, 1 },
	{ "print", do_print, 1 },
	{ "handshake", do_handshake, 1 }, { "make", do_make, 0 },
};

/* ---- one failure after the other ---- */

static int without_failure(int (*fn)(const char *), const char *arg, long after)
{
	left = -1;
	ERR_clear_error();
	if (fn(arg))
		return 1;
	fprintf(stderr, "after failure %ld, it does not work any more\n", after);
	ERR_print_errors_fp(stderr);
	return 0;
}

static int fail_each(int (*fn)(const char *), const char *arg)
{
	long noticed = 0, n;

	for (n = 0; n < FAILURES_MAX; n++) {
		long before = failed;
		int good;

		left = n;
		good = fn(arg);
		if (failed == before) {
			left = -1;
			break;
		}
		noticed += !good;
		if (!without_failure(fn, arg, n))
			return 1;
	}
	printf("%ld failures, %ld of them noticed\n", n, noticed);
	return n == 0 || n == FAILURES_MAX;
}

int main(int argc, char **argv)
{
	size_t i = 0, count = sizeof things / sizeof things[0];
	int n;

#ifdef SANITIZED
	(void)fails;
	return 77;
#endif
	while (argc > 3 && i < count && strcmp(argv[2], things[i].name) != 0)
		i++;
	if (argc < 4 || i == count) {
		fprintf(stderr, "usage: nomem tao | all THING KEY [PEER]\n");
		return 2;
	}
	everybody = strcmp(argv[1], "all") == 0;
	if (things[i].wants_key)
		key = load(argv[3], &n);
	if (argc > 4) {
		BIO *b = BIO_new_file(argv[4], "r");

		peer = b != NULL ? PEM_read_bio_PUBKEY(b, NULL, NULL, NULL) : NULL;
		BIO_free(b);
	}
	if ((things[i].wants_key && key == NULL) || (argc > 4 && peer == NULL) ||
	    !without_failure(things[i].fn, argv[3], -1)) {
		ERR_print_errors_fp(stderr);
		return 1;
	}
	dl_iterate_phdr(note_module, NULL);
	n = fail_each(things[i].fn, argv[3]);
	EVP_PKEY_free(key);
	EVP_PKEY_free(peer);
	X509_free(cert);
	return n;
}
