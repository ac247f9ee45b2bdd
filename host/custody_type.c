#include "custody_coding.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define EC_FIELD_MAX 66 /* bytes: P-521 */
#define RAW_LEN 32
#define PSS_DIGEST "SHA256"

enum tao_err key_coding_mismatch(const struct key_type *t)
{
	ERR_clear_error();
	return tao_fail(TAO_EALTERED, "the sealed key is not a key of type %s", t->name);
}

/* ---- elliptic curves ---- */

static size_t field_len(unsigned bits)
{
	return (bits + 7) / 8;
}

/* The public point of a scalar, computed here and never taken from a file; 0: no scalar of this
 * curve. */
static size_t public_point(const EC_GROUP *g, const BIGNUM *d, uint8_t *point, size_t room)
{
	EC_POINT *q = EC_POINT_new(g);
	size_t n = 0;

	if (q != NULL && !BN_is_zero(d) && BN_cmp(d, EC_GROUP_get0_order(g)) < 0 &&
	    EC_POINT_mul(g, q, d, NULL, NULL, NULL) == 1)
		n = EC_POINT_point2oct(g, q, POINT_CONVERSION_UNCOMPRESSED, point, room, NULL);
	EC_POINT_free(q);
	return n;
}

static OSSL_PARAM *ec_params(const struct key_type *t, BIGNUM *d)
{
	uint8_t point[1 + 2 * EC_FIELD_MAX];
	EC_GROUP *g = EC_GROUP_new_by_curve_name(EC_curve_nist2nid(t->group));
	size_t n = g != NULL ? public_point(g, d, point, sizeof point) : 0;
	OSSL_PARAM_BLD *b = n > 0 ? OSSL_PARAM_BLD_new() : NULL;
	OSSL_PARAM *p = NULL;

	if (b != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, t->group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_BN_pad(b, OSSL_PKEY_PARAM_PRIV_KEY, d, field_len(t->bits)) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, n) == 1)
		p = OSSL_PARAM_BLD_to_param(b);
	OSSL_PARAM_BLD_free(b);
	EC_GROUP_free(g);
	return p;
}

static enum tao_err ec_read(const struct key_type *t, const void *p, size_t n, EVP_PKEY **out)
{
	BIGNUM *d = n == field_len(t->bits) ? BN_secure_new() : NULL;
	OSSL_PARAM *params = NULL;
	EVP_PKEY_CTX *ctx = NULL;
	enum tao_err e = TAO_OK;

	if (d != NULL && BN_bin2bn(p, (int)n, d) != NULL) {
		BN_set_flags(d, BN_FLG_CONSTTIME);
		params = ec_params(t, d);
	}
	if (params == NULL) {
		e = key_coding_mismatch(t);
		goto out;
	}
	ctx = EVP_PKEY_CTX_new_from_name(NULL, t->algorithm, NULL);
	if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, out, EVP_PKEY_KEYPAIR, params) != 1)
		e = tao_fail_crypto("opening a key of type %s", t->name);
out:
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params); /* wipes what was a secure BIGNUM */
	BN_clear_free(d);
	return e;
}

static enum tao_err ec_write(EVP_PKEY *key, struct tao_buf *out)
{
	int n = (int)field_len((unsigned)EVP_PKEY_get_bits(key));
	uint8_t *to = tao_buf_room(out, (size_t)n);
	BIGNUM *d = BN_secure_new();
	enum tao_err e = TAO_OK;

	if (to == NULL || d == NULL ||
	    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) != 1 ||
	    BN_bn2binpad(d, to, n) != n)
		e = tao_fail_crypto("reading a new key");
	BN_clear_free(d);
	return e;
}

static enum tao_err ec_generate(const struct key_type *t, const struct key_pss *pss,
                                EVP_PKEY **out)
{
	(void)pss;
	*out = EVP_EC_gen(t->group);
	return *out != NULL ? TAO_OK : tao_fail_crypto("making a key of type %s", t->name);
}

/* ---- Ed25519 and X25519 ---- */

static enum tao_err raw_read(const struct key_type *t, const void *p, size_t n, EVP_PKEY **out)
{
	if (n != RAW_LEN)
		return key_coding_mismatch(t);
	*out = EVP_PKEY_new_raw_private_key_ex(NULL, t->algorithm, NULL, p, n);
	return *out != NULL ? TAO_OK : tao_fail_crypto("opening a key of type %s", t->name);
}

static enum tao_err raw_write(EVP_PKEY *key, struct tao_buf *out)
{
	uint8_t *to = tao_buf_room(out, RAW_LEN);
	size_t n = RAW_LEN;

	if (to == NULL || EVP_PKEY_get_raw_private_key(key, to, &n) != 1 || n != RAW_LEN)
		return tao_fail_crypto("reading a new key");
	return TAO_OK;
}

static enum tao_err raw_generate(const struct key_type *t, const struct key_pss *pss,
                                 EVP_PKEY **out)
{
	(void)pss;
	*out = EVP_PKEY_Q_keygen(NULL, NULL, t->algorithm);
	return *out != NULL ? TAO_OK : tao_fail_crypto("making a key of type %s", t->name);
}

/* ---- RSA ---- */

enum { RSA_N, RSA_E, RSA_D, RSA_P, RSA_Q, RSA_DP, RSA_DQ, RSA_QINV, RSA_PARTS };

static const char *const rsa_names[RSA_PARTS] = {
	OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D,
	OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2, OSSL_PKEY_PARAM_RSA_EXPONENT1,
	OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
};

/* ed = 1 and d = dp modulo prime - 1. t: three numbers to work with. */
static int exponents_fit(BIGNUM *const *v, const BIGNUM *prime, const BIGNUM *dp, BIGNUM *const *t,
                         BN_CTX *ctx)
{
	return BN_sub(t[0], prime, BN_value_one()) == 1 &&
	       BN_nnmod(t[1], v[RSA_D], t[0], ctx) == 1 &&
	       BN_cmp(t[1], dp) == 0 && BN_mod_mul(t[2], t[1], v[RSA_E], t[0], ctx) == 1 &&
	       BN_is_one(t[2]);
}

static int parts_fit(BIGNUM *const *v, BIGNUM *const *t, BN_CTX *ctx)
{
	return BN_cmp(v[RSA_P], BN_value_one()) > 0 && BN_cmp(v[RSA_Q], BN_value_one()) > 0 &&
	       BN_num_bits(v[RSA_E]) <= KEY_RSA_EXPONENT_BITS && BN_is_odd(v[RSA_E]) &&
	       !BN_is_one(v[RSA_E]) && BN_mul(t[0], v[RSA_P], v[RSA_Q], ctx) == 1 &&
	       BN_cmp(t[0], v[RSA_N]) == 0 && exponents_fit(v, v[RSA_P], v[RSA_DP], t, ctx) &&
	       exponents_fit(v, v[RSA_Q], v[RSA_DQ], t, ctx) &&
	       BN_mod_mul(t[0], v[RSA_Q], v[RSA_QINV], v[RSA_P], ctx) == 1 && BN_is_one(t[0]);
}

/* 1 if the private parts are those of the modulus, and there are no more than two primes. */
static int rsa_fits(EVP_PKEY *key)
{
	BIGNUM *v[RSA_PARTS] = { NULL }, *t[3] = { NULL }, *third = NULL;
	BN_CTX *ctx = BN_CTX_secure_new();
	int fits = ctx != NULL;

	ERR_set_mark();
	for (int i = 0; i < RSA_PARTS && fits; i++) {
		fits = EVP_PKEY_get_bn_param(key, rsa_names[i], &v[i]) == 1;
		if (fits && i >= RSA_D)
			BN_set_flags(v[i], BN_FLG_CONSTTIME);
	}
	for (int i = 0; i < 3 && fits; i++)
		fits = (t[i] = BN_secure_new()) != NULL;
	fits = fits && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_FACTOR3, &third) != 1 &&
	       parts_fit(v, t, ctx);
	ERR_pop_to_mark();
	for (int i = 0; i < RSA_PARTS; i++)
		BN_clear_free(v[i]);
	for (int i = 0; i < 3; i++)
		BN_clear_free(t[i]);
	BN_clear_free(third);
	BN_CTX_free(ctx);
	return fits;
}

/* The key of exactly one PrivateKeyInfo, else NULL. */
static EVP_PKEY *from_pkcs8(const uint8_t *p, size_t n)
{
	const uint8_t *at = p;
	PKCS8_PRIV_KEY_INFO *info;
	EVP_PKEY *key = NULL;

	ERR_set_mark();
	info = n <= TAO_BUF_MAX ? d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)n) : NULL;
	if (info != NULL && at == p + n)
		key = EVP_PKCS82PKEY(info);
	PKCS8_PRIV_KEY_INFO_free(info);
	ERR_pop_to_mark();
	return key;
}

static enum tao_err rsa_read(const struct key_type *t, const void *p, size_t n, EVP_PKEY **out)
{
	EVP_PKEY *key = from_pkcs8(p, n);

	if (key == NULL || key_type_of(key) != t || !rsa_fits(key)) {
		EVP_PKEY_free(key);
		return key_coding_mismatch(t);
	}
	*out = key;
	return TAO_OK;
}

enum tao_err key_pkcs8_write(EVP_PKEY *key, struct tao_buf *out)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	uint8_t *der = NULL;
	int n = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : -1;

	PKCS8_PRIV_KEY_INFO_free(info);
	if (n < 0)
		return tao_fail_crypto("encoding a private key");
	tao_buf_put(out, der, (size_t)n);
	OPENSSL_clear_free(der, (size_t)n);
	return tao_buf_err(out);
}

static int set_pss(EVP_PKEY_CTX *ctx, const struct key_pss *pss)
{
	static const struct key_pss usual = { NULL, NULL, -1 };
	const char *digest, *mgf1;
	EVP_MD *md;
	int salt;

	if (pss == NULL)
		pss = &usual;
	digest = pss->digest != NULL ? pss->digest : PSS_DIGEST;
	mgf1 = pss->mgf1 != NULL ? pss->mgf1 : digest;
	md = EVP_MD_fetch(NULL, digest, NULL);
	salt = md == NULL ? -1 : pss->salt_len < 0 ? EVP_MD_get_size(md) : pss->salt_len;
	EVP_MD_free(md);
	return salt >= 0 && EVP_PKEY_CTX_set_rsa_pss_keygen_md_name(ctx, digest, NULL) == 1 &&
	       EVP_PKEY_CTX_set_rsa_pss_keygen_mgf1_md_name(ctx, mgf1) == 1 &&
	       EVP_PKEY_CTX_set_rsa_pss_keygen_saltlen(ctx, salt) == 1;
}

static enum tao_err rsa_generate(const struct key_type *t, const struct key_pss *pss,
                                 EVP_PKEY **out)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, t->algorithm, NULL);
	enum tao_err e = TAO_OK;

	if (ctx == NULL || EVP_PKEY_keygen_init(ctx) != 1 ||
	    EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)t->bits) != 1)
		e = tao_fail_crypto("making a key of type %s", t->name);
	else if (strcmp(t->algorithm, "RSA-PSS") == 0 && !set_pss(ctx, pss))
		e = tao_fail(TAO_EINVAL, "an RSA-PSS key cannot be restricted to this digest and "
		             "salt: use SHA256, SHA384 or SHA512 and a salt as long as the digest");
	else if (EVP_PKEY_generate(ctx, out) != 1)
		e = tao_fail_crypto("making a key of type %s", t->name);
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return e;
}

int key_type_pss(EVP_PKEY *key, char digest[KEY_PSS_NAME], char mgf1[KEY_PSS_NAME],
                 struct key_pss *out)
{
	int restricted = EVP_PKEY_is_a(key, "RSA-PSS");
	size_t n;

	ERR_set_mark();
	restricted = restricted &&
	             EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_RSA_PSS_SALTLEN,
	                                    &out->salt_len) == 1;
	/* What is not said is the default of RFC 4055, SHA-1. */
	if (restricted &&
	    EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_RSA_DIGEST, digest, KEY_PSS_NAME,
	                                   &n) != 1)
		strcpy(digest, "SHA1");
	if (restricted &&
	    EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, mgf1, KEY_PSS_NAME,
	                                   &n) != 1)
		strcpy(mgf1, "SHA1");
	ERR_pop_to_mark();
	out->digest = digest;
	out->mgf1 = mgf1;
	return restricted;
}

/* ---- the table ---- */

static const struct key_coding ec = { ec_generate, ec_write, ec_read };
static const struct key_coding raw = { raw_generate, raw_write, raw_read };
static const struct key_coding rsa = { rsa_generate, key_pkcs8_write, rsa_read };

/* Slow is what was measured at more than 0.3 ms with OpenSSL 3.0 on a server CPU: RSA 2048 0.24,
 * 3072 1.5, 4096 3.4; P-384 0.6, P-521 0.2; with 3.5 ML-DSA 44 0.5, 65 0.8, 87 1.1. Handing over to
 * another thread costs 0.05. */
static const struct key_type types[] = {
	{ "p256", "EC", "P-256", 256, KEY_SIGNS | KEY_DERIVES, "SHA256", 0, 0, &ec },
	{ "p384", "EC", "P-384", 384, KEY_SIGNS | KEY_DERIVES, "SHA384", 1, 0, &ec },
	{ "p521", "EC", "P-521", 521, KEY_SIGNS | KEY_DERIVES, "SHA512", 0, 0, &ec },
	{ "rsa2048", "RSA", NULL, 2048, KEY_SIGNS | KEY_DECRYPTS, "SHA256", 0, 0, &rsa },
	{ "rsa3072", "RSA", NULL, 3072, KEY_SIGNS | KEY_DECRYPTS, "SHA256", 1, 0, &rsa },
	{ "rsa4096", "RSA", NULL, 4096, KEY_SIGNS | KEY_DECRYPTS, "SHA256", 1, 0, &rsa },
	{ "rsa-pss-2048", "RSA-PSS", NULL, 2048, KEY_SIGNS, "SHA256", 0, 0, &rsa },
	{ "rsa-pss-3072", "RSA-PSS", NULL, 3072, KEY_SIGNS, "SHA256", 1, 0, &rsa },
	{ "rsa-pss-4096", "RSA-PSS", NULL, 4096, KEY_SIGNS, "SHA256", 1, 0, &rsa },
	{ "ed25519", "ED25519", NULL, 256, KEY_SIGNS, NULL, 0, 0, &raw },
	{ "x25519", "X25519", NULL, 256, KEY_DERIVES, NULL, 0, 0, &raw },
	{ "ml-dsa-44", "ML-DSA-44", NULL, 10496, KEY_SIGNS, NULL, 1, KEY_MU_LEN, &key_coding_mldsa },
	{ "ml-dsa-65", "ML-DSA-65", NULL, 15616, KEY_SIGNS, NULL, 1, KEY_MU_LEN, &key_coding_mldsa },
	{ "ml-dsa-87", "ML-DSA-87", NULL, 20736, KEY_SIGNS, NULL, 1, KEY_MU_LEN, &key_coding_mldsa },
};

#define N_TYPES (sizeof types / sizeof types[0])

const struct key_type *key_type_named(const char *name)
{
	for (size_t i = 0; i < N_TYPES; i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

static int is_of(EVP_PKEY *key, const struct key_type *t)
{
	char group[64];
	size_t n;

	if (!EVP_PKEY_is_a(key, t->algorithm))
		return 0;
	if (t->coding == &rsa)
		return (unsigned)EVP_PKEY_get_bits(key) == t->bits;
	return t->group == NULL ||
	       (EVP_PKEY_get_group_name(key, group, sizeof group, &n) == 1 &&
	        OBJ_sn2nid(group) == EC_curve_nist2nid(t->group));
}

const struct key_type *key_type_of(EVP_PKEY *key)
{
	const struct key_type *found = NULL;

	ERR_set_mark();
	for (size_t i = 0; i < N_TYPES && found == NULL; i++)
		if (is_of(key, &types[i]))
			found = &types[i];
	ERR_pop_to_mark();
	return found;
}

void key_type_list(struct tao_buf *out)
{
	for (size_t i = 0; i < N_TYPES; i++)
		tao_buf_fmt(out, "%s%s", i > 0 ? ", " : "", types[i].name);
}

enum tao_err key_type_generate(const struct key_type *t, const struct key_pss *pss,
                               EVP_PKEY **out)
{
	*out = NULL;
	return t->coding->generate(t, pss, out);
}

enum tao_err key_type_write(const struct key_type *t, EVP_PKEY *key, struct tao_buf *out)
{
	return t->coding->write(key, out);
}

enum tao_err key_type_read(const struct key_type *t, const void *p, size_t n, EVP_PKEY **out)
{
	*out = NULL;
	return t->coding->read(t, p, n, out);
}

/* ---- keys from elsewhere ---- */

static enum tao_err will_not_do(const char *why)
{
	return tao_fail(TAO_EFORMAT, "this key cannot be imported: %s", why);
}

/* Numbers that are no key's, or not prime; and point and scalar of each other. */
static int is_sound(EVP_PKEY *key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	int sound;

	ERR_set_mark();
	sound = ctx != NULL && EVP_PKEY_check(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_pop_to_mark();
	return sound;
}

/* Whether what an RSA-PSS key is restricted to is something that the host does (custody_use.c). */
static int pss_fits(EVP_PKEY *key)
{
	static const char *const names[] = { "SHA256", "SHA384", "SHA512" };
	char digest[KEY_PSS_NAME], mgf1[KEY_PSS_NAME];
	struct key_pss pss;
	EVP_MD *md;
	int fits = 0;

	if (!key_type_pss(key, digest, mgf1, &pss))
		return 1;
	ERR_set_mark();
	md = EVP_MD_fetch(NULL, digest, NULL);
	ERR_pop_to_mark();
	for (size_t i = 0; md != NULL && i < sizeof names / sizeof names[0]; i++)
		fits |= EVP_MD_is_a(md, names[i]);
	EVP_MD_free(md);
	return fits;
}

enum tao_err key_pkcs8_import(const void *p, size_t n, const struct key_type **t, EVP_PKEY **out)
{
	struct tao_buf list = TAO_BUF_INIT;
	EVP_PKEY *key = from_pkcs8(p, n);
	enum tao_err e = TAO_OK;

	*out = NULL;
	*t = key != NULL ? key_type_of(key) : NULL;
	if (key == NULL) {
		e = will_not_do("it is not an unencrypted PKCS#8 private key");
	} else if (*t == NULL) {
		key_type_list(&list);
		e = tao_fail(TAO_EFORMAT, "this key cannot be imported: its type is none of %s",
		             tao_buf_cstr(&list));
	} else if ((*t)->coding == &rsa && !rsa_fits(key)) {
		e = will_not_do("its numbers do not belong together, its exponent is huge, or it "
		                "has more than two primes");
	} else if (!pss_fits(key)) {
		e = will_not_do("it is restricted to a digest that no key here signs: only "
		                "SHA-256, SHA-384 and SHA-512 are");
	} else if (!is_sound(key)) {
		e = will_not_do("it is damaged");
	}
	tao_buf_free(&list);
	if (e == TAO_OK)
		*out = key;
	else
		EVP_PKEY_free(key);
	return e;
}
