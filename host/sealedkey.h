/*
 * What is inside a sealed key blob (message SealedKey of tao.proto), for
 * custody and for tools that open one offline with the root's keys.
 *
 * Errors: those of tao/seal.h and tao/pb.h; TAO_EVERSION (a version, type,
 * purpose or custody that is not known here), TAO_EALTERED (a field that this
 * host would not have sealed).
 */
#ifndef HOST_SEALEDKEY_H
#define HOST_SEALEDKEY_H

#include "../tao/pb.h"
#include "../tao/seal.h"
#include "../tao/stub.h"

#define SEALEDKEY_VERSION 1
#define SEALEDKEY_ID_LEN 16
#define SEALEDKEY_CAP 65536 /* bytes protobuf-c may use for one */

struct Tao__SealedKey;

/* A purpose: what of KEY_SIGNS, KEY_DECRYPTS, KEY_DERIVES (custody_type.h) it allows. */
struct key_purpose {
	const char *name;
	unsigned can;
	int tls;            /* signs as TLS does, with the digests of TLS 1.2 and 1.3 */
	int only_tls13;     /* ... only what TLS 1.3 signs, whole */
};
const struct key_purpose *key_purpose_named(const char *name); /* NULL: none */
void key_purpose_list(struct tao_buf *out);

/* Checks every field but the private key's bytes (custody_type.h). Free with
 * tao_pb_free(pa, ...), which wipes it. */
enum tao_err sealedkey_parse(const void *plain, size_t n, struct tao_pb_alloc *pa,
                             struct Tao__SealedKey **out);
/* The opened key, parsed, whatever its epoch: custody_allows() refuses the use of one whose epoch
 * is retired. The stub must have its sealed part. */
enum tao_err sealedkey_open(const struct tao_sealer *sealer, const struct tao_stub *st,
                            struct tao_pb_alloc *pa, struct Tao__SealedKey **out);
/* The stub's DER around the sealed key; st says name and public key. */
enum tao_err sealedkey_seal(const struct tao_sealer *sealer, const struct Tao__SealedKey *k,
                            const struct tao_stub *st, struct tao_buf *stub);

#endif
