#include "key.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/x509.h>

#define SELECT_PUBLIC (OSSL_KEYMGMT_SELECT_PUBLIC_KEY | OSSL_KEYMGMT_SELECT_ALL_PARAMETERS)

static const struct keytype *const keytypes[] = {
	&keytype_ec, &keytype_rsa, &keytype_rsa_pss, &keytype_ed25519, &keytype_x25519,
	&keytype_mldsa44, &keytype_mldsa65, &keytype_mldsa87,
};

/* ---- life ---- */

struct opaque *opaque_new(struct prov *p, const struct keytype *type)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct opaque *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	atomic_init(&k->refs, 1);
	k->prov = p;
	k->type = type;
	k->der = empty;
	return k;
}

struct opaque *opaque_up_ref(struct opaque *k)
{
	atomic_fetch_add(&k->refs, 1);
	return k;
}

void opaque_free(struct opaque *k)
{
	struct opaque_id *id;

	if (k == NULL || atomic_fetch_sub(&k->refs, 1) > 1)
		return;
	prov_outlive_cleanup(k->prov);
	id = atomic_load(&k->id);
	while (id != NULL) {
		struct opaque_id *older = id->older;

		free(id);
		id = older;
	}
	EVP_PKEY_free(k->pub);
	EVP_PKEY_free(atomic_load(&k->priv));
	tao_buf_free(&k->der);
	free(k);
}

int opaque_is_private(const struct opaque *k)
{
	return k->der.n > 0;
}

/* ---- making ---- */

static int group_known(const struct keytype *type, EVP_PKEY *pub)
{
	char group[OPAQUE_GROUP_MAX];

	if (type->groups == NULL)
		return 1;
	if (!EVP_PKEY_get_group_name(pub, group, sizeof group, NULL))
		return 0;
	for (const char *const *g = type->groups; *g != NULL; g++) {
		if (strcmp(*g, group) == 0)
			return 1;
	}
	return 0;
}

static const struct keytype *type_of(EVP_PKEY *pub)
{
	for (size_t i = 0; i < sizeof keytypes / sizeof keytypes[0]; i++) {
		if (EVP_PKEY_is_a(pub, keytypes[i]->name) && group_known(keytypes[i], pub))
			return keytypes[i];
	}
	return NULL;
}

static enum tao_err read_public(struct prov *p, const struct tao_stub *stub, EVP_PKEY **pub,
                                const struct keytype **type)
{
	const uint8_t *at = stub->spki;

	ERR_set_mark();
	*pub = d2i_PUBKEY_ex(NULL, &at, (long)stub->spki_n, p->inner->libctx, NULL);
	*type = *pub != NULL ? type_of(*pub) : NULL;
	ERR_pop_to_mark();
	if (*pub == NULL || at != stub->spki + stub->spki_n)
		return tao_fail(TAO_EFORMAT, "the public key in the stub of key %.*s is damaged, "
		                "or of a type that this OpenSSL lacks: write it again with 'tao "
		                "key pem'", (int)stub->name_n, stub->name);
	if (*type == NULL)
		return tao_fail(TAO_EVERSION, "key %.*s is of a type that this tao.so does not "
		                "know: upgrade it", (int)stub->name_n, stub->name);
	return TAO_OK;
}

static enum tao_err publish_own_id(struct opaque *k)
{
	uint8_t id[REPLY_ID_LEN];
	enum tao_err e = prov_sha256(k->prov, k->der.p, k->der.n, id);

	return e == TAO_OK ? opaque_publish_id(k, id) : e;
}

enum tao_err opaque_from_stub(struct prov *p, const void *der, size_t n, struct opaque **out)
{
	struct opaque *k = opaque_new(p, NULL);
	enum tao_err e;

	*out = NULL;
	if (k == NULL)
		return tao_fail_nomem();
	tao_buf_put(&k->der, der, n);
	e = tao_buf_err(&k->der);
	if (e == TAO_OK)
		e = tao_stub_parse(k->der.p, k->der.n, &k->stub);
	if (e == TAO_OK)
		e = read_public(p, &k->stub, &k->pub, &k->type);
	if (e != TAO_OK)
		goto out;
	k->has_pub = 1;
	memcpy(k->name, k->stub.name, k->stub.name_n);
	if (k->stub.sealed != NULL)
		e = publish_own_id(k);
	if (e == TAO_OK)
		prov_keep_door(p);
out:
	if (e == TAO_OK)
		*out = k;
	else
		opaque_free(k);
	return e;
}

enum tao_err opaque_from_host(struct prov *p, const char *name, struct opaque **out)
{
	struct reply r = { .m = NULL };
	enum tao_err e = opaque_ask_by_name(p, name, &r, REPLY_STUB);

	*out = NULL;
	if (e == TAO_OK)
		e = opaque_from_stub(p, r.key->stub.data, r.key->stub.len, out);
	if (e == TAO_OK && strcmp((*out)->name, name) != 0) {
		opaque_free(*out);
		*out = NULL;
		e = tao_fail(TAO_EPROTO, "the Tao host gave another key than %s: see 'tao status'",
		             name);
	}
	if (e == TAO_OK)
		e = opaque_take_private(*out, r.key);
	if (e != TAO_OK) {
		opaque_free(*out);
		*out = NULL;
	}
	reply_free(&r);
	return e;
}

/* Only what EVP_PKEY_export() selected arrives here. */
static int take_params(const OSSL_PARAM params[], void *arg)
{
	OSSL_PARAM **copy = arg;

	*copy = OSSL_PARAM_dup(params);
	return *copy != NULL;
}

/* The EVP_PKEY of params in the inner context; NULL if they do not make one. */
static EVP_PKEY *from_params(struct prov *p, const char *type, int selection,
                             const OSSL_PARAM params[])
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(p->inner->libctx, type, NULL);
	EVP_PKEY *pub = NULL;

	if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) <= 0 ||
	    EVP_PKEY_fromdata(ctx, &pub, selection, (OSSL_PARAM *)params) <= 0)
		pub = NULL;
	EVP_PKEY_CTX_free(ctx);
	return pub;
}

static int import_public(struct opaque *k, int selection, const OSSL_PARAM params[])
{
	selection &= SELECT_PUBLIC;
	ERR_set_mark();
	k->pub = from_params(k->prov, k->type->name, selection, params);
	ERR_pop_to_mark();
	k->has_pub = k->pub != NULL && (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 &&
	             OSSL_PARAM_locate_const(params, k->type->public_param) != NULL;
	return k->pub != NULL;
}

enum tao_err opaque_public(struct opaque *k, int selection, struct opaque **out)
{
	struct opaque *copy = opaque_new(k->prov, k->type);
	OSSL_PARAM *params = NULL;
	int good = copy != NULL;

	ERR_set_mark();
	if (good && k->pub != NULL)
		good = EVP_PKEY_export(k->pub, selection & SELECT_PUBLIC, take_params, &params) &&
		       import_public(copy, selection, params);
	ERR_pop_to_mark();
	OSSL_PARAM_free(params);
	if (!good) {
		opaque_free(copy);
		copy = NULL;
	}
	*out = copy;
	return good ? TAO_OK : tao_fail(TAO_ECRYPTO, "libcrypto could not copy a public key");
}

/* ---- key management that is the same for every type ---- */

void *opaque_load_fn(const void *reference, size_t n)
{
	struct opaque **from = (struct opaque **)reference, *k;

	if (n != sizeof k)
		return NULL;
	k = *from;
	*from = NULL;
	return k;
}

void opaque_free_fn(void *keydata)
{
	opaque_free(keydata);
}

int opaque_has_fn(const void *keydata, int selection)
{
	const struct opaque *k = keydata;

	if (k == NULL || k->pub == NULL)
		return 0;
	if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && !opaque_is_private(k))
		return 0;
	return !(selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) || k->has_pub;
}

int opaque_match_fn(const void *keydata1, const void *keydata2, int selection)
{
	const struct opaque *a = keydata1, *b = keydata2;
	int same;

	if (a->pub == NULL || b->pub == NULL)
		return 0;
	ERR_set_mark();
	/* Equal public halves are the only proof of equal private ones. */
	if (selection & OSSL_KEYMGMT_SELECT_KEYPAIR)
		same = a->has_pub && b->has_pub && EVP_PKEY_eq(a->pub, b->pub) == 1;
	else
		same = EVP_PKEY_parameters_eq(a->pub, b->pub) == 1;
	ERR_pop_to_mark();
	return same;
}

static int check_public(const struct opaque *k, int type)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(k->prov->inner->libctx, k->pub, NULL);
	int good;

	if (type == OSSL_KEYMGMT_VALIDATE_QUICK_CHECK)
		good = ctx != NULL && EVP_PKEY_public_check_quick(ctx) == 1;
	else
		good = ctx != NULL && EVP_PKEY_public_check(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	return good;
}

/* The host recomputes the public key whenever it opens a stub, so asking for
 * that is the pairwise check. */
int opaque_validate_fn(const void *keydata, int selection, int checktype)
{
	struct opaque *k = (struct opaque *)keydata;
	int good = 1;

	if (!opaque_has_fn(k, selection))
		return 0;
	if (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) {
		ERR_set_mark();
		good = check_public(k, checktype);
		ERR_pop_to_mark();
	}
	if (good && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)) {
		enum tao_err e = opaque_open(k);

		if (e != TAO_OK)
			good = prov_raise(k->prov, e);
	}
	return good;
}

int opaque_import_fn(void *keydata, int selection, const OSSL_PARAM params[])
{
	struct opaque *k = keydata;

	if (k->pub != NULL)
		return 0;
	/* Taking only the public half would make OpenSSL believe that we can sign. */
	if (OSSL_PARAM_locate_const(params, k->type->private_param) != NULL)
		return prov_raise_reason(k->prov, PROV_RIMPORT);
	return prov_params_whole(k->prov, params) && import_public(k, selection, params);
}

/* Succeeding with less than was asked for would make OpenSSL sign elsewhere,
 * with a key that has no private half. */
int opaque_export_fn(void *keydata, int selection, OSSL_CALLBACK *cb, void *cbarg)
{
	struct opaque *k = keydata;

	if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)
		return prov_raise_reason(k->prov, opaque_is_private(k) ? PROV_REXPORT
		                                                       : PROV_RNOPRIVATE);
	return k->pub != NULL && EVP_PKEY_export(k->pub, selection, cb, cbarg);
}

static int is_public_param(const struct keytype *type, const char *name)
{
	return OSSL_PARAM_locate_const(type->gettable, name) != NULL;
}

/* Of private keys: what tao_tls.so asks the host by. */
static int set_name(const struct opaque *k, OSSL_PARAM params[])
{
	OSSL_PARAM *q = OSSL_PARAM_locate(params, OPAQUE_PARAM_NAME);

	return q == NULL || k->name[0] == 0 || OSSL_PARAM_set_utf8_string(q, k->name);
}

int opaque_get_params_fn(void *keydata, OSSL_PARAM params[])
{
	struct opaque *k = keydata;
	int good = k->pub != NULL;

	ERR_set_mark();
	for (OSSL_PARAM *q = params; good && q->key != NULL; q++) {
		OSSL_PARAM one[] = { *q, OSSL_PARAM_END };

		if (!is_public_param(k->type, q->key))
			continue;
		good = EVP_PKEY_get_params(k->pub, one);
		q->return_size = one[0].return_size;
	}
	ERR_pop_to_mark();
	return good && set_name(k, params);
}

void *opaque_dup_fn(const void *keydata, int selection)
{
	struct opaque *k = (struct opaque *)keydata, *copy;

	if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)
		return opaque_up_ref(k);
	if (opaque_public(k, selection, &copy) != TAO_OK)
		prov_raise(k->prov, TAO_ECRYPTO);
	return copy;
}

/* Parameters get a public key: a peer's, as CMS has it. A private key's is what its stub says. */
int opaque_set_params_fn(void *keydata, const OSSL_PARAM params[])
{
	struct opaque *k = keydata;
	int gives_key, good;

	if (params == NULL || params[0].key == NULL)
		return 1;
	gives_key = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY) != NULL;
	if (k->pub == NULL || (gives_key && opaque_is_private(k)) ||
	    !prov_params_whole(k->prov, params))
		return 0;
	ERR_set_mark();
	good = EVP_PKEY_set_params(k->pub, (OSSL_PARAM *)params) == 1;
	ERR_pop_to_mark();
	k->has_pub = k->has_pub || (good && gives_key);
	return good;
}
