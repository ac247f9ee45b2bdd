/* Second step of reading a TAO PRIVATE KEY file: DER to key. */
#include <openssl/core_names.h>

#include "store.h"

#define DER_SEQUENCE 0x30
#define DER_INTEGER 0x02
#define DER_UTF8STRING 0x0c
#define HEAD_MAX 4 /* bytes of a SEQUENCE header that stubs can have */

static OSSL_FUNC_decoder_newctx_fn der_newctx;
static OSSL_FUNC_decoder_freectx_fn der_freectx;
static OSSL_FUNC_decoder_does_selection_fn der_does_selection;

static void *der_newctx(void *provctx)
{
	return provctx;
}

static void der_freectx(void *ctx)
{
	(void)ctx;
}

static int der_does_selection(void *provctx, int selection)
{
	(void)provctx;
	return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

/* Appends exactly n bytes; 0 if they are not there. */
static int read_exactly(const struct prov *p, OSSL_CORE_BIO *in, struct tao_buf *b, size_t n)
{
	while (n > 0) {
		uint8_t chunk[512];
		size_t got = 0, want = n < sizeof chunk ? n : sizeof chunk;

		if (!p->bio_read(in, chunk, want, &got) || got == 0 || got > want)
			return 0;
		tao_buf_put(b, chunk, got);
		n -= got;
	}
	return b->err == TAO_OK;
}

/* One DER SEQUENCE of a stub's size; 0 if there is something else, or not all of it. */
static int read_sequence(const struct prov *p, OSSL_CORE_BIO *in, struct tao_buf *b)
{
	size_t n, more;

	if (!read_exactly(p, in, b, 2) || b->p[0] != DER_SEQUENCE)
		return 0;
	n = b->p[1];
	if (n > 0x80) {
		more = n & 0x7f;
		if (more > HEAD_MAX - 2 || !read_exactly(p, in, b, more))
			return 0;
		n = more == 1 ? b->p[2] : (size_t)b->p[2] << 8 | b->p[3];
	}
	return n <= TAO_STUB_MAX && read_exactly(p, in, b, n);
}

/* No other key structure has a UTF8String behind its version. The end may be missing. */
static int looks_like_stub(const struct tao_buf *b)
{
	struct tao_rd r = tao_rd_of(b->p, b->n);
	uint8_t n;

	if (tao_rd_u8(&r) != DER_SEQUENCE)
		return 0;
	n = tao_rd_u8(&r);
	if (n > 0x80)
		tao_rd_bytes(&r, n & 0x7f);
	tao_rd_der(&r, DER_INTEGER);
	tao_rd_der(&r, DER_UTF8STRING);
	return !r.bad;
}

static int decode(struct prov *p, const struct keytype *type, OSSL_CORE_BIO *in, OSSL_CALLBACK *cb,
                  void *cbarg)
{
	struct tao_buf der = TAO_BUF_INIT;
	struct opaque *k = NULL;
	int r = 1;

	if (read_sequence(p, in, &der) && looks_like_stub(&der)) {
		enum tao_err e = opaque_from_stub(p, der.p, der.n, &k);

		if (e != TAO_OK)
			r = prov_raise(p, e);
		else if (k->type == type)
			r = store_give_key(k, cb, cbarg);
		else
			opaque_free(k); /* for the decoder of its own type */
	}
	tao_buf_free(&der);
	return r;
}

#define DECODE(name, type) \
	static OSSL_FUNC_decoder_decode_fn name; \
	static int name(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, \
	                void *cbarg, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg) \
	{ \
		(void)selection; \
		(void)pw_cb; \
		(void)pw_cbarg; \
		return decode(ctx, type, in, cb, cbarg); \
	}

DECODE(ec_decode, &keytype_ec)
DECODE(rsa_decode, &keytype_rsa)
DECODE(rsa_pss_decode, &keytype_rsa_pss)
DECODE(ed25519_decode, &keytype_ed25519)
DECODE(x25519_decode, &keytype_x25519)
DECODE(mldsa44_decode, &keytype_mldsa44)
DECODE(mldsa65_decode, &keytype_mldsa65)
DECODE(mldsa87_decode, &keytype_mldsa87)

#define DECODER(fn) \
	{ OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))der_newctx }, \
	{ OSSL_FUNC_DECODER_FREECTX, (void (*)(void))der_freectx }, \
	{ OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))der_does_selection }, \
	{ OSSL_FUNC_DECODER_DECODE, (void (*)(void))(fn) }, \
	{ 0, NULL }

const OSSL_DISPATCH prov_ec_der_decoder[] = { DECODER(ec_decode) };
const OSSL_DISPATCH prov_rsa_der_decoder[] = { DECODER(rsa_decode) };
const OSSL_DISPATCH prov_rsa_pss_der_decoder[] = { DECODER(rsa_pss_decode) };
const OSSL_DISPATCH prov_ed25519_der_decoder[] = { DECODER(ed25519_decode) };
const OSSL_DISPATCH prov_x25519_der_decoder[] = { DECODER(x25519_decode) };
const OSSL_DISPATCH prov_mldsa44_der_decoder[] = { DECODER(mldsa44_decode) };
const OSSL_DISPATCH prov_mldsa65_der_decoder[] = { DECODER(mldsa65_decode) };
const OSSL_DISPATCH prov_mldsa87_der_decoder[] = { DECODER(mldsa87_decode) };
