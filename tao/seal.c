#include "seal.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "gcm.h"

#define MAGIC "TaoS"
#define MAGIC_LEN 4
#define FORMAT 1
#define SALT_LEN 32
#define FIXED (TAO_SEAL_HEADER - SALT_LEN) /* header in front of the salt */
#define LABEL "tao seal v1"
#define SECRET_LABEL "tao seal secret v1"
#define EPOCH_LABEL "tao seal epoch v1"
#define EPOCH_AT 38 /* in the header */
#define AAD_MAX (1u << 20)

struct header {
	uint8_t kind;
	const uint8_t *host;
	uint32_t epoch;
	const uint8_t *salt;
};

enum tao_err tao_sealer_init(struct tao_sealer *s, const struct tao_keyset *ks)
{
	uint8_t secret[TAO_DERIVER_LEN];
	enum tao_err e;

	memset(s, 0, sizeof *s);
	if (ks->signer == NULL || !ks->has_deriver)
		return tao_fail(TAO_EINVAL, "the host's keyset has no deriving key: make a new "
		                            "host with 'tao init'");
	e = tao_hkdf(ks->deriver, sizeof ks->deriver, NULL, 0, SECRET_LABEL, strlen(SECRET_LABEL),
	             secret, sizeof secret);
	if (e == TAO_OK)
		e = tao_shield_new(secret, sizeof secret, &s->secret);
	if (e == TAO_OK)
		e = tao_key_hash(ks->signer, s->host);
	OPENSSL_cleanse(secret, sizeof secret);
	s->epoch = s->oldest = 1;
	if (e != TAO_OK)
		tao_sealer_clear(s);
	return e;
}

enum tao_err tao_sealer_set_epochs(struct tao_sealer *s, uint32_t epoch, uint32_t oldest)
{
	if (oldest < 1 || oldest > epoch)
		return tao_fail(TAO_EINVAL, "epoch %lu cannot be the oldest of %lu",
		                (unsigned long)oldest, (unsigned long)epoch);
	s->epoch = epoch;
	s->oldest = oldest;
	return TAO_OK;
}

enum tao_err tao_sealer_check_epoch(const struct tao_sealer *s, uint32_t epoch)
{
	if (epoch > s->epoch)
		return tao_fail(TAO_EVERSION, "sealed with a newer key of this host (epoch %lu, "
		                              "now %lu): restore the host's newest state",
		                (unsigned long)epoch, (unsigned long)s->epoch);
	if (epoch < s->oldest)
		return tao_fail(TAO_EEXPIRED, "sealed in epoch %lu of this host, which its owner "
		                              "retired ('tao host epoch'): seal or make it anew",
		                (unsigned long)epoch);
	return TAO_OK;
}

uint32_t tao_sealed_epoch(const void *blob, size_t n)
{
	struct tao_rd r = tao_rd_of(blob, n);
	const uint8_t *magic = tao_rd_bytes(&r, MAGIC_LEN);
	uint32_t epoch;

	tao_rd_bytes(&r, EPOCH_AT - MAGIC_LEN);
	epoch = tao_rd_u32(&r);
	return !r.bad && memcmp(magic, MAGIC, MAGIC_LEN) == 0 ? epoch : 0;
}

void tao_sealer_clear(struct tao_sealer *s)
{
	tao_shield_free(s->secret);
	memset(s, 0, sizeof *s);
}

/* epoch: its four bytes in a header. */
static enum tao_err epoch_secret(const struct tao_sealer *s, const uint8_t epoch[4],
                                 struct tao_buf *secret)
{
	static const uint8_t first[4] = { 0, 0, 0, 1 };
	uint8_t info[sizeof EPOCH_LABEL - 1 + sizeof first], derived[TAO_DERIVER_LEN];
	enum tao_err e = tao_shield_open(s->secret, secret);

	if (e != TAO_OK || memcmp(epoch, first, sizeof first) == 0)
		return e;
	memcpy(info, EPOCH_LABEL, sizeof EPOCH_LABEL - 1);
	memcpy(info + sizeof EPOCH_LABEL - 1, epoch, sizeof first);
	e = tao_hkdf(secret->p, secret->n, NULL, 0, info, sizeof info, derived, sizeof derived);
	tao_buf_reset(secret);
	tao_buf_put(secret, derived, sizeof derived);
	OPENSSL_cleanse(derived, sizeof derived);
	return e == TAO_OK ? tao_buf_err(secret) : e;
}

/* For one blob: key, then nonce. */
static enum tao_err blob_key(const struct tao_sealer *s, const uint8_t header[TAO_SEAL_HEADER],
                             uint8_t key[TAO_GCM_KEY + TAO_GCM_NONCE])
{
	uint8_t info[sizeof LABEL - 1 + FIXED];
	struct tao_buf secret = TAO_BUF_INIT;
	enum tao_err e = epoch_secret(s, header + EPOCH_AT, &secret);

	memcpy(info, LABEL, sizeof LABEL - 1);
	memcpy(info + sizeof LABEL - 1, header, FIXED);
	if (e == TAO_OK)
		e = tao_hkdf(secret.p, secret.n, header + FIXED, SALT_LEN, info, sizeof info, key,
		             TAO_GCM_KEY + TAO_GCM_NONCE);
	tao_buf_free(&secret);
	return e;
}

static enum tao_err make_header(const struct tao_sealer *s, uint32_t epoch,
                                enum tao_seal_kind kind, struct tao_buf *b)
{
	uint8_t *salt;

	tao_buf_put(b, MAGIC, MAGIC_LEN);
	tao_buf_u8(b, FORMAT);
	tao_buf_u8(b, (uint8_t)kind);
	tao_buf_put(b, s->host, sizeof s->host);
	tao_buf_u32(b, epoch);
	salt = tao_buf_room(b, SALT_LEN);
	if (salt != NULL && RAND_bytes(salt, SALT_LEN) != 1)
		return tao_fail_crypto("no random bytes");
	return tao_buf_err(b);
}

static enum tao_err encrypt(const struct tao_sealer *s, const void *aad, size_t aad_n,
                            const void *p, size_t n, struct tao_buf *b)
{
	uint8_t key[TAO_GCM_KEY + TAO_GCM_NONCE], header[TAO_SEAL_HEADER];
	struct tao_rd part[] = { tao_rd_of(aad, aad_n), tao_rd_of(header, sizeof header) };
	enum tao_err e;

	memcpy(header, b->p, sizeof header); /* b grows below */
	e = blob_key(s, header, key);
	if (e == TAO_OK)
		e = tao_gcm_seal(key, key + TAO_GCM_KEY, part, 2, p, n, b);
	OPENSSL_cleanse(key, sizeof key);
	return e;
}

enum tao_err tao_seal_in(const struct tao_sealer *s, uint32_t epoch, enum tao_seal_kind kind,
                         const void *aad, size_t aad_n, const void *p, size_t n,
                         struct tao_buf *blob)
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e;

	if (n > TAO_SEAL_MAX || aad_n > AAD_MAX)
		return tao_fail(TAO_ELIMIT, "%zu bytes are too many to seal: at most %u", n,
		                TAO_SEAL_MAX);
	e = make_header(s, epoch, kind, &b);
	if (e == TAO_OK)
		e = encrypt(s, aad, aad_n, p, n, &b);
	if (e == TAO_OK) {
		tao_buf_put(blob, b.p, b.n);
		e = tao_buf_err(blob);
	}
	tao_buf_free(&b);
	return e;
}

enum tao_err tao_seal(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                      size_t aad_n, const void *p, size_t n, struct tao_buf *blob)
{
	return tao_seal_in(s, s->epoch, kind, aad, aad_n, p, n, blob);
}

static const char *kind_name(unsigned kind)
{
	static const char *const names[] = { "nothing known", "a key", "data",
	                                     "a table of counters",
	                                     "a running program",
	                                     "data with a counter (--rollback)",
	                                     "the keys of channels" };

	return names[kind < sizeof names / sizeof names[0] ? kind : 0];
}

static enum tao_err wrong_kind(unsigned is, unsigned wanted)
{
	return tao_fail(TAO_EFORMAT, "a sealed blob is of kind %u, %s, and not %u, %s: it was "
	                             "given to the wrong operation, or altered", is, kind_name(is),
	                             wanted,
	                kind_name(wanted));
}

/* Advice only: what the header says is proved by the tag, not here. */
static enum tao_err check_header(const struct tao_sealer *s, enum tao_seal_kind kind,
                                 const void *blob, size_t n)
{
	struct tao_rd r = tao_rd_of(blob, n);
	const uint8_t *magic = tao_rd_bytes(&r, MAGIC_LEN);
	uint8_t format = tao_rd_u8(&r);
	struct header h = { 0 };

	if (r.bad || memcmp(magic, MAGIC, MAGIC_LEN) != 0 || format == 0)
		return tao_fail(TAO_EFORMAT, "not a sealed blob, or damaged: write the stub again "
		                             "with 'tao key pem'");
	if (format > FORMAT)
		return tao_fail(TAO_EVERSION, "a sealed blob has format %d: a newer Tao sealed it, "
		                              "upgrade this one", format);
	h.kind = tao_rd_u8(&r);
	h.host = tao_rd_bytes(&r, TAO_HASH_LEN);
	h.epoch = tao_rd_u32(&r);
	h.salt = tao_rd_bytes(&r, SALT_LEN);
	if (r.bad || r.n < TAO_SEAL_TAG || r.n > TAO_SEAL_MAX + TAO_SEAL_TAG)
		return tao_fail(TAO_EFORMAT, "a sealed blob is cut short or too long: write the "
		                             "stub again with 'tao key pem'");
	if (h.kind != kind)
		return wrong_kind(h.kind, kind);
	if (memcmp(h.host, s->host, TAO_HASH_LEN) != 0)
		return tao_fail(TAO_EOTHERHOST, "sealed by another Tao host: use it there, or make "
		                                "a new key here with 'tao key new'");
	if (h.epoch == 0)
		return tao_fail(TAO_EALTERED, "a sealed blob is of no epoch: it was altered");
	return TAO_OK;
}

static enum tao_err decrypt(const struct tao_sealer *s, const void *aad, size_t aad_n,
                            const uint8_t *blob, size_t blob_n, struct tao_buf *out)
{
	struct tao_rd part[] = { tao_rd_of(aad, aad_n), tao_rd_of(blob, TAO_SEAL_HEADER) };
	uint8_t key[TAO_GCM_KEY + TAO_GCM_NONCE];
	enum tao_err e = blob_key(s, blob, key);

	if (e == TAO_OK)
		e = tao_gcm_open(key, key + TAO_GCM_KEY, part, 2, blob + TAO_SEAL_HEADER,
		                 blob_n - TAO_SEAL_HEADER, out);
	if (e == TAO_EALTERED)
		e = tao_fail(TAO_EALTERED, "a sealed blob, or what surrounds it, was altered: "
		                           "write the stub again with 'tao key pem', or restore a "
		                           "copy");
	OPENSSL_cleanse(key, sizeof key);
	return e;
}

enum tao_err tao_unseal(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                        size_t aad_n, const void *blob, size_t blob_n, struct tao_buf *out)
{
	enum tao_err e = check_header(s, kind, blob, blob_n);

	if (e == TAO_OK)
		e = tao_sealer_check_epoch(s, tao_sealed_epoch(blob, blob_n));
	return e == TAO_OK ? tao_unseal_any(s, kind, aad, aad_n, blob, blob_n, out) : e;
}

enum tao_err tao_unseal_any(const struct tao_sealer *s, enum tao_seal_kind kind, const void *aad,
                            size_t aad_n, const void *blob, size_t blob_n, struct tao_buf *out)
{
	enum tao_err e = check_header(s, kind, blob, blob_n);

	if (e == TAO_OK && aad_n > AAD_MAX)
		e = tao_fail(TAO_ELIMIT, "more than %u bytes of associated data", AAD_MAX);
	return e == TAO_OK ? decrypt(s, aad, aad_n, blob, blob_n, out) : e;
}
