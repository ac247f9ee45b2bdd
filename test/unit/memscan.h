/* Looks for secrets in the writable memory of this process; what is looked
 * for is kept in complement. Not for sanitizers: their own memory is too large
 * to scan (SANITIZED). */
#ifndef TEST_MEMSCAN_H
#define TEST_MEMSCAN_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LEN 32 /* bytes of what is looked for */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static size_t count(const uint8_t *p, size_t n, const uint8_t not_it[LEN])
{
	size_t found = 0;

	/* The second half: malloc overwrites the beginning of what is freed. */
	for (size_t i = 0; i + LEN / 2 <= n; i++) {
		size_t k = 0;

		while (k < LEN / 2 && (p[i + k] ^ not_it[LEN / 2 + k]) == 0xff)
			k++;
		found += k == LEN / 2;
	}
	return found;
}

static size_t in_region(int mem, unsigned long from, unsigned long to, const uint8_t not_it[LEN])
{
	static uint8_t copy[1 << 16]; /* of the region itself when it is in .bss: harmless */
	size_t found = 0;

	for (unsigned long at = from; at < to; at += sizeof copy - LEN) {
		size_t n = to - at < sizeof copy ? to - at : sizeof copy;
		ssize_t got = pread(mem, copy, n, (off_t)at);

		if (got > 0)
			found += count(copy, (size_t)got, not_it);
		memset(copy, 0, sizeof copy);
	}
	return found;
}

static size_t in_memory(const uint8_t not_it[LEN])
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	size_t found = 0;
	char line[512], mode[8];
	unsigned long from, to;

	while (maps != NULL && mem >= 0 && fgets(line, sizeof line, maps) != NULL) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[0] == 'r' &&
		    mode[1] == 'w')
			found += in_region(mem, from, to, not_it);
	}
	if (maps != NULL)
		fclose(maps);
	close(mem);
	return found;
}

static void complement(uint8_t out[LEN], const uint8_t *in)
{
	for (size_t i = 0; i < LEN; i++)
		out[i] = (uint8_t)~in[i];
}

#endif
