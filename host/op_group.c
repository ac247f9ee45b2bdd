#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "peers.h"
#include "tao.pb-c.h"

#define NONCES_MAX 64 /* drawn at once */

enum tao_err op_group_nonces(struct request *r)
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	Tao__GroupNoncesResponse rp = TAO__GROUP_NONCES_RESPONSE__INIT;
	uint8_t nonces[NONCES_MAX * TLSKEYS_SHARE_NONCE], id[TLSKEYS_ID];
	uint32_t epoch = peers_now(r->h);
	struct tao_pb_alloc pa;
	Tao__GroupNoncesRequest *rq = NULL;
	struct principal *c = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__group_nonces_request, &rq);

	if (e == TAO_OK && (rq->n < 1 || rq->n > NONCES_MAX))
		e = tao_fail(TAO_EINVAL, "1 to %d nonces are drawn at once", NONCES_MAX);
	if (e == TAO_OK && !domain_has_connect(r->h->domain))
		e = tao_fail(TAO_EDENIED, "the domain has no rules of who may talk to whom: its "
		             "owner adds them with 'tao connect'");
	if (e == TAO_OK)
		e = peers_epoch(r->h, epoch, r->may_be_slow);
	if (e == TAO_OK)
		e = peers_principal(r->h, r->inst, &c);
	if (e == TAO_OK)
		e = a->fn->id(a->data, epoch, c, id);
	if (e == TAO_OK)
		e = nonces_shares(r->h->peers->nonces, r->inst, rq->n, nonces);
	if (e == TAO_OK) {
		rp.epoch = epoch;
		rp.id = (ProtobufCBinaryData){ sizeof id, id };
		rp.nonces = (ProtobufCBinaryData){ rq->n * TLSKEYS_SHARE_NONCE, nonces };
		rp.seconds = PEERS_NONCE_SECONDS;
		tao_pb_pack(&rp.base, r->body);
	}
	principal_unref(c);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

static void put_salt(struct request *r, uint8_t salt[TLSKEYS_LEN], const struct principal *peer,
                     const struct tao_buf *share)
{
	Tao__GroupResponse rp = TAO__GROUP_RESPONSE__INIT;

	rp.salt = (ProtobufCBinaryData){ TLSKEYS_LEN, salt };
	rp.peer = (ProtobufCBinaryData){ peer->n, peer->bytes };
	if (share != NULL) {
		rp.has_server_share = 1;
		rp.server_share = (ProtobufCBinaryData){ share->n, share->p };
	}
	tao_pb_pack(&rp.base, r->body);
}

/* Whom the share names, where nothing came of it. */
static void note_peer(struct request *r, enum tao_err e, const struct principal *peer)
{
	char *text = e != TAO_OK && peer != NULL ? tao_node_text(peer->node) : NULL;

	audit_note(r, "peer", text);
	free(text);
}

/* Whose share it is, and that it is not the caller's own reflected. */
static enum tao_err find_client(struct request *r, const struct tlskeys_share *c,
                                struct principal **client)
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	uint64_t drawn;
	enum tao_err e = peers_epoch(r->h, c->epoch, r->may_be_slow);

	if (e == TAO_OK)
		e = a->fn->resolve(a->data, c->epoch, c->id, client);
	if (e == TAO_OK && nonces_share_is_own(r->h->peers->nonces, r->inst, c->nonce, &drawn))
		e = tao_fail(TAO_EDENIED, "the program would talk to itself: the key share is its "
		             "own");
	return e;
}

static enum tao_err make_share(struct request *r, const Tao__GroupServerRequest *rq,
                               const struct tlskeys_share *c, const struct principal *server,
                               struct tao_buf *share)
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	uint8_t id[TLSKEYS_ID], nonce[TLSKEYS_SHARE_NONCE];
	struct tlskeys_share s = {
		.public = rq->public_.data, .public_n = rq->public_.len, .epoch = c->epoch,
		.id = id, .nonce = nonce,
	};
	enum tao_err e = a->fn->id(a->data, c->epoch, server, id);

	if (e == TAO_OK && rq->public_.len != tlskeys_public_len(rq->group, 1))
		e = tao_fail(TAO_EFORMAT, "the server's part of group 0x%04x has %zu bytes, not "
		             "%zu", rq->group, tlskeys_public_len(rq->group, 1), rq->public_.len);
	if (e == TAO_OK && RAND_bytes(nonce, sizeof nonce) != 1)
		e = tao_fail_crypto("drawing a nonce");
	if (e == TAO_OK) {
		tlskeys_share_write(&s, share);
		e = tao_buf_err(share);
	}
	return e;
}

enum tao_err op_group_server(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__GroupServerRequest *rq = NULL;
	uint8_t key[TLSKEYS_LEN], salt[TLSKEYS_LEN];
	struct principal *client = NULL, *server = NULL;
	struct tao_buf share = TAO_BUF_INIT;
	struct tlskeys_share c;
	enum tao_err e = OP_UNPACK(r, &pa, tao__group_server_request, &rq);

	if (e == TAO_OK)
		e = tlskeys_share_parse(rq->group, 0, rq->client_share.data, rq->client_share.len,
		                        &c);
	if (e == TAO_OK)
		e = find_client(r, &c, &client);
	if (e == TAO_OK)
		e = peers_principal(r->h, r->inst, &server);
	if (e == TAO_OK)
		e = peers_pair(r->h, c.epoch, client, server, key);
	if (e == TAO_OK)
		e = make_share(r, rq, &c, server, &share);
	if (e == TAO_OK)
		e = tlskeys_salt(r->h->peers->keys, key, rq->client_share.data,
		                 rq->client_share.len, share.p, share.n, salt);
	if (e == TAO_OK)
		put_salt(r, salt, client, &share);
	if (e == TAO_OK)
		peers_answered(r->h, r->inst);
	note_peer(r, e, client);
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(salt, sizeof salt);
	tao_buf_free(&share);
	principal_unref(client);
	principal_unref(server);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* The client's share is this instance's, and the server answered it. */
static enum tao_err check_shares(struct request *r, const Tao__GroupClientRequest *rq,
                                 const struct principal *client, struct tlskeys_share *c,
                                 struct tlskeys_share *s, uint64_t *drawn)
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	uint8_t own[TLSKEYS_ID];
	enum tao_err e = tlskeys_share_parse(rq->group, 0, rq->client_share.data,
	                                     rq->client_share.len, c);

	if (e == TAO_OK)
		e = tlskeys_share_parse(rq->group, 1, rq->server_share.data, rq->server_share.len,
		                        s);
	if (e == TAO_OK && c->epoch != s->epoch)
		e = tao_fail(TAO_EDENIED, "the server answered in another epoch");
	if (e == TAO_OK)
		e = peers_epoch(r->h, c->epoch, r->may_be_slow);
	if (e == TAO_OK)
		e = a->fn->id(a->data, c->epoch, client, own);
	if (e == TAO_OK && (CRYPTO_memcmp(own, c->id, sizeof own) != 0 ||
	                    !nonces_share_is_own(r->h->peers->nonces, r->inst, c->nonce, drawn)))
		e = tao_fail(TAO_EDENIED, "this key share was not drawn for this program");
	return e;
}

enum tao_err op_group_client(struct request *r)
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	struct tao_pb_alloc pa;
	Tao__GroupClientRequest *rq = NULL;
	uint8_t key[TLSKEYS_LEN], salt[TLSKEYS_LEN];
	struct principal *client = NULL, *server = NULL;
	struct tlskeys_share c, s;
	uint64_t drawn = 0;
	enum tao_err e = OP_UNPACK(r, &pa, tao__group_client_request, &rq);

	if (e == TAO_OK)
		e = peers_principal(r->h, r->inst, &client);
	if (e == TAO_OK)
		e = check_shares(r, rq, client, &c, &s, &drawn);
	if (e == TAO_OK)
		e = a->fn->resolve(a->data, s.epoch, s.id, &server);
	if (e == TAO_OK)
		e = peers_pair(r->h, c.epoch, client, server, key);
	if (e == TAO_OK)
		e = tlskeys_salt(r->h->peers->keys, key, rq->client_share.data,
		                 rq->client_share.len,
		                 rq->server_share.data, rq->server_share.len, salt);
	if (e == TAO_OK)
		e = nonces_spend_share(r->h->peers->nonces, r->inst, drawn);
	if (e == TAO_OK)
		put_salt(r, salt, server, NULL);
	note_peer(r, e, server);
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(salt, sizeof salt);
	principal_unref(client);
	principal_unref(server);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- keys of groups of programs ---- */

/* A program of this host, which the domain has not revoked. */
static enum tao_err check_member(struct request *r, const ProtobufCBinaryData *b,
                                 uint8_t hash[TAO_HASH_LEN])
{
	struct tao_node *name = NULL;
	enum tao_err e = tao_prin_decode(b->data, b->len, &name);

	if (e == TAO_OK && (!tao_prin_covers(r->h->name, name) ||
	                    tao_prin_ext_count(name) == tao_prin_ext_count(r->h->name)))
		e = tao_fail(TAO_EDENIED, "a member of the group is no program of this host");
	if (e == TAO_OK)
		e = domain_not_revoked(r->h->domain, name, NULL);
	if (e == TAO_OK)
		e = tao_sha256(b->data, b->len, hash);
	tao_node_free(name);
	return e;
}

static enum tao_err check_members(struct request *r, const Tao__GroupKeyRequest *rq,
                                  uint8_t (*hash)[TAO_HASH_LEN])
{
	struct principal *me = NULL;
	int is_member = 0;
	enum tao_err e = peers_principal(r->h, r->inst, &me);

	if (e == TAO_OK && (rq->n_members < 2 || rq->n_members > TLSKEYS_MEMBERS))
		e = tao_fail(TAO_EINVAL, "a group has 2 to %d members", TLSKEYS_MEMBERS);
	for (size_t i = 0; e == TAO_OK && i < rq->n_members; i++) {
		e = check_member(r, &rq->members[i], hash[i]);
		is_member |= e == TAO_OK && memcmp(hash[i], me->hash, TAO_HASH_LEN) == 0;
	}
	if (e == TAO_OK && !is_member)
		e = tao_fail(TAO_EDENIED, "this program is no member of the group: name it among "
		             "them");
	principal_unref(me);
	return e;
}

enum tao_err op_group_key(struct request *r)
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	Tao__GroupKeyResponse rp = TAO__GROUP_KEY_RESPONSE__INIT;
	uint8_t hash[TLSKEYS_MEMBERS][TAO_HASH_LEN], key[TLSKEYS_LEN];
	struct tao_pb_alloc pa;
	Tao__GroupKeyRequest *rq = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__group_key_request, &rq);

	if (e == TAO_OK) {
		rp.epoch = rq->has_epoch ? rq->epoch : peers_now(r->h);
		audit_note_int(r, "members", (int64_t)rq->n_members);
		audit_note_int(r, "epoch", rp.epoch);
		e = check_members(r, rq, hash);
	}
	if (e == TAO_OK)
		e = peers_epoch(r->h, rp.epoch, r->may_be_slow);
	if (e == TAO_OK)
		e = a->fn->group_key(a->data, rp.epoch, hash, rq->n_members, key);
	if (e == TAO_OK) {
		rp.key = (ProtobufCBinaryData){ sizeof key, key };
		tao_pb_pack(&rp.base, r->body);
	}
	OPENSSL_cleanse(key, sizeof key);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
