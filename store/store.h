/*
 * The store's parts share this: giving a key object to OpenSSL.
 *
 * A decoder or loader hands out a key as a reference (keymgmt/key.h): OpenSSL
 * loads it with our key management and takes the count over, or leaves it.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "keymgmt/key.h"

/* Calls cb with k, whose one count is used up in any case. */
int store_give_key(struct opaque *k, OSSL_CALLBACK *cb, void *cbarg);

#endif
