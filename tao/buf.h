/*
 * Bytes: the bounded reader and the one writer.
 *
 * Every parser of untrusted bytes reads through struct tao_rd and nothing
 * else; every encoder writes through struct tao_buf. Both keep a sticky
 * failure, so that a parser or encoder reads like the schema it follows and
 * checks once at its end.
 *
 * Reader: does not own its bytes. A read past the end sets .bad and yields
 * zeros or empty; all later reads then do the same.
 *
 * Writer: owns its bytes. Growth copies to fresh memory and wipes the old;
 * tao_buf_free() wipes as well, so it may hold secrets. It refuses to grow
 * past .max (TAO_ELIMIT). A zeroed struct with TAO_BUF_MAX is a valid empty
 * one: use TAO_BUF_INIT.
 */
#ifndef TAO_BUF_H
#define TAO_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define TAO_BUF_MAX (20u << 20) /* default limit of a writer: 20 MiB, CloudProxy's message limit */

struct tao_rd {
	const uint8_t *p;
	size_t n;   /* bytes left */
	int bad;    /* a read went past the end or met something malformed */
};

static inline struct tao_rd tao_rd_of(const void *p, size_t n)
{
	struct tao_rd r = { (const uint8_t *)p, n, 0 };
	return r;
}

/* Big-endian integers. */
uint8_t tao_rd_u8(struct tao_rd *r);
uint32_t tao_rd_u32(struct tao_rd *r);
uint64_t tao_rd_u64(struct tao_rd *r);
/* n bytes in place; NULL when they are not there. */
const uint8_t *tao_rd_bytes(struct tao_rd *r, size_t n);
/* Unsigned LEB128 of at most 64 bits; a non-minimal encoding is bad. */
uint64_t tao_rd_varint(struct tao_rd *r);
/* One DER element with this tag (low-tag-number form, definite minimal
 * length): the contents as a reader of their own. */
struct tao_rd tao_rd_der(struct tao_rd *r, uint8_t tag);
/* The same, but header included: for an element that is handed on whole. */
struct tao_rd tao_rd_der_whole(struct tao_rd *r, uint8_t tag);
/* 1 when all was read and nothing was bad. */
int tao_rd_done(const struct tao_rd *r);

struct tao_buf {
	uint8_t *p;
	size_t n, cap, max;
	enum tao_err err; /* first failure; later writes do nothing */
};

#define TAO_BUF_INIT { NULL, 0, 0, TAO_BUF_MAX, TAO_OK }

void tao_buf_put(struct tao_buf *b, const void *p, size_t n);
void tao_buf_u8(struct tao_buf *b, uint8_t v);
void tao_buf_u32(struct tao_buf *b, uint32_t v); /* big-endian */
void tao_buf_u64(struct tao_buf *b, uint64_t v); /* big-endian */
void tao_buf_varint(struct tao_buf *b, uint64_t v);
void tao_buf_str(struct tao_buf *b, const char *s); /* without its NUL */
void tao_buf_hex(struct tao_buf *b, const void *p, size_t n); /* lower case */
/* Not for secrets: printf() keeps copies of its own. */
void tao_buf_fmt(struct tao_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A DER element: tag, minimal length, contents. */
void tao_buf_der(struct tao_buf *b, uint8_t tag, const void *p, size_t n);
/* Room for n more bytes at the end, counted as written; NULL on failure. */
uint8_t *tao_buf_room(struct tao_buf *b, size_t n);
/* The contents as a C string (a NUL is kept behind them, not counted); "" if
 * empty or failed. */
const char *tao_buf_cstr(struct tao_buf *b);
/* The contents as a malloc'ed C string, the buffer emptied; NULL on failure. */
char *tao_buf_steal(struct tao_buf *b);
/* The sticky error, with its sentence set again if there was one. */
enum tao_err tao_buf_err(const struct tao_buf *b);
void tao_buf_reset(struct tao_buf *b); /* wipes, keeps memory, clears the error */
void tao_buf_free(struct tao_buf *b);  /* wipes; usable again afterwards */

/* Hex text to bytes; 0 on success, TAO_EFORMAT if not exactly 2*n hex digits. */
enum tao_err tao_unhex(const char *hex, size_t len, uint8_t *out, size_t n);

#endif
