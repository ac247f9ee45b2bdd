/* Stubs in PEM text: what is found is written and found again. */
#include <stdlib.h>
#include <string.h>

#include "tao/stub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_buf der = TAO_BUF_INIT, text = TAO_BUF_INIT, again = TAO_BUF_INIT;

	if (tao_stub_from_pem((const char *)data, size, &der) == TAO_OK) {
		if (tao_stub_to_pem(der.p, der.n, &text) != TAO_OK ||
		    tao_stub_from_pem((const char *)text.p, text.n, &again) != TAO_OK ||
		    again.n != der.n || memcmp(again.p, der.p, der.n) != 0)
			abort();
	} else if (der.n != 0) {
		abort();
	}
	tao_buf_free(&der);
	tao_buf_free(&text);
	tao_buf_free(&again);
	return 0;
}
