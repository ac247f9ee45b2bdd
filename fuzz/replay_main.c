/*
 * Runs a fuzz target without a fuzzer: every file named on the command line,
 * and every file of every directory named there, goes through
 * LLVMFuzzerTestOneInput() once. So corpora are replayed with any compiler and
 * sanitizer. Prints how many files it ran; exits with 1 if it ran none or one
 * could not be read.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (32u << 20) /* bytes of one input */
#define DEPTH_MAX 8          /* directories inside directories */

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Each input lies in memory of exactly its size, so that a sanitizer sees a read past its end. */
static int run_file(const char *path, size_t size)
{
	uint8_t *p = malloc(size > 0 ? size : 1);
	FILE *f = fopen(path, "rb");
	int done = 0;

	if (size > FILE_MAX || p == NULL || f == NULL || fread(p, 1, size, f) != size) {
		fprintf(stderr, "%s: cannot read it: %s\n", path,
		        size > FILE_MAX ? "too large" : strerror(errno));
		goto out;
	}
	LLVMFuzzerTestOneInput(p, size);
	done = 1;
out:
	if (f != NULL)
		fclose(f);
	free(p);
	return done;
}

static int run_path(const char *path, int depth, unsigned long *ran);

static int run_dir(const char *path, int depth, unsigned long *ran)
{
	struct dirent **names = NULL;
	int i, fine = 1, n = depth < DEPTH_MAX ? scandir(path, &names, NULL, alphasort) : -1;

	if (n < 0) {
		fprintf(stderr, "%s: cannot list it\n", path);
		return 0;
	}
	for (i = 0; i < n; i++) {
		char *full = NULL;

		if (names[i]->d_name[0] != '.') {
			if (asprintf(&full, "%s/%s", path, names[i]->d_name) < 0)
				abort();
			fine &= run_path(full, depth + 1, ran);
			free(full);
		}
		free(names[i]);
	}
	free(names);
	return fine;
}

static int run_path(const char *path, int depth, unsigned long *ran)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 0;
	}
	if (S_ISDIR(st.st_mode))
		return run_dir(path, depth, ran);
	if (!run_file(path, (size_t)st.st_size))
		return 0;
	(*ran)++;
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long ran = 0;
	int i, fine = 1;

	for (i = 1; i < argc; i++)
		fine &= run_path(argv[i], 0, &ran);
	printf("%lu inputs\n", ran);
	return fine && ran > 0 ? 0 : 1;
}
