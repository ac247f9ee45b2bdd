/*
 * keyscan: looks for a sealed key's private scalar in the memory of
 * processes.
 *
 *   keyscan ROOT_KEY PASSPHRASE_FILE STUB CONTROL PID...
 *   keyscan KEYSET PASSPHRASE_FILE - CONTROL PID...
 *   keyscan FILE - - CONTROL PID...
 *
 * The second form looks for what a keyset file (the root's, the domain's) holds: the scalar of
 * its signing key, its deriving key, and its passphrase. The third looks for a key that is not
 * sealed, in a PEM file.
 *
 * The scalar comes from the stub, opened here with the soft root's keys: the
 * host is not asked. It is searched big-endian and in the order of limbs
 * (the least significant byte first). CONTROL is a text that the processes
 * do hold: a scan that does not find it would prove nothing.
 *
 * Private pages that the process never touched are left out: they have nothing in them.
 *
 * Prints one line a process. Exit status: 0 if no process holds the scalar
 * and every one holds the control, 1 if not, 2 if it could not look.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "readkey.h"

#define CHUNK (4u << 20)
#define MAX_NEEDLE 256
#define MAX_NEEDLES 5
#define PAGES 512            /* entries of pagemap read at once */
#define IN_USE (3ull << 62)  /* in memory, or in swap (proc_pid_pagemap(5)) */

struct needle {
	const char *what;
	uint8_t bytes[MAX_NEEDLE];
	size_t n;
	unsigned long found;
};

static int fail(const char *what)
{
	fprintf(stderr, "keyscan: %s: %s\n", what, tao_why());
	return 2;
}

static void search(struct needle *needles, size_t n, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < n; i++) {
		const uint8_t *at = p, *end = p + len;

		while ((at = memmem(at, (size_t)(end - at), needles[i].bytes,
		                    needles[i].n)) != NULL) {
			needles[i].found++;
			at++;
		}
	}
}

/* One mapping, in chunks that overlap by a needle's length. */
static size_t scan_range(int mem, unsigned long from, unsigned long to, uint8_t *chunk,
                         struct needle *needles, size_t n)
{
	size_t seen = 0;

	while (from < to) {
		size_t want = to - from < CHUNK ? to - from : CHUNK;
		ssize_t got = pread(mem, chunk, want, (off_t)from);

		if (got <= 0)
			break;
		search(needles, n, chunk, (size_t)got);
		seen += (size_t)got;
		if ((size_t)got < want || want < CHUNK)
			break;
		from += want - MAX_NEEDLE;
	}
	return seen;
}

/* The runs of pages in use; all of them where that is not to be known. */
static size_t scan_used(int mem, int pagemap, unsigned long from, unsigned long to, uint8_t *chunk,
                        struct needle *needles, size_t n)
{
	unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE), start = from;
	uint64_t flags[PAGES];
	size_t seen = 0;

	for (unsigned long at = from; at < to; at += page) {
		size_t i = (at - from) / page % PAGES;

		if (i == 0 && pread(pagemap, flags, sizeof flags, (off_t)(at / page * sizeof *flags)) <= 0)
			return seen + scan_range(mem, start, to, chunk, needles, n);
		if ((flags[i] & IN_USE) != 0)
			continue;
		if (start < at)
			seen += scan_range(mem, start, at, chunk, needles, n);
		start = at + page;
	}
	return start < to ? seen + scan_range(mem, start, to, chunk, needles, n) : seen;
}

static int scan_process(const char *pid, uint8_t *chunk, struct needle *needles, size_t n)
{
	char path[64], line[512];
	size_t seen = 0;
	FILE *maps;
	int mem, pagemap, clean = 1;

	snprintf(path, sizeof path, "/proc/%s/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/%s/pagemap", pid);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/%s/maps", pid);
	maps = fopen(path, "re");
	if (mem < 0 || maps == NULL) {
		fprintf(stderr, "keyscan: process %s cannot be read\n", pid);
		return 2;
	}
	for (size_t i = 0; i < n; i++)
		needles[i].found = 0;
	while (fgets(line, sizeof line, maps) != NULL) {
		unsigned long from, to;
		char shared;

		if (sscanf(line, "%lx-%lx r%*c%*c%c", &from, &to, &shared) == 3 &&
		    strstr(line, "[vvar") == NULL)
			seen += shared == 's' ? scan_range(mem, from, to, chunk, needles, n)
			                      : scan_used(mem, pagemap, from, to, chunk, needles,
			                                  n);
	}
	fclose(maps);
	close(mem);
	close(pagemap);
	printf("process %s: %zu MB read", pid, seen >> 20);
	for (size_t i = 0; i < n; i++) {
		printf(", %s %lu times", needles[i].what, needles[i].found);
		clean &= i == n - 1 ? needles[i].found > 0 : needles[i].found == 0;
	}
	putchar('\n');
	return clean ? 0 : 1;
}

static void add(struct needle *needles, size_t *n, const char *what, const void *bytes, size_t len)
{
	needles[*n].what = what;
	needles[*n].n = len;
	memcpy(needles[(*n)++].bytes, bytes, len);
}

static void add_scalar(struct needle *needles, size_t *n, const uint8_t scalar[SCALAR])
{
	uint8_t limbs[SCALAR];

	for (size_t i = 0; i < SCALAR; i++)
		limbs[i] = scalar[SCALAR - 1 - i];
	add(needles, n, "private key (big-endian)", scalar, SCALAR);
	add(needles, n, "private key (limbs)", limbs, SCALAR);
	OPENSSL_cleanse(limbs, SCALAR);
}

static enum tao_err find_needles(char **argv, struct needle *needles, size_t *n)
{
	uint8_t scalar[SCALAR];
	struct keyset_secrets s;
	enum tao_err e;

	if (strcmp(argv[2], "-") == 0 || strcmp(argv[3], "-") != 0) {
		e = strcmp(argv[2], "-") == 0 ? read_plain(argv[1], scalar)
		                              : read_scalar(argv[1], argv[2], argv[3], scalar);
		if (e == TAO_OK)
			add_scalar(needles, n, scalar);
		OPENSSL_cleanse(scalar, sizeof scalar);
		return e;
	}
	e = read_keyset(argv[1], argv[2], &s);
	if (e == TAO_OK) {
		add_scalar(needles, n, s.scalar);
		add(needles, n, "deriving key", s.deriver, sizeof s.deriver);
		if (s.pass.n <= MAX_NEEDLE)
			add(needles, n, "passphrase", s.pass.p, s.pass.n);
	}
	tao_buf_free(&s.pass);
	OPENSSL_cleanse(&s, sizeof s);
	return e;
}

int main(int argc, char **argv)
{
	struct needle needles[MAX_NEEDLES] = { { 0 } };
	size_t n = 0;
	uint8_t *chunk = malloc(CHUNK);
	int worst = 0;

	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	if (argc < 6 || strlen(argv[4]) == 0 || strlen(argv[4]) > MAX_NEEDLE || chunk == NULL) {
		fprintf(stderr, "usage: keyscan ROOT_KEY PASSPHRASE_FILE STUB CONTROL PID...\n");
		return 2;
	}
	if (find_needles(argv, needles, &n) != TAO_OK)
		return fail(argv[1]);
	add(needles, &n, "control", argv[4], strlen(argv[4]));
	for (int i = 5; i < argc; i++) {
		int status = scan_process(argv[i], chunk, needles, n);

		worst = status > worst ? status : worst;
	}
	OPENSSL_cleanse(needles, sizeof needles);
	OPENSSL_cleanse(chunk, CHUNK);
	free(chunk);
	return worst;
}
