/* tao/pb.h: the cap counts what is alive; messages pack and unpack. */
#include "tao/pb.h"

#include "tao.pb-c.h"
#include "tap.h"

#define CAP 4096

static void strict(const void *p, size_t n, const void *more, size_t more_n, enum tao_err want,
                   const char *what)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	ProtobufCMessage *m;

	tao_buf_put(&b, p, n);
	tao_buf_put(&b, more, more_n);
	tao_pb_alloc_init(&pa, CAP);
	ok_err(tao_pb_unpack_strict(&pa, &tao__sign_request__descriptor, b.p, b.n, "request", &m),
	       want, "%s", what);
	ok((m != NULL) == (want == TAO_OK), "%s: what comes back", what);
	tao_pb_free(&pa, m);
	ok(pa.left == CAP, "%s: nothing is lost", what);
	tao_buf_free(&b);
}

static void round_trip(void)
{
	Tao__SignRequest r = TAO__SIGN_REQUEST__INIT;
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	ProtobufCMessage *m;

	r.key_id = (ProtobufCBinaryData){ 2, (uint8_t *)"id" };
	r.data = (ProtobufCBinaryData){ 4, (uint8_t *)"data" };
	tao_buf_str(&b, "x");
	tao_pb_pack(&r.base, &b);
	ok(b.n == 1 + 4 + 6, "packed, appended");
	tao_pb_alloc_init(&pa, CAP);
	ok_err(tao_pb_unpack(&pa, &tao__sign_request__descriptor, b.p + 1, b.n - 1, "request", &m),
	       TAO_OK, "unpacked");
	ok(m != NULL && ((Tao__SignRequest *)m)->data.len == 4, "its data");
	ok(pa.left < CAP - sizeof r, "memory is counted");
	tao_pb_free(&pa, m);
	ok(pa.left == CAP, "and given back");
	ok_err(tao_pb_unpack(&pa, &tao__sign_request__descriptor, b.p + 1, b.n - 2, "request", &m),
	       TAO_EFORMAT, "cut short");
	ok(m == NULL && pa.left == CAP, "nothing comes back, nothing is lost");
	strict(b.p + 1, b.n - 1, "", 0, TAO_OK, "strictly, as it is");
	strict(b.p + 1, b.n - 1, "\x0a\x02id", 4, TAO_EFORMAT, "strictly, a field twice");
	strict(b.p + 1, b.n - 1, "\x78\x01", 2, TAO_EFORMAT, "strictly, an unknown field");
	strict(b.p + 1, b.n - 1, "\x1a\x81\x00x", 4, TAO_EFORMAT, "strictly, a long length");
	strict(b.p + 1, b.n - 1, "\x1a\x01x", 3, TAO_OK, "strictly, an optional field");
	ok_err(tao_pb_unpack(&pa, &tao__sign_request__descriptor, "", 0, "request", &m),
	       TAO_EFORMAT,
	       "required fields missing");
	ok(strstr(tao_why(), "request") != NULL, "the sentence names the message");
	tao_pb_free(&pa, NULL);
	tao_pb_alloc_init(&pa, 64);
	ok_err(tao_pb_unpack(&pa, &tao__sign_request__descriptor, b.p + 1, b.n - 1, "request", &m),
	       TAO_ELIMIT, "a cap too small");
	ok(m == NULL && pa.left == 64, "nothing comes back, nothing is lost");
	tao_buf_free(&b);
}

/* 1000 empty elements: 2 bytes each on the wire, 16 and more in memory. */
static void amplified(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	ProtobufCMessage *m;

	for (int i = 0; i < 1000; i++)
		tao_buf_put(&b, "\x0a\x00", 2);
	tao_pb_alloc_init(&pa, CAP);
	ok_err(tao_pb_unpack(&pa, &tao__crypto_keyset__descriptor, b.p, b.n, "keyset", &m),
	       TAO_ELIMIT, "a small message that grows is stopped by the cap");
	ok(pa.left == CAP, "and all is given back");
	tao_buf_free(&b);
}

int main(void)
{
	round_trip();
	amplified();
	return done();
}
