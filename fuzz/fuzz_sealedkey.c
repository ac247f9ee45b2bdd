/* What a sealed key's blob holds once decrypted: what reads as a key of its type is written again
 * as bytes that read to the same public key. */
#include <stdlib.h>
#include <string.h>

#include "host/custody_type.h"
#include "host/sealedkey.h"
#include "tao/key.h"
#include "tao.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct key_type *t, EVP_PKEY *key)
{
	struct tao_buf bytes = TAO_BUF_INIT, a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	EVP_PKEY *back = NULL;

	if (key_type_of(key) != t || key_type_write(t, key, &bytes) != TAO_OK ||
	    key_type_read(t, bytes.p, bytes.n, &back) != TAO_OK ||
	    tao_key_spki(key, &a) != TAO_OK ||
	    tao_key_spki(back, &b) != TAO_OK || a.n != b.n || memcmp(a.p, b.p, a.n) != 0)
		abort();
	EVP_PKEY_free(back);
	tao_buf_free(&bytes);
	tao_buf_free(&a);
	tao_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct key_type *t;
	struct Tao__SealedKey *k;
	struct tao_pb_alloc pa;
	EVP_PKEY *key = NULL;

	if (sealedkey_parse(data, size, &pa, &k) != TAO_OK)
		return 0;
	t = key_type_named(k->type);
	if (t == NULL || key_purpose_named(k->purpose) == NULL)
		abort();
	if (key_type_read(t, k->private_key.data, k->private_key.len, &key) == TAO_OK)
		again(t, key);
	EVP_PKEY_free(key);
	tao_pb_free(&pa, &k->base);
	return 0;
}
