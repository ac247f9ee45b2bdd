#include "mix.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define MLKEM "ML-KEM-768"

/* Any of them NULL: not needed yet. */
struct mix_tools {
	EVP_PKEY_CTX *keygen; /* of X25519 */
	EVP_PKEY *point;      /* the last peer's */
};

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

/* ---- tools ---- */

void mix_init(struct mix *m, OSSL_LIB_CTX *ctx)
{
	m->ctx = ctx;
	tao_mac_init(&m->mac, ctx, "SHA256");
	atomic_init(&m->idle, NULL);
}

static void tools_free(struct mix_tools *t)
{
	if (t == NULL)
		return;
	EVP_PKEY_CTX_free(t->keygen);
	EVP_PKEY_free(t->point);
	free(t);
}

void mix_clear(struct mix *m)
{
	tools_free(atomic_exchange(&m->idle, NULL));
	tao_mac_clear(&m->mac);
}

/* NULL: out of memory. */
static struct mix_tools *take_tools(struct mix *m)
{
	struct mix_tools *t = atomic_exchange(&m->idle, NULL);

	return t != NULL ? t : calloc(1, sizeof *t);
}

static void put_tools(struct mix *m, struct mix_tools *t)
{
	tools_free(atomic_exchange(&m->idle, t));
}

/* ---- X25519 ---- */

static EVP_PKEY *generate(struct mix *m, struct mix_tools *t)
{
	EVP_PKEY *own = NULL;

	if (t->keygen == NULL) {
		t->keygen = EVP_PKEY_CTX_new_from_name(m->ctx, "X25519", NULL);
		if (t->keygen == NULL || EVP_PKEY_keygen_init(t->keygen) <= 0)
			return NULL;
	}
	return EVP_PKEY_generate(t->keygen, &own) > 0 ? own : NULL;
}

static int x25519_make(struct mix *m, EVP_PKEY **own, uint8_t *pub)
{
	struct mix_tools *t = take_tools(m);
	size_t n = MIX_X25519;

	*own = t != NULL ? generate(m, t) : NULL;
	if (*own != NULL)
		put_tools(m, t);
	else
		tools_free(t); /* for whatever reason: the next begins anew */
	return *own != NULL && EVP_PKEY_get_raw_public_key(*own, pub, &n) > 0 && n == MIX_X25519;
}

static int set_point(struct mix *m, struct mix_tools *t, const uint8_t *peer)
{
	if (t->point != NULL)
		return EVP_PKEY_set1_encoded_public_key(t->point, peer, MIX_X25519) > 0;
	t->point = EVP_PKEY_new_raw_public_key_ex(m->ctx, "X25519", NULL, peer, MIX_X25519);
	return t->point != NULL;
}

static enum tao_err small_order(void)
{
	return tao_fail(TAO_EFORMAT, "the peer's X25519 point is of small order: the result would "
	                "be zero, whatever our own key is");
}

/* All u of an order that divides 8, and the ways to write them: RFC 7748, section 7. */
static int is_small_order(const uint8_t *point)
{
	static const uint8_t all[][MIX_X25519] = {
		{ 0 },
		{ 1 },
		{ 0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1,
		  0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62,
		  0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00 },
		{ 0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c,
		  0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22,
		  0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57 },
		{ 0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
		{ 0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
		{ 0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
	};
	uint8_t u[MIX_X25519];
	int found = 0;

	memcpy(u, point, sizeof u);
	u[MIX_X25519 - 1] &= 0x7f; /* X25519 does not look at that bit */
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		found |= memcmp(u, all[i], sizeof u) == 0;
	return found;
}

enum tao_err mix_check(int hybrid, int server, const uint8_t *peer)
{
	size_t front = !hybrid ? 0 : server ? MIX_MLKEM_TEXT : MIX_MLKEM_KEY;

	return is_small_order(peer + front) ? small_order() : TAO_OK;
}

/* What there is in an X25519 point to be validated, its result shows. */
static int derive(struct mix *m, EVP_PKEY *own, EVP_PKEY *other, uint8_t *out)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(m->ctx, own, NULL);
	size_t n = MIX_X25519;
	int good = c != NULL && EVP_PKEY_derive_init(c) > 0 &&
	           EVP_PKEY_derive_set_peer_ex(c, other, 0) > 0 &&
	           EVP_PKEY_derive(c, out, &n) > 0 &&
	           n == MIX_X25519;

	EVP_PKEY_CTX_free(c);
	return good;
}

/* libcrypto refuses a zero result as well; here it is refused whatever libcrypto does. */
enum tao_err mix_x25519(struct mix *m, EVP_PKEY *own, const uint8_t *peer, uint8_t *out)
{
	static const uint8_t zero[MIX_X25519];
	struct mix_tools *t = take_tools(m);
	int taken, good;

	if (t == NULL)
		return tao_fail_nomem();
	ERR_set_mark();
	taken = set_point(m, t, peer);
	good = taken && derive(m, own, t->point, out) && CRYPTO_memcmp(out, zero, sizeof zero) != 0;
	ERR_pop_to_mark();
	if (taken)
		put_tools(m, t);
	else
		tools_free(t);
	if (!taken)
		return failed("take an X25519 point");
	return good ? TAO_OK : small_order();
}

/* ---- ML-KEM ---- */

static int mlkem_make(struct mix *m, EVP_PKEY **own, uint8_t *pub)
{
	size_t n = MIX_MLKEM_KEY;

	*own = EVP_PKEY_Q_keygen(m->ctx, NULL, MLKEM);
	return *own != NULL && EVP_PKEY_get_raw_public_key(*own, pub, &n) > 0 && n == MIX_MLKEM_KEY;
}

static enum tao_err mlkem_answer(struct mix *m, const uint8_t *peer, uint8_t *text,
                                 uint8_t *secret)
{
	size_t text_n = MIX_MLKEM_TEXT, secret_n = MIX_MLKEM_SECRET;
	EVP_PKEY_CTX *c = NULL;
	EVP_PKEY *other;
	int good;

	ERR_set_mark();
	other = EVP_PKEY_new_raw_public_key_ex(m->ctx, MLKEM, NULL, peer, MIX_MLKEM_KEY);
	if (other != NULL)
		c = EVP_PKEY_CTX_new_from_pkey(m->ctx, other, NULL);
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

static enum tao_err mlkem_finish(struct mix *m, EVP_PKEY *own, const uint8_t *text,
                                 uint8_t *secret)
{
	size_t n = MIX_MLKEM_SECRET;
	EVP_PKEY_CTX *c;
	int good;

	ERR_set_mark();
	c = EVP_PKEY_CTX_new_from_pkey(m->ctx, own, NULL);
	good = c != NULL && EVP_PKEY_decapsulate_init(c, NULL) > 0 &&
	       EVP_PKEY_decapsulate(c, secret, &n, text, MIX_MLKEM_TEXT) > 0 &&
	       n == MIX_MLKEM_SECRET;
	EVP_PKEY_CTX_free(c);
	ERR_pop_to_mark();
	return good ? TAO_OK : failed("decapsulate with " MLKEM);
}

/* ---- both ---- */

enum tao_err mix_begin(struct mix *m, int hybrid, struct mix_pair *pair, uint8_t *pub)
{
	int good;

	ERR_set_mark();
	pair->mlkem = NULL;
	good = x25519_make(m, &pair->x25519, pub + (hybrid ? MIX_MLKEM_KEY : 0)) &&
	       (!hybrid || mlkem_make(m, &pair->mlkem, pub));
	ERR_pop_to_mark();
	if (good)
		return TAO_OK;
	mix_pair_free(pair);
	return failed(hybrid ? "make keys for X25519 and " MLKEM : "make an X25519 key");
}

enum tao_err mix_answer(struct mix *m, int hybrid, const uint8_t *peer, struct mix_pair *pair,
                        uint8_t *pub, struct mix_ikm *ikm)
{
	enum tao_err e = TAO_OK;
	int made;

	pair->x25519 = pair->mlkem = NULL;
	if (hybrid)
		e = mlkem_answer(m, peer, pub, ikm->p);
	if (e != TAO_OK)
		return e;
	ERR_set_mark();
	made = x25519_make(m, &pair->x25519, pub + (hybrid ? MIX_MLKEM_TEXT : 0));
	ERR_pop_to_mark();
	return made ? TAO_OK : failed("make an X25519 key");
}

enum tao_err mix_answer_end(struct mix *m, int hybrid, const uint8_t *peer,
                            const struct mix_pair *pair, struct mix_ikm *ikm)
{
	size_t front = hybrid ? MIX_MLKEM_SECRET : 0;

	ikm->n = front + MIX_X25519;
	return mix_x25519(m, pair->x25519, peer + (hybrid ? MIX_MLKEM_KEY : 0), ikm->p + front);
}

enum tao_err mix_finish(struct mix *m, const struct mix_pair *pair, const uint8_t *peer,
                        struct mix_ikm *ikm)
{
	size_t front = pair->mlkem != NULL ? MIX_MLKEM_SECRET : 0;
	enum tao_err e = TAO_OK;

	ikm->n = front + MIX_X25519;
	if (pair->mlkem != NULL)
		e = mlkem_finish(m, pair->mlkem, peer, ikm->p);
	if (e == TAO_OK)
		e = mix_x25519(m, pair->x25519, peer + (pair->mlkem != NULL ? MIX_MLKEM_TEXT : 0),
		               ikm->p + front);
	return e;
}

/* HKDF-Extract is HMAC with the salt as its key. */
enum tao_err mix_extract(struct mix *m, const struct mix_ikm *ikm, const uint8_t salt[MIX_SECRET],
                         uint8_t out[MIX_SECRET])
{
	const struct tao_rd part = tao_rd_of(ikm->p, ikm->n);
	uint8_t mac[TAO_MAC_MAX];
	enum tao_err e = tao_mac_make(&m->mac, salt, MIX_SECRET, &part, 1, mac);

	if (e == TAO_OK)
		memcpy(out, mac, MIX_SECRET);
	OPENSSL_cleanse(mac, sizeof mac);
	return e == TAO_OK ? TAO_OK : failed("extract a secret with HMAC-SHA-256");
}
