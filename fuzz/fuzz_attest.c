/* Attestations, their signatures and stored keys: all that unpacks a signed thing. */
#include <stdlib.h>

#include "tao/attest.h"
#include "tao/key.h"

#define AT 1500 /* ns; inside most times a seed will have */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_keyset ks;
	struct tao_attested a;
	EVP_PKEY *key;
	enum tao_err e = tao_attestation_verify(data, size, AT, NULL, &a);

	if ((e == TAO_OK) != (a.speaker != NULL && a.message != NULL && a.root != NULL))
		abort();
	if (e == TAO_OK && (!tao_prin_covers(a.root, a.speaker) || a.from > AT || a.until <= AT))
		abort();
	tao_attested_clear(&a);
	if (tao_key_from_spki(data, size, &key) == TAO_OK)
		tao_key_verify(key, "c", data, size, data, size);
	EVP_PKEY_free(key);
	if (tao_cryptokey_decode(data, size, &key) == TAO_OK)
		tao_key_verify(key, "c", data, size, data, size);
	EVP_PKEY_free(key);
	if (tao_keyset_decode(data, size, &ks) == TAO_OK)
		tao_keyset_clear(&ks);
	return 0;
}
