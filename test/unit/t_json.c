/* tao/json.h: commas, escapes, bytes that are not UTF-8. */
#include "tao/json.h"

#include "tap.h"

static void structure(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "name", "web");
	tao_json_str(&j, "none", NULL);
	tao_json_int(&j, "low", INT64_MIN);
	tao_json_begin(&j, "list", '[');
	tao_json_int(&j, NULL, 1);
	tao_json_begin(&j, NULL, '[');
	tao_json_end(&j, ']');
	tao_json_bool(&j, NULL, 7);
	tao_json_end(&j, ']');
	tao_json_begin(&j, "empty", '{');
	tao_json_end(&j, '}');
	tao_json_bool(&j, "no", 0);
	tao_json_hex(&j, "hash", "\x00\xff", 2);
	tao_json_end(&j, '}');
	ok_str(tao_buf_cstr(&b),
	       "{\"name\":\"web\",\"none\":null,\"low\":-9223372036854775808,"
	       "\"list\":[1,[],true],\"empty\":{},\"no\":false,\"hash\":\"00ff\"}",
	       "one value with everything, commas where they belong");
	tao_buf_free(&b);
}

static void text(const char *in, const char *want, const char *what)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_str(&j, NULL, in);
	ok_str(tao_buf_cstr(&b), want, "%s", what);
	tao_buf_free(&b);
}

int main(void)
{
	struct tao_buf small = TAO_BUF_INIT;
	struct tao_json j;

	structure();
	text("", "\"\"", "empty text");
	text("a\"\\\b\f\n\r\t/", "\"a\\\"\\\\\\b\\f\\n\\r\\t/\"",
	     "characters with an escape of their own");
	text("\x01\x1f\x7f", "\"\\u0001\\u001f\x7f\"", "control characters");
	text("gr\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", "\"gr\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\"",
	     "UTF-8 of two, three and four bytes is kept");
	text("\xffz\xc3", "\"\xef\xbf\xbdz\xef\xbf\xbd\"", "stray and cut bytes become U+FFFD");
	text("\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"", "an overlong encoding is not UTF-8");
	text("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", "nor is a surrogate");
	text("\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"",
	     "nor what lies beyond U+10FFFF");

	small.max = 8;
	tao_json_open(&j, &small);
	tao_json_str(&j, "name", "too long for this");
	ok_err(tao_buf_err(&small), TAO_ELIMIT, "the buffer's limit shows in the buffer");
	tao_buf_free(&small);
	return done();
}
