/* tao/seal.h: what is sealed opens, and what was altered does not. */
#include "tao/seal.h"

#include <openssl/evp.h>

#include "tap.h"

#define AAD "associated", 10

static struct tao_sealer host, other;

static enum tao_err open_with(const struct tao_sealer *s, const struct tao_buf *blob,
                              struct tao_buf *out)
{
	tao_buf_reset(out);
	return tao_unseal(s, TAO_SEAL_DATA, AAD, blob->p, blob->n, out);
}

static void round_trip(void)
{
	static uint8_t big[100000];
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT, out = TAO_BUF_INIT;

	ok_err(tao_seal(&host, TAO_SEAL_DATA, AAD, "secret", 6, &a), TAO_OK, "sealed");
	ok(a.n == TAO_SEAL_HEADER + 6 + TAO_SEAL_TAG, "the size is as documented");
	ok(memcmp(a.p, "TaoS\x01\x02", 6) == 0 && memcmp(a.p + 6, host.host, 32) == 0 &&
	           memcmp(a.p + 38, "\0\0\0\1", 4) == 0,
	   "so is the header");
	tao_buf_str(&out, "kept ");
	ok_err(tao_unseal(&host, TAO_SEAL_DATA, AAD, a.p, a.n, &out), TAO_OK, "opened");
	ok_str(tao_buf_cstr(&out), "kept secret", "appended");
	tao_seal(&host, TAO_SEAL_DATA, AAD, "secret", 6, &b);
	ok(memcmp(a.p + 42, b.p + 42, 32) != 0 && memcmp(a.p + 74, b.p + 74, 6) != 0,
	   "the same twice: another salt, another ciphertext");
	tao_buf_reset(&a);
	ok(tao_seal(&host, TAO_SEAL_DATA, NULL, 0, NULL, 0, &a) == TAO_OK &&
	           tao_unseal(&host, TAO_SEAL_DATA, NULL, 0, a.p, a.n, &out) == TAO_OK,
	   "nothing, with nothing associated");
	tao_buf_reset(&a);
	tao_buf_reset(&out);
	big[99999] = 1;
	ok(tao_seal(&host, TAO_SEAL_KEY, AAD, big, sizeof big, &a) == TAO_OK &&
	           tao_unseal(&host, TAO_SEAL_KEY, AAD, a.p, a.n, &out) == TAO_OK &&
	           out.n == sizeof big && memcmp(out.p, big, sizeof big) == 0,
	   "100 000 bytes");
	ok_err(tao_seal(&host, TAO_SEAL_DATA, AAD, big, TAO_SEAL_MAX + 1, &a), TAO_ELIMIT,
	       "more than the limit");
	tao_buf_free(&a);
	tao_buf_free(&b);
	tao_buf_free(&out);
}

/* The documented construction, made here without seal.c. */
static void documented(uint32_t epoch)
{
	static const char label[] = "tao seal epoch v1\0\0\0\7";
	static const uint8_t salt[32] = "a salt of thirty-two characters";
	struct tao_buf blob = TAO_BUF_INIT, info = TAO_BUF_INIT, out = TAO_BUF_INIT;
	struct tao_buf secret = TAO_BUF_INIT;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t key[44], derived[32];
	int len;

	tao_shield_open(host.secret, &secret);
	if (epoch == 7) {
		tao_hkdf(secret.p, secret.n, NULL, 0, label, sizeof label - 1, derived,
		         sizeof derived);
		tao_buf_reset(&secret);
		tao_buf_put(&secret, derived, sizeof derived);
	}
	tao_sealer_set_epochs(&host, 7, 1);

	tao_buf_put(&blob, "TaoS\x01\x01", 6);
	tao_buf_put(&blob, host.host, 32);
	tao_buf_u32(&blob, epoch);
	tao_buf_str(&info, "tao seal v1");
	tao_buf_put(&info, blob.p, 42);
	tao_buf_put(&blob, salt, 32);
	tao_hkdf(secret.p, secret.n, salt, 32, info.p, info.n, key, sizeof key);
	tao_buf_free(&secret);
	EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, key + 32);
	EVP_EncryptUpdate(ctx, NULL, &len, (const uint8_t *)"aad", 3);
	EVP_EncryptUpdate(ctx, NULL, &len, blob.p, 74);
	tao_buf_room(&blob, 5 + 16);
	EVP_EncryptUpdate(ctx, blob.p + 74, &len, (const uint8_t *)"hello", 5);
	EVP_EncryptFinal_ex(ctx, blob.p + 79, &len);
	EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, blob.p + 79);
	ok_err(tao_unseal(&host, TAO_SEAL_KEY, "aad", 3, blob.p, blob.n, &out), TAO_OK,
	       "a blob made as the header documents it opens, epoch %u", (unsigned)epoch);
	ok_str(tao_buf_cstr(&out), "hello", "its contents");
	tao_sealer_set_epochs(&host, 1, 1);
	EVP_CIPHER_CTX_free(ctx);
	tao_buf_free(&blob);
	tao_buf_free(&info);
	tao_buf_free(&out);
}

/* What each region's change is reported as. */
static int fits(size_t i, enum tao_err e)
{
	if (i < 4)
		return e == TAO_EFORMAT;
	if (i == 4)
		return e == TAO_EVERSION || e == TAO_EFORMAT;
	if (i == 5)
		return e == TAO_EFORMAT;
	if (i < 38)
		return e == TAO_EOTHERHOST;
	if (i < 42)
		return e == TAO_EVERSION || e == TAO_EALTERED;
	return e == TAO_EALTERED;
}

static void altered(void)
{
	struct tao_buf blob = TAO_BUF_INIT, out = TAO_BUF_INIT;
	size_t opened = 0, misfits = 0, leaked = 0;

	tao_seal(&host, TAO_SEAL_DATA, AAD, "secret", 6, &blob);
	for (size_t i = 0; i < blob.n * 8; i++) {
		enum tao_err e;

		blob.p[i / 8] ^= (uint8_t)(1 << i % 8);
		e = open_with(&host, &blob, &out);
		opened += e == TAO_OK;
		misfits += !fits(i / 8, e);
		leaked += out.n;
		blob.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	ok(opened == 0, "no changed bit opens");
	ok(misfits == 0, "each is reported as documented");
	ok(leaked == 0, "and nothing comes out");
	misfits = 0;
	for (size_t n = 0; n < blob.n; n++)
		misfits += tao_unseal(&host, TAO_SEAL_DATA, AAD, blob.p, n, &out) !=
		           (n < TAO_SEAL_HEADER + TAO_SEAL_TAG ? TAO_EFORMAT : TAO_EALTERED);
	ok(misfits == 0, "no prefix opens");
	ok_err(tao_unseal(&host, TAO_SEAL_DATA, "another", 7, blob.p, blob.n, &out), TAO_EALTERED,
	       "other associated data");
	ok_err(tao_unseal(&host, TAO_SEAL_KEY, AAD, blob.p, blob.n, &out), TAO_EFORMAT,
	       "data is not a key");
	ok_err(open_with(&other, &blob, &out), TAO_EOTHERHOST, "another host");
	memcpy(other.host, host.host, sizeof host.host);
	ok_err(open_with(&other, &blob, &out), TAO_EALTERED,
	       "another secret, whatever the header says");
	host.epoch = 2;
	tao_buf_reset(&blob);
	tao_seal(&host, TAO_SEAL_DATA, AAD, "secret", 6, &blob);
	host.epoch = 1;
	ok_err(open_with(&host, &blob, &out), TAO_EVERSION, "a newer epoch");
	tao_sealer_set_epochs(&host, 3, 2);
	ok_err(open_with(&host, &blob, &out), TAO_OK, "the oldest that is not retired");
	tao_sealer_set_epochs(&host, 3, 3);
	ok_err(open_with(&host, &blob, &out), TAO_EEXPIRED, "a retired one");
	tao_sealer_set_epochs(&host, 1, 1);
	tao_buf_free(&blob);
	tao_buf_free(&out);
}

static int same(const struct tao_sealer *a, const struct tao_sealer *b)
{
	struct tao_buf x = TAO_BUF_INIT, y = TAO_BUF_INIT;
	int yes = tao_shield_open(a->secret, &x) == TAO_OK &&
	          tao_shield_open(b->secret, &y) == TAO_OK &&
	          x.n == y.n && memcmp(x.p, y.p, x.n) == 0 && a->epoch == b->epoch &&
	          memcmp(a->host, b->host, sizeof a->host) == 0;

	tao_buf_free(&x);
	tao_buf_free(&y);
	return yes;
}

int main(void)
{
	struct tao_keyset a, b;
	uint8_t hash[TAO_HASH_LEN];
	struct tao_sealer again;
	struct tao_buf secret = TAO_BUF_INIT;

	if (tao_keyset_generate(&a) != TAO_OK || tao_keyset_generate(&b) != TAO_OK)
		return 1;
	ok_err(tao_sealer_init(&host, &a), TAO_OK, "a sealer from a keyset");
	ok_err(tao_sealer_init(&other, &b), TAO_OK, "and another");
	ok_err(tao_sealer_init(&again, &a), TAO_OK, "and the first again");
	ok(same(&again, &host), "which is the same");
	tao_sealer_clear(&again);
	ok(tao_key_hash(a.signer, hash) == TAO_OK && memcmp(hash, host.host, sizeof hash) == 0,
	   "the host is the signer's hash");
	ok(tao_shield_open(host.secret, &secret) == TAO_OK && secret.n == sizeof a.deriver &&
	           memcmp(secret.p, a.deriver, secret.n) != 0,
	   "the secret is derived");
	tao_buf_free(&secret);
	a.has_deriver = 0;
	ok_err(tao_sealer_init(&again, &a), TAO_EINVAL, "no deriving key, no sealer");
	a.has_deriver = 1;
	round_trip();
	documented(1);
	documented(7);
	ok_err(tao_sealer_set_epochs(&host, 2, 3), TAO_EINVAL,
	       "no epoch is retired before it begins");
	ok_err(tao_sealer_set_epochs(&host, 2, 0), TAO_EINVAL, "nor before the first");
	altered();
	tao_sealer_clear(&host);
	ok(host.epoch == 0 && host.secret == NULL, "cleared");
	tao_keyset_clear(&a);
	tao_keyset_clear(&b);
	return done();
}
