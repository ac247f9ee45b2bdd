/*
 * Names that a host gives (DESIGN: names are complete before the first key):
 *
 *   key([root]).DatalogGuard(key([domain id])) . MEASUREMENT . PolicyKey([domain id])
 *
 * MEASUREMENT is Measured([exe], [manifest], uid) or Program([exe]).
 * Results are the caller's (tao_node_free); NULL when out of memory.
 */
#ifndef HOST_NAMES_H
#define HOST_NAMES_H

#include <sys/types.h>

#include "measure.h"
#include "../tao/logic.h"

struct tao_node *name_host(const uint8_t root[TAO_HASH_LEN], const uint8_t domain[TAO_HASH_LEN]);
struct tao_node *name_program(const struct tao_node *host, const struct measurement *m, uid_t uid,
                              int program_only, const uint8_t domain[TAO_HASH_LEN]);

/* Only a host assigns these words: ExtendTaoName refuses them. */
int name_is_host_word(const char *word);

#endif
