/*
 * tao.so: the OpenSSL 3 provider, inside.
 *
 * One struct prov per loaded provider; everything else hangs on it, nothing is
 * global. It is made in OSSL_provider_init(), which reads configuration and
 * environment, and does nothing else that could fail or take time: no
 * connection, no thread, no handler. A wrong setting does not fail it either
 * (OpenSSL would hide that); it is told when the first request is made.
 *
 * Settings, in the provider's section of openssl.cnf:
 *   socket    path of the host's socket; default: the environment's TAO_SOCKET at
 *             the time of loading, else that of the installed host
 *   timeout   milliseconds for one request to the host; default 10000
 *   undumpable  yes: a process that `tao run` started (it has a door) becomes
 *             undumpable (PR_SET_DUMPABLE) when the provider is loaded, and again
 *             before the first request of each of its children, which may have undone
 *             it; no, the default: nobody touches it
 *
 * Cryptography that is not the host's (hashing, verifying, encoding public
 * keys) is done in an inner library context that has the default provider and
 * nothing of the application's configuration. It is made when OpenSSL first asks for algorithms
 * that this provider has, and the texts of errors are given to OpenSSL with the first error, so
 * that applications that have none do not pay for them. Nobody loads the default provider into the
 * inner context: libcrypto activates it when one without any is first asked for an algorithm. Inner
 * failures leave nothing on the error queue: wrap them in ERR_set_mark() and ERR_pop_to_mark().
 *
 * Errors go to the application's queue with prov_raise(): the reason is the
 * fixed sentence of the code, since some applications print only that, and
 * the data is tao_why() or the caller's text. Functions that follow the idiom
 * of tao/err.h do not raise; the dispatched function that called them does.
 */
#ifndef PROVIDER_PROVIDER_H
#define PROVIDER_PROVIDER_H

#include <stdatomic.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/err.h>
#include <openssl/types.h>

#include "channel.h"
#include "mix.h"
#include "tao/buf.h"
#include "tao/client.h"
#include "tao.pb-c.h"

#define PROV_PROPERTIES "provider=tao"
#define PROV_STRUCTURE "TaoPrivateKey" /* what decoders and encoders call a stub */
#define PROV_TIMEOUT_MIN 1       /* milliseconds */
#define PROV_TIMEOUT_MAX 3600000

/*
 * Parameters of a Tao group's temporary key (provider/group.h), which tell who the peer is: for a
 * server the key of SSL_get_peer_tmp_key(), for a client that of SSL_get_tmp_key(). Not there
 * before the secret was made.
 */
#define GROUP_PARAM_NAME "tao-name"           /* UTF-8: the principal as text */
#define GROUP_PARAM_PRINCIPAL "tao-principal" /* octets: the principal, binary */

/* Reasons of the provider's own; those of enum tao_err come before. */
enum prov_reason {
	PROV_REXPORT = 100, /* the private half was asked for */
	PROV_RNOPRIVATE,    /* signing with a public key */
	PROV_RIMPORT,       /* a private key was offered */
	PROV_RDIGEST,       /* a digest that the host does not sign */
	PROV_RCIPHER,       /* a passphrase for a stub */
	PROV_RURI,          /* not a tao: URI */
	PROV_RSETTING,      /* socket or timeout are wrong */
	PROV_RPADDING,      /* a padding, salt or digest that is not for this key */
	PROV_RUNPAD,        /* a padding that the host does not decrypt */
	PROV_RSEED,         /* TAO-RAND as a generator */
	PROV_RSHARE,        /* a peer's key share for a group of ours */
	PROV_RPAIR,         /* two programs, or a share, that the host refuses */
	PROV_RSTRANGER,     /* a share of nobody that the host knows */
	PROV_RSTALE,        /* a share that is too old */
	PROV_RSECRET,       /* the bytes of a TAO-SECRET key were asked for or given */
	PROV_REASON_END
};
#define PROV_REASONS (TAO_ERR_COUNT - 1 + PROV_REASON_END - PROV_REXPORT) /* TAO_OK is none */

struct prov_inner {
	OSSL_LIB_CTX *libctx;
	struct mix mix;
};

struct prov {
	const OSSL_CORE_HANDLE *handle;
	_Atomic(struct prov_inner *) inner; /* NULL: OpenSSL has no algorithm of ours yet */
	struct tao_client *client;
	int newer;           /* libcrypto knows what is in newer.h */
	int undumpable;      /* the setting, for a process with a door */
	atomic_int guarded;  /* the process that it was done in last */
	_Atomic(struct prov_nonces *) nonces; /* group.c's */
	enum tao_err setup; /* what is wrong with the settings, and the sentence */
	char setup_why[TAO_WHY_MAX];
	struct channel channel; /* for tao_tls.so */
	int own_libcrypto;      /* 1: it was loaded by the one that this file is linked to */
	/* its number for the provider, once it has the texts of the reasons; or 0 */
	atomic_int library;
	/* the provider's name, they, and an end mark */
	ERR_STRING_DATA reasons[1 + PROV_REASONS + 1];
	OSSL_ITEM items[PROV_REASONS + 1];             /* for another libcrypto */
	OSSL_FUNC_core_get_params_fn *core_get_params;
	OSSL_FUNC_core_new_error_fn *core_new_error;
	OSSL_FUNC_core_set_error_debug_fn *core_set_error_debug;
	OSSL_FUNC_core_vset_error_fn *core_vset_error;
	OSSL_FUNC_provider_up_ref_fn *core_up_ref;
	OSSL_FUNC_BIO_read_ex_fn *bio_read;
	OSSL_FUNC_BIO_gets_fn *bio_gets;
	OSSL_FUNC_BIO_write_ex_fn *bio_write;
};

/* Puts an error on the application's queue. reason: enum tao_err or enum
 * prov_reason; fmt: NULL for none. Returns 0, so that callers can return it. */
int prov_raise_at(struct prov *p, const char *file, int line, const char *func, int reason,
                  const char *fmt, ...) __attribute__((format(printf, 6, 7), cold));
#define prov_raise(p, e) \
	prov_raise_at(p, __FILE__, __LINE__, __func__, prov_reason(p, e), "%s", tao_why())
#define prov_raise_reason(p, r) prov_raise_at(p, __FILE__, __LINE__, __func__, (int)(r), NULL)
#define prov_raise_text(p, r, ...) \
	prov_raise_at(p, __FILE__, __LINE__, __func__, (int)(r), __VA_ARGS__)

/* The reason for a code: the code, unless the settings are to blame, or only a newer host knows
 * it. */
int prov_reason(const struct prov *p, enum tao_err e);

/* One request to the host: req serialized as op's body (NULL: empty), the
 * answer's body appended to reply. Errors: those of the settings and of
 * tao_client_call(). */
enum tao_err prov_call(struct prov *p, const char *op, const ProtobufCMessage *req,
                       struct tao_buf *reply);
/* The same, with work for the time until then; see tao/client.h. */
enum tao_err prov_call_while(struct prov *p, const char *op, const ProtobufCMessage *req,
                             struct tao_meanwhile *w, struct tao_buf *reply);

void prov_channel_init(struct prov *p); /* channel.c */

/* Before an object is freed that may hold the last reference to the provider. After
 * OPENSSL_cleanup() (destructors, functions of atexit) libcrypto would go on to forget the
 * provider's reasons, and crash: then it is kept, until the process is gone. */
void prov_outlive_cleanup(struct prov *p);

/* A key was loaded: the process should have a door by the time it uses it, see
 * tao_client_keep_door(). */
void prov_keep_door(struct prov *p);

/* A digest as the host calls it ("SHA256" for "SHA2-256"); the given name if it is none of those
 * that have several. */
const char *prov_digest_word(struct prov *p, const char *name);

/* 1 if every parameter has the data that its size says, and numbers have some: libcrypto's
 * functions that read parameters rely on it. Else 0, with an error. NULL has none that lacks
 * any. */
int prov_params_whole(struct prov *p, const OSSL_PARAM params[]);

/* SHA-256 in the inner context. */
enum tao_err prov_sha256(struct prov *p, const void *data, size_t n, uint8_t hash[32]);

/* Writes it all to an application's BIO; 0 on failure, without an error: the BIO has told it. */
int prov_bio_write(const struct prov *p, OSSL_CORE_BIO *out, const void *data, size_t n);

/* The implementations; provider.c has the tables that name them. */
extern const OSSL_DISPATCH prov_ec_keymgmt[];       /* keymgmt/ec.c */
extern const OSSL_DISPATCH prov_rsa_keymgmt[];      /* keymgmt/rsa.c */
extern const OSSL_DISPATCH prov_rsa_pss_keymgmt[];
extern const OSSL_DISPATCH prov_ed25519_keymgmt[];  /* keymgmt/ecx.c */
extern const OSSL_DISPATCH prov_x25519_keymgmt[];
/* keymgmt/mldsa.c, and these; from OpenSSL 3.5 on */
extern const OSSL_DISPATCH prov_mldsa44_keymgmt[];
extern const OSSL_DISPATCH prov_mldsa65_keymgmt[];
extern const OSSL_DISPATCH prov_mldsa87_keymgmt[];
extern const OSSL_DISPATCH prov_tao_x25519_keymgmt[]; /* keymgmt/tao_x25519.c */
extern const OSSL_DISPATCH prov_tao_mlkem_keymgmt[];
extern const OSSL_DISPATCH prov_kem[];              /* kem.c */
extern const OSSL_DISPATCH prov_ecdsa[];            /* sig_ecdsa.c */
extern const OSSL_DISPATCH prov_rsa_sig[];          /* sig_rsa.c */
extern const OSSL_DISPATCH prov_ed25519_sig[];      /* sig_eddsa.c */
extern const OSSL_DISPATCH prov_ed25519_message_sig[]; /* this and the rest: from OpenSSL 3.5 on */
extern const OSSL_DISPATCH prov_mldsa44_sig[];      /* sig_mldsa.c */
extern const OSSL_DISPATCH prov_mldsa65_sig[];
extern const OSSL_DISPATCH prov_mldsa87_sig[];
extern const OSSL_DISPATCH prov_ecdsa_sha256_sig[]; /* sig_message.c, and these */
extern const OSSL_DISPATCH prov_ecdsa_sha384_sig[];
extern const OSSL_DISPATCH prov_ecdsa_sha512_sig[];
extern const OSSL_DISPATCH prov_rsa_sha256_sig[];
extern const OSSL_DISPATCH prov_rsa_sha384_sig[];
extern const OSSL_DISPATCH prov_rsa_sha512_sig[];
extern const OSSL_DISPATCH prov_secret_skeymgmt[];  /* keymgmt/secret.c */
extern const OSSL_DISPATCH prov_aes_cipher[];       /* cipher_aes.c */
extern const OSSL_DISPATCH prov_rsa_cipher[];       /* cipher_rsa.c */
extern const OSSL_DISPATCH prov_exchange[];         /* exchange.c */
extern const OSSL_DISPATCH prov_store[];            /* store/store.c */
extern const OSSL_DISPATCH prov_pem_decoder[];      /* store/decode_pem.c */
extern const OSSL_DISPATCH prov_ec_der_decoder[];   /* store/decode_der.c, and these */
extern const OSSL_DISPATCH prov_rsa_der_decoder[];
extern const OSSL_DISPATCH prov_rsa_pss_der_decoder[];
extern const OSSL_DISPATCH prov_ed25519_der_decoder[];
extern const OSSL_DISPATCH prov_x25519_der_decoder[];
extern const OSSL_DISPATCH prov_mldsa44_der_decoder[]; /* from OpenSSL 3.5 on */
extern const OSSL_DISPATCH prov_mldsa65_der_decoder[];
extern const OSSL_DISPATCH prov_mldsa87_der_decoder[];
extern const OSSL_DISPATCH prov_stub_pem_encoder[]; /* store/encode.c, and these */
extern const OSSL_DISPATCH prov_stub_der_encoder[];
extern const OSSL_DISPATCH prov_spki_pem_encoder[];
extern const OSSL_DISPATCH prov_spki_der_encoder[];
extern const OSSL_DISPATCH prov_text_encoder[];

#endif
