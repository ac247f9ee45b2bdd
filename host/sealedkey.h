/*
 * What is inside a sealed key blob (message SealedKey of tao.proto), for
 * custody and for tools that open one offline with the root's keys.
 *
 * Errors: those of tao/seal.h and tao/pb.h; TAO_EVERSION.
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

/* The opened key; free with tao_pb_free(pa, ...), which wipes it. The stub
 * must have its sealed part. */
enum tao_err sealedkey_open(const struct tao_sealer *sealer, const struct tao_stub *st,
                            struct tao_pb_alloc *pa, struct Tao__SealedKey **out);

#endif
