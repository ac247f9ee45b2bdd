/* provider/reply.h: what of a host's answers is taken, at the limits. */
#include "../../provider/reply.c"

#include <stdlib.h>

#include "tap.h"

static uint8_t bytes[(64 << 10) + 64];

static ProtobufCBinaryData some(size_t n)
{
	return (ProtobufCBinaryData){ n, bytes };
}

static void pack(const void *message, struct tao_buf *body)
{
	tao_buf_reset(body);
	tao_pb_pack(message, body);
}

/* ---- signatures ---- */

static void ecdsa(const char *der, size_t n, size_t room, enum tao_err want, const char *what)
{
	Tao__SignResponse m = TAO__SIGN_RESPONSE__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	uint8_t sig[REPLY_SIG_MAX];
	size_t sig_n = room;

	m.signature = (ProtobufCBinaryData){ n, (uint8_t *)der };
	pack(&m, &body);
	ok_err(reply_signature(&body, REPLY_ECDSA, sig, &sig_n), want, "ECDSA: %s", what);
	ok(want != TAO_OK || (sig_n == n && memcmp(sig, der, n) == 0), "as it is");
	tao_buf_free(&body);
}

#define ECDSA(der, room, want, what) ecdsa(der, sizeof der - 1, room, want, what)

static void whole(enum reply_form form, size_t n, size_t room, enum tao_err want, const char *what)
{
	Tao__SignResponse m = TAO__SIGN_RESPONSE__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	uint8_t sig[REPLY_SIG_MAX];
	size_t sig_n = room;

	m.signature = some(n);
	pack(&m, &body);
	ok_err(reply_signature(&body, form, sig, &sig_n), want, "%s", what);
	tao_buf_free(&body);
}

static void signatures(void)
{
	ECDSA("\x30\x06\x02\x01\x01\x02\x01\x01", 8, TAO_OK, "two numbers");
	ECDSA("\x30\x06\x02\x01\x01\x02\x01\x01", 7, TAO_EPROTO, "longer than there is room");
	ECDSA("\x30\x05\x02\x00\x02\x01\x01", 72, TAO_EPROTO, "no first number");
	ECDSA("\x30\x05\x02\x01\x01\x02\x00", 72, TAO_EPROTO, "no second one");
	ECDSA("\x30\x03\x02\x01\x01", 72, TAO_EPROTO, "one number");
	ECDSA("\x30\x09\x02\x01\x01\x02\x01\x01\x02\x01\x01", 72, TAO_EPROTO, "three");
	ECDSA("\x30\x06\x02\x01\x01\x02\x01\x01\x00", 72, TAO_EPROTO, "a byte behind them");
	ECDSA("\x30\x06\x02\x01\x01\x03\x01\x01", 72, TAO_EPROTO, "something else");
	ECDSA("", 72, TAO_EPROTO, "nothing");
	whole(REPLY_WHOLE, 256, 256, TAO_OK, "RSA: as long as the modulus");
	whole(REPLY_WHOLE, 255, 256, TAO_EPROTO, "RSA: shorter");
	whole(REPLY_WHOLE, 257, 256, TAO_EPROTO, "RSA: longer");
	whole(REPLY_NONE, 32, 32, TAO_EPROTO, "a key that does not sign");
}

/* ---- data of a length ---- */

static void decrypted(size_t n, enum tao_err want)
{
	Tao__DecryptResponse m = TAO__DECRYPT_RESPONSE__INIT;
	struct tao_buf body = TAO_BUF_INIT, out = TAO_BUF_INIT;

	m.data = some(n);
	pack(&m, &body);
	ok_err(reply_decrypted(&body, 256, &out), want, "%zu decrypted bytes of 256", n);
	ok(out.n == (want == TAO_OK ? n : 0), "are there or not");
	tao_buf_free(&body);
	tao_buf_free(&out);
}

static void secret(size_t n, enum tao_err want)
{
	Tao__DeriveResponse m = TAO__DERIVE_RESPONSE__INIT;
	struct tao_buf body = TAO_BUF_INIT, out = TAO_BUF_INIT;

	m.secret = some(n);
	pack(&m, &body);
	ok_err(reply_secret(&body, 32, &out), want, "a secret of %zu bytes, for 32", n);
	ok(out.n == (want == TAO_OK ? n : 0), "is there or not");
	tao_buf_free(&body);
	tao_buf_free(&out);
}

/* ---- keys ---- */

static void key(const Tao__KeyResponse *m, int need, const char *fault, const char *what)
{
	struct tao_buf body = TAO_BUF_INIT;
	struct reply r;

	pack(m, &body);
	ok_err(reply_key(&r, &body, need), fault == NULL ? TAO_OK : TAO_EPROTO, "%s", what);
	ok(fault == NULL ? r.key != NULL : r.key == NULL && strstr(tao_why(), fault) != NULL,
	   "%s", fault == NULL ? "is taken" : "and the sentence says so");
	reply_free(&r);
	tao_buf_free(&body);
}

static void stubs(void)
{
	Tao__KeyResponse m = TAO__KEY_RESPONSE__INIT;

	key(&m, 0, NULL, "nothing that is needed");
	key(&m, REPLY_STUB, "(no stub)", "no stub");
	m.has_stub = 1;
	m.stub = some(0);
	key(&m, REPLY_STUB, "(a stub's size)", "an empty one");
	m.stub = some(TAO_STUB_MAX + 1);
	key(&m, 0, "(a stub's size)", "one byte too many, also where none is needed");
	m.stub = some(TAO_STUB_MAX);
	key(&m, REPLY_STUB, NULL, "the longest stub");
}

static void ids(void)
{
	Tao__KeyResponse m = TAO__KEY_RESPONSE__INIT;

	key(&m, REPLY_ID, "(no key id)", "no id");
	m.has_key_id = 1;
	for (size_t n = 0; n <= REPLY_ID_LEN + 1; n += n == 0 ? REPLY_ID_LEN - 1 : 1) {
		m.key_id = some(n);
		key(&m, 0, n == REPLY_ID_LEN ? NULL : "(a key id's size)", "an id");
	}
}

/* A SEQUENCE of so many bytes in all. */
static ProtobufCBinaryData sequence(size_t n)
{
	size_t in = n - (n < 0x82 ? 2 : n < 65536 + 4 ? 4 : 5);
	struct tao_buf der = TAO_BUF_INIT;

	tao_buf_der(&der, 0x30, bytes, in);
	return (ProtobufCBinaryData){ der.n, der.p };
}

static void chains(void)
{
	ProtobufCBinaryData chain[REPLY_CHAIN_MAX + 1], long_one = sequence(REPLY_CERT_MAX),
	                    longer = sequence(REPLY_CERT_MAX + 1), good = sequence(100), empty = sequence(2);
	Tao__KeyResponse m = TAO__KEY_RESPONSE__INIT;

	ok(long_one.len == REPLY_CERT_MAX && longer.len == REPLY_CERT_MAX + 1, "certificates at the limit");
	m.chain = chain;
	key(&m, REPLY_CHAIN, "(no certificate)", "no chain");
	for (size_t i = 0; i <= REPLY_CHAIN_MAX; i++)
		chain[i] = good;
	m.n_chain = REPLY_CHAIN_MAX;
	key(&m, REPLY_CHAIN, NULL, "the longest chain");
	m.n_chain = REPLY_CHAIN_MAX + 1;
	key(&m, 0, "(too many certificates)", "one more");
	m.n_chain = 2;
	chain[1] = long_one;
	key(&m, REPLY_CHAIN, NULL, "the longest certificate");
	chain[1] = longer;
	key(&m, REPLY_CHAIN, "(a certificate)", "a longer one");
	chain[1] = empty;
	key(&m, REPLY_CHAIN, "(a certificate)", "an empty one");
	chain[1] = (ProtobufCBinaryData){ good.len - 1, good.data };
	key(&m, REPLY_CHAIN, "(a certificate)", "one that is cut");
	tao_buf_free(&(struct tao_buf){ long_one.data, long_one.len, long_one.len, 0, TAO_OK });
	tao_buf_free(&(struct tao_buf){ longer.data, longer.len, longer.len, 0, TAO_OK });
	tao_buf_free(&(struct tao_buf){ good.data, good.len, good.len, 0, TAO_OK });
	tao_buf_free(&(struct tao_buf){ empty.data, empty.len, empty.len, 0, TAO_OK });
}

static void list(size_t n, char *name, enum tao_err want, const char *what)
{
	Tao__KeyListResponse m = TAO__KEY_LIST_RESPONSE__INIT;
	Tao__KeyInfo k = TAO__KEY_INFO__INIT;
	Tao__KeyInfo **all = calloc(n, sizeof *all);
	struct tao_buf body = TAO_BUF_INIT;
	struct reply r;

	k.name = name;
	k.type = k.purpose = k.custody = k.policy = (char *)"";
	for (size_t i = 0; i < n; i++)
		all[i] = &k;
	m.n_keys = n;
	m.keys = all;
	pack(&m, &body);
	ok_err(reply_list(&r, &body), want, "%s", what);
	ok(want == TAO_OK ? r.list != NULL && r.list->n_keys == n : r.list == NULL, "with all or nothing");
	reply_free(&r);
	tao_buf_free(&body);
	free(all);
}

int main(void)
{
	signatures();
	decrypted(0, TAO_OK);
	decrypted(256, TAO_OK);
	decrypted(257, TAO_EPROTO);
	secret(32, TAO_OK);
	secret(31, TAO_EPROTO);
	secret(33, TAO_EPROTO);
	stubs();
	ids();
	chains();
	list(1000, "web", TAO_OK, "a thousand keys");
	list(2, "../web", TAO_EPROTO, "a name that is none");
	list(65536, "web", TAO_EPROTO, "more than there is memory for");
	return done();
}
