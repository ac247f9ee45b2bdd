/*
 * The host's answers, checked: every byte that the provider takes from the
 * host goes through here. The host is trusted with keys, not with memory:
 * lengths, counts and shapes are checked, and nothing is believed to be text.
 *
 * Ownership: struct reply owns what its message points to. It must not move
 * while it holds one, and is freed with reply_free() (also when empty).
 *
 * Errors: TAO_EPROTO (whatever does not fit), TAO_ENOMEM.
 */
#ifndef PROVIDER_REPLY_H
#define PROVIDER_REPLY_H

#include "tao/buf.h"
#include "tao/pb.h"
#include "tao.pb-c.h"

#define REPLY_ID_LEN 32            /* bytes of a key id */
#define REPLY_SIG_MAX 4627         /* bytes of a signature: ML-DSA-87 */
#define REPLY_CHAIN_MAX 16         /* certificates in a chain */
#define REPLY_CERT_MAX (64u << 10) /* bytes of one certificate */
#define REPLY_NONCE_LEN 16         /* bytes of a nonce, and of a program's id, in a group */
#define REPLY_NONCES_MAX 64        /* nonces of one answer */
#define REPLY_SALT_LEN 32          /* bytes of a group's salt */
#define REPLY_PEER_MAX (16u << 10) /* bytes of a peer's principal */
#define REPLY_MEMORY (16u << 20)   /* bytes that an unpacked answer may take: some 40000 keys */

struct reply {
	struct tao_pb_alloc alloc;
	ProtobufCMessage *m; /* NULL: none */
	const Tao__KeyResponse *key;      /* after reply_key() */
	const Tao__KeyListResponse *list; /* after reply_list() */
};

/* What a signature looks like. */
enum reply_form {
	REPLY_NONE,  /* such keys do not sign */
	REPLY_ECDSA, /* a DER SEQUENCE of two INTEGERs that fits */
	REPLY_WHOLE, /* exactly as long as the room: RSA, Ed25519, ML-DSA */
};

/* SignResponse; *sig_n is room on entry. */
enum tao_err reply_signature(const struct tao_buf *body, enum reply_form form, uint8_t *sig,
                             size_t *sig_n);
/* DecryptResponse: at most max bytes, appended. */
enum tao_err reply_decrypted(const struct tao_buf *body, size_t max, struct tao_buf *out);
/* DeriveResponse: exactly n bytes, appended. */
enum tao_err reply_secret(const struct tao_buf *body, size_t n, struct tao_buf *out);
/* RPCResponse: exactly n bytes of data. */
enum tao_err reply_bytes(const struct tao_buf *body, size_t n, uint8_t *out);

/* KeyResponse. need says which fields must be there; those that are, are
 * checked in any case: the stub by its size, the id by its length, each
 * certificate as one DER SEQUENCE. */
#define REPLY_STUB 1
#define REPLY_ID 2
#define REPLY_CHAIN 4
enum tao_err reply_key(struct reply *r, const struct tao_buf *body, int need);

/* KeyListResponse: every name is a legal key name. */
enum tao_err reply_list(struct reply *r, const struct tao_buf *body);

void reply_free(struct reply *r);

/* GroupNoncesResponse: 1 to REPLY_NONCES_MAX of them. */
struct reply_nonces {
	uint32_t epoch, seconds;
	size_t n;
	uint8_t id[REPLY_NONCE_LEN];
	uint8_t nonce[REPLY_NONCES_MAX][REPLY_NONCE_LEN];
};
enum tao_err reply_nonces(const struct tao_buf *body, struct reply_nonces *out);

/* GroupResponse: salt and principal (appended), and, if share_n is not 0, a share of exactly that
 * many bytes. salt is the caller's to wipe. */
enum tao_err reply_group(const struct tao_buf *body, uint8_t *share, size_t share_n,
                         uint8_t salt[REPLY_SALT_LEN], struct tao_buf *peer);

#endif
