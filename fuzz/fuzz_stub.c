/* Stubs in DER: what parses encodes to the same bytes, and within them. */
#include <stdlib.h>
#include <string.h>

#include "tao/stub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_buf again = TAO_BUF_INIT, aad = TAO_BUF_INIT;
	struct tao_stub s, bare;

	if (tao_stub_parse(data, size, &s) != TAO_OK)
		return 0;
	tao_stub_encode(&s, &again);
	if (again.n != size || memcmp(again.p, data, size) != 0)
		abort();
	tao_stub_aad(&s, &aad);
	if (tao_stub_parse(aad.p, aad.n, &bare) != TAO_OK || bare.sealed != NULL ||
	    bare.name_n != s.name_n || bare.spki_n != s.spki_n)
		abort();
	tao_buf_free(&again);
	tao_buf_free(&aad);
	return 0;
}
