/*
 * Parameters: any OSSL_PARAM array, at every function of the provider's
 * dispatch tables that takes or fills one, in every order, with no host. The
 * provider is asked for its algorithms, so a new one is covered as it comes.
 *
 * An input is: one byte for the operation, one for the algorithm, one for how
 * its context begins; then steps, of one byte each, and what each needs. Within
 * a step, a list of parameters is: their number, and for each its name, type, size, a byte
 * of flags, and its data, which is repeated to fill it. Data lies in memory of exactly its size,
 * but for the NUL behind text, which OpenSSL's own code relies on.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/x509.h>

#include "../keymgmt/key.h"
#include "../provider/newer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEYS_MAX 16
#define PARAMS_MAX 8
#define NAME_ROOM 40
#define STEPS_MAX 24
#define BIG 70000 /* bytes of the largest parameter */

/* ---- the provider and its keys, once ---- */

struct key {
	const char *name; /* with other names behind ':' */
	struct opaque *private;
};

static struct {
	OSSL_LIB_CTX *ctx;
	OSSL_PROVIDER *tao;
	struct prov *prov;
	struct key keys[KEYS_MAX];
	size_t n_keys;
} world;

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx);

static int is_named(const char *names, const char *name)
{
	size_t n = strcspn(names, ":");

	return strlen(name) == n && strncmp(names, name, n) == 0;
}

static EVP_PKEY *make_key(const char *names)
{
	char name[NAME_ROOM];
	EVP_PKEY_CTX *c;
	EVP_PKEY *k = NULL;

	snprintf(name, sizeof name, "%.*s", (int)strcspn(names, ":"), names);
	c = EVP_PKEY_CTX_new_from_name(world.ctx, name, "provider=default");
	if (c != NULL && EVP_PKEY_keygen_init(c) > 0) {
		OSSL_PARAM group[] = {
			OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME,
			                                 (char *)"P-256", 0),
			OSSL_PARAM_END
		};

		if (strcmp(name, "EC") != 0 || EVP_PKEY_CTX_set_params(c, group) > 0)
			EVP_PKEY_generate(c, &k);
	}
	EVP_PKEY_CTX_free(c);
	return k;
}

static struct opaque *make_opaque(const char *names)
{
	struct tao_stub stub = { .name = "fuzz", .name_n = 4, .sealed = (const uint8_t *)"sealed",
	                         .sealed_n = 6 };
	struct tao_buf der = TAO_BUF_INIT;
	struct opaque *k = NULL;
	EVP_PKEY *real = make_key(names);
	uint8_t *spki = NULL;
	int n = real != NULL ? i2d_PUBKEY(real, &spki) : 0;

	if (n > 0) {
		stub.spki = spki;
		stub.spki_n = (size_t)n;
		tao_stub_encode(&stub, &der);
		if (opaque_from_stub(world.prov, der.p, der.n, &k) != TAO_OK)
			k = NULL;
	}
	OPENSSL_free(spki);
	EVP_PKEY_free(real);
	tao_buf_free(&der);
	return k;
}

static void make_world(void)
{
	const OSSL_ALGORITHM *a;
	int no_cache;

	setenv("TAO_SOCKET", "/nonexistent/tao.sock", 1);
	world.ctx = OSSL_LIB_CTX_new();
	OSSL_PROVIDER_add_builtin(world.ctx, "tao", OSSL_provider_init);
	if (OSSL_PROVIDER_load(world.ctx, "default") == NULL)
		abort();
	world.tao = OSSL_PROVIDER_load(world.ctx, "tao");
	if (world.tao == NULL)
		abort();
	world.prov = OSSL_PROVIDER_get0_provider_ctx(world.tao);
	a = OSSL_PROVIDER_query_operation(world.tao, OSSL_OP_KEYMGMT, &no_cache);
	for (; a->algorithm_names != NULL && world.n_keys < KEYS_MAX; a++) {
		world.keys[world.n_keys].name = a->algorithm_names;
		world.keys[world.n_keys++].private = make_opaque(a->algorithm_names);
	}
	ERR_clear_error();
}

static struct opaque *key_for(const char *algorithm)
{
	static const char *const of[][2] = {
		{ "ECDSA", "EC" }, { "ECDH", "EC" }, { "ECDSA-SHA2-256", "EC" },
		{ "ECDSA-SHA2-384", "EC" },
		{ "ECDSA-SHA2-512", "EC" }, { "RSA-SHA2-256", "RSA" }, { "RSA-SHA2-384", "RSA" },
		{ "RSA-SHA2-512", "RSA" },
	};

	for (size_t i = 0; i < sizeof of / sizeof of[0]; i++)
		if (is_named(algorithm, of[i][0]))
			algorithm = of[i][1];
	for (size_t i = 0; i < world.n_keys; i++) {
		char name[NAME_ROOM];

		snprintf(name, sizeof name, "%.*s", (int)strcspn(algorithm, ":"), algorithm);
		if (is_named(world.keys[i].name, name))
			return world.keys[i].private;
	}
	return NULL;
}

/* ---- parameters from the input ---- */

struct params {
	OSSL_PARAM list[PARAMS_MAX + 1];
	char names[PARAMS_MAX][NAME_ROOM];
	void *data[PARAMS_MAX], *behind[PARAMS_MAX]; /* behind: what a pointer points to */
	size_t n;
};

/* Names that no table lists where they are taken, and some that nobody knows. */
static const char *const other_names[] = {
	"digest", "properties", "pad-mode", "saltlen", "mgf1-digest", "oaep-label",
	"tls-client-version",
	"group", "pub", "priv", "n", "e", "d", "label", "info", "policy", "size", "tao-name",
	"expect",
	"subject", "issuer", "serial", "fingerprint", "alias", "strength", "state", "max_request",
	"nobody", "", "cipher",
};

/* Values that mean something somewhere. */
static const char *const words[] = {
	"SHA256", "SHA2-512", "SHA1", "oaep", "pss", "pkcs1", "none", "digest", "auto", "max",
	"X963KDF",
	"", "P-256", "secp384r1", "tls", "host", "program", "exact", "web", "AES-256-CBC",
};

static const char *choose_name(struct tao_rd *in, const OSSL_PARAM *table, char own[NAME_ROOM])
{
	size_t known = 0, k = tao_rd_u8(in), n;
	const uint8_t *p;

	while (table != NULL && table[known].key != NULL)
		known++;
	if (k < 0xa0 && known > 0)
		return table[k % known].key;
	if (k != 0xff)
		return other_names[k % (sizeof other_names / sizeof other_names[0])];
	n = tao_rd_u8(in) % NAME_ROOM;
	p = tao_rd_bytes(in, n);
	own[0] = 0;
	if (p != NULL && n > 0) {
		memcpy(own, p, n);
		own[n] = 0;
	}
	return own;
}

static unsigned choose_type(uint8_t t, const OSSL_PARAM *table, const char *name)
{
	static const unsigned types[] = {
		OSSL_PARAM_INTEGER, OSSL_PARAM_UNSIGNED_INTEGER, OSSL_PARAM_REAL, OSSL_PARAM_UTF8_STRING,
		OSSL_PARAM_OCTET_STRING, OSSL_PARAM_UTF8_PTR, OSSL_PARAM_OCTET_PTR, 77,
	};
	const OSSL_PARAM *q = t >= 8 && table != NULL ? OSSL_PARAM_locate_const(table, name) : NULL;

	return q != NULL ? q->data_type : types[t % 8];
}

/* n bytes of the input, repeated; with a NUL behind them. */
static void *fill(struct tao_rd *in, size_t n, int nul)
{
	uint8_t *to = malloc(n + (size_t)nul + (n + (size_t)nul == 0));
	size_t given = n < 32 ? n : tao_rd_u8(in), i;
	const uint8_t *from;

	if (given > in->n)
		given = in->n;
	if (to == NULL)
		abort();
	from = tao_rd_bytes(in, given);
	for (i = 0; i < n; i++)
		to[i] = given > 0 ? from[i % given] : 0;
	if (nul)
		to[n] = 0;
	return to;
}

static void add_param(struct params *ps, struct tao_rd *in, const OSSL_PARAM *table)
{
	size_t i = ps->n++, size;
	OSSL_PARAM *q = &ps->list[i];
	uint8_t flags;
	int is_pointer, is_text;

	q->key = choose_name(in, table, ps->names[i]);
	q->data_type = choose_type(tao_rd_u8(in), table, q->key);
	size = tao_rd_u8(in);
	if (size >= 0xf0)
		size = size == 0xff ? BIG : (size - 0xef) * 300;
	flags = tao_rd_u8(in);
	is_pointer = q->data_type == OSSL_PARAM_UTF8_PTR || q->data_type == OSSL_PARAM_OCTET_PTR;
	is_text = q->data_type == OSSL_PARAM_UTF8_STRING || q->data_type == OSSL_PARAM_UTF8_PTR;
	q->data_size = size;
	q->return_size = OSSL_PARAM_UNMODIFIED;
	if (flags & 1)
		return; /* NULL data, of some size */
	if (flags & 4) {
		const char *word = words[size % (sizeof words / sizeof words[0])];

		ps->data[i] = strdup(word);
		q->data_size = strlen(word);
	} else {
		ps->data[i] = fill(in, size, is_text);
	}
	q->data = ps->data[i];
	if (is_pointer) {
		ps->behind[i] = flags & 2 ? NULL : ps->data[i];
		q->data = &ps->behind[i];
	}
}

/* NULL for "no list at all". */
static OSSL_PARAM *read_params(struct params *ps, struct tao_rd *in, const OSSL_PARAM *table)
{
	size_t n = tao_rd_u8(in);

	memset(ps, 0, sizeof *ps);
	if (n == 0xff)
		return NULL;
	for (n %= PARAMS_MAX + 1; n > 0; n--)
		add_param(ps, in, table);
	ps->list[ps->n].key = NULL;
	return ps->list;
}

static void free_params(struct params *ps)
{
	for (size_t i = 0; i < ps->n; i++)
		free(ps->data[i]);
}

static void look(const void *p, size_t n)
{
	volatile uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum ^= ((const uint8_t *)p)[i];
	(void)sum;
}

/* What was filled fits, and what was pointed to can be read. */
static void check_filled(const struct params *ps)
{
	for (size_t i = 0; i < ps->n; i++) {
		const OSSL_PARAM *q = &ps->list[i];

		if (q->data == NULL || q->return_size == OSSL_PARAM_UNMODIFIED)
			continue;
		if (q->data_type == OSSL_PARAM_UTF8_PTR || q->data_type == OSSL_PARAM_OCTET_PTR) {
			if (ps->behind[i] != NULL && ps->behind[i] != ps->data[i])
				look(ps->behind[i], q->return_size);
		} else if (q->return_size > q->data_size) {
			abort();
		}
	}
}

/* ---- one context ---- */

struct shape;

struct run {
	const struct shape *shape;
	const OSSL_DISPATCH *fns;
	const char *algorithm;
	struct opaque *key;
	struct tao_rd in;
	void *ctx;
	int begun;               /* by which function last, as libcrypto sees to it; 0: by none */
	const OSSL_PARAM *table; /* what it says that it takes or tells */
};

/* Where an operation's functions stand; 0: it has none. */
struct shape {
	int op, free, dup, get, gettable, set, settable, get_more, set_more;
	int tables_are_providers; /* their functions want no context */
	void *(*make)(struct run *r);
	void (*use)(struct run *r, uint8_t step);
};

typedef int get_fn(void *ctx, OSSL_PARAM params[]);
typedef int set_fn(void *ctx, const OSSL_PARAM params[]);
typedef const OSSL_PARAM *table_fn(void *ctx, void *provctx);
typedef const OSSL_PARAM *providers_table_fn(void *provctx);

static void (*find(const struct run *r, int id))(void)
{
	for (const OSSL_DISPATCH *d = r->fns; id != 0 && d->function_id != 0; d++)
		if (d->function_id == id)
			return d->function;
	return NULL;
}

/* Declares f, the function if there is one. */
#define FN(type, f, id) type *f = (type *)find(r, id)

static void learn_table(struct run *r, int id)
{
	FN(table_fn, table, id);
	FN(providers_table_fn, providers_table, id);

	if (table == NULL)
		return;
	r->table = r->shape->tables_are_providers ? providers_table(world.prov)
	                                          : table(r->ctx, world.prov);
}

/* libcrypto's own functions crash where a REAL without data is asked for. */
static int has_bare_real(const struct params *ps)
{
	for (size_t i = 0; i < ps->n; i++)
		if (ps->list[i].data_type == OSSL_PARAM_REAL && ps->list[i].data == NULL)
			return 1;
	return 0;
}

static void get(struct run *r, int id)
{
	struct params ps;
	OSSL_PARAM *list = read_params(&ps, &r->in, r->table);
	FN(get_fn, fn, id);

	if (fn != NULL && list != NULL && !has_bare_real(&ps) && fn(r->ctx, list))
		check_filled(&ps);
	free_params(&ps);
}

static void set(struct run *r, int id)
{
	struct params ps;
	OSSL_PARAM *list = read_params(&ps, &r->in, r->table);
	FN(set_fn, fn, id);

	if (fn != NULL)
		fn(r->ctx, list);
	free_params(&ps);
}

/* ---- what differs between operations ---- */

#define ROOM 600 /* bytes for what operations make */

static void *make_plain(struct run *r)
{
	FN(OSSL_FUNC_kdf_newctx_fn, fn, 1);

	return fn(world.prov);
}

static void *make_signature(struct run *r)
{
	FN(OSSL_FUNC_signature_newctx_fn, fn, OSSL_FUNC_SIGNATURE_NEWCTX);

	return fn(world.prov, NULL);
}

static void *make_rand(struct run *r)
{
	FN(OSSL_FUNC_rand_newctx_fn, fn, OSSL_FUNC_RAND_NEWCTX);

	return fn(world.prov, NULL, NULL);
}

static void *make_store(struct run *r)
{
	static const char *const uris[] = { "tao:", "tao:web", "tao:ca", "tao:web/cert", "tao:?" };
	FN(OSSL_FUNC_store_open_fn, fn, OSSL_FUNC_STORE_OPEN);

	return fn(world.prov, uris[tao_rd_u8(&r->in) % 5]);
}

/* With parameters of the input; the same form in every operation. */
static void begin(struct run *r, int id)
{
	typedef int init_fn(void *ctx, void *key, const OSSL_PARAM params[]);
	struct params ps;
	OSSL_PARAM *list = read_params(&ps, &r->in, r->table);
	FN(init_fn, fn, id);

	r->begun = fn != NULL && r->key != NULL && fn(r->ctx, r->key, list) > 0 ? id : 0;
	free_params(&ps);
}

static void begin_digest(struct run *r, int id)
{
	static const char *const digests[] = { NULL, "", "SHA256", "SHA512", "SHA1", "nobody's" };
	struct params ps;
	const char *digest = digests[tao_rd_u8(&r->in) % 6];
	OSSL_PARAM *list = read_params(&ps, &r->in, r->table);
	FN(OSSL_FUNC_signature_digest_sign_init_fn, fn, id);

	r->begun = fn != NULL && r->key != NULL && fn(r->ctx, digest, r->key, list) > 0 ? id : 0;
	free_params(&ps);
}

static const int signature_inits[] = {
	OSSL_FUNC_SIGNATURE_SIGN_INIT, OSSL_FUNC_SIGNATURE_VERIFY_INIT,
	OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT, OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT,
	OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT,
};

static void go_on(struct run *r, const uint8_t *message, size_t size)
{
	FN(OSSL_FUNC_signature_digest_sign_update_fn, update,
	   OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE);
	FN(OSSL_FUNC_signature_sign_message_update_fn, more,
	   OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE);
	FN(OSSL_FUNC_signature_verify_message_final_fn, end,
	   OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL);

	if (r->begun == OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT && update != NULL)
		update(r->ctx, message, size);
	if (r->begun == OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT && more != NULL)
		more(r->ctx, message, size);
	if (r->begun == OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT && end != NULL)
		end(r->ctx);
}

static void use_signature(struct run *r, uint8_t step)
{
	uint8_t out[ROOM], message[64] = { 0 };
	size_t n = 0, size = tao_rd_u8(&r->in) % sizeof message;
	FN(OSSL_FUNC_signature_digest_sign_fn, digest_sign, OSSL_FUNC_SIGNATURE_DIGEST_SIGN);
	FN(OSSL_FUNC_signature_sign_fn, sign, OSSL_FUNC_SIGNATURE_SIGN);

	switch (step % 6) {
	case 0: begin(r, signature_inits[tao_rd_u8(&r->in) % 5]); break;
	case 1: begin_digest(r, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT); break;
	case 2: begin_digest(r, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT); break;
	case 3:
		if ((r->begun == OSSL_FUNC_SIGNATURE_SIGN_INIT ||
		     r->begun == OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT) && sign != NULL)
			sign(r->ctx, out, &n, sizeof out, message, size);
		if (r->begun == OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT && digest_sign != NULL)
			digest_sign(r->ctx, out, &n, sizeof out, message, size);
		break;
	case 4: go_on(r, message, size); break;
	default: learn_table(r, OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS);
	}
}

static void use_cipher(struct run *r, uint8_t step)
{
	uint8_t out[ROOM], in[256] = { 1 };
	size_t n = sizeof out;
	FN(OSSL_FUNC_asym_cipher_decrypt_fn, decrypt, OSSL_FUNC_ASYM_CIPHER_DECRYPT);
	FN(OSSL_FUNC_asym_cipher_encrypt_fn, encrypt, OSSL_FUNC_ASYM_CIPHER_ENCRYPT);

	switch (step % 3) {
	case 0: begin(r, OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT); break;
	case 1: begin(r, OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT); break;
	default:
		if (r->begun == OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT)
			decrypt(r->ctx, out, &n, sizeof out, in, sizeof in);
		else if (r->begun != 0)
			encrypt(r->ctx, out, &n, sizeof out, in, tao_rd_u8(&r->in));
	}
}

/* Without a key, which only a host gives. */
static void use_symmetric(struct run *r, uint8_t step)
{
	static const int inits[] = { OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT,
	                             OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT };
	uint8_t out[ROOM], in[64] = { 0 };
	size_t n = 0;
	struct params ps;
	OSSL_PARAM *list;
	FN(OSSL_FUNC_cipher_update_fn, update, OSSL_FUNC_CIPHER_UPDATE);
	FN(OSSL_FUNC_cipher_final_fn, final, OSSL_FUNC_CIPHER_FINAL);
	FN(OSSL_FUNC_cipher_encrypt_skey_init_fn, init, inits[step % 2]);

	switch (step / 2 % 3) {
	case 0:
		list = read_params(&ps, &r->in, r->table);
		init(r->ctx, NULL, step & 8 ? in : NULL, step & 8 ? sizeof in : 0, list);
		free_params(&ps);
		break;
	case 1: update(r->ctx, step & 8 ? out : NULL, &n, sizeof out, in, sizeof in); break;
	default: final(r->ctx, out, &n, sizeof out);
	}
}

/* There is never a key: the host is not there. */
static void *make_skey(struct run *r)
{
	struct params ps;
	OSSL_PARAM *list = read_params(&ps, &r->in, NULL);
	FN(OSSL_FUNC_skeymgmt_import_fn, import_skey, OSSL_FUNC_SKEYMGMT_IMPORT);

	if (list != NULL && import_skey(world.prov, 0, list) != NULL)
		abort();
	free_params(&ps);
	return NULL;
}

static void use_exchange(struct run *r, uint8_t step)
{
	uint8_t out[ROOM];
	size_t n = sizeof out;
	FN(OSSL_FUNC_keyexch_set_peer_fn, set_peer, OSSL_FUNC_KEYEXCH_SET_PEER);
	FN(OSSL_FUNC_keyexch_derive_fn, derive, OSSL_FUNC_KEYEXCH_DERIVE);

	switch (step % 3) {
	case 0: begin(r, OSSL_FUNC_KEYEXCH_INIT); break;
	case 1: set_peer(r->ctx, r->key); break;
	default:
		if (r->begun != 0)
			derive(r->ctx, out, &n, sizeof out);
	}
}

static void use_kem(struct run *r, uint8_t step)
{
	static const int inits[] = { OSSL_FUNC_KEM_ENCAPSULATE_INIT,
	                             OSSL_FUNC_KEM_DECAPSULATE_INIT };

	begin(r, inits[step % 2]);
}

static void use_kdf(struct run *r, uint8_t step)
{
	uint8_t out[ROOM];
	struct params ps;
	OSSL_PARAM *list = read_params(&ps, &r->in, r->table);
	FN(OSSL_FUNC_kdf_derive_fn, derive, OSSL_FUNC_KDF_DERIVE);
	FN(OSSL_FUNC_kdf_reset_fn, reset, OSSL_FUNC_KDF_RESET);

	if (step % 2 == 0)
		derive(r->ctx, out, tao_rd_u8(&r->in), list);
	else
		reset(r->ctx);
	free_params(&ps);
}

static void use_rand(struct run *r, uint8_t step)
{
	uint8_t out[ROOM], *seed = NULL;
	size_t n;
	FN(OSSL_FUNC_rand_instantiate_fn, instantiate, OSSL_FUNC_RAND_INSTANTIATE);
	FN(OSSL_FUNC_rand_generate_fn, generate, OSSL_FUNC_RAND_GENERATE);
	FN(OSSL_FUNC_rand_get_seed_fn, get_seed, OSSL_FUNC_RAND_GET_SEED);
	FN(OSSL_FUNC_rand_clear_seed_fn, clear_seed, OSSL_FUNC_RAND_CLEAR_SEED);

	switch (step % 3) {
	case 0: instantiate(r->ctx, 256, 0, NULL, 0, NULL); break;
	case 1: generate(r->ctx, out, tao_rd_u8(&r->in), tao_rd_u8(&r->in), 0, NULL, 0); break;
	default:
		n = get_seed(r->ctx, &seed, tao_rd_u8(&r->in) * 4 - 100, tao_rd_u8(&r->in),
		             tao_rd_u8(&r->in) * 30u, 0, NULL, 0);
		clear_seed(r->ctx, seed, n);
	}
}

static int nothing_given(const OSSL_PARAM params[], void *arg)
{
	(void)params;
	(void)arg;
	return 0;
}

static void use_store(struct run *r, uint8_t step)
{
	FN(OSSL_FUNC_store_load_fn, load, OSSL_FUNC_STORE_LOAD);
	FN(OSSL_FUNC_store_eof_fn, eof, OSSL_FUNC_STORE_EOF);

	if (step % 2 == 0)
		load(r->ctx, nothing_given, NULL, NULL, NULL);
	else
		eof(r->ctx);
}

/* ---- keys ---- */

static void *make_keydata(struct run *r)
{
	FN(OSSL_FUNC_keymgmt_new_fn, fn, OSSL_FUNC_KEYMGMT_NEW);

	r->key = key_for(r->algorithm);
	if (tao_rd_u8(&r->in) % 2 == 0 && r->key != NULL)
		return opaque_up_ref(r->key);
	return fn != NULL ? fn(world.prov) : NULL;
}

static int selection(struct run *r)
{
	static const int parts[] = {
		OSSL_KEYMGMT_SELECT_PRIVATE_KEY, OSSL_KEYMGMT_SELECT_PUBLIC_KEY,
		OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS, OSSL_KEYMGMT_SELECT_OTHER_PARAMETERS,
	};
	uint8_t bits = tao_rd_u8(&r->in);
	int what = 0;

	for (int i = 0; i < 4; i++)
		what |= bits >> i & 1 ? parts[i] : 0;
	return what;
}

static void import(struct run *r)
{
	struct params ps;
	int what = selection(r);
	FN(OSSL_FUNC_keymgmt_import_types_fn, types, OSSL_FUNC_KEYMGMT_IMPORT_TYPES);
	FN(OSSL_FUNC_keymgmt_import_fn, fn, OSSL_FUNC_KEYMGMT_IMPORT);
	OSSL_PARAM *list = read_params(&ps, &r->in, types != NULL ? types(what) : r->table);

	/* OpenSSL imports into new keys only. */
	if (fn != NULL && list != NULL && r->ctx != (void *)r->key)
		fn(r->ctx, what, list);
	free_params(&ps);
}

static void generate(struct run *r)
{
	struct params ps, more;
	FN(OSSL_FUNC_keymgmt_gen_init_fn, init, OSSL_FUNC_KEYMGMT_GEN_INIT);
	FN(OSSL_FUNC_keymgmt_gen_settable_params_fn, table, OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS);
	FN(OSSL_FUNC_keymgmt_gen_set_params_fn, set_params, OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS);
	FN(OSSL_FUNC_keymgmt_gen_set_template_fn, templ, OSSL_FUNC_KEYMGMT_GEN_SET_TEMPLATE);
	FN(OSSL_FUNC_keymgmt_gen_fn, gen, OSSL_FUNC_KEYMGMT_GEN);
	FN(OSSL_FUNC_keymgmt_gen_cleanup_fn, cleanup, OSSL_FUNC_KEYMGMT_GEN_CLEANUP);
	FN(OSSL_FUNC_keymgmt_free_fn, free_key, OSSL_FUNC_KEYMGMT_FREE);
	const OSSL_PARAM *settable = table != NULL ? table(NULL, world.prov) : NULL;
	int what = selection(r);
	OSSL_PARAM *first = read_params(&ps, &r->in, settable);
	OSSL_PARAM *second = read_params(&more, &r->in, settable);
	void *ctx = init != NULL ? init(world.prov, what, first) : NULL;

	if (ctx != NULL && set_params != NULL && second != NULL)
		set_params(ctx, second);
	if (ctx != NULL && templ != NULL && r->key != NULL && what % 2)
		templ(ctx, r->key);
	if (ctx != NULL && gen != NULL)
		free_key(gen(ctx, NULL, NULL));
	if (ctx != NULL)
		cleanup(ctx);
	free_params(&ps);
	free_params(&more);
}

static void use_keydata(struct run *r, uint8_t step)
{
	void *twin;
	FN(OSSL_FUNC_keymgmt_has_fn, has, OSSL_FUNC_KEYMGMT_HAS);
	FN(OSSL_FUNC_keymgmt_match_fn, match, OSSL_FUNC_KEYMGMT_MATCH);
	FN(OSSL_FUNC_keymgmt_export_fn, export, OSSL_FUNC_KEYMGMT_EXPORT);
	FN(OSSL_FUNC_keymgmt_dup_fn, dup, OSSL_FUNC_KEYMGMT_DUP);
	FN(OSSL_FUNC_keymgmt_free_fn, free_key, OSSL_FUNC_KEYMGMT_FREE);
	FN(OSSL_FUNC_keymgmt_validate_fn, validate, OSSL_FUNC_KEYMGMT_VALIDATE);

	switch (step % 7) {
	case 0: import(r); break;
	case 1: generate(r); break;
	case 2: has(r->ctx, selection(r)); break;
	case 3: match(r->ctx, r->key != NULL ? r->key : r->ctx, selection(r)); break;
	case 4:
		if (export != NULL)
			export(r->ctx, selection(r), nothing_given, NULL);
		break;
	case 5:
		if (validate != NULL)
			validate(r->ctx, selection(r), 0);
		break;
	default:
		twin = dup(r->ctx, selection(r));
		if (twin != NULL)
			free_key(twin);
	}
}

/* ---- every operation ---- */

#define FNS(op, c) \
	OSSL_FUNC_##op##_FREECTX, OSSL_FUNC_##op##_DUPCTX, OSSL_FUNC_##op##_GET_##c##PARAMS, \
	OSSL_FUNC_##op##_GETTABLE_##c##PARAMS, OSSL_FUNC_##op##_SET_##c##PARAMS, \
	OSSL_FUNC_##op##_SETTABLE_##c##PARAMS

static const struct shape shapes[] = {
	{ OSSL_OP_SIGNATURE, FNS(SIGNATURE, CTX_), OSSL_FUNC_SIGNATURE_GET_CTX_MD_PARAMS,
	  OSSL_FUNC_SIGNATURE_SET_CTX_MD_PARAMS, 0, make_signature, use_signature },
	{ OSSL_OP_ASYM_CIPHER, FNS(ASYM_CIPHER, CTX_), 0, 0, 0, make_plain, use_cipher },
	{ OSSL_OP_KEYEXCH, FNS(KEYEXCH, CTX_), 0, 0, 0, make_plain, use_exchange },
	{ OSSL_OP_KEM, FNS(KEM, CTX_), 0, 0, 0, make_plain, use_kem },
	{ OSSL_OP_KDF, FNS(KDF, CTX_), 0, 0, 0, make_plain, use_kdf },
	{ OSSL_OP_RAND, OSSL_FUNC_RAND_FREECTX, 0, OSSL_FUNC_RAND_GET_CTX_PARAMS,
	  OSSL_FUNC_RAND_GETTABLE_CTX_PARAMS, OSSL_FUNC_RAND_SET_CTX_PARAMS,
	  OSSL_FUNC_RAND_SETTABLE_CTX_PARAMS, 0, 0, 0, make_rand, use_rand },
	{ OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_FREECTX, 0, OSSL_FUNC_ENCODER_GET_PARAMS,
	  OSSL_FUNC_ENCODER_GETTABLE_PARAMS, OSSL_FUNC_ENCODER_SET_CTX_PARAMS,
	  OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS, 0, 0, 1, make_plain, NULL },
	{ OSSL_OP_STORE, OSSL_FUNC_STORE_CLOSE, 0, 0, 0, OSSL_FUNC_STORE_SET_CTX_PARAMS,
	  OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, 0, 0, 1, make_store, use_store },
	{ OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_FREE, 0, OSSL_FUNC_KEYMGMT_GET_PARAMS,
	  OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, OSSL_FUNC_KEYMGMT_SET_PARAMS,
	  OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, 0, 0, 1, make_keydata, use_keydata },
	{ OSSL_OP_CIPHER, FNS(CIPHER, CTX_), 0, 0, 0, make_plain, use_symmetric },
	{ OSSL_OP_SKEYMGMT, OSSL_FUNC_SKEYMGMT_FREE, 0, 0, 0, 0, 0, 0, 0, 0, make_skey, NULL },
};

static void duplicate(struct run *r)
{
	FN(OSSL_FUNC_kdf_dupctx_fn, dup, r->shape->dup);
	FN(OSSL_FUNC_kdf_freectx_fn, free_ctx, r->shape->free);
	void *twin = dup != NULL ? dup(r->ctx) : NULL;

	if (twin == NULL)
		return;
	free_ctx(r->ctx);
	r->ctx = twin;
}

static void step(struct run *r)
{
	uint8_t what = tao_rd_u8(&r->in);

	switch (what % 8) {
	case 0: learn_table(r, r->shape->gettable); get(r, r->shape->get); break;
	case 1: learn_table(r, r->shape->settable); set(r, r->shape->set); break;
	case 2: get(r, r->shape->get_more); break;
	case 3: set(r, r->shape->set_more); break;
	case 4: duplicate(r); break;
	default:
		if (r->shape->use != NULL)
			r->shape->use(r, what / 8);
	}
}

static const OSSL_ALGORITHM *choose_algorithm(int op, uint8_t which)
{
	int no_cache;
	size_t n = 0;
	const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(world.tao, op, &no_cache);

	while (a != NULL && a[n].algorithm_names != NULL)
		n++;
	return n > 0 ? &a[which % n] : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .in = tao_rd_of(data, size) }, *r = &run;
	const OSSL_ALGORITHM *a;

	if (world.tao == NULL)
		make_world();
	r->shape = &shapes[tao_rd_u8(&r->in) % (sizeof shapes / sizeof shapes[0])];
	a = choose_algorithm(r->shape->op, tao_rd_u8(&r->in));
	if (a == NULL)
		return 0;
	r->fns = a->implementation;
	r->algorithm = a->algorithm_names;
	r->key = key_for(r->algorithm);
	r->ctx = r->shape->make(r);
	for (int i = 0; r->ctx != NULL && i < STEPS_MAX && r->in.n > 0; i++)
		step(r);
	if (r->ctx != NULL) {
		FN(OSSL_FUNC_kdf_freectx_fn, free_ctx, r->shape->free);

		free_ctx(r->ctx);
	}
	ERR_clear_error();
	return 0;
}
