#include <string.h>
#include <time.h>

#include "sealing.h"
#include "tao.pb-c.h"
#include "../tao/attest.h"

#define SEALEDDATA_VERSION 1
#define BLOB_GROWTH 8192 /* what a blob and its request are longer than the data */

_Static_assert(SEAL_DATA_MAX + BLOB_GROWTH <= TAO_RPC_MAX_REQUEST &&
               INSTANCE_MAX_NAME + COUNTER_LABEL_MAX + 1024 <= BLOB_GROWTH, "what is sealed fits");

/* ---- policies ---- */

static const struct {
	const char *word;
	enum seal_policy policy;
} words[] = {
	{ "self", SEAL_EXACT }, { "few", SEAL_PROGRAM }, { "any", SEAL_HOST },
	{ "exact", SEAL_EXACT }, { "program", SEAL_PROGRAM }, { "host", SEAL_HOST },
	{ "policy", SEAL_POLICY },
};

/* As blobs have them. */
static const char *const policy_names[] = {
	[SEAL_EXACT] = "exact", [SEAL_PROGRAM] = "program", [SEAL_HOST] = "host",
	[SEAL_POLICY] = "policy",
};

enum tao_err seal_policy_find(const char *word, enum seal_policy *out)
{
	*out = SEAL_EXACT;
	if (word == NULL || word[0] == 0)
		return TAO_OK;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcmp(word, words[i].word) == 0) {
			*out = words[i].policy;
			return TAO_OK;
		}
	return tao_fail(TAO_EINVAL, "the policy %.40s is not known: use exact, program, host or "
	                "policy, or CloudProxy's words self, few or any", word);
}

static enum tao_err refuse_interpreter(const struct instance *i)
{
	return tao_fail(TAO_EDENIED, "%s runs any script it is given, so what is for the "
	                "executable alone would be every script's: use the policy exact, or policy "
	                "with a label", i->program);
}

enum tao_err seal_policy_check(struct host *h, struct instance *i, enum seal_policy p,
                               const char *label)
{
	enum tao_err e = label != NULL ? counter_check_label(label) : TAO_OK;

	if (e == TAO_OK && p == SEAL_PROGRAM && i->interpreter)
		e = refuse_interpreter(i);
	if (e == TAO_OK && p == SEAL_PROGRAM)
		e = instance_is_measured(i);
	if (e == TAO_OK && p == SEAL_POLICY && label == NULL)
		e = tao_fail(TAO_EINVAL, "the policy \"policy\" needs a label: rules say who may "
		             "unseal it");
	if (e == TAO_OK && p == SEAL_POLICY && strncmp(label, KEY_LABEL, strlen(KEY_LABEL)) == 0)
		e = tao_fail(TAO_EDENIED, "labels that begin with " KEY_LABEL " are those of keys: "
		             "use another");
	if (e == TAO_OK && p == SEAL_POLICY)
		e = domain_may_unseal(h->domain, instance_name(i), label);
	return e;
}

enum tao_err seal_counter_owner(struct instance *i, struct counter_owner *out)
{
	struct tao_buf name = TAO_BUF_INIT;
	enum tao_err e;

	out->kind = COUNTER_PROGRAM;
	if (i->interpreter || instance_is_measured(i) != TAO_OK)
		out->kind = COUNTER_EXACT;
	out->uid = i->uid;
	memcpy(out->hash, i->exe, sizeof out->hash);
	if (out->kind == COUNTER_PROGRAM)
		return TAO_OK;
	tao_node_encode(instance_name(i), &name);
	e = tao_buf_err(&name);
	if (e == TAO_OK)
		e = tao_sha256(name.p, name.n, out->hash);
	tao_buf_free(&name);
	return e;
}

/* ---- who may unseal ---- */

static enum tao_err for_exact(struct host *h, struct instance *i, const Tao__SealedData *d)
{
	struct tao_buf name = TAO_BUF_INIT;
	int same;

	(void)h;
	tao_node_encode(instance_name(i), &name);
	same = name.err == TAO_OK && d->has_principal && d->principal.len == name.n &&
	       memcmp(d->principal.data, name.p, name.n) == 0;
	tao_buf_free(&name);
	return same ? TAO_OK
	            : tao_fail(TAO_EWRONGPROG, "the data is sealed for one exact name, that of "
	                       "another program or user, or of another start with other arguments "
	                       "or libraries");
}

static enum tao_err for_program(struct host *h, struct instance *i, const Tao__SealedData *d)
{
	if (i->interpreter)
		return refuse_interpreter(i);
	if (instance_is_measured(i) != TAO_OK)
		return TAO_EWRONGPROG;
	if (!d->has_uid || d->uid != i->uid)
		return tao_fail(TAO_EWRONGPROG, "the data is sealed for another user's program "
		                "(user %u)", d->uid);
	if (d->program_hash.len == TAO_HASH_LEN &&
	    (memcmp(d->program_hash.data, i->exe, TAO_HASH_LEN) == 0 ||
	     domain_successor(h->domain, i->exe, d->program_hash.data) == TAO_OK))
		return TAO_OK;
	return tao_fail(TAO_EWRONGPROG, "the data is sealed for another program: if %s is its "
	                "upgrade, the domain's owner says so with 'tao trust %s'", i->program,
	                i->program);
}

static enum tao_err for_host(struct host *h, struct instance *i, const Tao__SealedData *d)
{
	(void)h;
	(void)i;
	(void)d;
	return TAO_OK;
}

static enum tao_err for_policy(struct host *h, struct instance *i, const Tao__SealedData *d)
{
	return domain_may_unseal(h->domain, instance_name(i), d->label != NULL ? d->label : "");
}

static enum tao_err may_unseal(struct host *h, struct instance *i, const Tao__SealedData *d)
{
	static enum tao_err (*const checks[])(struct host *, struct instance *,
	                                      const Tao__SealedData *) = {
		[SEAL_EXACT] = for_exact, [SEAL_PROGRAM] = for_program, [SEAL_HOST] = for_host,
		[SEAL_POLICY] = for_policy,
	};

	for (size_t p = SEAL_EXACT; p <= SEAL_POLICY; p++)
		if (strcmp(d->policy, policy_names[p]) == 0)
			return checks[p](h, i, d);
	return tao_fail(TAO_EVERSION, "the data has a seal policy that this version does not know: "
	                "upgrade taod");
}

/* ---- sealing ---- */

static enum tao_err check_request(struct request *r, const Tao__RPCRequest *rq,
                                  enum seal_policy *policy)
{
	enum tao_err e = seal_policy_find(rq->policy, policy);

	audit_note(r, "policy", e == TAO_OK ? policy_names[*policy] : NULL);
	audit_note(r, "label", rq->label);
	if (e == TAO_OK && rq->data.len == 0)
		e = tao_fail(TAO_EINVAL, "there is no data to seal: give at least one byte");
	if (e == TAO_OK && rq->data.len > SEAL_DATA_MAX)
		e = tao_fail(TAO_ELIMIT, "%zu bytes are too many to seal: at most %d, so seal a "
		             "key and encrypt them with it", rq->data.len, SEAL_DATA_MAX);
	if (e == TAO_OK && rq->has_expiration && rq->expiration <= tao_now_ns())
		e = tao_fail(TAO_EINVAL, "the data would have expired already: give a time to "
		             "come, in nanoseconds since 1970");
	if (e == TAO_OK)
		e = seal_policy_check(r->h, r->inst, *policy, rq->label);
	return e;
}

/* stamp is NULL without a counter. */
static enum tao_err seal_data(struct request *r, const Tao__RPCRequest *rq, enum seal_policy policy,
                              struct counter_stamp *stamp, struct tao_buf *blob)
{
	Tao__SealedData d = TAO__SEALED_DATA__INIT;
	struct tao_buf name = TAO_BUF_INIT, plain = TAO_BUF_INIT;
	enum tao_err e;

	tao_node_encode(instance_name(r->inst), &name);
	d.version = SEALEDDATA_VERSION;
	d.data = rq->data;
	d.policy = (char *)policy_names[policy];
	d.word = (char *)(rq->policy != NULL && rq->policy[0] != 0 ? rq->policy : "self");
	d.has_uid = d.has_program_hash = d.has_principal = 1;
	d.uid = r->inst->uid;
	d.program_hash.data = r->inst->exe;
	d.program_hash.len = sizeof r->inst->exe;
	d.principal.data = name.p;
	d.principal.len = name.n;
	d.label = rq->label;
	d.has_expiration = rq->has_expiration;
	d.expiration = rq->expiration;
	if (stamp != NULL) {
		d.has_counter_id = d.has_counter = 1;
		d.counter_id.data = stamp->id;
		d.counter_id.len = sizeof stamp->id;
		d.counter = stamp->number;
	}
	tao_pb_pack(&d.base, &plain);
	e = tao_buf_err(&name);
	if (e == TAO_OK)
		e = tao_buf_err(&plain);
	if (e == TAO_OK)
		e = tao_seal(&r->h->sealer, stamp != NULL ? TAO_SEAL_ROLLBACK : TAO_SEAL_DATA, NULL,
		             0, plain.p, plain.n, blob);
	tao_buf_free(&name);
	tao_buf_free(&plain);
	return e;
}

/* prepared: the number to raise the counter to, or -1. */
static void put_blob(struct request *r, const struct tao_buf *blob, int64_t prepared)
{
	Tao__RPCResponse rp = TAO__RPCRESPONSE__INIT;

	rp.has_data = 1;
	rp.data.data = blob->p;
	rp.data.len = blob->n;
	rp.has_epoch = 1;
	rp.epoch = tao_sealed_epoch(blob->p, blob->n);
	rp.has_counter = prepared >= 0;
	rp.counter = prepared;
	tao_pb_pack(&rp.base, r->body);
}

enum tao_err op_seal(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	struct tao_buf blob = TAO_BUF_INIT;
	enum seal_policy policy;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	if (e == TAO_OK)
		e = check_request(r, rq, &policy);
	if (e == TAO_OK)
		e = seal_data(r, rq, policy, NULL, &blob);
	if (e == TAO_OK)
		put_blob(r, &blob, -1);
	tao_buf_free(&blob);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_rollback_seal(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	struct tao_buf blob = TAO_BUF_INIT;
	struct counter_owner owner;
	struct counter_stamp stamp;
	enum seal_policy policy;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);
	int prepare = e == TAO_OK && rq->has_prepare && rq->prepare;

	if (e == TAO_OK)
		e = check_request(r, rq, &policy);
	if (e == TAO_OK)
		e = seal_counter_owner(r->inst, &owner);
	/* From here on, former blobs are out of date: all that may be refused was checked
	 * before. */
	if (e == TAO_OK)
		e = counter_next(r->h->counters, &owner, rq->label, !prepare, &stamp);
	if (e == TAO_OK)
		e = seal_data(r, rq, policy, &stamp, &blob);
	if (e == TAO_OK)
		put_blob(r, &blob, prepare ? stamp.number : -1);
	tao_buf_free(&blob);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- unsealing ---- */

static enum tao_err check_expiration(const Tao__SealedData *d)
{
	time_t t = (time_t)(d->expiration / 1000000000);
	char text[64] = "";
	struct tm tm;

	if (!d->has_expiration || tao_now_ns() < d->expiration)
		return TAO_OK;
	if (gmtime_r(&t, &tm) != NULL)
		strftime(text, sizeof text, " on %Y-%m-%d at %H:%M:%S UTC", &tm);
	return tao_fail(TAO_EEXPIRED, "what is sealed expired%s: get or make it anew", text);
}

static enum tao_err check_counter(struct request *r, const Tao__SealedData *d)
{
	struct counter_owner owner;
	struct counter_stamp stamp = { .number = d->counter };
	enum tao_err e;

	if (d->counter_id.len != sizeof stamp.id || !d->has_counter)
		return tao_fail(TAO_EALTERED, "the sealed data names no proper counter");
	memcpy(stamp.id, d->counter_id.data, sizeof stamp.id);
	e = seal_counter_owner(r->inst, &owner);
	return e == TAO_OK ? counter_check(r->h->counters, &owner, &stamp) : e;
}

static enum tao_err check_label(const Tao__RPCRequest *rq, const Tao__SealedData *d)
{
	if (rq->label == NULL || (d->label != NULL && strcmp(rq->label, d->label) == 0))
		return TAO_OK;
	return tao_fail(TAO_EDENIED, "the data is sealed under another label, \"%.200s\"",
	                d->label != NULL ? d->label : "");
}

static enum tao_err open_blob(struct request *r, const Tao__RPCRequest *rq, enum tao_seal_kind kind,
                              struct tao_pb_alloc *pa, Tao__SealedData **out)
{
	struct tao_buf plain = TAO_BUF_INIT;
	ProtobufCMessage *m = NULL;
	enum tao_err e = tao_unseal(&r->h->sealer, kind, NULL, 0, rq->data.data, rq->data.len,
	                            &plain);

	tao_pb_alloc_init(pa, OP_UNPACK_CAP + plain.n);
	/* Of a whole header, what it says is the better reason: data with a counter, say. */
	if (e == TAO_EFORMAT && tao_sealed_epoch(rq->data.data, rq->data.len) == 0)
		e = tao_fail(e, "this is nothing that was sealed, or not all of it: give what 'tao "
		             "seal' or Tao.Seal gave");
	if (e == TAO_OK)
		e = tao_pb_unpack(pa, &tao__sealed_data__descriptor, plain.p, plain.n,
		                  "sealed data", &m);
	*out = (Tao__SealedData *)m;
	if (e == TAO_OK && (*out)->version != SEALEDDATA_VERSION)
		e = tao_fail(TAO_EVERSION, "the data was sealed by a newer version: upgrade taod");
	if (e == TAO_OK) {
		audit_note(r, "policy", (*out)->policy);
		audit_note(r, "label", (*out)->label);
	}
	tao_buf_free(&plain);
	return e;
}

static void put_unsealed(struct request *r, const Tao__RPCRequest *rq, const Tao__SealedData *d)
{
	Tao__RPCResponse rp = TAO__RPCRESPONSE__INIT;

	rp.has_data = 1;
	rp.data = d->data;
	rp.policy = d->word;
	rp.has_epoch = rp.has_host_epoch = 1;
	rp.epoch = tao_sealed_epoch(rq->data.data, rq->data.len);
	rp.host_epoch = r->h->sealer.epoch;
	rp.label = d->label;
	rp.has_expiration = d->has_expiration;
	rp.expiration = d->expiration;
	tao_pb_pack(&rp.base, r->body);
}

static enum tao_err unseal(struct request *r, enum tao_seal_kind kind)
{
	struct tao_pb_alloc pa, inner;
	Tao__RPCRequest *rq = NULL;
	Tao__SealedData *d = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	tao_pb_alloc_init(&inner, 0);
	if (e == TAO_OK)
		e = open_blob(r, rq, kind, &inner, &d);
	if (e == TAO_OK)
		e = may_unseal(r->h, r->inst, d);
	if (e == TAO_OK && kind == TAO_SEAL_ROLLBACK)
		e = check_counter(r, d);
	if (e == TAO_OK)
		e = check_expiration(d);
	if (e == TAO_OK)
		e = check_label(rq, d);
	if (e == TAO_OK)
		put_unsealed(r, rq, d);
	tao_pb_free(&inner, (ProtobufCMessage *)d);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_unseal(struct request *r)
{
	return unseal(r, TAO_SEAL_DATA);
}

enum tao_err op_rollback_unseal(struct request *r)
{
	return unseal(r, TAO_SEAL_ROLLBACK);
}
