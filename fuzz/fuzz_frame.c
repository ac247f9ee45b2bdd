/* Frames of QUIC: one that ends a connection is told from others, and gives its error. */
#include <stdlib.h>

#include "../tls/frame.c"

#define INTEGER_MAX ((1ULL << 62) - 1) /* RFC 9000, 16 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t error = 0, again = 0;

	if (!tls_quic_closes(data, size, &error))
		return 0;
	if (size < 2 || error > INTEGER_MAX)
		abort();
	/* What is behind both numbers does not matter. */
	for (size_t n = 16; n < size; n++)
		if (!tls_quic_closes(data, n, &again) || again != error)
			abort();
	return 0;
}
