/*
 * Upgrades of programs: tao trust, said of a new executable at the path of an
 * older one, makes it that one's successor (domain/domain.h), and after the time
 * that the owner stated the older one is refused, running or not.
 */
#ifndef HOST_UPGRADE_H
#define HOST_UPGRADE_H

#include "host.h"
#include "tao.pb-c.h"

#define UPGRADE_MAX_OLD 64                   /* executables that one replaces at once */
#define UPGRADE_MAX_SECONDS (366LL * 86400)  /* for which both work */

/* Of tao trust: older executables are those that the domain knows at that path, those of the
 * caller's own keys for it, and rq's. notice: what becomes of them, for the user; empty if there
 * are none. */
enum tao_err upgrade_program(struct request *r, const Tao__TrustRequest *rq,
                             const uint8_t exe[TAO_HASH_LEN], struct tao_buf *notice);

/* Before anything is done for a program: TAO_EEXPIRED if its executable's time is over. A hash that
 * is a hint only is not looked at. */
enum tao_err upgrade_check(struct host *h, const struct instance *i);

#endif
