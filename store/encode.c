/* Keys to files: the stub, the public half, and text for people. */
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "store.h"

static OSSL_FUNC_encoder_newctx_fn encoder_newctx;
static OSSL_FUNC_encoder_freectx_fn encoder_freectx;
static OSSL_FUNC_encoder_settable_ctx_params_fn stub_settable_ctx_params;
static OSSL_FUNC_encoder_set_ctx_params_fn stub_set_ctx_params;
static OSSL_FUNC_encoder_does_selection_fn stub_does_selection;
static OSSL_FUNC_encoder_does_selection_fn spki_does_selection;
static OSSL_FUNC_encoder_does_selection_fn text_does_selection;
static OSSL_FUNC_encoder_encode_fn stub_pem;
static OSSL_FUNC_encoder_encode_fn stub_der;
static OSSL_FUNC_encoder_encode_fn spki_pem;
static OSSL_FUNC_encoder_encode_fn spki_der;
static OSSL_FUNC_encoder_encode_fn text;

struct encoder {
	struct prov *prov;
	int encrypts; /* what cannot be: some applications do not look whether it was accepted */
};

static void *encoder_newctx(void *provctx)
{
	struct encoder *c = calloc(1, sizeof *c);

	if (c != NULL)
		c->prov = provctx;
	return c;
}

static void encoder_freectx(void *ctx)
{
	free(ctx);
}

static const OSSL_PARAM *stub_settable_ctx_params(void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_utf8_string(OSSL_ENCODER_PARAM_CIPHER, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_ENCODER_PARAM_PROPERTIES, NULL, 0),
		OSSL_PARAM_END
	};

	(void)provctx;
	return table;
}

/* Who asks for encryption must not believe to have got it. */
static int stub_set_ctx_params(void *ctx, const OSSL_PARAM params[])
{
	struct encoder *c = ctx;
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_ENCODER_PARAM_CIPHER);
	const char *cipher = NULL;

	if (!prov_params_whole(c->prov, params))
		return 0;
	if (q == NULL)
		return 1;
	c->encrypts = OSSL_PARAM_get_utf8_string_ptr(q, &cipher) && cipher != NULL;
	return !c->encrypts || prov_raise_reason(c->prov, PROV_RCIPHER);
}

static int stub_does_selection(void *provctx, int selection)
{
	(void)provctx;
	return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

static int spki_does_selection(void *provctx, int selection)
{
	(void)provctx;
	return selection == 0 || ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 &&
	                          (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0);
}

static int text_does_selection(void *provctx, int selection)
{
	(void)provctx;
	(void)selection;
	return 1;
}

/* ---- the stub ---- */

static int write_stub(const struct encoder *c, OSSL_CORE_BIO *out, const struct opaque *k,
                      int as_pem)
{
	struct prov *p = c->prov;
	struct tao_buf pem = TAO_BUF_INIT;
	enum tao_err e;
	int r;

	if (k == NULL || !opaque_is_private(k))
		return prov_raise_reason(p, PROV_RNOPRIVATE);
	if (c->encrypts)
		return prov_raise_reason(p, PROV_RCIPHER);
	if (!as_pem)
		return prov_bio_write(p, out, k->der.p, k->der.n);
	e = tao_stub_to_pem(k->der.p, k->der.n, &pem);
	if (e == TAO_OK)
		e = tao_buf_err(&pem);
	r = e == TAO_OK ? prov_bio_write(p, out, pem.p, pem.n) : prov_raise(p, e);
	tao_buf_free(&pem);
	return r;
}

static int stub_pem(void *ctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                    int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
	(void)abstract;
	(void)selection;
	(void)pw_cb;
	(void)pw_cbarg;
	return write_stub(ctx, out, key, 1);
}

static int stub_der(void *ctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                    int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
	(void)abstract;
	(void)selection;
	(void)pw_cb;
	(void)pw_cbarg;
	return write_stub(ctx, out, key, 0);
}

/* ---- the public half, through the inner context ---- */

static int print_public(BIO *b, EVP_PKEY *pub)
{
	return EVP_PKEY_print_public(b, pub, 0, NULL) > 0;
}

static int print_parameters(BIO *b, EVP_PKEY *pub)
{
	return EVP_PKEY_print_params(b, pub, 0, NULL) > 0;
}

/* Writes heading, and behind it what write makes of the public key. */
static int write_public(const struct encoder *c, OSSL_CORE_BIO *out, const struct opaque *k,
                        const struct tao_buf *heading, int (*write)(BIO *b, EVP_PKEY *pub))
{
	struct prov *p = c->prov;
	BIO *b;
	char *bytes;
	long n;
	int r = 0;

	ERR_set_mark();
	b = BIO_new(BIO_s_mem());
	if (b != NULL && k != NULL && k->pub != NULL && write(b, k->pub)) {
		n = BIO_get_mem_data(b, &bytes);
		r = prov_bio_write(p, out, heading->p, heading->n) &&
		    prov_bio_write(p, out, bytes, (size_t)n);
	}
	BIO_free(b);
	ERR_pop_to_mark();
	return r ? 1 : prov_raise_text(p, TAO_ECRYPTO, "a public key could not be written");
}

static int spki_pem_bio(BIO *b, EVP_PKEY *pub)
{
	return PEM_write_bio_PUBKEY(b, pub);
}

static int spki_pem(void *ctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                    int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
	static const struct tao_buf none = TAO_BUF_INIT;

	(void)abstract;
	(void)selection;
	(void)pw_cb;
	(void)pw_cbarg;
	return write_public(ctx, out, key, &none, spki_pem_bio);
}

static int spki_der_bio(BIO *b, EVP_PKEY *pub)
{
	return i2d_PUBKEY_bio(b, pub);
}

static int spki_der(void *ctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                    int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
	static const struct tao_buf none = TAO_BUF_INIT;

	(void)abstract;
	(void)selection;
	(void)pw_cb;
	(void)pw_cbarg;
	return write_public(ctx, out, key, &none, spki_der_bio);
}

static int text(void *ctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
	const struct opaque *k = key;
	struct tao_buf heading = TAO_BUF_INIT;
	int r;

	(void)abstract;
	(void)pw_cb;
	(void)pw_cbarg;
	if (k != NULL && opaque_is_private(k) && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY))
		tao_buf_fmt(&heading, "Tao Private-Key: %s, in the Tao host%s\n", k->name,
		            k->stub.sealed != NULL ? "" : ", looked up by name");
	if (k != NULL && !k->has_pub)
		r = write_public(ctx, out, k, &heading, print_parameters);
	else
		r = write_public(ctx, out, k, &heading, print_public);
	tao_buf_free(&heading);
	return r;
}

#define ENCODER(select, fn) \
	{ OSSL_FUNC_ENCODER_NEWCTX, (void (*)(void))encoder_newctx }, \
	{ OSSL_FUNC_ENCODER_FREECTX, (void (*)(void))encoder_freectx }, \
	{ OSSL_FUNC_ENCODER_DOES_SELECTION, (void (*)(void))(select) }, \
	{ OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))(fn) }
#define STUB_PARAMS \
	{ OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS, (void (*)(void))stub_settable_ctx_params }, \
	{ OSSL_FUNC_ENCODER_SET_CTX_PARAMS, (void (*)(void))stub_set_ctx_params }

const OSSL_DISPATCH prov_stub_pem_encoder[] = {
	ENCODER(stub_does_selection, stub_pem), STUB_PARAMS, { 0, NULL }
};
const OSSL_DISPATCH prov_stub_der_encoder[] = {
	ENCODER(stub_does_selection, stub_der), STUB_PARAMS, { 0, NULL }
};
const OSSL_DISPATCH prov_spki_pem_encoder[] = {
	ENCODER(spki_does_selection, spki_pem), { 0, NULL }
};
const OSSL_DISPATCH prov_spki_der_encoder[] = {
	ENCODER(spki_does_selection, spki_der), { 0, NULL }
};
const OSSL_DISPATCH prov_text_encoder[] = { ENCODER(text_does_selection, text), { 0, NULL } };
