#include "key.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "../tao/file.h"
#include "../tao/stub.h"

#define FILE_MAX (64u << 10) /* bytes */

/* For libcrypto's callback: whether the passphrase was asked for, and what went wrong then. */
struct asked {
	const struct cmd_pass *pass;
	int was;
	enum tao_err e;
};

static int give_passphrase(char *to, int room, int writing, void *arg)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct asked *a = arg;
	int n = -1;

	(void)writing;
	a->was = 1;
	a->e = cmd_passphrase(a->pass, &b);
	if (a->e == TAO_OK && b.n > (size_t)room)
		a->e = tao_fail(TAO_ELIMIT, "the passphrase of a key file has at most %d bytes",
		                room);
	if (a->e == TAO_OK) {
		memcpy(to, b.p, b.n);
		n = (int)b.n;
	}
	tao_buf_free(&b);
	return n;
}

static enum tao_err parse(const char *file, const struct tao_buf *pem, struct asked *a,
                          EVP_PKEY **key)
{
	BIO *bio = BIO_new_mem_buf(pem->p, (int)pem->n);

	*key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, a) : NULL;
	BIO_free(bio);
	ERR_clear_error();
	if (*key != NULL)
		return TAO_OK;
	if (a->e != TAO_OK)
		return a->e;
	if (a->was)
		return tao_fail(TAO_EPASS, "%s does not open with this passphrase", file);
	if (memmem(pem->p, pem->n, TAO_STUB_PEM, strlen(TAO_STUB_PEM)) != NULL)
		return tao_fail(TAO_EFORMAT, "%s is a stub: the key it stands for is sealed "
		                "already", file);
	return tao_fail(TAO_EFORMAT, "%s holds no private key in PEM", file);
}

static enum tao_err encode(EVP_PKEY *key, struct tao_buf *der)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	unsigned char *p = NULL;
	int n = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &p) : -1;

	PKCS8_PRIV_KEY_INFO_free(info);
	if (n < 0)
		return tao_fail_crypto("encoding the private key");
	tao_buf_put(der, p, (size_t)n);
	OPENSSL_clear_free(p, (size_t)n);
	return tao_buf_err(der);
}

enum tao_err key_read_pem(const char *file, const struct cmd_pass *pass, struct tao_buf *der)
{
	struct tao_buf pem = TAO_BUF_INIT;
	struct asked a = { pass, 0, TAO_OK };
	EVP_PKEY *key = NULL;
	enum tao_err e = tao_file_read(file, FILE_MAX, &pem);

	if (e == TAO_OK)
		e = parse(file, &pem, &a, &key);
	if (e == TAO_OK)
		e = encode(key, der);
	EVP_PKEY_free(key);
	tao_buf_free(&pem);
	return e;
}
