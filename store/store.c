#include "store.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/params.h>
#include <openssl/store.h>

#include "search.h"
#include "uri.h"

#define DESCRIPTION_MAX 256 /* bytes of what is said about a name */

static OSSL_FUNC_store_open_fn store_open;
static OSSL_FUNC_store_settable_ctx_params_fn store_settable_ctx_params;
static OSSL_FUNC_store_set_ctx_params_fn store_set_ctx_params;
static OSSL_FUNC_store_load_fn store_load;
static OSSL_FUNC_store_eof_fn store_eof;
static OSSL_FUNC_store_close_fn store_close;

/* left shrinks from the parts of the URI to nothing; chain and list stay in it
 * until all of their elements are given. */
struct store {
	struct prov *prov;
	struct uri uri;
	unsigned left;
	int expect;        /* OSSL_STORE_INFO_*, 0: anything */
	struct search search;
	struct reply reply;
	size_t at;         /* next element of the reply */
	int failed;
};

static void *store_open(void *provctx, const char *text)
{
	struct store *s = calloc(1, sizeof *s);
	enum tao_err e;

	if (s == NULL)
		return NULL;
	s->prov = provctx;
	search_init(&s->search);
	e = uri_parse(text, &s->uri);
	if (e != TAO_OK) {
		prov_raise_text(s->prov, PROV_RURI, "%s", tao_why());
		free(s);
		return NULL;
	}
	s->left = s->uri.parts;
	return s;
}

static int store_close(void *vctx)
{
	struct store *s = vctx;

	if (s != NULL) {
		reply_free(&s->reply);
		search_clear(&s->search);
	}
	free(s);
	return 1;
}

static const OSSL_PARAM *store_settable_ctx_params(void *provctx)
{
	(void)provctx;
	return search_settable;
}

/* A key's name is its alias; one that no key can have is nobody's. */
static void look_for_alias(struct store *s)
{
	const char *alias = s->search.alias;

	if (alias[0] == 0)
		return;
	if ((s->uri.parts & URI_LIST) && strlen(alias) <= TAO_KEY_NAME_MAX &&
	    tao_key_name_check(alias, strlen(alias)) == TAO_OK) {
		strcpy(s->uri.name, alias);
		s->uri.parts = s->left = URI_KEY | URI_CERT | URI_CHAIN;
	} else if (strcmp(s->uri.name, alias) != 0) {
		s->left = 0;
	}
}

/* Among certificates: keys have no such properties. */
static int looks_at_certificates(const struct store *s)
{
	return s->search.wanted && s->search.alias[0] == 0;
}

/* What OpenSSL would throw away is not asked for. Names always pass. */
static int store_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
	static const struct {
		int expect;
		unsigned parts;
	} wanted[] = {
		{ 0, ~0u },
		{ OSSL_STORE_INFO_NAME, URI_LIST },
		{ OSSL_STORE_INFO_PUBKEY, URI_LIST | URI_KEY },
		{ OSSL_STORE_INFO_PKEY, URI_LIST | URI_KEY },
		{ OSSL_STORE_INFO_CERT, URI_LIST | URI_CERT | URI_CHAIN | URI_CA },
	};
	struct store *s = vctx;
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_STORE_PARAM_EXPECT);

	if (!prov_params_whole(s->prov, params) || !search_set(&s->search, params))
		return 0;
	look_for_alias(s);
	if (looks_at_certificates(s))
		s->left &= ~(unsigned)URI_KEY;
	if (q == NULL)
		return 1;
	if (!OSSL_PARAM_get_int(q, &s->expect))
		return 0;
	s->left = URI_LIST & s->uri.parts;
	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
		if (wanted[i].expect == s->expect)
			s->left = wanted[i].parts & s->uri.parts;
	}
	if (looks_at_certificates(s))
		s->left &= ~(unsigned)URI_KEY;
	return 1;
}

/* ---- giving ---- */

int store_give_key(struct opaque *k, OSSL_CALLBACK *cb, void *cbarg)
{
	int type = OSSL_OBJECT_PKEY, r;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
		OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE,
		                                 (char *)k->type->name, 0),
		OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, &k, sizeof k),
		OSSL_PARAM_construct_end(),
	};

	r = cb(params, cbarg);
	opaque_free(k); /* NULL when it was loaded */
	return r;
}

static int give_certificate(const ProtobufCBinaryData *der, OSSL_CALLBACK *cb, void *cbarg)
{
	int type = OSSL_OBJECT_CERT;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
		OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der->data, der->len),
		OSSL_PARAM_construct_end(),
	};

	return cb(params, cbarg);
}

static int give_name(const Tao__KeyInfo *key, OSSL_CALLBACK *cb, void *cbarg)
{
	struct tao_buf uri = TAO_BUF_INIT, text = TAO_BUF_INIT;
	int type = OSSL_OBJECT_NAME, r = 0;

	text.max = DESCRIPTION_MAX;
	tao_buf_fmt(&uri, "tao:%s", key->name);
	tao_buf_fmt(&text, "Tao key, type %.32s, purpose %.32s%s%.128s", key->type, key->purpose,
	            key->program != NULL ? ", for " : "",
	            key->program != NULL ? key->program : "");
	if (uri.err == TAO_OK && text.err == TAO_OK) {
		OSSL_PARAM params[] = {
			OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
			OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA,
			                                 (char *)tao_buf_cstr(&uri), 0),
			OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DESC,
			                                 (char *)tao_buf_cstr(&text), 0),
			OSSL_PARAM_construct_end(),
		};

		r = cb(params, cbarg);
	}
	tao_buf_free(&uri);
	tao_buf_free(&text);
	return r;
}

/* ---- getting: each fills s->reply, or gives at once ---- */

static enum tao_err get_certificates(struct store *s, const char *op, const char *name)
{
	Tao__KeyRequest req = TAO__KEY_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e;

	if (s->reply.key != NULL)
		return TAO_OK;
	req.name = (char *)name;
	e = prov_call(s->prov, op, name != NULL ? &req.base : NULL, &body);
	if (e == TAO_OK)
		e = reply_key(&s->reply, &body, REPLY_CHAIN);
	tao_buf_free(&body);
	return e;
}

static enum tao_err get_list(struct store *s)
{
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e;

	if (s->reply.list != NULL)
		return TAO_OK;
	e = prov_call(s->prov, "Tao.ListKeys", NULL, &body);
	if (e == TAO_OK)
		e = reply_list(&s->reply, &body);
	tao_buf_free(&body);
	return e;
}

static enum tao_err load_key(struct store *s, OSSL_CALLBACK *cb, void *cbarg, int *given)
{
	struct opaque *k, *pub;
	enum tao_err e = opaque_from_host(s->prov, s->uri.name, &k);

	if (e == TAO_OK && s->expect == OSSL_STORE_INFO_PUBKEY) {
		e = opaque_public(k, OSSL_KEYMGMT_SELECT_PUBLIC_KEY |
		                  OSSL_KEYMGMT_SELECT_ALL_PARAMETERS, &pub);
		opaque_free(k);
		k = pub;
	}
	if (e != TAO_OK)
		return e;
	s->left &= ~(unsigned)URI_KEY;
	*given = store_give_key(k, cb, cbarg);
	return TAO_OK;
}

/* A key without certificate is a key all the same, unless a certificate was
 * asked for: then the host's sentence says why there is none. */
static int absence_is_fine(const struct store *s, enum tao_err e)
{
	return (s->uri.parts & URI_KEY) && s->expect == 0 &&
	       (e == TAO_ENOTFOUND || e == TAO_EDENIED || e == TAO_EEXPIRED);
}

/* One element of the chain is done with. */
static void next_certificate(struct store *s)
{
	s->at++;
	s->left &= ~(unsigned)(URI_CERT | URI_CA);
	if (s->at >= s->reply.key->n_chain)
		s->left &= ~(unsigned)URI_CHAIN;
}

/* Fills the reply, and goes on to the first element that is looked for. */
static enum tao_err seek_certificate(struct store *s)
{
	const Tao__KeyResponse *m;
	enum tao_err e = s->left & URI_CA ? get_certificates(s, "Tao.GetPolicyCertificate", NULL)
	                                  : get_certificates(s, "Tao.GetCertificate", s->uri.name);

	if (e != TAO_OK && absence_is_fine(s, e)) {
		s->left = 0;
		return TAO_OK;
	}
	if (e != TAO_OK)
		return e;
	m = s->reply.key;
	if (s->at == 0 && !(s->left & (URI_CERT | URI_CA)))
		s->at = 1; /* only what is above the leaf */
	if (s->at >= m->n_chain)
		s->left = 0;
	while (s->left != 0 && !search_matches(s->prov, &s->search, m->chain[s->at].data,
	                                       m->chain[s->at].len))
		next_certificate(s);
	return TAO_OK;
}

static enum tao_err load_certificate(struct store *s, OSSL_CALLBACK *cb, void *cbarg, int *given)
{
	enum tao_err e = seek_certificate(s);

	if (e != TAO_OK || s->left == 0)
		return e;
	*given = give_certificate(&s->reply.key->chain[s->at], cb, cbarg);
	next_certificate(s);
	return TAO_OK;
}

/* The leaf of one listed key, if it is one that is looked for: given, or, without cb, said to be
 * there. A key without certificate is none. */
static int find_leaf(struct store *s, const char *name, OSSL_CALLBACK *cb, void *cbarg)
{
	Tao__KeyRequest req = TAO__KEY_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	struct reply r = { .m = NULL };
	int found;

	req.name = (char *)name;
	found = prov_call(s->prov, "Tao.GetCertificate", &req.base, &body) == TAO_OK &&
	        reply_key(&r, &body, REPLY_CHAIN) == TAO_OK &&
	        search_matches(s->prov, &s->search, r.key->chain[0].data, r.key->chain[0].len);
	if (found && cb != NULL)
		found = give_certificate(&r.key->chain[0], cb, cbarg);
	reply_free(&r);
	tao_buf_free(&body);
	return found;
}

static void next_name(struct store *s)
{
	s->at++;
	if (s->at >= s->reply.list->n_keys)
		s->left = 0;
}

static enum tao_err seek_name(struct store *s)
{
	enum tao_err e = get_list(s);

	if (e != TAO_OK)
		return e;
	if (s->at >= s->reply.list->n_keys)
		s->left = 0;
	while (s->left != 0 && looks_at_certificates(s) &&
	       !find_leaf(s, s->reply.list->keys[s->at]->name, NULL, NULL))
		next_name(s);
	return TAO_OK;
}

static enum tao_err load_name(struct store *s, OSSL_CALLBACK *cb, void *cbarg, int *given)
{
	const Tao__KeyInfo *key;
	enum tao_err e = seek_name(s);

	if (e != TAO_OK || s->left == 0)
		return e;
	key = s->reply.list->keys[s->at];
	*given = looks_at_certificates(s) ? find_leaf(s, key->name, cb, cbarg)
	                                  : give_name(key, cb, cbarg);
	next_name(s);
	return TAO_OK;
}

static int store_load(void *vctx, OSSL_CALLBACK *cb, void *cbarg, OSSL_PASSPHRASE_CALLBACK *pw_cb,
                      void *pw_cbarg)
{
	static const struct {
		unsigned parts;
		enum tao_err (*load)(struct store *s, OSSL_CALLBACK *cb, void *cbarg, int *given);
	} loaders[] = {
		{ URI_KEY, load_key },
		{ URI_CERT | URI_CHAIN | URI_CA, load_certificate },
		{ URI_LIST, load_name },
	};
	struct store *s = vctx;
	int given = 0;

	(void)pw_cb;
	(void)pw_cbarg;
	/* OpenSSL takes a failure at the end for the end alone, and tries again
	 * after one that is not: so the end comes one call later. */
	if (s->failed)
		s->left = 0;
	for (size_t i = 0; i < sizeof loaders / sizeof loaders[0]; i++) {
		enum tao_err e;

		if (!(s->left & loaders[i].parts))
			continue;
		e = loaders[i].load(s, cb, cbarg, &given);
		if (e == TAO_OK)
			return given;
		s->failed = 1;
		return prov_raise(s->prov, e);
	}
	return 0;
}

/* OpenSSL counts a load that gives nothing as an error: the end has to be told before. What
 * goes wrong here is told by the load. */
static int store_eof(void *vctx)
{
	struct store *s = vctx;

	if (!s->failed && looks_at_certificates(s) && s->left != 0) {
		if (s->left & URI_LIST)
			seek_name(s);
		else
			seek_certificate(s);
	}
	return s->left == 0;
}

const OSSL_DISPATCH prov_store[] = {
	{ OSSL_FUNC_STORE_OPEN, (void (*)(void))store_open },
	{ OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, (void (*)(void))store_settable_ctx_params },
	{ OSSL_FUNC_STORE_SET_CTX_PARAMS, (void (*)(void))store_set_ctx_params },
	{ OSSL_FUNC_STORE_LOAD, (void (*)(void))store_load },
	{ OSSL_FUNC_STORE_EOF, (void (*)(void))store_eof },
	{ OSSL_FUNC_STORE_CLOSE, (void (*)(void))store_close },
	{ 0, NULL }
};
