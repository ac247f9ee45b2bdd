#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "peers.h"

#define PART 4       /* one pair, or one instance, has at most this part of all; users share it */
#define OWN_RANDOM 8 /* bytes of an identity's nonce that are random; the rest tells whose it is */
#define BLOCK 16

/*
 * An identity's nonce: 8 random bytes, then the first 7 of HMAC(mac, those | instance). A client
 * share's: one AES block of instance (8) | loop_now() (4) | a number (4). Both keys are made anew
 * with each taod, so that nothing from before is its own.
 */
struct nonces {
	uint8_t mac[TLSKEYS_LEN], aes[BLOCK];
	struct tao_mac hmac; /* looked up once, as is ecb */
	EVP_CIPHER *ecb;
	atomic_uint number;
	pthread_mutex_t lock;
	struct spent_room room;
	int64_t floor;
};

_Static_assert(TLSKEYS_SHARE_NONCE == BLOCK, "a nonce is one block");

enum tao_err nonces_new(const struct host_conf *c, struct nonces **out)
{
	struct nonces *n = calloc(1, sizeof *n);

	*out = n;
	if (n == NULL)
		return tao_fail_nomem();
	pthread_mutex_init(&n->lock, NULL);
	tao_mac_init(&n->hmac, NULL, "SHA256");
	n->ecb = EVP_CIPHER_fetch(NULL, "AES-128-ECB", NULL);
	n->room.share.max = c->max_channel_nonces;
	/* What an earlier taod has answered in this very second must not be answered again. */
	n->floor = time(NULL) + 1;
	if (n->ecb == NULL)
		return tao_fail_crypto("looking AES up");
	if (RAND_priv_bytes(n->mac, sizeof n->mac) == 1 &&
	    RAND_priv_bytes(n->aes, sizeof n->aes) == 1 &&
	    RAND_priv_bytes((uint8_t *)&n->room.mix, sizeof n->room.mix) == 1) {
		n->room.mix |= 1;
		return TAO_OK;
	}
	return tao_fail_crypto("drawing the keys of nonces");
}

void nonces_free(struct nonces *n)
{
	if (n == NULL)
		return;
	pthread_mutex_destroy(&n->lock);
	tao_mac_clear(&n->hmac);
	EVP_CIPHER_free(n->ecb);
	OPENSSL_cleanse(n, sizeof *n);
	free(n);
}

int64_t nonces_floor(struct nonces *n)
{
	int64_t floor;

	pthread_mutex_lock(&n->lock);
	floor = n->floor;
	pthread_mutex_unlock(&n->lock);
	return floor;
}

static void put_u64(uint8_t out[8], uint64_t v)
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t *p)
{
	struct tao_rd r = tao_rd_of(p, 8);

	return tao_rd_u64(&r);
}

/* ---- identities ---- */

static enum tao_err mark(struct nonces *n, const struct instance *i, const uint8_t *random,
                         uint8_t out[TAO_MAC_MAX])
{
	uint8_t id[8];
	const struct tao_rd part[] = { tao_rd_of(random, OWN_RANDOM), tao_rd_of(id, sizeof id) };

	put_u64(id, i->id);
	return tao_mac_make(&n->hmac, n->mac, sizeof n->mac, part, 2, out);
}

enum tao_err nonces_identity(struct nonces *n, const struct instance *i,
                             uint8_t out[TLSKEYS_IDENTITY_NONCE])
{
	uint8_t whose[TAO_MAC_MAX];
	enum tao_err e;

	if (RAND_bytes(out, OWN_RANDOM) != 1)
		return tao_fail_crypto("drawing a nonce");
	e = mark(n, i, out, whose);
	if (e == TAO_OK)
		memcpy(out + OWN_RANDOM, whose, TLSKEYS_IDENTITY_NONCE - OWN_RANDOM);
	return e;
}

int nonces_identity_is_own(struct nonces *n, const struct instance *i,
                           const uint8_t nonce[TLSKEYS_IDENTITY_NONCE])
{
	uint8_t whose[TAO_MAC_MAX];

	/* If it cannot be told, it is taken for its own, and refused. */
	return mark(n, i, nonce, whose) != TAO_OK ||
	       CRYPTO_memcmp(whose, nonce + OWN_RANDOM, TLSKEYS_IDENTITY_NONCE - OWN_RANDOM) == 0;
}

static enum tao_err used_twice(enum tao_err e)
{
	return e == TAO_EEXIST ? tao_fail(TAO_EDENIED, "this nonce was used before") : e;
}

enum tao_err nonces_spend_identity(struct nonces *n, struct spent *s, int64_t time,
                                   const uint8_t nonce[TLSKEYS_IDENTITY_NONCE])
{
	enum tao_err e;

	pthread_mutex_lock(&n->lock);
	e = time < n->floor ? tao_fail(TAO_EEXPIRED, "the identity is older than what the host "
	                               "remembers")
	                    : spent_add(s, &n->room, n->room.share.max / PART, time,
	                                get_u64(nonce));
	pthread_mutex_unlock(&n->lock);
	return used_twice(e);
}

void nonces_sweep_identities(struct nonces *n, struct spent *s, int64_t now)
{
	pthread_mutex_lock(&n->lock);
	spent_sweep(s, &n->room, now - PEERS_TIME, &n->floor);
	pthread_mutex_unlock(&n->lock);
}

void nonces_clear(struct nonces *n, struct spent *s)
{
	pthread_mutex_lock(&n->lock);
	spent_clear(s, &n->room);
	pthread_mutex_unlock(&n->lock);
}

/* ---- client shares ---- */

static enum tao_err aes(const struct nonces *n, int encrypt, const uint8_t *in, size_t len,
                        uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int got, good;

	good = ctx != NULL &&
	       EVP_CipherInit_ex2(ctx, n->ecb, n->aes, NULL, encrypt, NULL) == 1 &&
	       EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
	       EVP_CipherUpdate(ctx, out, &got, in, (int)len) == 1 && got == (int)len;
	EVP_CIPHER_CTX_free(ctx);
	return good ? TAO_OK : tao_fail_crypto("making nonces");
}

enum tao_err nonces_shares(struct nonces *n, const struct instance *i, size_t count, uint8_t *out)
{
	uint64_t now = (uint64_t)loop_now() << 32;

	for (size_t k = 0; k < count; k++) {
		put_u64(out + k * BLOCK, i->id);
		put_u64(out + k * BLOCK + 8, now | atomic_fetch_add(&n->number, 1));
	}
	return aes(n, 1, out, count * BLOCK, out);
}

int nonces_share_is_own(struct nonces *n, const struct instance *i,
                        const uint8_t nonce[TLSKEYS_SHARE_NONCE], uint64_t *drawn)
{
	uint8_t plain[BLOCK];
	int own = aes(n, 0, nonce, BLOCK, plain) == TAO_OK && get_u64(plain) == i->id;

	*drawn = own ? get_u64(plain + 8) : 0;
	return own;
}

enum tao_err nonces_spend_share(struct nonces *n, struct instance *i, uint64_t drawn)
{
	int64_t now = loop_now(), time = (int64_t)(drawn >> 32), floor = 0;
	enum tao_err e;

	if (time > now || now - time >= PEERS_NONCE_SECONDS)
		return tao_fail(TAO_EEXPIRED, "this key share was drawn more than %d seconds ago",
		                PEERS_NONCE_SECONDS);
	pthread_mutex_lock(&n->lock);
	i->shares.uid = i->uid;
	spent_sweep(&i->shares, &n->room, now - PEERS_NONCE_SECONDS, &floor);
	e = spent_add(&i->shares, &n->room, n->room.share.max / PART, time, drawn);
	pthread_mutex_unlock(&n->lock);
	return used_twice(e);
}
