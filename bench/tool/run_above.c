/*
 * run_above: starts a program many times, one after the other, and waits for each.
 *
 *   run_above [-n TIMES] COMMAND ARG...
 *
 * Prints the median of the milliseconds that one took, from fork to end. Exits with 1 if one
 * failed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMES_MAX 10000

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double once(char **cmd)
{
	double start = now_ms();
	int status;
	pid_t child = fork();

	if (child == 0) {
		execv(cmd[0], cmd);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
		return -1;
	return now_ms() - start;
}

int main(int argc, char **argv)
{
	static double took[TIMES_MAX];
	long n = 50;
	int c;

	while ((c = getopt(argc, argv, "+n:")) != -1)
		if (c == 'n')
			n = strtol(optarg, NULL, 10);
	if (optind == argc || n < 1 || n > TIMES_MAX) {
		fprintf(stderr, "usage: run_above [-n TIMES] COMMAND ARG...\n");
		return 2;
	}
	for (long i = 0; i < n; i++) {
		took[i] = once(argv + optind);
		if (took[i] < 0) {
			fprintf(stderr, "run_above: %s failed\n", argv[optind]);
			return 1;
		}
	}
	qsort(took, (size_t)n, sizeof took[0], compare);
	printf("%.4f\n", took[n / 2]);
	return 0;
}
