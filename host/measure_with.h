/*
 * measure_program() with a cache of file hashes: what the measurer process
 * calls. cache may be NULL.
 */
#ifndef HOST_MEASURE_WITH_H
#define HOST_MEASURE_WITH_H

#include "measure.h"

enum tao_err measure_program_with(struct measure_cache *cache, const struct measure_request *rq,
                                  struct measurement *m);

/* 1 if a program of that path runs scripts by its nature, as far as its name tells. */
int measure_is_interpreter(const char *path);

/* TAO_OK if that user may read the file, whose path has no symbolic links and is stable. */
enum tao_err measure_readable(const char *real, const struct stat *of, uid_t uid);

#endif
