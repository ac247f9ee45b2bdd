#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#include "peers.h"
#include "tao.pb-c.h"

#define NO_RULES "the domain has no rules of who may talk to whom: its owner adds them with " \
	"'tao connect'"

/* ---- the program's own key ---- */

enum tao_err op_identity(struct request *r)
{
	struct tao_buf stub = TAO_BUF_INIT, certs[2] = { TAO_BUF_INIT, TAO_BUF_INIT };
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	ProtobufCBinaryData chain[2];
	struct held_key *k = NULL;
	struct key_facts f;
	enum tao_err e = peers_identity(r->h, r->inst, &k, &stub, &certs[0]);

	if (k != NULL) {
		held_key_facts(k, &f);
		audit_note_key(r, held_key_id(k), f.name);
	}
	if (e == TAO_OK)
		e = domain_policy_cert(r->h->domain, &certs[1]);
	if (e == TAO_OK) {
		for (size_t i = 0; i < 2; i++)
			chain[i] = (ProtobufCBinaryData){ certs[i].n, certs[i].p };
		rp.has_stub = rp.has_key_id = 1;
		rp.stub = (ProtobufCBinaryData){ stub.n, stub.p };
		rp.key_id = (ProtobufCBinaryData){ TAO_HASH_LEN, (uint8_t *)held_key_id(k) };
		rp.n_chain = 2;
		rp.chain = chain;
		rp.type = (char *)f.type;
		rp.purpose = (char *)f.purpose;
		rp.custody = (char *)f.custody;
		tao_pb_pack(&rp.base, r->body);
	}
	held_key_release(k);
	tao_buf_free(&stub);
	tao_buf_free(&certs[0]);
	tao_buf_free(&certs[1]);
	return e;
}

/* ---- what policy knows ---- */

enum tao_err op_peer(struct request *r)
{
	Tao__PeerResponse rp = TAO__PEER_RESPONSE__INIT;
	struct tao_pb_alloc pa;
	Tao__PeerRequest *rq = NULL;
	char name[PEERS_DNS_MAX + 1];
	enum tao_err e = OP_UNPACK(r, &pa, tao__peer_request, &rq);

	if (e == TAO_OK && peers_name(rq->name, name) == TAO_OK)
		rp.known = domain_knows_service(r->h->domain, name);
	if (e == TAO_OK) {
		rp.peers = domain_has_connect(r->h->domain);
		rp.seconds = PEERS_VERDICT_SECONDS;
		rp.why = (char *)(!rp.peers ? NO_RULES : NULL);
		tao_pb_pack(&rp.base, r->body);
	}
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- PSK ---- */

static enum tao_err check_how(uint32_t version, uint32_t hash)
{
	if (version != 0x0304 && version != 0x0303 && version != 0xfefd)
		return tao_fail(TAO_EINVAL, "there is no PSK for TLS version 0x%04x", version);
	if (hash != TLSKEYS_SHA256 && hash != TLSKEYS_SHA384)
		return tao_fail(TAO_EINVAL, "there is no PSK for hash %u", hash);
	return TAO_OK;
}

/* "None, because": an answer, and a line in the audit log. */
static void put_no_psk(struct request *r, const char *what, const char *peer, int has_known,
                       int known, enum tao_err e)
{
	Tao__PskResponse rp = TAO__PSK_RESPONSE__INIT;

	audit_refused(r, what, peer, e);
	rp.has_known = has_known;
	rp.known = known;
	rp.why = (char *)tao_why();
	tao_pb_pack(&rp.base, r->body);
}

struct psk {
	uint8_t identity[TLSKEYS_IDENTITY], secret[TLSKEYS_PSK_MAX];
	size_t n;
};

/* The peer's card and the policy certificate behind it; without a card, why says so. */
static enum tao_err put_psk(struct request *r, struct psk *psk, int with_identity,
                            const struct principal *peer, const struct card *card)
{
	Tao__PskResponse rp = TAO__PSK_RESPONSE__INIT;
	struct tao_buf policy = TAO_BUF_INIT;
	ProtobufCBinaryData chain[2];
	enum tao_err e = TAO_OK;

	rp.has_identity = with_identity;
	rp.identity = (ProtobufCBinaryData){ sizeof psk->identity, psk->identity };
	rp.has_psk = rp.has_peer = 1;
	rp.psk = (ProtobufCBinaryData){ psk->n, psk->secret };
	rp.peer = (ProtobufCBinaryData){ peer->n, peer->bytes };
	rp.has_known = rp.known = with_identity;
	if (card->cert.n > 0) {
		e = domain_policy_cert(r->h->domain, &policy);
		chain[0] = (ProtobufCBinaryData){ card->cert.n, card->cert.p };
		chain[1] = (ProtobufCBinaryData){ policy.n, policy.p };
		rp.n_chain = 2;
		rp.chain = chain;
	} else {
		rp.why = card->why;
	}
	if (e == TAO_OK)
		tao_pb_pack(&rp.base, r->body);
	tao_buf_free(&policy);
	return e;
}

/* Of a clock that was set back the host cannot tell which identities it has answered already. */
static enum tao_err check_clock(struct request *r, int64_t now)
{
	if (!peers_clock_was_set_back(r->h, now))
		return TAO_OK;
	return tao_fail(TAO_EEXPIRED, "the clock was set back, so no pre-shared key is used: "
	                "restart the host, if the clock is right now");
}

static enum tao_err make_psk(struct request *r, const Tao__PskClientRequest *rq,
                             struct principal *c, struct principal *s, struct psk *psk)
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	uint8_t key[TLSKEYS_LEN], id[2][TLSKEYS_ID], nonce[TLSKEYS_IDENTITY_NONCE];
	struct tlskeys_identity i = {
		.epoch = peers_now(r->h), .hash = rq->hash, .version = rq->tls_version,
		.c = id[0], .s = id[1], .nonce = nonce,
	};
	int64_t now = time(NULL), floor = nonces_floor(r->h->peers->nonces);
	enum tao_err e = check_clock(r, now);

	i.time = (uint32_t)(now < floor ? floor : now);
	if (e == TAO_OK)
		e = peers_epoch(r->h, i.epoch, r->may_be_slow);
	if (e == TAO_OK)
		e = peers_pair(r->h, i.epoch, c, s, key);
	if (e == TAO_OK)
		e = a->fn->id(a->data, i.epoch, c, id[0]);
	if (e == TAO_OK)
		e = a->fn->id(a->data, i.epoch, s, id[1]);
	if (e == TAO_OK)
		e = nonces_identity(r->h->peers->nonces, r->inst, nonce);
	if (e == TAO_OK)
		e = tlskeys_identity_write(r->h->peers->keys, key, &i, psk->identity);
	if (e == TAO_OK)
		e = tlskeys_psk(r->h->peers->keys, key, psk->identity, psk->secret, &psk->n);
	OPENSSL_cleanse(key, sizeof key);
	return e;
}

/* What is not the caller's mistake is an answer without a secret. */
static int is_answer(enum tao_err e)
{
	return e == TAO_EDENIED || e == TAO_ENOTFOUND || e == TAO_EEXPIRED || e == TAO_EALTERED ||
	       e == TAO_ELIMIT || e == TAO_EFORMAT || e == TAO_EVERSION;
}

static enum tao_err serve_client(struct request *r, const Tao__PskClientRequest *rq,
                                 const char *name, struct principal *c, struct service **s)
{
	struct psk psk;
	struct card *own = NULL;
	/* which the server will want */
	enum tao_err e = peers_card(r->h, r->inst, c, r->may_be_slow, &own);

	card_unref(own);
	if (e == TAO_OK)
		e = peers_service(r->h, r->inst, c, name, r->may_be_slow, s);
	if (e == TAO_OK && (*s)->inst == NULL)
		e = tao_fail(TAO_ENOTFOUND, "%s",
		             (*s)->why != NULL ? (*s)->why : "nobody serves it");
	if (e == TAO_OK)
		e = make_psk(r, rq, c, (*s)->server, &psk);
	if (e == TAO_OK)
		e = put_psk(r, &psk, 1, (*s)->server, (*s)->card);
	OPENSSL_cleanse(&psk, sizeof psk);
	return e;
}

enum tao_err op_psk_client(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__PskClientRequest *rq = NULL;
	struct principal *c = NULL;
	struct service *s = NULL;
	char name[PEERS_DNS_MAX + 1];
	enum tao_err e = OP_UNPACK(r, &pa, tao__psk_client_request, &rq);

	if (e == TAO_OK)
		e = check_how(rq->tls_version, rq->hash);
	if (e == TAO_OK)
		e = peers_name(rq->name, name);
	if (e == TAO_OK)
		e = peers_principal(r->h, r->inst, &c);
	if (e == TAO_OK) {
		e = serve_client(r, rq, name, c, &s);
		if (is_answer(e)) {
			put_no_psk(r, "psk-client", name, s != NULL, s != NULL && s->known, e);
			e = TAO_OK;
		}
	}
	service_unref(s);
	principal_unref(c);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* *when: with the high bits of the present. */
static enum tao_err check_time(struct request *r, const struct tlskeys_identity *i, int64_t *when)
{
	int64_t now = time(NULL);
	int32_t off = (int32_t)(i->time - (uint32_t)now);
	enum tao_err e = check_clock(r, now);

	*when = now + off;
	if (e != TAO_OK)
		return e;
	if (off > PEERS_TIME || off < -PEERS_TIME || *when < nonces_floor(r->h->peers->nonces))
		return tao_fail(TAO_EEXPIRED, "the identity was made %d seconds %s: check the "
		                "clocks",
		                (int)(off < 0 ? -(int64_t)off : off), off < 0 ? "ago" : "from now");
	return TAO_OK;
}

/* All that costs little, before anything is looked up. */
static enum tao_err check_identity(struct request *r, const Tao__PskServerRequest *rq,
                                   struct tlskeys_identity *i, int64_t *when)
{
	enum tao_err e = tlskeys_identity_parse(rq->identity.data, rq->identity.len, i);

	if (e == TAO_OK && (i->hash != rq->hash || i->version != rq->tls_version))
		e = tao_fail(TAO_EDENIED, "the identity is for another hash or version of TLS");
	if (e == TAO_OK)
		e = check_time(r, i, when);
	return e;
}

/* The pair key, if the identity is what the client's host made for this program. */
static enum tao_err check_pair(struct request *r, const struct tlskeys_identity *i,
                               const uint8_t *identity, struct principal *s, struct principal **c,
                               uint8_t key[TLSKEYS_LEN])
{
	const struct tao_ancestor *a = peers_ancestor(r->h);
	uint8_t own[TLSKEYS_ID];
	enum tao_err e = a->fn->id(a->data, i->epoch, s, own);

	if (e == TAO_OK && CRYPTO_memcmp(own, i->s, sizeof own) != 0)
		e = tao_fail(TAO_EDENIED, "the identity is for another server than this program");
	if (e == TAO_OK)
		e = a->fn->resolve(a->data, i->epoch, i->c, c);
	if (e == TAO_OK)
		e = peers_pair(r->h, i->epoch, *c, s, key);
	if (e == TAO_OK)
		e = tlskeys_identity_check(r->h->peers->keys, key, identity);
	if (e == TAO_OK && nonces_identity_is_own(r->h->peers->nonces, r->inst, i->nonce))
		e = tao_fail(TAO_EDENIED, "the program would talk to itself: the identity is its "
		             "own");
	return e;
}

static enum tao_err serve_server(struct request *r, const Tao__PskServerRequest *rq,
                                 struct principal *s, struct principal **c)
{
	struct tlskeys_identity i;
	struct card *card = NULL;
	struct psk psk;
	uint8_t key[TLSKEYS_LEN];
	int64_t when;
	enum tao_err e = check_identity(r, rq, &i, &when);

	if (e == TAO_OK)
		e = peers_epoch(r->h, i.epoch, r->may_be_slow);
	if (e == TAO_OK)
		e = check_pair(r, &i, rq->identity.data, s, c, key);
	if (e == TAO_OK)
		e = peers_card(r->h, NULL, *c, r->may_be_slow, &card);
	if (e == TAO_OK)
		e = peers_spend(r->h, &i, when, *c, s);
	if (e == TAO_OK)
		e = tlskeys_psk(r->h->peers->keys, key, rq->identity.data, psk.secret, &psk.n);
	if (e == TAO_OK)
		e = put_psk(r, &psk, 0, *c, card);
	if (e == TAO_OK)
		peers_answered(r->h, r->inst);
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(&psk, sizeof psk);
	card_unref(card);
	return e;
}

enum tao_err op_psk_server(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__PskServerRequest *rq = NULL;
	struct principal *s = NULL, *c = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__psk_server_request, &rq);

	if (e == TAO_OK)
		e = check_how(rq->tls_version, rq->hash);
	if (e == TAO_OK)
		e = peers_principal(r->h, r->inst, &s);
	if (e == TAO_OK) {
		e = serve_server(r, rq, s, &c);
		if (is_answer(e)) {
			put_no_psk(r, "psk-server", NULL, 0, 0, e);
			e = TAO_OK;
		}
	}
	principal_unref(c);
	principal_unref(s);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- certificates that a peer has shown ---- */

struct verdict {
	int ours, allowed;
	struct principal *peer;
	const char *why;
};

/* The peer is this domain's program. */
static enum tao_err judge_program(struct request *r, const Tao__CheckPeerRequest *rq,
                                  const char *name, struct principal *me, struct principal *peer,
                                  const uint8_t *subject)
{
	struct host *h = r->h;
	enum tao_err e = domain_not_revoked(h->domain, peer->node, subject);

	if (e != TAO_OK || !domain_has_connect(h->domain))
		return e;
	e = rq->server ? peers_pair(h, peers_now(h), peer, me, NULL)
	               : peers_pair(h, peers_now(h), me, peer, NULL);
	if (e == TAO_OK && !rq->server && name != NULL && domain_knows_service(h->domain, name))
		e = domain_serves(h->domain, peer->node, name);
	return e;
}

static enum tao_err judge_stranger(struct request *r, const Tao__CheckPeerRequest *rq,
                                   const char *name)
{
	if (rq->server || name == NULL || !domain_has_connect(r->h->domain) ||
	    !domain_knows_service(r->h->domain, name))
		return TAO_OK;
	return tao_fail(TAO_EDENIED, "the rules say which programs serve %s, and the certificate "
	                "is none of theirs", name);
}

static enum tao_err judge(struct request *r, const Tao__CheckPeerRequest *rq, const char *name,
                          struct principal **peer, int *ours)
{
	uint8_t subject[TAO_HASH_LEN];
	struct principal *me = NULL;
	enum tao_err e = peers_principal(r->h, r->inst, &me);

	*ours = 0;
	if (e == TAO_OK && rq->n_chain > 0) {
		e = shown_program(r->h, rq->chain[0].data, rq->chain[0].len, peer, subject);
		*ours = *peer != NULL || e == TAO_EEXPIRED;
	}
	if (e == TAO_OK)
		e = *peer != NULL ? judge_program(r, rq, name, me, *peer, subject)
		                  : judge_stranger(r, rq, name);
	principal_unref(me);
	return e;
}

static enum tao_err put_verdict(struct request *r, const struct principal *peer, int ours,
                                enum tao_err e)
{
	Tao__CheckPeerResponse rp = TAO__CHECK_PEER_RESPONSE__INIT;
	char *text = peer != NULL ? tao_node_text(peer->node) : NULL;

	rp.ours = ours;
	rp.allowed = e == TAO_OK;
	rp.seconds = PEERS_VERDICT_SECONDS;
	if (peer != NULL) {
		rp.has_peer = 1;
		rp.peer = (ProtobufCBinaryData){ peer->n, peer->bytes };
		rp.peer_text = text;
	}
	if (e != TAO_OK) {
		rp.why = (char *)tao_why();
		audit_refused(r, "peer", text, e);
	}
	tao_pb_pack(&rp.base, r->body);
	free(text);
	return TAO_OK;
}

enum tao_err op_check_peer(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__CheckPeerRequest *rq = NULL;
	struct principal *peer = NULL;
	char name[PEERS_DNS_MAX + 1];
	int named = 0, ours;
	enum tao_err e = OP_UNPACK(r, &pa, tao__check_peer_request, &rq);

	if (e == TAO_OK && rq->n_chain > PEERS_CHAIN_MAX)
		e = tao_fail(TAO_ELIMIT, "a peer shows at most %d certificates", PEERS_CHAIN_MAX);
	if (e == TAO_OK && rq->name != NULL)
		named = peers_name(rq->name, name) == TAO_OK;
	if (e == TAO_OK) {
		e = judge(r, rq, named ? name : NULL, &peer, &ours);
		if (e == TAO_OK || is_answer(e))
			e = put_verdict(r, peer, ours, e);
	}
	principal_unref(peer);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- for the log ---- */

static enum tao_err note_peer(struct request *r, const ProtobufCBinaryData *peer)
{
	struct tao_node *name = NULL;
	enum tao_err e = tao_prin_decode(peer->data, peer->len, &name);
	char *text = e == TAO_OK ? tao_node_text(name) : NULL;

	audit_note(r, "peer", text);
	free(text);
	tao_node_free(name);
	return e;
}

enum tao_err op_handshake(struct request *r)
{
	static const char *const modes[] = { "psk", "group", "certificate", "none" };
	struct tao_pb_alloc pa;
	Tao__HandshakeRequest *rq = NULL;
	size_t m = 0;
	enum tao_err e = OP_UNPACK(r, &pa, tao__handshake_request, &rq);

	while (e == TAO_OK && m < sizeof modes / sizeof *modes && strcmp(modes[m], rq->mode) != 0)
		m++;
	if (m == sizeof modes / sizeof *modes)
		e = tao_fail(TAO_EINVAL, "a handshake's mode is psk, group, certificate or none");
	if (e == TAO_OK) {
		audit_note(r, "role", rq->server ? "server" : "client");
		audit_note(r, "did", rq->completed ? "completed" : "refused");
		audit_note(r, "mode", rq->mode);
		audit_note_int(r, "tls", rq->tls_version);
		audit_note(r, "group", rq->group);
		audit_note(r, "cipher", rq->cipher);
		audit_note(r, "name", rq->name);
		audit_note(r, "reason", rq->why);
		if (rq->has_count)
			audit_note_int(r, "count", rq->count);
		if (rq->has_peer)
			e = note_peer(r, &rq->peer);
	}
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
