/*
 * What the subcommands of `tao cert` share.
 */
#ifndef CMD_CERT_H
#define CMD_CERT_H

#include "cmd.h"
#include "tao.pb-c.h"

/* cert_show.c: prints the certificate of a Host.Cert's answer, in words, as JSON (--json), or with
 * its chain as PEM. TAO_EEXPIRED after printing one that has expired. */
enum tao_err cert_print(const struct cmd_env *env, const char *name, const Tao__KeyResponse *rs,
                        int pem);

/* ---- cert_ends.c: certificates that the host does not renew ---- */

/* CMD_GOOD; CMD_WARNING: of its life, which is from .. until, less than 30 days and less than a
 * third are left; CMD_BAD: it has ended. */
enum cmd_level cert_ends(int64_t from, int64_t until);
/* Adds what is wrong with imported certificates, and what to do: those of the caller's keys, of all
 * keys for the host's owner. When the host does not say, that. */
void cert_look(struct tao_conn *conn, struct cmd_findings *f);

#endif
