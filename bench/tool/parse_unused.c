/*
 * parse_unused: a program that reads certificates, and has no use for the Tao.
 *
 *   parse_unused FILE COUNT
 *
 * Reads the certificate in PEM file FILE COUNT times from its DER, with its
 * public key, as both sides of a TLS handshake do, and prints how many
 * microseconds one took. Exits with 1 if that failed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int parse(const unsigned char *der, int n)
{
	X509 *x = d2i_X509(NULL, &der, n);
	int good = x != NULL && X509_get0_pubkey(x) != NULL;

	X509_free(x);
	return good;
}

int main(int argc, char **argv)
{
	FILE *f = argc == 3 ? fopen(argv[1], "r") : NULL;
	X509 *x = f != NULL ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	int i, n, count = argc == 3 ? atoi(argv[2]) : 0;
	unsigned char *der = NULL;
	double start;

	n = x != NULL ? i2d_X509(x, &der) : -1;
	start = now();
	for (i = 0; n > 0 && i < count && parse(der, n); i++)
		;
	if (count > 0 && i == count)
		printf("%.3f\n", (now() - start) / count);
	else
		ERR_print_errors_fp(stderr);
	OPENSSL_free(der);
	X509_free(x);
	if (f != NULL)
		fclose(f);
	return count <= 0 || i < count;
}
