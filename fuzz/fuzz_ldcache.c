/* The loader's cache (host/ldcache.h): any bytes, asked for names that are likely in a seed. */
#include <string.h>

#include "../host/ldcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char *const names[] = { "libc.so.6", "libz.so.1", "", "lib0.so.99999999999",
		                             "libssl.so.3" };
	static const struct hwcaps h = { { "x86-64-v3", "x86-64-v2" }, 2, 2 };
	struct ldcache c;

	if (ldcache_parse(p, n, &c) != TAO_OK)
		return 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *path = ldcache_find(&c, names[i], &h);

		/* What is found lies inside and has an end. */
		if (path != NULL && ((const uint8_t *)path < p || (const uint8_t *)path >= p + n ||
		                     memchr(path, 0, (size_t)(p + n - (const uint8_t *)path)) == NULL))
			__builtin_trap();
	}
	return 0;
}
