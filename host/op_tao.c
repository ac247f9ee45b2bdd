#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "host.h"
#include "root.h"
#include "tao.pb-c.h"
#include "../tao/attest.h"

#define MAX_RANDOM (1 << 20)

void op_put_data(struct request *r, void *p, size_t n, const char *policy)
{
	Tao__RPCResponse rp = TAO__RPCRESPONSE__INIT;

	rp.has_data = 1;
	rp.data.data = p;
	rp.data.len = n;
	rp.policy = (char *)policy;
	tao_pb_pack(&rp.base, r->body);
}

enum tao_err op_hello(struct request *r)
{
	Tao__HelloResponse rp = TAO__HELLO_RESPONSE__INIT;
	struct tao_buf host = TAO_BUF_INIT;
	enum tao_err e = conn_hello(r->h, r->c);

	if (e != TAO_OK)
		return e;
	tao_node_encode(r->h->name, &host);
	rp.challenge.data = r->c->challenge;
	rp.challenge.len = sizeof r->c->challenge;
	rp.host.data = host.p;
	rp.host.len = host.n;
	tao_pb_pack(&rp.base, r->body);
	e = tao_buf_err(&host);
	tao_buf_free(&host);
	return e;
}

enum tao_err op_prove(struct request *r)
{
	Tao__ProveResponse rp = TAO__PROVE_RESPONSE__INIT;
	struct tao_pb_alloc pa;
	Tao__ProveRequest *rq = NULL;
	struct tao_buf name = TAO_BUF_INIT;
	enum tao_err e = OP_UNPACK(r, &pa, tao__prove_request, &rq);

	if (e == TAO_OK)
		e = conn_prove(r->h, r->c, rq->challenge.data, rq->challenge.len,
		               r->may_be_slow);
	if (e == TAO_OK) {
		tao_node_encode(instance_name(r->c->inst), &name);
		rp.name.data = name.p;
		rp.name.len = name.n;
		tao_pb_pack(&rp.base, r->body);
		e = tao_buf_err(&name);
	}
	tao_buf_free(&name);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_get_name(struct request *r)
{
	struct tao_buf name = TAO_BUF_INIT;
	enum tao_err e;

	tao_node_encode(instance_name(r->inst), &name);
	e = tao_buf_err(&name);
	if (e == TAO_OK)
		op_put_data(r, name.p, name.n, NULL);
	tao_buf_free(&name);
	return e;
}

/* PolicyKey([x]) of this domain, by its id, which every name has already, or by the policy key that
 * it has now: CloudProxy's programs say it themselves, of the key that they know. */
static int is_own_policy_key(struct request *r, const struct tao_node *sub)
{
	const struct tao_node *ext = sub->n_kid == 1 ? sub->kid[0] : NULL;
	uint8_t now[TAO_HASH_LEN];

	if (ext == NULL || strcmp(ext->text, "PolicyKey") != 0 || ext->n_kid != 1 ||
	    ext->kid[0]->tag != TAO_BYTES || ext->kid[0]->len != TAO_HASH_LEN)
		return 0;
	if (memcmp(ext->kid[0]->text, domain_id(r->h->domain), TAO_HASH_LEN) == 0)
		return 1;
	return domain_policy_key(r->h->domain, now) == TAO_OK &&
	       memcmp(ext->kid[0]->text, now, TAO_HASH_LEN) == 0;
}

/* A program that is a host itself puts its guard behind its name (names.h). This gives it
 * nothing: all that stands behind a program's name is that program's word, which Attest lets it
 * say of any subprincipal as it is. It only takes: from here on it speaks below its guard. The
 * own domain's guard stays refused, for what follows the first of them is a name of ours. */
static int is_stacked_guard(struct request *r, const struct tao_node *sub)
{
	return sub->n_kid == 1 && name_is_guard(sub->kid[0], NULL) &&
	       !name_is_guard(sub->kid[0], domain_id(r->h->domain));
}

static enum tao_err extend_checked(struct request *r, const struct tao_node *sub)
{
	if (is_own_policy_key(r, sub))
		return TAO_OK;
	if (is_stacked_guard(r, sub))
		return recall_extend(r->h, r->inst, sub);
	for (size_t i = 0; i < sub->n_kid; i++)
		if (name_is_host_word(sub->kid[i]->text))
			return tao_fail(TAO_EDENIED, "only a host gives a name the word %s: extend "
			                "it with another", sub->kid[i]->text);
	if (sub->n_kid == 0)
		return tao_fail(TAO_EINVAL, "the extension is empty");
	return recall_extend(r->h, r->inst, sub);
}

enum tao_err op_extend_name(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	struct tao_node *sub = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	if (e == TAO_OK)
		e = tao_subprin_decode(rq->data.data, rq->data.len, &sub);
	if (e == TAO_OK) {
		char *text = tao_node_text(sub);

		audit_note(r, "with", text);
		free(text);
		e = extend_checked(r, sub);
	}
	tao_node_free(sub);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_random(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	struct tao_buf b = TAO_BUF_INIT;
	uint8_t *p;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	if (e == TAO_OK && (rq->size <= 0 || rq->size > MAX_RANDOM))
		e = tao_fail(TAO_ELIMIT, "ask for 1 to %d random bytes", MAX_RANDOM);
	if (e == TAO_OK) {
		p = tao_buf_room(&b, (size_t)rq->size);
		if (p == NULL)
			e = tao_buf_err(&b);
		else if (RAND_priv_bytes(p, rq->size) != 1)
			e = tao_fail_crypto("drawing random bytes");
	}
	if (e == TAO_OK)
		op_put_data(r, b.p, b.n, NULL);
	tao_buf_free(&b);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

static void note_statement(struct request *r, const struct tao_node *form)
{
	char *text = form != NULL ? tao_node_text(form) : NULL;

	audit_note(r, "says", text);
	free(text);
}

static enum tao_err attest_checked(struct request *r, const Tao__RPCRequest *rq,
                                   struct tao_buf *att)
{
	const struct tao_node *name = instance_name(r->inst);
	struct tao_node *issuer = NULL, *form = NULL;
	enum tao_err e = tao_form_decode(rq->data.data, rq->data.len, &form);

	note_statement(r, form);
	if (e == TAO_OK && rq->has_issuer)
		e = tao_prin_decode(rq->issuer.data, rq->issuer.len, &issuer);
	if (e == TAO_OK && issuer != NULL && !tao_prin_covers(name, issuer))
		e = tao_fail(TAO_EDENIED, "a program attests as itself or as one of its "
		             "subprincipals");
	if (e == TAO_OK)
		e = r->h->conf.root->attest(r->h, issuer != NULL ? issuer : name,
		                            rq->has_time ? rq->time : TAO_NOW,
		                            rq->has_expiration ? rq->expiration : TAO_NOW, form,
		                            att);
	tao_node_free(issuer);
	tao_node_free(form);
	return e;
}

enum tao_err op_attest(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	struct tao_buf att = TAO_BUF_INIT;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	if (e == TAO_OK)
		e = attest_checked(r, rq, &att);
	if (e == TAO_OK)
		op_put_data(r, att.p, att.n, NULL);
	tao_buf_free(&att);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
