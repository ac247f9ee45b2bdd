#include <string.h>

#include "host.h"
#include "imported.h"

#define SMALL 4096         /* bytes of a request that holds names and hashes */
#define WITH_STUB 32768
#define WITH_DATA TAO_RPC_MAX_REQUEST

#define ANY (CONN_NEW | CONN_HELLO | CONN_PROGRAM)
#define POWER OP_NOT_REVOKED
#define CLOUD (CONN_PROGRAM | CONN_PROGSOCK) /* CloudProxy's */

/* What a connection may ask, and when. The frequent ones come first. */
static const struct op ops[] = {
	{ "Tao.Sign", CONN_PROGRAM, WITH_DATA, op_sign, POWER, AUDIT_COUNTED },
	{ "Tao.OpenKey", CONN_PROGRAM, WITH_STUB, op_open_key, POWER | OP_WAITS, AUDIT_ONCE },
	{ "Tao.Decrypt", CONN_PROGRAM, WITH_STUB, op_decrypt, POWER, AUDIT_COUNTED },
	{ "Tao.Derive", CONN_PROGRAM, SMALL, op_derive, POWER, AUDIT_COUNTED },
	{ "Tao.GetKey", CONN_PROGRAM, SMALL, op_get_key, POWER | OP_WAITS, AUDIT_ONCE },
	{ "Tao.GetCertificate", CONN_PROGRAM, SMALL, op_get_certificate, POWER | OP_SLOW | OP_COSTLY, AUDIT_REFUSED },
	{ "Tao.ListKeys", CONN_PROGRAM, SMALL, op_list_keys, OP_SLOW, AUDIT_NONE },
	{ "Tao.GenerateKey", CONN_PROGRAM, SMALL, op_generate_key, POWER | OP_COMPUTES | OP_COSTLY, AUDIT_EACH },
	{ "Tao.PskServer", CONN_PROGRAM, SMALL, op_psk_server, POWER, AUDIT_REFUSED },
	{ "Tao.PskClient", CONN_PROGRAM, SMALL, op_psk_client, POWER, AUDIT_REFUSED },
	{ "Tao.GroupServer", CONN_PROGRAM, SMALL, op_group_server, POWER, AUDIT_REFUSED },
	{ "Tao.GroupClient", CONN_PROGRAM, SMALL, op_group_client, POWER, AUDIT_REFUSED },
	{ "Tao.GroupNonces", CONN_PROGRAM, SMALL, op_group_nonces, POWER, AUDIT_REFUSED },
	{ "Tao.CheckPeer", CONN_PROGRAM, WITH_DATA, op_check_peer, POWER, AUDIT_REFUSED },
	{ "Tao.Peer", CONN_PROGRAM, SMALL, op_peer, OP_QUICK, AUDIT_NONE },
	{ "Tao.Handshake", CONN_PROGRAM, WITH_STUB, op_handshake, OP_QUICK, AUDIT_EACH },
	{ "Tao.Identity", CONN_PROGRAM, SMALL, op_identity, POWER | OP_SLOW | OP_COSTLY, AUDIT_ONCE },
	{ "Tao.GroupKey", CONN_PROGRAM, WITH_DATA, op_group_key, POWER | OP_COSTLY, AUDIT_EACH },
	{ "Tao.GetPolicyCertificate", ANY, SMALL, op_policy_certificate, OP_QUICK, AUDIT_NONE },
	{ "Tao.Hello", CONN_NEW, 0, op_hello, OP_QUICK, AUDIT_REFUSED },
	{ "Tao.Prove", CONN_HELLO, SMALL, op_prove, OP_WAITS, AUDIT_REFUSED },
	{ "Tao.Door", CONN_PROGRAM, 0, op_door, OP_QUICK | OP_COSTLY, AUDIT_REFUSED },
	{ "Tao.GetTaoName", CLOUD, SMALL, op_get_name, OP_QUICK, AUDIT_NONE },
	{ "Tao.ExtendTaoName", CLOUD, SMALL, op_extend_name, POWER | OP_SLOW, AUDIT_EACH },
	{ "Tao.GetRandomBytes", CLOUD, SMALL, op_random, OP_QUICK, AUDIT_NONE },
	{ "Tao.Attest", CLOUD, WITH_DATA, op_attest, POWER | OP_COSTLY, AUDIT_EACH },
	{ "Tao.Seal", CLOUD, WITH_DATA, op_seal, POWER, AUDIT_EACH },
	{ "Tao.Unseal", CLOUD, WITH_DATA, op_unseal, POWER, AUDIT_EACH },
	{ "Tao.GetSharedSecret", CLOUD, SMALL, op_shared_secret, POWER, AUDIT_EACH },
	{ "Tao.InitCounter", CLOUD, SMALL, op_init_counter, POWER | OP_SLOW | OP_COSTLY, AUDIT_EACH },
	{ "Tao.GetCounter", CLOUD, SMALL, op_get_counter, POWER, AUDIT_REFUSED },
	{ "Tao.RollbackProtectedSeal", CLOUD, WITH_DATA, op_rollback_seal, POWER | OP_SLOW | OP_COSTLY, AUDIT_EACH },
	{ "Tao.RollbackProtectedUnseal", CLOUD, WITH_DATA, op_rollback_unseal, POWER, AUDIT_EACH },
	{ "Host.Run", CONN_NEW, WITH_DATA, op_run, OP_SLOW | OP_COSTLY, AUDIT_EACH },
	{ "Host.NewKey", CONN_NEW, WITH_DATA, op_new_key, OP_COMPUTES | OP_COSTLY, AUDIT_EACH },
	{ "Host.ImportKey", CONN_NEW, WITH_DATA, op_import_key, OP_COMPUTES | OP_COSTLY, AUDIT_EACH },
	{ "Host.RotateKey", CONN_NEW, SMALL, op_rotate_key, OP_COMPUTES | OP_COSTLY, AUDIT_EACH },
	{ "Host.DeleteKey", CONN_NEW, SMALL, op_delete_key, OP_SLOW | OP_COSTLY, AUDIT_EACH },
	{ "Host.Keys", CONN_NEW, SMALL, op_keys, OP_SLOW, AUDIT_NONE },
	{ "Host.Key", CONN_NEW, SMALL, op_key, OP_SLOW, AUDIT_NONE },
	{ "Host.Cert", CONN_NEW, SMALL, op_cert, OP_WAITS, AUDIT_NONE },
	{ "Host.ImportCert", CONN_NEW, WITH_STUB, op_import_cert, OP_COMPUTES | OP_COSTLY, AUDIT_EACH },
	{ "Host.RemoveCert", CONN_NEW, SMALL, op_remove_cert, OP_SLOW | OP_COSTLY, AUDIT_EACH },
	{ "Host.RequestCert", CONN_NEW, WITH_STUB, op_request_cert, OP_COMPUTES | OP_COSTLY, AUDIT_EACH },
	{ "Host.Status", CONN_NEW, SMALL, op_status, OP_SLOW, AUDIT_NONE },
	{ "Host.Ps", CONN_NEW, SMALL, op_ps, OP_WAITS, AUDIT_NONE },
	{ "Host.Doctor", CONN_NEW, SMALL, op_doctor, OP_WAITS, AUDIT_NONE },
	{ "Host.Trust", CONN_NEW, WITH_STUB, op_trust, OP_SLOW | OP_COSTLY, AUDIT_ALWAYS },
	{ "Host.Measure", CONN_NEW, WITH_STUB, op_measure, OP_SLOW | OP_COSTLY, AUDIT_REFUSED },
	{ "Host.Policy", CONN_NEW, SMALL, op_policy, OP_WAITS, AUDIT_NONE },
	{ "Host.AddFact", CONN_NEW, WITH_STUB, op_add_fact, OP_SLOW | OP_COSTLY, AUDIT_ALWAYS },
	{ "Host.RemoveFact", CONN_NEW, WITH_STUB, op_remove_fact, OP_SLOW | OP_COSTLY, AUDIT_ALWAYS },
	{ "Host.Epoch", CONN_NEW, SMALL, op_epoch, OP_SLOW, AUDIT_ALWAYS },
	{ "Host.Counters", CONN_NEW, SMALL, op_counters, OP_SLOW, AUDIT_ALWAYS },
	{ "Host.Log", CONN_NEW, SMALL, op_log, OP_SLOW, AUDIT_NONE },
	{ "Host.Shutdown", CONN_NEW, SMALL, op_shutdown, OP_QUICK, AUDIT_ALWAYS },
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
