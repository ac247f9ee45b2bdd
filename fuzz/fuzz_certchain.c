/* Certificates that a key's owner brings: each two bytes of length, then DER. The key is that of
 * the first one that reads. What is taken is a chain of that key. */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "../host/certchain.h"
#include "../tao/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int hash_of(X509 *x, uint8_t hash[TAO_HASH_LEN])
{
	EVP_PKEY *key = X509_get0_pubkey(x);

	return key != NULL && tao_key_hash(key, hash) == TAO_OK;
}

static void check(STACK_OF(X509) *chain, const uint8_t hash[TAO_HASH_LEN])
{
	uint8_t leaf[TAO_HASH_LEN];
	int n = sk_X509_num(chain);

	if (n < 1 || n > CERTCHAIN_MAX || !hash_of(sk_X509_value(chain, 0), leaf) ||
	    memcmp(leaf, hash, sizeof leaf) != 0)
		abort();
	for (int i = 1; i < n; i++)
		if (X509_verify(sk_X509_value(chain, i - 1),
		                X509_get0_pubkey(sk_X509_value(chain, i))) != 1)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_rd rd = tao_rd_of(data, size);
	ProtobufCBinaryData der[CERTCHAIN_MAX_GIVEN + 1];
	uint8_t hash[TAO_HASH_LEN] = { 0 };
	STACK_OF(X509) *chain;
	size_t n = 0;
	int known = 0;

	while (rd.n > 0 && !rd.bad && n < CERTCHAIN_MAX_GIVEN + 1) {
		size_t len = (size_t)tao_rd_u8(&rd) << 8;
		const unsigned char *p;
		X509 *x;

		len |= tao_rd_u8(&rd);
		p = tao_rd_bytes(&rd, len < rd.n ? len : rd.n);
		der[n].data = (uint8_t *)p;
		der[n].len = p != NULL ? (size_t)(rd.p - p) : 0;
		x = !known && p != NULL && der[n].len > 0
		    ? d2i_X509(NULL, &p, (long)der[n].len) : NULL;
		known = known || (x != NULL && hash_of(x, hash));
		X509_free(x);
		n++;
	}
	ERR_clear_error();
	if (certchain_check(der, n, "fuzz", hash, 1900000000, &chain) == TAO_OK)
		check(chain, hash);
	else if (chain != NULL || *tao_why() == 0)
		abort();
	sk_X509_pop_free(chain, X509_free);
	ERR_clear_error();
	return 0;
}
