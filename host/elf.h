/*
 * What the dynamic loader reads of an ELF file: interpreter, needed libraries,
 * where to look for them. Bounded: every byte is taken for hostile.
 *
 * Format: System V ABI, "Object Files" and "Dynamic Linking"; GNU additions as
 * glibc's elf.h names them. As the loader does, the dynamic section and its
 * strings are found by address through the PT_LOAD segments, not through
 * section headers or file offsets that nothing else uses.
 *
 * Accepted are 64-bit little-endian ET_EXEC and ET_DYN files of the machine
 * that this was built for.
 *
 * Errors: TAO_EFORMAT (not such a file), TAO_ELIMIT, TAO_ESYS, TAO_ENOMEM. Any
 * thread.
 */
#ifndef HOST_ELF_H
#define HOST_ELF_H

#include <stddef.h>

#include "../tao/err.h"

struct elf_info {
	char *interp;     /* PT_INTERP; NULL: none */
	char **needed;    /* DT_NEEDED in order */
	size_t needed_n;
	char *soname;     /* DT_SONAME, or NULL */
	char *rpath;      /* DT_RPATH; NULL also when there is a DT_RUNPATH, which overrules it */
	char *runpath;    /* DT_RUNPATH, or NULL */
	int nodeflib;     /* DF_1_NODEFLIB: not in the default directories */
	int foreign;      /* with TAO_EFORMAT: a good ELF file, but of another machine */
};

/* Reads with pread; the descriptor stays the caller's. name stands in sentences. On
 * failure out is empty but for foreign. */
enum tao_err elf_read(int fd, const char *name, struct elf_info *out);
void elf_info_clear(struct elf_info *e); /* usable again afterwards */

#endif
