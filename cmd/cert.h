/*
 * What the subcommands of `tao cert` share.
 */
#ifndef CMD_CERT_H
#define CMD_CERT_H

#include "cmd.h"
#include "tao.pb-c.h"

/* Prints the certificate of a Host.Cert's answer, in words, as JSON (--json), or with its chain as
 * PEM. TAO_EEXPIRED after printing one that has expired. */
enum tao_err cert_print(const struct cmd_env *env, const char *name, const Tao__KeyResponse *rs,
                        int pem);

#endif
