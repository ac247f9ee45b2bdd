/* The text of a domain's rules, as it is read once its signature was verified:
 * what is taken is written back byte for byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../domain/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t domain[TAO_HASH_LEN];
	struct tao_buf out = TAO_BUF_INIT;
	struct rules r;

	memset(domain, 0xdd, sizeof domain);
	rules_init(&r, domain);
	if (rules_parse((const char *)data, size, &r) == TAO_OK) {
		rules_print(&r, &out);
		if (out.n != size || memcmp(out.p, data, size) != 0)
			abort();
		for (size_t i = 0; i < r.n; i++)
			if (!rules_have(&r, r.fact[i].text))
				abort();
	}
	tao_buf_free(&out);
	rules_clear(&r);
	return 0;
}
