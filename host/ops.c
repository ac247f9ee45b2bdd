#include <string.h>

#include "host.h"

#define SMALL 4096         /* bytes of a request that holds names and hashes */
#define WITH_STUB 32768
#define WITH_DATA TAO_RPC_MAX_REQUEST

#define ANY (CONN_NEW | CONN_HELLO | CONN_PROGRAM)

/* What a connection may ask, and when. The frequent ones come first. */
static const struct op ops[] = {
	{ "Tao.Sign", CONN_PROGRAM, WITH_DATA, op_sign, 0, AUDIT_COUNTED },
	{ "Tao.OpenKey", CONN_PROGRAM, WITH_STUB, op_open_key, 0, AUDIT_ONCE },
	{ "Tao.Decrypt", CONN_PROGRAM, WITH_STUB, op_decrypt, 0, AUDIT_COUNTED },
	{ "Tao.Derive", CONN_PROGRAM, SMALL, op_derive, 0, AUDIT_COUNTED },
	{ "Tao.GetKey", CONN_PROGRAM, SMALL, op_get_key, 0, AUDIT_ONCE },
	{ "Tao.GetCertificate", CONN_PROGRAM, SMALL, op_get_certificate, 1, AUDIT_REFUSED },
	{ "Tao.ListKeys", CONN_PROGRAM, SMALL, op_list_keys, 1, AUDIT_NONE },
	{ "Tao.GenerateKey", CONN_PROGRAM, SMALL, op_generate_key, 1, AUDIT_EACH },
	{ "Tao.GetPolicyCertificate", ANY, SMALL, op_policy_certificate, 0, AUDIT_NONE },
	{ "Tao.Hello", CONN_NEW, 0, op_hello, 0, AUDIT_REFUSED },
	{ "Tao.Prove", CONN_HELLO, SMALL, op_prove, 0, AUDIT_REFUSED },
	{ "Tao.GetTaoName", CONN_PROGRAM, SMALL, op_get_name, 0, AUDIT_NONE },
	{ "Tao.ExtendTaoName", CONN_PROGRAM, SMALL, op_extend_name, 1, AUDIT_EACH },
	{ "Tao.GetRandomBytes", CONN_PROGRAM, SMALL, op_random, 0, AUDIT_NONE },
	{ "Tao.Attest", CONN_PROGRAM, WITH_DATA, op_attest, 0, AUDIT_EACH },
	{ "Tao.Seal", CONN_PROGRAM, WITH_DATA, op_seal, 0, AUDIT_EACH },
	{ "Tao.Unseal", CONN_PROGRAM, WITH_DATA, op_unseal, 0, AUDIT_EACH },
	{ "Tao.GetSharedSecret", CONN_PROGRAM, SMALL, op_shared_secret, 0, AUDIT_EACH },
	{ "Tao.InitCounter", CONN_PROGRAM, SMALL, op_init_counter, 1, AUDIT_EACH },
	{ "Tao.GetCounter", CONN_PROGRAM, SMALL, op_get_counter, 0, AUDIT_REFUSED },
	{ "Tao.RollbackProtectedSeal", CONN_PROGRAM, WITH_DATA, op_rollback_seal, 1, AUDIT_EACH },
	{ "Tao.RollbackProtectedUnseal", CONN_PROGRAM, WITH_DATA, op_rollback_unseal, 0, AUDIT_EACH },
	{ "Host.Run", CONN_NEW, WITH_DATA, op_run, 1, AUDIT_EACH },
	{ "Host.NewKey", CONN_NEW, WITH_DATA, op_new_key, 1, AUDIT_EACH },
	{ "Host.ImportKey", CONN_NEW, WITH_DATA, op_import_key, 1, AUDIT_EACH },
	{ "Host.RotateKey", CONN_NEW, SMALL, op_rotate_key, 1, AUDIT_EACH },
	{ "Host.DeleteKey", CONN_NEW, SMALL, op_delete_key, 1, AUDIT_EACH },
	{ "Host.Keys", CONN_NEW, SMALL, op_keys, 1, AUDIT_NONE },
	{ "Host.Key", CONN_NEW, SMALL, op_key, 1, AUDIT_NONE },
	{ "Host.Cert", CONN_NEW, SMALL, op_cert, 0, AUDIT_NONE },
	{ "Host.Status", CONN_NEW, SMALL, op_status, 1, AUDIT_NONE },
	{ "Host.Ps", CONN_NEW, SMALL, op_ps, 0, AUDIT_NONE },
	{ "Host.Doctor", CONN_NEW, SMALL, op_doctor, 0, AUDIT_NONE },
	{ "Host.Trust", CONN_NEW, WITH_STUB, op_trust, 1, AUDIT_ALWAYS },
	{ "Host.Policy", CONN_NEW, SMALL, op_policy, 0, AUDIT_NONE },
	{ "Host.AddFact", CONN_NEW, WITH_STUB, op_add_fact, 1, AUDIT_ALWAYS },
	{ "Host.RemoveFact", CONN_NEW, WITH_STUB, op_remove_fact, 1, AUDIT_ALWAYS },
	{ "Host.Epoch", CONN_NEW, SMALL, op_epoch, 1, AUDIT_ALWAYS },
	{ "Host.Counters", CONN_NEW, SMALL, op_counters, 1, AUDIT_ALWAYS },
	{ "Host.Log", CONN_NEW, SMALL, op_log, 1, AUDIT_NONE },
	{ "Host.Shutdown", CONN_NEW, SMALL, op_shutdown, 0, AUDIT_ALWAYS },
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
