/*
 * HMAC (RFC 2104) for who makes many with one hash: what libcrypto has to look up is looked up
 * once, and waits for the next call without a key.
 *
 *   struct tao_mac m;
 *   tao_mac_init(&m, NULL, "SHA256");
 *   e = tao_mac_make(&m, key, key_n, part, 2, mac);
 *   tao_mac_clear(&m);
 *
 * Any number of threads may make one; nobody waits, since who finds nothing at hand makes what it
 * needs. tao_hmac() of crypter.h is for a single one.
 */
#ifndef TAO_MAC_H
#define TAO_MAC_H

#include <stdatomic.h>

#include <openssl/evp.h>

#include "buf.h"
#include "crypter.h"

struct tao_mac {
	OSSL_LIB_CTX *lib;
	const char *md;
	_Atomic(EVP_MAC_CTX *) idle;
};

/* Looks nothing up yet. lib may be NULL for the default; it and md are used until the end. */
void tao_mac_init(struct tao_mac *m, OSSL_LIB_CTX *lib, const char *md);
/* When nobody uses it any more; twice does no harm. */
void tao_mac_clear(struct tao_mac *m);
/* Over the parts in turn; mac has room for TAO_MAC_MAX bytes. TAO_ECRYPTO. */
enum tao_err tao_mac_make(struct tao_mac *m, const void *key, size_t key_n,
                          const struct tao_rd *part, size_t n_parts, uint8_t mac[TAO_MAC_MAX]);

#endif
