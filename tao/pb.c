#include "pb.h"

#include <stddef.h>
#include <stdlib.h>

#include <openssl/crypto.h>

/* In front of each block, so that freeing knows how much to wipe. */
struct block {
	size_t n; /* header included */
	max_align_t body[];
};

static void *pb_alloc(void *data, size_t n)
{
	struct tao_pb_alloc *pa = data;
	struct block *b;

	if (pa->left < sizeof *b || n > pa->left - sizeof *b) {
		pa->over = 1;
		return NULL;
	}
	b = malloc(sizeof *b + n);
	if (b == NULL) {
		pa->nomem = 1;
		return NULL;
	}
	b->n = sizeof *b + n;
	pa->left -= b->n;
	return b->body;
}

static void pb_free(void *data, void *p)
{
	struct tao_pb_alloc *pa = data;
	struct block *b;

	if (p == NULL)
		return;
	b = (struct block *)((char *)p - offsetof(struct block, body));
	pa->left += b->n;
	OPENSSL_cleanse(b, b->n);
	free(b);
}

void tao_pb_alloc_init(struct tao_pb_alloc *pa, size_t cap)
{
	pa->base.alloc = pb_alloc;
	pa->base.free = pb_free;
	pa->base.allocator_data = pa;
	pa->left = cap;
	pa->over = pa->nomem = 0;
}

enum tao_err tao_pb_unpack(struct tao_pb_alloc *pa, const ProtobufCMessageDescriptor *d,
                           const void *p, size_t n, const char *what, ProtobufCMessage **out)
{
	pa->over = pa->nomem = 0;
	*out = protobuf_c_message_unpack(d, &pa->base, n, p);
	if (*out != NULL)
		return TAO_OK;
	if (pa->nomem)
		return tao_fail_nomem();
	if (pa->over)
		return tao_fail(TAO_ELIMIT, "the %s is too large or has too many fields", what);
	return tao_fail(TAO_EFORMAT, "malformed %s: it is damaged, truncated or something else",
	                what);
}

enum tao_err tao_pb_unpack_strict(struct tao_pb_alloc *pa, const ProtobufCMessageDescriptor *d,
                                  const void *p, size_t n, const char *what,
                                  ProtobufCMessage **out)
{
	enum tao_err e = tao_pb_unpack(pa, d, p, n, what, out);

	if (e != TAO_OK ||
	    ((*out)->n_unknown_fields == 0 && protobuf_c_message_get_packed_size(*out) == n))
		return e;
	tao_pb_free(pa, *out);
	*out = NULL;
	return tao_fail(TAO_EFORMAT, "malformed %s: it has unknown fields, or one twice", what);
}

void tao_pb_free(struct tao_pb_alloc *pa, ProtobufCMessage *m)
{
	if (m != NULL)
		protobuf_c_message_free_unpacked(m, &pa->base);
}

void tao_pb_pack(const ProtobufCMessage *m, struct tao_buf *out)
{
	uint8_t *to = tao_buf_room(out, protobuf_c_message_get_packed_size(m));

	if (to != NULL)
		protobuf_c_message_pack(m, to);
}
