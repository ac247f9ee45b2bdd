#include "reply.h"

#include <string.h>

#include "tao/stub.h"

#define DER_SEQUENCE 0x30
#define DER_INTEGER 0x02

static enum tao_err malformed(const char *what)
{
	return tao_fail(TAO_EPROTO, "the Tao host's answer is malformed (%s): "
	                "check that taod and tao.so are of one version", what);
}

static enum tao_err unpack(struct reply *r, const ProtobufCMessageDescriptor *d,
                           const struct tao_buf *body, const char *what)
{
	enum tao_err e;

	memset(r, 0, sizeof *r);
	tao_pb_alloc_init(&r->alloc, REPLY_MEMORY);
	e = tao_pb_unpack(&r->alloc, d, body->p, body->n, what, &r->m);
	return e == TAO_OK || e == TAO_ENOMEM ? e : malformed(what);
}

void reply_free(struct reply *r)
{
	if (r->m != NULL)
		tao_pb_free(&r->alloc, r->m);
	r->m = NULL;
	r->key = NULL;
	r->list = NULL;
}

static int is_ecdsa_der(const uint8_t *p, size_t n)
{
	struct tao_rd r = tao_rd_of(p, n), seq = tao_rd_der(&r, DER_SEQUENCE);
	struct tao_rd a = tao_rd_der(&seq, DER_INTEGER), b = tao_rd_der(&seq, DER_INTEGER);

	return tao_rd_done(&r) && tao_rd_done(&seq) && !a.bad && a.n > 0 && !b.bad && b.n > 0;
}

static int fits(enum reply_form form, const ProtobufCBinaryData *sig, size_t room)
{
	if (form == REPLY_ECDSA)
		return sig->len <= room && is_ecdsa_der(sig->data, sig->len);
	return form == REPLY_WHOLE && sig->len == room;
}

enum tao_err reply_signature(const struct tao_buf *body, enum reply_form form, uint8_t *sig,
                             size_t *sig_n)
{
	struct reply r;
	enum tao_err e = unpack(&r, &tao__sign_response__descriptor, body, "a signature");
	const Tao__SignResponse *m = (const Tao__SignResponse *)r.m;

	if (e != TAO_OK)
		goto out;
	if (!fits(form, &m->signature, *sig_n)) {
		e = malformed("a signature");
		goto out;
	}
	memcpy(sig, m->signature.data, m->signature.len);
	*sig_n = m->signature.len;
out:
	reply_free(&r);
	return e;
}

enum tao_err reply_decrypted(const struct tao_buf *body, size_t max, struct tao_buf *out)
{
	struct reply r;
	enum tao_err e = unpack(&r, &tao__decrypt_response__descriptor, body, "decrypted data");
	const Tao__DecryptResponse *m = (const Tao__DecryptResponse *)r.m;

	if (e == TAO_OK && m->data.len > max)
		e = malformed("decrypted data");
	if (e == TAO_OK)
		tao_buf_put(out, m->data.data, m->data.len);
	reply_free(&r);
	return e == TAO_OK ? tao_buf_err(out) : e;
}

enum tao_err reply_secret(const struct tao_buf *body, size_t n, struct tao_buf *out)
{
	struct reply r;
	enum tao_err e = unpack(&r, &tao__derive_response__descriptor, body, "a secret");
	const Tao__DeriveResponse *m = (const Tao__DeriveResponse *)r.m;

	if (e == TAO_OK && m->secret.len != n)
		e = malformed("a secret");
	if (e == TAO_OK)
		tao_buf_put(out, m->secret.data, m->secret.len);
	reply_free(&r);
	return e == TAO_OK ? tao_buf_err(out) : e;
}

enum tao_err reply_bytes(const struct tao_buf *body, size_t n, uint8_t *out)
{
	struct reply r;
	enum tao_err e = unpack(&r, &tao__rpcresponse__descriptor, body, "bytes");
	const Tao__RPCResponse *m = (const Tao__RPCResponse *)r.m;

	if (e == TAO_OK && (!m->has_data || m->data.len != n))
		e = malformed("the number of bytes");
	if (e == TAO_OK)
		memcpy(out, m->data.data, n);
	reply_free(&r);
	return e;
}

static int is_certificate(const ProtobufCBinaryData *d)
{
	struct tao_rd r = tao_rd_of(d->data, d->len), seq;

	if (d->len > REPLY_CERT_MAX)
		return 0;
	seq = tao_rd_der(&r, DER_SEQUENCE);
	return tao_rd_done(&r) && seq.n > 0;
}

static const char *key_fault(const Tao__KeyResponse *m, int need)
{
	if ((need & REPLY_STUB) && !m->has_stub)
		return "no stub";
	if (m->has_stub && (m->stub.len == 0 || m->stub.len > TAO_STUB_MAX))
		return "a stub's size";
	if ((need & REPLY_ID) && !m->has_key_id)
		return "no key id";
	if (m->has_key_id && m->key_id.len != REPLY_ID_LEN)
		return "a key id's size";
	if ((need & REPLY_CHAIN) && m->n_chain == 0)
		return "no certificate";
	if (m->n_chain > REPLY_CHAIN_MAX)
		return "too many certificates";
	for (size_t i = 0; i < m->n_chain; i++) {
		if (!is_certificate(&m->chain[i]))
			return "a certificate";
	}
	return NULL;
}

enum tao_err reply_key(struct reply *r, const struct tao_buf *body, int need)
{
	enum tao_err e = unpack(r, &tao__key_response__descriptor, body, "a key");
	const char *fault;

	if (e != TAO_OK)
		return e;
	fault = key_fault((const Tao__KeyResponse *)r->m, need);
	if (fault != NULL) {
		reply_free(r);
		return malformed(fault);
	}
	r->key = (const Tao__KeyResponse *)r->m;
	return TAO_OK;
}

enum tao_err reply_list(struct reply *r, const struct tao_buf *body)
{
	enum tao_err e = unpack(r, &tao__key_list_response__descriptor, body, "a list of keys");
	const Tao__KeyListResponse *m = (const Tao__KeyListResponse *)r->m;

	if (e != TAO_OK)
		return e;
	for (size_t i = 0; i < m->n_keys; i++) {
		if (tao_key_name_check(m->keys[i]->name, strlen(m->keys[i]->name)) == TAO_OK)
			continue;
		reply_free(r);
		return malformed("a list of keys");
	}
	r->list = m;
	return TAO_OK;
}

enum tao_err reply_nonces(const struct tao_buf *body, struct reply_nonces *out)
{
	struct reply r;
	enum tao_err e = unpack(&r, &tao__group_nonces_response__descriptor, body, "nonces");
	const Tao__GroupNoncesResponse *m = (const Tao__GroupNoncesResponse *)r.m;

	if (e == TAO_OK && (m->id.len != REPLY_NONCE_LEN || m->nonces.len == 0 ||
	                    m->nonces.len % REPLY_NONCE_LEN != 0 ||
	                    m->nonces.len > sizeof out->nonce))
		e = malformed("nonces");
	if (e == TAO_OK) {
		out->epoch = m->epoch;
		out->seconds = m->seconds;
		out->n = m->nonces.len / REPLY_NONCE_LEN;
		memcpy(out->id, m->id.data, sizeof out->id);
		memcpy(out->nonce, m->nonces.data, m->nonces.len);
	}
	reply_free(&r);
	return e;
}

enum tao_err reply_group(const struct tao_buf *body, uint8_t *share, size_t share_n,
                         uint8_t salt[REPLY_SALT_LEN], struct tao_buf *peer)
{
	struct reply r;
	enum tao_err e = unpack(&r, &tao__group_response__descriptor, body, "a group's salt");
	const Tao__GroupResponse *m = (const Tao__GroupResponse *)r.m;

	if (e == TAO_OK && (m->salt.len != REPLY_SALT_LEN || m->peer.len == 0 ||
	                    m->peer.len > REPLY_PEER_MAX))
		e = malformed("a group's salt");
	if (e == TAO_OK && share_n > 0 && (!m->has_server_share || m->server_share.len != share_n))
		e = malformed("a group's share");
	if (e == TAO_OK) {
		memcpy(salt, m->salt.data, REPLY_SALT_LEN);
		tao_buf_put(peer, m->peer.data, m->peer.len);
		if (share_n > 0)
			memcpy(share, m->server_share.data, share_n);
		e = tao_buf_err(peer);
	}
	reply_free(&r);
	return e;
}
