/*
 * The certificates that another authority, such as a public CA, made for a
 * sealed key: whether they are a chain, and this key's.
 *
 * They come as files of a CA do: in any order, some twice, with the root or
 * without. What goes out is what a server sends (RFC 8446 section 4.4.2): the
 * key's own certificate first, each one behind it signed the one before,
 * and no root: peers have that, or do not believe it anyway. Whether a peer
 * will trust the chain is not known here.
 *
 * Refused, with what to do: nothing for this key's newest generation (TAO_EALTERED), what belongs
 * to no chain, a link that does not verify (TAO_ESIGNATURE), what is not valid now
 * (TAO_EEXPIRED), what is malformed (TAO_EFORMAT), too many or too large (TAO_ELIMIT).
 */
#ifndef HOST_CERTCHAIN_H
#define HOST_CERTCHAIN_H

#include <stdint.h>

#include <openssl/x509.h>
#include <protobuf-c/protobuf-c.h>

#include "../tao/err.h"
#include "../tao/key.h"

#define CERTCHAIN_MAX 9            /* the key's own and eight above: what tls/tls.h sends */
#define CERTCHAIN_MAX_BYTES 24576  /* of all together, DER */
#define CERTCHAIN_MAX_GIVEN 32     /* certificates that are looked at */

/* key: its name, for sentences; spki_hash: of its public key. now: seconds since 1970. *out: the
 * chain, the caller's, NULL after a failure. */
enum tao_err certchain_check(const ProtobufCBinaryData *der, size_t n, const char *key,
                             const uint8_t spki_hash[TAO_HASH_LEN], int64_t now,
                             STACK_OF(X509) **out);

/* Seconds since 1970; 0 for what is no time. */
int64_t certchain_time(const ASN1_TIME *t);
/* A name on one line, malloc'ed. */
char *certchain_name(const X509_NAME *name);

#endif
