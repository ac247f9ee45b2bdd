/* Framing: what is parsed lies in the bytes given, needs all of them, and
 * comes back when it is written again. */
#include <stdlib.h>
#include <string.h>

#include "tao/rpc.h"

#define BODY 256 /* the limit of a body here: small, so that inputs meet it */

typedef enum tao_err parse_fn(const void *p, size_t n, size_t max_body, struct tao_rpc_msg *m,
                              size_t *used);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void write_again(const struct tao_rpc_msg *m, int request, struct tao_buf *b)
{
	if (request)
		tao_rpc_put_request(b, m->op, m->seq, m->body, m->body_n);
	else if (m->code != TAO_OK)
		tao_rpc_put_error(b, m->op, m->seq, m->code, m->error);
	else
		tao_rpc_put_reply(b, m->op, m->seq, m->body, m->body_n);
	must(b->err == TAO_OK);
}

static void check(parse_fn *parse, int request, const uint8_t *data, size_t size)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_rpc_msg m, again;
	size_t used = SIZE_MAX, less;
	enum tao_err e = parse(data, size, BODY, &m, &used);

	must(e == TAO_OK || e == TAO_EPROTO);
	if (e != TAO_OK || used == 0)
		return;
	must(used <= size && m.body_n <= BODY && m.op[0] != 0);
	must(m.body >= data && m.body + m.body_n == data + used);
	must((m.code == TAO_OK) == (m.error[0] == 0));
	must(parse(data, used - 1, BODY, &again, &less) == TAO_OK && less == 0);
	write_again(&m, request, &b);
	must(parse(b.p, b.n, BODY, &again, &used) == TAO_OK && used == b.n);
	must(strcmp(m.op, again.op) == 0 && m.seq == again.seq && m.code == again.code);
	must(strcmp(m.error, again.error) == 0);
	must(m.code != TAO_OK ||
	     (m.body_n == again.body_n && memcmp(m.body, again.body, m.body_n) == 0));
	tao_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check(tao_rpc_parse_request, 1, data, size);
	check(tao_rpc_parse_reply, 0, data, size);
	return 0;
}
