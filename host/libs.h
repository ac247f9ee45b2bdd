/*
 * The libraries of a program: what the dynamic loader will map before main()
 * runs, and what loading the provider modules adds.
 *
 * Resolved as glibc's ld.so does with a clean environment (no LD_*, no
 * GLIBC_TUNABLES), in its order: objects that are loaded already (by name,
 * DT_SONAME, device and inode), DT_RPATH of the object and of those that
 * caused it to be loaded, DT_RUNPATH, /etc/ld.so.cache, the default directories;
 * in each directory first the glibc-hwcaps subdirectories that this processor
 * supports. /etc/ld.so.preload counts. $ORIGIN and $LIB are understood. The
 * result is what `ld.so --list` prints, which the tests compare.
 *
 * The default directories are those of Debian's glibc (multiarch). Refused,
 * since what would be loaded cannot be told from here (TAO_EFORMAT): an ELF interpreter
 * that is not the system's glibc loader, $PLATFORM, filter and audit
 * libraries, and a library of which a directory also holds a "legacy hwcaps"
 * variant (directories tls, x86_64, haswell, avx512_1, xeon_phi beside it), which glibc
 * searched until 2.36.
 *
 * Not seen: what a program opens with dlopen() by itself (name service, plug-ins).
 *
 * Everything on the way must be stable (stable.h): each library, the cache,
 * and each directory that is searched in vain before the one that has it, for
 * otherwise somebody could put another library there after the measurement.
 * Relative directories are refused for the same reason.
 *
 * Errors: TAO_EFORMAT, TAO_ENOTFOUND (names library and who needs it),
 * TAO_EDENIED, TAO_EPERM, TAO_ELIMIT, TAO_ESYS, TAO_ENOMEM. One struct libs belongs to one thread.
 */
#ifndef HOST_LIBS_H
#define HOST_LIBS_H

#include "measure.h"

enum {
	LIB_PROGRAM = 1,
	LIB_INTERPRETER = 2,
	LIB_LIBRARY = 4,
	LIB_MODULE = 8,
};

struct lib {
	const char *path; /* without symbolic links */
	uint8_t hash[TAO_HASH_LEN];
	unsigned kinds;   /* of LIB_...: a module may also be a library */
};

struct libs;

/* cache may be NULL; it must outlive the result. */
enum tao_err libs_new(struct measure_cache *cache, uid_t dev_uid, struct libs **out);
void libs_free(struct libs *l);

/* The program first, once; its closure is empty when it is static. path names it, where is the
 * path that /proc/PID/exe will show: $ORIGIN is its directory. Its hash is not computed. */
enum tao_err libs_program(struct libs *l, int fd, const char *path, const char *where);
/* Then any modules, in the order in which they will be loaded. */
enum tao_err libs_module(struct libs *l, const char *path);

/* 1 if the program has no ELF interpreter. */
int libs_is_static(const struct libs *l);
size_t libs_count(const struct libs *l);
/* i < libs_count(); lives as long as l. The program is the first. */
const struct lib *libs_at(const struct libs *l, size_t i);

#endif
