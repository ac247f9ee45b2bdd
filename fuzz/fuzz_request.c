/*
 * What a client may send on a connection: framing, the limit of each
 * operation, and the unpacking of its message, as the host does them. What
 * unpacks packs again to something that unpacks to the same.
 */
#include <stdlib.h>
#include <string.h>

#include "host/host.h"
#include "tao.pb-c.h"

/* Messages of the operations; the others have no body that is looked at. */
static const struct {
	const char *op;
	const ProtobufCMessageDescriptor *d;
} messages[] = {
	{ "Tao.Sign", &tao__sign_request__descriptor },
	{ "Tao.OpenKey", &tao__key_request__descriptor },
	{ "Tao.GetKey", &tao__key_request__descriptor },
	{ "Tao.GetCertificate", &tao__key_request__descriptor },
	{ "Tao.GenerateKey", &tao__new_key_request__descriptor },
	{ "Tao.Prove", &tao__prove_request__descriptor },
	{ "Tao.ExtendTaoName", &tao__rpcrequest__descriptor },
	{ "Tao.GetRandomBytes", &tao__rpcrequest__descriptor },
	{ "Tao.Attest", &tao__rpcrequest__descriptor },
	{ "Tao.Seal", &tao__rpcrequest__descriptor },
	{ "Tao.Unseal", &tao__rpcrequest__descriptor },
	{ "Tao.GetSharedSecret", &tao__rpcrequest__descriptor },
	{ "Tao.InitCounter", &tao__rpcrequest__descriptor },
	{ "Tao.GetCounter", &tao__rpcrequest__descriptor },
	{ "Tao.RollbackProtectedSeal", &tao__rpcrequest__descriptor },
	{ "Tao.RollbackProtectedUnseal", &tao__rpcrequest__descriptor },
	{ "Host.Epoch", &tao__epoch_request__descriptor },
	{ "Host.Counters", &tao__counters_request__descriptor },
	{ "Host.Run", &tao__run_request__descriptor },
	{ "Host.NewKey", &tao__new_key_request__descriptor },
	{ "Host.Key", &tao__key_request__descriptor },
	{ "Host.Keys", &tao__key_list_request__descriptor },
	{ "Host.Cert", &tao__key_request__descriptor },
	{ "Host.Doctor", &tao__doctor_request__descriptor },
	{ "Host.Trust", &tao__trust_request__descriptor },
	{ "Host.AddFact", &tao__fact_request__descriptor },
	{ "Host.RemoveFact", &tao__fact_request__descriptor },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void unpack_again(const ProtobufCMessageDescriptor *d, const ProtobufCMessage *m)
{
	struct tao_buf first = TAO_BUF_INIT, second = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	ProtobufCMessage *again;

	tao_pb_pack(m, &first);
	must(first.err == TAO_OK);
	tao_pb_alloc_init(&pa, OP_UNPACK_CAP);
	if (tao_pb_unpack(&pa, d, first.p, first.n, "again", &again) != TAO_ELIMIT) {
		must(again != NULL);
		tao_pb_pack(again, &second);
		must(first.n == second.n && (first.n == 0 ||
		                             memcmp(first.p, second.p, first.n) == 0));
	}
	tao_pb_free(&pa, again);
	tao_buf_free(&first);
	tao_buf_free(&second);
}

/* Arguments and settings, which become C strings. */
static void check_strings(const Tao__RunRequest *r)
{
	struct tao_buf store = TAO_BUF_INIT;
	char **list = NULL;

	if (op_strings(r->args, r->n_args, &store, &list) == TAO_OK) {
		for (size_t i = 0; i < r->n_args; i++)
			must(strlen(list[i]) == r->args[i].len);
		must(list[r->n_args] == NULL);
	}
	free(list);
	tao_buf_free(&store);
}

static void unpack(const struct tao_rpc_msg *m)
{
	struct request r = { .m = m };

	for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
		struct tao_pb_alloc pa;
		ProtobufCMessage *msg = NULL;
		enum tao_err e;

		if (strcmp(messages[i].op, m->op) != 0)
			continue;
		e = op_unpack(&r, &pa, messages[i].d, &msg);
		must((e == TAO_OK) == (msg != NULL));
		must(e == TAO_OK || e == TAO_EFORMAT || e == TAO_ELIMIT);
		if (msg != NULL && msg->n_unknown_fields == 0) /* protobuf-c keeps those loosely */
			unpack_again(messages[i].d, msg);
		if (msg != NULL && messages[i].d == &tao__run_request__descriptor)
			check_strings((Tao__RunRequest *)msg);
		tao_pb_free(&pa, msg);
		must(pa.left == OP_UNPACK_CAP);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		struct tao_rpc_msg m;
		const struct op *op;
		size_t used;

		if (tao_rpc_parse_request(data + at, size - at, TAO_RPC_MAX_REQUEST, &m, &used) != TAO_OK ||
		    used == 0)
			break;
		must(used <= size - at);
		at += used;
		op = op_find(m.op);
		if (op != NULL && m.body_n <= op->max_body)
			unpack(&m);
	}
	return 0;
}
