/* Passphrase-protected data. Inputs that ask for much work are left out: that
 * the reader bounds it is for the unit test. */
#include <stdlib.h>

#include "tao/key.h"

#define CHEAP 6 /* log_n; r and p, and iterations, alike */
#define CHEAP_ITERATIONS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int cheap(const uint8_t *data, size_t size)
{
	struct tao_rd r = tao_rd_of(data, size);

	while (r.n > 0 && !r.bad) {
		uint64_t tag = tao_rd_varint(&r), v = tao_rd_varint(&r), field = tag >> 3;

		if ((tag & 7) == 2)
			tao_rd_bytes(&r, v);
		else if (v > (field == 4 ? CHEAP_ITERATIONS : CHEAP))
			return 0;
	}
	return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_buf out = TAO_BUF_INIT;

	if (!cheap(data, size))
		return 0;
	if (tao_pbe_open("xxx", 3, data, size, &out) != TAO_OK && out.n != 0)
		abort();
	tao_buf_free(&out);
	return 0;
}
