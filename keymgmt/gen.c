/* Keys made in the host, through OpenSSL's own means: `openssl genpkey -propquery provider=tao`. */
#include "key.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#define WORD_MAX 32
#define BITS_DEFAULT 2048
#define RANDOM_NAME 8 /* bytes in the name of a key that was given none */

/* Parameters of our own, beside OPAQUE_PARAM_NAME. */
#define PARAM_PURPOSE "tao-purpose"
#define PARAM_POLICY "tao-policy"
#define PARAM_CUSTODY "tao-custody"

struct gen {
	struct prov *prov;
	const struct keytype *type;
	int params_only;           /* `openssl ecparam`, EVP_PKEY_paramgen() */
	char name[TAO_KEY_NAME_MAX + 1];
	char group[OPAQUE_GROUP_MAX];
	char purpose[WORD_MAX], policy[WORD_MAX], custody[WORD_MAX];
	/* RSA-PSS: what it is restricted to; "": the host's default */
	char digest[WORD_MAX], mgf1[WORD_MAX];
	size_t bits;
	int salt;                              /* RSA-PSS: the shortest; -1: the host's default */
};

/* The host's word for each type. */
static const struct made {
	const struct keytype *type;
	const char *group; /* as applications may call it; NULL: any */
	size_t bits;       /* 0: any */
	const char *word;
} made[] = {
	{ &keytype_ec, "prime256v1", 0, "p256" },
	{ &keytype_ec, "P-256", 0, "p256" },
	{ &keytype_ec, "secp256r1", 0, "p256" },
	{ &keytype_ec, "secp384r1", 0, "p384" },
	{ &keytype_ec, "P-384", 0, "p384" },
	{ &keytype_ec, "secp521r1", 0, "p521" },
	{ &keytype_ec, "P-521", 0, "p521" },
	{ &keytype_rsa, NULL, 2048, "rsa2048" },
	{ &keytype_rsa, NULL, 3072, "rsa3072" },
	{ &keytype_rsa, NULL, 4096, "rsa4096" },
	{ &keytype_rsa_pss, NULL, 2048, "rsa-pss-2048" },
	{ &keytype_rsa_pss, NULL, 3072, "rsa-pss-3072" },
	{ &keytype_rsa_pss, NULL, 4096, "rsa-pss-4096" },
	{ &keytype_ed25519, NULL, 0, "ed25519" },
	{ &keytype_x25519, NULL, 0, "x25519" },
	{ &keytype_mldsa44, NULL, 0, "ml-dsa-44" },
	{ &keytype_mldsa65, NULL, 0, "ml-dsa-65" },
	{ &keytype_mldsa87, NULL, 0, "ml-dsa-87" },
};

#define SETTABLE \
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0), \
	OSSL_PARAM_size_t(OSSL_PKEY_PARAM_RSA_BITS, NULL), \
	OSSL_PARAM_utf8_string(OPAQUE_PARAM_NAME, NULL, 0), \
	OSSL_PARAM_utf8_string(PARAM_PURPOSE, NULL, 0), \
	OSSL_PARAM_utf8_string(PARAM_POLICY, NULL, 0), \
	OSSL_PARAM_utf8_string(PARAM_CUSTODY, NULL, 0)

static const OSSL_PARAM settable[] = { SETTABLE, OSSL_PARAM_END };

static const OSSL_PARAM settable_pss[] = {
	SETTABLE,
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_DIGEST, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, NULL, 0),
	OSSL_PARAM_int(OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, NULL),
	OSSL_PARAM_END
};

void *opaque_gen_init(void *provctx, const struct keytype *type, int selection,
                      const OSSL_PARAM params[])
{
	struct gen *g = calloc(1, sizeof *g);

	if (g == NULL)
		return NULL;
	g->prov = provctx;
	g->type = type;
	g->params_only = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0;
	g->bits = BITS_DEFAULT;
	g->salt = -1;
	if (opaque_gen_set_params_fn(g, params))
		return g;
	free(g);
	return NULL;
}

/* Parameters that were made before: the group of the key to come. */
int opaque_gen_set_template_fn(void *genctx, void *templ)
{
	struct gen *g = genctx;
	struct opaque *from = templ;

	if (g->type->groups == NULL || from == NULL || from->pub == NULL)
		return 1;
	return EVP_PKEY_get_group_name(from->pub, g->group, sizeof g->group, NULL);
}

static int take_text(const OSSL_PARAM params[], const char *name, char *to, size_t room)
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, name);

	return q == NULL || OSSL_PARAM_get_utf8_string(q, &to, room);
}

static int take_restrictions(struct gen *g, const OSSL_PARAM params[])
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_PSS_SALTLEN);

	if (q != NULL && (!OSSL_PARAM_get_int(q, &g->salt) || g->salt < 0))
		return prov_raise_text(g->prov, TAO_EINVAL,
		                       "the shortest salt of an RSA-PSS key is a number "
		                       "of bytes from 0 on");
	return take_text(params, OSSL_PKEY_PARAM_RSA_DIGEST, g->digest, sizeof g->digest) &&
	       take_text(params, OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, g->mgf1, sizeof g->mgf1);
}

int opaque_gen_set_params_fn(void *genctx, const OSSL_PARAM params[])
{
	struct gen *g = genctx;
	const OSSL_PARAM *q;

	if (params == NULL)
		return 1;
	if (!prov_params_whole(g->prov, params))
		return 0;
	q = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_BITS);
	if (q != NULL && !OSSL_PARAM_get_size_t(q, &g->bits))
		return 0;
	return take_text(params, OSSL_PKEY_PARAM_GROUP_NAME, g->group, sizeof g->group) &&
	       take_text(params, OPAQUE_PARAM_NAME, g->name, sizeof g->name) &&
	       take_text(params, PARAM_PURPOSE, g->purpose, sizeof g->purpose) &&
	       take_text(params, PARAM_POLICY, g->policy, sizeof g->policy) &&
	       take_text(params, PARAM_CUSTODY, g->custody, sizeof g->custody) &&
	       (g->type != &keytype_rsa_pss || take_restrictions(g, params));
}

const OSSL_PARAM *opaque_gen_settable_params_fn(void *genctx, void *provctx)
{
	struct gen *g = genctx;

	(void)provctx;
	return g != NULL && g->type == &keytype_rsa_pss ? settable_pss : settable;
}

static const char *word_of(const struct gen *g)
{
	for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
		const struct made *m = &made[i];

		if (m->type == g->type && (m->bits == 0 || m->bits == g->bits) &&
		    (m->group == NULL || g->group[0] == 0 ||
		     OPENSSL_strcasecmp(m->group, g->group) == 0))
			return m->word;
	}
	return NULL;
}

static enum tao_err random_name(struct gen *g)
{
	uint8_t r[RANDOM_NAME];
	struct tao_buf b = TAO_BUF_INIT;

	if (RAND_bytes_ex(g->prov->inner->libctx, r, sizeof r, 0) != 1)
		return tao_fail_crypto("drawing a key's name");
	tao_buf_fmt(&b, "key-");
	tao_buf_hex(&b, r, sizeof r);
	if (b.err == TAO_OK)
		strcpy(g->name, tao_buf_cstr(&b));
	tao_buf_free(&b);
	return g->name[0] != 0 ? TAO_OK : tao_fail_nomem();
}

/* The host has one digest for the message and for MGF1. */
static enum tao_err put_restrictions(struct gen *g, Tao__NewKeyRequest *req)
{
	const char *digest = prov_digest_word(g->prov, g->digest[0] != 0 ? g->digest : g->mgf1);

	req->has_pss_salt_len = g->salt >= 0;
	req->pss_salt_len = (uint32_t)g->salt;
	if (digest[0] == 0)
		return TAO_OK;
	if (g->mgf1[0] != 0 && strcmp(prov_digest_word(g->prov, g->mgf1), digest) != 0)
		return tao_fail(TAO_EINVAL, "the Tao makes RSA-PSS keys with one digest for the "
		                "message and for MGF1, not %s and %s: choose one", digest, g->mgf1);
	req->pss_digest = (char *)digest;
	return TAO_OK;
}

static enum tao_err make(struct gen *g, struct opaque **out)
{
	Tao__NewKeyRequest req = TAO__NEW_KEY_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	struct reply r = { .m = NULL };
	enum tao_err e = g->name[0] != 0 ? TAO_OK : random_name(g);

	*out = NULL;
	req.name = g->name;
	req.type = (char *)word_of(g);
	req.purpose = g->purpose[0] != 0 ? g->purpose : NULL;
	req.policy = g->policy[0] != 0 ? g->policy : NULL;
	req.custody = g->custody[0] != 0 ? g->custody : NULL;
	if (e == TAO_OK)
		e = put_restrictions(g, &req);
	if (e == TAO_OK && req.type == NULL)
		e = tao_fail(TAO_EINVAL, "the Tao makes EC keys on P-256, P-384 and P-521, and RSA "
		             "keys of 2048, 3072 and 4096 bits: choose one of these");
	if (e == TAO_OK)
		e = prov_call(g->prov, "Tao.GenerateKey", &req.base, &body);
	if (e == TAO_OK)
		e = reply_key(&r, &body, REPLY_STUB);
	if (e == TAO_OK)
		e = opaque_from_stub(g->prov, r.key->stub.data, r.key->stub.len, out);
	reply_free(&r);
	tao_buf_free(&body);
	return e;
}

/* For EVP_PKEY_paramgen(): a group without a key. */
static struct opaque *group_only(struct gen *g)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, g->group,
		                                 0), OSSL_PARAM_END
	};
	struct opaque *k = opaque_new(g->prov, g->type);

	if (k != NULL && opaque_import_fn(k, OSSL_KEYMGMT_SELECT_ALL_PARAMETERS, params))
		return k;
	opaque_free(k);
	return NULL;
}

void *opaque_gen_fn(void *genctx, OSSL_CALLBACK *cb, void *cbarg)
{
	struct gen *g = genctx;
	struct opaque *k;
	enum tao_err e;

	(void)cb; /* progress: the host's own */
	(void)cbarg;
	if (g->params_only)
		return group_only(g);
	e = make(g, &k);
	if (e != TAO_OK)
		prov_raise(g->prov, e);
	return k;
}

void opaque_gen_cleanup_fn(void *genctx)
{
	free(genctx);
}
