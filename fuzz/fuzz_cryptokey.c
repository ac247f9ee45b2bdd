/* Stored keys and keysets: what reads is of one kind, and is stored again as it
 * was, name and epoch included. */
#include <stdlib.h>
#include <string.h>

#include "tao/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fits(const struct tao_anykey *k)
{
	int pair = k->purpose == TAO_SIGNING || k->purpose == TAO_VERIFYING;

	return k->name != NULL && tao_anykey_type(k) != NULL && (k->pkey != NULL) == pair &&
	       (k->crypter.type != NULL) == (k->purpose == TAO_CRYPTING) &&
	       (k->deriver.type != NULL) == (k->purpose == TAO_DERIVING);
}

static void one_key(const uint8_t *data, size_t size)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	struct tao_anykey k, back = { 0 };
	EVP_PKEY *pkey = NULL;
	enum tao_err e = tao_anykey_decode(data, size, &k);

	if (e == TAO_OK && (!fits(&k) || tao_anykey_encode(&k, &a) != TAO_OK ||
	                    tao_anykey_decode(a.p, a.n, &back) != TAO_OK ||
	                    tao_anykey_encode(&back, &b) != TAO_OK || a.n != b.n ||
	                    memcmp(a.p, b.p, a.n) != 0))
		abort();
	if (e != TAO_OK && (k.name != NULL || k.pkey != NULL))
		abort();
	if ((tao_cryptokey_decode(data, size, &pkey) == TAO_OK) != (e == TAO_OK && k.pkey != NULL))
		abort();
	EVP_PKEY_free(pkey);
	tao_anykey_clear(&k);
	tao_anykey_clear(&back);
	tao_buf_free(&a);
	tao_buf_free(&b);
}

static void keyset(const uint8_t *data, size_t size)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	struct tao_keyset ks, back;

	if (tao_keyset_decode_any(data, size, &ks) == TAO_OK &&
	    tao_keyset_encode(&ks, &a) == TAO_OK) {
		if (tao_keyset_decode_any(a.p, a.n, &back) != TAO_OK ||
		    tao_keyset_encode(&back, &b) != TAO_OK || a.n != b.n ||
		    memcmp(a.p, b.p, a.n) != 0)
			abort();
		tao_keyset_clear(&back);
	}
	tao_keyset_clear(&ks);
	tao_buf_free(&a);
	tao_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	one_key(data, size);
	keyset(data, size);
	return 0;
}
