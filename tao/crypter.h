/*
 * Symmetric keys: crypters (authenticated encryption) and derivers (HKDF).
 *
 * Formats are CloudProxy's (go/tao/keys.go, go/tao/rollback.go). A crypter is
 * AES in counter mode and HMAC, encrypt then MAC:
 *
 *   type                    AES key  MAC key and MAC  as tao_key_protect() key
 *   aes128-ctr-hmacsha256     16          32            16 + 32 = 48 bytes
 *   aes256-ctr-hmacsha384     32          48            32 + 32 = 64
 *   aes256-ctr-hmacsha512     32          64            32 + 64 = 96
 *
 * EncryptedData{header, iv, ciphertext, mac}: iv 16 random bytes, the MAC over
 * iv and ciphertext. Its CryptoKey has the parts [AES key, MAC key].
 *
 * The format leaves the header outside the MAC and has no associated data, so
 * that whoever stores a message can change its key's name and epoch: nothing
 * is decided by those. Version, type, purpose and status are compared with the
 * key's before anything else, lengths must be exact, and the MAC is compared in
 * constant time before a byte is decrypted. What needs binding to a place, a
 * time or an owner is for seal.h.
 *
 * A deriver is HKDF (RFC 5869) with the hash in its type's name (CloudProxy
 * spells it so):
 *
 *   hdkf-sha256  hdkf-sha384  hdkf-sha512      secret of 32, 48, 64 bytes
 *
 * Ownership: both structures hold their secrets in place; the _clear()
 * functions wipe, take zeroed structures, and are the caller's to call. On
 * failure a structure is left cleared and a buffer as it was.
 *
 * Errors: TAO_EINVAL (no such type, a length), TAO_EFORMAT, TAO_EVERSION,
 * TAO_EALTERED (altered, or another key: these look alike), TAO_ELIMIT (more
 * than TAO_CRYPT_MAX), TAO_ECRYPTO, TAO_ENOMEM.
 */
#ifndef TAO_CRYPTER_H
#define TAO_CRYPTER_H

#include "buf.h"

#define TAO_CRYPT_MAX (16u << 20) /* bytes of plaintext */
#define TAO_IV_LEN 16
#define TAO_AES_MAX 32            /* bytes of the longest AES key */
#define TAO_MAC_MAX 64            /* and MAC key, MAC, deriving secret */

struct tao_crypter_type {
	const char *name;
	const char *cipher, *hmac;  /* as PBEData names them */
	const char *md;             /* libcrypto's name */
	size_t aes_n, mac_n;
	size_t protect_mac_n;       /* the MAC key in tao_key_protect() */
};

struct tao_crypter {
	const struct tao_crypter_type *type; /* NULL: none */
	uint8_t aes[TAO_AES_MAX], mac[TAO_MAC_MAX];
};

struct tao_deriver_type {
	const char *name;
	const char *md;
	size_t secret_n;
};

struct tao_deriver {
	const struct tao_deriver_type *type; /* NULL: none */
	uint8_t secret[TAO_MAC_MAX];
};

/* NULL: none. The second finds a crypter by PBEData's names. */
const struct tao_crypter_type *tao_crypter_type(const char *name);
const struct tao_crypter_type *tao_crypter_suite(const char *cipher, const char *hmac);
const struct tao_deriver_type *tao_deriver_type(const char *name);

enum tao_err tao_crypter_generate(const char *type, struct tao_crypter *out);
void tao_crypter_clear(struct tao_crypter *c);
/* A CryptoKey, purpose "crypting". */
enum tao_err tao_crypter_encode(const struct tao_crypter *c, const char *name,
                                struct tao_buf *out);
enum tao_err tao_crypter_decode(const void *p, size_t n, struct tao_crypter *out);

/* EncryptedData; name is the key's, for the header. */
enum tao_err tao_crypter_encrypt(const struct tao_crypter *c, const char *name, const void *p,
                                 size_t n, struct tao_buf *out);
enum tao_err tao_crypter_decrypt(const struct tao_crypter *c, const void *p, size_t n,
                                 struct tao_buf *out);

/* CloudProxy's Protect and Unprotect: HMAC | IV | ciphertext, the HMAC over
 * what follows it. The key is AES key | MAC key; its length, 48, 64 or 96, says
 * which crypter (TAO_EINVAL for any other). Note the middle one's short MAC
 * key. */
enum tao_err tao_key_protect(const void *key, size_t key_n, const void *p, size_t n,
                             struct tao_buf *out);
enum tao_err tao_key_unprotect(const void *key, size_t key_n, const void *p, size_t n,
                               struct tao_buf *out);

enum tao_err tao_deriver_generate(const char *type, struct tao_deriver *out);
void tao_deriver_clear(struct tao_deriver *d);
/* A CryptoKey, purpose "deriving". */
enum tao_err tao_deriver_encode(const struct tao_deriver *d, const char *name,
                                struct tao_buf *out);
enum tao_err tao_deriver_decode(const void *p, size_t n, struct tao_deriver *out);
/* n bytes, at most 255 hashes (TAO_EINVAL); salt may be NULL with 0. */
enum tao_err tao_deriver_derive(const struct tao_deriver *d, const void *salt, size_t salt_n,
                                const void *context, size_t context_n, void *out, size_t n);

/* The primitives, for the other key files. Appends the n bytes, en- or
 * decrypted; aes_n is 16 or 32. */
enum tao_err tao_aes_ctr(const uint8_t *aes, size_t aes_n, const uint8_t iv[TAO_IV_LEN],
                         const void *p, size_t n, struct tao_buf *out);
/* HMAC over the parts in turn; mac has room for TAO_MAC_MAX bytes. */
enum tao_err tao_hmac(const char *md, const void *key, size_t key_n, const struct tao_rd *part,
                      size_t n_parts, uint8_t mac[TAO_MAC_MAX]);
/* HKDF with this digest; as tao_deriver_derive(). */
enum tao_err tao_hkdf_with(const char *md, const void *secret, size_t secret_n, const void *salt,
                           size_t salt_n, const void *info, size_t info_n, void *out,
                           size_t out_n);

#endif
