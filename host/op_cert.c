#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "imported.h"
#include "tao.pb-c.h"
#include "../domain/fact.h"
#include "../tao/file.h"
#include "../tao/stub.h"

#define MAX_DNS DOMAIN_MAX_DNS

static enum tao_err unpack(struct request *r, struct tao_pb_alloc *pa, Tao__CertRequest **rq,
                           uid_t *uid)
{
	enum tao_err e = OP_UNPACK(r, pa, tao__cert_request, rq);

	return e == TAO_OK ? op_whose(r, (*rq)->has_uid, (*rq)->uid, uid) : e;
}

/* ---- looking at one ---- */

static enum tao_err domain_chain(struct request *r, uid_t uid, const char *name,
                                 struct tao_buf chain[2])
{
	enum tao_err e = cert_on_file(r->h, uid, name, &chain[0], NULL);

	return e == TAO_OK ? domain_policy_cert(r->h->domain, &chain[1]) : e;
}

static void put_chain(struct request *r, uid_t uid, const char *name, const struct tao_buf *chain,
                      size_t n, int imported)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	ProtobufCBinaryData list[CERTCHAIN_MAX];

	for (size_t i = 0; i < n; i++) {
		list[i].data = chain[i].p;
		list[i].len = chain[i].n;
	}
	rp.n_chain = n;
	rp.chain = list;
	rp.has_cert_imported = 1;
	rp.cert_imported = imported;
	rp.cert_path = keystore_cert_path(r->h, uid, name);
	tao_pb_pack(&rp.base, r->body);
	free(rp.cert_path);
}

/* That of the key as it is now, or why there is none. */
static enum tao_err show(struct request *r, uid_t uid, const char *name)
{
	struct tao_buf stub = TAO_BUF_INIT, chain[CERTCHAIN_MAX];
	struct held_key *k = NULL;
	struct key_facts f;
	size_t n = 0;
	int imported;
	enum tao_err e = op_open_named(r, name, uid, &stub, &k);

	for (size_t i = 0; i < CERTCHAIN_MAX; i++)
		chain[i] = (struct tao_buf)TAO_BUF_INIT;
	if (e == TAO_OK) {
		held_key_facts(k, &f);
		e = imported_chain(r->h, &f, chain, &n);
	}
	imported = n > 0;
	if (e == TAO_OK && !imported) {
		n = 2;
		e = domain_chain(r, uid, name, chain);
	}
	if (e == TAO_OK)
		put_chain(r, uid, name, chain, n, imported);
	held_key_release(k);
	tao_buf_free(&stub);
	for (size_t i = 0; i < CERTCHAIN_MAX; i++)
		tao_buf_free(&chain[i]);
	return e;
}

enum tao_err op_cert(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__KeyRequest *rq = NULL;
	uid_t uid;
	enum tao_err e = OP_UNPACK(r, &pa, tao__key_request, &rq);

	if (e == TAO_OK && rq->name == NULL)
		e = tao_fail(TAO_EINVAL, "Host.Cert needs a key's name");
	if (e == TAO_OK)
		e = op_whose(r, rq->has_uid, rq->uid, &uid);
	if (e == TAO_OK)
		e = show(r, uid, rq->name);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- bringing one ---- */

/* The domain's own comes by itself, and names one start of a program. */
static enum tao_err refuse_domains(struct request *r, STACK_OF(X509) *chain)
{
	struct tao_buf der = TAO_BUF_INIT;
	enum tao_err e = domain_policy_cert(r->h->domain, &der);
	const unsigned char *p = der.p;
	X509 *policy = e == TAO_OK ? d2i_X509(NULL, &p, (long)der.n) : NULL;

	if (policy != NULL && X509_check_issued(policy, sk_X509_value(chain, 0)) == X509_V_OK)
		e = tao_fail(TAO_EINVAL, "this is a certificate of the domain, which the host gets "
		             "by itself: import those of other authorities");
	X509_free(policy);
	ERR_clear_error();
	tao_buf_free(&der);
	return e;
}

static void tell(struct request *r, uid_t uid, const char *name, STACK_OF(X509) *chain)
{
	char *issuer = certchain_name(X509_get_issuer_name(sk_X509_value(chain, 0)));

	audit_note(r, "issuer", issuer);
	audit_note_int(r, "until", certchain_time(X509_get0_notAfter(sk_X509_value(chain, 0))));
	host_log_of(r->h, r->c->uid, "info", "user %u imported a certificate for key %s of user "
	            "%u, issued by %.200s", (unsigned)r->c->uid, name, (unsigned)uid,
	            issuer != NULL ? issuer : "?");
	free(issuer);
}

/* Lock held: the key is not rotated meanwhile. */
static enum tao_err import(struct request *r, uid_t uid, const Tao__CertRequest *rq)
{
	struct tao_buf stub = TAO_BUF_INIT;
	STACK_OF(X509) *chain = NULL;
	struct held_key *k = NULL;
	struct key_facts f;
	enum tao_err e = op_open_named(r, rq->name, uid, &stub, &k);

	if (e == TAO_OK) {
		held_key_facts(k, &f);
		e = certchain_check(rq->chain, rq->n_chain, f.name, f.spki_hash, time(NULL),
		                    &chain);
	}
	if (e == TAO_OK)
		e = refuse_domains(r, chain);
	if (e == TAO_OK)
		e = imported_write(r->h, uid, f.name, chain);
	if (e == TAO_OK)
		tell(r, uid, f.name, chain);
	sk_X509_pop_free(chain, X509_free);
	held_key_release(k);
	tao_buf_free(&stub);
	return e;
}

enum tao_err op_import_cert(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__CertRequest *rq = NULL;
	uid_t uid;
	enum tao_err e = unpack(r, &pa, &rq, &uid);

	if (e == TAO_OK) {
		custody_lock_files(r->h->custody);
		e = import(r, uid, rq);
		custody_unlock_files(r->h->custody);
	}
	if (e == TAO_OK)
		e = show(r, uid, rq->name);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- taking it away ---- */

static enum tao_err remove_imported(struct request *r, uid_t uid, const char *name)
{
	char *path = keystore_cert_path(r->h, uid, name);
	enum tao_err e = path != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK && !imported_is(path))
		e = tao_fail(TAO_ENOTFOUND, "no certificate was imported for key %s", name);
	if (e == TAO_OK)
		e = tao_file_remove(path);
	free(path);
	return e;
}

enum tao_err op_remove_cert(struct request *r)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	struct tao_pb_alloc pa;
	Tao__CertRequest *rq = NULL;
	uid_t uid;
	enum tao_err e = unpack(r, &pa, &rq, &uid);

	if (e == TAO_OK)
		e = tao_key_name_check(rq->name, strlen(rq->name));
	if (e == TAO_OK) {
		audit_note(r, "key", rq->name);
		audit_note_int(r, "for_uid", uid);
		custody_lock_files(r->h->custody);
		e = remove_imported(r, uid, rq->name);
		custody_unlock_files(r->h->custody);
	}
	if (e == TAO_OK) {
		host_log_of(r->h, r->c->uid, "info", "user %u took away the imported certificate "
		            "of key %s of user %u", (unsigned)r->c->uid, rq->name, (unsigned)uid);
		tao_pb_pack(&rp.base, r->body);
	}
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- asking for one ---- */

static enum tao_err check_dns(const Tao__CertRequest *rq)
{
	if (rq->n_dns > MAX_DNS)
		return tao_fail(TAO_ELIMIT, "a request has at most %d DNS names", MAX_DNS);
	for (size_t i = 0; i < rq->n_dns; i++)
		if (!fact_dns_name(rq->dns[i], strlen(rq->dns[i])))
			return tao_fail(TAO_EINVAL, "%.100s is not a DNS name", rq->dns[i]);
	return TAO_OK;
}

static enum tao_err read_subject(const Tao__CertRequest *rq, X509_NAME **name)
{
	const unsigned char *p = rq->subject.data;

	if (!rq->has_subject)
		return TAO_OK;
	*name = d2i_X509_NAME(NULL, &p, (long)rq->subject.len);
	ERR_clear_error();
	return *name != NULL && p == rq->subject.data + rq->subject.len
	       ? TAO_OK : tao_fail(TAO_EFORMAT, "the subject of the request is malformed");
}

enum tao_err op_request_cert(struct request *r)
{
	Tao__KeyResponse rp = TAO__KEY_RESPONSE__INIT;
	struct tao_buf stub = TAO_BUF_INIT, out = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	Tao__CertRequest *rq = NULL;
	X509_NAME *subject = NULL;
	struct held_key *k = NULL;
	uid_t uid;
	enum tao_err e = unpack(r, &pa, &rq, &uid);

	if (e == TAO_OK)
		e = check_dns(rq);
	if (e == TAO_OK)
		e = read_subject(rq, &subject);
	if (e == TAO_OK)
		e = op_open_named(r, rq->name, uid, &stub, &k);
	if (e == TAO_OK)
		e = custody_request(r->h, k, subject, rq->dns, rq->n_dns, &out);
	if (e == TAO_OK) {
		rp.has_request = 1;
		rp.request.data = out.p;
		rp.request.len = out.n;
		tao_pb_pack(&rp.base, r->body);
	}
	X509_NAME_free(subject);
	held_key_release(k);
	tao_buf_free(&stub);
	tao_buf_free(&out);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
