#include "uri.h"

#include <string.h>
#include <strings.h>

#define SCHEME "tao:"
#define CA_NAME "ca"
#define QUOTE 100 /* bytes of a URI that a sentence repeats */

static const struct {
	const char *word;
	unsigned parts;
} parts[] = {
	{ "key", URI_KEY },
	{ "cert", URI_CERT },
	{ "chain", URI_CHAIN },
};

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef0123456789ABCDEF", *at;

	at = c != 0 ? strchr(digits, c) : NULL;
	return at != NULL ? (int)((at - digits) % 16) : -1;
}

/* One segment of the path; fails on a bad escape, and on an escaped NUL or
 * slash, which no segment can have. */
static int unescape(const char *from, size_t n, char *to, size_t room)
{
	size_t used = 0;

	for (size_t i = 0; i < n; i++) {
		char c = from[i];

		if (c == '%') {
			int hi = n - i > 2 ? hex_digit(from[i + 1]) : -1;
			int lo = hi >= 0 ? hex_digit(from[i + 2]) : -1;

			if (lo < 0)
				return 0;
			c = (char)(hi * 16 + lo);
			i += 2;
		}
		if (c == 0 || c == '/' || used + 1 >= room)
			return 0;
		to[used++] = c;
	}
	to[used] = 0;
	return 1;
}

static enum tao_err bad(const char *text, const char *why)
{
	return tao_fail(TAO_EINVAL, "'%.*s' is not a tao: URI: %s", QUOTE, text, why);
}

static enum tao_err parse_part(const char *text, const char *at, struct uri *out)
{
	char word[16];

	if (unescape(at, strlen(at), word, sizeof word)) {
		for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
			if (strcmp(word, parts[i].word) == 0) {
				out->parts = parts[i].parts;
				return TAO_OK;
			}
		}
	}
	return bad(text, "behind the key's name comes /key, /cert or /chain, or nothing");
}

static enum tao_err parse_name(const char *text, const char *at, struct uri *out)
{
	const char *slash = strchr(at, '/');
	size_t n = slash != NULL ? (size_t)(slash - at) : strlen(at);

	if (!unescape(at, n, out->name, sizeof out->name))
		return bad(text, "its key name is too long or badly escaped; "
		           "'tao key list' shows the names");
	if (tao_key_name_check(out->name, strlen(out->name)) != TAO_OK)
		return bad(text, tao_why());
	out->parts = URI_KEY | URI_CERT | URI_CHAIN;
	if (strcmp(out->name, CA_NAME) == 0) {
		if (slash != NULL)
			return bad(text, "tao:ca, the policy certificate, has no parts");
		out->name[0] = 0;
		out->parts = URI_CA;
		return TAO_OK;
	}
	return slash != NULL ? parse_part(text, slash + 1, out) : TAO_OK;
}

enum tao_err uri_parse(const char *text, struct uri *out)
{
	const char *at = text + sizeof SCHEME - 1;

	memset(out, 0, sizeof *out);
	if (strncasecmp(text, SCHEME, sizeof SCHEME - 1) != 0)
		return bad(text, "it does not begin with tao:");
	if (strnlen(text, URI_MAX + 1) > URI_MAX)
		return tao_fail(TAO_ELIMIT, "the tao: URI '%.*s...' is longer than %d bytes", QUOTE,
		                text, URI_MAX);
	if (strncmp(at, "//", 2) == 0)
		return bad(text, "it names no machine, so write tao:NAME, without '//'");
	if (strpbrk(at, "?#") != NULL)
		return bad(text, "it has neither '?' nor '#'");
	if (*at == 0) {
		out->parts = URI_LIST;
		return TAO_OK;
	}
	return parse_name(text, at, out);
}
