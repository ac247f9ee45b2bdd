/*
 * What keeper and measurer say to each other: packets, and the bodies of
 * requests and answers. The format is described in measurer.h.
 *
 * Errors: TAO_EPROTO (malformed; the peer is not to be trusted further),
 * TAO_ELIMIT, TAO_ESYS, TAO_ENOMEM.
 */
#ifndef HOST_MEASURER_WIRE_H
#define HOST_MEASURER_WIRE_H

#include "measure.h"
#include "running.h"

#define WIRE_BODY_MAX (MEASURE_MAX_MANIFEST + 65536u)

enum wire_op {
	WIRE_PROGRAM = 1,  /* struct measure_request -> struct measurement */
	WIRE_PROCESS = 2,  /* u32 pid -> struct process_view */
	WIRE_UNIT = 4,     /* u32 pid -> string, as unit_parse() */
	WIRE_STARTED = 3,  /* u32 pid, bytes of arguments to the end -> struct process_view */
	/* from the supervisor, unasked: what was not answered yet may be lost */
	WIRE_RESTARTED = 6,
	WIRE_CALLER = 7,   /* u32 pid -> string as from WIRE_UNIT, struct process_view */
	/* u64 id, u32 pid, u64 start, bytes of arguments to the end -> nothing */
	WIRE_HOLD = 8,
	WIRE_SEEN = 9,     /* u64 id -> struct process_view */
	/* struct running_request -> string path, struct measurement to the end */
	WIRE_RUNNING = 5,
};

struct packet {
	uint32_t op, seq;
	struct tao_buf body;
	int fd; /* -1: none */
};
#define PACKET_INIT { .body = { NULL, 0, 0, WIRE_BODY_MAX, TAO_OK }, .fd = -1 }
void packet_clear(struct packet *p); /* closes fd; usable again afterwards */

/* Sends; p stays the caller's. */
enum tao_err wire_send(int sock, const struct packet *p);
/* Receives one packet. TAO_ENOTFOUND: the peer has closed. */
enum tao_err wire_receive(int sock, struct packet *p);

/* fd goes beside the body, in struct packet. */
enum tao_err wire_put_request(struct tao_buf *b, const struct measure_request *rq);
/* All pointers of out then belong to it; fd is -1. */
enum tao_err wire_get_request(struct tao_rd *r, struct measure_request *out);
void wire_free_request(struct measure_request *rq);

enum tao_err wire_put_running(struct tao_buf *b, const struct running_request *rq);
/* Pointers of out then belong to it. */
enum tao_err wire_get_running(struct tao_rd *r, struct running_request *out);
void wire_free_running(struct running_request *rq);

void wire_put_measurement(struct tao_buf *b, const struct measurement *m);
/* copy_fd: -1, and *has_copy says whether a descriptor belongs to it. */
enum tao_err wire_get_measurement(struct tao_rd *r, struct measurement *out, int *has_copy);

void wire_put_string(struct tao_buf *b, const char *s);
/* malloc'ed; NULL when it is malformed (r->bad) or there is no memory. */
char *wire_get_string(struct tao_rd *r, size_t max);

void wire_put_view(struct tao_buf *b, const struct process_view *v);
enum tao_err wire_get_view(struct tao_rd *r, struct process_view *out);

/* The head of an answer. e must be the newest tao_fail() unless it is TAO_OK. */
void wire_put_result(struct tao_buf *b, enum tao_err e);
/* TAO_OK when the measurer succeeded; else its error, with its sentence. */
enum tao_err wire_get_result(struct tao_rd *r);

#endif
