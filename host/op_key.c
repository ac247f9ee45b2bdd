#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "tao.pb-c.h"
#include "../tao/stub.h"

#define MAX_LISTED 10000

/* ---- for programs ---- */

static enum tao_err own_stub(struct request *r, const char *name, struct tao_buf *stub)
{
	if (name == NULL)
		return tao_fail(TAO_EINVAL, "%s needs a key's name", r->m->op);
	return keystore_get(r->h, r->inst->uid, name, stub);
}

static void note_key(struct request *r, const struct held_key *k)
{
	struct key_facts f;

	held_key_facts(k, &f);
	audit_note_key(r, held_key_id(k), f.name);
}

/* The opened key of a stub, or of a name in the store; checked for the caller. */
static enum tao_err open_for_caller(struct request *r, const void *stub, size_t n,
                                    struct held_key **out)
{
	enum tao_err e = custody_open(r->h, stub, n, out);

	if (e == TAO_OK)
		note_key(r, *out);
	if (e == TAO_OK)
		e = custody_allows(r->h, *out, r->inst);
	return e;
}

static void put_key(struct request *r, const struct held_key *k, const void *stub, size_t n)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;

	rp.has_stub = stub != NULL;
	rp.stub.data = (uint8_t *)stub;
	rp.stub.len = n;
	rp.has_key_id = 1;
	rp.key_id.data = (uint8_t *)held_key_id(k);
	rp.key_id.len = TAO_HASH_LEN;
	tao_pb_pack(&rp.base, r->body);
}

enum tao_err op_get_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK)
		e = own_stub(r, rq->name, &stub);
	if (e == TAO_OK)
		e = open_for_caller(r, stub.p, stub.n, &k);
	if (e == TAO_OK)
		put_key(r, k, stub.p, stub.n);
	held_key_release(k);
	tao_buf_free(&stub);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* A stub without its sealed part stands for the key of that name in the store. */
static enum tao_err open_given(struct request *r, const Tao__KeyRequest *rq, struct held_key **k)
{
	struct tao_buf stub = TAO_BUF_INIT;
	char name[TAO_KEY_NAME_MAX + 1] = "";
	struct tao_stub st;
	enum tao_err e = tao_stub_parse(rq->stub.data, rq->stub.len, &st);

	if (e == TAO_OK && st.sealed != NULL)
		return open_for_caller(r, rq->stub.data, rq->stub.len, k);
	if (e == TAO_OK) {
		memcpy(name, st.name, st.name_n);
		e = own_stub(r, name, &stub);
	}
	if (e == TAO_OK)
		e = open_for_caller(r, stub.p, stub.n, k);
	tao_buf_free(&stub);
	return e;
}

enum tao_err op_open_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && !rq->has_stub)
		e = tao_fail(TAO_EINVAL, "Tao.OpenKey needs a stub");
	if (e == TAO_OK)
		e = open_given(r, rq, &k);
	if (e == TAO_OK)
		put_key(r, k, NULL, 0);
	held_key_release(k);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_sign(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__SignRequest *rq = NULL;
	Tao__SignResponse rp = TAO__SIGN_RESPONSE__INIT;
	struct tao_buf sig = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__sign_request, &rq);

	if (e == TAO_OK)
		e = custody_find(r->h, rq->key_id.data, rq->key_id.len, &k);
	if (e == TAO_OK)
		note_key(r, k);
	if (e == TAO_OK)
		e = custody_allows(r->h, k, r->inst);
	if (e == TAO_OK) {
		struct sign_how how = {
			.digest = rq->digest, .padding = rq->padding, .mgf1 = rq->mgf1_digest,
			.has_salt_len = rq->has_salt_len, .salt_len = rq->salt_len, .message = rq->message,
		};

		e = custody_sign(r->h, k, &how, rq->data.data, rq->data.len, &sig);
	}
	if (e == TAO_OK) {
		rp.signature.data = sig.p;
		rp.signature.len = sig.n;
		tao_pb_pack(&rp.base, r->body);
	}
	held_key_release(k);
	tao_buf_free(&sig);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

static void put_chain(struct request *r, const struct tao_buf *certs, size_t n,
                      const char *cert_path)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	ProtobufCBinaryData chain[2];

	for (size_t i = 0; i < n; i++) {
		chain[i].data = certs[i].p;
		chain[i].len = certs[i].n;
	}
	rp.n_chain = n;
	rp.chain = chain;
	rp.cert_path = (char *)cert_path;
	tao_pb_pack(&rp.base, r->body);
}

enum tao_err op_get_certificate(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct tao_buf stub = TAO_BUF_INIT, chain[2] = { TAO_BUF_INIT, TAO_BUF_INIT };
	struct held_key *k = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK)
		e = own_stub(r, rq->name, &stub);
	if (e == TAO_OK)
		e = open_for_caller(r, stub.p, stub.n, &k);
	if (e == TAO_OK)
		e = cert_obtain(r->h, r->inst, k, &chain[0]);
	if (e == TAO_OK)
		e = domain_policy_cert(r->h->domain, &chain[1]);
	if (e == TAO_OK)
		put_chain(r, chain, 2, NULL);
	held_key_release(k);
	tao_buf_free(&stub);
	tao_buf_free(&chain[0]);
	tao_buf_free(&chain[1]);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_policy_certificate(struct request *r)
{
	struct tao_buf cert = TAO_BUF_INIT;
	enum tao_err e = domain_policy_cert(r->h->domain, &cert);

	if (e == TAO_OK)
		put_chain(r, &cert, 1, NULL);
	tao_buf_free(&cert);
	return e;
}

/* ---- making keys ---- */

/* Scripts run by one interpreter would all have the key: policy program says
 * only "this executable". */
static enum tao_err refuse_interpreter(const char *program)
{
	return tao_fail(TAO_EDENIED, "%s runs any script it is given, so a key for the executable alone "
	                "would be every script's: use --policy exact -- ARGS", program);
}

static enum tao_err make_key(struct request *r, const struct key_spec *s, const char *notice)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	struct tao_buf stub = TAO_BUF_INIT;
	enum tao_err e;

	audit_note(r, "key", s->name);
	audit_note(r, "type", s->type);
	audit_note(r, "policy", s->policy);
	audit_note(r, "for", s->program);
	audit_note_int(r, "for_uid", s->uid);
	e = custody_generate(r->h, s, &stub);
	if (e == TAO_OK)
		e = keystore_put(r->h, s->uid, s->name, &stub);
	if (e == TAO_OK) {
		rp.has_stub = 1;
		rp.stub.data = stub.p;
		rp.stub.len = stub.n;
		rp.stub_path = keystore_stub_path(r->h, s->uid, s->name);
		rp.cert_path = keystore_cert_path(r->h, s->uid, s->name);
		rp.notice = (char *)notice;
		tao_pb_pack(&rp.base, r->body);
		host_log("info", "user %u made key %s for %s", (unsigned)r->c->uid, s->name,
		         s->program != NULL ? s->program : "any program");
	}
	free(rp.stub_path);
	free(rp.cert_path);
	tao_buf_free(&stub);
	return e;
}

enum tao_err op_generate_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__NewKeyRequest *rq = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__new_key_request, &rq);

	if (e == TAO_OK) {
		struct key_spec s = {
			.name = rq->name, .type = rq->type, .purpose = rq->purpose,
			.custody = rq->custody, .policy = rq->policy, .uid = r->inst->uid,
			.exe = r->inst->exe, .program = r->inst->program,
		};

		if (rq->policy != NULL && strcmp(rq->policy, "exact") == 0)
			s.principal = instance_name(r->inst);
		e = custody_check_spec(&s);
		if (e == TAO_OK && r->inst->interpreter &&
		    (rq->policy == NULL || strcmp(rq->policy, "program") == 0))
			e = refuse_interpreter(r->inst->program);
		if (e == TAO_OK)
			e = make_key(r, &s, NULL);
	}
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

static enum tao_err measure_for_key(struct request *r, const Tao__NewKeyRequest *rq, uid_t uid,
                                    struct measurement *m)
{
	char *none[] = { NULL }, *config[] = { r->h->conf.openssl_conf, NULL };
	char *modules[] = { r->h->conf.module, r->h->conf.tls_module, NULL };
	int exact = rq->policy != NULL && strcmp(rq->policy, "exact") == 0;
	struct measure_request mr = {
		.path = rq->program, .fd = r->c->passed_fd, .uid = uid,
		.dev_uid = r->h->owner, .args = none, .env = none,
		.config = config, .modules = modules, .program_only = !exact,
	};
	struct tao_buf args = TAO_BUF_INIT;
	char **list = NULL;
	enum tao_err e = op_strings(rq->args, rq->n_args, &args, &list);

	if (e == TAO_OK && exact)
		mr.args = list;
	if (e == TAO_OK)
		e = measurer_program(r->h->measurer, &mr, m);
	free(list);
	tao_buf_free(&args);
	return e;
}

static enum tao_err new_key_for_program(struct request *r, const Tao__NewKeyRequest *rq, uid_t uid)
{
	struct measurement m = { .copy_fd = -1 };
	struct tao_node *exact = NULL;
	int is_exact = rq->policy != NULL && strcmp(rq->policy, "exact") == 0;
	enum tao_err e = measure_for_key(r, rq, uid, &m);

	if (e != TAO_OK)
		return e;
	if ((m.is_interpreter || m.is_script) && (rq->policy == NULL ||
	    strcmp(rq->policy, "program") == 0))
		e = refuse_interpreter(rq->program);
	if (e == TAO_OK && is_exact) {
		exact = name_program(r->h->name, &m, uid, 0, domain_id(r->h->domain));
		e = exact != NULL ? TAO_OK : tao_fail_nomem();
	}
	if (e == TAO_OK) {
		struct key_spec s = {
			.name = rq->name, .type = rq->type, .purpose = rq->purpose,
			.custody = rq->custody, .policy = rq->policy, .uid = uid, .exe = m.exe,
			.principal = exact, .program = rq->program,
		};

		e = make_key(r, &s, NULL);
	}
	tao_node_free(exact);
	measurement_clear(&m);
	return e;
}

enum tao_err op_new_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__NewKeyRequest *rq = NULL;
	uid_t uid = r->c->uid;
	enum tao_err e = OP_UNPACK(r, &pa, tao__new_key_request, &rq);

	if (e == TAO_OK && rq->has_uid)
		uid = rq->uid;
	if (e == TAO_OK && uid != r->c->uid && !op_is_owner(r))
		e = tao_fail(TAO_EPERM, "only the host's owner makes keys for another user");
	if (e == TAO_OK) {
		struct key_spec s = { .name = rq->name, .type = rq->type, .purpose = rq->purpose,
		                      .custody = rq->custody, .policy = rq->policy };

		e = custody_check_spec(&s);
	}
	if (e == TAO_OK && (rq->program == NULL || rq->program[0] != '/' || r->c->passed_fd < 0))
		e = tao_fail(TAO_EINVAL, "say for which program the key is: --for PROGRAM");
	if (e == TAO_OK)
		e = new_key_for_program(r, rq, uid);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- lists ---- */

struct listing {
	Tao__KeyInfo *infos[MAX_LISTED];
	size_t n;
	struct instance *only_for; /* keys this program could use; NULL: all */
};

static void info_free(Tao__KeyInfo *i)
{
	free(i->name);
	free(i->type);
	free(i->purpose);
	free(i->custody);
	free(i->policy);
	free(i->program);
	free(i->program_hash.data);
	free(i->spki_hash.data);
	free(i->cert_refusal);
	free(i->stub_path);
	free(i->cert_path);
	free(i);
}

static void listing_free(struct listing *l)
{
	while (l != NULL && l->n > 0)
		info_free(l->infos[--l->n]);
	free(l);
}

static int copy_bytes(ProtobufCBinaryData *to, const uint8_t *p, size_t n)
{
	to->data = malloc(n);
	to->len = n;
	if (to->data != NULL)
		memcpy(to->data, p, n);
	return to->data != NULL;
}

static Tao__KeyInfo *info_new(struct host *h, const struct key_facts *f)
{
	Tao__KeyInfo *i = malloc(sizeof *i);
	int64_t until;

	if (i == NULL)
		return NULL;
	tao__key_info__init(i);
	i->name = strdup(f->name);
	i->type = strdup(f->type);
	i->purpose = strdup(f->purpose);
	i->custody = strdup(f->custody);
	i->policy = strdup(f->policy);
	i->program = f->program != NULL ? strdup(f->program) : NULL;
	i->uid = f->uid;
	i->created = f->created;
	i->has_program_hash = f->exe != NULL && copy_bytes(&i->program_hash, f->exe, TAO_HASH_LEN);
	i->stub_path = keystore_stub_path(h, f->uid, f->name);
	i->cert_path = keystore_cert_path(h, f->uid, f->name);
	i->cert_refusal = cert_refusal(h, f->uid, f->name);
	if (cert_on_file(h, f->uid, f->name, NULL, &until) == TAO_OK) {
		i->has_cert_not_after = 1;
		i->cert_not_after = until;
	}
	if (copy_bytes(&i->spki_hash, f->spki_hash, sizeof f->spki_hash) && i->name != NULL &&
	    i->type != NULL && i->purpose != NULL && i->custody != NULL && i->policy != NULL)
		return i;
	info_free(i);
	return NULL;
}

static enum tao_err list_one(struct host *h, uid_t uid, const char *name, void *arg)
{
	struct listing *l = arg;
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct key_facts f;
	enum tao_err e = keystore_get(h, uid, name, &stub);

	if (e == TAO_OK)
		e = custody_open(h, stub.p, stub.n, &k);
	tao_buf_free(&stub);
	if (e != TAO_OK) { /* one damaged stub does not hide the others */
		host_log("warning", "key %s of user %u cannot be opened: %s", name, (unsigned)uid,
		         tao_why());
		return TAO_OK;
	}
	if (l->only_for == NULL || custody_allows(h, k, l->only_for) == TAO_OK) {
		held_key_facts(k, &f);
		if (l->n < MAX_LISTED)
			l->infos[l->n] = info_new(h, &f);
		e = l->n < MAX_LISTED && l->infos[l->n] == NULL ? tao_fail_nomem() : TAO_OK;
		l->n += e == TAO_OK && l->n < MAX_LISTED;
	}
	held_key_release(k);
	return e;
}

static enum tao_err list_user(struct host *h, uid_t uid, void *arg)
{
	return keystore_each(h, uid, list_one, arg);
}

static enum tao_err list_keys(struct request *r, int all_users, uid_t uid, struct instance *only)
{
	Tao__KeyListResponse rp = TAO__KEY_LIST_RESPONSE__INIT;
	struct listing *l = calloc(1, sizeof *l);
	enum tao_err e;

	if (l == NULL)
		return tao_fail_nomem();
	l->only_for = only;
	e = all_users ? keystore_users(r->h, list_user, l) : list_user(r->h, uid, l);
	if (e == TAO_OK) {
		rp.n_keys = l->n;
		rp.keys = l->infos;
		tao_pb_pack(&rp.base, r->body);
	}
	listing_free(l);
	return e;
}

enum tao_err op_list_keys(struct request *r)
{
	return list_keys(r, 0, r->inst->uid, r->inst);
}

enum tao_err op_keys(struct request *r)
{
	return list_keys(r, op_is_owner(r), r->c->uid, NULL);
}

/* ---- for people ---- */

enum tao_err op_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	struct tao_buf stub = TAO_BUF_INIT;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && rq->name == NULL)
		e = tao_fail(TAO_EINVAL, "Host.Key needs a key's name");
	if (e == TAO_OK)
		e = keystore_get(r->h, r->c->uid, rq->name, &stub);
	if (e == TAO_OK) {
		rp.has_stub = 1;
		rp.stub.data = stub.p;
		rp.stub.len = stub.n;
		rp.stub_path = keystore_stub_path(r->h, r->c->uid, rq->name);
		tao_pb_pack(&rp.base, r->body);
	}
	free(rp.stub_path);
	tao_buf_free(&stub);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_cert(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct tao_buf stub = TAO_BUF_INIT, chain[2] = { TAO_BUF_INIT, TAO_BUF_INIT };
	char *path = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && rq->name == NULL)
		e = tao_fail(TAO_EINVAL, "Host.Cert needs a key's name");
	if (e == TAO_OK)
		e = keystore_get(r->h, r->c->uid, rq->name, &stub); /* is there such a key? */
	if (e == TAO_OK)
		e = cert_on_file(r->h, r->c->uid, rq->name, &chain[0], NULL);
	if (e == TAO_OK)
		e = domain_policy_cert(r->h->domain, &chain[1]);
	if (e == TAO_OK) {
		path = keystore_cert_path(r->h, r->c->uid, rq->name);
		put_chain(r, chain, 2, path);
	}
	free(path);
	tao_buf_free(&stub);
	tao_buf_free(&chain[0]);
	tao_buf_free(&chain[1]);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
