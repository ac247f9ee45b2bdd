/* Text of the logic to tokens. */
#include <string.h>

#include "logic_int.h"

#define FOUND_MAX 24 /* bytes of the text that a complaint quotes */

static void bad(struct tao_lex *l, size_t at, const char *what)
{
	if (l->err == TAO_OK)
		l->err = tao_fail(TAO_EFORMAT, "column %zu: %s", at + 1, what);
	l->tok = TAO_TOK_BAD;
}

void tao_lex_fail(struct tao_lex *l, const char *wanted)
{
	char found[FOUND_MAX + 1];
	size_t i, n = l->pos - l->at < FOUND_MAX ? l->pos - l->at : FOUND_MAX;

	if (l->err != TAO_OK)
		return;
	for (i = 0; i < n; i++)
		found[i] = l->s[l->at + i] >= ' ' && l->s[l->at + i] <= '~' ? l->s[l->at + i] : '?';
	found[n] = '\0';
	l->err = tao_fail(TAO_EFORMAT, "column %zu: expected %s, found %s", l->at + 1, wanted,
	                  n > 0 ? found : "the end");
	l->tok = TAO_TOK_BAD;
}

void tao_lex_init(struct tao_lex *l, const char *text, size_t len)
{
	static const struct tao_buf empty = TAO_BUF_INIT;

	memset(l, 0, sizeof *l);
	l->s = text;
	l->n = len;
	l->buf = empty;
	tao_lex_next(l);
}

void tao_lex_free(struct tao_lex *l)
{
	tao_buf_free(&l->buf);
}

static int here(const struct tao_lex *l)
{
	return l->pos < l->n ? (unsigned char)l->s[l->pos] : -1;
}

static int hex_digit(int c)
{
	if (tao_is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Escapes with digits: \xNN and \NNN give a byte, \u and \U a character. */
static const struct escape {
	int letter, digits, base;
} escapes[] = { { 'x', 2, 16 }, { 'u', 4, 16 }, { 'U', 8, 16 }, { 0, 3, 8 } };

static void lex_number_escape(struct tao_lex *l, size_t at)
{
	const struct escape *e = escapes;
	uint32_t v = 0;
	int i, d;

	while (e->letter != 0 && e->letter != here(l))
		e++;
	if (e->letter != 0)
		l->pos++;
	for (i = 0; i < e->digits; i++, l->pos++) {
		d = hex_digit(here(l));
		if (d < 0 || d >= e->base) {
			bad(l, at, "unknown or incomplete escape in a string");
			return;
		}
		v = v * (uint32_t)e->base + (uint32_t)d;
	}
	if (e->digits > 3 ? tao_rune_put(&l->buf, v) != 0 : v > 255)
		bad(l, at, "an escape in a string stands for no character");
	else if (e->digits <= 3)
		tao_buf_u8(&l->buf, (uint8_t)v);
}

static void lex_escape(struct tao_lex *l)
{
	static const char letters[] = "abfnrtv\\\"", meaning[] = "\a\b\f\n\r\t\v\\\"";
	size_t at = l->pos++;
	int c = here(l);
	const char *found = c > 0 ? strchr(letters, c) : NULL;

	if (found == NULL) {
		lex_number_escape(l, at);
		return;
	}
	tao_buf_u8(&l->buf, (uint8_t)meaning[found - letters]);
	l->pos++;
}

static void lex_rune(struct tao_lex *l)
{
	const uint8_t *p = (const uint8_t *)l->s + l->pos;
	uint32_t rune;
	size_t n = tao_rune_get(p, l->n - l->pos, &rune);

	if (n == 0) {
		bad(l, l->pos, "a string is not UTF-8: write the byte as \\xNN");
	} else if (rune == '\n') {
		bad(l, l->pos, "a string does not end on its line: write a line feed as \\n");
	} else {
		tao_buf_put(&l->buf, p, n);
		l->pos += n;
	}
}

static void lex_str(struct tao_lex *l)
{
	l->tok = TAO_TOK_STR;
	l->pos++;
	while (l->err == TAO_OK && l->pos < l->n && here(l) != '"') {
		if (here(l) == '\\')
			lex_escape(l);
		else
			lex_rune(l);
	}
	if (l->err == TAO_OK && l->pos == l->n)
		bad(l, l->at, "a string lacks its closing quote");
	else if (l->err == TAO_OK)
		l->pos++;
}

static void lex_hex(struct tao_lex *l)
{
	int d, high = -1;

	l->tok = TAO_TOK_BYTES;
	for (l->pos++; (d = hex_digit(here(l))) >= 0; l->pos++) {
		if (high < 0) {
			high = d;
			continue;
		}
		tao_buf_u8(&l->buf, (uint8_t)(high << 4 | d));
		high = -1;
	}
	if (here(l) != ']' || high >= 0)
		bad(l, l->pos, "bytes are pairs of hex digits in [..], without spaces");
	else
		l->pos++;
}

/* Only the one spelling of each value: padded, no stray bits at the end. */
static void lex_base64(struct tao_lex *l)
{
	static const char alphabet[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t acc = 0;
	size_t chars = 0, pad = 0, bits = 0;
	int c, ok = 1;

	l->tok = TAO_TOK_BYTES;
	for (l->pos++; ok && (c = here(l)) != '}'; l->pos++) {
		const char *digit = c > 0 ? strchr(alphabet, c) : NULL;

		pad += c == '=';
		chars += digit != NULL;
		ok = digit != NULL ? pad == 0 : c == '=';
		if (!ok || digit == NULL)
			continue;
		acc = acc << 6 | (uint32_t)(digit - alphabet);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			tao_buf_u8(&l->buf, (uint8_t)(acc >> bits));
			acc &= (1u << bits) - 1;
		}
	}
	if (!ok || (chars + pad) % 4 != 0 || pad > 2 || acc != 0)
		bad(l, l->at, "bytes in {..} are base64url with padding, without spaces");
	else
		l->pos++;
}

static void lex_int(struct tao_lex *l)
{
	int minus = here(l) == '-';
	uint64_t v = 0, limit = (uint64_t)INT64_MAX + (minus ? 1 : 0);

	l->tok = TAO_TOK_INT;
	l->pos += (size_t)minus;
	if (!tao_is_digit(here(l))) {
		bad(l, l->at, "a minus sign needs a digit behind it");
		return;
	}
	for (; tao_is_digit(here(l)); l->pos++) {
		uint64_t d = (uint64_t)(here(l) - '0');

		if (v > (limit - d) / 10) {
			bad(l, l->at, "a number does not fit into 64 bits with a sign");
			return;
		}
		v = v * 10 + d;
	}
	l->num = minus ? (int64_t)(0 - v) : (int64_t)v;
}

static void lex_word(struct tao_lex *l)
{
	int w;

	while (tao_is_lower(here(l)))
		l->pos++;
	/* The one word with a digit. */
	if (l->pos - l->at == 3 && memcmp(l->val, "tpm", 3) == 0 && here(l) == '2')
		l->pos++;
	l->len = l->pos - l->at;
	w = tao_word_reserved(l->val, l->len);
	l->tok = w < 0 ? TAO_TOK_WORD : TAO_TOK_RESERVED + w;
}

static void lex_name(struct tao_lex *l)
{
	while (tao_is_name_char(here(l)))
		l->pos++;
	l->len = l->pos - l->at;
	l->tok = TAO_TOK_NAME;
}

static int is_space(int c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A string's or byte string's value is in the buffer. */
static void take_buf(struct tao_lex *l, void (*lex)(struct tao_lex *l))
{
	tao_buf_reset(&l->buf);
	lex(l);
	if (l->err == TAO_OK && l->buf.err != TAO_OK) {
		l->err = tao_buf_err(&l->buf);
		l->tok = TAO_TOK_BAD;
	}
	l->val = (const char *)l->buf.p;
	l->len = l->buf.n;
}

void tao_lex_next(struct tao_lex *l)
{
	size_t before = l->pos;
	int c;

	if (l->err != TAO_OK)
		return;
	while (is_space(here(l)))
		l->pos++;
	l->glued = l->pos == before;
	l->at = l->pos;
	l->val = l->s + l->pos;
	l->len = 0;
	c = here(l);
	if (c < 0) {
		l->tok = TAO_TOK_EOF;
	} else if (c == '"') {
		take_buf(l, lex_str);
	} else if (c == '[') {
		take_buf(l, lex_hex);
	} else if (c == '{') {
		take_buf(l, lex_base64);
	} else if (c == '-' || tao_is_digit(c)) {
		lex_int(l);
	} else if (tao_is_lower(c)) {
		lex_word(l);
	} else if (tao_is_name_char(c) && c != '_') {
		lex_name(l);
	} else if (c != 0 && strchr("(),.:", c) != NULL) {
		l->tok = c;
		l->pos++;
	} else {
		bad(l, l->pos, "a character that stands in no formula");
	}
}
