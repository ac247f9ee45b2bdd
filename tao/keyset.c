/* CryptoKeyset, and the files that hold one. */
#include "key.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "file.h"
#include "keytype.h"
#include "pb.h"

#define KEYSET_MEMORY (4 * TAO_KEYFILE_MAX)
#define SIGNER_TYPE "ecdsap256"
#define DERIVER_TYPE "hdkf-sha256"
#define SIGNER_NAME "signer"
#define DERIVER_NAME "deriver"

enum tao_err tao_keyset_generate(struct tao_keyset *ks)
{
	enum tao_err e;

	memset(ks, 0, sizeof *ks);
	e = tao_key_generate(SIGNER_TYPE, &ks->signer);
	if (e == TAO_OK && RAND_priv_bytes(ks->deriver, sizeof ks->deriver) != 1)
		e = tao_fail_crypto("no random bytes");
	ks->has_deriver = e == TAO_OK;
	if (e != TAO_OK)
		tao_keyset_clear(ks);
	return e;
}

void tao_keyset_clear(struct tao_keyset *ks)
{
	EVP_PKEY_free(ks->signer); /* libcrypto wipes private halves */
	for (size_t i = 0; i < ks->n_more; i++)
		tao_anykey_clear(&ks->more[i]);
	free(ks->more);
	tao_buf_free(&ks->cert);
	tao_buf_free(&ks->delegation);
	for (size_t i = 0; i < TAO_KEYSET_CHAIN_MAX; i++)
		tao_buf_free(&ks->chain[i]);
	OPENSSL_cleanse(ks, sizeof *ks);
}

/* Adding */

static int same_crypter(const struct tao_crypter *a, const struct tao_crypter *b)
{
	return a->type == b->type && CRYPTO_memcmp(a->aes, b->aes, sizeof a->aes) == 0 &&
	       CRYPTO_memcmp(a->mac, b->mac, sizeof a->mac) == 0;
}

static int same_deriver(const struct tao_deriver *a, const struct tao_deriver *b)
{
	return a->type == b->type && CRYPTO_memcmp(a->secret, b->secret, sizeof a->secret) == 0;
}

static int same_pkey(const EVP_PKEY *a, const EVP_PKEY *b)
{
	return a == b || (a != NULL && b != NULL && EVP_PKEY_eq(a, b) == 1);
}

static int same(const struct tao_anykey *a, const struct tao_anykey *b)
{
	return a->purpose == b->purpose && same_pkey(a->pkey, b->pkey) &&
	       same_crypter(&a->crypter, &b->crypter) && same_deriver(&a->deriver, &b->deriver);
}

/* The set's own deriving key as others are. */
static void own_deriver(const struct tao_keyset *ks, struct tao_deriver *out)
{
	memset(out, 0, sizeof *out);
	out->type = tao_deriver_type(DERIVER_TYPE);
	memcpy(out->secret, ks->deriver, sizeof ks->deriver);
}

static int holds(const struct tao_keyset *ks, const struct tao_anykey *k)
{
	struct tao_deriver own;
	int found = k->purpose == TAO_SIGNING && ks->signer != NULL &&
	            same_pkey(ks->signer, k->pkey);

	own_deriver(ks, &own);
	if (ks->has_deriver && same_deriver(&own, &k->deriver))
		found = 1;
	tao_deriver_clear(&own);
	for (size_t i = 0; i < ks->n_more && !found; i++)
		found = same(&ks->more[i], k);
	return found;
}

/* Grows by copying and wiping: realloc() would leave secrets behind. */
static enum tao_err append(struct tao_keyset *ks, struct tao_anykey *k)
{
	struct tao_anykey *more = calloc(ks->n_more + 1, sizeof *more);

	if (more == NULL)
		return tao_fail_nomem();
	if (ks->n_more > 0) {
		memcpy(more, ks->more, ks->n_more * sizeof *more);
		OPENSSL_cleanse(ks->more, ks->n_more * sizeof *more);
		free(ks->more);
	}
	more[ks->n_more++] = *k;
	ks->more = more;
	OPENSSL_cleanse(k, sizeof *k);
	return TAO_OK;
}

static enum tao_err place(struct tao_keyset *ks, struct tao_anykey *k)
{
	if (k->purpose == TAO_SIGNING && ks->signer == NULL) {
		ks->signer = k->pkey;
		k->pkey = NULL;
		return TAO_OK;
	}
	if (k->purpose == TAO_DERIVING && !ks->has_deriver &&
	    strcmp(k->deriver.type->name, DERIVER_TYPE) == 0) {
		memcpy(ks->deriver, k->deriver.secret, sizeof ks->deriver);
		ks->has_deriver = 1;
		return TAO_OK;
	}
	return append(ks, k);
}

enum tao_err tao_keyset_add(struct tao_keyset *ks, struct tao_anykey *k)
{
	size_t n = ks->n_more + (ks->signer != NULL) + (ks->has_deriver != 0);
	enum tao_err e;

	if (tao_anykey_type(k) == NULL)
		e = tao_fail(TAO_EINVAL, "no key to put into the keyset: generate or read one "
		             "first");
	else if (n >= TAO_KEYSET_MAX)
		e = tao_fail(TAO_ELIMIT, "a keyset holds at most %d keys", TAO_KEYSET_MAX);
	else if (holds(ks, k))
		e = tao_fail(TAO_EEXIST, "a keyset holds the key '%.40s' already", k->name);
	else
		e = place(ks, k);
	tao_anykey_clear(k);
	return e;
}

/* Looking */

const struct tao_crypter *tao_keyset_crypter(const struct tao_keyset *ks, const char *type)
{
	for (size_t i = 0; i < ks->n_more; i++) {
		const struct tao_crypter *c = &ks->more[i].crypter;

		if (c->type != NULL && (type == NULL || strcmp(c->type->name, type) == 0))
			return c;
	}
	return NULL;
}

enum tao_err tao_keyset_deriver(const struct tao_keyset *ks, const char *type,
                                struct tao_deriver *out)
{
	if (type == NULL)
		type = DERIVER_TYPE;
	if (ks->has_deriver && strcmp(type, DERIVER_TYPE) == 0) {
		own_deriver(ks, out);
		return TAO_OK;
	}
	for (size_t i = 0; i < ks->n_more; i++) {
		const struct tao_deriver *d = &ks->more[i].deriver;

		if (d->type != NULL && strcmp(d->type->name, type) == 0) {
			*out = *d;
			return TAO_OK;
		}
	}
	memset(out, 0, sizeof *out);
	return tao_fail(TAO_ENOTFOUND, "a keyset holds no deriving key of type '%.40s': add one",
	                type);
}

/* Encoding */

static enum tao_err encode_keys(const struct tao_keyset *ks, struct tao_buf *key, size_t *n)
{
	struct tao_deriver own;
	enum tao_err e = TAO_OK;

	*n = 0;
	if (ks->signer != NULL)
		e = tao_cryptokey_encode(ks->signer, SIGNER_NAME, 1, &key[(*n)++]);
	if (e == TAO_OK && ks->has_deriver) {
		own_deriver(ks, &own);
		e = tao_deriver_encode(&own, DERIVER_NAME, &key[(*n)++]);
		tao_deriver_clear(&own);
	}
	for (size_t i = 0; e == TAO_OK && i < ks->n_more; i++)
		e = tao_anykey_encode(&ks->more[i], &key[(*n)++]);
	return e;
}

static ProtobufCBinaryData bytes_of(const struct tao_buf *b)
{
	ProtobufCBinaryData d = { b->n, b->p };

	return d;
}

static enum tao_err pack(const struct tao_keyset *ks, const struct tao_buf *key, size_t n,
                         struct tao_buf *out)
{
	Tao__CryptoKeyset set = TAO__CRYPTO_KEYSET__INIT;
	ProtobufCBinaryData item[TAO_KEYSET_MAX], chain[TAO_KEYSET_CHAIN_MAX];

	for (size_t i = 0; i < n; i++)
		item[i] = bytes_of(&key[i]);
	for (size_t i = 0; i < ks->n_chain; i++)
		chain[i] = bytes_of(&ks->chain[i]);
	set.n_keys = n;
	set.keys = item;
	set.has_cert = ks->cert.n > 0;
	set.cert = bytes_of(&ks->cert);
	set.has_delegation = ks->delegation.n > 0;
	set.delegation = bytes_of(&ks->delegation);
	set.n_cert_chain = ks->n_chain;
	set.cert_chain = chain;
	tao_pb_pack(&set.base, out);
	return tao_buf_err(out);
}

enum tao_err tao_keyset_encode(const struct tao_keyset *ks, struct tao_buf *out)
{
	struct tao_buf key[TAO_KEYSET_MAX];
	size_t n = 0;
	enum tao_err e;

	for (size_t i = 0; i < TAO_KEYSET_MAX; i++)
		key[i] = (struct tao_buf)TAO_BUF_INIT;
	if (ks->n_more + 2 > TAO_KEYSET_MAX &&
	    ks->n_more + (ks->signer != NULL) + (ks->has_deriver != 0) > TAO_KEYSET_MAX)
		return tao_fail(TAO_ELIMIT, "a keyset holds at most %d keys", TAO_KEYSET_MAX);
	e = encode_keys(ks, key, &n);
	if (e == TAO_OK && n == 0)
		e = tao_fail(TAO_EINVAL, "a keyset holds no key: add one");
	if (e == TAO_OK)
		e = pack(ks, key, n, out);
	for (size_t i = 0; i < TAO_KEYSET_MAX; i++)
		tao_buf_free(&key[i]);
	return e;
}

/* Decoding */

static enum tao_err take_key(const ProtobufCBinaryData *item, struct tao_keyset *out)
{
	struct tao_anykey k;
	enum tao_err e = tao_anykey_decode(item->data, item->len, &k);

	if (e == TAO_OK)
		e = tao_keyset_add(out, &k);
	return e == TAO_EEXIST || e == TAO_ELIMIT ? tao_fail(TAO_EFORMAT, "%s", tao_why()) : e;
}

static enum tao_err take_bytes(const ProtobufCBinaryData *from, struct tao_buf *to)
{
	*to = (struct tao_buf)TAO_BUF_INIT;
	tao_buf_put(to, from->data, from->len);
	return tao_buf_err(to);
}

static enum tao_err take_rest(const Tao__CryptoKeyset *set, struct tao_keyset *out)
{
	enum tao_err e = TAO_OK;

	if (set->n_cert_chain > TAO_KEYSET_CHAIN_MAX)
		return tao_fail(TAO_EFORMAT, "a keyset holds %zu certificates in its chain: at "
		                "most %d", set->n_cert_chain, TAO_KEYSET_CHAIN_MAX);
	if (set->has_cert)
		e = take_bytes(&set->cert, &out->cert);
	if (e == TAO_OK && set->has_delegation)
		e = take_bytes(&set->delegation, &out->delegation);
	for (size_t i = 0; e == TAO_OK && i < set->n_cert_chain; i++)
		e = take_bytes(&set->cert_chain[i], &out->chain[out->n_chain++]);
	return e;
}

enum tao_err tao_keyset_decode_any(const void *p, size_t n, struct tao_keyset *out)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb;
	const Tao__CryptoKeyset *set;
	enum tao_err e;

	memset(out, 0, sizeof *out);
	if (n > TAO_KEYFILE_MAX)
		return tao_fail(TAO_EFORMAT, "a keyset has %zu bytes: at most %d", n,
		                TAO_KEYFILE_MAX);
	tao_pb_alloc_init(&pa, KEYSET_MEMORY);
	e = tao_pb_unpack_strict(&pa, &tao__crypto_keyset__descriptor, p, n, "keyset", &pb);
	if (e != TAO_OK)
		return e == TAO_ELIMIT ? tao_fail(TAO_EFORMAT, "%s", tao_why()) : e;
	set = (const Tao__CryptoKeyset *)pb;
	if (set->n_keys > TAO_KEYSET_MAX)
		e = tao_fail(TAO_EFORMAT, "a keyset holds %zu keys: at most %d", set->n_keys,
		             TAO_KEYSET_MAX);
	for (size_t i = 0; e == TAO_OK && i < set->n_keys; i++)
		e = take_key(&set->keys[i], out);
	if (e == TAO_OK)
		e = take_rest(set, out);
	if (e != TAO_OK)
		tao_keyset_clear(out);
	tao_pb_free(&pa, pb);
	return e;
}

enum tao_err tao_keyset_decode(const void *p, size_t n, struct tao_keyset *out)
{
	enum tao_err e = tao_keyset_decode_any(p, n, out);

	if (e != TAO_OK || out->signer != NULL)
		return e;
	tao_keyset_clear(out);
	return tao_fail(TAO_EFORMAT, "a keyset holds no signing key");
}

/* Files */

enum tao_err tao_keyset_save(const char *path, const struct tao_keyset *ks, const void *pass,
                             size_t pass_n)
{
	struct tao_buf plain = TAO_BUF_INIT, file = TAO_BUF_INIT;
	enum tao_err e = tao_keyset_encode(ks, &plain);

	if (e == TAO_OK)
		e = tao_pbe_seal(pass, pass_n, plain.p, plain.n, &file);
	if (e != TAO_OK)
		e = tao_fail(e, "cannot make the key file %s: %s", path, tao_why());
	else
		e = tao_file_write(path, file.p, file.n, 0600, TAO_FILE_NEW);
	tao_buf_free(&plain);
	tao_buf_free(&file);
	return e;
}

enum tao_err tao_keyset_load(const char *path, const void *pass, size_t pass_n,
                             struct tao_keyset *out)
{
	struct tao_buf plain = TAO_BUF_INIT, file = TAO_BUF_INIT;
	enum tao_err e;

	memset(out, 0, sizeof *out);
	e = tao_file_read(path, TAO_KEYFILE_MAX, &file);
	if (e != TAO_OK)
		goto out;
	e = tao_pbe_open(pass, pass_n, file.p, file.n, &plain);
	if (e == TAO_OK)
		e = tao_keyset_decode(plain.p, plain.n, out);
	if (e != TAO_OK)
		e = tao_fail(e, "key file %s: %s", path, tao_why());
out:
	tao_buf_free(&plain);
	tao_buf_free(&file);
	return e;
}
