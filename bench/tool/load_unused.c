/*
 * load_unused: a program with OpenSSL that has no use for the Tao.
 *
 *   load_unused
 *
 * Reads openssl.cnf, as OPENSSL_CONF says, and makes one digest, so that
 * providers are active. Exits with 1 if that failed.
 */
#include <stdio.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

int main(void)
{
	unsigned char md[EVP_MAX_MD_SIZE];

	if (OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1 &&
	    EVP_Q_digest(NULL, "SHA256", NULL, "", 0, md, NULL) == 1)
		return 0;
	ERR_print_errors_fp(stderr);
	return 1;
}
