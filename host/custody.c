#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>

#include "host.h"
#include "sealedkey.h"
#include "../tao/stub.h"
#include "tao.pb-c.h"

#define CACHE_BUCKETS 256
#define CACHE_WAYS 4        /* opened keys at hand: at most 1024 */
#define CTXS 8              /* signing contexts kept for one key: about a worker each */

/* ---- what a key may be ---- */

static const char *const types[] = { "p256", NULL };
static const char *const purposes[] = { "any", "tls", "sign", NULL };
static const char *const custodies[] = { "host", NULL };
static const char *const policies[] = { "program", "exact", "host", "policy", NULL };

static const struct {
	const char *what;
	size_t offset;
	const char *const *words;
} choices[] = {
	{ "type", offsetof(struct key_spec, type), types },
	{ "purpose", offsetof(struct key_spec, purpose), purposes },
	{ "custody", offsetof(struct key_spec, custody), custodies },
	{ "policy", offsetof(struct key_spec, policy), policies },
};

static enum tao_err check_choice(const char *what, const char *word, const char *const *words)
{
	struct tao_buf list = TAO_BUF_INIT;
	enum tao_err e;

	for (size_t i = 0; words[i] != NULL; i++)
		if (strcmp(word, words[i]) == 0)
			return TAO_OK;
	for (size_t i = 0; words[i] != NULL; i++)
		tao_buf_fmt(&list, "%s%s", i > 0 ? ", " : "", words[i]);
	e = tao_fail(TAO_EINVAL, "a key's %s is one of: %s", what, tao_buf_cstr(&list));
	tao_buf_free(&list);
	return e;
}

enum tao_err custody_check_spec(const struct key_spec *s)
{
	enum tao_err e = tao_key_name_check(s->name, strlen(s->name));

	if (e == TAO_OK && strcmp(s->name, "ca") == 0)
		e = tao_fail(TAO_EINVAL, "tao:ca is the policy certificate: give the key another name");
	for (size_t i = 0; e == TAO_OK && i < sizeof choices / sizeof choices[0]; i++) {
		const char *word = *(const char *const *)((const char *)s + choices[i].offset);

		if (word != NULL)
			e = check_choice(choices[i].what, word, choices[i].words);
	}
	return e;
}

/* ---- P-256 ---- */

#define SCALAR 32
#define POINT 65

/* The public point of a scalar, computed here and never taken from a file. */
static int public_point(const uint8_t *scalar, uint8_t point[POINT])
{
	EC_GROUP *g = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	BIGNUM *d = BN_secure_new();
	EC_POINT *q = g != NULL ? EC_POINT_new(g) : NULL;
	int done = q != NULL && d != NULL && BN_bin2bn(scalar, SCALAR, d) != NULL;

	if (done)
		BN_set_flags(d, BN_FLG_CONSTTIME);
	done = done && !BN_is_zero(d) && BN_cmp(d, EC_GROUP_get0_order(g)) < 0 &&
	       EC_POINT_mul(g, q, d, NULL, NULL, NULL) == 1 &&
	       EC_POINT_point2oct(g, q, POINT_CONVERSION_UNCOMPRESSED, point, POINT, NULL) == POINT;
	EC_POINT_free(q);
	BN_clear_free(d);
	EC_GROUP_free(g);
	return done;
}

static OSSL_PARAM *p256_params(BIGNUM *d, const uint8_t point[POINT])
{
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	OSSL_PARAM *p = NULL;

	if (b != NULL && OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) &&
	    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_PRIV_KEY, d) &&
	    OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, POINT))
		p = OSSL_PARAM_BLD_to_param(b);
	OSSL_PARAM_BLD_free(b);
	return p;
}

static enum tao_err p256_from_scalar(const uint8_t *scalar, size_t n, EVP_PKEY **out)
{
	EVP_PKEY_CTX *ctx = NULL;
	OSSL_PARAM *params = NULL;
	BIGNUM *d = NULL;
	uint8_t point[POINT];
	enum tao_err e = TAO_OK;

	*out = NULL;
	if (n != SCALAR || !public_point(scalar, point))
		return tao_fail(TAO_EALTERED, "the sealed key is not a P-256 key");
	d = BN_secure_new();
	if (d != NULL && BN_bin2bn(scalar, SCALAR, d) != NULL)
		params = p256_params(d, point);
	ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, out, EVP_PKEY_KEYPAIR, params) != 1)
		e = tao_fail_crypto("opening a P-256 key");
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	BN_clear_free(d);
	return e;
}

static enum tao_err p256_scalar(EVP_PKEY *key, uint8_t scalar[SCALAR])
{
	BIGNUM *d = NULL;
	enum tao_err e = TAO_OK;

	if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) != 1 ||
	    BN_bn2binpad(d, scalar, SCALAR) != SCALAR)
		e = tao_fail_crypto("reading a new key");
	BN_clear_free(d);
	return e;
}

/* ---- sealing and unsealing ---- */

static void fill(Tao__SealedKey *k, const struct key_spec *s, uint8_t *scalar, uint8_t *key_id)
{
	k->version = SEALEDKEY_VERSION;
	k->private_key.data = scalar;
	k->private_key.len = SCALAR;
	k->type = (char *)(s->type != NULL ? s->type : types[0]);
	k->purpose = (char *)(s->purpose != NULL ? s->purpose : purposes[0]);
	k->custody = (char *)(s->custody != NULL ? s->custody : custodies[0]);
	k->policy = (char *)(s->policy != NULL ? s->policy : policies[0]);
	k->key_id.data = key_id;
	k->key_id.len = SEALEDKEY_ID_LEN;
	k->generation = 1;
	k->uid = s->uid;
	k->created = time(NULL);
	k->program = (char *)s->program;
	if (s->exe != NULL) {
		k->has_program_hash = 1;
		k->program_hash.data = (uint8_t *)s->exe;
		k->program_hash.len = TAO_HASH_LEN;
	}
}

static enum tao_err seal_key(struct host *h, const struct key_spec *s, EVP_PKEY *key,
                             struct tao_buf *stub)
{
	Tao__SealedKey k = TAO__SEALED_KEY__INIT;
	struct tao_buf plain = TAO_BUF_INIT, spki = TAO_BUF_INIT, aad = TAO_BUF_INIT;
	struct tao_buf blob = TAO_BUF_INIT, name = TAO_BUF_INIT;
	struct tao_stub st = { .name = s->name, .name_n = strlen(s->name) };
	uint8_t scalar[SCALAR], id[SEALEDKEY_ID_LEN];
	enum tao_err e = p256_scalar(key, scalar);

	if (e == TAO_OK)
		e = tao_key_spki(key, &spki);
	if (e == TAO_OK && RAND_bytes(id, sizeof id) != 1)
		e = tao_fail_crypto("drawing a key id");
	if (e != TAO_OK)
		goto out;
	fill(&k, s, scalar, id);
	if (s->principal != NULL) {
		tao_node_encode(s->principal, &name);
		k.has_principal = 1;
		k.principal.data = name.p;
		k.principal.len = name.n;
	}
	tao_pb_pack(&k.base, &plain);
	st.spki = spki.p;
	st.spki_n = spki.n;
	tao_stub_aad(&st, &aad);
	e = tao_buf_err(&plain);
	if (e == TAO_OK)
		e = tao_buf_err(&aad);
	if (e == TAO_OK)
		e = tao_seal(&h->sealer, TAO_SEAL_KEY, aad.p, aad.n, plain.p, plain.n, &blob);
	st.sealed = blob.p;
	st.sealed_n = blob.n;
	if (e == TAO_OK)
		tao_stub_encode(&st, stub);
	if (e == TAO_OK)
		e = tao_buf_err(stub);
out:
	OPENSSL_cleanse(scalar, sizeof scalar);
	tao_buf_free(&plain);
	tao_buf_free(&spki);
	tao_buf_free(&aad);
	tao_buf_free(&blob);
	tao_buf_free(&name);
	return e;
}

enum tao_err custody_generate(struct host *h, const struct key_spec *s, struct tao_buf *stub)
{
	EVP_PKEY *key = NULL;
	enum tao_err e = custody_check_spec(s);

	if (e != TAO_OK)
		return e;
	key = EVP_EC_gen("P-256");
	e = key != NULL ? seal_key(h, s, key, stub) : tao_fail_crypto("making a P-256 key");
	EVP_PKEY_free(key);
	return e;
}

enum tao_err sealedkey_open(const struct tao_sealer *sealer, const struct tao_stub *st,
                            struct tao_pb_alloc *pa, struct Tao__SealedKey **out)
{
	struct tao_buf aad = TAO_BUF_INIT, plain = TAO_BUF_INIT;
	ProtobufCMessage *m = NULL;
	enum tao_err e;

	*out = NULL;
	tao_pb_alloc_init(pa, SEALEDKEY_CAP);
	tao_stub_aad(st, &aad);
	e = tao_buf_err(&aad);
	if (e == TAO_OK)
		e = tao_unseal(sealer, TAO_SEAL_KEY, aad.p, aad.n, st->sealed, st->sealed_n, &plain);
	if (e == TAO_OK)
		e = tao_pb_unpack(pa, &tao__sealed_key__descriptor, plain.p, plain.n, "sealed key", &m);
	if (e == TAO_OK && ((Tao__SealedKey *)m)->version != SEALEDKEY_VERSION) {
		e = tao_fail(TAO_EVERSION, "the key was sealed by a newer version: upgrade taod");
		tao_pb_free(pa, m);
		m = NULL;
	}
	*out = (Tao__SealedKey *)m;
	tao_buf_free(&aad);
	tao_buf_free(&plain);
	return e;
}

/* ---- opened keys ---- */

struct held_key {
	atomic_uint refs;
	uint8_t id[TAO_HASH_LEN];      /* SHA-256 of the stub */
	EVP_PKEY *key;
	struct tao_buf spki;
	uint8_t spki_hash[TAO_HASH_LEN];
	char name[TAO_KEY_NAME_MAX + 1];
	struct tao_pb_alloc alloc;
	Tao__SealedKey *sealed;        /* its private_key is wiped */
	struct tao_node *principal;    /* policy exact */
	EVP_PKEY_CTX *ctx[CTXS];
	atomic_int ctx_busy[CTXS];
};

struct custody {
	pthread_mutex_t lock;
	struct held_key *cache[CACHE_BUCKETS][CACHE_WAYS]; /* newest first */
};

struct custody *custody_new(void)
{
	struct custody *c = calloc(1, sizeof *c);

	if (c != NULL)
		pthread_mutex_init(&c->lock, NULL);
	return c;
}

void held_key_release(struct held_key *k)
{
	if (k == NULL || atomic_fetch_sub(&k->refs, 1) != 1)
		return;
	for (size_t i = 0; i < CTXS; i++)
		EVP_PKEY_CTX_free(k->ctx[i]);
	EVP_PKEY_free(k->key);
	tao_buf_free(&k->spki);
	if (k->sealed != NULL)
		tao_pb_free(&k->alloc, &k->sealed->base);
	tao_node_free(k->principal);
	free(k);
}

void custody_free(struct custody *c)
{
	if (c == NULL)
		return;
	for (size_t b = 0; b < CACHE_BUCKETS; b++)
		for (size_t w = 0; w < CACHE_WAYS; w++)
			held_key_release(c->cache[b][w]);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

const uint8_t *held_key_id(const struct held_key *k)
{
	return k->id;
}

void held_key_facts(const struct held_key *k, struct key_facts *f)
{
	const Tao__SealedKey *s = k->sealed;

	*f = (struct key_facts){
		.name = k->name, .type = s->type, .purpose = s->purpose, .custody = s->custody,
		.policy = s->policy, .program = s->program, .uid = s->uid,
		.exe = s->has_program_hash ? s->program_hash.data : NULL, .created = s->created,
		.spki = k->spki.p, .spki_n = k->spki.n,
	};
	memcpy(f->spki_hash, k->spki_hash, sizeof f->spki_hash);
}

static enum tao_err check_sealed(struct held_key *k, const struct tao_stub *st)
{
	Tao__SealedKey *s = k->sealed;
	enum tao_err e = p256_from_scalar(s->private_key.data, s->private_key.len, &k->key);

	OPENSSL_cleanse(s->private_key.data, s->private_key.len);
	if (e == TAO_OK)
		e = tao_key_spki(k->key, &k->spki);
	if (e == TAO_OK && (k->spki.n != st->spki_n || memcmp(k->spki.p, st->spki, st->spki_n) != 0))
		e = tao_fail(TAO_EALTERED, "the public key in the stub is not that of the sealed key: "
		             "write the stub again with 'tao key pem %s'", k->name);
	if (e == TAO_OK)
		e = tao_sha256(k->spki.p, k->spki.n, k->spki_hash);
	if (e == TAO_OK && s->has_program_hash && s->program_hash.len != TAO_HASH_LEN)
		e = tao_fail(TAO_EALTERED, "the sealed key names no proper executable");
	if (e == TAO_OK && s->has_principal)
		e = tao_prin_decode(s->principal.data, s->principal.len, &k->principal);
	return e;
}

static enum tao_err open_stub(struct host *h, const void *stub, size_t n, struct held_key **out)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct held_key *k = calloc(1, sizeof *k);
	struct tao_stub st;
	enum tao_err e = k != NULL ? TAO_OK : tao_fail_nomem();

	if (e != TAO_OK)
		return e;
	atomic_store(&k->refs, 1);
	k->spki = empty;
	e = tao_stub_parse(stub, n, &st);
	if (e == TAO_OK && st.sealed == NULL)
		e = tao_fail(TAO_EFORMAT, "the stub has no sealed key in it: write it with 'tao key pem'");
	if (e == TAO_OK)
		e = tao_sha256(stub, n, k->id);
	if (e == TAO_OK) {
		memcpy(k->name, st.name, st.name_n);
		e = sealedkey_open(&h->sealer, &st, &k->alloc, &k->sealed);
	}
	if (e == TAO_OK)
		e = check_sealed(k, &st);
	if (e != TAO_OK) {
		held_key_release(k);
		return e;
	}
	*out = k;
	return TAO_OK;
}

static struct held_key **bucket(struct custody *c, const uint8_t *id)
{
	return c->cache[id[0] % CACHE_BUCKETS];
}

/* The key of that id, moved to its bucket's front; lock held. */
static struct held_key *cached(struct custody *c, const uint8_t *id)
{
	struct held_key **b = bucket(c, id);

	for (size_t w = 0; w < CACHE_WAYS && b[w] != NULL; w++) {
		struct held_key *k = b[w];

		if (memcmp(k->id, id, sizeof k->id) != 0)
			continue;
		memmove(b + 1, b, w * sizeof *b);
		b[0] = k;
		atomic_fetch_add(&k->refs, 1);
		return k;
	}
	return NULL;
}

enum tao_err custody_find(struct host *h, const void *id, size_t n, struct held_key **out)
{
	struct custody *c = h->custody;

	if (n != TAO_HASH_LEN)
		return tao_fail(TAO_EINVAL, "a key id has %d bytes", TAO_HASH_LEN);
	pthread_mutex_lock(&c->lock);
	*out = cached(c, id);
	pthread_mutex_unlock(&c->lock);
	return *out != NULL ? TAO_OK : tao_fail(TAO_EUNKNOWNKEY, "the host does not have this key open");
}

static void remember(struct custody *c, struct held_key *k)
{
	struct held_key **b = bucket(c, k->id), *other;

	pthread_mutex_lock(&c->lock);
	other = cached(c, k->id);
	if (other == NULL) {
		held_key_release(b[CACHE_WAYS - 1]);
		memmove(b + 1, b, (CACHE_WAYS - 1) * sizeof *b);
		b[0] = k;
		atomic_fetch_add(&k->refs, 1);
	}
	pthread_mutex_unlock(&c->lock);
	held_key_release(other);
}

enum tao_err custody_open(struct host *h, const void *stub, size_t n, struct held_key **out)
{
	uint8_t id[TAO_HASH_LEN];
	enum tao_err e = tao_sha256(stub, n, id);

	if (e != TAO_OK || custody_find(h, id, sizeof id, out) == TAO_OK)
		return e;
	e = open_stub(h, stub, n, out);
	if (e == TAO_OK)
		remember(h->custody, *out);
	return e;
}

/* ---- who may use it ---- */

static enum tao_err for_program(struct host *h, const struct held_key *k, struct instance *i)
{
	const Tao__SealedKey *s = k->sealed;

	if (i->uid != s->uid)
		return tao_fail(TAO_EWRONGPROG, "key %s is sealed for user %u, and this program runs for "
		                "user %u: make one for it with 'tao key new'", k->name, s->uid,
		                (unsigned)i->uid);
	if (s->has_program_hash && memcmp(s->program_hash.data, i->exe, sizeof i->exe) == 0)
		return TAO_OK;
	if (s->has_program_hash && domain_successor(h->domain, i->exe, s->program_hash.data) == TAO_OK)
		return TAO_OK;
	return tao_fail(TAO_EWRONGPROG, "key %s is sealed for another program (%s), not for this "
	                "executable of %s: make one for it with 'tao key new NAME --for %s'", k->name,
	                s->program != NULL ? s->program : "unknown", i->program, i->program);
}

static enum tao_err for_exact(struct host *h, const struct held_key *k, struct instance *i)
{
	(void)h;
	if (k->principal != NULL && tao_node_equal(k->principal, instance_name(i)))
		return TAO_OK;
	return tao_fail(TAO_EWRONGPROG, "key %s is sealed for one exact name, and this program's is "
	                "another: compare them with 'tao ps' and 'tao key list'", k->name);
}

static enum tao_err for_host(struct host *h, const struct held_key *k, struct instance *i)
{
	(void)h;
	(void)k;
	(void)i;
	return TAO_OK;
}

static enum tao_err for_policy(struct host *h, const struct held_key *k, struct instance *i)
{
	/* A label names a key of one user: another user's key of that name is another key. */
	if (k->sealed->uid != i->uid)
		return tao_fail(TAO_EWRONGPROG, "key %s is sealed for programs of user %u", k->name,
		                k->sealed->uid);
	return domain_may_unseal(h->domain, instance_name(i), k->name);
}

enum tao_err custody_allows(struct host *h, const struct held_key *k, struct instance *i)
{
	static const struct {
		const char *policy;
		enum tao_err (*check)(struct host *, const struct held_key *, struct instance *);
	} checks[] = {
		{ "program", for_program }, { "exact", for_exact },
		{ "host", for_host }, { "policy", for_policy },
	};

	for (size_t n = 0; n < sizeof checks / sizeof checks[0]; n++)
		if (strcmp(k->sealed->policy, checks[n].policy) == 0)
			return checks[n].check(h, k, i);
	return tao_fail(TAO_EVERSION, "key %s has a seal policy that this version does not know: "
	                "upgrade taod", k->name);
}

/* ---- signing ---- */

static const struct {
	const char *name;
	size_t n;
} digests[] = { { "SHA256", 32 }, { "SHA384", 48 }, { "SHA512", 64 } };

static enum tao_err check_digest(const struct held_key *k, const char *digest, size_t n)
{
	if (digest == NULL || digest[0] == 0)
		return tao_fail(TAO_EPURPOSE, "key %s signs digests: the request names none", k->name);
	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++) {
		if (strcmp(digest, digests[i].name) != 0)
			continue;
		if (n == digests[i].n)
			return TAO_OK;
		return tao_fail(TAO_EINVAL, "a %s digest has %zu bytes, not %zu", digest, digests[i].n, n);
	}
	return tao_fail(TAO_EPURPOSE, "key %s does not sign %s digests: use SHA256, SHA384 or SHA512",
	                k->name, digest);
}

static EVP_PKEY_CTX *new_ctx(EVP_PKEY *key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);

	if (ctx != NULL && EVP_PKEY_sign_init(ctx) == 1)
		return ctx;
	EVP_PKEY_CTX_free(ctx);
	return NULL;
}

/* Setting up a context costs a good part of a signature, so each key keeps a
 * few. slot is -1 for one that is to be freed. */
static EVP_PKEY_CTX *take_ctx(struct held_key *k, int *slot)
{
	for (int i = 0; i < CTXS; i++) {
		int is_free = 0;

		if (!atomic_compare_exchange_strong(&k->ctx_busy[i], &is_free, 1))
			continue;
		*slot = i;
		if (k->ctx[i] == NULL)
			k->ctx[i] = new_ctx(k->key);
		if (k->ctx[i] == NULL)
			atomic_store(&k->ctx_busy[i], 0);
		return k->ctx[i];
	}
	*slot = -1;
	return new_ctx(k->key);
}

static void give_ctx(struct held_key *k, EVP_PKEY_CTX *ctx, int slot)
{
	if (slot < 0)
		EVP_PKEY_CTX_free(ctx);
	else
		atomic_store(&k->ctx_busy[slot], 0);
}

enum tao_err custody_sign(struct host *h, struct held_key *k, const struct sign_how *how,
                          const void *data, size_t n, struct tao_buf *sig)
{
	size_t len = (size_t)EVP_PKEY_get_size(k->key);
	enum tao_err e = check_digest(k, how->digest, n);
	EVP_PKEY_CTX *ctx;
	uint8_t *to;
	int slot;

	(void)h;
	if (e != TAO_OK)
		return e;
	to = tao_buf_room(sig, len);
	ctx = take_ctx(k, &slot);
	if (to == NULL || ctx == NULL || EVP_PKEY_sign(ctx, to, &len, data, n) != 1)
		e = tao_fail_crypto("signing with key %s", k->name);
	else
		sig->n -= (size_t)EVP_PKEY_get_size(k->key) - len;
	if (ctx != NULL)
		give_ctx(k, ctx, slot);
	return e;
}
