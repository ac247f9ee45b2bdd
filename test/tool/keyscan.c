/*
 * keyscan: looks for a sealed key's private scalar in the memory of
 * processes.
 *
 *   keyscan ROOT_KEY PASSPHRASE_FILE STUB CONTROL PID...
 *
 * The scalar comes from the stub, opened here with the soft root's keys: the
 * host is not asked. It is searched big-endian and in the order of limbs
 * (the least significant byte first). CONTROL is a text that the processes
 * do hold: a scan that does not find it would prove nothing.
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

		while ((at = memmem(at, (size_t)(end - at), needles[i].bytes, needles[i].n)) != NULL) {
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

static int scan_process(const char *pid, uint8_t *chunk, struct needle *needles, size_t n)
{
	char path[64], line[512];
	size_t seen = 0;
	FILE *maps;
	int mem, clean = 1;

	snprintf(path, sizeof path, "/proc/%s/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
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

		if (sscanf(line, "%lx-%lx r", &from, &to) == 2 && strstr(line, "[vvar") == NULL)
			seen += scan_range(mem, from, to, chunk, needles, n);
	}
	fclose(maps);
	close(mem);
	printf("process %s: %zu MB read", pid, seen >> 20);
	for (size_t i = 0; i < n; i++) {
		printf(", %s %lu times", needles[i].what, needles[i].found);
		clean &= i == n - 1 ? needles[i].found > 0 : needles[i].found == 0;
	}
	putchar('\n');
	return clean ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct needle needles[] = {
		{ .what = "private key (big-endian)", .n = SCALAR },
		{ .what = "private key (limbs)", .n = SCALAR },
		{ .what = "control" },
	};
	uint8_t *chunk = malloc(CHUNK);
	int worst = 0;

	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	if (argc < 6 || strlen(argv[4]) == 0 || strlen(argv[4]) > MAX_NEEDLE || chunk == NULL) {
		fprintf(stderr, "usage: keyscan ROOT_KEY PASSPHRASE_FILE STUB CONTROL PID...\n");
		return 2;
	}
	if (read_scalar(argv[1], argv[2], argv[3], needles[0].bytes) != TAO_OK)
		return fail(argv[3]);
	for (size_t i = 0; i < SCALAR; i++)
		needles[1].bytes[i] = needles[0].bytes[SCALAR - 1 - i];
	needles[2].n = strlen(argv[4]);
	memcpy(needles[2].bytes, argv[4], needles[2].n);
	for (int i = 5; i < argc; i++) {
		int status = scan_process(argv[i], chunk, needles, sizeof needles / sizeof needles[0]);

		worst = status > worst ? status : worst;
	}
	OPENSSL_cleanse(needles, sizeof needles);
	OPENSSL_cleanse(chunk, CHUNK);
	free(chunk);
	return worst;
}
