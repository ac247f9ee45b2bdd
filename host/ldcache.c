#include "ldcache.h"

#include <string.h>

#include "../tao/buf.h"

#if defined(__x86_64__)
#include <sys/platform/x86.h>
#define ENTRY_FLAGS 0x0303 /* ELF for glibc, x86-64 */
#elif defined(__aarch64__)
#define ENTRY_FLAGS 0x0a03
#endif

#define MAGIC "glibc-ld.so.cache1.1"
#define MAGIC_LEN 20
#define HEADER_LEN 48
#define ENTRY_LEN 24
#define EXT_MAGIC 0xeaa42174u
#define EXT_HEADER_LEN 16
#define EXT_MAX 64 /* extensions that are looked at */
#define EXT_TAG_HWCAPS 1

#define HWCAP_EXTENSION (1u << 30) /* of hwcap's upper half: the lower half is a table index */
#define HWCAP_LEVEL 0x3ffu         /* of hwcap's upper half: instruction set level */

struct entry {
	uint32_t flags, key, value;
	uint32_t hwcap_low, hwcap_high;
};

static uint32_t le32(struct tao_rd *r)
{
	const uint8_t *p = tao_rd_bytes(r, 4);

	return p == NULL ? 0
	       : (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

#if defined(__x86_64__)
/* CPU_FEATURE_ACTIVE of <sys/platform/x86.h>, which shifts a signed 1 by 31. */
static int active(unsigned index)
{
	const struct cpuid_feature *leaf = __x86_get_cpuid_feature_leaf(index / 128);

	return (leaf->active_array[index % 128 / 32] & 1u << index % 32) != 0;
}

#define ACTIVE(name) active(x86_cpu_##name)

/* The conditions are the psABI's levels, asked as glibc asks them. */
void hwcaps_here(struct hwcaps *h)
{
	static const char *const names[] = { "x86-64-v4", "x86-64-v3", "x86-64-v2" };

	*h = (struct hwcaps){ 0 };
	if (ACTIVE(CMPXCHG16B) && ACTIVE(LAHF64_SAHF64) && ACTIVE(POPCNT) && ACTIVE(SSE3) &&
	    ACTIVE(SSSE3) && ACTIVE(SSE4_1) && ACTIVE(SSE4_2))
		h->level = 1;
	if (h->level == 1 && ACTIVE(AVX) && ACTIVE(AVX2) && ACTIVE(BMI1) && ACTIVE(BMI2) &&
	    ACTIVE(F16C) && ACTIVE(FMA) && ACTIVE(LZCNT) && ACTIVE(MOVBE))
		h->level = 2;
	if (h->level == 2 && ACTIVE(AVX512F) && ACTIVE(AVX512BW) && ACTIVE(AVX512CD) &&
	    ACTIVE(AVX512DQ) && ACTIVE(AVX512VL))
		h->level = 3;
	for (unsigned i = 3 - h->level; i < 3; i++)
		h->name[h->n++] = names[i];
}
#else
void hwcaps_here(struct hwcaps *h)
{
	*h = (struct hwcaps){ 0 };
}
#endif

/* A string that ends inside the file; NULL if it does not. */
static const char *string_at(const struct ldcache *c, uint32_t offset)
{
	if (offset >= c->n || memchr(c->p + offset, 0, c->n - offset) == NULL)
		return NULL;
	return (const char *)c->p + offset;
}

static void find_hwcaps(struct ldcache *c, uint32_t at)
{
	struct tao_rd r = tao_rd_of(c->p + at, c->n - at);
	uint32_t magic = le32(&r), count = le32(&r);

	if (magic != EXT_MAGIC)
		return;
	for (uint32_t i = 0; i < count && i < EXT_MAX && !r.bad; i++) {
		uint32_t tag = le32(&r);
		uint32_t offset, size;

		le32(&r); /* flags */
		offset = le32(&r);
		size = le32(&r);
		if (r.bad || tag != EXT_TAG_HWCAPS || offset > c->n || size > c->n - offset)
			continue;
		c->hwcaps_at = offset;
		c->hwcaps_n = size / 4;
	}
}

enum tao_err ldcache_parse(const void *p, size_t n, struct ldcache *c)
{
	struct tao_rd r = tao_rd_of(p, n);
	const uint8_t *magic = tao_rd_bytes(&r, MAGIC_LEN);
	uint32_t entries = le32(&r), at;
	uint8_t flags;

	*c = (struct ldcache){ .p = p, .n = n };
	le32(&r); /* length of the strings: the file's end is what bounds them */
	flags = tao_rd_u8(&r);
	tao_rd_bytes(&r, 3);
	at = le32(&r);
	tao_rd_bytes(&r, 12);
	if (r.bad || memcmp(magic, MAGIC, MAGIC_LEN) != 0 || (flags & 3) % 2 != 0 ||
	    entries > r.n / ENTRY_LEN || at > n)
		return tao_fail(TAO_EFORMAT, "/etc/ld.so.cache is damaged or of another kind than "
		                "glibc's 1.1: run 'ldconfig'");
	c->entries = entries;
	if (at > 0)
		find_hwcaps(c, at);
	return TAO_OK;
}

static void entry_at(const struct ldcache *c, uint32_t i, struct entry *e)
{
	struct tao_rd r = tao_rd_of(c->p + HEADER_LEN + (size_t)i * ENTRY_LEN, ENTRY_LEN);

	e->flags = le32(&r);
	e->key = le32(&r);
	e->value = le32(&r);
	le32(&r);
	e->hwcap_low = le32(&r);
	e->hwcap_high = le32(&r);
}

static uint32_t number(const char **s)
{
	uint32_t v = 0;

	for (; **s >= '0' && **s <= '9'; (*s)++)
		v = v * 10 + (uint32_t)(**s - '0'); /* wraps as the loader's does */
	return v;
}

static int digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The order of the cache: digits compare as numbers. */
static int compare(const char *a, const char *b)
{
	while (*a != 0) {
		if (digit(*a) && digit(*b)) {
			int32_t diff = (int32_t)(number(&a) - number(&b));

			if (diff != 0)
				return diff;
		} else if (digit(*a) || digit(*b)) {
			return digit(*a) ? 1 : -1;
		} else if (*a != *b) {
			return (signed char)*a - (signed char)*b;
		} else {
			a++;
			b++;
		}
	}
	return (signed char)*a - (signed char)*b;
}

/* 1 is best; 0: this processor cannot use it. */
static size_t priority(const struct ldcache *c, const struct entry *e, const struct hwcaps *h)
{
	struct tao_rd r;
	const char *name;

	if (e->hwcap_low >= c->hwcaps_n || (e->hwcap_high & HWCAP_LEVEL) > h->level)
		return 0;
	r = tao_rd_of(c->p + c->hwcaps_at + (size_t)e->hwcap_low * 4, 4);
	name = string_at(c, le32(&r));
	for (size_t i = 0; name != NULL && i < h->n; i++)
		if (strcmp(name, h->name[i]) == 0)
			return i + 1;
	return 0;
}

/* The index of the first entry of that name; c->entries if there is none. */
static uint32_t first_of(const struct ldcache *c, const char *name)
{
	uint32_t low = 0, high = c->entries;

	/* Sorted downwards: the first entry that is not above the name. */
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		struct entry e;
		const char *key;

		entry_at(c, mid, &e);
		key = string_at(c, e.key);
		if (key == NULL)
			return c->entries;
		if (compare(name, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const char *ldcache_find(const struct ldcache *c, const char *name, const struct hwcaps *h)
{
	const char *best = NULL;
	size_t best_priority = SIZE_MAX;

	for (uint32_t i = first_of(c, name); i < c->entries; i++) {
		struct entry e;
		const char *key, *path;
		int extended;

		entry_at(c, i, &e);
		key = string_at(c, e.key);
		path = string_at(c, e.value);
		if (key == NULL || compare(name, key) != 0)
			break;
		if (e.flags != ENTRY_FLAGS || path == NULL)
			continue;
		extended = (e.hwcap_high & ~HWCAP_LEVEL) == HWCAP_EXTENSION;
		if (extended && priority(c, &e, h) != 0 && priority(c, &e, h) < best_priority) {
			best = path;
			best_priority = priority(c, &e, h);
		} else if (!extended && best != NULL) {
			break;
		} else if (!extended && (e.hwcap_low | e.hwcap_high) == 0) {
			return path;
		}
	}
	return best;
}
