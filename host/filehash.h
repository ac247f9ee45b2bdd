/*
 * Hashing files, within MEASURE_MAX_FILE: what measure.h's measure_file()
 * rests on.
 *
 * The cache believes a file's identity only where its bytes cannot change
 * without that showing: the file belongs to root or to this process's own
 * user, nobody else may write it, its file system is the kernel's own, and its
 * last change is CACHE_QUIET seconds past, so that a second change within one
 * tick of the clock cannot hide. All other files are read anew each time.
 *
 * Errors: TAO_ELIMIT, TAO_ESYS, TAO_ECRYPTO, TAO_ENOMEM.
 */
#ifndef HOST_FILEHASH_H
#define HOST_FILEHASH_H

#include "measure.h"

#define CACHE_QUIET 2 /* seconds */

/* Reads an open file to its end; appends to out. */
enum tao_err filehash_slurp(int fd, const char *path, size_t max, struct tao_buf *out);

/* Copies fd's bytes into a fresh memfd, executable by everybody and sealed
 * against every change, and hashes what is in the copy. *copy, open for reading only, is the
 * caller's. Its name is the file's path, with %2F and %25 for '/' and '%': one without slashes,
 * since $ORIGIN is taken from what /proc/PID/exe says. Of one that is too long, it is the last
 * part. */
enum tao_err filehash_copy(int fd, const char *path, int *copy, uint8_t hash[TAO_HASH_LEN]);

#endif
