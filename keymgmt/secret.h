/*
 * TAO-SECRET as a key object (EVP_SKEY, OpenSSL 3.5 and later): an AES key that
 * the host derives for this program and a label, and that nobody can read out
 * of the object.
 *
 * EVP_SKEY_import() makes one, with the parameters "label" and perhaps "policy"
 * of the KDF TAO-SECRET (provider/byname.h); the host is asked then, and not
 * again. The label that the host sees is SECRET_LABEL and the program's: the
 * KDF gives other bytes for the program's label alone. The key is in OpenSSL's
 * secure heap, if the program has made one, and wiped when the last reference
 * goes. It is not exported, so that only ciphers of tao.so can use it
 * (provider/cipher_aes.c). EVP_SKEY_get0_key_id() is the label.
 *
 * This keeps the bytes out of the application's code, files and logs, not out
 * of its memory: it encrypts without the host, as keys of custody "program" sign.
 */
#ifndef KEYMGMT_SECRET_H
#define KEYMGMT_SECRET_H

#include "provider/provider.h"

#define SECRET_LABEL "TAO-AES-256-GCM " /* in front of the program's label */
#define SECRET_LEN 32                   /* bytes: AES-256 */

struct secret;

/* SECRET_LEN bytes, which stay its own. */
const uint8_t *secret_bytes(const struct secret *s);

#endif
