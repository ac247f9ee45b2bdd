/*
 * tao: URIs, as the store takes them.
 *
 *   tao:              every key that the program could use, as names of URIs
 *   tao:ca            the domain's policy certificate
 *   tao:NAME          the key NAME, its certificate, and the rest of the chain
 *   tao:NAME/key      only the key
 *   tao:NAME/cert     only the certificate of the key
 *   tao:NAME/chain    the certificates above it, the policy certificate last
 *
 * The scheme's case does not matter; nothing else's is ignored. NAME follows
 * tao_key_name_check() (tao/stub.h); it and the part may be percent-encoded.
 * There is no authority ("//"), query or fragment.
 *
 * Errors: TAO_EINVAL, TAO_ELIMIT, with a sentence that quotes the URI.
 */
#ifndef STORE_URI_H
#define STORE_URI_H

#include "tao/err.h"
#include "tao/stub.h"

#define URI_MAX 512 /* bytes of a URI */

/* What is asked for. */
#define URI_KEY 1
#define URI_CERT 2
#define URI_CHAIN 4
#define URI_CA 8
#define URI_LIST 16

struct uri {
	unsigned parts;
	char name[TAO_KEY_NAME_MAX + 1]; /* "" with URI_CA and URI_LIST */
};

enum tao_err uri_parse(const char *text, struct uri *out);

#endif
