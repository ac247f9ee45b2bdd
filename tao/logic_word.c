/* Words and names of the logic. */
#include <string.h>

#include "logic_int.h"

static const char *const reserved[TAO_W_COUNT] = {
	"from", "until", "says", "speaksfor", "forall", "exists", "implies",
	"or",   "and",   "not",  "false",     "true",   "ext",
};

int tao_word_reserved(const char *p, size_t n)
{
	int i;

	for (i = 0; i < TAO_W_COUNT; i++)
		if (strlen(reserved[i]) == n && memcmp(reserved[i], p, n) == 0)
			return i;
	return -1;
}

const char *tao_word_text(enum tao_reserved w)
{
	return reserved[w];
}

int tao_word_ok(const char *p, size_t n)
{
	size_t i;

	if (n == 4 && memcmp(p, "tpm2", 4) == 0)
		return 1;
	for (i = 0; i < n; i++)
		if (!tao_is_lower(p[i]))
			return 0;
	return n > 0 && tao_word_reserved(p, n) < 0;
}

int tao_name_ok(const char *p, size_t n)
{
	size_t i;

	if (n == 0 || p[0] < 'A' || p[0] > 'Z')
		return 0;
	for (i = 1; i < n; i++)
		if (!tao_is_name_char(p[i]))
			return 0;
	return 1;
}
