#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>

#include <openssl/crypto.h>

#include "tls.h"

#define NAME_MAX_LIBSSL 32 /* bytes of the name that libssl has for its libcrypto */

#define QUIC_METHODS 3
#define QUIC_VERSION 1 /* OSSL_QUIC1_VERSION */

static struct {
	struct tls_libssl f;
	uintptr_t first, end; /* where it is mapped */
	const SSL_METHOD *quic[QUIC_METHODS]; /* NULL: it has none */
} found;
static _Atomic(const struct tls_libssl *) ready;

/* Not through RTLD_DEFAULT: Python's libssl is not visible there. Two threads
 * that come here together write the same values. */
static int find_all(void *lib)
{
#define WANTED(name) { #name, &found.f.name },
	const struct {
		const char *name;
		void *to;
	} wanted[] = { TLS_FUNCTIONS(WANTED) };

	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
		void *f = dlsym(lib, wanted[i].name);

		if (f == NULL)
			return 0;
		*(void **)wanted[i].to = f;
	}
	return 1;
}

static void find_quic(void *lib)
{
	static const char *const names[QUIC_METHODS] = {
		"OSSL_QUIC_client_method", "OSSL_QUIC_client_thread_method", "OSSL_QUIC_server_method",
	};

	for (int i = 0; i < QUIC_METHODS; i++) {
		const SSL_METHOD *(*method)(void) = (const SSL_METHOD *(*)(void))(uintptr_t)dlsym(lib, names[i]);

		found.quic[i] = method != NULL ? method() : NULL;
	}
}

static int find_extent(struct dl_phdr_info *file, size_t size, void *arg)
{
	uintptr_t inside = *(const uintptr_t *)arg, first = UINTPTR_MAX, end = 0;

	(void)size;
	for (int i = 0; i < file->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &file->dlpi_phdr[i];
		uintptr_t at = file->dlpi_addr + h->p_vaddr;

		if (h->p_type != PT_LOAD)
			continue;
		first = at < first ? at : first;
		end = at + h->p_memsz > end ? at + h->p_memsz : end;
	}
	if (inside < first || inside >= end)
		return 0;
	found.first = first;
	found.end = end;
	return 1;
}

/* A program that has an OpenSSL of its own inside may have loaded the system's libssl for something else:
 * that one goes with the system's libcrypto. */
static int is_of_own_libcrypto(void *lib)
{
	const char *(*version)(int) = (const char *(*)(int))(uintptr_t)dlsym(lib, "OpenSSL_version");

	return version != NULL && version(OPENSSL_VERSION) == OpenSSL_version(OPENSSL_VERSION);
}

const struct tls_libssl *tls_libssl(void)
{
	const struct tls_libssl *f = atomic_load_explicit(&ready, memory_order_acquire);
	char name[NAME_MAX_LIBSSL];
	uintptr_t inside;
	void *lib;

	if (f != NULL)
		return f;
	snprintf(name, sizeof name, "libssl.so.%u", OPENSSL_version_major());
	lib = dlopen(name, RTLD_NOLOAD | RTLD_NOW); /* keeps it loaded: it calls us */
	if (lib == NULL)
		return NULL;
	if (!is_of_own_libcrypto(lib) || !find_all(lib)) {
		dlclose(lib);
		return NULL;
	}
	find_quic(lib);
	inside = (uintptr_t)found.f.SSL_CTX_get_ssl_method;
	dl_iterate_phdr(find_extent, &inside);
	atomic_store_explicit(&ready, &found.f, memory_order_release);
	return &found.f;
}

int tls_is_libssls(const SSL_CTX *ctx)
{
	const struct tls_libssl *f = tls_libssl();
	uintptr_t method = f != NULL ? (uintptr_t)f->SSL_CTX_get_ssl_method(ctx) : 0;

	return method >= found.first && method < found.end;
}

int tls_is_quic(const SSL_CTX *ctx)
{
	const SSL_METHOD *method = tls_libssl()->SSL_CTX_get_ssl_method(ctx);

	for (int i = 0; i < QUIC_METHODS; i++)
		if (method != NULL && method == found.quic[i])
			return 1;
	return 0;
}

int tls_over_quic(const SSL *s)
{
	return tls_libssl()->SSL_version(s) == QUIC_VERSION;
}

int tls_version(const SSL *s)
{
	return tls_over_quic(s) ? TLS1_3_VERSION : tls_libssl()->SSL_version(s);
}
