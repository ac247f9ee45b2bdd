/*
 * ping: requests and answers over an AF_UNIX stream, of a Tao host or of a process that only
 * echoes.
 *
 *   ping [-s SECONDS] [-d DEPTH] [-c CPU] host SOCKET    under `tao run`: Tao.GetRandomBytes of 32
 *                                                       bytes on an identified connection
 *   ping [-s SECONDS] [-d DEPTH] [-c CPU] bare           the same number of bytes, to and fro, with
 *                                                       a forked process
 *
 * DEPTH requests (1) are under way. With -c the bare peer is on that CPU, and this process too:
 * the host's worker goes to its caller's CPU as well. Prints requests per second.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tao/client.h"
#include "tao/rpc.h"

#define TIMEOUT_MS 10000
#define DEPTH_MAX 64
#define REQUEST 34 /* bytes, with both frames */
#define ANSWER 64
#define WARM_UP 200
#define LOOK_EVERY 64

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int all(int fd, uint8_t *p, size_t n, int out)
{
	while (n > 0) {
		ssize_t done = out ? send(fd, p, n, MSG_NOSIGNAL) : recv(fd, p, n, 0);

		if (done <= 0)
			return 0;
		p += done;
		n -= (size_t)done;
	}
	return 1;
}

/* Depth requests in one piece, then as many answers. */
static int turn(int fd, uint8_t *rq, long depth)
{
	uint8_t answers[DEPTH_MAX * ANSWER];

	return all(fd, rq, (size_t)depth * REQUEST, 1) && all(fd, answers, (size_t)depth * ANSWER,
	                                                      0);
}

static double rate(int fd, uint8_t *rq, long depth, double seconds)
{
	double start;
	long n = 0;

	for (int i = 0; i < WARM_UP; i++)
		if (!turn(fd, rq, depth))
			return 0;
	start = now();
	do {
		for (int i = 0; i < LOOK_EVERY; i++, n += depth)
			if (!turn(fd, rq, depth))
				return 0;
	} while (now() - start < seconds);
	return (double)n / (now() - start);
}

static void echo(int fd)
{
	uint8_t in[DEPTH_MAX * REQUEST], out[DEPTH_MAX * ANSWER] = { 0 };
	size_t have = 0;
	ssize_t n;

	while ((n = recv(fd, in, sizeof in, 0)) > 0) {
		size_t whole = (have + (size_t)n) / REQUEST;

		have = (have + (size_t)n) % REQUEST;
		if (whole > 0 && !all(fd, out, whole * ANSWER, 1))
			break;
	}
	_exit(0);
}

static int bare_peer(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return -1;
	if (fork() == 0) {
		close(pair[0]);
		echo(pair[1]);
	}
	close(pair[1]);
	return pair[0];
}

static int host_peer(const char *path, struct tao_conn *c)
{
	tao_conn_init(c);
	if (tao_conn_open(c, path, TIMEOUT_MS) == TAO_OK &&
	    tao_conn_identify(c, TIMEOUT_MS, NULL) == TAO_OK)
		return c->fd;
	fprintf(stderr, "ping: %s\n", tao_why());
	return -1;
}

static void stay_on(long cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set) != 0)
		perror("ping: sched_setaffinity");
}

int main(int argc, char **argv)
{
	static const uint8_t size32[] = { 0x10, 0x20 };
	struct tao_buf rq = TAO_BUF_INIT;
	struct tao_conn conn;
	double seconds = 1, r;
	long depth = 1, cpu = -1;
	int c, fd = -1;

	while ((c = getopt(argc, argv, "s:d:c:")) != -1) {
		if (c == 's')
			seconds = strtod(optarg, NULL);
		else if (c == 'd')
			depth = strtol(optarg, NULL, 10);
		else if (c == 'c')
			cpu = strtol(optarg, NULL, 10);
	}
	if (cpu >= 0)
		stay_on(cpu);
	if (argc - optind == 2 && strcmp(argv[optind], "host") == 0)
		fd = host_peer(argv[optind + 1], &conn);
	else if (argc - optind == 1 && strcmp(argv[optind], "bare") == 0)
		fd = bare_peer();
	for (long i = 0; i < depth && depth <= DEPTH_MAX; i++)
		tao_rpc_put_request(&rq, "Tao.GetRandomBytes", 7, size32, sizeof size32);
	if (fd < 0 || rq.n != (size_t)depth * REQUEST) {
		fprintf(stderr, "usage: ping [-s SECONDS] [-d DEPTH] [-c CPU] bare | host SOCKET\n");
		return 1;
	}
	r = rate(fd, rq.p, depth, seconds);
	close(fd);
	tao_buf_free(&rq);
	if (r <= 0)
		return 1;
	printf("%.1f\n", r);
	return 0;
}
