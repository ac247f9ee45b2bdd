#include "shield.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "gcm.h"
#include "key.h"

struct tao_shield {
	uint8_t *prekey;
	struct tao_buf kept;
};

/* ---- the prekey's pages ---- */

static size_t guard_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE); /* at most 64 KiB, and a power of two */
}

/* Pages may be larger than the prekey. */
static size_t inner_size(void)
{
	size_t page = guard_size();

	return (TAO_SHIELD_PREKEY + page - 1) / page * page;
}

static uint8_t *map_prekey(void)
{
	size_t guard = guard_size(), inner = inner_size();
	uint8_t *all = mmap(NULL, inner + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (all == MAP_FAILED)
		return NULL;
	if (mprotect(all + guard, inner, PROT_READ | PROT_WRITE) != 0) {
		munmap(all, inner + 2 * guard);
		return NULL;
	}
	madvise(all + guard, inner, MADV_DONTDUMP);
	return all + guard;
}

static void unmap_prekey(uint8_t *prekey)
{
	size_t guard = guard_size();

	if (prekey == NULL)
		return;
	OPENSSL_cleanse(prekey, TAO_SHIELD_PREKEY);
	munmap(prekey - guard, inner_size() + 2 * guard);
}

/* ---- secrets ---- */

static enum tao_err digest_of(const struct tao_shield *s, uint8_t digest[SHA512_DIGEST_LENGTH])
{
	if (EVP_Digest(s->prekey, TAO_SHIELD_PREKEY, digest, NULL, EVP_sha512(), NULL) == 1)
		return TAO_OK;
	return tao_fail_crypto("SHA-512 failed");
}

enum tao_err tao_shield_new(const void *p, size_t n, struct tao_shield **out)
{
	uint8_t digest[SHA512_DIGEST_LENGTH];
	struct tao_shield *s = calloc(1, sizeof *s);
	enum tao_err e = TAO_OK;

	*out = NULL;
	if (s == NULL)
		return tao_fail_nomem();
	s->kept = (struct tao_buf)TAO_BUF_INIT;
	s->prekey = map_prekey();
	if (n > TAO_SHIELD_MAX)
		e = tao_fail(TAO_ELIMIT, "%zu bytes are too many to shield: at most %d", n,
		             TAO_SHIELD_MAX);
	else if (s->prekey == NULL)
		e = tao_fail_nomem();
	else if (RAND_priv_bytes(s->prekey, TAO_SHIELD_PREKEY) != 1)
		e = tao_fail_crypto("no random bytes");
	if (e == TAO_OK)
		e = digest_of(s, digest);
	if (e == TAO_OK)
		e = tao_gcm_seal(digest, digest + TAO_GCM_KEY, NULL, 0, p, n, &s->kept);
	OPENSSL_cleanse(digest, sizeof digest);
	if (e == TAO_OK)
		*out = s;
	else
		tao_shield_free(s);
	return e;
}

enum tao_err tao_shield_open(const struct tao_shield *s, struct tao_buf *out)
{
	uint8_t digest[SHA512_DIGEST_LENGTH];
	enum tao_err e = digest_of(s, digest);

	if (e == TAO_OK)
		e = tao_gcm_open(digest, digest + TAO_GCM_KEY, NULL, 0, s->kept.p, s->kept.n, out);
	if (e == TAO_EALTERED)
		e = tao_fail(TAO_EALTERED, "a secret in memory was altered: restart the program, "
		                           "and test the machine's memory");
	OPENSSL_cleanse(digest, sizeof digest);
	return e;
}

void tao_shield_free(struct tao_shield *s)
{
	if (s == NULL)
		return;
	unmap_prekey(s->prekey);
	tao_buf_free(&s->kept);
	free(s);
}

/* ---- signing keys ---- */

static enum tao_err public_half(EVP_PKEY *key, EVP_PKEY **out)
{
	struct tao_buf spki = TAO_BUF_INIT;
	enum tao_err e = tao_key_spki(key, &spki);

	if (e == TAO_OK)
		e = tao_key_from_spki(spki.p, spki.n, out);
	tao_buf_free(&spki);
	return e;
}

enum tao_err tao_signer_init(struct tao_signer *s, EVP_PKEY *key)
{
	struct tao_buf plain = TAO_BUF_INIT;
	enum tao_err e;

	memset(s, 0, sizeof *s);
	e = public_half(key, &s->public);
	if (e == TAO_OK)
		e = tao_cryptokey_encode(key, "", 1, &plain);
	if (e == TAO_OK)
		e = tao_shield_new(plain.p, plain.n, &s->shield);
	tao_buf_free(&plain);
	if (e != TAO_OK)
		tao_signer_clear(s);
	return e;
}

enum tao_err tao_signer_open(const struct tao_signer *s, EVP_PKEY **key)
{
	struct tao_buf plain = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	*key = NULL;
	if (s->shield == NULL)
		return tao_fail(TAO_EINVAL, "no key to sign with");
	e = tao_shield_open(s->shield, &plain);
	if (e == TAO_OK)
		e = tao_cryptokey_decode(plain.p, plain.n, key);
	tao_buf_free(&plain);
	return e;
}

void tao_signer_clear(struct tao_signer *s)
{
	EVP_PKEY_free(s->public);
	tao_shield_free(s->shield);
	memset(s, 0, sizeof *s);
}
