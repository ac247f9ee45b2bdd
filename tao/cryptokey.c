/* CryptoKey: signing keys and their parts, and keys of any kind. */
#include "key.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "keytype.h"
#include "pb.h"

#define CRYPTOKEY_MAX 8192        /* bytes of one CryptoKey */
#define CRYPTOKEY_MEMORY 32768    /* bytes that it may unpack to */
#define RSA_PARTS 5               /* n, e, d, p, q */
#define RSA_PUBLIC_PARTS 2
#define SEED_LEN 32               /* Ed25519 */
#define SIGNING "signing"
#define VERIFYING "verifying"

#define SEC1_VERSION 1
#define TAG_INTEGER 0x02
#define TAG_BITS 0x03
#define TAG_OCTETS 0x04
#define TAG_SEQUENCE 0x30
#define TAG_CURVE 0xa0  /* [0] */
#define TAG_PUBLIC 0xa1 /* [1] */
#define FIELD_MAX 66    /* P-521 */
#define POINT_MAX (1 + 2 * FIELD_MAX)

static const char *const rsa_param[RSA_PARTS] = {
	OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D,
	OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2,
};

/* The CRT numbers, which CloudProxy does not store. */
static const char *const crt_param[] = {
	OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2,
	OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
};

#define CRT_PARTS (sizeof crt_param / sizeof crt_param[0])

/* Encoding */

enum tao_err tao_cryptokey_pack(Tao__CryptoHeader *h, ProtobufCBinaryData *parts, size_t n_parts,
                                struct tao_buf *out)
{
	Tao__CryptoKey k = TAO__CRYPTO_KEY__INIT;

	k.key_header = h;
	k.n_key_components = n_parts;
	k.key_components = parts;
	tao_pb_pack(&k.base, out);
	return tao_buf_err(out);
}

/* SEC1 (RFC 5915), by hand: libcrypto's encoder and decoder leave copies of
 * the scalar behind in freed memory. Both optional fields are always there. */
static size_t field_len(const struct tao_keytype *t)
{
	return ((size_t)t->bits + 7) / 8;
}

static void put_sec1(const struct tao_keytype *t, const uint8_t *scalar, const uint8_t *bits,
                     struct tao_buf *out)
{
	static const uint8_t version = SEC1_VERSION;
	struct tao_buf body = TAO_BUF_INIT, public = TAO_BUF_INIT;

	tao_buf_der(&public, TAG_BITS, bits, 2 + 2 * field_len(t));
	tao_buf_der(&body, TAG_INTEGER, &version, 1);
	tao_buf_der(&body, TAG_OCTETS, scalar, field_len(t));
	tao_buf_der(&body, TAG_CURVE, t->oid, t->oid_n);
	tao_buf_der(&body, TAG_PUBLIC, public.p, public.n);
	tao_buf_der(out, TAG_SEQUENCE, body.p, body.n);
	if (out->err == TAO_OK)
		out->err = body.err != TAO_OK ? body.err : public.err;
	tao_buf_free(&body);
	tao_buf_free(&public);
}

static enum tao_err encode_sec1(EVP_PKEY *key, const struct tao_keytype *t, struct tao_buf *out)
{
	uint8_t scalar[FIELD_MAX], bits[1 + POINT_MAX] = { 0 }; /* no unused bits, the point */
	size_t field = field_len(t), n = 0;
	BIGNUM *d = NULL;
	enum tao_err e = TAO_OK;

	if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1 &&
	    BN_bn2binpad(d, scalar, (int)field) == (int)field &&
	    EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, bits + 1, POINT_MAX,
	                                    &n) == 1 && n == 1 + 2 * field)
		put_sec1(t, scalar, bits, out);
	else
		e = tao_fail_crypto("cannot encode a private key");
	OPENSSL_cleanse(scalar, sizeof scalar);
	BN_clear_free(d);
	return e != TAO_OK ? e : tao_buf_err(out);
}

static enum tao_err encode_seed(EVP_PKEY *key, struct tao_buf *out)
{
	uint8_t seed[SEED_LEN];
	size_t n = sizeof seed;
	enum tao_err e = TAO_OK;

	if (EVP_PKEY_get_raw_private_key(key, seed, &n) == 1 && n == sizeof seed)
		tao_buf_put(out, seed, n);
	else
		e = tao_fail_crypto("cannot encode a private key");
	OPENSSL_cleanse(seed, sizeof seed);
	return e != TAO_OK ? e : tao_buf_err(out);
}

static enum tao_err one_part(EVP_PKEY *key, const struct tao_keytype *t, int with_private,
                             ProtobufCBinaryData *part)
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e;

	if (!with_private)
		e = tao_key_spki(key, &b);
	else
		e = t->kind == TAO_KEY_EC ? encode_sec1(key, t, &b) : encode_seed(key, &b);
	if (e == TAO_OK) {
		part->len = b.n;
		part->data = OPENSSL_memdup(b.p, b.n);
		if (part->data == NULL)
			e = tao_fail_nomem();
	}
	tao_buf_free(&b);
	return e;
}

static enum tao_err rsa_part(EVP_PKEY *key, const char *param, ProtobufCBinaryData *part)
{
	BIGNUM *bn = NULL;
	enum tao_err e = TAO_OK;

	if (EVP_PKEY_get_bn_param(key, param, &bn) != 1)
		return tao_fail_crypto("cannot encode an RSA key");
	part->len = (size_t)BN_num_bytes(bn);
	part->data = OPENSSL_malloc(part->len + 1);
	if (part->data == NULL || BN_bn2bin(bn, part->data) != (int)part->len)
		e = tao_fail_nomem();
	BN_clear_free(bn);
	return e;
}

enum tao_err tao_pkey_pack(EVP_PKEY *key, const char *name, int32_t epoch, int with_private,
                           struct tao_buf *out)
{
	const struct tao_keytype *t = tao_keytype_of(key);
	Tao__CryptoHeader h = TAO__CRYPTO_HEADER__INIT;
	ProtobufCBinaryData parts[RSA_PARTS] = { { 0, NULL } };
	size_t n = 0;
	enum tao_err e = TAO_OK;

	if (t == NULL)
		return tao_fail(TAO_EINVAL, "a key of this kind cannot be kept: use ecdsap256");
	if (t->kind != TAO_KEY_RSA) {
		e = one_part(key, t, with_private, &parts[n++]);
	} else {
		size_t want = with_private ? RSA_PARTS : RSA_PUBLIC_PARTS;

		while (e == TAO_OK && n < want) {
			e = rsa_part(key, rsa_param[n], &parts[n]);
			n++;
		}
	}
	tao_cryptoheader_fill(&h, name, with_private ? t->name : t->public_name,
	                      with_private ? SIGNING : VERIFYING);
	h.key_epoch = epoch;
	if (e == TAO_OK)
		e = tao_cryptokey_pack(&h, parts, n, out);
	for (size_t i = 0; i < n; i++)
		OPENSSL_clear_free(parts[i].data, parts[i].len);
	return e;
}

enum tao_err tao_cryptokey_encode(EVP_PKEY *key, const char *name, int with_private,
                                  struct tao_buf *out)
{
	return tao_pkey_pack(key, name, 1, with_private, out);
}

/* Decoding */

enum tao_err tao_cryptokey_malformed(const char *type)
{
	return tao_fail(TAO_EFORMAT, "a stored key of type '%.40s' is malformed: restore the file "
	                             "from a copy", type);
}

static int pair_ok(EVP_PKEY *key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	int good = ctx != NULL && EVP_PKEY_public_check(ctx) == 1 &&
	           EVP_PKEY_pairwise_check(ctx) == 1;

	EVP_PKEY_CTX_free(ctx);
	return good;
}

static EVP_PKEY *ec_from(const struct tao_keytype *t, const uint8_t *scalar,
                         const uint8_t *point)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	BIGNUM *d = BN_secure_new();
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (bld != NULL && ctx != NULL && d != NULL &&
	    BN_bin2bn(scalar, (int)field_len(t), d) != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, t->group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point,
	                                     1 + 2 * field_len(t)) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1)
		params = OSSL_PARAM_BLD_to_param(bld);
	if (params != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
		EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
	BN_clear_free(d);
	return key;
}

static EVP_PKEY *decode_sec1(const struct tao_keytype *t, const ProtobufCBinaryData *part)
{
	struct tao_rd r = tao_rd_of(part->data, part->len);
	struct tao_rd seq = tao_rd_der(&r, TAG_SEQUENCE);
	struct tao_rd version = tao_rd_der(&seq, TAG_INTEGER), scalar = tao_rd_der(&seq,
	                                                                           TAG_OCTETS);
	struct tao_rd curve = tao_rd_der(&seq, TAG_CURVE), public = tao_rd_der(&seq, TAG_PUBLIC);
	struct tao_rd bits = tao_rd_der(&public, TAG_BITS);
	size_t field = field_len(t);
	EVP_PKEY *key;

	if (!tao_rd_done(&r) || !tao_rd_done(&seq) || !tao_rd_done(&public) ||
	    tao_rd_u8(&version) != SEC1_VERSION || !tao_rd_done(&version) || scalar.n != field ||
	    curve.n != t->oid_n || memcmp(curve.p, t->oid, t->oid_n) != 0 ||
	    tao_rd_u8(&bits) != 0 || bits.n != 1 + 2 * field)
		return NULL;
	key = ec_from(t, scalar.p, bits.p);
	if (key != NULL && pair_ok(key))
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

/* The private half of a curve's key, or of Ed25519. */
static EVP_PKEY *decode_private(const struct tao_keytype *t, const ProtobufCBinaryData *part)
{
	if (t->kind == TAO_KEY_EC)
		return decode_sec1(t, part);
	if (part->len != SEED_LEN)
		return NULL;
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, part->data, part->len);
}

static EVP_PKEY *decode_one(const Tao__CryptoKey *k, const struct tao_keytype *t, int is_public)
{
	const ProtobufCBinaryData *part = k->key_components;
	EVP_PKEY *key = NULL;

	if (k->n_key_components != 1)
		return NULL;
	if (!is_public)
		return decode_private(t, part);
	tao_key_from_spki(part->data, part->len, &key);
	return key;
}

/* dP = d mod (p-1), dQ = d mod (q-1), 1/q mod p. */
static int crt_numbers(BIGNUM *const *part, BIGNUM **crt, BN_CTX *ctx)
{
	const BIGNUM *d = part[2], *p = part[3], *q = part[4];
	BIGNUM *less = BN_secure_new();
	int good = less != NULL;

	for (size_t i = 0; good && i < 2; i++) {
		good = BN_copy(less, i == 0 ? p : q) != NULL && BN_sub_word(less, 1) == 1;
		BN_set_flags(less, BN_FLG_CONSTTIME);
		good = good && !BN_is_zero(less) && BN_mod(crt[i], d, less, ctx) == 1;
	}
	good = good && BN_mod_inverse(crt[2], q, p, ctx) != NULL;
	BN_clear_free(less);
	return good;
}

static EVP_PKEY *rsa_from(BIGNUM *const *part, BIGNUM *const *crt, int is_public)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;
	int good = bld != NULL && ctx != NULL;

	for (size_t i = 0; good && i < (is_public ? RSA_PUBLIC_PARTS : RSA_PARTS); i++)
		good = OSSL_PARAM_BLD_push_BN(bld, rsa_param[i], part[i]);
	for (size_t i = 0; good && !is_public && i < CRT_PARTS; i++)
		good = OSSL_PARAM_BLD_push_BN(bld, crt_param[i], crt[i]);
	if (good)
		params = OSSL_PARAM_BLD_to_param(bld);
	if (params != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
		EVP_PKEY_fromdata(ctx, &key, is_public ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR,
		                  params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static int rsa_numbers(const Tao__CryptoKey *k, const struct tao_keytype *t, BIGNUM **part)
{
	for (size_t i = 0; i < k->n_key_components; i++) {
		const ProtobufCBinaryData *c = &k->key_components[i];

		/* Minimal length, and none larger than the modulus. */
		if (c->len == 0 || c->len > (size_t)t->bits / 8 || c->data[0] == 0)
			return 0;
		part[i] = BN_secure_new();
		if (part[i] == NULL || BN_bin2bn(c->data, (int)c->len, part[i]) == NULL)
			return 0;
		if (i >= RSA_PUBLIC_PARTS)
			BN_set_flags(part[i], BN_FLG_CONSTTIME);
	}
	return 1;
}

static EVP_PKEY *decode_rsa(const Tao__CryptoKey *k, const struct tao_keytype *t, int is_public)
{
	BIGNUM *part[RSA_PARTS] = { NULL }, *crt[CRT_PARTS] = { NULL };
	BN_CTX *ctx = BN_CTX_secure_new();
	EVP_PKEY *key = NULL;
	int good = ctx != NULL;

	if (k->n_key_components != (is_public ? RSA_PUBLIC_PARTS : RSA_PARTS))
		good = 0;
	for (size_t i = 0; good && i < CRT_PARTS; i++)
		good = (crt[i] = BN_secure_new()) != NULL;
	if (good && rsa_numbers(k, t, part) && (is_public || crt_numbers(part, crt, ctx)))
		key = rsa_from(part, crt, is_public);
	if (key != NULL && !is_public && !pair_ok(key)) {
		EVP_PKEY_free(key);
		key = NULL;
	}
	for (size_t i = 0; i < RSA_PARTS; i++)
		BN_clear_free(part[i]);
	for (size_t i = 0; i < CRT_PARTS; i++)
		BN_clear_free(crt[i]);
	BN_CTX_free(ctx);
	return key;
}

/* Through the SPKI parser as well, whose bounds hold for every key. */
static int bounded(EVP_PKEY *key, const struct tao_keytype *t)
{
	struct tao_buf der = TAO_BUF_INIT;
	EVP_PKEY *public = NULL;
	int good = tao_keytype_of(key) == t && tao_key_spki(key, &der) == TAO_OK &&
	           tao_key_from_spki(der.p, der.n, &public) == TAO_OK;

	EVP_PKEY_free(public);
	tao_buf_free(&der);
	return good;
}

enum tao_err tao_pkey_from(const Tao__CryptoKey *k, EVP_PKEY **out)
{
	const struct tao_keytype *t;
	const char *type = k->key_header->key_type, *purpose = k->key_header->key_purpose;
	int is_public = 0;
	EVP_PKEY *key;

	*out = NULL;
	t = tao_keytype_named(type, &is_public);
	if (t == NULL)
		return tao_keytype_none(TAO_EFORMAT, type);
	if (strcmp(purpose, is_public ? VERIFYING : SIGNING) != 0)
		return tao_fail(TAO_EFORMAT, "a stored key of type '%s' has the purpose '%.40s'",
		                type, purpose);
	if (k->n_key_components == 0)
		return tao_cryptokey_malformed(type);
	ERR_set_mark();
	key = t->kind == TAO_KEY_RSA ? decode_rsa(k, t, is_public) : decode_one(k, t, is_public);
	if (key != NULL && !bounded(key, t)) {
		EVP_PKEY_free(key);
		key = NULL;
	}
	ERR_pop_to_mark();
	if (key == NULL)
		return tao_cryptokey_malformed(type);
	*out = key;
	return TAO_OK;
}

enum tao_err tao_cryptokey_unpack(struct tao_pb_alloc *pa, const void *p, size_t n,
                                  ProtobufCMessage **out)
{
	enum tao_err e;

	*out = NULL;
	tao_pb_alloc_init(pa, CRYPTOKEY_MEMORY);
	if (n > CRYPTOKEY_MAX)
		return tao_fail(TAO_EFORMAT, "a stored key has %zu bytes: at most %d", n,
		                CRYPTOKEY_MAX);
	e = tao_pb_unpack_strict(pa, &tao__crypto_key__descriptor, p, n, "stored key", out);
	if (e == TAO_ELIMIT)
		e = tao_fail(TAO_EFORMAT, "%s", tao_why());
	if (e == TAO_OK)
		e = tao_cryptoheader_check(((Tao__CryptoKey *)*out)->key_header);
	return e;
}

enum tao_err tao_cryptokey_decode(const void *p, size_t n, EVP_PKEY **out)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb;
	enum tao_err e;

	*out = NULL;
	e = tao_cryptokey_unpack(&pa, p, n, &pb);
	if (e == TAO_OK)
		e = tao_pkey_from((Tao__CryptoKey *)pb, out);
	tao_pb_free(&pa, pb);
	return e;
}

/* Keys of any kind */

static enum tao_err pkey_from(const Tao__CryptoKey *k, struct tao_anykey *out)
{
	return tao_pkey_from(k, &out->pkey);
}

static enum tao_err crypter_from(const Tao__CryptoKey *k, struct tao_anykey *out)
{
	return tao_crypter_from(k, &out->crypter);
}

static enum tao_err deriver_from(const Tao__CryptoKey *k, struct tao_anykey *out)
{
	return tao_deriver_from(k, &out->deriver);
}

static const struct {
	const char *name;
	enum tao_err (*from)(const Tao__CryptoKey *k, struct tao_anykey *out);
} purposes[] = {
	[TAO_SIGNING] = { SIGNING, pkey_from },
	[TAO_VERIFYING] = { VERIFYING, pkey_from },
	[TAO_CRYPTING] = { "crypting", crypter_from },
	[TAO_DERIVING] = { "deriving", deriver_from },
};

#define N_PURPOSES (sizeof purposes / sizeof purposes[0])

static enum tao_err take(const Tao__CryptoKey *k, struct tao_anykey *out)
{
	const Tao__CryptoHeader *h = k->key_header;
	size_t i = 0;

	while (i < N_PURPOSES && strcmp(purposes[i].name, h->key_purpose) != 0)
		i++;
	if (i == N_PURPOSES)
		return tao_fail(TAO_EFORMAT, "a stored key has the unknown purpose '%.40s'",
		                h->key_purpose);
	out->purpose = (enum tao_purpose)i;
	out->epoch = h->has_key_epoch ? h->key_epoch : 1;
	out->name = strdup(h->key_name != NULL ? h->key_name : "");
	return out->name != NULL ? purposes[i].from(k, out) : tao_fail_nomem();
}

enum tao_err tao_anykey_decode(const void *p, size_t n, struct tao_anykey *out)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb;
	enum tao_err e = tao_cryptokey_unpack(&pa, p, n, &pb);

	memset(out, 0, sizeof *out);
	if (e == TAO_OK)
		e = take((Tao__CryptoKey *)pb, out);
	if (e != TAO_OK)
		tao_anykey_clear(out);
	tao_pb_free(&pa, pb);
	return e;
}

static enum tao_err generate(const char *type, struct tao_anykey *out)
{
	if (tao_crypter_type(type) != NULL) {
		out->purpose = TAO_CRYPTING;
		return tao_crypter_generate(type, &out->crypter);
	}
	if (tao_deriver_type(type) != NULL) {
		out->purpose = TAO_DERIVING;
		return tao_deriver_generate(type, &out->deriver);
	}
	out->purpose = TAO_SIGNING;
	return tao_key_generate(type, &out->pkey);
}

enum tao_err tao_anykey_generate(const char *type, const char *name, struct tao_anykey *out)
{
	enum tao_err e = TAO_OK;

	memset(out, 0, sizeof *out);
	out->epoch = 1;
	out->name = strdup(name);
	if (out->name == NULL)
		e = tao_fail_nomem();
	if (e == TAO_OK)
		e = generate(type, out);
	if (e != TAO_OK)
		tao_anykey_clear(out);
	return e;
}

enum tao_err tao_anykey_encode(const struct tao_anykey *k, struct tao_buf *out)
{
	if (tao_anykey_type(k) == NULL)
		return tao_fail(TAO_EINVAL, "no key is in the place of a key: generate or read one "
		                "first");
	switch (k->purpose) {
	case TAO_CRYPTING:
		return tao_crypter_pack(&k->crypter, k->name, k->epoch, out);
	case TAO_DERIVING:
		return tao_deriver_pack(&k->deriver, k->name, k->epoch, out);
	default:
		return tao_pkey_pack(k->pkey, k->name, k->epoch, k->purpose == TAO_SIGNING, out);
	}
}

const char *tao_anykey_type(const struct tao_anykey *k)
{
	const struct tao_keytype *t = k->pkey != NULL ? tao_keytype_of(k->pkey) : NULL;

	if (k->crypter.type != NULL)
		return k->crypter.type->name;
	if (k->deriver.type != NULL)
		return k->deriver.type->name;
	if (t == NULL)
		return NULL;
	return k->purpose == TAO_SIGNING ? t->name : t->public_name;
}

void tao_anykey_clear(struct tao_anykey *k)
{
	EVP_PKEY_free(k->pkey); /* libcrypto wipes private halves */
	free(k->name);
	OPENSSL_cleanse(k, sizeof *k);
}
