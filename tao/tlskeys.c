#include "tlskeys.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define LABEL_PAIR "tao pair v1"
#define LABEL_GROUP "tao group v1"
#define LABEL_ID "tao id v1"
#define LABEL_TAG "tao psk tag v1"
#define LABEL_PSK "tao psk v1"
#define LABEL_SALT "tao x25519 v1"

#define TAGGED (TLSKEYS_IDENTITY - TLSKEYS_TAG) /* bytes of an identity before its tag */
#define MAX_PARTS 6

static const struct hash {
	const char *md;
	size_t n;
} hashes[] = {
	{ NULL, 0 },
	[TLSKEYS_SHA256] = { "SHA256", 32 },
	[TLSKEYS_SHA384] = { "SHA384", 48 },
};

static const struct group {
	unsigned group;
	size_t client, server; /* bytes of their own parts: ML-KEM's, then X25519's */
} groups[] = {
	{ TLSKEYS_X25519, 32, 32 },
	{ TLSKEYS_X25519MLKEM768, 1184 + 32, 1088 + 32 },
};

#define LABEL(s) tao_rd_of(s, sizeof s - 1)

static void put_u32(uint8_t out[4], uint32_t v)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(v >> (24 - 8 * i));
}

enum tao_err tlskeys_new(struct tlskeys **out)
{
	struct tlskeys *t = calloc(1, sizeof *t);

	*out = t;
	if (t == NULL)
		return tao_fail_nomem();
	for (unsigned h = TLSKEYS_SHA256; h <= TLSKEYS_SHA384; h++)
		tao_mac_init(&t->mac[h], NULL, hashes[h].md);
	t->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	return t->sha256 != NULL ? TAO_OK : tao_fail_crypto("looking SHA-256 up");
}

void tlskeys_free(struct tlskeys *t)
{
	if (t == NULL)
		return;
	for (unsigned h = TLSKEYS_SHA256; h <= TLSKEYS_SHA384; h++)
		tao_mac_clear(&t->mac[h]);
	EVP_MD_free(t->sha256);
	free(t);
}

/* The first n bytes of an HMAC with that hash. */
static enum tao_err mac(struct tlskeys *t, unsigned hash, const uint8_t *key,
                        const struct tao_rd *part, size_t n_parts, uint8_t *out, size_t n)
{
	uint8_t full[TAO_MAC_MAX];
	enum tao_err e = t != NULL
	               ? tao_mac_make(&t->mac[hash], key, TLSKEYS_LEN, part, n_parts, full)
	               : tao_hmac(hashes[hash].md, key, TLSKEYS_LEN, part, n_parts, full);

	if (e == TAO_OK)
		memcpy(out, full, n);
	OPENSSL_cleanse(full, sizeof full);
	return e;
}

/* HKDF-Expand of one hash's length: HMAC(key, info | 0x01). */
static enum tao_err expand(struct tlskeys *t, unsigned hash, const uint8_t *key,
                           const struct tao_rd *info, size_t n_info, uint8_t *out)
{
	static const uint8_t one = 1;
	struct tao_rd part[MAX_PARTS + 1];

	memcpy(part, info, n_info * sizeof *info);
	part[n_info] = tao_rd_of(&one, 1);
	return mac(t, hash, key, part, n_info + 1, out, hashes[hash].n);
}

enum tao_err tlskeys_pair(const uint8_t root[TLSKEYS_LEN], uint32_t epoch,
                          const uint8_t ancestor[TAO_HASH_LEN], const uint8_t c[TAO_HASH_LEN],
                          const uint8_t s[TAO_HASH_LEN], uint8_t key[TLSKEYS_LEN])
{
	uint8_t number[4];
	const struct tao_rd info[] = {
		LABEL(LABEL_PAIR), tao_rd_of(number, sizeof number), tao_rd_of(ancestor,
		                                                               TAO_HASH_LEN),
		tao_rd_of(c, TAO_HASH_LEN), tao_rd_of(s, TAO_HASH_LEN),
	};

	put_u32(number, epoch);
	return expand(NULL, TLSKEYS_SHA256, root, info, 5, key);
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, TAO_HASH_LEN);
}

enum tao_err tlskeys_group(const uint8_t root[TLSKEYS_LEN], uint32_t epoch,
                           const uint8_t ancestor[TAO_HASH_LEN], uint8_t (*member)[TAO_HASH_LEN],
                           size_t n, uint8_t key[TLSKEYS_LEN])
{
	uint8_t number[4], all[TAO_HASH_LEN];
	const struct tao_rd info[] = {
		LABEL(LABEL_GROUP), tao_rd_of(number, sizeof number), tao_rd_of(ancestor,
		                                                                TAO_HASH_LEN),
		tao_rd_of(all, sizeof all),
	};
	enum tao_err e;

	if (n < 2 || n > TLSKEYS_MEMBERS)
		return tao_fail(TAO_EINVAL, "a group has 2 to %d members", TLSKEYS_MEMBERS);
	qsort(member, n, sizeof *member, compare);
	for (size_t i = 1; i < n; i++)
		if (memcmp(member[i - 1], member[i], sizeof *member) == 0)
			return tao_fail(TAO_EINVAL, "a group's members are different programs: "
			                "name each once");
	put_u32(number, epoch);
	e = tao_sha256(member, n * sizeof *member, all);
	return e == TAO_OK ? expand(NULL, TLSKEYS_SHA256, root, info, 4, key) : e;
}

enum tao_err tlskeys_id(const uint8_t naming[TLSKEYS_LEN], const void *name, size_t n,
                        uint8_t id[TLSKEYS_ID])
{
	const struct tao_rd part[] = { LABEL(LABEL_ID), tao_rd_of(name, n) };

	return mac(NULL, TLSKEYS_SHA256, naming, part, 2, id, TLSKEYS_ID);
}

/* ---- identities ---- */

static enum tao_err unknown_format(unsigned format, const char *what)
{
	return format > TLSKEYS_FORMAT
	       ? tao_fail(TAO_EVERSION, "%s has format %u, which a newer version wrote", what,
	                  format)
	       : tao_fail(TAO_EFORMAT, "%s has no known format", what);
}

enum tao_err tlskeys_identity_parse(const void *p, size_t n, struct tlskeys_identity *out)
{
	struct tao_rd r = tao_rd_of(p, n);
	unsigned format;

	if (n != TLSKEYS_IDENTITY)
		return tao_fail(TAO_EFORMAT, "an identity has %d bytes, not %zu", TLSKEYS_IDENTITY,
		                n);
	format = tao_rd_u8(&r);
	out->epoch = tao_rd_u32(&r);
	out->time = tao_rd_u32(&r);
	out->hash = tao_rd_u8(&r);
	out->version = (unsigned)tao_rd_u8(&r) << 8;
	out->version |= tao_rd_u8(&r);
	out->c = tao_rd_bytes(&r, TLSKEYS_ID);
	out->s = tao_rd_bytes(&r, TLSKEYS_ID);
	out->nonce = tao_rd_bytes(&r, TLSKEYS_IDENTITY_NONCE);
	out->tag = tao_rd_bytes(&r, TLSKEYS_TAG);
	if (!tao_rd_done(&r))
		return tao_fail(TAO_EFORMAT, "the identity is malformed");
	if (format != TLSKEYS_FORMAT)
		return unknown_format(format, "the identity");
	if (out->hash != TLSKEYS_SHA256 && out->hash != TLSKEYS_SHA384)
		return tao_fail(TAO_EFORMAT, "the identity has no known hash");
	return TAO_OK;
}

static enum tao_err tag_of(struct tlskeys *t, const uint8_t *key, const uint8_t *identity,
                           uint8_t tag[TLSKEYS_TAG])
{
	const struct tao_rd part[] = { LABEL(LABEL_TAG), tao_rd_of(identity, TAGGED) };

	return mac(t, TLSKEYS_SHA256, key, part, 2, tag, TLSKEYS_TAG);
}

enum tao_err tlskeys_identity_write(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                                    const struct tlskeys_identity *i,
                                    uint8_t out[TLSKEYS_IDENTITY])
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e;

	tao_buf_u8(&b, TLSKEYS_FORMAT);
	tao_buf_u32(&b, i->epoch);
	tao_buf_u32(&b, i->time);
	tao_buf_u8(&b, (uint8_t)i->hash);
	tao_buf_u8(&b, (uint8_t)(i->version >> 8));
	tao_buf_u8(&b, (uint8_t)i->version);
	tao_buf_put(&b, i->c, TLSKEYS_ID);
	tao_buf_put(&b, i->s, TLSKEYS_ID);
	tao_buf_put(&b, i->nonce, TLSKEYS_IDENTITY_NONCE);
	e = tao_buf_err(&b);
	if (e == TAO_OK)
		memcpy(out, b.p, TAGGED);
	if (e == TAO_OK)
		e = tag_of(t, key, out, out + TAGGED);
	tao_buf_free(&b);
	return e;
}

enum tao_err tlskeys_identity_check(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                                    const uint8_t identity[TLSKEYS_IDENTITY])
{
	uint8_t want[TLSKEYS_TAG];
	enum tao_err e = tag_of(t, key, identity, want);

	if (e == TAO_OK && CRYPTO_memcmp(want, identity + TAGGED, TLSKEYS_TAG) != 0)
		e = tao_fail(TAO_EALTERED, "the identity was altered, or no host made it");
	return e;
}

enum tao_err tlskeys_psk(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                         const uint8_t identity[TLSKEYS_IDENTITY], uint8_t psk[TLSKEYS_PSK_MAX],
                         size_t *n)
{
	const struct tao_rd info[] = { LABEL(LABEL_PSK), tao_rd_of(identity, TLSKEYS_IDENTITY) };
	struct tlskeys_identity i;
	enum tao_err e = tlskeys_identity_parse(identity, TLSKEYS_IDENTITY, &i);

	if (e != TAO_OK)
		return e;
	*n = hashes[i.hash].n;
	return expand(t, i.hash, key, info, 2, psk);
}

/* ---- key shares ---- */

size_t tlskeys_public_len(unsigned group, int server)
{
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (groups[i].group == group)
			return server ? groups[i].server : groups[i].client;
	return 0;
}

enum tao_err tlskeys_share_parse(unsigned group, int server, const void *p, size_t n,
                                 struct tlskeys_share *out)
{
	struct tao_rd r = tao_rd_of(p, n);
	unsigned format;

	out->public_n = tlskeys_public_len(group, server);
	if (out->public_n == 0)
		return tao_fail(TAO_EINVAL, "0x%04x is no group of Tao channels", group);
	if (n != out->public_n + TLSKEYS_SHARE_TAIL)
		return tao_fail(TAO_EFORMAT, "a %s's share of group 0x%04x has %zu bytes, not %zu",
		                server ? "server" : "client", group,
		                out->public_n + TLSKEYS_SHARE_TAIL, n);
	out->public = tao_rd_bytes(&r, out->public_n);
	format = tao_rd_u8(&r);
	out->epoch = tao_rd_u32(&r);
	out->id = tao_rd_bytes(&r, TLSKEYS_ID);
	out->nonce = tao_rd_bytes(&r, TLSKEYS_SHARE_NONCE);
	if (!tao_rd_done(&r))
		return tao_fail(TAO_EFORMAT, "the key share is malformed");
	return format == TLSKEYS_FORMAT ? TAO_OK : unknown_format(format, "the key share");
}

void tlskeys_share_write(const struct tlskeys_share *s, struct tao_buf *out)
{
	tao_buf_put(out, s->public, s->public_n);
	tao_buf_u8(out, TLSKEYS_FORMAT);
	tao_buf_u32(out, s->epoch);
	tao_buf_put(out, s->id, TLSKEYS_ID);
	tao_buf_put(out, s->nonce, TLSKEYS_SHARE_NONCE);
}

static enum tao_err sha256(const struct tlskeys *t, const void *p, size_t n, uint8_t *out)
{
	if (t == NULL)
		return tao_sha256(p, n, out);
	return EVP_Digest(p, n, out, NULL, t->sha256, NULL) == 1 ? TAO_OK
	                                                         : tao_fail_crypto("SHA-256 failed");
}

enum tao_err tlskeys_salt(struct tlskeys *t, const uint8_t key[TLSKEYS_LEN],
                          const void *client_share, size_t client_n, const void *server_share,
                          size_t server_n, uint8_t salt[TLSKEYS_LEN])
{
	uint8_t c[TAO_HASH_LEN], s[TAO_HASH_LEN];
	const struct tao_rd info[] = {
		LABEL(LABEL_SALT), tao_rd_of(c, sizeof c), tao_rd_of(s, sizeof s),
	};
	enum tao_err e = sha256(t, client_share, client_n, c);

	if (e == TAO_OK)
		e = sha256(t, server_share, server_n, s);
	return e == TAO_OK ? expand(t, TLSKEYS_SHA256, key, info, 3, salt) : e;
}
