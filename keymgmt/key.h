/*
 * Opaque keys: the key object that all of tao.so shares.
 *
 * A struct opaque is a public key in the provider's inner context and, for a
 * private key, the stub (tao/stub.h) that stands for the half in the host. It
 * never holds a private half. It is counted by reference and does not change
 * once OpenSSL has it, so threads share it freely.
 *
 * Making one from a stub asks nobody: the host may be down. The host is asked
 * when a signature is made, with the stub's SHA-256 as key id, and gets the
 * stub itself (Tao.OpenKey) when it answers that it does not know the id. A
 * stub without sealed part is looked up by name (Tao.GetKey); a host that then
 * gives another key than the stub's public one is refused.
 *
 * What differs between key types is in struct keytype, one for each file of
 * this folder; the functions below serve all of them. Those named opaque_*_fn
 * are entries of dispatch tables, and raise errors; the others follow
 * tao/err.h. References in OSSL_OBJECT_PARAM_REFERENCE are a struct opaque *,
 * whose one count goes to whoever loads it and sets it to NULL.
 */
#ifndef KEYMGMT_KEY_H
#define KEYMGMT_KEY_H

#include <stdatomic.h>

#include <openssl/evp.h>

#include "provider/provider.h"
#include "provider/reply.h"
#include "tao/stub.h"

#define OPAQUE_GROUP_MAX 64 /* bytes of a group's name */
#define OPAQUE_PARAM_NAME "tao-name" /* key parameter, UTF-8: the name in its stub */

struct keytype {
	const char *name;      /* OpenSSL's, as in OSSL_OBJECT_PARAM_DATA_TYPE */
	const char *const *groups; /* of stubs, NULL-ended; NULL: there are none */
	const OSSL_PARAM *gettable; /* public parameters; no others are answered */
};

extern const struct keytype keytype_ec;

struct opaque_id {
	uint8_t id[REPLY_ID_LEN];
	struct opaque_id *older;
};

struct opaque {
	atomic_int refs;
	struct prov *prov;
	const struct keytype *type;
	EVP_PKEY *pub;        /* NULL: nothing imported yet */
	int has_pub;          /* pub is more than parameters */
	struct tao_buf der;   /* the stub; empty: a public key */
	struct tao_stub stub; /* into der */
	char name[TAO_KEY_NAME_MAX + 1];
	_Atomic(struct opaque_id *) id; /* newest first; NULL: the host was not asked yet */
};

/* An empty one, for importing into; NULL when out of memory. */
struct opaque *opaque_new(struct prov *p, const struct keytype *type);
void opaque_free(struct opaque *k); /* drops one count; NULL is fine */
struct opaque *opaque_up_ref(struct opaque *k);
int opaque_is_private(const struct opaque *k);

/* From a stub's DER. TAO_EFORMAT, TAO_EVERSION (also: a key type not known
 * here), TAO_ELIMIT, TAO_ECRYPTO, TAO_ENOMEM. */
enum tao_err opaque_from_stub(struct prov *p, const void *der, size_t n, struct opaque **out);
/* From the host, by name; the errors of prov_call() and reply_key() too. */
enum tao_err opaque_from_host(struct prov *p, const char *name, struct opaque **out);
/* The parts of k that selection names, without private half. */
enum tao_err opaque_public(struct opaque *k, int selection, struct opaque **out);

/* One signature over data, which digest ("SHA256") made. *sig_n: room on
 * entry, length on return. Sentences begin with the key's name. */
enum tao_err opaque_sign(struct opaque *k, const char *digest, const uint8_t *data, size_t n,
                         uint8_t *sig, size_t *sig_n);

/* Parts of key management that are the same for every type. */
OSSL_FUNC_keymgmt_load_fn opaque_load_fn;
OSSL_FUNC_keymgmt_free_fn opaque_free_fn;
OSSL_FUNC_keymgmt_has_fn opaque_has_fn;
OSSL_FUNC_keymgmt_match_fn opaque_match_fn;
OSSL_FUNC_keymgmt_validate_fn opaque_validate_fn;
OSSL_FUNC_keymgmt_import_fn opaque_import_fn;
OSSL_FUNC_keymgmt_export_fn opaque_export_fn;
OSSL_FUNC_keymgmt_get_params_fn opaque_get_params_fn;
OSSL_FUNC_keymgmt_dup_fn opaque_dup_fn;

#endif
