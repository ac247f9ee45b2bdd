/* tao/shield.h: what is shielded comes back, is not in memory in between, and
 * an altered byte of what protects it shows. */
#include <pthread.h>
#include <sys/wait.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>

#include "tao/shield.c" /* its prekey is touched below */
#include "memscan.h"
#include "tap.h"

#define THREADS 4
#define ROUNDS 50

static uint8_t wanted[LEN]; /* in complement */

static void make_secret(uint8_t secret[LEN])
{
	if (RAND_bytes(secret, LEN) != 1)
		exit(1);
	complement(wanted, secret);
}

static int is_wanted(const struct tao_buf *b)
{
	int same = b->n == LEN;

	for (size_t i = 0; same && i < LEN; i++)
		same = (b->p[i] ^ wanted[i]) == 0xff;
	return same;
}

static int opens(const struct tao_shield *s)
{
	struct tao_buf b = TAO_BUF_INIT;
	int good = tao_shield_open(s, &b) == TAO_OK && is_wanted(&b);

	tao_buf_free(&b);
	return good;
}

static void *open_often(void *arg)
{
	int good = 1;

	for (int i = 0; i < ROUNDS; i++)
		good &= opens(arg);
	return good ? arg : NULL;
}

static void many_threads(struct tao_shield *s)
{
	pthread_t t[THREADS];
	void *result;
	int good = 1;

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, open_often, s) != 0)
			exit(1);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &result);
		good &= result != NULL;
	}
	ok(good, "%d threads open it at the same time", THREADS);
}

static void altered(struct tao_shield *s)
{
	static const size_t at[] = { 0, 1, 4097, TAO_SHIELD_PREKEY - 1 };
	struct tao_buf b = TAO_BUF_INIT;

	for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
		s->prekey[at[i]] ^= 0x10;
		ok_err(tao_shield_open(s, &b), TAO_EALTERED, "bit of byte %zu of the prekey",
		       at[i]);
		s->prekey[at[i]] ^= 0x10;
	}
	for (size_t i = 0; i < s->kept.n; i += s->kept.n - 1) {
		s->kept.p[i] ^= 1;
		ok_err(tao_shield_open(s, &b), TAO_EALTERED, "bit of byte %zu of the ciphertext",
		       i);
		s->kept.p[i] ^= 1;
	}
	ok(b.n == 0, "nothing came out");
	ok(opens(s), "and all is well again");
	tao_buf_free(&b);
}

/* Status of a child that reads that byte. */
static int reads(const volatile uint8_t *p)
{
	pid_t pid;
	int status = 0;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(STDERR_FILENO); /* a sanitizer's report */
		_exit(*p == 0 ? 0 : 0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void guards(const struct tao_shield *s)
{
	ok(reads(s->prekey) && reads(s->prekey + TAO_SHIELD_PREKEY - 1), "the prekey can be read");
	ok(!reads(s->prekey - 1), "the byte before it cannot");
	ok(!reads(s->prekey + inner_size()), "nor the byte behind its pages");
}

static void bytes(void)
{
	uint8_t secret[LEN];
	struct tao_shield *s = NULL, *again = NULL;
	struct tao_buf b = TAO_BUF_INIT;

	make_secret(secret);
	ok_err(tao_shield_new(secret, LEN, &s), TAO_OK, "shielded");
	ok_err(tao_shield_new(secret, LEN, &again), TAO_OK, "and once more");
	OPENSSL_cleanse(secret, LEN);
	ok(opens(s) && opens(again), "both open to the secret");
	ok(s->kept.n == again->kept.n && memcmp(s->kept.p, again->kept.p, s->kept.n) != 0,
	   "kept under keys of their own");
	tao_buf_str(&b, "before ");
	ok(tao_shield_open(s, &b) == TAO_OK && b.n == 7 + LEN, "opening appends");
	tao_buf_free(&b);
	many_threads(s);
	altered(s);
	guards(s);
	tao_shield_free(s);
	tao_shield_free(again);
	tao_shield_free(NULL);
	ok_err(tao_shield_new("", 0, &s), TAO_OK, "nothing, shielded");
	ok(tao_shield_open(s, &b) == TAO_OK && b.n == 0, "is nothing");
	tao_shield_free(s);
	ok_err(tao_shield_new(secret, TAO_SHIELD_MAX + 1, &s), TAO_ELIMIT, "too much");
	ok(s == NULL, "gives none");
}

static void hidden(void)
{
	uint8_t secret[LEN];
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_shield *s = NULL;

#ifdef SANITIZED
	skip("not in memory between uses", "the sanitizer's own memory is too large to scan");
	return;
#endif
	make_secret(secret);
	tao_shield_new(secret, LEN, &s);
	ok(in_memory(wanted) > 0, "the scan finds what was not wiped");
	OPENSSL_cleanse(secret, LEN);
	ok(in_memory(wanted) == 0, "shielded, it is not in memory");
	tao_shield_open(s, &b);
	ok(in_memory(wanted) == 1, "while open, once");
	tao_buf_free(&b);
	ok(in_memory(wanted) == 0, "afterwards not");
	tao_shield_free(s);
}

static int scalar_of(EVP_PKEY *key, uint8_t raw[LEN])
{
	BIGNUM *d = NULL;
	int good = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1 &&
	           BN_bn2lebinpad(d, raw, LEN) == LEN;

	BN_clear_free(d);
	return good;
}

static int signs(const struct tao_signer *s)
{
	struct tao_buf sig = TAO_BUF_INIT;
	EVP_PKEY *key = NULL;
	int good = tao_signer_open(s, &key) == TAO_OK &&
	           tao_key_sign(key, "test", "data", 4, &sig) == TAO_OK &&
	           tao_key_verify(s->public, "test", "data", 4, sig.p, sig.n) == TAO_OK;

	EVP_PKEY_free(key);
	tao_buf_free(&sig);
	return good;
}

static void hidden_key(const struct tao_signer *s)
{
#ifdef SANITIZED
	(void)s;
	skip("no private half in memory", "the sanitizer's own memory is too large to scan");
#else
	EVP_PKEY *key = NULL;

	ok(in_memory(wanted) == 0, "between uses its private half is not in memory");
	tao_signer_open(s, &key);
	ok(in_memory(wanted) > 0, "while it is open, it is");
	EVP_PKEY_free(key);
	ok(in_memory(wanted) == 0, "afterwards not");
	ok(signs(s) && in_memory(wanted) == 0, "nor after it has signed");
#endif
}

/* libcrypto's limbs are little-endian: this order is the one to look for. */
static void signer(const char *type, int scan)
{
	uint8_t raw[LEN];
	struct tao_signer s;
	EVP_PKEY *key = NULL;

	if (tao_key_generate(type, &key) != TAO_OK)
		exit(1);
	if (scan && !scalar_of(key, raw))
		exit(1);
	if (scan)
		complement(wanted, raw);
	OPENSSL_cleanse(raw, sizeof raw);
	ok_err(tao_signer_init(&s, key), TAO_OK, "%s: shielded", type);
	ok(EVP_PKEY_eq(s.public, key) == 1, "with its public half");
	EVP_PKEY_free(key);
	ok(signs(&s), "it signs");
	if (scan)
		hidden_key(&s);
	tao_signer_clear(&s);
	ok(s.public == NULL && s.shield == NULL, "cleared");
	ok_err(tao_signer_open(&s, &key), TAO_EINVAL, "no key, no signature");
}

int main(void)
{
	bytes();
	hidden();
	signer("ecdsap256", 1);
	signer("rsa2048", 0);
	signer("ed25519", 0);
	return done();
}
