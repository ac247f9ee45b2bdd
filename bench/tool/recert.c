/*
 * recert: the same certificate for another key.
 *
 *   recert CERTIFICATE KEY
 *
 * Prints the certificates of the first PEM file, the first of them with the
 * public half of KEY (a PEM file) instead of its own, signed by KEY: all names
 * and extensions stay, so it is as long as it was, and as dear to send and to
 * parse. It verifies against nothing.
 */
#include <stdio.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static EVP_PKEY *read_key(const char *path)
{
	FILE *f = fopen(path, "r");
	EVP_PKEY *key = f != NULL ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;

	if (f != NULL)
		fclose(f);
	return key;
}

static int recertify(X509 *x, EVP_PKEY *key)
{
	const EVP_MD *md = EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256();

	return x != NULL && X509_set_pubkey(x, key) == 1 && X509_sign(x, key, md) > 0;
}

static int copy(FILE *in, EVP_PKEY *key)
{
	X509 *x = PEM_read_X509(in, NULL, NULL, NULL);
	int good = recertify(x, key);

	while (good && x != NULL) {
		good = PEM_write_X509(stdout, x);
		X509_free(x);
		x = PEM_read_X509(in, NULL, NULL, NULL); /* NULL: the end */
	}
	X509_free(x);
	return good;
}

int main(int argc, char **argv)
{
	EVP_PKEY *key;
	FILE *in;
	int good;

	if (argc != 3) {
		fprintf(stderr, "usage: recert CERTIFICATE KEY\n");
		return 2;
	}
	in = fopen(argv[1], "r");
	key = read_key(argv[2]);
	good = in != NULL && key != NULL && copy(in, key);
	if (!good) {
		fprintf(stderr, "recert: cannot certify %s with %s\n", argv[1], argv[2]);
		ERR_print_errors_fp(stderr);
	}
	EVP_PKEY_free(key);
	if (in != NULL)
		fclose(in);
	return !good;
}
