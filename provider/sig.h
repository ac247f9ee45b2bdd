/*
 * What the signature algorithms of tao.so share: the context with key, digest
 * and hash, and the functions of a dispatch table that only need these.
 *
 * An algorithm's own context begins with a struct sig and is allocated by
 * sig_newctx(). Verifying and hashing happen in the inner library context;
 * signing is one request to the host (keymgmt/key.h, opaque_sign()).
 */
#ifndef PROVIDER_SIG_H
#define PROVIDER_SIG_H

#include "keymgmt/key.h"
#include "provider.h"

#define SIG_DIGEST_NAME_MAX 50 /* bytes of a digest's name, as in libcrypto */
/* A message of at most that many bytes goes to the host as a whole, which hashes it: keys for
 * TLS 1.3 alone insist on that, and a CertificateVerify is 130 bytes. */
#define SIG_MESSAGE_MAX 512

struct sig {
	struct prov *prov;
	struct opaque *key;
	EVP_MD *md;       /* NULL: none chosen */
	EVP_MD_CTX *hash; /* NULL: not a digest operation */
	int begun;        /* the digest can no longer change */
};

/* n bytes, zeroed, at least a struct sig. */
void *sig_newctx(void *provctx, size_t n);
/* Frees what is in the struct sig, and the context. */
void sig_freectx(void *vctx);
/* n bytes copied, with references of its own; NULL when out of memory. */
void *sig_dupctx(const void *vctx, size_t n);

/* The functions below are 1 or 0, with an error on the queue. */
int sig_take_key(struct sig *c, void *keydata, int to_sign);
int sig_choose_digest(struct sig *c, const char *name);
/* The host's word for this digest; NULL: it does not sign what that made. */
const char *sig_digest_word(const EVP_MD *md);
int sig_digest_refused(const struct sig *c);
/* Begins to hash with the digest chosen. */
int sig_hash_begin(struct sig *c);
size_t sig_max(const struct sig *c);
/* One signature by the host, over *how's digest or message. */
int sig_by_host(struct sig *c, const struct opaque_how *how, const uint8_t *data, size_t n,
                uint8_t *sig, size_t *sig_n, size_t room);

/* The signature that is to be verified, given before the message (sig_message.c). An empty one is
 * zeroed. The first two are 1 or 0; a parameter that is not there is fine. */
struct sig_given {
	uint8_t *p;
	size_t n;
};
int sig_given_take(struct sig_given *g, const OSSL_PARAM params[]);
int sig_given_dup(struct sig_given *to, const struct sig_given *from); /* over what is in to */
void sig_given_free(struct sig_given *g);

/* For dispatch tables. */
OSSL_FUNC_signature_digest_sign_update_fn sig_update_fn;
OSSL_FUNC_signature_get_ctx_md_params_fn sig_get_ctx_md_params_fn;
OSSL_FUNC_signature_gettable_ctx_md_params_fn sig_gettable_ctx_md_params_fn;
OSSL_FUNC_signature_set_ctx_md_params_fn sig_set_ctx_md_params_fn;
OSSL_FUNC_signature_settable_ctx_md_params_fn sig_settable_ctx_md_params_fn;

#endif
