/* The ELF reader (host/elf.h): any bytes as a file. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../host/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	int fd = memfd_create("fuzz_elf", MFD_CLOEXEC);
	struct elf_info i = { 0 };

	if (fd < 0)
		return 0;
	if (write(fd, p, n) == (ssize_t)n && elf_read(fd, "input", &i) == TAO_OK)
		for (size_t k = 0; k < i.needed_n; k++)
			if (i.needed[k] == NULL)
				__builtin_trap();
	elf_info_clear(&i);
	close(fd);
	return 0;
}
