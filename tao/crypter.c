#include "crypter.h"

#include <limits.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "keytype.h"
#include "mac.h"
#include "pb.h"

#define HEADER_MAX 4096  /* bytes of EncryptedData beside the ciphertext */
#define HKDF_BLOCKS 255  /* RFC 5869, 2.3 */
#define CRYPTER_PARTS 2  /* AES key, MAC key */
#define CRYPTING "crypting"
#define DERIVING "deriving"

static const struct tao_crypter_type crypters[] = {
	{ "aes128-ctr-hmacsha256", "aes128-ctr", "sha256", "SHA256", 16, 32, 32 },
	{ "aes256-ctr-hmacsha384", "aes256-ctr", "sha384", "SHA384", 32, 48, 32 },
	{ "aes256-ctr-hmacsha512", "aes256-ctr", "sha512", "SHA512", 32, 64, 64 },
};

static const struct tao_deriver_type derivers[] = {
	{ "hdkf-sha256", "SHA256", 32 },
	{ "hdkf-sha384", "SHA384", 48 },
	{ "hdkf-sha512", "SHA512", 64 },
};

#define N_CRYPTERS (sizeof crypters / sizeof crypters[0])
#define N_DERIVERS (sizeof derivers / sizeof derivers[0])

const struct tao_crypter_type *tao_crypter_type(const char *name)
{
	for (size_t i = 0; i < N_CRYPTERS; i++) {
		if (strcmp(crypters[i].name, name) == 0)
			return &crypters[i];
	}
	return NULL;
}

const struct tao_crypter_type *tao_crypter_suite(const char *cipher, const char *hmac)
{
	for (size_t i = 0; i < N_CRYPTERS; i++) {
		if (strcmp(crypters[i].cipher, cipher) == 0 && strcmp(crypters[i].hmac, hmac) == 0)
			return &crypters[i];
	}
	return NULL;
}

const struct tao_deriver_type *tao_deriver_type(const char *name)
{
	for (size_t i = 0; i < N_DERIVERS; i++) {
		if (strcmp(derivers[i].name, name) == 0)
			return &derivers[i];
	}
	return NULL;
}

/* Primitives */

static int aes_ctr(const uint8_t *aes, size_t aes_n, const uint8_t *iv, const void *p, size_t n,
                   uint8_t *to)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	const EVP_CIPHER *cipher = aes_n == 16 ? EVP_aes_128_ctr() : EVP_aes_256_ctr();
	int len, good;

	good = ctx != NULL && n <= INT_MAX &&
	       EVP_EncryptInit_ex2(ctx, cipher, aes, iv, NULL) == 1 &&
	       EVP_EncryptUpdate(ctx, to, &len, p, (int)n) == 1 && (size_t)len == n;
	EVP_CIPHER_CTX_free(ctx);
	return good;
}

enum tao_err tao_aes_ctr(const uint8_t *aes, size_t aes_n, const uint8_t iv[TAO_IV_LEN],
                         const void *p, size_t n, struct tao_buf *out)
{
	uint8_t *to;

	if (aes_n != 16 && aes_n != 32)
		return tao_fail(TAO_EINVAL, "an AES key has 16 or 32 bytes, not %zu", aes_n);
	if (n == 0)
		return tao_buf_err(out);
	to = tao_buf_room(out, n);
	if (to == NULL)
		return tao_buf_err(out);
	if (aes_ctr(aes, aes_n, iv, p, n, to))
		return TAO_OK;
	OPENSSL_cleanse(to, n);
	out->n -= n;
	return tao_fail_crypto("AES failed");
}

enum tao_err tao_hmac(const char *md, const void *key, size_t key_n, const struct tao_rd *part,
                      size_t n_parts, uint8_t mac[TAO_MAC_MAX])
{
	struct tao_mac m;
	enum tao_err e;

	tao_mac_init(&m, NULL, md);
	e = tao_mac_make(&m, key, key_n, part, n_parts, mac);
	tao_mac_clear(&m);
	return e;
}

static int hkdf(const OSSL_PARAM *params, void *out, size_t out_n)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	int good = ctx != NULL && EVP_KDF_derive(ctx, out, out_n, params) == 1;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return good;
}

enum tao_err tao_hkdf_with(const char *md, const void *secret, size_t secret_n, const void *salt,
                           size_t salt_n, const void *info, size_t info_n, void *out,
                           size_t out_n)
{
	OSSL_PARAM params[5], *p = params;
	const EVP_MD *digest = EVP_get_digestbyname(md);
	size_t max = digest != NULL ? HKDF_BLOCKS * (size_t)EVP_MD_get_size(digest) : 0;

	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)md, 0);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, secret_n);
	if (salt_n > 0)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_n);
	if (info_n > 0)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_n);
	*p = OSSL_PARAM_construct_end();
	if (secret_n == 0 || out_n == 0 || out_n > max)
		return tao_fail(TAO_EINVAL, "HKDF: a secret, and 1 to %zu bytes of output", max);
	return hkdf(params, out, out_n) ? TAO_OK : tao_fail_crypto("HKDF failed");
}

/* Keys */

enum tao_err tao_crypter_generate(const char *type, struct tao_crypter *out)
{
	memset(out, 0, sizeof *out);
	out->type = tao_crypter_type(type);
	if (out->type == NULL)
		return tao_fail(TAO_EINVAL, "no key type '%.40s' that encrypts: use %s, %s or %s",
		                type, crypters[0].name, crypters[1].name, crypters[2].name);
	if (RAND_priv_bytes(out->aes, (int)out->type->aes_n) == 1 &&
	    RAND_priv_bytes(out->mac, (int)out->type->mac_n) == 1)
		return TAO_OK;
	tao_crypter_clear(out);
	return tao_fail_crypto("no random bytes");
}

void tao_crypter_clear(struct tao_crypter *c)
{
	OPENSSL_cleanse(c, sizeof *c);
}

enum tao_err tao_deriver_generate(const char *type, struct tao_deriver *out)
{
	memset(out, 0, sizeof *out);
	out->type = tao_deriver_type(type);
	if (out->type == NULL)
		return tao_fail(TAO_EINVAL, "no key type '%.40s' that derives: use %s, %s or %s",
		                type, derivers[0].name, derivers[1].name, derivers[2].name);
	if (RAND_priv_bytes(out->secret, (int)out->type->secret_n) == 1)
		return TAO_OK;
	tao_deriver_clear(out);
	return tao_fail_crypto("no random bytes");
}

void tao_deriver_clear(struct tao_deriver *d)
{
	OPENSSL_cleanse(d, sizeof *d);
}

static enum tao_err none(void)
{
	return tao_fail(TAO_EINVAL, "no key is in the place of a key: generate or read one first");
}

static enum tao_err pack(const char *type, const char *purpose, const char *name, int32_t epoch,
                         ProtobufCBinaryData *part, size_t n, struct tao_buf *out)
{
	Tao__CryptoHeader h = TAO__CRYPTO_HEADER__INIT;

	tao_cryptoheader_fill(&h, name, type, purpose);
	h.key_epoch = epoch;
	return tao_cryptokey_pack(&h, part, n, out);
}

enum tao_err tao_crypter_pack(const struct tao_crypter *c, const char *name, int32_t epoch,
                              struct tao_buf *out)
{
	ProtobufCBinaryData part[CRYPTER_PARTS];

	if (c->type == NULL)
		return none();
	part[0] = (ProtobufCBinaryData){ c->type->aes_n, (uint8_t *)c->aes };
	part[1] = (ProtobufCBinaryData){ c->type->mac_n, (uint8_t *)c->mac };
	return pack(c->type->name, CRYPTING, name, epoch, part, CRYPTER_PARTS, out);
}

enum tao_err tao_crypter_encode(const struct tao_crypter *c, const char *name, struct tao_buf *out)
{
	return tao_crypter_pack(c, name, 1, out);
}

enum tao_err tao_deriver_pack(const struct tao_deriver *d, const char *name, int32_t epoch,
                              struct tao_buf *out)
{
	ProtobufCBinaryData part = { 0, (uint8_t *)d->secret };

	if (d->type == NULL)
		return none();
	part.len = d->type->secret_n;
	return pack(d->type->name, DERIVING, name, epoch, &part, 1, out);
}

enum tao_err tao_deriver_encode(const struct tao_deriver *d, const char *name, struct tao_buf *out)
{
	return tao_deriver_pack(d, name, 1, out);
}

static enum tao_err unsuited(const Tao__CryptoHeader *h, const char *verb)
{
	return tao_fail(TAO_EFORMAT, "a stored key has the type '%.40s' and the purpose '%.40s', "
	                             "which does not %s here: use another key", h->key_type,
	                h->key_purpose, verb);
}

enum tao_err tao_crypter_from(const Tao__CryptoKey *k, struct tao_crypter *out)
{
	const Tao__CryptoHeader *h = k->key_header;
	const struct tao_crypter_type *t = tao_crypter_type(h->key_type);
	const ProtobufCBinaryData *part = k->key_components;

	memset(out, 0, sizeof *out);
	if (t == NULL || strcmp(h->key_purpose, CRYPTING) != 0)
		return unsuited(h, "encrypt");
	if (k->n_key_components != CRYPTER_PARTS || part[0].len != t->aes_n ||
	    part[1].len != t->mac_n)
		return tao_cryptokey_malformed(h->key_type);
	out->type = t;
	memcpy(out->aes, part[0].data, t->aes_n);
	memcpy(out->mac, part[1].data, t->mac_n);
	return TAO_OK;
}

enum tao_err tao_deriver_from(const Tao__CryptoKey *k, struct tao_deriver *out)
{
	const Tao__CryptoHeader *h = k->key_header;
	const struct tao_deriver_type *t = tao_deriver_type(h->key_type);

	memset(out, 0, sizeof *out);
	if (t == NULL || strcmp(h->key_purpose, DERIVING) != 0)
		return unsuited(h, "derive");
	if (k->n_key_components != 1 || k->key_components[0].len != t->secret_n)
		return tao_cryptokey_malformed(h->key_type);
	out->type = t;
	memcpy(out->secret, k->key_components[0].data, t->secret_n);
	return TAO_OK;
}

enum tao_err tao_crypter_decode(const void *p, size_t n, struct tao_crypter *out)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb;
	enum tao_err e = tao_cryptokey_unpack(&pa, p, n, &pb);

	memset(out, 0, sizeof *out);
	if (e == TAO_OK)
		e = tao_crypter_from((Tao__CryptoKey *)pb, out);
	tao_pb_free(&pa, pb);
	return e;
}

enum tao_err tao_deriver_decode(const void *p, size_t n, struct tao_deriver *out)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb;
	enum tao_err e = tao_cryptokey_unpack(&pa, p, n, &pb);

	memset(out, 0, sizeof *out);
	if (e == TAO_OK)
		e = tao_deriver_from((Tao__CryptoKey *)pb, out);
	tao_pb_free(&pa, pb);
	return e;
}

enum tao_err tao_deriver_derive(const struct tao_deriver *d, const void *salt, size_t salt_n,
                                const void *context, size_t context_n, void *out, size_t n)
{
	if (d->type == NULL)
		return none();
	return tao_hkdf_with(d->type->md, d->secret, d->type->secret_n, salt, salt_n, context,
	                     context_n, out, n);
}

/* Encrypting. Below, mac_n is that of the MAC key: tao_key_protect()'s may be
 * shorter than the MAC. */

static enum tao_err mac_of(const struct tao_crypter *c, size_t mac_n, const uint8_t *iv,
                           const void *text, size_t n, uint8_t mac[TAO_MAC_MAX])
{
	struct tao_rd part[] = { tao_rd_of(iv, TAO_IV_LEN), tao_rd_of(text, n) };

	return tao_hmac(c->type->md, c->mac, mac_n, part, 2, mac);
}

static enum tao_err encrypt(const struct tao_crypter *c, size_t mac_n, const void *p, size_t n,
                            uint8_t iv[TAO_IV_LEN], uint8_t mac[TAO_MAC_MAX],
                            struct tao_buf *text)
{
	enum tao_err e;

	if (n > TAO_CRYPT_MAX)
		return tao_fail(TAO_ELIMIT, "%zu bytes are too many to encrypt at once: at most %u",
		                n, TAO_CRYPT_MAX);
	if (RAND_bytes(iv, TAO_IV_LEN) != 1)
		return tao_fail_crypto("no random bytes");
	e = tao_aes_ctr(c->aes, c->type->aes_n, iv, p, n, text);
	if (e == TAO_OK)
		e = mac_of(c, mac_n, iv, text->p, text->n, mac);
	return e;
}

/* mac is as long as the type says: the callers look. */
static enum tao_err decrypt(const struct tao_crypter *c, size_t mac_n, const uint8_t *iv,
                            const uint8_t *mac, const void *text, size_t n, struct tao_buf *out)
{
	uint8_t want[TAO_MAC_MAX];
	enum tao_err e;

	if (n > TAO_CRYPT_MAX)
		return tao_fail(TAO_ELIMIT, "%zu bytes are too many to decrypt at once: at most %u",
		                n, TAO_CRYPT_MAX);
	e = mac_of(c, mac_n, iv, text, n, want);
	if (e == TAO_OK && CRYPTO_memcmp(want, mac, c->type->mac_n) != 0)
		e = tao_fail(TAO_EALTERED, "encrypted data was altered, or another key encrypted "
		                           "it (the two look alike): use the right key, or restore "
		                           "a copy");
	if (e == TAO_OK)
		e = tao_aes_ctr(c->aes, c->type->aes_n, iv, text, n, out);
	OPENSSL_cleanse(want, sizeof want);
	return e;
}

enum tao_err tao_crypter_encrypt(const struct tao_crypter *c, const char *name, const void *p,
                                 size_t n, struct tao_buf *out)
{
	Tao__CryptoHeader h = TAO__CRYPTO_HEADER__INIT;
	Tao__EncryptedData d = TAO__ENCRYPTED_DATA__INIT;
	struct tao_buf text = TAO_BUF_INIT;
	uint8_t iv[TAO_IV_LEN], mac[TAO_MAC_MAX];
	enum tao_err e;

	if (c->type == NULL)
		return none();
	if (strlen(name) > HEADER_MAX / 2)
		return tao_fail(TAO_EINVAL, "a key's name is longer than %d bytes", HEADER_MAX / 2);
	e = encrypt(c, c->type->mac_n, p, n, iv, mac, &text);
	if (e == TAO_OK) {
		tao_cryptoheader_fill(&h, name, c->type->name, CRYPTING);
		d.header = &h;
		d.has_iv = d.has_ciphertext = d.has_mac = 1;
		d.iv = (ProtobufCBinaryData){ sizeof iv, iv };
		d.ciphertext = (ProtobufCBinaryData){ text.n, text.p };
		d.mac = (ProtobufCBinaryData){ c->type->mac_n, mac };
		tao_pb_pack(&d.base, out);
		e = tao_buf_err(out);
	}
	tao_buf_free(&text);
	return e;
}

static enum tao_err check_encrypted(const struct tao_crypter *c, const Tao__EncryptedData *d)
{
	enum tao_err e;

	if (d->header == NULL || !d->has_iv || !d->has_ciphertext || !d->has_mac)
		return tao_fail(TAO_EFORMAT, "encrypted data lacks its header, IV, MAC or "
		                             "contents: restore it from a copy");
	e = tao_cryptoheader_check(d->header);
	if (e != TAO_OK)
		return e;
	if (strcmp(d->header->key_type, c->type->name) != 0 ||
	    strcmp(d->header->key_purpose, CRYPTING) != 0)
		return tao_fail(TAO_EFORMAT, "encrypted data is for a key of type '%.40s' and "
		                             "purpose '%.40s', this one is of type '%s': use the "
		                             "right key",
		                d->header->key_type, d->header->key_purpose, c->type->name);
	if (d->iv.len != TAO_IV_LEN || d->mac.len != c->type->mac_n)
		return tao_fail(TAO_EFORMAT, "encrypted data has an IV of %zu bytes and a MAC of "
		                             "%zu, not %d and %zu: restore it from a copy",
		                d->iv.len, d->mac.len, TAO_IV_LEN, c->type->mac_n);
	return TAO_OK;
}

enum tao_err tao_crypter_decrypt(const struct tao_crypter *c, const void *p, size_t n,
                                 struct tao_buf *out)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb = NULL;
	const Tao__EncryptedData *d;
	enum tao_err e;

	if (c->type == NULL)
		return none();
	if (n > TAO_CRYPT_MAX + HEADER_MAX)
		return tao_fail(TAO_ELIMIT, "%zu bytes are too many to decrypt at once: at most %u",
		                n, TAO_CRYPT_MAX + HEADER_MAX);
	tao_pb_alloc_init(&pa, n + 4 * HEADER_MAX);
	e = tao_pb_unpack_strict(&pa, &tao__encrypted_data__descriptor, p, n, "encrypted data",
	                         &pb);
	if (e != TAO_OK)
		return e == TAO_ELIMIT ? tao_fail(TAO_EFORMAT, "%s", tao_why()) : e;
	d = (const Tao__EncryptedData *)pb;
	e = check_encrypted(c, d);
	if (e == TAO_OK)
		e = decrypt(c, c->type->mac_n, d->iv.data, d->mac.data, d->ciphertext.data,
		            d->ciphertext.len, out);
	tao_pb_free(&pa, pb);
	return e;
}

/* Protect and Unprotect */

static enum tao_err split_key(const uint8_t *key, size_t n, struct tao_crypter *c)
{
	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < N_CRYPTERS; i++) {
		if (n == crypters[i].aes_n + crypters[i].protect_mac_n)
			c->type = &crypters[i];
	}
	if (c->type == NULL)
		return tao_fail(TAO_EINVAL, "a protecting key has 48, 64 or 96 bytes, not %zu", n);
	memcpy(c->aes, key, c->type->aes_n);
	memcpy(c->mac, key + c->type->aes_n, c->type->protect_mac_n);
	return TAO_OK;
}

enum tao_err tao_key_protect(const void *key, size_t key_n, const void *p, size_t n,
                             struct tao_buf *out)
{
	struct tao_crypter c;
	struct tao_buf text = TAO_BUF_INIT, all = TAO_BUF_INIT;
	uint8_t iv[TAO_IV_LEN], mac[TAO_MAC_MAX];
	enum tao_err e = split_key(key, key_n, &c);

	if (e == TAO_OK)
		e = encrypt(&c, c.type->protect_mac_n, p, n, iv, mac, &text);
	if (e == TAO_OK) {
		tao_buf_put(&all, mac, c.type->mac_n);
		tao_buf_put(&all, iv, sizeof iv);
		tao_buf_put(&all, text.p, text.n);
		e = tao_buf_err(&all);
	}
	if (e == TAO_OK) {
		tao_buf_put(out, all.p, all.n);
		e = tao_buf_err(out);
	}
	tao_crypter_clear(&c);
	tao_buf_free(&text);
	tao_buf_free(&all);
	return e;
}

enum tao_err tao_key_unprotect(const void *key, size_t key_n, const void *p, size_t n,
                               struct tao_buf *out)
{
	struct tao_crypter c;
	struct tao_rd r = tao_rd_of(p, n);
	const uint8_t *mac, *iv;
	enum tao_err e = split_key(key, key_n, &c);

	if (e != TAO_OK)
		return e;
	mac = tao_rd_bytes(&r, c.type->mac_n);
	iv = tao_rd_bytes(&r, TAO_IV_LEN);
	if (r.bad)
		e = tao_fail(TAO_EFORMAT, "protected data is cut short (%zu bytes): restore it "
		             "from a copy", n);
	else
		e = decrypt(&c, c.type->protect_mac_n, iv, mac, r.p, r.n, out);
	tao_crypter_clear(&c);
	return e;
}
