#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"
#include "imported.h"
#include "sealedkey.h"
#include "tao.pb-c.h"

#define MAX_LISTED 10000

struct listing {
	Tao__KeyInfo *infos[MAX_LISTED];
	size_t n;
	struct instance *only_for; /* keys this program could use; NULL: all */
	int cert_imported;         /* only keys with a certificate of another authority */
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
	free(i->cert_issuer);
	free(i->stub_path);
	free(i->cert_path);
	free(i->key_id.data);
	free(i->spki.data);
	free(i->principal);
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

static void fill_generation(struct host *h, const struct key_facts *f, Tao__KeyInfo *i)
{
	char *old = keystore_old_path(h, f->uid, f->name);

	i->has_generation = i->has_imported = i->has_bits = i->has_has_old = 1;
	i->generation = f->generation;
	i->imported = f->imported;
	i->bits = f->bits;
	i->has_old = old != NULL && access(old, F_OK) == 0;
	i->has_key_id = copy_bytes(&i->key_id, f->key_id, SEALEDKEY_ID_LEN);
	i->principal = f->principal != NULL ? tao_node_text(f->principal) : NULL;
	free(old);
}

static void fill_certificate(struct host *h, const struct key_facts *f, Tao__KeyInfo *i)
{
	struct imported im;
	int64_t until;

	if (imported_read(h, f->uid, f->name, &im) == TAO_OK) {
		i->has_cert_imported = i->has_cert_misfit = i->has_cert_not_after = 1;
		i->cert_imported = 1;
		i->cert_misfit = imported_fits(&im, f) != TAO_OK;
		i->cert_not_after = im.not_after;
		i->has_cert_not_before = 1;
		i->cert_not_before = im.not_before;
		i->cert_issuer = im.issuer != NULL ? strdup(im.issuer) : NULL;
		imported_clear(&im);
		return;
	}
	i->cert_refusal = cert_refusal(h, f->uid, f->name);
	if (cert_on_file(h, f->uid, f->name, NULL, &until) == TAO_OK) {
		i->has_cert_not_after = 1;
		i->cert_not_after = until;
	}
}

static Tao__KeyInfo *info_new(struct host *h, const struct key_facts *f)
{
	Tao__KeyInfo *i = malloc(sizeof *i);

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
	i->has_epoch = i->has_retired = 1;
	i->epoch = f->epoch;
	i->retired = tao_sealer_check_epoch(&h->sealer, f->epoch) != TAO_OK;
	i->has_program_hash = f->exe != NULL && copy_bytes(&i->program_hash, f->exe, TAO_HASH_LEN);
	i->stub_path = keystore_stub_path(h, f->uid, f->name);
	i->cert_path = keystore_cert_path(h, f->uid, f->name);
	fill_generation(h, f, i);
	fill_certificate(h, f, i);
	if (copy_bytes(&i->spki_hash, f->spki_hash, sizeof f->spki_hash) && i->name != NULL &&
	    i->type != NULL && i->purpose != NULL && i->custody != NULL && i->policy != NULL)
		return i;
	info_free(i);
	return NULL;
}

static int has_imported(struct host *h, uid_t uid, const char *name)
{
	char *path = keystore_cert_path(h, uid, name);
	int has = path != NULL && imported_is(path);

	free(path);
	return has;
}

static enum tao_err list_one(struct host *h, uid_t uid, const char *name, void *arg)
{
	struct listing *l = arg;
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct key_facts f;
	enum tao_err e;

	if (l->cert_imported && !has_imported(h, uid, name))
		return TAO_OK;
	e = keystore_get(h, uid, name, &stub);
	if (e == TAO_OK)
		e = custody_open(h, stub.p, stub.n, &k);
	tao_buf_free(&stub);
	if (e != TAO_OK) { /* one damaged stub does not hide the others */
		host_log_of(h, uid, "warning", "key %s of user %u cannot be opened: %s", name,
		            (unsigned)uid, tao_why());
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

static enum tao_err list_keys(struct request *r, int all_users, uid_t uid, struct instance *only,
                              int cert_imported)
{
	Tao__KeyListResponse rp = TAO__KEY_LIST_RESPONSE__INIT;
	struct listing *l = calloc(1, sizeof *l);
	enum tao_err e;

	if (l == NULL)
		return tao_fail_nomem();
	l->only_for = only;
	l->cert_imported = cert_imported;
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
	return list_keys(r, 0, r->inst->uid, r->inst, 0);
}

enum tao_err op_keys(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyListRequest *rq = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_list_request, &rq);

	if (e == TAO_OK)
		e = list_keys(r, op_is_owner(r), r->c->uid, NULL, rq->cert_imported);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- one key ---- */

/* A stub that does not open is printed nevertheless: the sentence why is the notice. */
static Tao__KeyInfo *info_of_stub(struct request *r, const struct tao_buf *stub)
{
	struct held_key *k = NULL;
	Tao__KeyInfo *i = NULL;
	struct key_facts f;

	if (custody_open(r->h, stub->p, stub->n, &k) == TAO_OK) {
		held_key_facts(k, &f);
		i = info_new(r->h, &f);
		if (i != NULL)
			i->has_spki = copy_bytes(&i->spki, f.spki, f.spki_n);
	}
	held_key_release(k);
	return i;
}

static void put_one(struct request *r, const struct tao_buf *stub, char *path)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;

	rp.has_stub = 1;
	rp.stub.data = stub->p;
	rp.stub.len = stub->n;
	rp.stub_path = path;
	rp.info = info_of_stub(r, stub);
	if (rp.info == NULL)
		rp.notice = (char *)tao_why();
	tao_pb_pack(&rp.base, r->body);
	if (rp.info != NULL)
		info_free(rp.info);
}

enum tao_err op_key(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	struct tao_buf stub = TAO_BUF_INIT;
	uid_t uid = r->c->uid;
	char *path;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && rq->name == NULL)
		e = tao_fail(TAO_EINVAL, "Host.Key needs a key's name");
	if (e == TAO_OK && rq->has_uid)
		uid = rq->uid;
	if (e == TAO_OK && uid != r->c->uid && !op_is_owner(r))
		e = tao_fail(TAO_EPERM, "only the host's owner looks at keys of another user");
	if (e == TAO_OK)
		e = (rq->old ? keystore_get_old : keystore_get)(r->h, uid, rq->name, &stub);
	if (e == TAO_OK) {
		path = (rq->old ? keystore_old_path : keystore_stub_path)(r->h, uid, rq->name);
		put_one(r, &stub, path);
		free(path);
	}
	tao_buf_free(&stub);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
