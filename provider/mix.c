#include "mix.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define MLKEM "ML-KEM-768"

static enum tao_err failed(const char *what)
{
	return tao_fail(TAO_ECRYPTO, "libcrypto could not %s", what);
}

void mix_pair_share(const struct mix_pair *pair)
{
	if (pair->x25519 != NULL)
		EVP_PKEY_up_ref(pair->x25519);
	if (pair->mlkem != NULL)
		EVP_PKEY_up_ref(pair->mlkem);
}

void mix_pair_free(struct mix_pair *pair)
{
	EVP_PKEY_free(pair->x25519);
	EVP_PKEY_free(pair->mlkem);
	pair->x25519 = pair->mlkem = NULL;
}

/* ---- X25519 ---- */

static int x25519_make(OSSL_LIB_CTX *ctx, EVP_PKEY **own, uint8_t *pub)
{
	size_t n = MIX_X25519;

	*own = EVP_PKEY_Q_keygen(ctx, NULL, "X25519");
	return *own != NULL && EVP_PKEY_get_raw_public_key(*own, pub, &n) > 0 && n == MIX_X25519;
}

static int derive(OSSL_LIB_CTX *ctx, EVP_PKEY *own, EVP_PKEY *other, uint8_t *out)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(ctx, own, NULL);
	size_t n = MIX_X25519;
	int good = c != NULL && EVP_PKEY_derive_init(c) > 0 && EVP_PKEY_derive_set_peer(c, other) > 0 &&
	           EVP_PKEY_derive(c, out, &n) > 0 && n == MIX_X25519;

	EVP_PKEY_CTX_free(c);
	return good;
}

/* libcrypto refuses a zero result as well; here it is refused whatever libcrypto does. */
enum tao_err mix_x25519(OSSL_LIB_CTX *ctx, EVP_PKEY *own, const uint8_t *peer, uint8_t *out)
{
	static const uint8_t zero[MIX_X25519];
	EVP_PKEY *other;
	int good;

	ERR_set_mark();
	other = EVP_PKEY_new_raw_public_key_ex(ctx, "X25519", NULL, peer, MIX_X25519);
	good = other != NULL && derive(ctx, own, other, out) &&
	       CRYPTO_memcmp(out, zero, sizeof zero) != 0;
	ERR_pop_to_mark();
	if (other == NULL)
		return failed("take an X25519 point");
	EVP_PKEY_free(other);
	return good ? TAO_OK : tao_fail(TAO_EFORMAT, "the peer's X25519 point is of small order: the "
	                                "result would be zero, whatever our own key is");
}

/* ---- ML-KEM ---- */

static int mlkem_make(OSSL_LIB_CTX *ctx, EVP_PKEY **own, uint8_t *pub)
{
	size_t n = MIX_MLKEM_KEY;

	*own = EVP_PKEY_Q_keygen(ctx, NULL, MLKEM);
	return *own != NULL && EVP_PKEY_get_raw_public_key(*own, pub, &n) > 0 && n == MIX_MLKEM_KEY;
}

static enum tao_err mlkem_answer(OSSL_LIB_CTX *ctx, const uint8_t *peer, uint8_t *text,
                                 uint8_t *secret)
{
	size_t text_n = MIX_MLKEM_TEXT, secret_n = MIX_MLKEM_SECRET;
	EVP_PKEY_CTX *c = NULL;
	EVP_PKEY *other;
	int good;

	ERR_set_mark();
	other = EVP_PKEY_new_raw_public_key_ex(ctx, MLKEM, NULL, peer, MIX_MLKEM_KEY);
	if (other != NULL)
		c = EVP_PKEY_CTX_new_from_pkey(ctx, other, NULL);
	good = c != NULL && EVP_PKEY_encapsulate_init(c, NULL) > 0 &&
	       EVP_PKEY_encapsulate(c, text, &text_n, secret, &secret_n) > 0 &&
	       text_n == MIX_MLKEM_TEXT && secret_n == MIX_MLKEM_SECRET;
	EVP_PKEY_CTX_free(c);
	ERR_pop_to_mark();
	if (other == NULL)
		return tao_fail(TAO_EFORMAT, "the peer's " MLKEM " key is none");
	EVP_PKEY_free(other);
	return good ? TAO_OK : failed("encapsulate with " MLKEM);
}

static enum tao_err mlkem_finish(OSSL_LIB_CTX *ctx, EVP_PKEY *own, const uint8_t *text,
                                 uint8_t *secret)
{
	size_t n = MIX_MLKEM_SECRET;
	EVP_PKEY_CTX *c;
	int good;

	ERR_set_mark();
	c = EVP_PKEY_CTX_new_from_pkey(ctx, own, NULL);
	good = c != NULL && EVP_PKEY_decapsulate_init(c, NULL) > 0 &&
	       EVP_PKEY_decapsulate(c, secret, &n, text, MIX_MLKEM_TEXT) > 0 && n == MIX_MLKEM_SECRET;
	EVP_PKEY_CTX_free(c);
	ERR_pop_to_mark();
	return good ? TAO_OK : failed("decapsulate with " MLKEM);
}

/* ---- both ---- */

enum tao_err mix_begin(OSSL_LIB_CTX *ctx, int hybrid, struct mix_pair *pair, uint8_t *pub)
{
	int good;

	ERR_set_mark();
	pair->mlkem = NULL;
	good = x25519_make(ctx, &pair->x25519, pub + (hybrid ? MIX_MLKEM_KEY : 0)) &&
	       (!hybrid || mlkem_make(ctx, &pair->mlkem, pub));
	ERR_pop_to_mark();
	if (good)
		return TAO_OK;
	mix_pair_free(pair);
	return failed(hybrid ? "make keys for X25519 and " MLKEM : "make an X25519 key");
}

enum tao_err mix_answer(OSSL_LIB_CTX *ctx, int hybrid, const uint8_t *peer, uint8_t *pub,
                        struct mix_ikm *ikm)
{
	size_t front = hybrid ? MIX_MLKEM_SECRET : 0;
	EVP_PKEY *own = NULL;
	enum tao_err e = TAO_OK;
	int made;

	ikm->n = front + MIX_X25519;
	if (hybrid)
		e = mlkem_answer(ctx, peer, pub, ikm->p);
	if (e != TAO_OK)
		return e;
	ERR_set_mark();
	made = x25519_make(ctx, &own, pub + (hybrid ? MIX_MLKEM_TEXT : 0));
	ERR_pop_to_mark();
	e = made ? mix_x25519(ctx, own, peer + (hybrid ? MIX_MLKEM_KEY : 0), ikm->p + front)
	         : failed("make an X25519 key");
	EVP_PKEY_free(own);
	return e;
}

enum tao_err mix_finish(OSSL_LIB_CTX *ctx, const struct mix_pair *pair, const uint8_t *peer,
                        struct mix_ikm *ikm)
{
	size_t front = pair->mlkem != NULL ? MIX_MLKEM_SECRET : 0;
	enum tao_err e = TAO_OK;

	ikm->n = front + MIX_X25519;
	if (pair->mlkem != NULL)
		e = mlkem_finish(ctx, pair->mlkem, peer, ikm->p);
	if (e == TAO_OK)
		e = mix_x25519(ctx, pair->x25519, peer + (pair->mlkem != NULL ? MIX_MLKEM_TEXT : 0),
		               ikm->p + front);
	return e;
}

/* HKDF-Extract is HMAC with the salt as its key. */
enum tao_err mix_extract(OSSL_LIB_CTX *ctx, const struct mix_ikm *ikm,
                         const uint8_t salt[MIX_SECRET], uint8_t out[MIX_SECRET])
{
	size_t n = 0;
	int good;

	ERR_set_mark();
	good = EVP_Q_mac(ctx, "HMAC", NULL, "SHA256", NULL, salt, MIX_SECRET, ikm->p, ikm->n, out,
	                 MIX_SECRET, &n) != NULL && n == MIX_SECRET;
	ERR_pop_to_mark();
	return good ? TAO_OK : failed("extract a secret with HMAC-SHA-256");
}
