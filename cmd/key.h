/*
 * What the subcommands of `tao key` share.
 */
#ifndef CMD_KEY_H
#define CMD_KEY_H

#include "cmd.h"
#include "tao.pb-c.h"

/* Members of an object: every fact of a key, as in man/tao.1. */
void key_json(struct tao_json *j, const Tao__KeyInfo *k);
/* "until ...", "refused: ...": what became of its certificate; malloc'ed, NULL when out of
 * memory. */
char *key_certificate(const Tao__KeyInfo *k);

/* The one private key in a PEM file, as PKCS#8 DER; for one that is encrypted, pass says where
 * the passphrase is. TAO_EFORMAT, TAO_EPASS, and those of tao/file.h. */
enum tao_err key_read_pem(const char *file, const struct cmd_pass *pass, struct tao_buf *der);

#endif
