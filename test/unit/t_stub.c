/* tao/stub.h: DER and PEM of stubs, key names. */
#include "tao/stub.h"

#include "tao/key.h"
#include "tap.h"

static struct tao_buf spki = TAO_BUF_INIT;

static void encode(const char *name, const char *sealed, struct tao_buf *der)
{
	struct tao_stub s = { name, strlen(name), spki.p, spki.n, (const uint8_t *)sealed,
	                      sealed != NULL ? strlen(sealed) : 0 };

	tao_buf_reset(der);
	tao_stub_encode(&s, der);
}

static void round_trip(const char *sealed)
{
	struct tao_buf der = TAO_BUF_INIT, aad = TAO_BUF_INIT, bare = TAO_BUF_INIT;
	struct tao_stub s;

	encode("web", sealed, &der);
	ok_err(tao_stub_parse(der.p, der.n, &s), TAO_OK, "a stub %s sealed parses",
	       sealed != NULL ? "with" : "without");
	ok(s.name_n == 3 && memcmp(s.name, "web", 3) == 0, "its name");
	ok(s.spki_n == spki.n && memcmp(s.spki, spki.p, spki.n) == 0, "its key");
	ok(sealed == NULL ? s.sealed == NULL
	                  : s.sealed_n == strlen(sealed) &&
	                  memcmp(s.sealed, sealed, s.sealed_n) == 0,
	   "its sealed part");
	tao_stub_aad(&s, &aad);
	encode("web", NULL, &bare);
	ok(aad.n == bare.n && memcmp(aad.p, bare.p, aad.n) == 0,
	   "the associated data is the stub without sealed");
	tao_buf_free(&der);
	tao_buf_free(&aad);
	tao_buf_free(&bare);
}

/* Every prefix and every changed byte: refused, or another well-formed stub. */
static void damage(void)
{
	struct tao_buf der = TAO_BUF_INIT, again = TAO_BUF_INIT;
	struct tao_stub s;
	size_t accepted = 0, unfaithful = 0;

	encode("web", "sealed", &der);
	for (size_t n = 0; n < der.n; n++)
		accepted += tao_stub_parse(der.p, n, &s) == TAO_OK;
	ok(accepted == 0, "no prefix parses");
	for (size_t i = 0; i < der.n * 8; i++) {
		der.p[i / 8] ^= (uint8_t)(1 << i % 8);
		if (tao_stub_parse(der.p, der.n, &s) == TAO_OK) {
			tao_buf_reset(&again);
			tao_stub_encode(&s, &again);
			unfaithful += again.n != der.n || memcmp(again.p, der.p, der.n) != 0;
		}
		der.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	ok(unfaithful == 0, "what parses encodes to the same bytes");
	tao_buf_u8(&der, 0);
	ok_err(tao_stub_parse(der.p, der.n, &s), TAO_EFORMAT, "nothing may follow");
	tao_buf_free(&der);
	tao_buf_free(&again);
}

static void with(const uint8_t *version, size_t version_n, const char *name, const char *tail,
                 size_t tail_n, enum tao_err want, const char *what)
{
	struct tao_buf body = TAO_BUF_INIT, der = TAO_BUF_INIT;
	struct tao_stub s;

	tao_buf_der(&body, 0x02, version, version_n);
	tao_buf_der(&body, 0x0c, name, strlen(name));
	tao_buf_put(&body, spki.p, spki.n);
	tao_buf_put(&body, tail, tail_n);
	tao_buf_der(&der, 0x30, body.p, body.n);
	ok_err(tao_stub_parse(der.p, der.n, &s), want, "%s", what);
	tao_buf_free(&body);
	tao_buf_free(&der);
}

/* A public key of so many bytes in all, as far as its shape tells. */
static void long_key(size_t n, enum tao_err want)
{
	static const uint8_t bits[5000];
	struct tao_buf real = spki, body = TAO_BUF_INIT;
	static const uint8_t one[] = { 1 };

	spki = (struct tao_buf)TAO_BUF_INIT;
	tao_buf_der(&body, 0x30, NULL, 0);
	tao_buf_der(&body, 0x03, bits, n - 10); /* two headers of four bytes, one of two */
	tao_buf_der(&spki, 0x30, body.p, body.n);
	with(one, 1, "web", "", 0, want, spki.n == n ? "a long key" : "a key of the wrong length");
	tao_buf_free(&spki);
	tao_buf_free(&body);
	spki = real;
}

static void refusals(void)
{
	static const uint8_t one[] = { 1 }, two[] = { 2 }, zero[] = { 0 }, minus[] = { 0xff },
	                     long_one[] = { 0, 1 }, big[] = { 1, 0 }, high[] = { 0, 0x80 };
	static uint8_t huge[TAO_STUB_MAX + 1];
	struct tao_stub s;

	with(one, 1, "web", "", 0, TAO_OK, "the same by hand parses");
	with(two, 1, "web", "", 0, TAO_EVERSION, "version 2 is newer");
	with(big, 2, "web", "", 0, TAO_EVERSION, "so is 256");
	with(high, 2, "web", "", 0, TAO_EVERSION, "so is 128");
	with(zero, 1, "web", "", 0, TAO_EFORMAT, "version 0");
	with(minus, 1, "web", "", 0, TAO_EFORMAT, "version -1");
	with(long_one, 2, "web", "", 0, TAO_EFORMAT, "version 1 in two bytes");
	with(one, 0, "web", "", 0, TAO_EFORMAT, "version without a byte");
	with(one, 1, "", "", 0, TAO_EFORMAT, "no name");
	with(one, 1, "../web", "", 0, TAO_EFORMAT, "a name that is a path");
	with(one, 1, "web", "\x80\x00", 2, TAO_EFORMAT, "an empty sealed part");
	with(one, 1, "web", "\x81\x01x", 3, TAO_EFORMAT, "an unknown field");
	with(one, 1, "web", "\x80\x01x\x80\x01x", 6, TAO_EFORMAT, "two sealed parts");
	ok_err(tao_stub_parse(huge, sizeof huge, &s), TAO_ELIMIT, "more than the limit");
	spki.p[1] ^= 1;
	with(one, 1, "web", "", 0, TAO_EFORMAT, "a key whose length is wrong");
	spki.p[1] ^= 1;
	spki.p[2] = 0x31;
	with(one, 1, "web", "", 0, TAO_EFORMAT, "a key that is none");
	spki.p[2] = 0x30;
	long_key(4096, TAO_OK);
	long_key(4097, TAO_EFORMAT);
}

static void from(const char *pem, enum tao_err want, const char *what)
{
	struct tao_buf der = TAO_BUF_INIT;

	ok_err(tao_stub_from_pem(pem, strlen(pem), &der), want, "%s", what);
	tao_buf_free(&der);
}

static void pem(void)
{
	struct tao_buf der = TAO_BUF_INIT, text = TAO_BUF_INIT, file = TAO_BUF_INIT,
	               back = TAO_BUF_INIT;
	const char *line;
	size_t longest = 0;

	encode("web", "sealed", &der);
	ok_err(tao_stub_to_pem(der.p, der.n, &text), TAO_OK, "to PEM");
	for (line = tao_buf_cstr(&text); *line != 0; line += strcspn(line, "\n") + 1) {
		if (strcspn(line, "\n") > longest && line[0] != '-')
			longest = strcspn(line, "\n");
	}
	ok(longest == 64, "lines of 64");
	tao_buf_str(&file, "A comment\n-----BEGIN CERTIFICATE-----\nnot base64!\n"
	                   "-----END CERTIFICATE-----\n");
	tao_buf_str(&file, tao_buf_cstr(&text));
	tao_buf_str(&file, "-----BEGIN TAO PRIVATE KEY-----\nAAAA\n-----END TAO PRIVATE KEY-----\n");
	ok_err(tao_stub_from_pem(tao_buf_cstr(&file), file.n, &back), TAO_OK,
	       "found between other blocks");
	ok(back.n == der.n && memcmp(back.p, der.p, der.n) == 0, "the first one");

	from("", TAO_ENOTFOUND, "empty text");
	from("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", TAO_ENOTFOUND,
	     "another kind of key");
	from("-----BEGIN TAO PRIVATE KEY-----\r\nAAEC\r\n-----END TAO PRIVATE KEY-----\r\n", TAO_OK,
	     "lines with carriage returns");
	from("-----BEGIN TAO PRIVATE KEY-----\nAAEC\n-----END TAO PRIVATE KEY-----", TAO_OK,
	     "no newline at the end");
	from("-----BEGIN TAO PRIVATE KEY-----\nAAEC\n", TAO_EFORMAT, "cut short");
	ok(strstr(tao_why(), "cut short") != NULL, "and the sentence says so");
	from("-----BEGIN TAO PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n", TAO_EFORMAT,
	     "ended by another line");
	from("-----BEGIN TAO PRIVATE KEY-----\nAA*C\n-----END TAO PRIVATE KEY-----\n", TAO_EFORMAT,
	     "not base64");
	from("-----BEGIN TAO PRIVATE KEY-----\nAAECAAE\n-----END TAO PRIVATE KEY-----\n",
	     TAO_EFORMAT,
	     "a group of three");
	from("-----BEGIN TAO PRIVATE KEY-----\nAA==\n-----END TAO PRIVATE KEY-----\n", TAO_OK,
	     "padding");
	from("-----BEGIN TAO PRIVATE KEY-----\nAB==\n-----END TAO PRIVATE KEY-----\n", TAO_EFORMAT,
	     "padding that hides bits");
	from("-----BEGIN TAO PRIVATE KEY-----\nAAB=\n-----END TAO PRIVATE KEY-----\n", TAO_EFORMAT,
	     "one bit of it");
	from("-----BEGIN TAO PRIVATE KEY-----\nAAE==\n-----END TAO PRIVATE KEY-----\n", TAO_EFORMAT,
	     "too much padding");
	from("-----BEGIN TAO PRIVATE KEY-----\nAA==AAAA\n-----END TAO PRIVATE KEY-----\n",
	     TAO_EFORMAT, "text behind padding");
	from("-----BEGIN TAO PRIVATE KEY-----\n-----END TAO PRIVATE KEY-----\n", TAO_EFORMAT,
	     "nothing inside");
	tao_buf_free(&der);
	tao_buf_free(&text);
	tao_buf_free(&file);
	tao_buf_free(&back);
}

static void long_text(void)
{
	struct tao_buf text = TAO_BUF_INIT, der = TAO_BUF_INIT;
	size_t max = 1 << 20;
	uint8_t *p = tao_buf_room(&text, max + 1);

	memset(p, '\n', max + 1);
	ok_err(tao_stub_from_pem((char *)p, max, &der), TAO_ENOTFOUND,
	       "a MiB of text is looked at");
	ok_err(tao_stub_from_pem((char *)p, max + 1, &der), TAO_ELIMIT, "a byte more is not");
	tao_buf_free(&text);
}

static void names(void)
{
	static const char *const good[] = { "a", "Z9", "web.example_1-x", "_", "9" };
	static const char *const bad[] = { "", ".", "..", ".hidden", "-rf", "a/b", "a b", "a\n",
		                           "\xc3\xbc", "a:b", "a%" };
	char text[66];

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		ok_err(tao_key_name_check(good[i], strlen(good[i])), TAO_OK, "good name %s",
		       good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ok_err(tao_key_name_check(bad[i], strlen(bad[i])), TAO_EINVAL, "bad name %zu", i);
	ok_err(tao_key_name_check("a\0b", 3), TAO_EINVAL, "a NUL inside");
	memset(text, 'a', sizeof text);
	ok_err(tao_key_name_check(text, 64), TAO_OK, "64 characters");
	ok_err(tao_key_name_check(text, 65), TAO_EINVAL, "65 characters");
}

int main(void)
{
	EVP_PKEY *key;

	if (tao_key_generate("ecdsap256", &key) != TAO_OK || tao_key_spki(key, &spki) != TAO_OK)
		return 1;
	round_trip(NULL);
	round_trip("sealed bytes");
	damage();
	refusals();
	pem();
	long_text();
	names();
	tao_buf_free(&spki);
	EVP_PKEY_free(key);
	return done();
}
