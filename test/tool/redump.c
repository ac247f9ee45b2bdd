/*
 * redump KEY: signs in a child that made itself dumpable, as daemons do when
 * they have changed their user. Prints what PR_GET_DUMPABLE says: in the
 * parent once the key is loaded, in the child before and after its signature.
 */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/store.h>

static EVP_PKEY *load(const char *uri)
{
	OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	EVP_PKEY *key = NULL;

	while (store != NULL && key == NULL && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			key = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(store);
	return key;
}

static int sign(EVP_PKEY *key)
{
	unsigned char sig[1024];
	size_t n = sizeof sig;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int good = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
	           EVP_DigestSign(ctx, sig, &n, (const unsigned char *)"data", 4) == 1;

	EVP_MD_CTX_free(ctx);
	if (!good)
		ERR_print_errors_fp(stderr);
	return good;
}

static int child(EVP_PKEY *key)
{
	int good;

	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	printf("child %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	good = sign(key);
	printf("signed %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	fflush(stdout);
	return good ? 0 : 1;
}

int main(int argc, char **argv)
{
	EVP_PKEY *key = argc == 2 ? load(argv[1]) : NULL;
	int status = 1;
	pid_t pid;

	if (key == NULL) {
		ERR_print_errors_fp(stderr);
		return 2;
	}
	printf("loaded %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(child(key));
	waitpid(pid, &status, 0);
	EVP_PKEY_free(key);
	return status != 0;
}
