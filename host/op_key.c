#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "imported.h"
#include "tao.pb-c.h"
#include "../tao/stub.h"

static void note_key(struct request *r, const struct held_key *k)
{
	struct key_facts f;

	held_key_facts(k, &f);
	audit_note_key(r, held_key_id(k), f.name);
}

static enum tao_err own_stub(struct request *r, const char *name, struct tao_buf *stub)
{
	if (name == NULL)
		return tao_fail(TAO_EINVAL, "%s needs a key's name", r->m->op);
	return keystore_get(r->h, r->inst->uid, name, stub);
}

/* 1 if the stub's public key is this one. */
static int has_spki(const struct tao_buf *stub, const struct tao_stub *as)
{
	struct tao_stub st;

	return tao_stub_parse(stub->p, stub->n, &st) == TAO_OK && st.spki_n == as->spki_n &&
	       memcmp(st.spki, as->spki, st.spki_n) == 0;
}

/* A stub without its sealed part stands for the key of that name in the store. */
static enum tao_err complete(struct request *r, const struct tao_stub *st, struct tao_buf *stub)
{
	char name[TAO_KEY_NAME_MAX + 1] = "";
	struct tao_buf old = TAO_BUF_INIT;
	enum tao_err e;

	memcpy(name, st->name, st->name_n);
	e = own_stub(r, name, stub);
	if (e != TAO_OK || has_spki(stub, st))
		return e;
	e = keystore_get_old(r->h, r->inst->uid, name, &old);
	if (e != TAO_OK || !has_spki(&old, st)) {
		e = tao_fail(TAO_EALTERED, "the stub is for another key than the host's key %s, or "
		             "for one that was rotated since: write it again with 'tao key pem %s'",
		             name, name);
	} else {
		tao_buf_reset(stub);
		tao_buf_put(stub, old.p, old.n);
		e = tao_buf_err(stub);
	}
	tao_buf_free(&old);
	return e;
}

/* The key of a name or of a stub, open and the caller's to use. stub: its DER. */
static enum tao_err open_asked(struct request *r, const Tao__KeyRequest *rq, struct tao_buf *stub,
                               struct held_key **k)
{
	struct tao_stub st;
	enum tao_err e;

	if (!rq->has_stub) {
		e = own_stub(r, rq->name, stub);
	} else {
		e = tao_stub_parse(rq->stub.data, rq->stub.len, &st);
		if (e == TAO_OK && st.sealed != NULL)
			tao_buf_put(stub, rq->stub.data, rq->stub.len);
		else if (e == TAO_OK)
			e = complete(r, &st, stub);
	}
	if (e == TAO_OK)
		e = tao_buf_err(stub);
	if (e == TAO_OK)
		e = custody_open(r->h, stub->p, stub->n, k);
	if (e != TAO_OK)
		return e;
	note_key(r, *k);
	return custody_allows(r->h, *k, r->inst);
}

/* A private half goes to whoever asked for the key by Tao.GetKey or Tao.OpenKey. */
static enum tao_err put_key(struct request *r, struct held_key *k, const struct tao_buf *stub)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	struct tao_buf private = TAO_BUF_INIT;
	struct key_facts f;
	enum tao_err e = TAO_OK;

	held_key_facts(k, &f);
	if (strcmp(f.custody, "program") == 0) {
		e = custody_private(r->h, k, &private);
		rp.has_private_key = 1;
		rp.private_key.data = private.p;
		rp.private_key.len = private.n;
		host_log_of(r->h, r->c->uid, "info", "program %s of user %u has key %s in its own "
		            "memory", r->inst->program, (unsigned)r->inst->uid, f.name);
	}
	if (stub != NULL) {
		rp.has_stub = 1;
		rp.stub.data = stub->p;
		rp.stub.len = stub->n;
	}
	rp.has_key_id = 1;
	rp.key_id.data = (uint8_t *)held_key_id(k);
	rp.key_id.len = TAO_HASH_LEN;
	rp.type = (char *)f.type;
	rp.purpose = (char *)f.purpose;
	rp.custody = (char *)f.custody;
	if (e == TAO_OK)
		tao_pb_pack(&rp.base, r->body);
	tao_buf_free(&private);
	return e;
}

/* Tao.GetKey answers with the stub, too; who opens one has it. */
static enum tao_err give_key(struct request *r, int by_name)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && !by_name && !rq->has_stub)
		e = tao_fail(TAO_EINVAL, "Tao.OpenKey needs a stub");
	if (e == TAO_OK && by_name)
		rq->has_stub = 0;
	if (e == TAO_OK)
		e = open_asked(r, rq, &stub, &k);
	if (e == TAO_OK)
		e = put_key(r, k, by_name ? &stub : NULL);
	held_key_release(k);
	tao_buf_free(&stub);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_get_key(struct request *r)
{
	return give_key(r, 1);
}

enum tao_err op_open_key(struct request *r)
{
	return give_key(r, 0);
}

/* ---- using a key ---- */

/* An open key that the caller may use; OP_LATER where using it would hold up others. */
static enum tao_err find_for_use(struct request *r, const ProtobufCBinaryData *id,
                                 struct held_key **k)
{
	enum tao_err e = custody_find(r->h, id->data, id->len, k);
	struct key_facts f;

	if (e != TAO_OK)
		return e;
	held_key_facts(*k, &f);
	/* The answer to Tao.OpenKey brings the key: who asks for that uses it by itself. */
	if (strcmp(f.custody, "program") == 0)
		return tao_fail(TAO_EUNKNOWNKEY, "key %s is used in its program: open it", f.name);
	if (custody_is_slow(*k) && !r->may_be_slow)
		return OP_LATER;
	note_key(r, *k);
	return custody_allows(r->h, *k, r->inst);
}

enum tao_err op_sign(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__SignRequest *rq = NULL;
	Tao__SignResponse rp = TAO__SIGN_RESPONSE__INIT;
	struct tao_buf sig = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__sign_request, &rq);

	if (e == TAO_OK)
		e = find_for_use(r, &rq->key_id, &k);
	if (e == TAO_OK) {
		struct sign_how how = {
			.digest = rq->digest, .padding = rq->padding, .mgf1 = rq->mgf1_digest,
			.has_salt_len = rq->has_salt_len, .salt_len = rq->salt_len,
			.message = rq->message,
		};

		e = custody_sign(r->h, k, &how, rq->data.data, rq->data.len, &sig);
	}
	if (e == TAO_OK) {
		rp.signature.data = sig.p;
		rp.signature.len = sig.n;
		tao_pb_pack(&rp.base, r->body);
	}
	held_key_release(k);
	tao_buf_free(&sig);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_decrypt(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__DecryptRequest *rq = NULL;
	Tao__DecryptResponse rp = TAO__DECRYPT_RESPONSE__INIT;
	struct tao_buf plain = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__decrypt_request, &rq);

	if (e == TAO_OK)
		e = find_for_use(r, &rq->key_id, &k);
	if (e == TAO_OK) {
		struct decrypt_how how = {
			.padding = rq->padding, .digest = rq->digest, .mgf1 = rq->mgf1_digest,
			.label = rq->label.data, .label_n = rq->label.len,
			.tls_version = rq->tls_version, .tls_alt_version = rq->tls_alt_version,
		};

		e = custody_decrypt(r->h, k, &how, rq->data.data, rq->data.len, &plain);
	}
	if (e == TAO_OK) {
		rp.data.data = plain.p;
		rp.data.len = plain.n;
		tao_pb_pack(&rp.base, r->body);
	}
	held_key_release(k);
	tao_buf_free(&plain);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_derive(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__DeriveRequest *rq = NULL;
	Tao__DeriveResponse rp = TAO__DERIVE_RESPONSE__INIT;
	struct tao_buf secret = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__derive_request, &rq);

	if (e == TAO_OK)
		e = find_for_use(r, &rq->key_id, &k);
	if (e == TAO_OK)
		e = custody_derive(r->h, k, rq->peer.data, rq->peer.len, &secret);
	if (e == TAO_OK) {
		rp.secret.data = secret.p;
		rp.secret.len = secret.n;
		tao_pb_pack(&rp.base, r->body);
	}
	held_key_release(k);
	tao_buf_free(&secret);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- certificates ---- */

static void put_chain(struct request *r, const struct tao_buf *certs, size_t n)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	ProtobufCBinaryData chain[CERTCHAIN_MAX];

	for (size_t i = 0; i < n; i++) {
		chain[i].data = certs[i].p;
		chain[i].len = certs[i].n;
	}
	rp.n_chain = n;
	rp.chain = chain;
	tao_pb_pack(&rp.base, r->body);
}

/* The domain's: certificate and policy certificate. */
static enum tao_err domain_chain(struct request *r, const struct held_key *k,
                                 struct tao_buf chain[2])
{
	enum tao_err e = cert_obtain(r->h, r->inst, k, &chain[0]);

	if (e != TAO_OK && chain[0].n > 0) { /* the caller has it, if no other */
		host_log("warning", "a certificate is not on file: %s", tao_why());
		e = TAO_OK;
	}
	return e == TAO_OK ? domain_policy_cert(r->h->domain, &chain[1]) : e;
}

enum tao_err op_get_certificate(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct tao_buf stub = TAO_BUF_INIT, chain[CERTCHAIN_MAX];
	struct held_key *k = NULL;
	struct key_facts f;
	size_t n = 0;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	for (size_t i = 0; i < CERTCHAIN_MAX; i++)
		chain[i] = stub;
	if (e == TAO_OK) {
		rq->has_stub = 0;
		e = open_asked(r, rq, &stub, &k);
	}
	if (e == TAO_OK) {
		held_key_facts(k, &f);
		e = imported_chain(r->h, &f, chain, &n);
	}
	if (e == TAO_OK && n == 0) {
		n = 2;
		e = domain_chain(r, k, chain);
	}
	if (e == TAO_OK)
		put_chain(r, chain, n);
	held_key_release(k);
	tao_buf_free(&stub);
	for (size_t i = 0; i < CERTCHAIN_MAX; i++)
		tao_buf_free(&chain[i]);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_policy_certificate(struct request *r)
{
	struct tao_buf cert = TAO_BUF_INIT;
	enum tao_err e = domain_policy_cert(r->h->domain, &cert);

	if (e == TAO_OK)
		put_chain(r, &cert, 1);
	tao_buf_free(&cert);
	return e;
}
