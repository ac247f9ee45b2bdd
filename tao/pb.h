/*
 * Protocol buffers: packing and unpacking with a cap on memory, and wiped.
 *
 * protobuf-c allocates once for every field and element, so a short hostile
 * message can ask for a lot; and it frees without wiping. struct tao_pb_alloc
 * is an allocator for it that counts the bytes alive (bookkeeping included)
 * against a cap, and wipes on free. Use one for each message, unpack and free
 * with the same; it must not move in between. One thread at a time.
 *
 *   tao_pb_alloc_init(&pa, 65536);
 *   e = tao_pb_unpack(&pa, &tao__sign_request__descriptor, p, n, "sign request", &m);
 *   req = (Tao__SignRequest *)m;
 *   ...
 *   tao_pb_free(&pa, m);
 *
 * Errors: TAO_EFORMAT (not such a message), TAO_ELIMIT (the cap), TAO_ENOMEM.
 */
#ifndef TAO_PB_H
#define TAO_PB_H

#include <protobuf-c/protobuf-c.h>

#include "buf.h"

struct tao_pb_alloc {
	ProtobufCAllocator base; /* for calling protobuf-c directly: &pa.base */
	size_t left;
	int over;   /* an allocation was refused because of the cap */
	int nomem;  /* malloc failed */
};

void tao_pb_alloc_init(struct tao_pb_alloc *pa, size_t cap);

/* *out is NULL on failure. what names the message in the sentence. */
enum tao_err tao_pb_unpack(struct tao_pb_alloc *pa, const ProtobufCMessageDescriptor *d,
                           const void *p, size_t n, const char *what, ProtobufCMessage **out);
/* As tao_pb_unpack(), for stored and signed things, where one meaning should
 * have one encoding: refuses unknown and repeated fields and long integers
 * (TAO_EFORMAT), which also keeps bytes from being read in two ways. Looks at
 * this message, not into messages inside it. */
enum tao_err tao_pb_unpack_strict(struct tao_pb_alloc *pa, const ProtobufCMessageDescriptor *d,
                                  const void *p, size_t n, const char *what,
                                  ProtobufCMessage **out);
void tao_pb_free(struct tao_pb_alloc *pa, ProtobufCMessage *m); /* NULL is fine */

/* Appends the serialized message (&msg.base); failures are the buffer's. */
void tao_pb_pack(const ProtobufCMessage *m, struct tao_buf *out);

#endif
