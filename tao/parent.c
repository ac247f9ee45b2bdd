#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "client.h"
#include "config.h"
#include "pb.h"
#include "rpc.h"
#include "tao.h"
#include "tao.pb-c.h"

#define SOCKET_ENV     "TAO_SOCKET"
#define SOCKET_DEFAULT TAO_LOCALSTATEDIR "/lib/tao/run/tao.sock"
#define RANDOM_PIECE   (256 << 10) /* bytes of one request */
#define REPLY_SLACK    4096        /* what unpacking a reply needs above its own size */
#define BLOB_GROWTH    32768       /* a blob is longer than its data: header, policy, name */

/* What is sealed comes back in one request, too. */
_Static_assert(TAO_PARENT_SEAL_MAX + BLOB_GROWTH <= TAO_RPC_MAX_REQUEST, "blobs fit");
_Static_assert(TAO_PARENT_SECRET_MAX <= INT_MAX && RANDOM_PIECE <= INT_MAX, "sizes are int32");

struct tao_parent {
	struct tao_client *client;
};

/* ---- opening ---- */

enum tao_err tao_parent_open_at(const char *socket, int timeout_ms, struct tao_parent **out)
{
	struct tao_parent *p;

	*out = NULL;
	if (socket == NULL || socket[0] != '/' || strlen(socket) > TAO_SOCKET_PATH_MAX)
		return tao_fail(TAO_EINVAL,
		                "'%.200s' cannot be the Tao host's socket: give an absolute path "
		                "of at most %d bytes, in %s for example",
		                socket != NULL ? socket : "", TAO_SOCKET_PATH_MAX, SOCKET_ENV);
	if (timeout_ms < 0)
		return tao_fail(TAO_EINVAL, "a deadline of %d ms: give 0 or more", timeout_ms);
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return tao_fail_nomem();
	p->client = tao_client_new(socket, timeout_ms != 0 ? timeout_ms : TAO_CALL_TIMEOUT_MS);
	if (p->client == NULL) {
		free(p);
		return tao_fail_nomem();
	}
	*out = p;
	return TAO_OK;
}

enum tao_err tao_parent_open(struct tao_parent **out)
{
	const char *path = secure_getenv(SOCKET_ENV);

	return tao_parent_open_at(path != NULL && path[0] != 0 ? path : SOCKET_DEFAULT, 0, out);
}

void tao_parent_close(struct tao_parent *p)
{
	if (p == NULL)
		return;
	tao_client_free(p->client);
	free(p);
}

/* ---- one request ---- */

/* A reply's data and what else it may hold. */
struct answer {
	struct tao_buf *data;       /* appended to; NULL: not wanted */
	struct tao_unsealed *what;  /* NULL: not wanted */
	int64_t *counter;           /* NULL: not wanted */
	uint32_t *epoch;            /* NULL: not wanted */
};

static enum tao_err malformed(const char *op, const char *what)
{
	return tao_fail(TAO_EPROTO,
	                "the Tao host's answer to %s has no %s: check that libtao and taod are of "
	                "one version",
	                op, what);
}

static enum tao_err take_unsealed(const char *op, const Tao__RPCResponse *rp,
                                  struct tao_unsealed *what)
{
	const char *policy = rp->policy != NULL ? rp->policy : "";
	const char *label = rp->label != NULL ? rp->label : "";

	if (strlen(policy) >= sizeof what->policy)
		return malformed(op, "policy that could be one");
	if (strlen(label) >= sizeof what->label)
		return malformed(op, "label that could be one");
	memcpy(what->policy, policy, strlen(policy) + 1);
	memcpy(what->label, label, strlen(label) + 1);
	what->expires = rp->has_expiration ? rp->expiration : 0;
	what->epoch = rp->epoch;
	what->host_epoch = rp->host_epoch;
	return TAO_OK;
}

static enum tao_err take(const char *op, const Tao__RPCResponse *rp, const struct answer *a)
{
	enum tao_err e = TAO_OK;

	if (a->data != NULL && !rp->has_data)
		return malformed(op, "data");
	if (a->counter != NULL && !rp->has_counter)
		return malformed(op, "counter");
	if (a->what != NULL)
		e = take_unsealed(op, rp, a->what);
	if (e != TAO_OK)
		return e;
	if (a->data != NULL)
		tao_buf_put(a->data, rp->data.data, rp->data.len);
	if (a->counter != NULL)
		*a->counter = rp->counter;
	if (a->epoch != NULL)
		*a->epoch = rp->epoch;
	return a->data != NULL ? tao_buf_err(a->data) : TAO_OK;
}

/* *m, also after a failure, is freed with tao_pb_free(pa, *m). */
static enum tao_err ask_for(struct tao_parent *p, const char *op, const ProtobufCMessage *rq,
                            const ProtobufCMessageDescriptor *type, struct tao_pb_alloc *pa,
                            ProtobufCMessage **m)
{
	struct tao_buf body = TAO_BUF_INIT, reply = TAO_BUF_INIT;
	enum tao_err e;

	*m = NULL;
	tao_pb_pack(rq, &body);
	e = tao_buf_err(&body);
	if (e == TAO_OK)
		e = tao_client_call(p->client, op, body.p, body.n, NULL, &reply);
	tao_pb_alloc_init(pa, reply.n + REPLY_SLACK);
	if (e == TAO_OK && tao_pb_unpack(pa, type, reply.p, reply.n, op, m))
		e = malformed(op, "form that is known");
	tao_buf_free(&body);
	tao_buf_free(&reply);
	return e;
}

static enum tao_err ask(struct tao_parent *p, const char *op, const Tao__RPCRequest *rq,
                        const struct answer *a)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *m;
	enum tao_err e = ask_for(p, op, &rq->base, &tao__rpcresponse__descriptor, &pa, &m);

	if (e == TAO_OK)
		e = take(op, (Tao__RPCResponse *)m, a);
	tao_pb_free(&pa, m);
	return e;
}

static void set_data(Tao__RPCRequest *rq, const void *p, size_t n)
{
	rq->has_data = 1;
	rq->data.data = (uint8_t *)p;
	rq->data.len = n;
}

/* ---- what a parent does ---- */

enum tao_err tao_parent_name(struct tao_parent *p, struct tao_node **name)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	struct tao_buf b = TAO_BUF_INIT;
	struct answer a = { .data = &b };
	enum tao_err e = ask(p, "Tao.GetTaoName", &rq, &a);

	*name = NULL;
	if (e == TAO_OK && tao_prin_decode(b.p, b.n, name) != TAO_OK)
		e = malformed("Tao.GetTaoName", "name");
	tao_buf_free(&b);
	return e;
}

enum tao_err tao_parent_extend(struct tao_parent *p, const struct tao_node *sub)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	struct tao_buf b = TAO_BUF_INIT;
	struct answer none = { 0 };
	enum tao_err e;

	if (sub == NULL || sub->tag != TAO_SUBPRIN)
		return tao_fail(TAO_EINVAL,
		                "a name is extended by a subprincipal, such as .Worker(3)");
	tao_node_encode(sub, &b);
	set_data(&rq, b.p, b.n);
	e = tao_buf_err(&b);
	if (e == TAO_OK)
		e = ask(p, "Tao.ExtendTaoName", &rq, &none);
	tao_buf_free(&b);
	return e;
}

/* Exactly n bytes. */
static enum tao_err ask_bytes(struct tao_parent *p, const char *op, Tao__RPCRequest *rq, void *out,
                              size_t n)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct answer a = { .data = &b };
	enum tao_err e;

	rq->has_size = 1;
	rq->size = (int32_t)n;
	e = ask(p, op, rq, &a);
	if (e == TAO_OK && b.n != n)
		e = malformed(op, "bytes of the right number");
	if (e == TAO_OK)
		memcpy(out, b.p, n);
	tao_buf_free(&b);
	return e;
}

enum tao_err tao_parent_random(struct tao_parent *p, void *out, size_t n)
{
	uint8_t *to = out;
	enum tao_err e = TAO_OK;

	if (n == 0 || n > TAO_PARENT_RANDOM_MAX)
		return tao_fail(TAO_ELIMIT, "ask for 1 to %u random bytes", TAO_PARENT_RANDOM_MAX);
	for (size_t done = 0; e == TAO_OK && done < n;) {
		Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
		size_t piece = n - done < RANDOM_PIECE ? n - done : RANDOM_PIECE;

		e = ask_bytes(p, "Tao.GetRandomBytes", &rq, to + done, piece);
		done += piece;
	}
	if (e != TAO_OK)
		OPENSSL_cleanse(out, n);
	return e;
}

static void set_times(Tao__RPCRequest *rq, int64_t from, int64_t until)
{
	rq->has_time = from != TAO_NOW;
	rq->time = from;
	rq->has_expiration = until != TAO_NOW;
	rq->expiration = until;
}

enum tao_err tao_parent_attest(struct tao_parent *p, const struct tao_node *issuer, int64_t from,
                               int64_t until, const struct tao_node *message,
                               struct tao_buf *attestation)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	struct tao_buf form = TAO_BUF_INIT, who = TAO_BUF_INIT;
	struct answer a = { .data = attestation };
	enum tao_err e;

	if (message == NULL)
		return tao_fail(TAO_EINVAL, "there is no statement to attest");
	tao_node_encode(message, &form);
	set_data(&rq, form.p, form.n);
	set_times(&rq, from, until);
	e = tao_buf_err(&form);
	if (e == TAO_OK && issuer != NULL) {
		tao_node_encode(issuer, &who);
		rq.has_issuer = 1;
		rq.issuer.data = who.p;
		rq.issuer.len = who.n;
		e = tao_buf_err(&who);
	}
	if (e == TAO_OK)
		e = ask(p, "Tao.Attest", &rq, &a);
	tao_buf_free(&form);
	tao_buf_free(&who);
	return e;
}

/* ---- sealing ---- */

static enum tao_err check_label(const char *label)
{
	size_t n = label != NULL ? strlen(label) : 0;

	if (n == 0 || n > TAO_PARENT_LABEL_MAX)
		return tao_fail(TAO_EINVAL, "a label has 1 to %d bytes, not %zu",
		                TAO_PARENT_LABEL_MAX, n);
	return TAO_OK;
}

static enum tao_err check_sealing(const struct tao_sealing *how, size_t n)
{
	if (n == 0)
		return tao_fail(TAO_EINVAL, "there is no data to seal: give at least one byte");
	if (n > TAO_PARENT_SEAL_MAX)
		return tao_fail(TAO_ELIMIT,
		                "a Tao host seals at most %d bytes: seal a key, and encrypt the "
		                "%zu bytes with it (tao protect)",
		                TAO_PARENT_SEAL_MAX, n);
	if (how->policy != NULL && strlen(how->policy) >= TAO_PARENT_POLICY_MAX)
		return tao_fail(TAO_EINVAL,
		                "'%.40s...' is not a seal policy: use exact, program, host or "
		                "policy", how->policy);
	return how->label != NULL ? check_label(how->label) : TAO_OK;
}

static enum tao_err seal(struct tao_parent *p, const char *op, const void *data, size_t n,
                         const struct tao_sealing *how, const struct answer *a)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	enum tao_err e = check_sealing(how, n);

	set_data(&rq, data, n);
	rq.policy = (char *)how->policy;
	rq.label = (char *)how->label;
	rq.has_expiration = how->expires != 0;
	rq.expiration = how->expires;
	rq.has_prepare = rq.prepare = a->counter != NULL;
	return e == TAO_OK ? ask(p, op, &rq, a) : e;
}

static enum tao_err unseal(struct tao_parent *p, const char *op, const void *blob, size_t n,
                           const char *label, struct tao_buf *data, struct tao_unsealed *what)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	struct answer a = { .data = data, .what = what };

	if (n > TAO_PARENT_SEAL_MAX + BLOB_GROWTH)
		return tao_fail(TAO_ELIMIT, "%zu bytes are more than a Tao host seals", n);
	set_data(&rq, blob, n);
	rq.label = (char *)label;
	return ask(p, op, &rq, &a);
}

static enum tao_err unseal_word(struct tao_parent *p, const char *op, const void *blob, size_t n,
                                struct tao_buf *data, char *policy)
{
	struct tao_unsealed what;
	enum tao_err e = unseal(p, op, blob, n, NULL, data, &what);

	if (e == TAO_OK && policy != NULL)
		memcpy(policy, what.policy, sizeof what.policy);
	return e;
}

enum tao_err tao_parent_seal_as(struct tao_parent *p, const void *data, size_t n,
                                const struct tao_sealing *how, struct tao_buf *blob,
                                uint32_t *epoch)
{
	struct answer a = { .data = blob, .epoch = epoch };

	return seal(p, "Tao.Seal", data, n, how, &a);
}

enum tao_err tao_parent_seal(struct tao_parent *p, const void *data, size_t n, const char *policy,
                             struct tao_buf *blob)
{
	struct tao_sealing how = { .policy = policy };

	return tao_parent_seal_as(p, data, n, &how, blob, NULL);
}

enum tao_err tao_parent_unseal_as(struct tao_parent *p, const void *blob, size_t n,
                                  const char *label, struct tao_buf *data,
                                  struct tao_unsealed *what)
{
	return unseal(p, "Tao.Unseal", blob, n, label, data, what);
}

enum tao_err tao_parent_unseal(struct tao_parent *p, const void *blob, size_t n,
                               struct tao_buf *data, char policy[TAO_PARENT_POLICY_MAX])
{
	return unseal_word(p, "Tao.Unseal", blob, n, data, policy);
}

enum tao_err tao_parent_shared_secret_as(struct tao_parent *p, const char *policy,
                                         const char *label, void *out, size_t n)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	enum tao_err e = label != NULL ? check_label(label) : TAO_OK;

	if (n == 0 || n > TAO_PARENT_SECRET_MAX)
		return tao_fail(TAO_ELIMIT, "a shared secret has 1 to %d bytes",
		                TAO_PARENT_SECRET_MAX);
	rq.policy = (char *)policy;
	rq.label = (char *)label;
	return e == TAO_OK ? ask_bytes(p, "Tao.GetSharedSecret", &rq, out, n) : e;
}

enum tao_err tao_parent_shared_secret(struct tao_parent *p, const char *policy, void *out, size_t n)
{
	return tao_parent_shared_secret_as(p, policy, NULL, out, n);
}

/* ---- counters ---- */

enum tao_err tao_parent_init_counter(struct tao_parent *p, const char *label, int64_t counter)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	struct answer none = { 0 };
	enum tao_err e = check_label(label);

	rq.label = (char *)label;
	rq.has_counter = 1;
	rq.counter = counter;
	return e == TAO_OK ? ask(p, "Tao.InitCounter", &rq, &none) : e;
}

enum tao_err tao_parent_get_counter(struct tao_parent *p, const char *label, int64_t *counter)
{
	Tao__RPCRequest rq = TAO__RPCREQUEST__INIT;
	struct answer a = { .counter = counter };
	enum tao_err e = check_label(label);

	rq.label = (char *)label;
	return e == TAO_OK ? ask(p, "Tao.GetCounter", &rq, &a) : e;
}

enum tao_err tao_parent_rollback_seal_as(struct tao_parent *p, const void *data, size_t n,
                                         const struct tao_sealing *how, struct tao_buf *blob,
                                         uint32_t *epoch)
{
	struct answer a = { .data = blob, .epoch = epoch };
	enum tao_err e = check_label(how->label);

	return e == TAO_OK ? seal(p, "Tao.RollbackProtectedSeal", data, n, how, &a) : e;
}

enum tao_err tao_parent_rollback_prepare(struct tao_parent *p, const void *data, size_t n,
                                         const struct tao_sealing *how, struct tao_buf *blob,
                                         int64_t *counter)
{
	struct answer a = { .data = blob, .counter = counter };
	enum tao_err e = check_label(how->label);

	return e == TAO_OK ? seal(p, "Tao.RollbackProtectedSeal", data, n, how, &a) : e;
}

enum tao_err tao_parent_rollback_seal(struct tao_parent *p, const char *label, const void *data,
                                      size_t n, const char *policy, struct tao_buf *blob)
{
	struct tao_sealing how = { .policy = policy, .label = label };

	return tao_parent_rollback_seal_as(p, data, n, &how, blob, NULL);
}

enum tao_err tao_parent_rollback_unseal_as(struct tao_parent *p, const void *blob, size_t n,
                                           const char *label, struct tao_buf *data,
                                           struct tao_unsealed *what)
{
	return unseal(p, "Tao.RollbackProtectedUnseal", blob, n, label, data, what);
}

enum tao_err tao_parent_rollback_unseal(struct tao_parent *p, const void *blob, size_t n,
                                        struct tao_buf *data, char policy[TAO_PARENT_POLICY_MAX])
{
	return unseal_word(p, "Tao.RollbackProtectedUnseal", blob, n, data, policy);
}

/* ---- keys of groups ---- */

static enum tao_err ask_group_key(struct tao_parent *p, const Tao__GroupKeyRequest *rq,
                                  uint32_t *epoch, uint8_t *key)
{
	static const char op[] = "Tao.GroupKey";
	struct tao_pb_alloc pa;
	ProtobufCMessage *m;
	const Tao__GroupKeyResponse *rp;
	enum tao_err e = ask_for(p, op, &rq->base, &tao__group_key_response__descriptor, &pa, &m);

	rp = (const Tao__GroupKeyResponse *)m;
	if (e == TAO_OK && rp->key.len != TAO_PARENT_GROUP_KEY)
		e = malformed(op, "key of the right length");
	if (e == TAO_OK) {
		memcpy(key, rp->key.data, TAO_PARENT_GROUP_KEY);
		*epoch = rp->epoch;
		OPENSSL_cleanse(rp->key.data, rp->key.len);
	}
	tao_pb_free(&pa, m);
	return e;
}

enum tao_err tao_parent_group_key(struct tao_parent *p, struct tao_node *const *member, size_t n,
                                  uint32_t *epoch, uint8_t *key)
{
	Tao__GroupKeyRequest rq = TAO__GROUP_KEY_REQUEST__INIT;
	ProtobufCBinaryData list[TAO_PARENT_GROUP_MAX];
	struct tao_buf names[TAO_PARENT_GROUP_MAX];
	enum tao_err e = TAO_OK;

	if (n < 2 || n > TAO_PARENT_GROUP_MAX)
		return tao_fail(TAO_EINVAL, "a group has 2 to %d members", TAO_PARENT_GROUP_MAX);
	for (size_t i = 0; i < n; i++) {
		names[i] = (struct tao_buf)TAO_BUF_INIT;
		tao_node_encode(member[i], &names[i]);
		list[i].data = names[i].p;
		list[i].len = names[i].n;
		if (e == TAO_OK)
			e = tao_buf_err(&names[i]);
	}
	rq.members = list;
	rq.n_members = n;
	rq.has_epoch = *epoch != 0;
	rq.epoch = *epoch;
	if (e == TAO_OK)
		e = ask_group_key(p, &rq, epoch, key);
	for (size_t i = 0; i < n; i++)
		tao_buf_free(&names[i]);
	return e;
}
