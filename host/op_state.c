#include <stdlib.h>
#include <string.h>

#include "epoch.h"
#include "sealing.h"
#include "tao.pb-c.h"

/* ---- with the host ---- */

enum tao_err sealing_start(struct host *h)
{
	char *epoch = host_path(&h->conf, "host/epoch"), *counters = host_path(&h->conf,
	                                                                       "host/counters");
	enum tao_err e = epoch != NULL && counters != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK)
		e = epochs_open(epoch, &h->sealer, &h->epochs);
	if (e == TAO_OK) {
		h->counters = counters_open(counters, &h->sealer, h->domain, h->conf.max_labels);
		e = h->counters != NULL ? TAO_OK : tao_fail_nomem();
	}
	if (e == TAO_OK && counters_state(h->counters) != TAO_OK)
		host_log("warning", "%s", tao_why());
	free(epoch);
	free(counters);
	return e;
}

void sealing_end(struct host *h)
{
	counters_free(h->counters);
	epochs_free(h->epochs);
	tao_shield_free(h->secrets);
}

/* ---- for programs ---- */

enum tao_err op_init_counter(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	struct counter_owner owner;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	if (e == TAO_OK && !rq->has_counter)
		e = tao_fail(TAO_EINVAL, "InitCounter needs a number");
	if (e == TAO_OK)
		e = seal_counter_owner(r->inst, &owner);
	if (e == TAO_OK) {
		audit_note(r, "label", rq->label);
		audit_note_int(r, "counter", rq->counter);
	}
	if (e == TAO_OK)
		e = counter_init(r->h->counters, &owner, rq->label, rq->counter);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_get_counter(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RPCRequest *rq = NULL;
	Tao__RPCResponse rp = TAO__RPCRESPONSE__INIT;
	struct counter_owner owner;
	enum tao_err e = OP_UNPACK(r, &pa, tao__rpcrequest, &rq);

	if (e == TAO_OK)
		e = seal_counter_owner(r->inst, &owner);
	if (e == TAO_OK)
		e = counter_get(r->h->counters, &owner, rq->label, &rp.counter);
	rp.has_counter = 1;
	if (e == TAO_OK)
		tao_pb_pack(&rp.base, r->body);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- for the owner ---- */

enum tao_err op_epoch(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__EpochRequest *rq = NULL;
	Tao__EpochResponse rp = TAO__EPOCH_RESPONSE__INIT;
	enum tao_err e;

	if (!op_is_owner(r))
		return tao_fail(TAO_EPERM, "only the host's owner looks after its epochs");
	e = OP_UNPACK(r, &pa, tao__epoch_request, &rq);
	if (e == TAO_OK && rq->has_retire)
		audit_note_int(r, "retire", rq->retire);
	if (e == TAO_OK)
		e = epochs_change(r->h->epochs, rq->has_begin && rq->begin,
		                  rq->has_retire ? rq->retire : 0);
	if (e == TAO_OK && rq->has_begin + rq->has_retire > 0)
		host_log("info", "user %u: new blobs are sealed in epoch %lu, those before %lu are "
		         "refused", (unsigned)r->c->uid, (unsigned long)r->h->sealer.epoch,
		         (unsigned long)r->h->sealer.oldest);
	if (e == TAO_OK) {
		rp.epoch = r->h->sealer.epoch;
		rp.oldest = r->h->sealer.oldest;
		audit_note_int(r, "epoch", rp.epoch);
		tao_pb_pack(&rp.base, r->body);
	}
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

struct listing {
	Tao__CounterInfo *info[COUNTERS_MAX];
	size_t n;
};

static enum tao_err list_counter(const struct counter *c, void *arg)
{
	struct listing *l = arg;
	Tao__CounterInfo *i = malloc(sizeof *i + sizeof *c + strlen(c->label) + 1);
	struct counter *own = (struct counter *)(i + 1);

	if (i == NULL)
		return tao_fail_nomem();
	*own = *c;
	own->label = strcpy((char *)(own + 1), c->label);
	tao__counter_info__init(i);
	i->id.data = own->id;
	i->id.len = sizeof own->id;
	i->uid = own->owner.uid;
	i->exact = own->owner.kind == COUNTER_EXACT;
	i->hash.data = own->owner.hash;
	i->hash.len = sizeof own->owner.hash;
	i->label = own->label;
	i->value = own->value;
	l->info[l->n++] = i;
	return TAO_OK;
}

static enum tao_err put_counters(struct request *r)
{
	Tao__CountersResponse rp = TAO__COUNTERS_RESPONSE__INIT;
	struct listing *l = calloc(1, sizeof *l);
	enum tao_err e = l != NULL
	                 ? counters_each(r->h->counters, list_counter, l) : tao_fail_nomem();

	if (e == TAO_OK) {
		rp.counters = l->info;
		rp.n_counters = l->n;
		tao_pb_pack(&rp.base, r->body);
	}
	while (l != NULL && l->n > 0)
		free(l->info[--l->n]);
	free(l);
	return e;
}

enum tao_err op_counters(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__CountersRequest *rq = NULL;
	enum tao_err e;

	if (!op_is_owner(r))
		return tao_fail(TAO_EPERM, "only the host's owner looks after its counters");
	e = OP_UNPACK(r, &pa, tao__counters_request, &rq);
	if (e == TAO_OK && rq->has_renew && rq->renew) {
		audit_note(r, "do", "new");
		e = counters_renew(r->h->counters);
		if (e == TAO_OK)
			host_log("warning", "user %u made a new table of counters",
			         (unsigned)r->c->uid);
	}
	if (e == TAO_OK && rq->has_remove) {
		struct tao_buf id = TAO_BUF_INIT;

		tao_buf_hex(&id, rq->remove.data, rq->remove.len < COUNTER_ID_LEN ? rq->remove.len
		                                                                  : COUNTER_ID_LEN);
		audit_note(r, "do", "remove");
		audit_note(r, "id", tao_buf_cstr(&id));
		tao_buf_free(&id);
		e = counters_remove(r->h->counters, rq->remove.data, rq->remove.len);
		if (e == TAO_OK)
			host_log("info", "user %u removed a counter", (unsigned)r->c->uid);
	}
	if (e == TAO_OK)
		e = put_counters(r);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
