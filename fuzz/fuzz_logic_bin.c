/*
 * Binary forms of the logic: what decodes encodes to the same bytes, and
 * prints to a text that parses to the same print.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../tao/logic.h"

typedef enum tao_err decode_fn(const void *p, size_t n, struct tao_node **out);
typedef enum tao_err parse_fn(const char *text, size_t len, struct tao_node **out);

static const struct {
	decode_fn *decode;
	parse_fn *parse;
} kinds[] = {
	{ tao_form_decode, tao_form_parse },
	{ tao_term_decode, tao_term_parse },
	{ tao_prin_decode, tao_prin_parse },
	{ tao_subprin_decode, tao_subprin_parse },
};

static void must(int holds)
{
	if (!holds)
		abort();
}

static void check_encode(const struct tao_node *n, const uint8_t *data, size_t size)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_node_encode(n, &b);
	must(b.err == TAO_OK);
	must(b.n == size && memcmp(b.p, data, size) == 0);
	tao_buf_free(&b);
}

static void check_print(parse_fn *parse, const struct tao_node *n)
{
	char *text = tao_node_text(n), *again;
	struct tao_node *back = NULL;
	enum tao_err e;

	must(text != NULL);
	e = parse(text, strlen(text), &back);
	/* The text may be longer, or a flattened list wider, than the limits. */
	must(e == TAO_OK || e == TAO_ELIMIT);
	again = e == TAO_OK ? tao_node_text(back) : NULL;
	must(again == NULL || strcmp(text, again) == 0);
	tao_node_free(back);
	free(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_node *n;
	size_t i;

	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		if (kinds[i].decode(data, size, &n) != TAO_OK) {
			must(n == NULL);
			continue;
		}
		check_encode(n, data, size);
		check_print(kinds[i].parse, n);
		tao_node_free(n);
	}
	return 0;
}
