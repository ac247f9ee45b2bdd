/*
 * What tao policy and tao trust share: a request that the host answers with
 * the rules.
 */
#ifndef CMD_POLICY_H
#define CMD_POLICY_H

#include "cmd.h"
#include "tao.pb-c.h"

/* Asks and prints: version and notices; the facts too if that is set, and always with --json.
 * Returns the exit status. */
int policy_ask(struct cmd_env *env, const char *op, const ProtobufCMessage *rq, int fd, int facts);

#endif
