/* Secrets do not stay behind: after a keyset was made, stored under a
 * passphrase, read again and cleared, no writable memory of this process
 * holds its deriving key or its private scalar (as the file has it), nor the
 * passphrase. */
#include <openssl/bn.h>
#include <openssl/core_names.h>

#include "tao/key.h"
#include "memscan.h"
#include "tap.h"

static uint8_t deriver[LEN], scalar[LEN], pass[LEN]; /* complements */

static void note_scalar(EVP_PKEY *key)
{
	uint8_t raw[LEN];
	BIGNUM *bn = NULL;

	if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &bn) != 1 ||
	    BN_bn2binpad(bn, raw, LEN) != LEN)
		exit(1);
	complement(scalar, raw);
	OPENSSL_cleanse(raw, sizeof raw);
	BN_clear_free(bn);
}

static void fresh_pass(struct tao_buf *pw)
{
	tao_buf_reset(pw);
	for (size_t i = 0; i < LEN; i++)
		tao_buf_u8(pw, (uint8_t)~pass[i]);
}

static void store_and_read(struct tao_buf *file)
{
	struct tao_buf plain = TAO_BUF_INIT, pw = TAO_BUF_INIT, open = TAO_BUF_INIT;
	struct tao_keyset ks, back;

	if (tao_keyset_generate(&ks) != TAO_OK)
		exit(1);
	complement(deriver, ks.deriver);
	note_scalar(ks.signer);
	fresh_pass(&pw);
	ok(tao_cryptokey_encode(ks.signer, "k", 1, &plain) == TAO_OK && in_memory(scalar) > 0,
	   "encoded");
	tao_buf_free(&plain);
	ok(in_memory(scalar) == 0, "the encoding wiped, no private scalar");
	ok(tao_keyset_encode(&ks, &plain) == TAO_OK &&
	           tao_pbe_seal(pw.p, pw.n, plain.p, plain.n, file) == TAO_OK,
	   "stored");
	ok(tao_pbe_open(pw.p, pw.n, file->p, file->n, &open) == TAO_OK &&
	           tao_keyset_decode(open.p, open.n, &back) == TAO_OK,
	   "read");
	ok(in_memory(deriver) >= 4 && in_memory(scalar) >= 2 && in_memory(pass) >= 1,
	   "while in use the scan finds them");
	tao_keyset_clear(&ks);
	tao_keyset_clear(&back);
	tao_buf_free(&plain);
	tao_buf_free(&open);
	tao_buf_free(&pw);
}

int main(void)
{
	struct tao_buf file = TAO_BUF_INIT;

#ifdef SANITIZED
	skip("secrets are wiped", "the sanitizer's own memory is too large to scan");
	return done();
#endif
	for (size_t i = 0; i < LEN; i++)
		pass[i] = (uint8_t)(i * 7 + 3);
	store_and_read(&file);
	ok(in_memory(deriver) == 0, "afterwards no deriving key");
	ok(in_memory(scalar) == 0, "no private scalar");
	ok(in_memory(pass) == 0, "no passphrase");
	tao_buf_free(&file);
	return done();
}
