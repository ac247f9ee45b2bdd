#include "channel.h"

#include <stdlib.h>
#include <string.h>

#include "provider.h"
#include "tao/pb.h"
#include "tao/stub.h"

#define MEMORY (2u << 20) /* bytes that an unpacked answer may take */

/* The answer, and what it points to. */
struct held {
	struct channel_answer answer;
	struct tao_pb_alloc alloc;
	ProtobufCMessage *m;
};

static void release(struct channel_answer *a)
{
	struct held *h = (struct held *)a;

	if (h == NULL)
		return;
	tao_pb_free(&h->alloc, h->m);
	free(h);
}

static enum tao_err misfit(const char *op)
{
	return tao_fail(TAO_EPROTO, "the Tao host's answer to %s does not fit: check that taod and "
	                "tao.so are of one version", op);
}

/* One request; the answer unpacked. */
static enum tao_err ask(struct prov *p, const char *op, const ProtobufCMessage *req,
                        const ProtobufCMessageDescriptor *d, struct held **out)
{
	struct tao_buf reply = TAO_BUF_INIT;
	struct held *h = calloc(1, sizeof *h);
	enum tao_err e;

	*out = NULL;
	if (h == NULL)
		return tao_fail_nomem();
	tao_pb_alloc_init(&h->alloc, MEMORY);
	e = prov_call(p, op, req, &reply);
	if (e == TAO_OK && tao_pb_unpack(&h->alloc, d, reply.p, reply.n, op, &h->m) != TAO_OK)
		e = misfit(op);
	tao_buf_free(&reply);
	if (e == TAO_OK)
		*out = h;
	else
		release(&h->answer);
	return e;
}

/* Keeps h only if the answer was good. */
static enum tao_err give(enum tao_err e, struct held *h, struct channel_answer **out)
{
	*out = e == TAO_OK ? &h->answer : NULL;
	if (e != TAO_OK)
		release(&h->answer);
	return e;
}

static enum tao_err ask_peer(void *arg, const char *name, struct channel_answer **out)
{
	Tao__PeerRequest q = TAO__PEER_REQUEST__INIT;
	const Tao__PeerResponse *r;
	struct held *h;
	enum tao_err e;

	q.name = (char *)name;
	*out = NULL;
	e = ask(arg, "Tao.Peer", &q.base, &tao__peer_response__descriptor, &h);
	if (e != TAO_OK)
		return e;
	r = (const Tao__PeerResponse *)h->m;
	h->answer.known = r->known;
	h->answer.peers = r->peers;
	h->answer.seconds = r->seconds;
	h->answer.why = r->why;
	return give(TAO_OK, h, out);
}

static int take_chain(struct channel_answer *a, size_t n, const ProtobufCBinaryData *chain)
{
	if (n > CHANNEL_CHAIN_MAX)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (chain[i].len == 0 || chain[i].len > CHANNEL_CERT_MAX)
			return 0;
		a->chain[i] = (struct channel_der){ chain[i].data, chain[i].len };
	}
	a->n_chain = n;
	return 1;
}

static int take_peer(struct channel_answer *a, int has, const ProtobufCBinaryData *peer)
{
	if (!has)
		return 1;
	a->peer = peer->data;
	a->peer_n = peer->len;
	return peer->len > 0 && peer->len <= CHANNEL_PRINCIPAL_MAX;
}

/* All of a secret, or none of it. */
static int take_psk(struct channel_answer *a, const Tao__PskResponse *r, int hash, int client)
{
	size_t n = hash == CHANNEL_SHA384 ? 48 : 32;

	a->known = r->known;
	a->why = r->why;
	if (!r->has_psk)
		return !r->has_identity;
	if (r->psk.len != n || !r->has_peer || !take_peer(a, 1, &r->peer) ||
	    !take_chain(a, r->n_chain, r->chain))
		return 0;
	if (client && (!r->has_identity || r->identity.len != CHANNEL_IDENTITY_LEN))
		return 0;
	a->identity = client ? r->identity.data : NULL;
	a->psk = r->psk.data;
	a->psk_n = n;
	return 1;
}

static enum tao_err ask_psk_client(void *arg, const char *name, uint32_t tls_version, int hash,
                                   struct channel_answer **out)
{
	Tao__PskClientRequest q = TAO__PSK_CLIENT_REQUEST__INIT;
	struct held *h;
	enum tao_err e;

	q.name = (char *)name;
	q.tls_version = tls_version;
	q.hash = (uint32_t)hash;
	*out = NULL;
	e = ask(arg, "Tao.PskClient", &q.base, &tao__psk_response__descriptor, &h);
	if (e != TAO_OK)
		return e;
	if (!take_psk(&h->answer, (const Tao__PskResponse *)h->m, hash, 1))
		e = misfit("Tao.PskClient");
	return give(e, h, out);
}

static enum tao_err ask_psk_server(void *arg, const uint8_t *identity, size_t n,
                                   uint32_t tls_version, int hash, struct channel_answer **out)
{
	Tao__PskServerRequest q = TAO__PSK_SERVER_REQUEST__INIT;
	struct held *h;
	enum tao_err e;

	q.identity.data = (uint8_t *)identity;
	q.identity.len = n;
	q.tls_version = tls_version;
	q.hash = (uint32_t)hash;
	*out = NULL;
	e = ask(arg, "Tao.PskServer", &q.base, &tao__psk_response__descriptor, &h);
	if (e != TAO_OK)
		return e;
	if (!take_psk(&h->answer, (const Tao__PskResponse *)h->m, hash, 0))
		e = misfit("Tao.PskServer");
	return give(e, h, out);
}

static enum tao_err ask_check_peer(void *arg, const struct channel_der *chain, size_t n, int server,
                                   const char *name, struct channel_answer **out)
{
	Tao__CheckPeerRequest q = TAO__CHECK_PEER_REQUEST__INIT;
	ProtobufCBinaryData certs[CHANNEL_CHAIN_MAX];
	const Tao__CheckPeerResponse *r;
	struct held *h;
	enum tao_err e;

	*out = NULL;
	if (n > CHANNEL_CHAIN_MAX)
		return tao_fail(TAO_ELIMIT, "a chain of %zu certificates", n);
	for (size_t i = 0; i < n; i++)
		certs[i] = (ProtobufCBinaryData){ chain[i].n, (uint8_t *)chain[i].p };
	q.n_chain = n;
	q.chain = certs;
	q.server = server;
	q.name = (char *)name;
	e = ask(arg, "Tao.CheckPeer", &q.base, &tao__check_peer_response__descriptor, &h);
	if (e != TAO_OK)
		return e;
	r = (const Tao__CheckPeerResponse *)h->m;
	h->answer.ours = r->ours;
	h->answer.allowed = r->allowed;
	h->answer.seconds = r->seconds;
	h->answer.why = r->why;
	h->answer.peer_text = r->peer_text;
	if (!take_peer(&h->answer, r->has_peer, &r->peer) ||
	    (r->ours && r->allowed && !r->has_peer))
		e = misfit("Tao.CheckPeer");
	return give(e, h, out);
}

static enum tao_err post_handshake(void *arg, const struct channel_handshake *s)
{
	Tao__HandshakeRequest q = TAO__HANDSHAKE_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	struct prov *p = arg;
	enum tao_err e;

	q.server = s->server;
	q.completed = s->completed;
	q.mode = (char *)s->mode;
	q.tls_version = s->tls_version;
	q.group = (char *)s->group;
	q.cipher = (char *)s->cipher;
	q.name = (char *)s->name;
	q.why = (char *)s->why;
	q.has_peer = s->peer != NULL;
	q.peer.data = (uint8_t *)s->peer;
	q.peer.len = s->peer_n;
	q.has_count = s->count > 1;
	q.count = s->count;
	if (p->setup != TAO_OK)
		return tao_fail(p->setup, "%s", p->setup_why);
	tao_pb_pack(&q.base, &body);
	e = tao_buf_err(&body);
	if (e == TAO_OK)
		e = tao_client_post(p->client, "Tao.Handshake", body.p, body.n);
	tao_buf_free(&body);
	return e;
}

static enum tao_err ask_identity(void *arg, char *name, size_t room)
{
	const Tao__KeyResponse *r;
	struct tao_stub stub;
	struct held *h;
	enum tao_err e = ask(arg, "Tao.Identity", NULL, &tao__key_response__descriptor, &h);

	if (e != TAO_OK)
		return e;
	r = (const Tao__KeyResponse *)h->m;
	if (!r->has_stub || tao_stub_parse(r->stub.data, r->stub.len, &stub) != TAO_OK ||
	    stub.name_n >= room) {
		e = misfit("Tao.Identity");
	} else {
		memcpy(name, stub.name, stub.name_n);
		name[stub.name_n] = 0;
	}
	release(&h->answer);
	return e;
}

static int usable(void *arg)
{
	const struct prov *p = arg;

	return p->setup == TAO_OK && tao_client_has_door(p->client);
}

void prov_channel_init(struct prov *p)
{
	p->channel = (struct channel){
		.version = CHANNEL_VERSION,
		.arg = p,
		.usable = usable,
		.why = tao_why,
		.peer = ask_peer,
		.psk_client = ask_psk_client,
		.psk_server = ask_psk_server,
		.check_peer = ask_check_peer,
		.handshake = post_handshake,
		.identity = ask_identity,
		.release = release,
	};
}
