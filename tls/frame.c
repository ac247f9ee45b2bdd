#include "tls.h"
#include "tao/buf.h"

#define CONNECTION_CLOSE 0x1c /* RFC 9000, 19.19 */

/* RFC 9000, 16: the first two bits tell the length. */
static uint64_t take_integer(struct tao_rd *r)
{
	uint8_t first = tao_rd_u8(r);
	uint64_t value = first & 0x3f;

	for (int more = (1 << (first >> 6)) - 1; more > 0; more--)
		value = value << 8 | tao_rd_u8(r);
	return value;
}

int tls_quic_closes(const void *frame, size_t n, uint64_t *error)
{
	struct tao_rd r = tao_rd_of(frame, n);
	uint64_t type = take_integer(&r);

	*error = take_integer(&r);
	return !r.bad && type == CONNECTION_CLOSE;
}
