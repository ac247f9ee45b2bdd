/* Keys of every type in one process, each in a thread of its own, all at work at the same time:
 * what one makes is what that type makes, and nobody gets another's. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <openssl/crypto.h>

#include "tao/attest.h"
#include "tao/key.h"
#include "tap.h"

#define ROUNDS 5

static const char text[] = "what all of them sign, encrypt or derive from";

/* Its own key, stored and read again each round; 0 if all was as it should be. */
struct worker {
	const char *type;
	pthread_t thread;
	int started;
	struct tao_anykey key;
	struct tao_buf made;      /* the last signature or box */
	uint8_t derived[32];
	const char *wrong;        /* what went wrong first */
};

static atomic_int waiting; /* threads that have not come to the start */

static void must(struct worker *w, int holds, const char *what)
{
	if (!holds && w->wrong == NULL)
		w->wrong = what;
}

static void sign(struct worker *w, EVP_PKEY *key)
{
	tao_buf_reset(&w->made);
	must(w, tao_key_sign(key, w->type, text, sizeof text, &w->made) == TAO_OK, "signs");
	must(w, tao_key_verify(key, w->type, text, sizeof text, w->made.p, w->made.n) == TAO_OK,
	     "verifies");
	must(w, tao_key_verify(key, "other", text, sizeof text, w->made.p, w->made.n) == TAO_ESIGNATURE,
	     "not in another context");
}

static void encrypt(struct worker *w, const struct tao_crypter *c)
{
	struct tao_buf back = TAO_BUF_INIT;

	tao_buf_reset(&w->made);
	must(w, tao_crypter_encrypt(c, w->type, text, sizeof text, &w->made) == TAO_OK, "encrypts");
	must(w, tao_crypter_decrypt(c, w->made.p, w->made.n, &back) == TAO_OK, "decrypts");
	must(w, back.n == sizeof text && memcmp(back.p, text, sizeof text) == 0, "to the same");
	tao_buf_free(&back);
}

static void derive(struct worker *w, const struct tao_deriver *d)
{
	uint8_t again[sizeof w->derived];

	must(w, tao_deriver_derive(d, NULL, 0, text, sizeof text, again, sizeof again) == TAO_OK,
	     "derives");
	must(w, w->made.n == 0 || memcmp(w->derived, again, sizeof again) == 0,
	     "the same each time");
	memcpy(w->derived, again, sizeof again);
	tao_buf_reset(&w->made);
	tao_buf_put(&w->made, again, sizeof again);
}

static void use(struct worker *w, const struct tao_anykey *k)
{
	const char *type = tao_anykey_type(k);

	must(w, type != NULL && strcmp(type, w->type) == 0, "is of its type");
	if (k->purpose == TAO_SIGNING)
		sign(w, k->pkey);
	else if (k->purpose == TAO_CRYPTING)
		encrypt(w, &k->crypter);
	else
		derive(w, &k->deriver);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	atomic_fetch_sub(&waiting, 1);
	while (atomic_load(&waiting) > 0)
		sched_yield();
	must(w, tao_anykey_generate(w->type, w->type, &w->key) == TAO_OK, "is generated");
	for (int i = 0; i < ROUNDS && w->wrong == NULL; i++) {
		struct tao_buf stored = TAO_BUF_INIT;
		struct tao_anykey back = { 0 };

		must(w, tao_anykey_encode(&w->key, &stored) == TAO_OK, "is stored");
		must(w, tao_anykey_decode(stored.p, stored.n, &back) == TAO_OK, "and read");
		if (w->wrong == NULL)
			use(w, &back);
		tao_anykey_clear(&back);
		tao_buf_free(&stored);
	}
	return NULL;
}

static void run_all(struct worker *w, size_t n)
{
	size_t started = 0;

	waiting = (int)n;
	for (size_t i = 0; i < n; i++) {
		w[i].started = pthread_create(&w[i].thread, NULL, work, &w[i]) == 0;
		if (w[i].started)
			started++;
		else
			atomic_fetch_sub(&waiting, 1);
	}
	for (size_t i = 0; i < n; i++)
		if (w[i].started)
			pthread_join(w[i].thread, NULL);
	ok(started == n, "all at the same time, in one process");
}

/* Nobody takes what another type, or another key, has made. */
static int takes_others(const struct worker *w, const struct worker *by)
{
	struct tao_buf out = TAO_BUF_INIT;
	int taken = 0;

	if (w->key.purpose == TAO_SIGNING)
		taken = tao_key_verify(w->key.pkey, by->type, text, sizeof text, by->made.p,
		                       by->made.n) == TAO_OK;
	else if (w->key.purpose == TAO_CRYPTING)
		taken = tao_crypter_decrypt(&w->key.crypter, by->made.p, by->made.n, &out) == TAO_OK;
	else if (by->key.purpose == TAO_DERIVING)
		taken = memcmp(w->derived, by->derived, sizeof w->derived) == 0;
	tao_buf_free(&out);
	return taken;
}

int main(void)
{
	/* Twice, so that two keys of one type are there as well. */
	static const char *const types[] = {
		"ecdsap256", "ecdsap384", "ecdsap521", "rsa2048", "rsa3072", "ed25519",
		"aes128-ctr-hmacsha256", "aes256-ctr-hmacsha384", "aes256-ctr-hmacsha512",
		"hdkf-sha256", "hdkf-sha512", "ecdsap256", "ed25519", "aes128-ctr-hmacsha256",
		"hdkf-sha256",
	};
	enum { N = sizeof types / sizeof types[0] };
	struct worker w[N] = { 0 };
	size_t taken = 0;

	for (size_t i = 0; i < N; i++)
		w[i] = (struct worker){ .type = types[i], .made = TAO_BUF_INIT };
	run_all(w, N);
	for (size_t i = 0; i < N; i++)
		if (!ok(w[i].wrong == NULL, "%s", w[i].type))
			printf("# not so: %s\n", w[i].wrong);
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < N; j++)
			taken += i != j && takes_others(&w[i], &w[j]);
	ok(taken == 0, "none takes what another made (%zu of %d)", taken, N * (N - 1));
	for (size_t i = 0; i < N; i++) {
		tao_anykey_clear(&w[i].key);
		OPENSSL_cleanse(w[i].derived, sizeof w[i].derived);
		tao_buf_free(&w[i].made);
	}
	return done();
}
