/*
 * keyuse: uses a private key from many processes and threads at once.
 *
 *   keyuse KEY PROCESSES THREADS SIGNATURES [PATIENCE]
 *
 * KEY is a URI or a file, loaded once, before the first fork. Each process is
 * a child of the one before (so that parents live while children sign), which
 * signs before and after it forks. Each thread makes that many signatures, by
 * turns in one step and in several with a copied context, and verifies each
 * with the public key. Prints the signatures per second of the first process
 * and exits with 1 if anything failed in any process; the error queue goes to
 * standard error. With PATIENCE, a signature that fails is tried again for so
 * many seconds, and "tried again" is printed by each process where that was needed.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/store.h>

#define SIG_MAX 256
#define THREADS_MAX 256
#define TRY_AGAIN_US 20000

struct job {
	EVP_PKEY *key;
	long n;
	int patience, again;
	int good;
};

static EVP_PKEY *load(const char *uri)
{
	OSSL_STORE_CTX *s = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	EVP_PKEY *key = NULL;

	if (s != NULL)
		OSSL_STORE_expect(s, OSSL_STORE_INFO_PKEY);
	while (s != NULL && key == NULL && !OSSL_STORE_eof(s)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(s);

		if (info != NULL)
			key = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(s);
	return key;
}

static int sign_at_once(EVP_MD_CTX *c, const char *text, uint8_t *sig, size_t *sig_n)
{
	return EVP_DigestSign(c, sig, sig_n, (const uint8_t *)text, strlen(text)) == 1;
}

static int sign_in_steps(EVP_MD_CTX *c, const char *text, uint8_t *sig, size_t *sig_n)
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	size_t half = strlen(text) / 2;
	int good = copy != NULL && EVP_DigestSignUpdate(c, text, half) == 1 &&
	           EVP_MD_CTX_copy_ex(copy, c) == 1 &&
	           EVP_DigestSignUpdate(copy, text + half, strlen(text) - half) == 1 &&
	           EVP_DigestSignFinal(copy, sig, sig_n) == 1;

	EVP_MD_CTX_free(copy);
	return good;
}

static int sign_and_verify(EVP_PKEY *key, long i)
{
	EVP_MD_CTX *s = EVP_MD_CTX_new(), *v = EVP_MD_CTX_new();
	uint8_t sig[SIG_MAX];
	size_t sig_n = sizeof sig;
	char text[64];
	int good;

	snprintf(text, sizeof text, "message %ld of process %ld", i, (long)getpid());
	good = EVP_DigestSignInit(s, NULL, EVP_sha256(), NULL, key) == 1 &&
	       (i % 2 ? sign_in_steps : sign_at_once)(s, text, sig, &sig_n) &&
	       EVP_DigestVerifyInit(v, NULL, EVP_sha256(), NULL, key) == 1 &&
	       EVP_DigestVerify(v, sig, sig_n, (uint8_t *)text, strlen(text)) == 1;
	EVP_MD_CTX_free(s);
	EVP_MD_CTX_free(v);
	return good && ERR_peek_error() == 0; /* success leaves no error behind */
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int sign_with_patience(struct job *j, long i)
{
	double end = now() + j->patience;
	int good = sign_and_verify(j->key, i);

	while (!good && now() < end) {
		j->again = 1;
		ERR_clear_error();
		usleep(TRY_AGAIN_US);
		good = sign_and_verify(j->key, i);
	}
	return good;
}

static void *work(void *arg)
{
	struct job *j = arg;

	for (long i = 0; j->good && i < j->n; i++)
		j->good = sign_with_patience(j, i);
	if (!j->good)
		ERR_print_errors_fp(stderr);
	return NULL;
}

static int work_in_threads(EVP_PKEY *key, int threads, long n, int patience)
{
	pthread_t id[THREADS_MAX];
	struct job job[THREADS_MAX];
	int good = 1, again = 0;

	for (int i = 0; i < threads; i++) {
		job[i] = (struct job){ key, n, patience, 0, 1 };
		if (pthread_create(&id[i], NULL, work, &job[i]) != 0)
			exit(2);
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(id[i], NULL);
		good = good && job[i].good;
		again = again || job[i].again;
	}
	if (again) {
		puts("tried again");
		fflush(stdout);
	}
	return good;
}

static int work_in_processes(EVP_PKEY *key, int processes, int threads, long n, int patience)
{
	int status, good = work_in_threads(key, 1, 2, patience);
	pid_t child = 0;

	if (processes > 1) {
		child = fork();
		if (child < 0)
			return 0;
		if (child == 0)
			exit(work_in_processes(key, processes - 1, threads, n, patience) ? 0 : 1);
	}
	good = work_in_threads(key, threads, n, patience) && good;
	if (child > 0)
		good = waitpid(child, &status, 0) == child && status == 0 && good;
	return work_in_threads(key, 1, 2, patience) && good;
}

int main(int argc, char **argv)
{
	EVP_PKEY *key = argc == 5 || argc == 6 ? load(argv[1]) : NULL;
	int processes, threads, good;
	double start;
	long n;

	if (key == NULL) {
		fprintf(stderr, "usage: keyuse KEY PROCESSES THREADS SIGNATURES [PATIENCE]\n");
		ERR_print_errors_fp(stderr);
		return 2;
	}
	processes = atoi(argv[2]);
	threads = atoi(argv[3]);
	n = atol(argv[4]);
	if (threads < 1 || threads > THREADS_MAX)
		return 2;
	start = now();
	good = work_in_processes(key, processes, threads, n, argc == 6 ? atoi(argv[5]) : 0);
	if (good)
		printf("%.0f\n", (double)(threads * n) / (now() - start));
	EVP_PKEY_free(key);
	return !good;
}
