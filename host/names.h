/*
 * Names that a host gives (DESIGN: names are complete before the first key):
 *
 *   key([root]).DatalogGuard(key([domain id])) . MEASUREMENT . PolicyKey([domain id])
 *
 * MEASUREMENT is Measured([exe], [manifest], uid), Program([exe]) or, for what
 * was admitted without tao run, Process([exe], uid, "unit"). The name of a stacked host
 * (root.h) begins with what its parent calls it instead of key([root]).
 * Results are the caller's (tao_node_free); NULL when out of memory.
 */
#ifndef HOST_NAMES_H
#define HOST_NAMES_H

#include <sys/types.h>

#include "measure.h"
#include "../tao/logic.h"

struct tao_node *name_host(const uint8_t root[TAO_HASH_LEN], const uint8_t domain[TAO_HASH_LEN]);
/* base.DatalogGuard(key([domain])): a host's name behind whatever it is rooted in. */
struct tao_node *name_guarded(const struct tao_node *base, const uint8_t domain[TAO_HASH_LEN]);
/* 1 if ext is DatalogGuard(key([domain])); domain NULL: whichever. */
int name_is_guard(const struct tao_node *ext, const uint8_t domain[TAO_HASH_LEN]);
struct tao_node *name_program(const struct tao_node *host, const struct measurement *m, uid_t uid,
                              int program_only, const uint8_t domain[TAO_HASH_LEN]);
/* unit: the name of its system unit, or "". */
struct tao_node *name_process(const struct tao_node *host, const uint8_t exe[TAO_HASH_LEN],
                              uid_t uid, const char *unit, const uint8_t domain[TAO_HASH_LEN]);

/* Only a host assigns these words: ExtendTaoName refuses them, but for the guard of a stacked
 * host (op_tao.c). */
int name_is_host_word(const char *word);

#endif
