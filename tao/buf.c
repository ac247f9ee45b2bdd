#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define MIN_CAP    64
#define VARINT_MAX 10 /* bytes of a 64-bit LEB128 */

const uint8_t *tao_rd_bytes(struct tao_rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || n > r->n) {
		r->bad = 1;
		r->n = 0;
		return NULL;
	}
	if (n > 0) /* NULL + 0 is undefined */
		r->p += n;
	r->n -= n;
	return p;
}

static uint64_t big_endian(struct tao_rd *r, size_t n)
{
	const uint8_t *p = tao_rd_bytes(r, n);
	uint64_t v = 0;

	for (size_t i = 0; p != NULL && i < n; i++)
		v = v << 8 | p[i];
	return v;
}

uint8_t tao_rd_u8(struct tao_rd *r)
{
	return (uint8_t)big_endian(r, 1);
}

uint32_t tao_rd_u32(struct tao_rd *r)
{
	return (uint32_t)big_endian(r, 4);
}

uint64_t tao_rd_u64(struct tao_rd *r)
{
	return big_endian(r, 8);
}

uint64_t tao_rd_varint(struct tao_rd *r)
{
	uint64_t v = 0;

	for (int i = 0; i < VARINT_MAX; i++) {
		uint8_t c = tao_rd_u8(r);

		if (r->bad)
			return 0;
		/* The tenth byte holds one bit; a last byte of 0 is padding. */
		if ((i == VARINT_MAX - 1 && c > 1) || (i > 0 && c == 0))
			break;
		v |= (uint64_t)(c & 0x7f) << (7 * i);
		if ((c & 0x80) == 0)
			return v;
	}
	r->bad = 1;
	r->n = 0;
	return 0;
}

/* Reads a DER header; returns the length of the contents. */
static size_t der_header(struct tao_rd *r, uint8_t tag)
{
	uint8_t first, count;
	size_t n;

	if (tao_rd_u8(r) != tag)
		r->bad = 1;
	first = tao_rd_u8(r);
	if (r->bad || first < 0x80)
		return first;
	count = first & 0x7f;
	if (count == 0 || count > 4) {
		r->bad = 1;
		return 0;
	}
	n = big_endian(r, count);
	if (n < 0x80 || n >> (8 * (count - 1)) == 0)
		r->bad = 1; /* not the shortest form */
	return n;
}

struct tao_rd tao_rd_der(struct tao_rd *r, uint8_t tag)
{
	size_t n = der_header(r, tag);
	const uint8_t *p = tao_rd_bytes(r, n);
	struct tao_rd sub = tao_rd_of(p, p != NULL ? n : 0);

	sub.bad = r->bad;
	return sub;
}

struct tao_rd tao_rd_der_whole(struct tao_rd *r, uint8_t tag)
{
	const uint8_t *start = r->p;
	struct tao_rd sub = tao_rd_der(r, tag);

	if (!sub.bad)
		sub = tao_rd_of(start, (size_t)(r->p - start));
	return sub;
}

int tao_rd_done(const struct tao_rd *r)
{
	return !r->bad && r->n == 0;
}

static int grow(struct tao_buf *b, size_t n)
{
	size_t cap = b->cap < MIN_CAP ? MIN_CAP : b->cap;
	uint8_t *p;

	if (b->err != TAO_OK)
		return 0;
	if (n > b->max || b->n > b->max - n) {
		b->err = TAO_ELIMIT;
		return 0;
	}
	if (b->p != NULL && b->n + n < b->cap)
		return 1;
	while (cap <= b->n + n) /* one byte is kept for a NUL */
		cap *= 2;
	p = malloc(cap);
	if (p == NULL) {
		b->err = TAO_ENOMEM;
		return 0;
	}
	if (b->n > 0)
		memcpy(p, b->p, b->n);
	if (b->p != NULL)
		OPENSSL_cleanse(b->p, b->cap);
	free(b->p);
	b->p = p;
	b->cap = cap;
	return 1;
}

uint8_t *tao_buf_room(struct tao_buf *b, size_t n)
{
	uint8_t *p;

	if (!grow(b, n))
		return NULL;
	p = b->p + b->n;
	b->n += n;
	return p;
}

void tao_buf_put(struct tao_buf *b, const void *p, size_t n)
{
	uint8_t *to;

	if (n == 0)
		return;
	to = tao_buf_room(b, n);
	if (to != NULL)
		memcpy(to, p, n);
}

static void put_big_endian(struct tao_buf *b, uint64_t v, size_t n)
{
	uint8_t *p = tao_buf_room(b, n);

	for (size_t i = n; p != NULL && i > 0; i--, v >>= 8)
		p[i - 1] = (uint8_t)v;
}

void tao_buf_u8(struct tao_buf *b, uint8_t v)
{
	tao_buf_put(b, &v, 1);
}

void tao_buf_u32(struct tao_buf *b, uint32_t v)
{
	put_big_endian(b, v, 4);
}

void tao_buf_u64(struct tao_buf *b, uint64_t v)
{
	put_big_endian(b, v, 8);
}

void tao_buf_varint(struct tao_buf *b, uint64_t v)
{
	while (v >= 0x80) {
		tao_buf_u8(b, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	tao_buf_u8(b, (uint8_t)v);
}

void tao_buf_str(struct tao_buf *b, const char *s)
{
	tao_buf_put(b, s, strlen(s));
}

void tao_buf_hex(struct tao_buf *b, const void *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *from = p;
	uint8_t *to;

	if (n > b->max / 2) {
		b->err = b->err == TAO_OK ? TAO_ELIMIT : b->err;
		return;
	}
	to = tao_buf_room(b, 2 * n);
	for (size_t i = 0; to != NULL && i < n; i++) {
		*to++ = (uint8_t)digits[from[i] >> 4];
		*to++ = (uint8_t)digits[from[i] & 15];
	}
}

void tao_buf_fmt(struct tao_buf *b, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->err = b->err == TAO_OK ? TAO_ENOMEM : b->err;
		return;
	}
	tao_buf_put(b, text, (size_t)n);
	free(text);
}

void tao_buf_der(struct tao_buf *b, uint8_t tag, const void *p, size_t n)
{
	size_t count = 0;

	tao_buf_u8(b, tag);
	if (n < 0x80) {
		tao_buf_u8(b, (uint8_t)n);
	} else {
		for (size_t v = n; v > 0; v >>= 8)
			count++;
		tao_buf_u8(b, (uint8_t)(0x80 | count));
		put_big_endian(b, n, count);
	}
	tao_buf_put(b, p, n);
}

const char *tao_buf_cstr(struct tao_buf *b)
{
	if (b->err != TAO_OK || b->p == NULL)
		return "";
	b->p[b->n] = 0;
	return (const char *)b->p;
}

char *tao_buf_steal(struct tao_buf *b)
{
	char *s;

	if (!grow(b, 0)) {
		enum tao_err e = b->err;

		tao_buf_free(b);
		b->err = e; /* for who asks why */
		return NULL;
	}
	s = (char *)b->p;
	s[b->n] = 0;
	b->p = NULL;
	b->n = b->cap = 0;
	return s;
}

enum tao_err tao_buf_err(const struct tao_buf *b)
{
	switch (b->err) {
	case TAO_OK:
		return TAO_OK;
	case TAO_ENOMEM:
		return tao_fail_nomem();
	default:
		return tao_fail(b->err, "the data would exceed its limit of %zu bytes", b->max);
	}
}

void tao_buf_reset(struct tao_buf *b)
{
	if (b->p != NULL)
		OPENSSL_cleanse(b->p, b->cap);
	b->n = 0;
	b->err = TAO_OK;
}

void tao_buf_free(struct tao_buf *b)
{
	tao_buf_reset(b);
	free(b->p);
	b->p = NULL;
	b->cap = 0;
}

enum tao_err tao_unhex(const char *hex, size_t len, uint8_t *out, size_t n)
{
	if (len != 2 * n)
		return tao_fail(TAO_EFORMAT, "expected %zu hex digits, got %zu", 2 * n, len);
	for (size_t i = 0; i < len; i++) {
		char c = hex[i];
		int v = c >= '0' && c <= '9'   ? c - '0'
		        : c >= 'a' && c <= 'f' ? c - 'a' + 10
		        : c >= 'A' && c <= 'F' ? c - 'A' + 10
		                               : -1;

		if (v < 0)
			return tao_fail(TAO_EFORMAT, "character %zu is not a hex digit", i + 1);
		out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
	}
	return TAO_OK;
}
