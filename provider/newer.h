/*
 * What OpenSSL 3.5's provider interface has and the headers of older ones lack:
 * a tao.so that was built with 3.0 offers it too when 3.5 loads it. Numbers and
 * types are those of openssl/core_dispatch.h, names those of openssl/core_names.h;
 * see provider-signature(7).
 */
#ifndef PROVIDER_NEWER_H
#define PROVIDER_NEWER_H

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>

#ifndef OSSL_FUNC_SIGNATURE_QUERY_KEY_TYPES
#define OSSL_FUNC_SIGNATURE_QUERY_KEY_TYPES 26
typedef const char **(OSSL_FUNC_signature_query_key_types_fn)(void);
#endif

#ifndef OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT
#define OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT 27
#define OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE 28
#define OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL 29
#define OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT 30
#define OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE 31
#define OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL 32
typedef int(OSSL_FUNC_signature_sign_message_init_fn)(void *ctx, void *key,
                                                      const OSSL_PARAM params[]);
typedef int(OSSL_FUNC_signature_sign_message_update_fn)(void *ctx, const unsigned char *in,
                                                        size_t n);
typedef int(OSSL_FUNC_signature_sign_message_final_fn)(void *ctx, unsigned char *sig,
                                                       size_t *sig_n, size_t room);
typedef int(OSSL_FUNC_signature_verify_message_init_fn)(void *ctx, void *key,
                                                        const OSSL_PARAM params[]);
typedef int(OSSL_FUNC_signature_verify_message_update_fn)(void *ctx, const unsigned char *in,
                                                          size_t n);
typedef int(OSSL_FUNC_signature_verify_message_final_fn)(void *ctx);
#endif

#ifndef OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT
#define OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT 19
#define OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT 20
typedef int(OSSL_FUNC_cipher_encrypt_skey_init_fn)(void *ctx, void *key, const unsigned char *iv,
                                                   size_t iv_n, const OSSL_PARAM params[]);
typedef int(OSSL_FUNC_cipher_decrypt_skey_init_fn)(void *ctx, void *key, const unsigned char *iv,
                                                   size_t iv_n, const OSSL_PARAM params[]);
#endif

#ifndef OSSL_OP_SKEYMGMT
#define OSSL_OP_SKEYMGMT 15
#define OSSL_FUNC_SKEYMGMT_FREE 1
#define OSSL_FUNC_SKEYMGMT_IMPORT 2
#define OSSL_FUNC_SKEYMGMT_EXPORT 3
#define OSSL_FUNC_SKEYMGMT_GET_KEY_ID 5
#define OSSL_FUNC_SKEYMGMT_IMP_SETTABLE_PARAMS 6
typedef void(OSSL_FUNC_skeymgmt_free_fn)(void *key);
typedef void *(OSSL_FUNC_skeymgmt_import_fn)(void *provctx, int selection,
                                             const OSSL_PARAM params[]);
typedef int(OSSL_FUNC_skeymgmt_export_fn)(void *key, int selection, OSSL_CALLBACK *cb, void *arg);
typedef const char *(OSSL_FUNC_skeymgmt_get_key_id_fn)(void *key);
typedef const OSSL_PARAM *(OSSL_FUNC_skeymgmt_imp_settable_params_fn)(void *provctx);
#endif
#ifndef OSSL_SKEY_PARAM_RAW_BYTES
#define OSSL_SKEY_PARAM_RAW_BYTES "raw-bytes"
#endif

#ifndef OSSL_SIGNATURE_PARAM_SIGNATURE
#define OSSL_SIGNATURE_PARAM_SIGNATURE "signature"
#endif
#ifndef OSSL_SIGNATURE_PARAM_CONTEXT_STRING
#define OSSL_SIGNATURE_PARAM_CONTEXT_STRING "context-string"
#endif
#ifndef OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING
#define OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING "message-encoding"
#endif
#ifndef OSSL_SIGNATURE_PARAM_MU
#define OSSL_SIGNATURE_PARAM_MU "mu"
#endif
#ifndef OSSL_SIGNATURE_PARAM_DETERMINISTIC
#define OSSL_SIGNATURE_PARAM_DETERMINISTIC "deterministic"
#endif
#ifndef OSSL_PKEY_PARAM_ML_DSA_SEED
#define OSSL_PKEY_PARAM_ML_DSA_SEED "seed"
#endif

#endif
