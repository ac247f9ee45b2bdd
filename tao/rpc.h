/*
 * RPC framing: what goes over a program's channel.
 *
 * Each message is a 4-byte big-endian length and a protobuf. A request or a
 * response is two messages, header then body (CloudProxy: go/util/protorpc).
 * An error response has header.error set and an empty body. Replies carry the
 * sequence number of their request.
 *
 * Limits: a frame from a program is at most TAO_RPC_MAX_REQUEST bytes, one from
 * a host at most TAO_RPC_MAX_REPLY; a header at most TAO_RPC_MAX_HEADER. They
 * are checked on the length field, before anything is stored.
 *
 * Errors: TAO_EPROTO for anything that is not this format.
 */
#ifndef TAO_RPC_H
#define TAO_RPC_H

#include <stdint.h>

#include "buf.h"

#define TAO_RPC_MAX_HEADER 4096
#define TAO_RPC_MAX_REQUEST (1u << 20)
#define TAO_RPC_MAX_REPLY (4u << 20)
#define TAO_RPC_MAX_OP 64

/* Appends a header frame and a body frame (body already serialized). The
 * request's header tells the CPU of the calling thread. */
void tao_rpc_put_request(struct tao_buf *b, const char *op, uint64_t seq, const void *body,
                         size_t n);
void tao_rpc_put_reply(struct tao_buf *b, const char *op, uint64_t seq, const void *body,
                       size_t n);
/* code and sentence of a failure. */
void tao_rpc_put_error(struct tao_buf *b, const char *op, uint64_t seq, enum tao_err code,
                       const char *sentence);

struct tao_rpc_msg {
	char op[TAO_RPC_MAX_OP];
	uint64_t seq;
	int cpu;           /* a request's: the caller's CPU as it says, a hint; -1: not told */
	enum tao_err code; /* a reply's; TAO_OK: success */
	char error[TAO_WHY_MAX];
	const uint8_t *body; /* into the bytes parsed */
	size_t body_n;
};

/* Parses one request or reply at the start of p[0..n). Returns TAO_OK with
 * *used > 0, or TAO_OK with *used == 0 when more bytes are needed, or
 * TAO_EPROTO. max_body limits the body frame. */
enum tao_err tao_rpc_parse_request(const void *p, size_t n, size_t max_body,
                                   struct tao_rpc_msg *m, size_t *used);
enum tao_err tao_rpc_parse_reply(const void *p, size_t n, size_t max_body,
                                 struct tao_rpc_msg *m, size_t *used);

#endif
