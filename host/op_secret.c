#include <string.h>

#include <openssl/crypto.h>

#include "sealing.h"
#include "tao.pb-c.h"

#define SECRET_MAX 4096 /* bytes */
#define LABEL "tao shared secret v1"

enum tao_err shared_secrets_init(struct host *h, const struct tao_keyset *ks)
{
	uint8_t root[TAO_DERIVER_LEN];
	enum tao_err e = tao_hkdf(ks->deriver, sizeof ks->deriver, NULL, 0, LABEL, strlen(LABEL),
	                          root, sizeof root);

	if (e == TAO_OK)
		e = tao_shield_new(root, sizeof root, &h->secrets);
	OPENSSL_cleanse(root, sizeof root);
	return e;
}

/* What tells secrets apart: everything that the policy looks at, and the label. */
static enum tao_err put_tag(struct instance *i, enum seal_policy policy, const char *label,
                            struct tao_buf *tag)
{
	size_t n = label != NULL ? strlen(label) : 0;

	tao_buf_u8(tag, (uint8_t)policy);
	tao_buf_u32(tag, (uint32_t)n);
	tao_buf_put(tag, label, n);
	if (policy == SEAL_PROGRAM) {
		tao_buf_u32(tag, i->uid);
		tao_buf_put(tag, i->exe, sizeof i->exe);
	} else if (policy == SEAL_EXACT) {
		tao_node_encode(instance_name(i), tag);
	}
	return tao_buf_err(tag);
}

static enum tao_err derive(struct request *r, const Tao__RPCRequest *rq, uint8_t *out, size_t n)
{
	struct tao_buf tag = TAO_BUF_INIT, root = TAO_BUF_INIT;
	enum seal_policy policy;
	enum tao_err e = seal_policy_find(rq->policy, &policy);

	audit_note(r, "policy", rq->policy);
	audit_note(r, "label", rq->label);
	if (e == TAO_OK)
		e = seal_policy_check(r->h, r->inst, policy, rq->label);
	if (e == TAO_OK)
		e = put_tag(r->inst, policy, rq->label, &tag);
	if (e == TAO_OK)
		e = tao_shield_open(r->h->secrets, &root);
	if (e == TAO_OK)
		e = tao_hkdf(root.p, root.n, NULL, 0, tag.p, tag.n, out, n);
	tao_buf_free(&tag);
	tao_buf_free(&root);
	return e;
}

enum tao_err op_shared_secret(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	uint8_t secret[SECRET_MAX];
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	if (e == TAO_OK && (rq->size <= 0 || rq->size > SECRET_MAX))
		e = tao_fail(TAO_ELIMIT, "a shared secret has 1 to %d bytes", SECRET_MAX);
	if (e == TAO_OK)
		e = derive(r, rq, secret, (size_t)rq->size);
	if (e == TAO_OK)
		op_put_data(r, secret, (size_t)rq->size, NULL);
	OPENSSL_cleanse(secret, sizeof secret);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
