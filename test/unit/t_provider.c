/* tao.so without a host: loading stubs, what a key tells and refuses, others' files. */
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>

#include "tao/buf.h"
#include "tao/stub.h"
#include "tap.h"

#define PASS "secret"
#define TEXT_MAX 65536

/* What every test uses: a context as the fragment makes it, one as without it,
 * a real key, its stub in DER and PEM, and the opaque key read from that. */
struct fix {
	OSSL_LIB_CTX *ctx, *plain;
	OSSL_PROVIDER *dflt, *tao, *plain_dflt;
	EVP_PKEY *real, *other, *opaque;
	struct tao_buf der, pem, ref;
};

static const char *last_reason(void)
{
	const char *s = ERR_reason_error_string(ERR_peek_last_error());

	return s != NULL ? s : "";
}

/* Some error in the queue has this reason; empties it. */
static int raised(const char *reason)
{
	unsigned long e;
	int found = 0;

	while ((e = ERR_get_error()) != 0) {
		const char *s = ERR_reason_error_string(e);

		found = found || (s != NULL && strstr(s, reason) != NULL);
	}
	return found;
}

static int no_error(void)
{
	int none = ERR_peek_error() == 0;

	if (!none)
		ERR_print_errors_fp(stdout);
	return none;
}

static int pass_cb(char *buf, int size, int rw, void *u)
{
	(void)rw;
	(void)u;
	return snprintf(buf, (size_t)size, PASS);
}

static EVP_PKEY *read_pem(OSSL_LIB_CTX *ctx, const void *pem, size_t n)
{
	BIO *b = BIO_new_mem_buf(pem, (int)n);
	EVP_PKEY *k = PEM_read_bio_PrivateKey_ex(b, NULL, pass_cb, NULL, ctx, NULL);

	BIO_free(b);
	return k;
}

static void make_stub(const char *name, EVP_PKEY *key, const void *sealed, size_t n,
                      struct tao_buf *der)
{
	struct tao_stub s = { .name = name, .name_n = strlen(name), .sealed = sealed,
	                      .sealed_n = n };
	uint8_t *spki = NULL;

	s.spki_n = (size_t)i2d_PUBKEY(key, &spki);
	s.spki = spki;
	tao_stub_encode(&s, der);
	OPENSSL_free(spki);
}

static int set_up(struct fix *f)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	const char *build = getenv("TAO_BUILD");
	struct tao_buf ref = TAO_BUF_INIT;
	char dir[1024];

	memset(f, 0, sizeof *f);
	f->der = f->pem = f->ref = empty;
	snprintf(dir, sizeof dir, "%s/modules", build != NULL ? build : ".");
	setenv("TAO_SOCKET", "/nonexistent/tao.sock", 1);
	f->ctx = OSSL_LIB_CTX_new();
	f->plain = OSSL_LIB_CTX_new();
	f->plain_dflt = OSSL_PROVIDER_load(f->plain, "default");
	f->dflt = OSSL_PROVIDER_load(f->ctx, "default");
	OSSL_PROVIDER_set_default_search_path(f->ctx, dir);
	f->tao = OSSL_PROVIDER_load(f->ctx, "tao");
	setenv("TAO_SOCKET", "/changed/later", 1);
	f->real = EVP_PKEY_Q_keygen(f->ctx, NULL, "EC", "P-256");
	f->other = EVP_PKEY_Q_keygen(f->plain, NULL, "EC", "P-256");
	if (!ok(f->tao != NULL && f->real != NULL, "the provider loads, and EC keys are still "
	        "made"))
		return 0;
	make_stub("web", f->real, dir, sizeof dir, &f->der);
	make_stub("web", f->real, NULL, 0, &ref);
	tao_stub_to_pem(f->der.p, f->der.n, &f->pem);
	tao_stub_to_pem(ref.p, ref.n, &f->ref);
	tao_buf_free(&ref);
	f->opaque = read_pem(f->ctx, f->pem.p, f->pem.n);
	return ok(f->opaque != NULL && no_error(), "a stub loads without a host or an error left");
}

static void tear_down(struct fix *f)
{
	OSSL_PROVIDER_unload(f->tao); /* before its last key, on purpose */
	EVP_PKEY_free(f->opaque);
	EVP_PKEY_free(f->real);
	EVP_PKEY_free(f->other);
	OSSL_PROVIDER_unload(f->dflt);
	OSSL_PROVIDER_unload(f->plain_dflt);
	OSSL_LIB_CTX_free(f->ctx);
	OSSL_LIB_CTX_free(f->plain);
	tao_buf_free(&f->der);
	tao_buf_free(&f->pem);
	tao_buf_free(&f->ref);
}

/* ---- what a key says of itself ---- */

static void test_description(struct fix *f)
{
	char text[128] = "", real[128] = "";
	uint8_t point[200], real_point[200];
	size_t n = 0, real_n = 0;
	int digest = 0;

	ok(EVP_PKEY_is_a(f->opaque, "EC") && EVP_PKEY_get_base_id(f->opaque) == EVP_PKEY_EC,
	   "it is an EC key by name and number");
	ok(EVP_PKEY_get_bits(f->opaque) == 256 && EVP_PKEY_get_security_bits(f->opaque) == 128 &&
	   EVP_PKEY_get_size(f->opaque) == EVP_PKEY_get_size(f->real), "bits and sizes");
	EVP_PKEY_get_group_name(f->opaque, text, sizeof text, NULL);
	EVP_PKEY_get_group_name(f->real, real, sizeof real, NULL);
	ok_str(text, real, "group");
	EVP_PKEY_get_utf8_string_param(f->opaque, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, text,
	                               sizeof text, NULL);
	ok_str(text, "uncompressed", "point format");
	ok(EVP_PKEY_get_default_digest_nid(f->opaque, &digest) > 0 && digest == NID_sha256,
	   "default digest");
	EVP_PKEY_get_octet_string_param(f->opaque, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point,
	                                sizeof point, &n);
	EVP_PKEY_get_octet_string_param(f->real, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, real_point,
	                                sizeof real_point, &real_n);
	ok(n == 65 && n == real_n && memcmp(point, real_point, n) == 0, "encoded public key");
	ok(EVP_PKEY_get_utf8_string_param(f->opaque, OSSL_PKEY_PARAM_GROUP_NAME, text, 3, NULL) == 0,
	   "no room: no answer");
	ok(EVP_PKEY_eq(f->opaque, f->real) == 1 && EVP_PKEY_eq(f->real, f->opaque) == 1,
	   "equal to the real key, from both sides");
	ok(EVP_PKEY_eq(f->opaque, f->other) == 0 && EVP_PKEY_eq(f->other, f->opaque) == 0,
	   "and to no other");
	ok(EVP_PKEY_parameters_eq(f->opaque, f->other) == 1, "parameters are equal to those");
	ok(no_error(), "no error left by any of it");
}

static int collect(const OSSL_PARAM params[], void *arg)
{
	return *(int *)arg = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PRIV_KEY) == NULL;
}

static void test_refusals(struct fix *f)
{
	BIGNUM *priv = NULL;
	OSSL_PARAM *params = NULL;
	EVP_PKEY *k = NULL;
	EVP_PKEY_CTX *c;
	int fine = 0;

	ok(!EVP_PKEY_get_bn_param(f->opaque, OSSL_PKEY_PARAM_PRIV_KEY, &priv) && priv == NULL,
	   "the private half is no parameter");
	ok(!EVP_PKEY_todata(f->opaque, EVP_PKEY_KEYPAIR, &params) && raised("never leaves"),
	   "exporting the pair is refused, with the reason");
	ok(EVP_PKEY_export(f->opaque, EVP_PKEY_PUBLIC_KEY, collect, &fine) && fine,
	   "exporting the public half is not");
	ok(EVP_PKEY_todata(f->real, EVP_PKEY_KEYPAIR, &params) == 1, "(a real pair)");
	c = EVP_PKEY_CTX_new_from_name(f->ctx, "EC", "provider=tao");
	ok(c != NULL && EVP_PKEY_fromdata_init(c) > 0 &&
	   EVP_PKEY_fromdata(c, &k, EVP_PKEY_KEYPAIR, params) <= 0 && k == NULL &&
	   raised("cannot become a Tao key"), "importing a private key is refused");
	EVP_PKEY_CTX_free(c);
	OSSL_PARAM_free(params);
	EVP_PKEY_free(k);
	ERR_clear_error();
}

/* ---- operations ---- */

static size_t sign(OSSL_LIB_CTX *ctx, EVP_PKEY *key, const char *digest, uint8_t *sig, size_t room)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	size_t n = room;
	int good = EVP_DigestSignInit_ex(c, NULL, digest, ctx, NULL, key, NULL) == 1 &&
	           EVP_DigestSign(c, sig, &n, (const uint8_t *)"text", 4) == 1;

	EVP_MD_CTX_free(c);
	return good ? n : 0;
}

static int verify(OSSL_LIB_CTX *ctx, EVP_PKEY *key, const char *digest, const uint8_t *sig,
                  size_t n)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int r = EVP_DigestVerifyInit_ex(c, NULL, digest, ctx, NULL, key, NULL) == 1
	        ? EVP_DigestVerify(c, sig, n, (const uint8_t *)"text", 4) : -1;

	EVP_MD_CTX_free(c);
	return r;
}

static void test_signing(struct fix *f)
{
	uint8_t sig[200], digest[64] = { 1 }, algorithm[50];
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(f->ctx, f->opaque, NULL), *pc;
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	OSSL_PARAM ask[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
	size_t n = 0;

	ok(sign(f->ctx, f->opaque, "SHA256", sig, sizeof sig) == 0 &&
	   strcmp(last_reason(), tao_err_text(TAO_ENOHOST)) == 0,
	   "without a host, signing fails and the reason itself says what to do");
	ERR_clear_error();
	ok(EVP_PKEY_sign_init(c) > 0 && EVP_PKEY_sign(c, NULL, &n, digest, 32) > 0 && n == 72,
	   "the size of a signature needs no host");
	for (size_t size = 0; size <= 64; size++) {
		int known = size == 32 || size == 48 || size == 64;

		n = sizeof sig;
		if (EVP_PKEY_sign(c, sig, &n, digest, size) > 0 ||
		    !raised(known ? "not running" : "SHA-256, SHA-384 and SHA-512"))
			ok(0, "%zu raw bytes", size);
	}
	n = 10;
	ok(EVP_PKEY_sign(c, sig, &n, digest, 32) <= 0 && !raised("not running"), "too little room");
	ok(sign(f->ctx, f->opaque, "SHA1", sig, sizeof sig) == 0 &&
	   raised("this digest is not for this Tao key"),
	   "SHA-1 is refused before the host is asked");
	ok(EVP_DigestSignInit_ex(m, &pc, NULL, f->ctx, NULL, f->opaque, NULL) == 1,
	   "default digest");
	ask[0] = OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, algorithm,
	                                           sizeof algorithm);
	ok(EVP_PKEY_CTX_get_params(pc, ask) > 0 && ask[0].return_size == 12 && algorithm[11] == 2,
	   "its algorithm id is ecdsa-with-SHA256");
	ok(EVP_PKEY_CTX_set_signature_md(pc, EVP_sha384()) <= 0,
	   "the digest does not change later");
	EVP_MD_CTX_free(m);
	EVP_PKEY_CTX_free(c);
	ERR_clear_error();
}

static void test_verifying(struct fix *f)
{
	static const char *const digests[] = { "SHA256", "SHA384", "SHA512", "SHA1", "SHA3-256" };
	uint8_t sig[200];
	OSSL_PARAM *params = NULL;
	EVP_PKEY *pub = NULL;
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(f->ctx, "EC", "provider=tao");
	size_t n;

	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++) {
		n = sign(f->plain, f->real, digests[i], sig, sizeof sig);
		ok(n > 0 && verify(f->ctx, f->opaque, digests[i], sig, n) == 1, "verifies %s",
		   digests[i]);
	}
	n = sign(f->plain, f->real, "SHA256", sig, sizeof sig);
	ok(verify(f->ctx, f->opaque, "SHA384", sig, n) != 1, "but not with another digest");
	sig[n - 1] ^= 1;
	ok(verify(f->ctx, f->opaque, "SHA256", sig, n) != 1, "nor an altered one");
	sig[n - 1] ^= 1;
	ok(EVP_PKEY_todata(f->other, EVP_PKEY_PUBLIC_KEY, &params) == 1 &&
	   EVP_PKEY_fromdata_init(c) > 0 &&
	   EVP_PKEY_fromdata(c, &pub, EVP_PKEY_PUBLIC_KEY, params) > 0, "a public key is imported");
	ok(verify(f->ctx, pub, "SHA256", sig, n) != 1, "it does not verify others' signatures");
	n = sign(f->plain, f->other, "SHA256", sig, sizeof sig);
	ok(verify(f->ctx, pub, "SHA256", sig, n) == 1, "it verifies its own");
	ERR_clear_error();
	ok(sign(f->ctx, pub, "SHA256", sig, sizeof sig) == 0 && raised("public half"),
	   "it cannot sign, and says so");
	OSSL_PARAM_free(params);
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(pub);
}

static void test_copies(struct fix *f)
{
	EVP_PKEY *copy = EVP_PKEY_dup(f->opaque), *params = EVP_PKEY_new();
	BIGNUM *x = NULL;

	ok(copy != NULL && EVP_PKEY_eq(copy, f->opaque) == 1, "a copy is equal");
	ok(EVP_PKEY_copy_parameters(params, f->opaque) == 1 &&
	   EVP_PKEY_parameters_eq(params, f->real) == 1, "parameters are copied");
	ok(!EVP_PKEY_get_bn_param(params, OSSL_PKEY_PARAM_EC_PUB_X, &x), "and only those");
	ERR_clear_error();
	BN_free(x);
	EVP_PKEY_free(copy);
	EVP_PKEY_free(params);
}

/* ---- files ---- */

static void test_writing(struct fix *f)
{
	struct tao_buf spki = TAO_BUF_INIT;
	uint8_t *a = NULL, *b = NULL;
	BIO *out = BIO_new(BIO_s_mem());
	OSSL_ENCODER_CTX *c;
	char *text;
	long n;
	int len = i2d_PUBKEY(f->opaque, &a);

	ok(len > 0 && len == i2d_PUBKEY(f->real, &b) && memcmp(a, b, (size_t)len) == 0,
	   "the public key in DER");
	ok(PEM_write_bio_PrivateKey(out, f->opaque, NULL, NULL, 0, NULL, NULL) == 1,
	   "the key in PEM");
	n = BIO_get_mem_data(out, &text);
	ok((size_t)n == f->pem.n && memcmp(text, f->pem.p, f->pem.n) == 0,
	   "is the stub as it was read");
	(void)BIO_reset(out);
	ok(PEM_write_bio_PrivateKey(out, f->opaque, EVP_aes_256_cbc(), NULL, 0, pass_cb, NULL) != 1 &&
	   raised("holds no secret"), "encrypting it is refused");
	(void)BIO_reset(out);
	c = OSSL_ENCODER_CTX_new_for_pkey(f->opaque, EVP_PKEY_KEYPAIR, "DER", "TaoPrivateKey",
	                                  NULL);
	ok(OSSL_ENCODER_to_bio(c, out) == 1, "the stub in DER");
	n = BIO_get_mem_data(out, &text);
	ok((size_t)n == f->der.n && memcmp(text, f->der.p, f->der.n) == 0, "as it was read");
	OSSL_ENCODER_CTX_free(c);
	ok(i2d_PrivateKey(f->opaque, NULL) <= 0 && raised("never leaves"), "no private key in DER");
	(void)BIO_reset(out);
	ok(EVP_PKEY_print_private(out, f->opaque, 0, NULL) == 1, "text");
	n = BIO_get_mem_data(out, &text);
	tao_buf_put(&spki, text, (size_t)n);
	ok(strstr(tao_buf_cstr(&spki), "web, in the Tao host") != NULL &&
	   strstr(tao_buf_cstr(&spki), "P-256") != NULL, "names key and curve");
	tao_buf_free(&spki);
	BIO_free(out);
	OPENSSL_free(a);
	OPENSSL_free(b);
}

/* A file of several blocks: each key is found in its turn. */
static void test_combined(struct fix *f)
{
	BIO *b = BIO_new(BIO_s_mem());
	EVP_PKEY *k[4];

	BIO_puts(b, "Some text\n-----BEGIN NOTHING-----\nAAAA\n-----END SOMETHING-----\n");
	PEM_write_bio_PUBKEY(b, f->other);
	BIO_write(b, f->pem.p, (int)f->pem.n);
	PEM_write_bio_PKCS8PrivateKey(b, f->other, NULL, NULL, 0, NULL, NULL);
	BIO_puts(b, "More text, in \r\nlines.\r\n");
	BIO_write(b, f->ref.p, (int)f->ref.n);
	for (int i = 0; i < 4; i++) {
		k[i] = PEM_read_bio_PrivateKey_ex(b, NULL, pass_cb, NULL, f->ctx, NULL);
		ok(i == 3 || no_error(), "no error while keys come");
	}
	ERR_clear_error();
	ok(k[0] != NULL && EVP_PKEY_eq(k[0], f->real) == 1, "the stub behind other blocks");
	ok(k[1] != NULL && EVP_PKEY_eq(k[1], f->other) == 1, "an ordinary key behind it");
	ok(k[2] != NULL && EVP_PKEY_eq(k[2], f->real) == 1, "a stub without sealed part");
	ok(k[3] == NULL, "and no more");
	for (int i = 0; i < 4; i++)
		EVP_PKEY_free(k[i]);
	BIO_free(b);
}

/* Cut anywhere, a stub does not load; once its first line is whole, the error is ours. */
static void test_damaged(struct fix *f)
{
	size_t first = strlen("-----BEGIN " TAO_STUB_PEM "-----"), wrong = 0;
	char text[TEXT_MAX];
	EVP_PKEY *k;

	for (size_t n = 0; n + 1 < f->pem.n; n++) {
		k = read_pem(f->ctx, f->pem.p, n);
		if (k != NULL || (n >= first && !raised("damaged or truncated")))
			wrong++;
		EVP_PKEY_free(k);
		ERR_clear_error();
	}
	ok(wrong == 0, "cut at each byte: %zu surprises", wrong);
	wrong = 0;
	for (size_t i = 0; i < f->pem.n; i++) {
		memcpy(text, f->pem.p, f->pem.n);
		text[i] = '*';
		k = read_pem(f->ctx, text, f->pem.n);
		wrong += k != NULL || (i > first && i < f->pem.n - first && !raised("damaged"));
		EVP_PKEY_free(k);
		ERR_clear_error();
	}
	ok(wrong == 0, "each byte spoiled: %zu surprises", wrong);
	for (size_t i = 0; i < f->der.n && i < 300; i++) {
		struct tao_buf pem = TAO_BUF_INIT;

		memcpy(text, f->der.p, f->der.n);
		text[i] ^= 0x55;
		tao_stub_to_pem(text, f->der.n, &pem);
		k = read_pem(f->ctx, pem.p, pem.n);
		if (k == NULL && ERR_peek_error() == 0)
			ok(0, "byte %zu of the DER: refused without an error", i);
		EVP_PKEY_free(k);
		ERR_clear_error();
		tao_buf_free(&pem);
	}
	snprintf(text, sizeof text, "-----BEGIN " TAO_STUB_PEM "-----\n%060000d\n", 0);
	ok(read_pem(f->ctx, text, strlen(text)) == NULL && ERR_peek_error() != 0, "an endless one");
	ERR_clear_error();
}

static int count_objects(OSSL_LIB_CTX *ctx, const char *path, int *keys)
{
	UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(pass_cb, 0);
	OSSL_STORE_CTX *s = OSSL_STORE_open_ex(path, ctx, NULL, ui, NULL, NULL, NULL, NULL);
	int n = 0;

	*keys = 0;
	while (s != NULL && !OSSL_STORE_eof(s)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(s);

		n += info != NULL;
		*keys += info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY;
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(s);
	UI_destroy_method(ui);
	return n;
}

static void test_stores(struct fix *f)
{
	static const char *const bad[] = {
		"tao:a b", "tao:../x", "tao:web/", "tao:web/keys", "tao://web", "tao:web?x",
		"tao:%zz",
		"tao:%", "tao:%0", "tao:%00", "tao:-x", "tao:ca/key", "tao:web%2fkey",
		"tao:web/key/x",
	};
	FILE *out = fopen("stub.der", "w");
	int keys;

	fwrite(f->der.p, 1, f->der.n, out);
	fclose(out);
	ok(count_objects(f->ctx, "stub.der", &keys) == 1 && keys == 1, "a stub in DER from a file");
	ERR_clear_error();
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		OSSL_STORE_CTX *s = OSSL_STORE_open_ex(bad[i], f->ctx, NULL, NULL, NULL, NULL, NULL,
		                                       NULL);

		ok(s == NULL && raised("not a tao: URI"), "%s is refused", bad[i]);
		OSSL_STORE_close(s);
	}
	ok(count_objects(f->ctx, "tao:web", &keys) == 0 && raised("not running"),
	   "without a host, tao:web ends with the reason");
	ok(count_objects(f->ctx, "tao:", &keys) == 0 && raised("not running"), "and so does tao:");
}

/* ---- others' files ---- */

static int write_trad(BIO *b, EVP_PKEY *k)
{
	return PEM_write_bio_PrivateKey_traditional(b, k, NULL, NULL, 0, NULL, NULL);
}

static int write_p8(BIO *b, EVP_PKEY *k)
{
	return PEM_write_bio_PKCS8PrivateKey(b, k, NULL, NULL, 0, NULL, NULL);
}

static int write_p8_aes(BIO *b, EVP_PKEY *k)
{
	return PEM_write_bio_PKCS8PrivateKey(b, k, EVP_aes_128_cbc(), PASS, (int)strlen(PASS), NULL,
	                                     NULL);
}

static int write_der(BIO *b, EVP_PKEY *k)
{
	return i2d_PrivateKey_bio(b, k);
}

static int write_p8_der(BIO *b, EVP_PKEY *k)
{
	return i2d_PKCS8PrivateKey_bio(b, k, NULL, NULL, 0, NULL, NULL);
}

static int write_pub(BIO *b, EVP_PKEY *k)
{
	return PEM_write_bio_PUBKEY(b, k);
}

static int write_pub_der(BIO *b, EVP_PKEY *k)
{
	return i2d_PUBKEY_bio(b, k);
}

static int write_cert(BIO *b, EVP_PKEY *k)
{
	X509 *x = X509_new();
	int r;

	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), 1000);
	X509_set_pubkey(x, k);
	r = X509_sign(x, k, EVP_PKEY_is_a(k, "ED25519") ? NULL : EVP_sha256()) &&
	    PEM_write_bio_X509(b, x) && write_p8_aes(b, k) && PEM_write_bio_X509(b, x);
	X509_free(x);
	return r;
}

static int write_p12(BIO *b, EVP_PKEY *k)
{
	PKCS12 *p = PKCS12_create(PASS, NULL, k, NULL, NULL, 0, 0, 0, 0, 0);
	int r = p != NULL && i2d_PKCS12_bio(b, p);

	PKCS12_free(p);
	return r;
}

static const struct {
	const char *name;
	int (*write)(BIO *b, EVP_PKEY *k);
} formats[] = {
	{ "traditional PEM", write_trad }, { "PKCS#8 PEM", write_p8 },
	{ "encrypted PKCS#8 PEM", write_p8_aes }, { "DER", write_der },
	{ "PKCS#8 DER", write_p8_der }, { "public PEM", write_pub },
	{ "public DER", write_pub_der }, { "certificate and key", write_cert },
	{ "PKCS#12", write_p12 },
};

static void compare_file(struct fix *f, const char *type, EVP_PKEY *k, size_t i)
{
	int with, without, with_keys, without_keys;
	unsigned long error;
	BIO *b = BIO_new_file("ordinary", "w");
	EVP_PKEY *a, *c;

	if (b == NULL || !formats[i].write(b, k)) {
		BIO_free(b);
		ERR_clear_error();
		skip(formats[i].name, "the type has no such format");
		return;
	}
	BIO_free(b);
	ERR_clear_error();
	without = count_objects(f->plain, "ordinary", &without_keys);
	error = ERR_get_error();
	ERR_clear_error();
	with = count_objects(f->ctx, "ordinary", &with_keys);
	ok(with > 0 && with == without && with_keys == without_keys && error == ERR_get_error(),
	   "%s, %s: the store gives the same", type, formats[i].name);
	ERR_clear_error();
	b = BIO_new_file("ordinary", "r");
	a = PEM_read_bio_PrivateKey_ex(b, NULL, pass_cb, NULL, f->plain, NULL);
	error = ERR_get_error();
	ERR_clear_error();
	(void)BIO_seek(b, 0);
	c = PEM_read_bio_PrivateKey_ex(b, NULL, pass_cb, NULL, f->ctx, NULL);
	ok((a == NULL) == (c == NULL) && (a == NULL || EVP_PKEY_eq(a, c) == 1) &&
	   ERR_GET_REASON(error) == ERR_GET_REASON(ERR_get_error()),
	   "%s, %s: and so does the PEM reader", type, formats[i].name);
	ERR_clear_error();
	EVP_PKEY_free(a);
	EVP_PKEY_free(c);
	BIO_free(b);
}

static void test_ordinary(struct fix *f)
{
	EVP_PKEY *keys[] = {
		EVP_PKEY_Q_keygen(f->plain, NULL, "EC", "P-384"),
		EVP_PKEY_Q_keygen(f->plain, NULL, "RSA", (size_t)2048),
		EVP_PKEY_Q_keygen(f->plain, NULL, "ED25519"),
	};

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		for (size_t j = 0; j < sizeof formats / sizeof formats[0]; j++)
			compare_file(f, EVP_PKEY_get0_type_name(keys[i]), keys[i], j);
		EVP_PKEY_free(keys[i]);
	}
}

/* A stub with a key of a type that is not sealed. */
static void test_other_type(struct fix *f)
{
	EVP_PKEY *other = EVP_PKEY_Q_keygen(f->plain, NULL, "ED448"), *k;
	struct tao_buf der = TAO_BUF_INIT, pem = TAO_BUF_INIT;

	make_stub("old", other, "x", 1, &der);
	tao_stub_to_pem(der.p, der.n, &pem);
	k = read_pem(f->ctx, pem.p, pem.n);
	ok(k == NULL && raised("newer version"), "a stub of an unknown key type says so");
	EVP_PKEY_free(k);
	EVP_PKEY_free(other);
	tao_buf_free(&der);
	tao_buf_free(&pem);
}

static void test_twice(struct fix *f)
{
	OSSL_LIB_CTX *ctx = OSSL_LIB_CTX_new();
	OSSL_PROVIDER *dflt = OSSL_PROVIDER_load(ctx, "default"), *tao;
	char dir[1024];
	EVP_PKEY *k;

	snprintf(dir, sizeof dir, "%s/modules", getenv("TAO_BUILD") ? getenv("TAO_BUILD") : ".");
	OSSL_PROVIDER_set_default_search_path(ctx, dir);
	setenv("TAO_SOCKET", "relative/path", 1);
	tao = OSSL_PROVIDER_load(ctx, "tao");
	k = read_pem(ctx, f->pem.p, f->pem.n);
	ok(k != NULL && EVP_PKEY_eq(k, f->opaque) == 1, "in a second context, with a bad setting");
	ok(sign(ctx, k, "SHA256", (uint8_t[200]){ 0 }, 200) == 0 && raised("correct 'socket'"),
	   "which is told when it matters");
	EVP_PKEY_free(k);
	OSSL_PROVIDER_unload(tao);
	OSSL_PROVIDER_unload(dflt);
	OSSL_LIB_CTX_free(ctx);
}

/* libcrypto's own functions read the bytes of a number that has none. */
static void test_bare_parameters(struct fix *f)
{
	static const struct {
		unsigned type;
		size_t size;
	} bare[] = {
		{ OSSL_PARAM_INTEGER, sizeof(int) }, { OSSL_PARAM_INTEGER, 0 },
		{ OSSL_PARAM_REAL, 8 }, { OSSL_PARAM_UTF8_PTR, 4 }, { OSSL_PARAM_OCTET_STRING, 4 },
	};
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(f->ctx, f->opaque, NULL);

	ok(ctx != NULL && EVP_PKEY_derive_init(ctx) > 0, "deriving begins");
	for (size_t i = 0; i < sizeof bare / sizeof bare[0]; i++) {
		OSSL_PARAM params[] = {
			{ OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, bare[i].type, NULL, bare[i].size, 0 },
			OSSL_PARAM_END
		};

		ok(EVP_PKEY_CTX_set_params(ctx, params) <= 0 &&
		   raised("argument or setting is wrong"),
		   "a parameter of type %u and size %zu without data", bare[i].type, bare[i].size);
	}
	EVP_PKEY_CTX_free(ctx);
}

int main(void)
{
	static void (*const tests[])(struct fix *f) = {
		test_description, test_refusals, test_signing, test_verifying, test_copies,
		test_writing, test_combined, test_damaged, test_stores, test_ordinary,
		test_other_type, test_twice, test_bare_parameters,
	};
	struct fix f;

	if (set_up(&f)) {
		for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
			ERR_clear_error();
			tests[i](&f);
		}
	}
	tear_down(&f);
	return done();
}
