/* What a server says before TLS, to tao doctor. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../cmd/doctor_starttls.c"

#define INPUT_MAX 65536 /* bytes that a pair of sockets takes at once */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *name;
	int pair[2], good = 1;

	if (size > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return 0;
	if ((size == 0 || send(pair[1], data, size, 0) == (ssize_t)size) && shutdown(pair[1], SHUT_WR) == 0) {
		name = cmd_starttls(pair[0], 0, size > 0 && data[0] % 2, &good);
		if (name == NULL && !good)
			abort();
	}
	close(pair[0]);
	close(pair[1]);
	return 0;
}
