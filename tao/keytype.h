/*
 * What the key files of this folder share: the kinds of signing keys in one
 * table, headers, and CryptoKey messages. Type names are CloudProxy's
 * (go/tao/keys.go); "rsa4096" and "ed25519" are ours. Not a public header;
 * tests of signature algorithms use tao_signature_verify().
 */
#ifndef TAO_KEYTYPE_H
#define TAO_KEYTYPE_H

#include <openssl/evp.h>

#include "err.h"
#include "key.h"
#include "pb.h"
#include "tao.pb-c.h"

#define TAO_KEYTYPE_PUBLIC "-public" /* behind the name of a verifying key's type */

enum tao_keykind { TAO_KEY_EC, TAO_KEY_RSA, TAO_KEY_ED25519 };

struct tao_keytype {
	const char *name, *public_name;
	enum tao_keykind kind;
	const char *group; /* elliptic curve, for libcrypto */
	int bits;
	const char *oid;   /* the curve's, DER, oid_n bytes */
	size_t oid_n;
	size_t spki_n;     /* bytes of the SubjectPublicKeyInfo; 0: varies (RSA) */
};

/* NULL: none of them. name may end in "-public": then *is_public is 1. */
const struct tao_keytype *tao_keytype_named(const char *name, int *is_public);
const struct tao_keytype *tao_keytype_of(EVP_PKEY *key);
/* The code, with the sentence why there is no such type and which there are. */
enum tao_err tao_keytype_none(enum tao_err e, const char *name);

/* A bare signature over n bytes: md is a digest's name, or NULL where the
 * algorithm takes the bytes themselves (Ed25519). ECDSA in DER, RSA as PKCS#1
 * v1.5. TAO_ESIGNATURE if it does not verify. */
enum tao_err tao_signature_verify(EVP_PKEY *key, const char *md, const void *p, size_t n,
                                  const void *sig, size_t sig_n);

/* TAO_EVERSION for a newer version, TAO_EFORMAT if version, type or status are
 * missing or not ours, or a field is unknown (messages inside a message are not
 * for tao_pb_unpack_strict()). */
enum tao_err tao_cryptoheader_check(const Tao__CryptoHeader *h);

/* Fills in a header of ours, epoch 1; the strings stay the caller's. */
void tao_cryptoheader_fill(Tao__CryptoHeader *h, const char *name, const char *type,
                           const char *purpose);

/* A CryptoKey message: reading it checks size and header, not the parts; free
 * with tao_pb_free(). */
enum tao_err tao_cryptokey_pack(Tao__CryptoHeader *h, ProtobufCBinaryData *parts, size_t n_parts,
                                struct tao_buf *out);
enum tao_err tao_cryptokey_unpack(struct tao_pb_alloc *pa, const void *p, size_t n,
                                  ProtobufCMessage **out);
/* TAO_EFORMAT: the parts are not what the type says. */
enum tao_err tao_cryptokey_malformed(const char *type);

/* From an unpacked CryptoKey; type, purpose and parts are checked. */
enum tao_err tao_pkey_from(const Tao__CryptoKey *k, EVP_PKEY **out);
enum tao_err tao_crypter_from(const Tao__CryptoKey *k, struct tao_crypter *out);
enum tao_err tao_deriver_from(const Tao__CryptoKey *k, struct tao_deriver *out);
/* And back: epoch as in h, type and purpose are filled in. */
enum tao_err tao_pkey_pack(EVP_PKEY *key, const char *name, int32_t epoch, int with_private,
                           struct tao_buf *out);
enum tao_err tao_crypter_pack(const struct tao_crypter *c, const char *name, int32_t epoch,
                              struct tao_buf *out);
enum tao_err tao_deriver_pack(const struct tao_deriver *d, const char *name, int32_t epoch,
                              struct tao_buf *out);

#endif
