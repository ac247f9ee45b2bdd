#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "imported.h"
#include "peers.h"
#include "tao.pb-c.h"
#include "../tao/file.h"
#include "../tao/stub.h"

/* Scripts run by one interpreter would all have the key: policy program says
 * only "this executable". */
static enum tao_err refuse_interpreter(const char *program)
{
	return tao_fail(TAO_EDENIED, "%s runs any script it is given, so a key for the executable "
	                "alone would be every script's: use --policy exact -- ARGS", program);
}

/* imported: PKCS#8 DER, or NULL for a new key. */
static enum tao_err make_key(struct request *r, const struct key_spec *s,
                             const ProtobufCBinaryData *imported)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	struct tao_buf stub = TAO_BUF_INIT;
	enum tao_err e;

	audit_note(r, "key", s->name);
	audit_note(r, "type", s->type);
	audit_note(r, "policy", s->policy);
	audit_note(r, "for", s->program);
	audit_note_int(r, "for_uid", s->uid);
	e = imported != NULL ? custody_import(r->h, s, imported->data, imported->len, &stub)
	                     : custody_generate(r->h, s, &stub);
	if (e == TAO_OK)
		e = keystore_put(r->h, s->uid, s->name, &stub);
	if (e == TAO_OK) {
		rp.has_stub = 1;
		rp.stub.data = stub.p;
		rp.stub.len = stub.n;
		rp.stub_path = keystore_stub_path(r->h, s->uid, s->name);
		rp.cert_path = keystore_cert_path(r->h, s->uid, s->name);
		tao_pb_pack(&rp.base, r->body);
		host_log_of(r->h, r->c->uid, "info", "user %u %s key %s for %s",
		            (unsigned)r->c->uid, imported != NULL ? "imported" : "made", s->name,
		            s->program != NULL ? s->program : "any program");
	}
	free(rp.stub_path);
	free(rp.cert_path);
	tao_buf_free(&stub);
	return e;
}

/* What the request says itself; the strings are its own. */
static struct key_spec spec_of(const Tao__NewKeyRequest *rq, uid_t uid)
{
	int salt = rq->pss_salt_len > INT_MAX ? INT_MAX : (int)rq->pss_salt_len;

	return (struct key_spec){
		.name = rq->name, .type = rq->type, .purpose = rq->purpose, .custody = rq->custody,
		.policy = rq->policy, .uid = uid, .pss_digest = rq->pss_digest,
		.pss_salt_len = rq->has_pss_salt_len ? salt : -1,
	};
}

static enum tao_err make_own_key(struct request *r, const struct key_spec *s)
{
	enum tao_err e = limit_take(&r->h->conf, LIMIT_PROGRAM_KEYS, r->inst->program,
	                            &r->inst->keys);

	if (e != TAO_OK)
		return e;
	e = make_key(r, s, NULL);
	if (e != TAO_OK)
		atomic_fetch_sub(&r->inst->keys, 1);
	return e;
}

enum tao_err op_generate_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__NewKeyRequest *rq = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__new_key_request, &rq);

	if (e == TAO_OK) {
		struct key_spec s = spec_of(rq, r->inst->uid);

		s.exe = r->inst->exe;
		s.program = r->inst->program;
		if (rq->policy != NULL && strcmp(rq->policy, "exact") == 0)
			s.principal = instance_name(r->inst);
		e = custody_check_spec(&s);
		if (e == TAO_OK)
			e = peers_key_name_check(s.name);
		if (e == TAO_OK && r->inst->interpreter &&
		    (rq->policy == NULL || strcmp(rq->policy, "program") == 0))
			e = refuse_interpreter(r->inst->program);
		if (e == TAO_OK && (rq->policy == NULL || strcmp(rq->policy, "program") == 0))
			e = instance_is_measured(r->inst);
		if (e == TAO_OK)
			e = make_own_key(r, &s);
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
		struct key_spec s = spec_of(rq, uid);

		s.exe = m.exe;
		s.principal = exact;
		s.program = rq->program;
		e = make_key(r, &s, rq->has_private_key ? &rq->private_key : NULL);
	}
	tao_node_free(exact);
	measurement_clear(&m);
	return e;
}

enum tao_err op_whose(struct request *r, int given, uid_t uid, uid_t *out)
{
	*out = given ? uid : r->c->uid;
	if (*out == r->c->uid || op_is_owner(r))
		return TAO_OK;
	return tao_fail(TAO_EPERM, "only the host's owner makes, changes or deletes keys of "
	                "another user");
}

static enum tao_err new_key(struct request *r, int import)
{
	struct tao_pb_alloc pa;
	Tao__NewKeyRequest *rq = NULL;
	uid_t uid;
	enum tao_err e = OP_UNPACK(r, &pa, tao__new_key_request, &rq);

	if (e == TAO_OK)
		e = op_whose(r, rq->has_uid, rq->uid, &uid);
	if (e == TAO_OK && import != rq->has_private_key)
		e = tao_fail(TAO_EINVAL, "Host.ImportKey takes a private key, Host.NewKey none");
	if (e == TAO_OK)
		e = peers_key_name_check(rq->name);
	if (e == TAO_OK && !import) { /* before anything is measured */
		struct key_spec s = spec_of(rq, uid);

		e = custody_check_spec(&s);
	}
	if (e == TAO_OK && (rq->program == NULL || rq->program[0] != '/' || r->c->passed_fd < 0))
		e = tao_fail(TAO_EINVAL, "say for which program the key is: --for PROGRAM");
	if (e == TAO_OK)
		e = new_key_for_program(r, rq, uid);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_new_key(struct request *r)
{
	return new_key(r, 0);
}

enum tao_err op_import_key(struct request *r)
{
	return new_key(r, 1);
}

/* ---- the next generation ---- */

enum tao_err op_open_named(struct request *r, const char *name, uid_t uid, struct tao_buf *stub,
                           struct held_key **k)
{
	struct key_facts f;
	enum tao_err e = keystore_get(r->h, uid, name, stub);

	audit_note(r, "key", name);
	audit_note_int(r, "for_uid", uid);
	if (e == TAO_OK)
		e = custody_open(r->h, stub->p, stub->n, k);
	if (e != TAO_OK)
		return e;
	held_key_facts(*k, &f);
	if (strcmp(f.name, name) != 0)
		return tao_fail(TAO_EALTERED, "the file of key %s holds key %s: give it its own "
		                "name again", name, f.name);
	if (f.uid != uid)
		return tao_fail(TAO_EALTERED, "the file of user %u's key %s holds one of user %u: "
		                "put it back", (unsigned)uid, name, (unsigned)f.uid);
	return TAO_OK;
}

enum { OLD, CERT, STUB, FILES }; /* programs read the certificate first, then the key */

/* Lock held. Once the files are prepared, little can fail. */
static enum tao_err publish(struct request *r, const struct key_facts *f, struct tao_file **files,
                            const struct cert_change *c)
{
	char *cert = keystore_cert_path(r->h, f->uid, f->name);
	struct tao_file *list[FILES];
	size_t n = 0;
	enum tao_err e = cert != NULL
	                 ? keystore_retire(r->h, f->key_id, f->generation) : tao_fail_nomem();

	if (e == TAO_OK)
		custody_forget(r->h, f->key_id, f->generation);
	files[CERT] = cert != NULL && imported_is(cert) ? NULL : c->file; /* brought meanwhile */
	if (e == TAO_OK && c->goes && !imported_is(cert))
		e = tao_file_remove(cert);
	for (size_t i = 0; i < FILES; i++)
		if (files[i] != NULL)
			list[n++] = files[i];
	if (e == TAO_OK)
		e = tao_files_place(list, n);
	free(cert);
	return e;
}

/* Key files are changed by one at a time; now: the stub that was looked at. */
static enum tao_err put_next(struct request *r, const struct key_facts *f,
                             const struct tao_buf *now, const struct tao_buf *next,
                             const struct cert_change *c)
{
	struct tao_file *files[FILES] = { NULL };
	struct tao_buf there = TAO_BUF_INIT;
	enum tao_err e = keystore_prepare(r->h, f->uid, f->name, now, next, &files[OLD],
	                                  &files[STUB]);

	custody_lock_files(r->h->custody);
	if (e == TAO_OK)
		e = keystore_get(r->h, f->uid, f->name, &there);
	if (e == TAO_OK && (there.n != now->n || memcmp(there.p, now->p, now->n) != 0))
		e = tao_fail(TAO_EBUSY, "key %s was changed meanwhile: look at it with 'tao key "
		             "show %s'", f->name, f->name);
	if (e == TAO_OK)
		e = publish(r, f, files, c);
	custody_unlock_files(r->h->custody);
	tao_file_free(files[OLD]);
	tao_file_free(files[STUB]);
	tao_buf_free(&there);
	return e;
}

static void put_rotated(struct request *r, const struct key_facts *f, const struct tao_buf *stub,
                        struct tao_buf *notice)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;

	rp.has_stub = 1;
	rp.stub.data = stub->p;
	rp.stub.len = stub->n;
	rp.stub_path = keystore_stub_path(r->h, f->uid, f->name);
	rp.cert_path = keystore_cert_path(r->h, f->uid, f->name);
	rp.notice = notice->n > 0 ? (char *)tao_buf_cstr(notice) : NULL;
	tao_pb_pack(&rp.base, r->body);
	free(rp.stub_path);
	free(rp.cert_path);
}

/* All that takes time or may be refused comes before the first change. */
static enum tao_err rotate(struct request *r, const struct key_facts *f, struct held_key *k,
                           const struct tao_buf *now)
{
	struct cert_change c = { .notice = TAO_BUF_INIT };
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *next = NULL;
	enum tao_err e = custody_next(r->h, k, &stub);

	audit_note_int(r, "generation", (int64_t)f->generation + 1);
	if (e == TAO_OK)
		e = custody_open(r->h, stub.p, stub.n, &next);
	if (e == TAO_OK)
		e = cert_next(r->h, next, &c);
	if (e == TAO_OK)
		e = put_next(r, f, now, &stub, &c);
	if (e == TAO_OK) {
		host_log_of(r->h, r->c->uid, "info", "user %u rotated key %s: generation %u",
		            (unsigned)r->c->uid, f->name, f->generation + 1);
		put_rotated(r, f, &stub, &c.notice);
	}
	cert_change_clear(&c);
	held_key_release(next);
	tao_buf_free(&stub);
	return e;
}

enum tao_err op_rotate_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct key_facts f;
	uid_t uid;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && rq->name == NULL)
		e = tao_fail(TAO_EINVAL, "%s needs a key's name", r->m->op);
	if (e == TAO_OK)
		e = op_whose(r, rq->has_uid, rq->uid, &uid);
	if (e == TAO_OK)
		e = op_open_named(r, rq->name, uid, &stub, &k);
	if (e == TAO_OK) {
		held_key_facts(k, &f);
		e = rotate(r, &f, k, &stub);
	}
	held_key_release(k);
	tao_buf_free(&stub);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- the end ---- */

static enum tao_err retire(struct request *r, const struct key_facts *f, uint32_t below)
{
	enum tao_err e = keystore_retire(r->h, f->key_id, below);

	if (e == TAO_OK)
		custody_forget(r->h, f->key_id, below);
	return e;
}

static enum tao_err delete_old(struct request *r, const Tao__KeyRequest *rq, uid_t uid)
{
	struct tao_buf stub = TAO_BUF_INIT, old = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct key_facts f;
	enum tao_err e = op_open_named(r, rq->name, uid, &stub, &k);

	if (e == TAO_OK)
		e = keystore_get_old(r->h, uid, rq->name, &old);
	if (e == TAO_OK) {
		held_key_facts(k, &f);
		audit_note_int(r, "below", f.generation);
		e = retire(r, &f, f.generation);
	}
	if (e == TAO_OK)
		e = keystore_remove_old(r->h, uid, rq->name);
	held_key_release(k);
	tao_buf_free(&stub);
	tao_buf_free(&old);
	return e;
}

/* A stub that does not open any more, whatever happened to it, goes as well. */
static enum tao_err delete_all(struct request *r, const Tao__KeyRequest *rq, uid_t uid)
{
	static char unopened[] = "this key could not be opened: its files are gone, but a copy of its "
	                         "stub that is still whole would work";
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct key_facts f;
	enum tao_err e = op_open_named(r, rq->name, uid, &stub, &k);

	if (k != NULL) {
		held_key_facts(k, &f);
		e = retire(r, &f, f.generation + 1);
	} else if (stub.n > 0 || e == TAO_EFORMAT) {
		/* deleted before, but not to the end */
		rp.notice = e == TAO_ENOTFOUND ? NULL : unopened;
		e = TAO_OK;
	}
	if (e == TAO_OK)
		e = keystore_remove(r->h, uid, rq->name);
	if (e == TAO_OK)
		tao_pb_pack(&rp.base, r->body);
	held_key_release(k);
	tao_buf_free(&stub);
	return e;
}

enum tao_err op_delete_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	uid_t uid;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && rq->name == NULL)
		e = tao_fail(TAO_EINVAL, "%s needs a key's name", r->m->op);
	if (e == TAO_OK)
		e = tao_key_name_check(rq->name, strlen(rq->name));
	if (e == TAO_OK)
		e = op_whose(r, rq->has_uid, rq->uid, &uid);
	if (e == TAO_OK) {
		custody_lock_files(r->h->custody);
		e = (rq->old ? delete_old : delete_all)(r, rq, uid);
		custody_unlock_files(r->h->custody);
	}
	if (e == TAO_OK)
		host_log_of(r->h, r->c->uid, "info", "user %u deleted %skey %s of user %u",
		            (unsigned)r->c->uid, rq->old ? "the older generation of " : "",
		            rq->name, (unsigned)uid);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
