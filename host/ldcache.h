/*
 * /etc/ld.so.cache: where the dynamic loader finds a library by its name.
 *
 * Format: glibc's dl-cache.h, "glibc-ld.so.cache" version "1.1", integers
 * little-endian:
 *
 *   header, 48 bytes   magic and version (20), u32 number of entries, u32 length of the strings,
 *                      u8 flags (low two bits: 0 or 2 is little-endian), 3 bytes, u32 offset of
 *                      the extensions or 0, 12 bytes
 *   entry, 24 bytes    u32 flags, u32 name, u32 path (offsets of NUL-terminated strings from the
 *                      file's beginning), u32 unused, u64 hwcap; sorted by name, downwards
 *   extensions         u32 magic 0xeaa42174, u32 count; each u32 tag, u32 flags, u32 offset,
 *                      u32 size; tag 1 is a table of u32 string offsets: names of glibc-hwcaps
 *                      subdirectories
 *
 * Of the entries of one name the loader takes the one in the best
 * glibc-hwcaps subdirectory that this processor supports, else the plain one.
 * This does the same. The older "legacy hwcaps" entries, which glibc dropped
 * with 2.37, are passed over. The file before glibc 2.32 ("ld.so-1.7.0") is refused.
 *
 * Errors: TAO_EFORMAT. Every byte is taken for hostile. Any thread.
 */
#ifndef HOST_LDCACHE_H
#define HOST_LDCACHE_H

#include <stddef.h>
#include <stdint.h>

#include "../tao/err.h"

#define HWCAPS_MAX 4

/* What this processor supports, as glibc names it, best first. */
struct hwcaps {
	const char *name[HWCAPS_MAX];
	size_t n;
	unsigned level; /* highest instruction set level that an entry may ask for; 0: the base */
};
void hwcaps_here(struct hwcaps *h);

struct ldcache {
	const uint8_t *p; /* borrowed */
	size_t n;
	uint32_t entries;
	size_t hwcaps_at;  /* offset of the table of subdirectories */
	uint32_t hwcaps_n;
};

enum tao_err ldcache_parse(const void *p, size_t n, struct ldcache *c);
/* The path for the name, inside the bytes given to ldcache_parse; NULL if it is not listed. */
const char *ldcache_find(const struct ldcache *c, const char *name, const struct hwcaps *h);

#endif
