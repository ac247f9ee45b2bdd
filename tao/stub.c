#include "stub.h"

#include <string.h>

#define VERSION 1
#define TAG_INTEGER 0x02
#define TAG_BIT_STRING 0x03
#define TAG_UTF8 0x0c
#define TAG_SEQUENCE 0x30
#define TAG_SEALED 0x80 /* [0] IMPLICIT OCTET STRING */
#define SPKI_MAX 4096
#define PEM_MAX (1u << 20) /* bytes of text that are searched */
#define PEM_LINE 64
#define BEGIN "-----BEGIN " TAO_STUB_PEM "-----"
#define END "-----END " TAO_STUB_PEM "-----"

/* DER */

static enum tao_err malformed(const char *what)
{
	return tao_fail(TAO_EFORMAT, "a Tao key stub is damaged (%s): write it again with 'tao key "
	                             "pem'", what);
}

static enum tao_err read_version(struct tao_rd *seq)
{
	struct tao_rd v = tao_rd_der(seq, TAG_INTEGER);
	size_t n = v.n;
	uint8_t first = tao_rd_u8(&v);

	if (v.bad || (first & 0x80) != 0 || (first == 0 && (n == 1 || (v.p[0] & 0x80) == 0)))
		return malformed("version"); /* negative, zero, or not the shortest form */
	if (n > 1 || first > VERSION)
		return tao_fail(TAO_EVERSION, "a Tao key stub has a newer version than %d: upgrade "
		                              "this Tao, or write the stub again with 'tao key "
		                              "pem'", VERSION);
	return TAO_OK;
}

/* The outer shape only: whether it is a key is for who uses it. */
static int spki_ok(const uint8_t *p, size_t n)
{
	struct tao_rd r = tao_rd_of(p, n), seq = tao_rd_der(&r, TAG_SEQUENCE);

	tao_rd_der(&seq, TAG_SEQUENCE);
	tao_rd_der(&seq, TAG_BIT_STRING);
	return n <= SPKI_MAX && tao_rd_done(&r) && tao_rd_done(&seq);
}

enum tao_err tao_stub_parse(const void *der, size_t n, struct tao_stub *out)
{
	struct tao_rd r = tao_rd_of(der, n), seq, name, spki, sealed = { 0 };
	enum tao_err e;

	memset(out, 0, sizeof *out);
	if (n > TAO_STUB_MAX)
		return tao_fail(TAO_ELIMIT, "a Tao key stub has %zu bytes: at most %d", n,
		                TAO_STUB_MAX);
	seq = tao_rd_der(&r, TAG_SEQUENCE);
	if (!tao_rd_done(&r))
		return malformed("its length is wrong");
	e = read_version(&seq);
	if (e != TAO_OK)
		return e;
	name = tao_rd_der(&seq, TAG_UTF8);
	spki = tao_rd_der_whole(&seq, TAG_SEQUENCE);
	if (!seq.bad && seq.n > 0)
		sealed = tao_rd_der(&seq, TAG_SEALED);
	if (!tao_rd_done(&seq) || (sealed.p != NULL && sealed.n == 0))
		return malformed("its fields are not those of a stub");
	if (!spki_ok(spki.p, spki.n))
		return malformed("public key");
	if (tao_key_name_check((const char *)name.p, name.n) != TAO_OK)
		return malformed("key name");
	*out = (struct tao_stub){ (const char *)name.p, name.n, spki.p, spki.n, sealed.p,
	                          sealed.n };
	return TAO_OK;
}

static void encode(const struct tao_stub *s, int with_sealed, struct tao_buf *der)
{
	static const uint8_t version = VERSION;
	struct tao_buf body = TAO_BUF_INIT;

	tao_buf_der(&body, TAG_INTEGER, &version, 1);
	tao_buf_der(&body, TAG_UTF8, s->name, s->name_n);
	tao_buf_put(&body, s->spki, s->spki_n);
	if (with_sealed && s->sealed != NULL)
		tao_buf_der(&body, TAG_SEALED, s->sealed, s->sealed_n);
	tao_buf_der(der, TAG_SEQUENCE, body.p, body.n);
	if (body.err != TAO_OK && der->err == TAO_OK)
		der->err = body.err;
	tao_buf_free(&body);
}

void tao_stub_encode(const struct tao_stub *s, struct tao_buf *der)
{
	encode(s, 1, der);
}

void tao_stub_aad(const struct tao_stub *s, struct tao_buf *der)
{
	encode(s, 0, der);
}

/* PEM (RFC 7468) */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum tao_err tao_stub_to_pem(const void *der, size_t n, struct tao_buf *pem)
{
	const uint8_t *p = der;
	size_t column = 0;

	if (n == 0 || n > TAO_STUB_MAX)
		return tao_fail(TAO_ELIMIT, "a Tao key stub has 1 to %d bytes", TAO_STUB_MAX);
	tao_buf_str(pem, BEGIN "\n");
	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
		             (left > 2 ? p[i + 2] : 0);
		char quad[4] = { alphabet[v >> 18], alphabet[v >> 12 & 63],
		                 left > 1 ? alphabet[v >> 6 & 63] : '=',
		                 left > 2 ? alphabet[v & 63] : '=' };

		tao_buf_put(pem, quad, sizeof quad);
		column += sizeof quad;
		if (column == PEM_LINE || left <= 3) {
			tao_buf_u8(pem, '\n');
			column = 0;
		}
	}
	tao_buf_str(pem, END "\n");
	return tao_buf_err(pem);
}

struct base64 {
	uint32_t bits;
	int n, pad; /* characters of the current group; '=' seen */
	int bad;
};

static void base64_char(struct base64 *d, char c, struct tao_buf *out)
{
	const char *at = c != 0 ? strchr(alphabet, c) : NULL;

	if (c == '=' && (d->n == 2 || d->n == 3))
		d->pad++;
	else if (at == NULL || d->pad > 0)
		d->bad = 1; /* not of the alphabet, or behind padding */
	d->bits = d->bits << 6 | (at != NULL ? (uint32_t)(at - alphabet) : 0);
	if (++d->n < 4 || d->bad)
		return;
	/* Padding must hide zero bits only: one stub, one text. */
	if ((d->bits & (d->pad == 2 ? 0xffff : d->pad == 1 ? 0xff : 0)) != 0)
		d->bad = 1;
	for (int i = 0; i < 3 - d->pad; i++)
		tao_buf_u8(out, (uint8_t)(d->bits >> (16 - 8 * i)));
	d->n = d->pad == 0 ? 0 : 4; /* nothing may follow padding */
	d->bits = 0;
}

/* The next line, without line end and blanks at its end. */
static struct tao_rd next_line(struct tao_rd *text)
{
	const uint8_t *start = text->p, *nl = memchr(start, '\n', text->n);
	size_t n = nl != NULL ? (size_t)(nl - start) : text->n;

	tao_rd_bytes(text, n + (nl != NULL));
	while (n > 0 && (start[n - 1] == '\r' || start[n - 1] == ' ' || start[n - 1] == '\t'))
		n--;
	return tao_rd_of(start, n);
}

static int line_is(const struct tao_rd *line, const char *s)
{
	return line->n == strlen(s) && memcmp(line->p, s, line->n) == 0;
}

static enum tao_err read_body(struct tao_rd *text, struct tao_buf *der)
{
	struct base64 d = { 0, 0, 0, 0 };

	while (text->n > 0) {
		struct tao_rd line = next_line(text);

		if (line_is(&line, END)) {
			if (d.bad || (d.n != 0 && d.pad == 0) || (d.pad > 0 && d.n != 4) ||
			    der->n == 0)
				return malformed("its base64 text");
			return tao_buf_err(der);
		}
		for (size_t i = 0; i < line.n && !d.bad; i++)
			base64_char(&d, (char)line.p[i], der);
		if (d.bad)
			return malformed("its base64 text");
	}
	return tao_fail(TAO_EFORMAT, "a Tao key stub is cut short: the line '" END "' is missing, "
	                             "write the stub again with 'tao key pem'");
}

enum tao_err tao_stub_from_pem(const char *pem, size_t n, struct tao_buf *der)
{
	struct tao_buf found = TAO_BUF_INIT;
	struct tao_rd text = tao_rd_of(pem, n);
	enum tao_err e;

	if (n > PEM_MAX)
		return tao_fail(TAO_ELIMIT, "more than %u bytes of PEM text", PEM_MAX);
	while (text.n > 0) {
		struct tao_rd line = next_line(&text);

		if (!line_is(&line, BEGIN))
			continue;
		found.max = TAO_STUB_MAX;
		e = read_body(&text, &found);
		if (e == TAO_OK) {
			tao_buf_put(der, found.p, found.n);
			e = tao_buf_err(der);
		}
		tao_buf_free(&found);
		return e;
	}
	return tao_fail(TAO_ENOTFOUND, "no Tao key stub (the line '" BEGIN "') here: write one "
	                               "with 'tao key pem'");
}

/* Key names */

enum tao_err tao_key_name_check(const char *name, size_t n)
{
	if (n == 0 || n > TAO_KEY_NAME_MAX)
		return tao_fail(TAO_EINVAL, "a key name has 1 to %d characters: choose another",
		                TAO_KEY_NAME_MAX);
	if (name[0] == '.' || name[0] == '-')
		return tao_fail(TAO_EINVAL, "a key name may not begin with '%c': choose another",
		                name[0]);
	for (size_t i = 0; i < n; i++) {
		char c = name[i];

		if ((c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') &&
		    c != '.' &&
		    c != '_' && c != '-')
			return tao_fail(TAO_EINVAL, "a key name is made of A-Z a-z 0-9 . _ - only: "
			                            "choose another");
	}
	return TAO_OK;
}
