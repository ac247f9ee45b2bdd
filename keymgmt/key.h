/*
 * Opaque keys: the key object that all of tao.so shares.
 *
 * A struct opaque is a public key in the provider's inner context and, for a
 * private key, the stub (tao/stub.h) that stands for the half in the host. It
 * holds a private half only if the key was made for that (custody "program"). It is counted by
 * reference and does not change once OpenSSL has it, so threads share it freely.
 *
 * Making one from a stub needs nobody: the host may be down. (A process without a door then asks
 * for one, tao/client.h.) The host is asked
 * when the key is used, with the stub's SHA-256 as key id, and gets the
 * stub itself (Tao.OpenKey) when it answers that it does not know the id. A
 * stub without sealed part is looked up by name (Tao.GetKey); a host that then
 * gives another key than the stub's public one is refused. A key of custody
 * "program" comes with the answer, and is used in this process from then on.
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
	const char *public_param, *private_param; /* what an import has of each half */
	enum reply_form signature_form;
};

extern const struct keytype keytype_ec;        /* ec.c */
extern const struct keytype keytype_rsa;       /* rsa.c */
extern const struct keytype keytype_rsa_pss;
extern const struct keytype keytype_ed25519;   /* ecx.c */
extern const struct keytype keytype_x25519;
extern const struct keytype keytype_mldsa44;   /* mldsa.c */
extern const struct keytype keytype_mldsa65;
extern const struct keytype keytype_mldsa87;

struct opaque_id {
	uint8_t id[REPLY_ID_LEN];
	struct opaque_id *older;
};

struct opaque {
	atomic_int refs;
	struct prov *prov;
	const struct keytype *type;
	EVP_PKEY *pub;        /* NULL: nothing imported yet */
	_Atomic(EVP_PKEY *) priv; /* custody "program", once it was used; never exported */
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

/* ---- asking the host (host.c) ----
 *
 * Sentences begin with the key's name. The errors of prov_call() and reply.h, and
 * whatever the host answers. */

/* How a signature is made. */
struct opaque_how {
	/* that made the data, or is to hash the message; NULL: none (Ed25519, ML-DSA) */
	const char *digest;
	int message;         /* the data is the whole message */
	int mu;              /* ML-DSA: the data is its mu (tao.proto) */
	const char *padding; /* RSA: "pkcs1", "pss"; NULL for others */
	int salt_len;        /* "pss": bytes, -1 the digest's length, -3 the most */
	const char *mgf1;    /* "pss": NULL: as digest */
};
/* One signature. *sig_n: room on entry, length on return. */
enum tao_err opaque_sign(struct opaque *k, const struct opaque_how *how, const uint8_t *data,
                         size_t n, uint8_t *sig, size_t *sig_n);

/* How RSA is decrypted. */
struct opaque_unpad {
	const char *padding;       /* "oaep", "pkcs1" */
	const char *digest, *mgf1; /* "oaep" */
	const void *label;
	size_t label_n;
	unsigned tls_version, tls_alt_version; /* "pkcs1": a TLS premaster secret; 0: it is none */
};
/* Appends at most the modulus' bytes. */
enum tao_err opaque_decrypt(struct opaque *k, const struct opaque_unpad *how, const uint8_t *data,
                            size_t n, struct tao_buf *out);

/* ECDH with a peer's encoded public key: appends opaque_secret_size() bytes. */
enum tao_err opaque_derive(struct opaque *k, const uint8_t *peer, size_t n, struct tao_buf *secret);
size_t opaque_secret_size(const struct opaque *k);

/* Of custody "program": from here on the key is in this process, which asks no more. */
enum tao_err opaque_take_private(struct opaque *k, const Tao__KeyResponse *m);
/* Has the host open the key, which recomputes the public half. */
enum tao_err opaque_open(struct opaque *k);
/* Threads may publish at once; what one of them reads stays valid. */
enum tao_err opaque_publish_id(struct opaque *k, const uint8_t id[REPLY_ID_LEN]);
enum tao_err opaque_ask_by_name(struct prov *p, const char *name, struct reply *r, int need);

/* ---- making one in the host (gen.c) ---- */

/* The functions of key generation, for every type; GEN_INIT is each type's own. */
void *opaque_gen_init(void *provctx, const struct keytype *type, int selection,
                      const OSSL_PARAM params[]);
OSSL_FUNC_keymgmt_gen_set_template_fn opaque_gen_set_template_fn;
OSSL_FUNC_keymgmt_gen_set_params_fn opaque_gen_set_params_fn;
OSSL_FUNC_keymgmt_gen_settable_params_fn opaque_gen_settable_params_fn;
OSSL_FUNC_keymgmt_gen_fn opaque_gen_fn;
OSSL_FUNC_keymgmt_gen_cleanup_fn opaque_gen_cleanup_fn;

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
OSSL_FUNC_keymgmt_set_params_fn opaque_set_params_fn; /* never what the key is */

/* What all dispatch tables have in common. */
#define OPAQUE_DISPATCH \
	{ OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))opaque_free_fn }, \
	{ OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))opaque_load_fn }, \
	{ OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))opaque_has_fn }, \
	{ OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))opaque_match_fn }, \
	{ OSSL_FUNC_KEYMGMT_VALIDATE, (void (*)(void))opaque_validate_fn }, \
	{ OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))opaque_get_params_fn }, \
	{ OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))opaque_import_fn }, \
	{ OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))opaque_export_fn }, \
	{ OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))opaque_dup_fn }, \
	{ OSSL_FUNC_KEYMGMT_GEN_SET_TEMPLATE, (void (*)(void))opaque_gen_set_template_fn }, \
	{ OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, (void (*)(void))opaque_gen_set_params_fn }, \
	{ OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, (void (*)(void))opaque_gen_settable_params_fn }, \
	{ OSSL_FUNC_KEYMGMT_GEN, (void (*)(void))opaque_gen_fn }, \
	{ OSSL_FUNC_KEYMGMT_GEN_CLEANUP, (void (*)(void))opaque_gen_cleanup_fn }

#endif
