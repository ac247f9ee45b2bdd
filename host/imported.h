/*
 * A key's certificate of another authority, which its owner brought ('tao cert
 * import'): it stands where the domain's certificate would, for all programs
 * that may use the key, until its owner takes it away or brings another.
 *
 * The file is certs/UID/NAME.pem, so that what reads certificates from files
 * finds it where the domain's would be: a line "tao imported certificate 1",
 * then the chain in PEM, leaf first. The number is the format's; a newer one is
 * refused. A file without that line holds a certificate of the domain.
 *
 * The host renews no such certificate: only the authority could. It never
 * overwrites one either. When the key is rotated, the file stays, for the
 * generation before that programs still have; for the new one it is no certificate.
 *
 * Who changes these files holds custody_lock_files().
 */
#ifndef HOST_IMPORTED_H
#define HOST_IMPORTED_H

#include "certchain.h"
#include "host.h"

struct imported {
	STACK_OF(X509) *chain; /* leaf first, no root */
	int64_t not_before;    /* the leaf's, seconds since 1970 */
	int64_t not_after;
	char *issuer;          /* the leaf's, on one line */
	uint8_t spki_hash[TAO_HASH_LEN];
};

/* TAO_ENOTFOUND, without a sentence: the key has none. TAO_EFORMAT, TAO_EVERSION. */
enum tao_err imported_read(struct host *h, uid_t uid, const char *name, struct imported *out);
void imported_clear(struct imported *i); /* NULL-safe in its members */
enum tao_err imported_write(struct host *h, uid_t uid, const char *name, STACK_OF(X509) *chain);
/* 1: the file at path is one, of whatever format. */
int imported_is(const char *path);

/* TAO_OK, or TAO_ENOTFOUND with what to do: it is for another generation than f is of. */
enum tao_err imported_fits(const struct imported *i, const struct key_facts *f);
/* The chain, DER, if there is one for this key: *n buffers of chain[CERTCHAIN_MAX]. *n = 0 with
 * TAO_OK: there is none. An error: there is, but not for this generation. */
enum tao_err imported_chain(struct host *h, const struct key_facts *f,
                            struct tao_buf chain[CERTCHAIN_MAX], size_t *n);

/* op_cert.c */
op_fn op_cert, op_import_cert, op_remove_cert, op_request_cert;

#endif
