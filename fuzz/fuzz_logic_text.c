/*
 * Texts of the logic: what parses prints to a text that parses to the same
 * print, and its binary form decodes to the same tree.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../tao/logic.h"

typedef enum tao_err parse_fn(const char *text, size_t len, struct tao_node **out);
typedef enum tao_err decode_fn(const void *p, size_t n, struct tao_node **out);

static const struct {
	parse_fn *parse;
	decode_fn *decode;
} kinds[] = {
	{ tao_form_parse, tao_form_decode },
	{ tao_term_parse, tao_term_decode },
	{ tao_prin_parse, tao_prin_decode },
	{ tao_subprin_parse, tao_subprin_decode },
};

static void must(int holds)
{
	if (!holds)
		abort();
}

static void check_print(parse_fn *parse, const struct tao_node *n)
{
	char *text = tao_node_text(n), *again;
	struct tao_node *back = NULL;
	enum tao_err e;

	must(text != NULL);
	e = parse(text, strlen(text), &back);
	/* Escapes may make a text longer than the limit. */
	must(e == TAO_OK || e == TAO_ELIMIT);
	again = e == TAO_OK ? tao_node_text(back) : NULL;
	must(again == NULL || strcmp(text, again) == 0);
	tao_node_free(back);
	free(again);
	free(text);
}

static void check_encode(decode_fn *decode, const struct tao_node *n)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *back = NULL;

	tao_node_encode(n, &b);
	must(b.err == TAO_OK);
	must(decode(b.p, b.n, &back) == TAO_OK);
	must(tao_node_equal(n, back));
	tao_node_free(back);
	tao_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_node *n;
	size_t i;

	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		if (kinds[i].parse((const char *)data, size, &n) != TAO_OK) {
			must(n == NULL);
			continue;
		}
		check_print(kinds[i].parse, n);
		check_encode(kinds[i].decode, n);
		tao_node_free(n);
	}
	return 0;
}
