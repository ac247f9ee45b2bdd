/*
 * sign_loop: makes signatures as fast as it can.
 *
 *   sign_loop [-s SECONDS | -n COUNT] [-j THREADS] KEY
 *
 * KEY is what OSSL_STORE loads: a PEM file or a URI. Each signature is one
 * EVP_DigestSign over 32 bytes, with SHA-256 unless the key is for Ed25519, in an
 * EVP_MD_CTX of its own. Some
 * are made and verified before the clock starts; each thread then works for
 * that time (1 second), or makes that many. Prints the signatures per second
 * of all threads. Exits with 1, the error queue on standard error, if anything
 * failed.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/store.h>

#define MESSAGE 32
#define WARM_UP 100   /* signatures before the clock starts */
#define LOOK_EVERY 16 /* signatures between looks at the clock */
#define SIGNATURE_MAX 512
#define THREADS_MAX 64

struct job {
	EVP_PKEY *key;
	double seconds;
	long count; /* 0: by the clock */
	long done;
	double start, end;
	int good;
	pthread_barrier_t *ready;
	pthread_t thread;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static EVP_PKEY *load(const char *uri)
{
	OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	EVP_PKEY *key = NULL;

	if (store != NULL && OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY)) {
		while (key == NULL && !OSSL_STORE_eof(store)) {
			OSSL_STORE_INFO *info = OSSL_STORE_load(store);

			key = info != NULL ? OSSL_STORE_INFO_get1_PKEY(info) : NULL;
			OSSL_STORE_INFO_free(info);
		}
	}
	OSSL_STORE_close(store);
	return key;
}

static const char *digest(EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "ED25519") ? NULL : "SHA256";
}

static int sign(EVP_PKEY *key, const uint8_t message[MESSAGE], uint8_t *sig, size_t *n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int good;

	*n = SIGNATURE_MAX;
	good = ctx != NULL && EVP_DigestSignInit_ex(ctx, NULL, digest(key), NULL, NULL, key, NULL) == 1 &&
	       EVP_DigestSign(ctx, sig, n, message, MESSAGE) == 1;
	EVP_MD_CTX_free(ctx);
	return good;
}

static int verify(EVP_PKEY *key, const uint8_t message[MESSAGE], const uint8_t *sig, size_t n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int good = ctx != NULL &&
	           EVP_DigestVerifyInit_ex(ctx, NULL, digest(key), NULL, NULL, key, NULL) == 1 &&
	           EVP_DigestVerify(ctx, sig, n, message, MESSAGE) == 1;

	EVP_MD_CTX_free(ctx);
	return good;
}

static int warm_up(EVP_PKEY *key)
{
	uint8_t message[MESSAGE] = { 0 }, sig[SIGNATURE_MAX];
	size_t n;
	int good = 1;

	for (int i = 0; good && i < WARM_UP; i++) {
		message[0] = (uint8_t)i;
		good = sign(key, message, sig, &n) && verify(key, message, sig, n);
	}
	return good;
}

static int over(const struct job *j)
{
	if (j->count > 0)
		return j->done >= j->count;
	return j->done % LOOK_EVERY == 0 && now() - j->start >= j->seconds;
}

static void *work(void *arg)
{
	struct job *j = arg;
	uint8_t message[MESSAGE] = { 0 }, sig[SIGNATURE_MAX];
	size_t n;

	j->good = warm_up(j->key);
	pthread_barrier_wait(j->ready);
	j->start = now();
	while (j->good && !over(j)) {
		j->good = sign(j->key, message, sig, &n);
		j->done++;
	}
	j->end = now();
	if (!j->good)
		ERR_print_errors_fp(stderr);
	return NULL;
}

/* Their rates added up, or 0 if a signature failed. */
static double rate(struct job *jobs, long n)
{
	double sum = 0;
	int good = 1;

	for (long i = 0; i < n; i++) {
		pthread_join(jobs[i].thread, NULL);
		good = good && jobs[i].good;
		sum += (double)jobs[i].done / (jobs[i].end - jobs[i].start);
	}
	return good ? sum : 0;
}

static int run(const struct job *like, long threads)
{
	struct job jobs[THREADS_MAX];
	pthread_barrier_t ready;
	double r;

	pthread_barrier_init(&ready, NULL, (unsigned)threads);
	for (long i = 0; i < threads; i++) {
		jobs[i] = *like;
		jobs[i].ready = &ready;
		if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) != 0) {
			fprintf(stderr, "sign_loop: cannot start a thread\n");
			exit(1);
		}
	}
	r = rate(jobs, threads);
	pthread_barrier_destroy(&ready);
	if (r > 0)
		printf("%.1f\n", r);
	return r > 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: sign_loop [-s SECONDS | -n COUNT] [-j THREADS] KEY\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct job job = { .seconds = 1 };
	long threads = 1;
	int c, good;

	while ((c = getopt(argc, argv, "s:n:j:")) != -1) {
		if (c == 's')
			job.seconds = strtod(optarg, NULL);
		else if (c == 'n')
			job.count = strtol(optarg, NULL, 10);
		else if (c == 'j')
			threads = strtol(optarg, NULL, 10);
		else
			return usage();
	}
	if (argc - optind != 1 || threads < 1 || threads > THREADS_MAX)
		return usage();
	job.key = load(argv[optind]);
	if (job.key == NULL) {
		ERR_print_errors_fp(stderr);
		fprintf(stderr, "sign_loop: no private key in %s\n", argv[optind]);
		return 1;
	}
	good = run(&job, threads);
	EVP_PKEY_free(job.key);
	return !good;
}
