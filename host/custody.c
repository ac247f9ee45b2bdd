#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "custody_int.h"

#define CACHE_BUCKETS 256
#define CACHE_WAYS 4 /* keys at hand: at most 1024 */

/* ---- what a key may be ---- */

#define DEFAULT_TYPE "p256"
#define DEFAULT_PURPOSE "any"
#define DEFAULT_CUSTODY "host"
#define DEFAULT_POLICY "program"
#define PSS_SALT_MAX 64 /* bytes that an RSA-PSS key may insist on */

static const char *const custodies[] = { "host", "program", NULL };
static const char *const policies[] = { "program", "exact", "host", "policy", NULL };
static const char *const pss_digests[] = { "SHA256", "SHA384", "SHA512", NULL };

static enum tao_err check_choice(const char *what, const char *word, const char *const *words)
{
	struct tao_buf list = TAO_BUF_INIT;
	enum tao_err e;

	for (size_t i = 0; words[i] != NULL; i++)
		if (word == NULL || strcmp(word, words[i]) == 0)
			return TAO_OK;
	for (size_t i = 0; words[i] != NULL; i++)
		tao_buf_fmt(&list, "%s%s", i > 0 ? ", " : "", words[i]);
	e = tao_fail(TAO_EINVAL, "a key's %s is one of: %s", what, tao_buf_cstr(&list));
	tao_buf_free(&list);
	return e;
}

static enum tao_err check_type(const struct key_spec *s)
{
	const char *type = s->type != NULL ? s->type : DEFAULT_TYPE;
	const char *purpose = s->purpose != NULL ? s->purpose : DEFAULT_PURPOSE;
	const struct key_type *t = key_type_named(type);
	const struct key_purpose *p = key_purpose_named(purpose);
	struct tao_buf list = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	if (t == NULL) {
		key_type_list(&list);
		e = tao_fail(TAO_EINVAL, "a key's type is one of: %s", tao_buf_cstr(&list));
	} else if (p == NULL) {
		key_purpose_list(&list);
		e = tao_fail(TAO_EINVAL, "a key's purpose is one of: %s", tao_buf_cstr(&list));
	} else if ((t->can & p->can) == 0) {
		e = tao_fail(TAO_EINVAL, "a key of type %s cannot serve the purpose %s: choose "
		             "another type", type, purpose);
	} else if (strcmp(t->algorithm, "RSA-PSS") != 0 &&
	           (s->pss_digest != NULL || s->pss_salt_len > 0)) {
		e = tao_fail(TAO_EINVAL, "a key of type %s is restricted to no digest and no salt: "
		             "those of the types rsa-pss-... are", type);
	}
	tao_buf_free(&list);
	return e;
}

enum tao_err custody_check_spec(const struct key_spec *s)
{
	enum tao_err e = tao_key_name_check(s->name, strlen(s->name));

	if (e == TAO_OK && strcmp(s->name, "ca") == 0)
		e = tao_fail(TAO_EINVAL, "tao:ca is the policy certificate: give the key another "
		             "name");
	if (e == TAO_OK)
		e = check_type(s);
	if (e == TAO_OK)
		e = check_choice("custody", s->custody, custodies);
	if (e == TAO_OK)
		e = check_choice("policy", s->policy, policies);
	if (e == TAO_OK)
		e = check_choice("digest (RSA-PSS)", s->pss_digest, pss_digests);
	if (e == TAO_OK && s->pss_salt_len > PSS_SALT_MAX)
		e = tao_fail(TAO_EINVAL, "the salt of an RSA-PSS key has at most %d bytes",
		             PSS_SALT_MAX);
	return e;
}

/* ---- making ---- */

static void fill(Tao__SealedKey *k, const struct key_spec *s, uint8_t *key_id)
{
	k->version = SEALEDKEY_VERSION;
	k->purpose = (char *)(s->purpose != NULL ? s->purpose : DEFAULT_PURPOSE);
	k->custody = (char *)(s->custody != NULL ? s->custody : DEFAULT_CUSTODY);
	k->policy = (char *)(s->policy != NULL ? s->policy : DEFAULT_POLICY);
	k->key_id.data = key_id;
	k->key_id.len = SEALEDKEY_ID_LEN;
	k->generation = 1;
	k->uid = s->uid;
	k->program = (char *)s->program;
	if (s->exe != NULL) {
		k->has_program_hash = 1;
		k->program_hash.data = (uint8_t *)s->exe;
		k->program_hash.len = TAO_HASH_LEN;
	}
}

/* Seals key under what k says. Its public half is that of the bytes sealed. */
static enum tao_err seal_key(struct host *h, Tao__SealedKey *k, const char *name,
                             const struct key_type *t, EVP_PKEY *key, struct tao_buf *stub)
{
	struct tao_buf bytes = TAO_BUF_INIT, spki = TAO_BUF_INIT;
	struct tao_stub st = { .name = name, .name_n = strlen(name) };
	EVP_PKEY *again = NULL;
	enum tao_err e = key_type_write(t, key, &bytes);

	if (e == TAO_OK)
		e = tao_buf_err(&bytes);
	if (e == TAO_OK)
		e = key_type_read(t, bytes.p, bytes.n, &again);
	if (e == TAO_OK)
		e = tao_key_spki(again, &spki);
	if (e == TAO_OK) {
		k->type = (char *)t->name;
		k->private_key.data = bytes.p;
		k->private_key.len = bytes.n;
		k->created = time(NULL);
		st.spki = spki.p;
		st.spki_n = spki.n;
		e = sealedkey_seal(&h->sealer, k, &st, stub);
	}
	EVP_PKEY_free(again);
	tao_buf_free(&bytes);
	tao_buf_free(&spki);
	return e;
}

static enum tao_err seal_first(struct host *h, const struct key_spec *s, const struct key_type *t,
                               EVP_PKEY *key, int imported, struct tao_buf *stub)
{
	Tao__SealedKey k = TAO__SEALED_KEY__INIT;
	struct tao_buf name = TAO_BUF_INIT;
	uint8_t id[SEALEDKEY_ID_LEN];
	enum tao_err e = TAO_OK;

	if (RAND_bytes(id, sizeof id) != 1)
		return tao_fail_crypto("drawing a key id");
	fill(&k, s, id);
	k.has_imported = k.imported = imported;
	if (s->principal != NULL) {
		tao_node_encode(s->principal, &name);
		e = tao_buf_err(&name);
		k.has_principal = 1;
		k.principal.data = name.p;
		k.principal.len = name.n;
	}
	if (e == TAO_OK)
		e = seal_key(h, &k, s->name, t, key, stub);
	tao_buf_free(&name);
	return e;
}

enum tao_err custody_generate(struct host *h, const struct key_spec *s, struct tao_buf *stub)
{
	struct key_pss pss = { s->pss_digest, NULL, s->pss_salt_len };
	const struct key_type *t = key_type_named(s->type != NULL ? s->type : DEFAULT_TYPE);
	EVP_PKEY *key = NULL;
	enum tao_err e = custody_check_spec(s);

	if (e == TAO_OK)
		e = key_type_generate(t, &pss, &key);
	if (e == TAO_OK)
		e = seal_first(h, s, t, key, 0, stub);
	EVP_PKEY_free(key);
	return e;
}

enum tao_err custody_import(struct host *h, const struct key_spec *s, const void *pkcs8, size_t n,
                            struct tao_buf *stub)
{
	struct key_spec typed = *s;
	const struct key_type *t = NULL;
	EVP_PKEY *key = NULL;
	enum tao_err e = key_pkcs8_import(pkcs8, n, &t, &key);

	if (e == TAO_OK && s->type != NULL && strcmp(s->type, t->name) != 0)
		e = tao_fail(TAO_EINVAL, "this key is of type %s, not %s", t->name, s->type);
	if (e == TAO_OK) {
		typed.type = t->name;
		e = custody_check_spec(&typed);
	}
	if (e == TAO_OK)
		e = seal_first(h, &typed, t, key, 1, stub);
	EVP_PKEY_free(key);
	return e;
}

enum tao_err custody_next(struct host *h, struct held_key *k, struct tao_buf *stub)
{
	char digest[KEY_PSS_NAME], mgf1[KEY_PSS_NAME];
	Tao__SealedKey next = *k->sealed;
	EVP_PKEY *key = NULL, *old;
	struct key_pss pss;
	enum tao_err e = held_key_use(h, k, &old);

	if (e != TAO_OK)
		return e;
	e = key_type_generate(k->type, key_type_pss(old, digest, mgf1, &pss) ? &pss : NULL, &key);
	held_key_done(k);
	next.generation++;
	next.has_imported = next.imported = 0; /* this one never was anywhere else */
	if (e == TAO_OK)
		e = seal_key(h, &next, k->name, k->type, key, stub);
	EVP_PKEY_free(key);
	return e;
}

/* ---- the private half ---- */

/* Lock held, nobody uses it. */
static void shut(struct held_key *k)
{
	for (size_t i = 0; i < KEY_CTXS; i++) {
		EVP_PKEY_CTX_free(k->ctx[i]);
		k->ctx[i] = NULL;
	}
	EVP_PKEY_free(k->key); /* wipes */
	k->key = NULL;
}

/* The key of s, if its public half is the stub's; s's bytes are wiped. */
static enum tao_err expand(const struct held_key *k, Tao__SealedKey *s, const struct tao_stub *st,
                           EVP_PKEY **out)
{
	struct tao_buf spki = TAO_BUF_INIT;
	EVP_PKEY *key = NULL;
	enum tao_err e = key_type_read(key_type_named(s->type), s->private_key.data,
	                               s->private_key.len, &key);

	OPENSSL_cleanse(s->private_key.data, s->private_key.len);
	if (e == TAO_OK)
		e = tao_key_spki(key, &spki);
	if (e == TAO_OK && (spki.n != st->spki_n || memcmp(spki.p, st->spki, spki.n) != 0))
		e = tao_fail(TAO_EALTERED, "the public key in the stub is not that of the sealed "
		             "key: write the stub again with 'tao key pem %s'", k->name);
	tao_buf_free(&spki);
	if (e == TAO_OK)
		*out = key;
	else
		EVP_PKEY_free(key);
	return e;
}

/* Lock held. */
static enum tao_err open_again(struct host *h, struct held_key *k)
{
	Tao__SealedKey *s = NULL;
	struct tao_pb_alloc pa;
	struct tao_stub st;
	enum tao_err e = tao_stub_parse(k->stub.p, k->stub.n, &st);

	if (e == TAO_OK)
		e = sealedkey_open(&h->sealer, &st, &pa, &s);
	if (e == TAO_OK)
		e = expand(k, s, &st, &k->key);
	if (s != NULL)
		tao_pb_free(&pa, &s->base);
	return e;
}

enum tao_err held_key_use(struct host *h, struct held_key *k, EVP_PKEY **key)
{
	enum tao_err e = TAO_OK;

	if (atomic_load_explicit(&k->gone, memory_order_relaxed))
		return tao_fail(TAO_ENOTFOUND, "generation %u of key %s was deleted: load the key "
		                "again", k->sealed->generation, k->name);
	pthread_mutex_lock(&k->lock);
	if (k->key == NULL)
		e = open_again(h, k);
	if (e == TAO_OK) {
		k->users++;
		*key = k->key;
	}
	pthread_mutex_unlock(&k->lock);
	return e;
}

void held_key_done(struct held_key *k)
{
	pthread_mutex_lock(&k->lock);
	k->users--;
	k->used = loop_now();
	pthread_mutex_unlock(&k->lock);
}

static void shut_if_idle(struct held_key *k, int64_t now)
{
	if (pthread_mutex_trylock(&k->lock) != 0)
		return; /* somebody uses it */
	if (k->key != NULL && k->users == 0 && now - k->used >= KEY_IDLE_SECONDS)
		shut(k);
	pthread_mutex_unlock(&k->lock);
}

static EVP_PKEY_CTX *new_ctx(EVP_PKEY *key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);

	if (ctx != NULL && EVP_PKEY_sign_init(ctx) == 1)
		return ctx;
	EVP_PKEY_CTX_free(ctx);
	return NULL;
}

/* Setting up a context costs a good part of a signature, so each key keeps a few. */
EVP_PKEY_CTX *held_key_take_ctx(struct held_key *k, int *slot)
{
	for (int i = 0; i < KEY_CTXS; i++) {
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

void held_key_give_ctx(struct held_key *k, EVP_PKEY_CTX *ctx, int slot)
{
	if (slot < 0)
		EVP_PKEY_CTX_free(ctx);
	else
		atomic_store(&k->ctx_busy[slot], 0);
}

/* ---- held keys ---- */

struct custody {
	pthread_mutex_t lock;
	struct held_key *cache[CACHE_BUCKETS][CACHE_WAYS]; /* newest first */
	atomic_uint deletions;
	pthread_mutex_t files;
};

struct custody *custody_new(void)
{
	struct custody *c = calloc(1, sizeof *c);

	if (c != NULL)
		pthread_mutex_init(&c->lock, NULL);
	if (c != NULL)
		pthread_mutex_init(&c->files, NULL);
	return c;
}

void custody_lock_files(struct custody *c)
{
	pthread_mutex_lock(&c->files);
}

void custody_unlock_files(struct custody *c)
{
	pthread_mutex_unlock(&c->files);
}

void held_key_release(struct held_key *k)
{
	if (k == NULL || atomic_fetch_sub(&k->refs, 1) != 1)
		return;
	shut(k);
	pthread_mutex_destroy(&k->lock);
	tao_buf_free(&k->stub);
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
	pthread_mutex_destroy(&c->files);
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
		.spki = k->spki.p, .spki_n = k->spki.n, .key_id = s->key_id.data,
		.generation = s->generation, .imported = s->imported, .bits = k->type->bits,
		.principal = k->principal, .epoch = k->epoch,
	};
	memcpy(f->spki_hash, k->spki_hash, sizeof f->spki_hash);
}

int custody_is_slow(const struct held_key *k)
{
	return k->type->slow;
}

static enum tao_err check_not_deleted(struct host *h, const struct held_key *k)
{
	uint32_t below;
	enum tao_err e = keystore_retired(h, k->sealed->key_id.data, &below);

	if (e == TAO_OK && k->sealed->generation < below)
		e = tao_fail(TAO_ENOTFOUND, "generation %u of key %s was deleted: use the newest "
		             "one's stub, which 'tao key pem %s' prints if there is one",
		             k->sealed->generation, k->name, k->name);
	return e;
}

static enum tao_err fill_held(struct host *h, struct held_key *k, const void *stub, size_t n)
{
	struct tao_stub st;
	enum tao_err e = tao_stub_parse(stub, n, &st);

	if (e == TAO_OK && st.sealed == NULL)
		e = tao_fail(TAO_EFORMAT, "the stub has no sealed key in it: write it with 'tao "
		             "key pem'");
	if (e == TAO_OK)
		e = tao_sha256(stub, n, k->id);
	if (e != TAO_OK)
		return e;
	memcpy(k->name, st.name, st.name_n);
	k->epoch = tao_sealed_epoch(st.sealed, st.sealed_n);
	tao_buf_put(&k->stub, stub, n);
	tao_buf_put(&k->spki, st.spki, st.spki_n);
	e = sealedkey_open(&h->sealer, &st, &k->alloc, &k->sealed);
	if (e == TAO_OK) {
		k->type = key_type_named(k->sealed->type);
		k->purpose = key_purpose_named(k->sealed->purpose);
		e = expand(k, k->sealed, &st, &k->key);
	}
	if (e == TAO_OK)
		e = tao_sha256(k->spki.p, k->spki.n, k->spki_hash);
	if (e == TAO_OK && k->sealed->has_principal)
		e = tao_prin_decode(k->sealed->principal.data, k->sealed->principal.len,
		                    &k->principal);
	if (e == TAO_OK)
		e = check_not_deleted(h, k);
	return e != TAO_OK ? e : k->stub.err != TAO_OK
	       ? tao_buf_err(&k->stub) : tao_buf_err(&k->spki);
}

static enum tao_err open_stub(struct host *h, const void *stub, size_t n, struct held_key **out)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct held_key *k = calloc(1, sizeof *k);
	enum tao_err e;

	if (k == NULL)
		return tao_fail_nomem();
	atomic_store(&k->refs, 1);
	pthread_mutex_init(&k->lock, NULL);
	k->stub = k->spki = empty;
	k->used = loop_now();
	e = fill_held(h, k, stub, n);
	if (e == TAO_OK)
		*out = k;
	else
		held_key_release(k);
	return e;
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
	return *out != NULL ? TAO_OK : tao_fail(TAO_EUNKNOWNKEY,
	                                        "the host does not have this key open");
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
	unsigned deletions = atomic_load(&h->custody->deletions);
	enum tao_err e = tao_sha256(stub, n, id);

	if (e != TAO_OK || custody_find(h, id, sizeof id, out) == TAO_OK)
		return e;
	e = open_stub(h, stub, n, out);
	if (e != TAO_OK)
		return e;
	remember(h->custody, *out);
	if (atomic_load(&h->custody->deletions) == deletions)
		return TAO_OK;
	e = check_not_deleted(h, *out); /* while we opened it */
	if (e != TAO_OK) {
		custody_forget(h, (*out)->sealed->key_id.data, (*out)->sealed->generation + 1);
		held_key_release(*out);
		*out = NULL;
	}
	return e;
}

/* Lock held. */
static void forget_in(struct held_key **b, const uint8_t *key_id, uint32_t below)
{
	size_t to = 0;

	for (size_t w = 0; w < CACHE_WAYS && b[w] != NULL; w++) {
		struct held_key *k = b[w];

		b[w] = NULL;
		if (memcmp(k->sealed->key_id.data, key_id, SEALEDKEY_ID_LEN) == 0 &&
		    k->sealed->generation < below) {
			atomic_store(&k->gone, 1);
			held_key_release(k);
		} else {
			b[to++] = k;
		}
	}
}

void custody_forget(struct host *h, const uint8_t *key_id, uint32_t below)
{
	struct custody *c = h->custody;
	uint8_t id[SEALEDKEY_ID_LEN];

	memcpy(id, key_id, sizeof id); /* it may be a forgotten key's */
	atomic_fetch_add(&c->deletions, 1); /* who remembers a key from now on looks again */
	pthread_mutex_lock(&c->lock);
	for (size_t b = 0; b < CACHE_BUCKETS; b++)
		forget_in(c->cache[b], id, below);
	pthread_mutex_unlock(&c->lock);
}

void custody_sweep(struct custody *c, int64_t now)
{
	pthread_mutex_lock(&c->lock);
	for (size_t b = 0; b < CACHE_BUCKETS; b++)
		for (size_t w = 0; w < CACHE_WAYS && c->cache[b][w] != NULL; w++)
			shut_if_idle(c->cache[b][w], now);
	pthread_mutex_unlock(&c->lock);
}

/* ---- who may use it ---- */

static enum tao_err for_program(struct host *h, const struct held_key *k, struct instance *i)
{
	const Tao__SealedKey *s = k->sealed;
	enum tao_err e = instance_is_measured(i);

	if (e != TAO_OK)
		return e;
	if (i->uid != s->uid)
		return tao_fail(TAO_EWRONGPROG, "key %s is sealed for user %u, and this program "
		                "runs for user %u: make one for it with 'tao key new'", k->name,
		                s->uid, (unsigned)i->uid);
	if (s->has_program_hash && memcmp(s->program_hash.data, i->exe, sizeof i->exe) == 0)
		return TAO_OK;
	if (s->has_program_hash &&
	    domain_successor(h->domain, i->exe, s->program_hash.data) == TAO_OK)
		return TAO_OK;
	if (s->program != NULL && strcmp(s->program, i->program) == 0)
		return tao_fail(TAO_EWRONGPROG, "key %s is sealed for another program, the "
		                "executable that was at %s before: if this one is its upgrade, "
		                "'tao trust %s' lets it use its keys; else make one for it with "
		                "'tao key new'", k->name, i->program, i->program);
	return tao_fail(TAO_EWRONGPROG, "key %s is sealed for another program (%s), not for this "
	                "executable of %s: make one for it with 'tao key new NAME --for %s'",
	                k->name,
	                s->program != NULL ? s->program : "unknown", i->program, i->program);
}

static enum tao_err for_exact(struct host *h, const struct held_key *k, struct instance *i)
{
	(void)h;
	if (k->principal != NULL && tao_node_equal(k->principal, instance_name(i)))
		return TAO_OK;
	return tao_fail(TAO_EWRONGPROG, "key %s is sealed for one exact name, and this program's "
	                "is another: compare them with 'tao ps' and 'tao key list'", k->name);
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
	char label[sizeof KEY_LABEL + TAO_KEY_NAME_MAX];

	/* A label names a key of one user: another user's key of that name is another key. */
	if (k->sealed->uid != i->uid)
		return tao_fail(TAO_EWRONGPROG, "key %s is sealed for programs of user %u", k->name,
		                k->sealed->uid);
	snprintf(label, sizeof label, KEY_LABEL "%s", k->name);
	return domain_may_unseal(h->domain, instance_name(i), label);
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

	/* It may have been opened before its epoch was retired. */
	if (tao_sealer_check_epoch(&h->sealer, k->epoch) != TAO_OK)
		return tao_fail(TAO_EEXPIRED, "key %s: %s", k->name, tao_why());
	for (size_t n = 0; n < sizeof checks / sizeof checks[0]; n++)
		if (strcmp(k->sealed->policy, checks[n].policy) == 0)
			return checks[n].check(h, k, i);
	return tao_fail(TAO_EVERSION, "key %s has a seal policy that this version does not know: "
	                "upgrade taod", k->name);
}
