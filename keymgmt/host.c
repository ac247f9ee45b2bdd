/* What a key asks its host for. */
#include "key.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "provider/newer.h"

#define DIGEST_MU "MU" /* the host's word for it */

/* Threads may publish at once; what one of them reads stays valid. */
enum tao_err opaque_publish_id(struct opaque *k, const uint8_t id[REPLY_ID_LEN])
{
	struct opaque_id *newest = atomic_load(&k->id), *fresh;

	if (newest != NULL && memcmp(newest->id, id, REPLY_ID_LEN) == 0)
		return TAO_OK;
	fresh = malloc(sizeof *fresh);
	if (fresh == NULL)
		return tao_fail_nomem();
	memcpy(fresh->id, id, REPLY_ID_LEN);
	do {
		fresh->older = newest;
	} while (!atomic_compare_exchange_weak(&k->id, &newest, fresh));
	return TAO_OK;
}

enum tao_err opaque_ask_by_name(struct prov *p, const char *name, struct reply *r, int need)
{
	Tao__KeyRequest req = TAO__KEY_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e;

	req.name = (char *)name;
	e = prov_call(p, "Tao.GetKey", &req.base, &body);
	if (e == TAO_OK)
		e = reply_key(r, &body, need);
	tao_buf_free(&body);
	return e;
}

/* ---- asking the host ---- */

static enum tao_err with_name(const struct opaque *k, enum tao_err e)
{
	return tao_fail(e, "key %s: %s", k->name, tao_why());
}

enum tao_err opaque_take_private(struct opaque *k, const Tao__KeyResponse *m)
{
	const uint8_t *at = m->private_key.data;
	EVP_PKEY *priv, *none = NULL;

	if (!m->has_private_key)
		return TAO_OK;
	ERR_set_mark();
	priv = d2i_AutoPrivateKey_ex(NULL, &at, (long)m->private_key.len, k->prov->inner->libctx,
	                             NULL);
	ERR_pop_to_mark();
	if (priv == NULL || at != m->private_key.data + m->private_key.len ||
	    EVP_PKEY_eq(priv, k->pub) != 1) {
		EVP_PKEY_free(priv);
		return tao_fail(TAO_EPROTO, "the Tao host gave another private key: see 'tao "
		                "status'");
	}
	if (!atomic_compare_exchange_strong(&k->priv, &none, priv))
		EVP_PKEY_free(priv); /* another thread's is there */
	return TAO_OK;
}

/* The stub has the sealed key: the host opens it and answers with its id. */
static enum tao_err open_sealed(struct opaque *k)
{
	Tao__KeyRequest req = TAO__KEY_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	struct reply r = { .m = NULL };
	enum tao_err e;

	req.has_stub = 1;
	req.stub.data = k->der.p;
	req.stub.len = k->der.n;
	e = prov_call(k->prov, "Tao.OpenKey", &req.base, &body);
	if (e == TAO_OK)
		e = reply_key(&r, &body, REPLY_ID);
	if (e == TAO_OK && memcmp(r.key->key_id.data, atomic_load(&k->id)->id, REPLY_ID_LEN) != 0)
		e = tao_fail(TAO_EPROTO, "the Tao host opened another key: see 'tao status'");
	if (e == TAO_OK)
		e = opaque_take_private(k, r.key);
	reply_free(&r);
	tao_buf_free(&body);
	return e;
}

static enum tao_err open_named(struct opaque *k)
{
	struct reply r = { .m = NULL };
	struct tao_stub stub;
	enum tao_err e = opaque_ask_by_name(k->prov, k->name, &r, REPLY_STUB | REPLY_ID);

	if (e == TAO_OK)
		e = tao_stub_parse(r.key->stub.data, r.key->stub.len, &stub);
	if (e == TAO_OK && (stub.spki_n != k->stub.spki_n ||
	                    memcmp(stub.spki, k->stub.spki, stub.spki_n) != 0))
		e = tao_fail(TAO_EALTERED, "the Tao host has another key of this name than the "
		             "file: write the file again with 'tao key pem %s'", k->name);
	if (e == TAO_OK)
		e = opaque_take_private(k, r.key);
	if (e == TAO_OK)
		e = opaque_publish_id(k, r.key->key_id.data);
	reply_free(&r);
	return e;
}

enum tao_err opaque_open(struct opaque *k)
{
	enum tao_err e = k->stub.sealed != NULL ? open_sealed(k) : open_named(k);

	return e == TAO_OK ? TAO_OK : with_name(k, e);
}

/* One request about the key; key_id is in req. */
static enum tao_err ask_once(struct opaque *k, const char *op, const ProtobufCMessage *req,
                             ProtobufCBinaryData *key_id, struct tao_buf *body)
{
	struct opaque_id *id = atomic_load(&k->id);

	if (id == NULL)
		return TAO_EUNKNOWNKEY;
	key_id->data = id->id;
	key_id->len = REPLY_ID_LEN;
	return prov_call(k->prov, op, req, body);
}

/* Opens the key if the host does not have it at hand. TAO_OK with an empty
 * body: it is in this process now. */
static enum tao_err ask(struct opaque *k, const char *op, const ProtobufCMessage *req,
                        ProtobufCBinaryData *key_id, struct tao_buf *body)
{
	enum tao_err e = ask_once(k, op, req, key_id, body);

	if (e == TAO_EUNKNOWNKEY) {
		e = opaque_open(k);
		if (e != TAO_OK)
			return e; /* has the name */
		if (atomic_load(&k->priv) != NULL)
			return TAO_OK;
		e = ask_once(k, op, req, key_id, body);
	}
	return e == TAO_OK ? TAO_OK : with_name(k, e);
}

/* ---- custody "program": in this process ---- */

static enum tao_err local_failed(const struct opaque *k, const char *what)
{
	return tao_fail(TAO_ECRYPTO, "key %s: libcrypto could not %s", k->name, what);
}

static int set_signing(EVP_PKEY_CTX *ctx, const struct opaque_how *how)
{
	int pss = how->padding != NULL && strcmp(how->padding, "pss") == 0;

	if (how->padding == NULL)
		return 1;
	return EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING
	                                             : RSA_PKCS1_PADDING) > 0 &&
	       (!pss || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, how->salt_len) > 0) &&
	       (how->mgf1 == NULL || EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, how->mgf1, NULL) > 0);
}

static int sign_message(struct opaque *k, EVP_PKEY *priv, const struct opaque_how *how,
                        const uint8_t *data, size_t n, uint8_t *sig, size_t *sig_n)
{
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	EVP_PKEY_CTX *ctx;
	int mu = how->mu;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_MU, &mu), OSSL_PARAM_construct_end()
	};
	int good = m != NULL && EVP_DigestSignInit_ex(m, &ctx, how->digest, k->prov->inner->libctx,
	                                              NULL, priv, mu ? params : NULL) > 0 &&
	           set_signing(ctx, how) && EVP_DigestSign(m, sig, sig_n, data, n) > 0;

	EVP_MD_CTX_free(m);
	return good;
}

static int sign_digest(struct opaque *k, EVP_PKEY *priv, const struct opaque_how *how,
                       const uint8_t *data, size_t n, uint8_t *sig, size_t *sig_n)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(k->prov->inner->libctx, priv, NULL);
	EVP_MD *md = EVP_MD_fetch(k->prov->inner->libctx, how->digest, NULL);
	int good = ctx != NULL && md != NULL && EVP_PKEY_sign_init(ctx) > 0 &&
	           (how->padding == NULL || set_signing(ctx, how)) &&
	           EVP_PKEY_CTX_set_signature_md(ctx, md) > 0 &&
	           EVP_PKEY_sign(ctx, sig, sig_n, data, n) > 0;

	EVP_MD_free(md);
	EVP_PKEY_CTX_free(ctx);
	return good;
}

static enum tao_err local_sign(struct opaque *k, const struct opaque_how *how, const uint8_t *data,
                               size_t n, uint8_t *sig, size_t *sig_n)
{
	EVP_PKEY *priv = atomic_load(&k->priv);
	int good;

	ERR_set_mark();
	good = how->message || how->mu ? sign_message(k, priv, how, data, n, sig, sig_n)
	                               : sign_digest(k, priv, how, data, n, sig, sig_n);
	ERR_pop_to_mark();
	return good ? TAO_OK : local_failed(k, "sign");
}

static int set_unpad(EVP_PKEY_CTX *ctx, const struct opaque_unpad *how)
{
	OSSL_PARAM tls[] = { OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END };
	unsigned version = how->tls_version, alt = how->tls_alt_version;
	void *label;

	if (strcmp(how->padding, "pkcs1") == 0) {
		tls[0] = OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION,
		                                   &version);
		tls[1] = OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION,
		                                   &alt);
		return EVP_PKEY_CTX_set_rsa_padding(ctx, version > 0 ? RSA_PKCS1_WITH_TLS_PADDING
		                                                     : RSA_PKCS1_PADDING) > 0 &&
		       (version == 0 || EVP_PKEY_CTX_set_params(ctx, tls) > 0);
	}
	if (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) <= 0 ||
	    EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, how->digest, NULL) <= 0 ||
	    EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, how->mgf1, NULL) <= 0)
		return 0;
	if (how->label_n == 0)
		return 1;
	label = OPENSSL_memdup(how->label, how->label_n);
	if (label != NULL && EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, label, (int)how->label_n) > 0)
		return 1;
	OPENSSL_free(label);
	return 0;
}

static enum tao_err local_decrypt(struct opaque *k, const struct opaque_unpad *how,
                                  const uint8_t *data, size_t n, struct tao_buf *out)
{
	EVP_PKEY *priv = atomic_load(&k->priv);
	size_t room = (size_t)EVP_PKEY_get_size(priv), got = room, before = out->n;
	uint8_t *to = tao_buf_room(out, room);
	EVP_PKEY_CTX *ctx;
	int good;

	ERR_set_mark();
	ctx = EVP_PKEY_CTX_new_from_pkey(k->prov->inner->libctx, priv, NULL);
	good = to != NULL && ctx != NULL && EVP_PKEY_decrypt_init(ctx) > 0 && set_unpad(ctx, how) &&
	       EVP_PKEY_decrypt(ctx, to, &got, data, n) > 0;
	EVP_PKEY_CTX_free(ctx);
	ERR_pop_to_mark();
	out->n = before + (good ? got : 0);
	return good ? TAO_OK : local_failed(k, "decrypt");
}

static enum tao_err local_derive(struct opaque *k, const uint8_t *peer, size_t n,
                                 struct tao_buf *secret)
{
	EVP_PKEY *priv = atomic_load(&k->priv), *other = EVP_PKEY_new();
	size_t got = opaque_secret_size(k), before = secret->n;
	uint8_t *to = tao_buf_room(secret, got);
	EVP_PKEY_CTX *ctx;
	int good;

	ERR_set_mark();
	ctx = EVP_PKEY_CTX_new_from_pkey(k->prov->inner->libctx, priv, NULL);
	good = to != NULL && ctx != NULL && other != NULL &&
	       EVP_PKEY_copy_parameters(other, priv) > 0 &&
	       EVP_PKEY_set1_encoded_public_key(other, peer, n) > 0 &&
	       EVP_PKEY_derive_init(ctx) > 0 &&
	       EVP_PKEY_derive_set_peer(ctx, other) > 0 && EVP_PKEY_derive(ctx, to, &got) > 0;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(other);
	ERR_pop_to_mark();
	secret->n = before + (good ? got : 0);
	return good ? TAO_OK : local_failed(k, "derive a secret");
}

/* ---- operations ---- */

enum tao_err opaque_sign(struct opaque *k, const struct opaque_how *how, const uint8_t *data,
                         size_t n, uint8_t *sig, size_t *sig_n)
{
	Tao__SignRequest req = TAO__SIGN_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	req.data.data = (uint8_t *)data;
	req.data.len = n;
	req.digest = how->mu ? DIGEST_MU : (char *)how->digest;
	req.has_message = req.message = how->message;
	req.padding = (char *)how->padding;
	req.has_salt_len = how->padding != NULL && strcmp(how->padding, "pss") == 0;
	req.salt_len = how->salt_len;
	req.mgf1_digest = (char *)how->mgf1;
	if (atomic_load(&k->priv) == NULL)
		e = ask(k, "Tao.Sign", &req.base, &req.key_id, &body);
	if (e == TAO_OK && atomic_load(&k->priv) != NULL)
		e = local_sign(k, how, data, n, sig, sig_n);
	else if (e == TAO_OK)
		e = reply_signature(&body, k->type->signature_form, sig, sig_n);
	tao_buf_free(&body);
	return e;
}

enum tao_err opaque_decrypt(struct opaque *k, const struct opaque_unpad *how, const uint8_t *data,
                            size_t n, struct tao_buf *out)
{
	Tao__DecryptRequest req = TAO__DECRYPT_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	req.data.data = (uint8_t *)data;
	req.data.len = n;
	req.padding = (char *)how->padding;
	req.digest = (char *)how->digest;
	req.mgf1_digest = (char *)how->mgf1;
	req.has_label = how->label_n > 0;
	req.label.data = (uint8_t *)how->label;
	req.label.len = how->label_n;
	req.has_tls_version = how->tls_version > 0;
	req.tls_version = how->tls_version;
	req.has_tls_alt_version = how->tls_alt_version > 0;
	req.tls_alt_version = how->tls_alt_version;
	if (atomic_load(&k->priv) == NULL)
		e = ask(k, "Tao.Decrypt", &req.base, &req.key_id, &body);
	if (e == TAO_OK && atomic_load(&k->priv) != NULL)
		e = local_decrypt(k, how, data, n, out);
	else if (e == TAO_OK)
		e = reply_decrypted(&body, (size_t)EVP_PKEY_get_size(k->pub), out);
	tao_buf_free(&body);
	return e;
}

enum tao_err opaque_derive(struct opaque *k, const uint8_t *peer, size_t n, struct tao_buf *secret)
{
	Tao__DeriveRequest req = TAO__DERIVE_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	req.peer.data = (uint8_t *)peer;
	req.peer.len = n;
	if (atomic_load(&k->priv) == NULL)
		e = ask(k, "Tao.Derive", &req.base, &req.key_id, &body);
	if (e == TAO_OK && atomic_load(&k->priv) != NULL)
		e = local_derive(k, peer, n, secret);
	else if (e == TAO_OK)
		e = reply_secret(&body, opaque_secret_size(k), secret);
	tao_buf_free(&body);
	return e;
}

size_t opaque_secret_size(const struct opaque *k)
{
	return ((size_t)EVP_PKEY_get_bits(k->pub) + 7) / 8;
}
