/*
 * Stubs: the small file that stands for a sealed key.
 *
 *   -----BEGIN TAO PRIVATE KEY-----      base64 of DER:
 *
 *   TaoPrivateKey ::= SEQUENCE {
 *     version    INTEGER (1),
 *     name       UTF8String (SIZE (1..64)),
 *     publicKey  SubjectPublicKeyInfo,
 *     sealed     [0] IMPLICIT OCTET STRING OPTIONAL }   -- seal.h, kind 1
 *
 * Without sealed, the host looks the key up by name. The blob's associated
 * data is the DER of the same SEQUENCE without sealed.
 *
 * Parsing keeps pointers into the caller's bytes. Errors: TAO_EFORMAT,
 * TAO_EVERSION, TAO_ELIMIT.
 */
#ifndef TAO_STUB_H
#define TAO_STUB_H

#include "buf.h"

#define TAO_STUB_PEM "TAO PRIVATE KEY"
#define TAO_STUB_MAX 16384        /* bytes of DER */
#define TAO_KEY_NAME_MAX 64       /* bytes of a key name */

struct tao_stub {
	const char *name; /* not NUL-terminated */
	size_t name_n;
	const uint8_t *spki;
	size_t spki_n;
	const uint8_t *sealed; /* NULL: none */
	size_t sealed_n;
};

enum tao_err tao_stub_parse(const void *der, size_t n, struct tao_stub *out);
void tao_stub_encode(const struct tao_stub *s, struct tao_buf *der);
/* The associated data: as tao_stub_encode(), without sealed. */
void tao_stub_aad(const struct tao_stub *s, struct tao_buf *der);

/* PEM text around the DER. */
enum tao_err tao_stub_to_pem(const void *der, size_t n, struct tao_buf *pem);
/* The first stub in PEM text that may hold other blocks. TAO_ENOTFOUND: none. */
enum tao_err tao_stub_from_pem(const char *pem, size_t n, struct tao_buf *der);

/* 1..64 of A-Z a-z 0-9 . _ - ; not starting with '.' or '-'; else TAO_EINVAL
 * with a sentence. Key names are file names, URI segments and stub fields. */
enum tao_err tao_key_name_check(const char *name, size_t n);

#endif
