#include "rpc.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "tao.pb-c.h"

#define ARENA (2 * TAO_RPC_MAX_HEADER) /* bytes protobuf-c may use for one header */

/* A header is unpacked into the caller's stack: capped, and nothing to free. */
struct arena {
	size_t used;
	_Alignas(16) uint8_t mem[ARENA];
};

static void *arena_alloc(void *data, size_t n)
{
	struct arena *a = data;
	void *p = a->mem + a->used;

	if (n > sizeof a->mem - a->used)
		return NULL;
	a->used += (n + 15) & ~(size_t)15;
	if (a->used > sizeof a->mem)
		a->used = sizeof a->mem;
	return p;
}

static void arena_free(void *data, void *p)
{
	(void)data;
	(void)p;
}

static void put_frame(struct tao_buf *b, const void *p, size_t n)
{
	tao_buf_u32(b, (uint32_t)n);
	tao_buf_put(b, p, n);
}

void tao_rpc_put_request(struct tao_buf *b, const char *op, uint64_t seq, const void *body,
                         size_t n)
{
	Tao__ProtoRPCRequestHeader h = TAO__PROTO_RPCREQUEST_HEADER__INIT;
	int cpu = sched_getcpu();
	uint8_t *p;

	h.op = (char *)op;
	h.seq = seq;
	h.has_cpu = cpu >= 0;
	h.cpu = cpu >= 0 ? (uint32_t)cpu : 0;
	tao_buf_u32(b, (uint32_t)tao__proto_rpcrequest_header__get_packed_size(&h));
	p = tao_buf_room(b, tao__proto_rpcrequest_header__get_packed_size(&h));
	if (p != NULL)
		tao__proto_rpcrequest_header__pack(&h, p);
	put_frame(b, body, n);
}

static void put_reply_header(struct tao_buf *b, const Tao__ProtoRPCResponseHeader *h)
{
	size_t n = tao__proto_rpcresponse_header__get_packed_size(h);
	uint8_t *p;

	tao_buf_u32(b, (uint32_t)n);
	p = tao_buf_room(b, n);
	if (p != NULL)
		tao__proto_rpcresponse_header__pack(h, p);
}

void tao_rpc_put_reply(struct tao_buf *b, const char *op, uint64_t seq, const void *body, size_t n)
{
	Tao__ProtoRPCResponseHeader h = TAO__PROTO_RPCRESPONSE_HEADER__INIT;

	h.op = (char *)op;
	h.seq = seq;
	put_reply_header(b, &h);
	put_frame(b, body, n);
}

void tao_rpc_put_error(struct tao_buf *b, const char *op, uint64_t seq, enum tao_err code,
                       const char *sentence)
{
	Tao__ProtoRPCResponseHeader h = TAO__PROTO_RPCRESPONSE_HEADER__INIT;

	h.op = (char *)op;
	h.seq = seq;
	h.error = (char *)(sentence[0] != 0 ? sentence : tao_err_text(code));
	h.has_code = 1;
	h.code = code;
	put_reply_header(b, &h);
	put_frame(b, NULL, 0);
}

/* The two frames of a message. *used stays 0 when more bytes are needed. */
static enum tao_err frames(const void *p, size_t n, size_t max_body, struct tao_rd *head,
                           struct tao_rd *body, size_t *used)
{
	struct tao_rd r = tao_rd_of(p, n);
	uint32_t head_n, body_n;

	*used = 0;
	if (n < 4)
		return TAO_OK;
	head_n = tao_rd_u32(&r);
	if (head_n > TAO_RPC_MAX_HEADER)
		return tao_fail(TAO_EPROTO, "a message header of %u bytes exceeds the limit of %u",
		                head_n, TAO_RPC_MAX_HEADER);
	if (r.n < (size_t)head_n + 4)
		return TAO_OK;
	*head = tao_rd_of(tao_rd_bytes(&r, head_n), head_n);
	body_n = tao_rd_u32(&r);
	if (body_n > max_body)
		return tao_fail(TAO_EPROTO, "a message of %u bytes exceeds the limit of %zu",
		                body_n, max_body);
	if (r.n < body_n)
		return TAO_OK;
	*body = tao_rd_of(tao_rd_bytes(&r, body_n), body_n);
	*used = n - r.n;
	return TAO_OK;
}

static enum tao_err take_op(struct tao_rpc_msg *m, const char *op, uint64_t seq)
{
	size_t n = strlen(op);

	if (n == 0 || n >= sizeof m->op)
		return tao_fail(TAO_EPROTO, "the operation's name is empty or too long");
	memcpy(m->op, op, n + 1);
	m->seq = seq;
	return TAO_OK;
}

enum tao_err tao_rpc_parse_request(const void *p, size_t n, size_t max_body, struct tao_rpc_msg *m,
                                   size_t *used)
{
	struct arena arena;
	ProtobufCAllocator alloc = { arena_alloc, arena_free, &arena };
	Tao__ProtoRPCRequestHeader *h;
	struct tao_rd head, body;
	enum tao_err e = frames(p, n, max_body, &head, &body, used);

	if (e != TAO_OK || *used == 0)
		return e;
	arena.used = 0; /* the rest stays as it is: clearing it would cost more than the parse */
	memset(m, 0, sizeof *m);
	m->body = body.p;
	m->body_n = body.n;
	h = tao__proto_rpcrequest_header__unpack(&alloc, head.n, head.p);
	if (h == NULL)
		return tao_fail(TAO_EPROTO, "a request header is malformed");
	m->cpu = h->has_cpu && h->cpu <= INT_MAX ? (int)h->cpu : -1;
	return take_op(m, h->op, h->seq);
}

enum tao_err tao_rpc_parse_reply(const void *p, size_t n, size_t max_body, struct tao_rpc_msg *m,
                                 size_t *used)
{
	struct arena arena;
	ProtobufCAllocator alloc = { arena_alloc, arena_free, &arena };
	Tao__ProtoRPCResponseHeader *h;
	struct tao_rd head, body;
	enum tao_err e = frames(p, n, max_body, &head, &body, used);

	if (e != TAO_OK || *used == 0)
		return e;
	arena.used = 0; /* the rest stays as it is: clearing it would cost more than the parse */
	memset(m, 0, sizeof *m);
	m->body = body.p;
	m->body_n = body.n;
	h = tao__proto_rpcresponse_header__unpack(&alloc, head.n, head.p);
	if (h == NULL)
		return tao_fail(TAO_EPROTO, "a reply header is malformed");
	if (h->error != NULL || (h->has_code && h->code != TAO_OK)) {
		/* A host that sends no code is CloudProxy's: any failure. */
		m->code = h->has_code && h->code != TAO_OK ? (enum tao_err)h->code : TAO_EPROTO;
		snprintf(m->error, sizeof m->error, "%s",
		         h->error != NULL && h->error[0] != 0 ? h->error
		                                              : tao_err_text((int)m->code));
	}
	return take_op(m, h->op, h->seq);
}
