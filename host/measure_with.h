/*
 * measure_program() with a cache of file hashes: what the measurer process
 * calls. cache may be NULL.
 */
#ifndef HOST_MEASURE_WITH_H
#define HOST_MEASURE_WITH_H

#include "measure.h"

enum tao_err measure_program_with(struct measure_cache *cache, const struct measure_request *rq,
                                  struct measurement *m);

#endif
