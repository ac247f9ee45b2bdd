/*
 * How keys of one kind are made, and put into and taken out of the bytes of a
 * blob: a row of custody_type.c's table names one. See custody_type.h for the
 * bytes and the errors.
 */
#ifndef HOST_CUSTODY_CODING_H
#define HOST_CUSTODY_CODING_H

#include "custody_type.h"

struct key_coding {
	enum tao_err (*generate)(const struct key_type *t, const struct key_pss *pss,
	                         EVP_PKEY **out);
	enum tao_err (*write)(EVP_PKEY *key, struct tao_buf *out);
	enum tao_err (*read)(const struct key_type *t, const void *p, size_t n, EVP_PKEY **out);
};

/* custody_mldsa.c: ML-DSA by its seed (FIPS 204, the input of KeyGen_internal). Whether there is
 * such a thing is libcrypto's to say, when it is asked: 3.5 and later have it. */
extern const struct key_coding key_coding_mldsa;

/* TAO_EALTERED, and what these bytes are not. */
enum tao_err key_coding_mismatch(const struct key_type *t);

#endif
