/* Whatever file `tao compat inspect` is given: it is told what it is, with all that its report has,
 * or refused with a sentence. */
#include <stdlib.h>
#include <string.h>

#include "cmd/compat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct compat_report r = { 0 };
	struct tao_rd f = tao_rd_of(data, size);
	enum tao_err e;

	if (size == 0) /* compat_read() refuses it */
		return 0;
	e = compat_inspect(&f, &r);
	if (e == TAO_OK && compat_err(&r) == TAO_OK &&
	    (r.n == 0 || strcmp(r.line[0].name, "kind") != 0))
		abort();
	if (e != TAO_OK && tao_why()[0] == 0)
		abort();
	for (size_t i = 0; i < r.n; i++)
		if (r.line[i].value == NULL)
			abort();
	compat_clear(&r);
	return 0;
}
