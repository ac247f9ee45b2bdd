/* Records of running programs: what is taken has a name, a program and members within the
 * limits. */
#include <stdlib.h>

#include "host/host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct member members[RECALL_MEMBERS];
	struct instance *i;
	size_t n;

	if (recall_parse("boot", data, size, &i, members, &n) != TAO_OK) {
		if (i != NULL || n != 0)
			abort();
		return 0;
	}
	if (instance_name(i) == NULL || i->program == NULL || i->id == 0 || i->pid <= 0 ||
	    n > RECALL_MEMBERS)
		abort();
	instance_unref(i);
	return 0;
}
