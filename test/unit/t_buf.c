/* tao/buf.h: the bounded reader, the one writer, hex. */
#include "tao/buf.h"

#include "tap.h"

/* ---- reader ---- */

static void integers(void)
{
	static const uint8_t bytes[] = {
		0x01, 0x80, 0x02, 0x03, 0x04, 0xff, 0, 0, 0, 0, 0, 0, 0x05
	};
	struct tao_rd r = tao_rd_of(bytes, sizeof bytes);
	const uint8_t *p;

	ok(tao_rd_u8(&r) == 1, "one byte");
	ok(tao_rd_u32(&r) == 0x80020304, "four bytes are big-endian");
	ok(tao_rd_u64(&r) == 0xff00000000000005, "eight bytes are big-endian");
	ok(tao_rd_done(&r), "all was read");
	p = tao_rd_bytes(&r, 0);
	ok(p == bytes + sizeof bytes && tao_rd_done(&r), "nothing can be read at the end");
	ok(tao_rd_u8(&r) == 0 && r.bad && !tao_rd_done(&r), "a byte past the end is bad");
}

static void sticky(void)
{
	static const uint8_t bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct tao_rd r = tao_rd_of(bytes, sizeof bytes), sub;

	ok(tao_rd_bytes(&r, 9) == NULL && r.bad, "more bytes than there are");
	ok(r.n == 0 && tao_rd_u8(&r) == 0 && tao_rd_u32(&r) == 0 && tao_rd_u64(&r) == 0 &&
	       tao_rd_varint(&r) == 0,
	   "then all that is read is zero");
	ok(tao_rd_bytes(&r, 0) == NULL && tao_rd_bytes(&r, 1) == NULL, "or nothing");
	sub = tao_rd_der(&r, 1);
	ok(sub.bad && sub.n == 0 && sub.p == NULL, "or a bad element");
	ok(!tao_rd_done(&r), "and it never is done");
	r = tao_rd_of(bytes, sizeof bytes);
	ok(tao_rd_bytes(&r, SIZE_MAX) == NULL && r.bad, "the greatest size does not wrap");
	r = tao_rd_of(bytes, 3);
	ok(tao_rd_u32(&r) == 0 && r.bad, "an integer that is cut yields zero");
	r = tao_rd_of(NULL, 0);
	ok(tao_rd_done(&r), "no bytes at all are done");
	tao_rd_bytes(&r, 0);
	ok(tao_rd_done(&r), "also after reading none");
	tao_rd_u8(&r);
	ok(!tao_rd_done(&r), "but not after reading one");
}

static void varint(const char *bytes, size_t n, int good, uint64_t want, const char *what)
{
	struct tao_rd r = tao_rd_of(bytes, n);
	struct tao_buf b = TAO_BUF_INIT;
	uint64_t v = tao_rd_varint(&r);

	if (!good) {
		ok(r.bad && v == 0 && r.n == 0, "%s is refused", what);
		return;
	}
	ok(tao_rd_done(&r) && v == want, "%s", what);
	tao_buf_varint(&b, want);
	ok(b.n == n && memcmp(b.p, bytes, n) == 0, "%s is written so", what);
	tao_buf_free(&b);
}

#define VARINT(bytes, good, want, what) varint(bytes, sizeof bytes - 1, good, want, what)

static void varints(void)
{
	VARINT("\x00", 1, 0, "0");
	VARINT("\x7f", 1, 0x7f, "the greatest of one byte");
	VARINT("\x80\x01", 1, 0x80, "the least of two bytes");
	VARINT("\xff\x7f", 1, 0x3fff, "the greatest of two bytes");
	VARINT("\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 1, INT64_MAX, "the greatest of nine bytes");
	VARINT("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 1, 1ull << 63, "the least of ten bytes");
	VARINT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 1, UINT64_MAX, "the greatest of all");
	VARINT("\x80\x00", 0, 0, "0 in two bytes");
	VARINT("\xff\x80\x00", 0, 0, "127 in three bytes");
	VARINT("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 0, 0, "0 in ten bytes");
	VARINT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 0, 0, "a 65th bit");
	VARINT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 0, 0, "an eleventh byte");
	VARINT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", 0, 0, "an eleventh byte with a bit");
	VARINT("\x80", 0, 0, "one that is cut");
	VARINT("", 0, 0, "one of no bytes");
}

#define ELEMENTS 300

/* Elements of each length up to a two-byte one, and some longer ones. */
static void der_lengths(void)
{
	static uint8_t body[70000];
	static const size_t more[] = { 65535, 65536, sizeof body };
	int good = 1, whole = 1;

	for (size_t i = 0; i < ELEMENTS + sizeof more / sizeof more[0]; i++) {
		size_t n = i < ELEMENTS ? i : more[i - ELEMENTS];
		struct tao_buf b = TAO_BUF_INIT;
		struct tao_rd r, sub;

		memset(body, (int)i, n);
		tao_buf_der(&b, 0x30, body, n);
		r = tao_rd_of(b.p, b.n);
		sub = tao_rd_der(&r, 0x30);
		good &= tao_rd_done(&r) && sub.n == n && (n == 0 || memcmp(sub.p, body, n) == 0);
		r = tao_rd_of(b.p, b.n);
		sub = tao_rd_der_whole(&r, 0x30);
		whole &= tao_rd_done(&r) && sub.p == b.p && sub.n == b.n;
		for (size_t cut = 0; cut < b.n && cut < 8; cut++) {
			r = tao_rd_of(b.p, cut < 4 ? cut : b.n - (cut - 3));
			sub = tao_rd_der(&r, 0x30);
			good &= r.bad && sub.bad && sub.n == 0;
		}
		tao_buf_free(&b);
	}
	ok(good, "elements of each length come back, and not when cut");
	ok(whole, "and with their headers");
}

static void der(const char *bytes, size_t n, const char *want, const char *what)
{
	struct tao_rd r = tao_rd_of(bytes, n), sub = tao_rd_der(&r, 0x04);
	struct tao_rd again = tao_rd_of(bytes, n), whole = tao_rd_der_whole(&again, 0x04);

	if (want == NULL) {
		ok(r.bad && sub.bad && again.bad && whole.bad && whole.n == 0, "%s is refused",
		   what);
		return;
	}
	ok(!r.bad && !sub.bad && sub.n == strlen(want) && memcmp(sub.p, want, sub.n) == 0, "%s",
	   what);
}

#define DER(bytes, want, what) der(bytes, sizeof bytes - 1, want, what)

static void der_headers(void)
{
	static const char padded[4 + 0x80] = { 4, '\x82', 0, '\x80' };
	static const char wraps[11 + 0x80] = { 4, '\x89', 1, 0, 0, 0, 0, 0, 0, 0, '\x80' };

	DER("\x04\x02hi", "hi", "an element");
	DER("\x04\x02hi\x05", "hi", "an element before another");
	DER("\x04\x00", "", "an empty element");
	DER("\x05\x02hi", NULL, "another tag");
	DER("\x04\x80hi\0\0", NULL, "an indefinite length");
	DER("\x04\x81\x02hi", NULL, "a length of two bytes where one is enough");
	DER("\x04\x81\x7f", NULL, "the same at the limit");
	DER("\x04\x82\x00\x02hi", NULL, "a length with a leading zero");
	der(padded, sizeof padded, NULL, "a length of three bytes where two are enough");
	DER("\x04\x84\xff\xff\xff\xffhi", NULL, "a length far past the end");
	DER("\x04\x85\x00\x00\x00\x00\x02hi", NULL, "a length of five bytes");
	der(wraps, sizeof wraps, NULL, "a length of nine bytes, of which eight would fit");
	DER("\x04\xff", NULL, "the reserved length");
	DER("\x04\x81", NULL, "a length that is cut");
	DER("\x04", NULL, "a tag alone");
	DER("\x04\x03hi", NULL, "an element that is cut");
	DER("", NULL, "nothing");
}

/* ---- writer ---- */

static void writes(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	static const char want[] = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d"
				   "ab"
				   "00ff7e"
				   "x=7;";

	ok_str(tao_buf_cstr(&b), "", "an empty buffer as a string");
	tao_buf_u8(&b, 1);
	tao_buf_u32(&b, 0x02030405);
	tao_buf_u64(&b, 0x060708090a0b0c0d);
	tao_buf_str(&b, "ab");
	tao_buf_put(&b, NULL, 0);
	tao_buf_hex(&b, "\x00\xff\x7e", 3);
	tao_buf_fmt(&b, "%s=%d;", "x", 7);
	ok(b.n == sizeof want - 1 && memcmp(b.p, want, b.n) == 0, "all that was written, in order");
	ok(tao_buf_cstr(&b)[b.n] == 0 && b.n == sizeof want - 1, "a NUL behind it is not counted");
	ok_err(tao_buf_err(&b), TAO_OK, "no error");
	tao_buf_reset(&b);
	ok(b.n == 0 && b.p != NULL && strcmp(tao_buf_cstr(&b), "") == 0, "reset empties it");
	tao_buf_free(&b);
	ok(b.p == NULL && b.n == 0 && b.cap == 0, "free frees it");
	tao_buf_str(&b, "again");
	ok_str(tao_buf_cstr(&b), "again", "and it is usable again");
	tao_buf_free(&b);
	tao_buf_free(&b);
}

static void growth(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	int room = 1, same = 1;

	for (size_t i = 0; i < 5000; i++) {
		tao_buf_u8(&b, (uint8_t)(i * 7));
		room &= b.n == i + 1 && b.cap > b.n;
	}
	for (size_t i = 0; i < 5000; i++)
		same &= b.p[i] == (uint8_t)(i * 7);
	ok(room, "there always is room for a NUL");
	ok(same, "growth keeps the bytes");
	tao_buf_free(&b);
}

static void limit(void)
{
	struct tao_buf b = TAO_BUF_INIT;

	b.max = 100;
	ok(tao_buf_room(&b, 100) != NULL && b.n == 100, "all up to the limit");
	ok_err(tao_buf_err(&b), TAO_OK, "is no error");
	memset(b.p, 'x', 100);
	ok(strlen(tao_buf_cstr(&b)) == 100, "also as a string");
	tao_buf_u8(&b, 'y');
	ok(b.n == 100 && b.err == TAO_ELIMIT, "a byte more is refused");
	tao_fail(TAO_EINVAL, "something else");
	ok_err(tao_buf_err(&b), TAO_ELIMIT, "the error stays");
	ok_str(tao_why(), "the data would exceed its limit of 100 bytes", "with its sentence");
	ok_str(tao_buf_cstr(&b), "", "and there is no string");
	b.n = 0;
	tao_buf_str(&b, "fits");
	tao_buf_fmt(&b, "%d", 1);
	tao_buf_hex(&b, "a", 1);
	tao_buf_der(&b, 4, "a", 1);
	tao_buf_varint(&b, 1);
	ok(b.n == 0 && tao_buf_room(&b, 0) == NULL, "nothing is written after an error");
	tao_buf_reset(&b);
	tao_buf_str(&b, "fits");
	ok_str(tao_buf_cstr(&b), "fits", "reset clears the error");
	tao_buf_free(&b);
}

static void limit_sizes(void)
{
	struct tao_buf b = TAO_BUF_INIT;

	b.max = 10;
	tao_buf_str(&b, "12345");
	ok(tao_buf_room(&b, SIZE_MAX) == NULL && b.err == TAO_ELIMIT,
	   "the greatest size does not wrap");
	tao_buf_reset(&b);
	tao_buf_str(&b, "1");
	ok(tao_buf_room(&b, SIZE_MAX - 1) == NULL && b.err == TAO_ELIMIT, "nor the one below");
	tao_buf_reset(&b);
	tao_buf_hex(&b, "12345", 5);
	ok_err(tao_buf_err(&b), TAO_OK, "hex up to the limit");
	tao_buf_reset(&b);
	tao_buf_hex(&b, "123456", 6);
	ok_err(tao_buf_err(&b), TAO_ELIMIT, "hex above it");
	tao_buf_reset(&b);
	tao_buf_hex(&b, "", SIZE_MAX / 2 + 2);
	ok_err(tao_buf_err(&b), TAO_ELIMIT, "hex of half the address space");
	tao_buf_reset(&b);
	tao_buf_fmt(&b, "%011d", 1);
	ok(b.n == 0 && b.err == TAO_ELIMIT, "formatted text above it leaves nothing");
	tao_buf_free(&b);
	b.max = 0;
	tao_buf_put(&b, NULL, 0);
	ok_err(tao_buf_err(&b), TAO_OK, "nothing fits into nothing");
	tao_buf_u8(&b, 1);
	ok_err(tao_buf_err(&b), TAO_ELIMIT, "something does not");
	tao_buf_free(&b);
}

static void steal(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	char *s = tao_buf_steal(&b);

	ok(s != NULL && s[0] == 0, "an empty buffer yields an empty string");
	free(s);
	tao_buf_str(&b, "mine");
	s = tao_buf_steal(&b);
	ok_str(s, "mine", "the contents");
	ok(b.p == NULL && b.n == 0 && b.cap == 0, "the buffer has nothing left");
	free(s);
	tao_buf_str(&b, "next");
	ok_str(tao_buf_cstr(&b), "next", "and is usable");
	tao_buf_free(&b);
	b.max = 3;
	tao_buf_str(&b, "abc");
	s = tao_buf_steal(&b);
	ok_str(s, "abc", "contents up to the limit");
	free(s);
	tao_buf_str(&b, "abcd");
	ok(tao_buf_steal(&b) == NULL && b.p == NULL,
	   "a failed buffer yields NULL, its memory freed");
	ok_err(tao_buf_err(&b), TAO_ELIMIT, "and still says why");
	tao_buf_free(&b);
	ok_err(tao_buf_err(&b), TAO_OK, "until it is freed");
}

/* What can be seen of wiping without reading freed memory. */
static void wipes(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	int clean = 1;

	tao_buf_str(&b, "a secret that must not stay behind");
	tao_buf_reset(&b);
	for (size_t i = 0; i < b.cap; i++)
		clean &= b.p[i] == 0;
	ok(clean && b.cap > 0, "reset wipes");
	tao_buf_free(&b);
}

/* ---- hex ---- */

static void hex(void)
{
	uint8_t out[3] = { 9, 9, 9 };

	ok_err(tao_unhex("00fFa7", 6, out, 3), TAO_OK, "hex of both cases");
	ok(out[0] == 0 && out[1] == 0xff && out[2] == 0xa7, "its bytes");
	ok_err(tao_unhex("", 0, out, 0), TAO_OK, "no digits for no bytes");
	ok_err(tao_unhex("00ff", 4, out, 3), TAO_EFORMAT, "too few digits");
	ok_err(tao_unhex("00ffa7b", 7, out, 3), TAO_EFORMAT, "too many digits");
	for (const char *c = "/:@G`g -\x80"; *c != 0; c++) {
		char text[] = { '0', '0', 'a', *c, 0 };

		ok(tao_unhex(text, 4, out, 2) == TAO_EFORMAT, "character %d is no digit",
		   *c & 0xff);
	}
	ok_err(tao_unhex("0\0", 2, out, 1), TAO_EFORMAT, "a NUL is no digit");
	ok_str(tao_why(), "character 2 is not a hex digit", "the sentence says where");
}

int main(void)
{
	integers();
	sticky();
	varints();
	der_lengths();
	der_headers();
	writes();
	growth();
	limit();
	limit_sizes();
	steal();
	wipes();
	hex();
	return done();
}
