#include <dlfcn.h>

#include "tls.h"

#define LIBSSL "libssl.so.3"

static struct tls_libssl found;
static _Atomic(const struct tls_libssl *) ready;

/* Not through RTLD_DEFAULT: Python's libssl is not visible there. Two threads
 * that come here together write the same values. */
static int find_all(void *lib)
{
#define WANTED(name) { #name, &found.name },
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

const struct tls_libssl *tls_libssl(void)
{
	const struct tls_libssl *f = atomic_load_explicit(&ready, memory_order_acquire);
	void *lib;

	if (f != NULL)
		return f;
	lib = dlopen(LIBSSL, RTLD_NOLOAD | RTLD_NOW); /* keeps it loaded: it calls us */
	if (lib == NULL || !find_all(lib))
		return NULL;
	atomic_store_explicit(&ready, &found, memory_order_release);
	return &found;
}
