/* /proc/PID/cgroup: what comes out is a service's path, or nothing. */
#include <stdlib.h>
#include <string.h>

#include "../host/unit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char unit[UNIT_MAX + 1];
	size_t len;

	unit_parse(data, n, unit);
	len = strlen(unit);
	if (len > UNIT_MAX)
		abort();
	if (len > 0 && (strncmp(unit, "system.slice/", 13) != 0 ||
	                strcmp(unit + len - 8, ".service") != 0))
		abort();
	return 0;
}
