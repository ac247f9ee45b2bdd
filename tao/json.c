#include "json.h"

#include <inttypes.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define UTF8_MAX 4

/* Lead bytes by length: mask, value, and the smallest code point that needs it. */
static const struct {
	uint8_t mask, lead;
	uint32_t least;
} utf8[UTF8_MAX + 1] = {
	{ 0, 0, 0 }, { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 },
	{ 0xf8, 0xf0, 0x10000 },
};

/* Bytes of the character at s (NUL-terminated); 0: not UTF-8. */
static size_t utf8_len(const uint8_t *s)
{
	for (size_t n = 1; n <= UTF8_MAX; n++) {
		uint32_t c = s[0] & (uint8_t)~utf8[n].mask;

		if ((s[0] & utf8[n].mask) != utf8[n].lead)
			continue;
		for (size_t i = 1; i < n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[i] & 0x3f);
		}
		return c < utf8[n].least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
	}
	return 0;
}

static void put_char(struct tao_buf *b, const uint8_t *s, size_t n)
{
	static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, its letter */

	for (size_t i = 0; i + 1 < sizeof named; i += 2) {
		if (n == 1 && s[0] == (uint8_t)named[i]) {
			tao_buf_u8(b, '\\');
			tao_buf_u8(b, (uint8_t)named[i + 1]);
			return;
		}
	}
	if (n == 0)
		tao_buf_str(b, REPLACEMENT);
	else if (s[0] < 0x20)
		tao_buf_fmt(b, "\\u%04x", s[0]);
	else
		tao_buf_put(b, s, n);
}

/* Bytes that stand for themselves: principals and paths are made of them. */
static size_t plain_len(const uint8_t *s)
{
	size_t n = 0;

	while (s[n] >= 0x20 && s[n] < 0x7f && s[n] != '"' && s[n] != '\\')
		n++;
	return n;
}

static void put_string(struct tao_buf *b, const char *text)
{
	const uint8_t *s = (const uint8_t *)text;

	tao_buf_u8(b, '"');
	while (*s != 0) {
		size_t n = plain_len(s);

		tao_buf_put(b, s, n);
		s += n;
		if (n != 0)
			continue;
		n = utf8_len(s);
		put_char(b, s, n);
		s += n != 0 ? n : 1;
	}
	tao_buf_u8(b, '"');
}

static void element(struct tao_json *j, const char *key)
{
	if (j->comma)
		tao_buf_u8(j->b, ',');
	j->comma = 1;
	if (key == NULL)
		return;
	put_string(j->b, key);
	tao_buf_u8(j->b, ':');
}

void tao_json_open(struct tao_json *j, struct tao_buf *b)
{
	j->b = b;
	j->comma = 0;
}

void tao_json_begin(struct tao_json *j, const char *key, char bracket)
{
	element(j, key);
	tao_buf_u8(j->b, (uint8_t)bracket);
	j->comma = 0;
}

void tao_json_end(struct tao_json *j, char bracket)
{
	tao_buf_u8(j->b, (uint8_t)bracket);
	j->comma = 1;
}

void tao_json_str(struct tao_json *j, const char *key, const char *value)
{
	element(j, key);
	if (value != NULL)
		put_string(j->b, value);
	else
		tao_buf_str(j->b, "null");
}

void tao_json_hex(struct tao_json *j, const char *key, const void *p, size_t n)
{
	element(j, key);
	tao_buf_u8(j->b, '"');
	tao_buf_hex(j->b, p, n);
	tao_buf_u8(j->b, '"');
}

void tao_json_int(struct tao_json *j, const char *key, int64_t v)
{
	element(j, key);
	tao_buf_fmt(j->b, "%" PRId64, v);
}

void tao_json_bool(struct tao_json *j, const char *key, int v)
{
	element(j, key);
	tao_buf_str(j->b, v ? "true" : "false");
}
