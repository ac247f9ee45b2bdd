#include <string.h>

#include "host.h"

#define SMALL 4096         /* bytes of a request that holds names and hashes */
#define WITH_STUB 32768
#define WITH_DATA TAO_RPC_MAX_REQUEST

#define ANY (CONN_NEW | CONN_HELLO | CONN_PROGRAM)

/* What a connection may ask, and when. The frequent ones come first. */
static const struct op ops[] = {
	{ "Tao.Sign", CONN_PROGRAM, WITH_STUB, op_sign },
	{ "Tao.OpenKey", CONN_PROGRAM, WITH_STUB, op_open_key },
	{ "Tao.GetKey", CONN_PROGRAM, SMALL, op_get_key },
	{ "Tao.GetCertificate", CONN_PROGRAM, SMALL, op_get_certificate },
	{ "Tao.ListKeys", CONN_PROGRAM, SMALL, op_list_keys },
	{ "Tao.GenerateKey", CONN_PROGRAM, SMALL, op_generate_key },
	{ "Tao.GetPolicyCertificate", ANY, SMALL, op_policy_certificate },
	{ "Tao.Hello", CONN_NEW, 0, op_hello },
	{ "Tao.Prove", CONN_HELLO, SMALL, op_prove },
	{ "Tao.GetTaoName", CONN_PROGRAM, SMALL, op_get_name },
	{ "Tao.ExtendTaoName", CONN_PROGRAM, SMALL, op_extend_name },
	{ "Tao.GetRandomBytes", CONN_PROGRAM, SMALL, op_random },
	{ "Tao.Attest", CONN_PROGRAM, WITH_DATA, op_attest },
	{ "Tao.Seal", CONN_PROGRAM, WITH_DATA, op_seal },
	{ "Tao.Unseal", CONN_PROGRAM, WITH_DATA, op_unseal },
	{ "Host.Run", CONN_NEW, WITH_DATA, op_run },
	{ "Host.NewKey", CONN_NEW, WITH_DATA, op_new_key },
	{ "Host.Keys", CONN_NEW, SMALL, op_keys },
	{ "Host.Key", CONN_NEW, SMALL, op_key },
	{ "Host.Cert", CONN_NEW, SMALL, op_cert },
	{ "Host.Status", CONN_NEW, SMALL, op_status },
	{ "Host.Ps", CONN_NEW, SMALL, op_ps },
	{ "Host.Doctor", CONN_NEW, SMALL, op_doctor },
	{ "Host.Trust", CONN_NEW, WITH_STUB, op_trust },
	{ "Host.Policy", CONN_NEW, SMALL, op_policy },
	{ "Host.AddFact", CONN_NEW, WITH_STUB, op_add_fact },
	{ "Host.RemoveFact", CONN_NEW, WITH_STUB, op_remove_fact },
	{ "Host.Shutdown", CONN_NEW, SMALL, op_shutdown },
};

const struct op *op_find(const char *name)
{
	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	return NULL;
}

enum tao_err op_unpack(struct request *r, struct tao_pb_alloc *pa,
                       const ProtobufCMessageDescriptor *d, ProtobufCMessage **out)
{
	tao_pb_alloc_init(pa, OP_UNPACK_CAP);
	return tao_pb_unpack(pa, d, r->m->body, r->m->body_n, r->m->op, out);
}

int op_is_owner(const struct request *r)
{
	return r->c->uid == r->h->owner || r->c->uid == 0;
}
