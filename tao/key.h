/*
 * Keys of Taos and of policy domains: signing with contexts, derivation, and
 * the files that hold them under a passphrase. Symmetric keys by themselves are
 * crypter.h's.
 *
 * Formats are CloudProxy's (go/tao/keys.go): CryptoKey, CryptoKeyset,
 * SignedData over ContextualizedData, PBEData. Files we write use scrypt
 * (RFC 7914) where CloudProxy used PBKDF2 with 4096 iterations; those are
 * still read.
 *
 * The type of each key is its own; nothing is chosen for the process. Signing
 * keys, and the parts of their CryptoKey:
 *
 *   type                            private                public ("...-public")
 *   ecdsap256 ecdsap384 ecdsap521   SEC1 ECPrivateKey DER  SubjectPublicKeyInfo DER
 *   rsa2048 rsa3072 rsa4096         n, e, d, p, q          n, e
 *   ed25519                         seed, 32 bytes         SubjectPublicKeyInfo DER
 *
 * (integers big-endian, of minimal length; rsa4096 and ed25519 are ours.
 * CloudProxy's rsa1024 is refused as too weak.) Every type signs the same 32
 * bytes, SHA-256 of the serialized ContextualizedData, as CloudProxy does for
 * every curve: ECDSA in DER, RSA as PKCS#1 v1.5 with the SHA-256 DigestInfo,
 * Ed25519 (pure, RFC 8032) over those 32 bytes as its message, so that a signer
 * that only ever gets a digest can have any type. Names of keys are SHA-256,
 * too: a longer hash here would strengthen nothing.
 *
 * The format leaves the SignedData's header outside the signature; it must be
 * of one mind with the key (type, purpose, version, status), and its name and
 * epoch decide nothing.
 *
 * Ownership: EVP_PKEY results are the caller's (EVP_PKEY_free). Errors:
 * TAO_EINVAL (no such type), TAO_EFORMAT, TAO_EVERSION, TAO_EPASS,
 * TAO_ESIGNATURE, TAO_ECRYPTO, TAO_ENOMEM, and those of file.h.
 */
#ifndef TAO_KEY_H
#define TAO_KEY_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#include "buf.h"
#include "crypter.h"
#include "err.h"

#define TAO_HASH_LEN 32         /* SHA-256 */
#define TAO_DERIVER_LEN 32      /* hdkf-sha256 */
#define TAO_KEYFILE_MAX 65536   /* bytes of a key file */
#define TAO_SPKI_MAX 4096       /* bytes of a DER SubjectPublicKeyInfo that is read; ML-DSA-87
                                 * has 2614 */

/* type as above: "ecdsap256". */
enum tao_err tao_key_generate(const char *type, EVP_PKEY **out);

enum tao_err tao_key_spki(EVP_PKEY *key, struct tao_buf *der);
/* Strict: one SubjectPublicKeyInfo, nothing behind it. */
enum tao_err tao_key_from_spki(const void *der, size_t n, EVP_PKEY **out);
/* Also RSA-PSS and X25519: no keys of Taos, but a host seals them for programs. */
enum tao_err tao_key_from_spki_any(const void *der, size_t n, EVP_PKEY **out);
/* SHA-256 of the SubjectPublicKeyInfo: what key([...]) names. */
enum tao_err tao_key_hash(EVP_PKEY *key, uint8_t hash[TAO_HASH_LEN]);

enum tao_err tao_sha256(const void *p, size_t n, uint8_t hash[TAO_HASH_LEN]);

/* SignedData over SHA-256(ContextualizedData{context, data}), serialized. */
enum tao_err tao_key_sign(EVP_PKEY *key, const char *context, const void *data, size_t n,
                          struct tao_buf *signed_data);
/* TAO_ESIGNATURE if it does not verify, TAO_EFORMAT if it is not one. */
enum tao_err tao_key_verify(EVP_PKEY *key, const char *context, const void *data, size_t n,
                            const void *signed_data, size_t sig_n);

/* One CryptoKey, signing or verifying ("ecdsap256", "ecdsap256-public",
 * "rsa2048", ...), as CloudProxy serializes it. */
enum tao_err tao_cryptokey_encode(EVP_PKEY *key, const char *name, int with_private,
                                  struct tao_buf *out);
enum tao_err tao_cryptokey_decode(const void *p, size_t n, EVP_PKEY **out);

/* A CryptoKey of whatever purpose. Zeroed it is an empty one; _clear() frees
 * and wipes. The key is in the member for its purpose; the others are empty. */
enum tao_purpose { TAO_SIGNING, TAO_VERIFYING, TAO_CRYPTING, TAO_DERIVING };

struct tao_anykey {
	enum tao_purpose purpose;
	char *name;                 /* for people; never NULL once there is a key */
	int32_t epoch;
	EVP_PKEY *pkey;             /* signing, verifying */
	struct tao_crypter crypter;
	struct tao_deriver deriver;
};

/* A new key, private half included: the type decides the purpose. Epoch 1. */
enum tao_err tao_anykey_generate(const char *type, const char *name, struct tao_anykey *out);
enum tao_err tao_anykey_decode(const void *p, size_t n, struct tao_anykey *out);
enum tao_err tao_anykey_encode(const struct tao_anykey *k, struct tao_buf *out);
/* Its type's name, "-public" included; NULL: empty, or a kind that is not kept here. */
const char *tao_anykey_type(const struct tao_anykey *k);
void tao_anykey_clear(struct tao_anykey *k);

/* The keys of one Tao or domain: a CryptoKeyset. Zeroed it is an empty one. The
 * first signing key and the first deriving key of type hdkf-sha256 have places
 * of their own; all others, of any type and purpose, follow in their order.
 * A set has at most TAO_KEYSET_MAX keys, none twice, and reads with all that
 * was in it: unknown types and purposes are refused, as is rsa1024. */
#define TAO_KEYSET_MAX 16
#define TAO_KEYSET_CHAIN_MAX 8

struct tao_keyset {
	EVP_PKEY *signer;
	uint8_t deriver[TAO_DERIVER_LEN];
	int has_deriver;
	struct tao_anykey *more;
	size_t n_more;
	/* Empty: none. Certificates are DER, the delegation an Attestation; they
	 * are kept as they are and not looked into. */
	struct tao_buf cert, delegation, chain[TAO_KEYSET_CHAIN_MAX];
	size_t n_chain;
};

enum tao_err tao_keyset_generate(struct tao_keyset *ks); /* ecdsap256 and hdkf-sha256 */
void tao_keyset_clear(struct tao_keyset *ks);            /* frees and wipes */
/* Moves the key into the set and leaves *k empty, on failure as well.
 * TAO_EEXIST: it is there; TAO_ELIMIT: the set is full. */
enum tao_err tao_keyset_add(struct tao_keyset *ks, struct tao_anykey *k);
/* The set's first crypting key of this type, any with NULL; NULL: none. */
const struct tao_crypter *tao_keyset_crypter(const struct tao_keyset *ks, const char *type);
/* A copy of the first deriving key of this type, hdkf-sha256 with NULL.
 * TAO_ENOTFOUND: none. */
enum tao_err tao_keyset_deriver(const struct tao_keyset *ks, const char *type,
                                struct tao_deriver *out);
enum tao_err tao_keyset_encode(const struct tao_keyset *ks, struct tao_buf *out);
/* A set without a signing key is TAO_EFORMAT: whoever has one speaks with it.
 * The second takes any set, for those that look at other people's. */
enum tao_err tao_keyset_decode(const void *p, size_t n, struct tao_keyset *out);
enum tao_err tao_keyset_decode_any(const void *p, size_t n, struct tao_keyset *out);

/* HKDF-SHA-256 (RFC 5869); salt may be NULL with 0. */
enum tao_err tao_hkdf(const void *secret, size_t secret_n, const void *salt, size_t salt_n,
                      const void *info, size_t info_n, void *out, size_t out_n);

/* Password-based encryption, PBEData. Sealing uses scrypt, N=2^16, r=8, p=1,
 * AES-256-CTR and HMAC-SHA-256 over everything that matters. Opening reads
 * that and CloudProxy's. A wrong passphrase and an altered file cannot be
 * told apart: both are TAO_EPASS, and the sentence says so.
 *
 * Ours is PBEData{version 2, cipher "aes256-ctr", hmac "sha256", iterations 1,
 * iv 16 bytes, ciphertext, salt 32 bytes, kdf "scrypt", log_n, r, p}; iv and
 * salt are random. scrypt(passphrase, salt, 2^log_n, r, p) gives 64 bytes:
 * encryption key (32), MAC key (32). The ciphertext field is the AES-256-CTR
 * ciphertext with the MAC (32) behind it, which is HMAC-SHA-256 of
 *
 *   "tao pbe v1" (10) | log_n (4) | r (4) | p (4) | iv (16) | salt (32) | ciphertext
 *
 * with big-endian integers: parameters and salt are covered, the rest is fixed
 * and compared. CloudProxy's: no kdf; salt 16 bytes, PBKDF2 with its first half
 * gives the AES key, with its second the MAC key; the ciphertext field is an
 * EncryptedData whose MAC is over iv and ciphertext only.
 *
 * What a file may ask for when opened is bounded: scrypt to N=2^20, r=16, p=4
 * and 1 GiB, PBKDF2 to 10^7 iterations (TAO_ELIMIT). */
enum tao_err tao_pbe_seal(const void *pass, size_t pass_n, const void *p, size_t n,
                          struct tao_buf *out);
enum tao_err tao_pbe_open(const void *pass, size_t pass_n, const void *p, size_t n,
                          struct tao_buf *out);

/* Keyset files: mode 0600, written atomically; an existing one is not
 * overwritten (TAO_EEXIST). Sentences name the path. */
enum tao_err tao_keyset_save(const char *path, const struct tao_keyset *ks, const void *pass,
                             size_t pass_n);
enum tao_err tao_keyset_load(const char *path, const void *pass, size_t pass_n,
                             struct tao_keyset *out);

#endif
