/*
 * tls_client: does full TLS 1.3 handshakes with a server of this machine.
 *
 *   tls_client [-aik] [-c FILE] [-s SECONDS] [-j THREADS] PORT
 *
 * Each thread connects to 127.0.0.1, does the handshake, reads the server's
 * first byte, closes, and begins again, until that time (1 second) is over.
 * With -a it asks for a page before that: some servers wait to be asked.
 * With -c it shows the certificate in that file, which has its key as well.
 * With -k each handshake has to be by a pre-shared key, which tao_tls.so gives; without it none
 * may be, nor a resumption.
 * With -i it does all that for each line of standard input, and prints also how many handshakes
 * there were, with those that are not in the rate.
 * It verifies the handshake's own signature, not the certificate's chain.
 * Prints the handshakes per second of all threads. Exits with 1, the error
 * queue on standard error, if a handshake failed or was not as it has to be.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define THREADS_MAX 64

struct job {
	SSL_CTX *ctx;
	struct sockaddr_in to;
	double seconds;
	int ask, psk;
	long done;
	double start, end;
	int good;
	pthread_t thread;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int connect_to(const struct sockaddr_in *to)
{
	/* Closing with a reset leaves no port waiting: there are only so many. */
	struct linger reset = { 1, 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) == 0)
		return fd;
	perror("tls_client: connect");
	close(fd);
	return -1;
}

static int first_byte(SSL *ssl, int ask)
{
	static const char request[] = "GET / HTTP/1.0\r\n\r\n";
	char byte;

	return (!ask || SSL_write(ssl, request, sizeof request - 1) > 0) &&
	       SSL_read(ssl, &byte, 1) == 1;
}

static int handshake(const struct job *j)
{
	int fd = connect_to(&j->to);
	SSL *ssl = fd >= 0 ? SSL_new(j->ctx) : NULL;
	int good = ssl != NULL && SSL_set_fd(ssl, fd) &&
	           SSL_set_tlsext_host_name(ssl, "localhost") && SSL_connect(ssl) == 1 &&
	           first_byte(ssl, j->ask) && SSL_session_reused(ssl) == j->psk;

	SSL_free(ssl);
	if (fd >= 0)
		close(fd);
	return good;
}

static void *work(void *arg)
{
	struct job *j = arg;

	j->good = handshake(j); /* not counted */
	j->start = now();
	while (j->good && now() - j->start < j->seconds) {
		j->good = handshake(j);
		j->done++;
	}
	j->end = now();
	if (!j->good)
		ERR_print_errors_fp(stderr);
	return NULL;
}

static SSL_CTX *make_ctx(const char *cert)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL ||
	    (cert != NULL && (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	                      SSL_CTX_use_PrivateKey_file(ctx, cert, SSL_FILETYPE_PEM) != 1))) {
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	return ctx;
}

static int run(const struct job *like, long threads, int count)
{
	struct job jobs[THREADS_MAX];
	double sum = 0;
	long all = 0;
	int good = 1;

	for (long i = 0; i < threads; i++) {
		jobs[i] = *like;
		if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) != 0) {
			fprintf(stderr, "tls_client: cannot start a thread\n");
			exit(1);
		}
	}
	for (long i = 0; i < threads; i++) {
		pthread_join(jobs[i].thread, NULL);
		good = good && jobs[i].good;
		sum += (double)jobs[i].done / (jobs[i].end - jobs[i].start);
		all += jobs[i].done + 1;
	}
	if (good && count)
		printf("%.1f %ld\n", sum, all);
	else if (good)
		printf("%.1f\n", sum);
	fflush(stdout);
	return good;
}

static int run_each(const struct job *like, long threads)
{
	char line[16];
	int good = 1;

	while (good && fgets(line, sizeof line, stdin) != NULL)
		good = run(like, threads, 1);
	return good;
}

static int usage(void)
{
	fprintf(stderr, "usage: tls_client [-aik] [-c FILE] [-s SECONDS] [-j THREADS] PORT\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct job job = { .seconds = 1, .to = { .sin_family = AF_INET } };
	const char *cert = NULL;
	long threads = 1;
	int c, good, each = 0;

	while ((c = getopt(argc, argv, "aic:ks:j:")) != -1) {
		if (c == 'a')
			job.ask = 1;
		else if (c == 'c')
			cert = optarg;
		else if (c == 'i')
			each = 1;
		else if (c == 'k')
			job.psk = 1;
		else if (c == 's')
			job.seconds = strtod(optarg, NULL);
		else if (c == 'j')
			threads = strtol(optarg, NULL, 10);
		else
			return usage();
	}
	if (argc - optind != 1 || threads < 1 || threads > THREADS_MAX)
		return usage();
	job.to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	job.to.sin_port = htons((uint16_t)strtoul(argv[optind], NULL, 10));
	job.ctx = make_ctx(cert);
	good = each ? run_each(&job, threads) : run(&job, threads, 0);
	SSL_CTX_free(job.ctx);
	return !good;
}
