/*
 * A sealed P-256 key's scalar, opened offline with the soft root's keys: for
 * the tools that look for it in memory. The host is not asked.
 */
#ifndef TEST_READKEY_H
#define TEST_READKEY_H

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>

#include "../../host/sealedkey.h"
#include "../../tao/file.h"
#include "../../tao/key.h"
#include "tao.pb-c.h"

#define SCALAR 32

/* The secrets of a keyset file: its signing key's scalar, its deriving key, the passphrase. */
struct keyset_secrets {
	uint8_t scalar[SCALAR], deriver[TAO_DERIVER_LEN];
	struct tao_buf pass;
};

__attribute__((unused)) static enum tao_err read_keyset(const char *file, const char *pass_file,
                                                        struct keyset_secrets *out)
{
	struct tao_keyset ks = { 0 };
	BIGNUM *d = NULL;
	enum tao_err e;

	out->pass = (struct tao_buf)TAO_BUF_INIT;
	e = tao_passphrase_file(pass_file, &out->pass);
	if (e == TAO_OK)
		e = tao_keyset_load(file, out->pass.p, out->pass.n, &ks);
	if (e == TAO_OK && (EVP_PKEY_get_bn_param(ks.signer, OSSL_PKEY_PARAM_PRIV_KEY, &d) != 1 ||
	                    BN_bn2binpad(d, out->scalar, SCALAR) != SCALAR))
		e = tao_fail(TAO_EFORMAT, "not a P-256 key");
	if (e == TAO_OK)
		memcpy(out->deriver, ks.deriver, sizeof out->deriver);
	BN_clear_free(d);
	tao_keyset_clear(&ks);
	return e;
}

/* The scalar of a P-256 key in a PEM file as any program reads it. */
__attribute__((unused)) static enum tao_err read_plain(const char *file, uint8_t scalar[SCALAR])
{
	BIO *in = BIO_new_file(file, "r");
	EVP_PKEY *pkey = in != NULL ? PEM_read_bio_PrivateKey(in, NULL, NULL, NULL) : NULL;
	BIGNUM *d = NULL;
	enum tao_err e = TAO_OK;

	if (pkey == NULL || EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &d) != 1 ||
	    BN_bn2binpad(d, scalar, SCALAR) != SCALAR)
		e = tao_fail(TAO_EFORMAT, "not a P-256 key");
	BN_clear_free(d);
	EVP_PKEY_free(pkey);
	BIO_free(in);
	return e;
}

static enum tao_err read_scalar(const char *root, const char *pass_file, const char *stub_file,
                                uint8_t scalar[SCALAR])
{
	struct tao_buf pass = TAO_BUF_INIT, pem = TAO_BUF_INIT, der = TAO_BUF_INIT;
	struct tao_keyset ks = { 0 };
	struct tao_sealer sealer = { 0 };
	struct tao_pb_alloc pa;
	struct Tao__SealedKey *key = NULL;
	struct tao_stub stub;
	enum tao_err e = tao_passphrase_file(pass_file, &pass);

	if (e == TAO_OK)
		e = tao_keyset_load(root, pass.p, pass.n, &ks);
	if (e == TAO_OK)
		e = tao_sealer_init(&sealer, &ks);
	if (e == TAO_OK)
		e = tao_file_read(stub_file, 65536, &pem);
	if (e == TAO_OK)
		e = tao_stub_from_pem((const char *)pem.p, pem.n, &der);
	if (e == TAO_OK)
		e = tao_stub_parse(der.p, der.n, &stub);
	if (e == TAO_OK)
		e = sealedkey_open(&sealer, &stub, &pa, &key);
	if (e == TAO_OK && key->private_key.len != SCALAR)
		e = tao_fail(TAO_EFORMAT, "not a P-256 key");
	if (e == TAO_OK)
		memcpy(scalar, key->private_key.data, SCALAR);
	if (key != NULL)
		tao_pb_free(&pa, &key->base);
	tao_sealer_clear(&sealer);
	tao_keyset_clear(&ks);
	tao_buf_free(&pass);
	tao_buf_free(&pem);
	tao_buf_free(&der);
	return e;
}

#endif
