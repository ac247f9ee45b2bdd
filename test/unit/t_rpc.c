/* tao/rpc.h: framing. */
#include "tao/rpc.h"

#include "tap.h"

typedef enum tao_err parse_fn(const void *p, size_t n, size_t max_body, struct tao_rpc_msg *m,
                              size_t *used);

static struct tao_rpc_msg msg;
static size_t used;

/* Parses from memory of exactly that size, so that a sanitizer sees a read past its end. */
static enum tao_err parse_exact(parse_fn *parse, const void *p, size_t n, size_t max_body)
{
	static uint8_t *copy;
	enum tao_err e;

	free(copy);
	copy = malloc(n > 0 ? n : 1);
	if (copy == NULL)
		exit(1);
	memcpy(copy, p, n);
	used = SIZE_MAX;
	e = parse(copy, n, max_body, &msg, &used);
	if (n == 0) {
		free(copy); /* the last call of a test: nothing stays */
		copy = NULL;
	}
	return e;
}

static void end_exact(void)
{
	parse_exact(tao_rpc_parse_request, "", 0, 0);
}

/* ---- what is written is read ---- */

static void request_round_trip(void)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_rpc_put_request(&b, "Tao.Sign", 7, "body", 4);
	ok_err(parse_exact(tao_rpc_parse_request, b.p, b.n, 4), TAO_OK, "a request parses");
	ok(used == b.n, "all of it");
	ok_str(msg.op, "Tao.Sign", "its operation");
	ok(msg.seq == 7 && msg.body_n == 4 && memcmp(msg.body, "body", 4) == 0, "number and body");
	tao_buf_reset(&b);
	tao_rpc_put_request(&b, "Tao.Hello", UINT64_MAX, NULL, 0);
	ok_err(parse_exact(tao_rpc_parse_request, b.p, b.n, 0), TAO_OK, "a request without a body");
	ok(used == b.n && msg.seq == UINT64_MAX && msg.body_n == 0, "with the greatest number");
	tao_buf_free(&b);
	end_exact();
}

static void reply_round_trip(void)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_rpc_put_reply(&b, "Tao.Sign", 8, "answer", 6);
	ok_err(parse_exact(tao_rpc_parse_reply, b.p, b.n, 6), TAO_OK, "a reply parses");
	ok(used == b.n && msg.seq == 8 && msg.code == TAO_OK && msg.error[0] == 0,
	   "it is no error");
	ok(msg.body_n == 6 && memcmp(msg.body, "answer", 6) == 0, "its body");
	tao_buf_reset(&b);
	tao_rpc_put_error(&b, "Tao.Sign", 9, TAO_EDENIED, "policy says no");
	ok_err(parse_exact(tao_rpc_parse_reply, b.p, b.n, 0), TAO_OK, "an error parses");
	ok(used == b.n && msg.seq == 9 && msg.body_n == 0, "it has no body");
	ok(msg.code == TAO_EDENIED, "its code");
	ok_str(msg.error, "policy says no", "its sentence");
	ok_str(msg.op, "Tao.Sign", "its operation");
	tao_buf_reset(&b);
	tao_rpc_put_error(&b, "Tao.Sign", 9, TAO_EDENIED, "");
	parse_exact(tao_rpc_parse_reply, b.p, b.n, 0);
	ok_str(msg.error, tao_err_text(TAO_EDENIED), "an error without a sentence gets the code's");
	ok(memmem(b.p, b.n, msg.error, strlen(msg.error)) != NULL, "from its writer already");
	tao_buf_free(&b);
	end_exact();
}

/* A reply that answers an error of the greatest length still fits a header. */
static void longest_error(void)
{
	char sentence[TAO_WHY_MAX];
	struct tao_buf b = TAO_BUF_INIT;

	memset(sentence, 'x', sizeof sentence - 1);
	sentence[sizeof sentence - 1] = 0;
	tao_rpc_put_error(&b, "Tao.Sign", 1, TAO_EDENIED, sentence);
	ok_err(parse_exact(tao_rpc_parse_reply, b.p, b.n, 0), TAO_OK, "the longest sentence");
	ok_str(msg.error, sentence, "comes back whole");
	tao_buf_free(&b);
	end_exact();
}

/* Every prefix needs more bytes; what is behind a message is not looked at. */
static void truncations(parse_fn *parse, const struct tao_buf *b, const char *what)
{
	struct tao_buf two = TAO_BUF_INIT;
	int more = 1;

	for (size_t n = 0; n < b->n; n++)
		more &= parse_exact(parse, b->p, n, 64) == TAO_OK && used == 0;
	ok(more, "every prefix of %s needs more bytes", what);
	tao_buf_put(&two, b->p, b->n);
	tao_buf_str(&two, "\xff\xff\xff\xff\xff");
	ok(parse_exact(parse, two.p, two.n, 64) == TAO_OK && used == b->n,
	   "bytes behind %s are left alone", what);
	tao_buf_free(&two);
	end_exact();
}

static void all_truncations(void)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_rpc_put_request(&b, "Tao.Sign", 300, "the body", 8);
	truncations(tao_rpc_parse_request, &b, "a request");
	tao_buf_reset(&b);
	tao_rpc_put_reply(&b, "Tao.Sign", 300, "the body", 8);
	truncations(tao_rpc_parse_reply, &b, "a reply");
	tao_buf_reset(&b);
	tao_rpc_put_error(&b, "Tao.Sign", 300, TAO_EPASS, "wrong");
	truncations(tao_rpc_parse_reply, &b, "an error");
	tao_buf_free(&b);
}

/* ---- what is refused ---- */

/* Frames a header as it is given, and a body. */
static void frame(struct tao_buf *b, const void *head, size_t n, const char *body)
{
	tao_buf_reset(b);
	tao_buf_u32(b, (uint32_t)n);
	tao_buf_put(b, head, n);
	tao_buf_u32(b, (uint32_t)strlen(body));
	tao_buf_str(b, body);
}

static void lengths(parse_fn *parse, const char *what)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_buf_u32(&b, TAO_RPC_MAX_HEADER + 1);
	ok(parse_exact(parse, b.p, 3, 64) == TAO_OK && used == 0, "%s: part of a length", what);
	ok_err(parse_exact(parse, b.p, 4, 64), TAO_EPROTO, "%s: a header's length alone, too great",
	       what);
	tao_buf_reset(&b);
	tao_buf_u32(&b, UINT32_MAX);
	ok_err(parse_exact(parse, b.p, 4, 64), TAO_EPROTO, "%s: the greatest length", what);
	tao_buf_reset(&b);
	tao_buf_u32(&b, TAO_RPC_MAX_HEADER);
	ok(parse_exact(parse, b.p, 4, 64) == TAO_OK && used == 0, "%s: the greatest allowed", what);
	frame(&b, "\x0a\x01x\x10\x01", 5, "");
	b.n -= 4;
	tao_buf_u32(&b, 65);
	ok_err(parse_exact(parse, b.p, b.n, 64), TAO_EPROTO, "%s: a body's length alone, too great",
	       what);
	b.n -= 4;
	tao_buf_u32(&b, 64);
	ok(parse_exact(parse, b.p, b.n, 64) == TAO_OK && used == 0, "%s: a body as long as allowed",
	   what);
	b.n -= 4;
	tao_buf_u32(&b, UINT32_MAX);
	ok_err(parse_exact(parse, b.p, b.n, TAO_RPC_MAX_REPLY), TAO_EPROTO,
	       "%s: a body of the greatest length", what);
	tao_buf_free(&b);
	end_exact();
}

static void headers(parse_fn *parse, const char *what)
{
	static const struct {
		const char *bytes, *what;
		size_t n;
		enum tao_err e;
	} cases[] = {
#define HEAD(bytes, e, what) { bytes, what, sizeof bytes - 1, e }
		HEAD("\x0a\x01x\x10\x01", TAO_OK, "a header"),
		HEAD("\x10\x01\x0a\x01x", TAO_OK, "fields in another order"),
		HEAD("\x0a\x01x\x10\x01\x7a\x01z", TAO_OK, "an unknown field"),
		HEAD("", TAO_EPROTO, "an empty header"),
		HEAD("\x10\x01", TAO_EPROTO, "no operation"),
		HEAD("\x0a\x01x", TAO_EPROTO, "no number"),
		HEAD("\x0a\x00\x10\x01", TAO_EPROTO, "an empty operation"),
		HEAD("\x0a\x02x", TAO_EPROTO, "a string that is cut"),
		HEAD("\x0a\xff\xff\xff\xff\x0fx", TAO_EPROTO, "a string of 4 GiB"),
		HEAD("\x0a\x01x\x10", TAO_EPROTO, "a number that is cut"),
		HEAD("\x0a\x01x\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", TAO_EPROTO,
		     "a number of eleven bytes"),
		HEAD("\x08\x01\x10\x01", TAO_EPROTO, "an operation of another type"),
		HEAD("\xff\xff\xff\xff", TAO_EPROTO, "no protobuf"),
		HEAD("\x00\x00\x00\x00", TAO_EPROTO, "zeros"),
#undef HEAD
	};
	struct tao_buf b = TAO_BUF_INIT;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		frame(&b, cases[i].bytes, cases[i].n, "b");
		ok_err(parse_exact(parse, b.p, b.n, 64), cases[i].e, "%s: %s", what, cases[i].what);
	}
	tao_buf_free(&b);
	end_exact();
}

static void long_ops(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	char op[TAO_RPC_MAX_OP + 1];

	memset(op, 'x', sizeof op);
	op[TAO_RPC_MAX_OP - 1] = 0;
	tao_rpc_put_request(&b, op, 1, NULL, 0);
	ok_err(parse_exact(tao_rpc_parse_request, b.p, b.n, 0), TAO_OK, "the longest operation");
	ok_str(msg.op, op, "comes back");
	op[TAO_RPC_MAX_OP - 1] = 'x';
	op[TAO_RPC_MAX_OP] = 0;
	tao_buf_reset(&b);
	tao_rpc_put_request(&b, op, 1, NULL, 0);
	ok_err(parse_exact(tao_rpc_parse_request, b.p, b.n, 0), TAO_EPROTO, "one longer");
	tao_buf_reset(&b);
	tao_rpc_put_reply(&b, op, 1, NULL, 0);
	ok_err(parse_exact(tao_rpc_parse_reply, b.p, b.n, 0), TAO_EPROTO, "and in a reply");
	tao_buf_free(&b);
	end_exact();
}

/* A header full of the smallest fields asks for far more memory than it has bytes. */
static void many_fields(void)
{
	struct tao_buf b = TAO_BUF_INIT, head = TAO_BUF_INIT;

	tao_buf_str(&head, "\x0a\x01x\x10\x01");
	while (head.n + 2 <= TAO_RPC_MAX_HEADER)
		tao_buf_put(&head, "\x78\x00", 2);
	frame(&b, head.p, head.n, "");
	ok_err(parse_exact(tao_rpc_parse_request, b.p, b.n, 0), TAO_EPROTO,
	       "a request header of 2000 unknown fields");
	ok_err(parse_exact(tao_rpc_parse_reply, b.p, b.n, 0), TAO_EPROTO, "and a reply's");
	tao_buf_free(&b);
	tao_buf_free(&head);
	end_exact();
}

static void codes(void)
{
	static const struct {
		const char *bytes;
		size_t n;
		enum tao_err code;
		const char *error, *what;
	} cases[] = {
#define CODE(bytes, code, error, what)                                                             \
	{ "\x0a\x01x\x10\x01" bytes, sizeof bytes + 4, code, error, what }
		CODE("", TAO_OK, "", "neither code nor error"),
		CODE("\x20\x00", TAO_OK, "", "code 0"),
		CODE("\x1a\x02no\x20\x09", TAO_EDENIED, "no", "code and error"),
		CODE("\x1a\x02no", TAO_EPROTO, "no", "an error without a code, as CloudProxy's"),
		CODE("\x1a\x02no\x20\x00", TAO_EPROTO, "no", "an error with code 0"),
		CODE("\x20\x09", TAO_EDENIED, NULL, "a code without an error"),
		CODE("\x1a\x00\x20\x09", TAO_EDENIED, NULL, "a code with an empty error"),
		CODE("\x1a\x02no\x20\xe7\x07", (enum tao_err)999, "no", "a code of a newer host"),
		CODE("\x1a\x02no\x20\xff\xff\xff\xff\x0f", (enum tao_err)UINT32_MAX, "no",
		     "the greatest code"),
#undef CODE
	};
	struct tao_buf b = TAO_BUF_INIT;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		frame(&b, cases[i].bytes, cases[i].n, "");
		ok_err(parse_exact(tao_rpc_parse_reply, b.p, b.n, 0), TAO_OK, "%s parses",
		       cases[i].what);
		ok(msg.code == cases[i].code, "%s: the code is %u", cases[i].what, cases[i].code);
		ok_str(msg.error,
		       cases[i].error != NULL ? cases[i].error : tao_err_text((int)cases[i].code),
		       "%s: the sentence", cases[i].what);
	}
	tao_buf_free(&b);
	end_exact();
}

/* A sentence longer than ours is cut, not refused. */
static void long_sentence(void)
{
	struct tao_buf b = TAO_BUF_INIT, head = TAO_BUF_INIT;

	tao_buf_str(&head, "\x0a\x01x\x10\x01\x20\x09\x1a");
	tao_buf_varint(&head, 3000);
	memset(tao_buf_room(&head, 3000), 'y', 3000);
	frame(&b, head.p, head.n, "");
	ok_err(parse_exact(tao_rpc_parse_reply, b.p, b.n, 0), TAO_OK, "a sentence of 3000 bytes");
	ok(strlen(msg.error) == TAO_WHY_MAX - 1, "is cut to ours");
	tao_buf_free(&b);
	tao_buf_free(&head);
	end_exact();
}

int main(void)
{
	request_round_trip();
	reply_round_trip();
	longest_error();
	all_truncations();
	lengths(tao_rpc_parse_request, "request");
	lengths(tao_rpc_parse_reply, "reply");
	headers(tao_rpc_parse_request, "request");
	headers(tao_rpc_parse_reply, "reply");
	long_ops();
	many_fields();
	codes();
	long_sentence();
	return done();
}
