/* The table of counters, as it is read once its blob was opened: what is taken is written back byte
 * for byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../host/counter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_buf out = TAO_BUF_INIT;
	struct counter_table t;

	if (counter_table_decode(data, size, &t) == TAO_OK) {
		if (counter_table_encode(&t, &out) != TAO_OK || out.n != size ||
		    memcmp(out.p, data, size) != 0)
			abort();
		counter_table_clear(&t);
	}
	tao_buf_free(&out);
	return 0;
}
