/*
 * What OSSL_STORE_find() looks for (openssl storeutl -subject, -issuer and
 * -serial, -fingerprint, -alias): one criterion, kept until the store is closed.
 *
 * A fingerprint is that of a certificate, or of its SubjectPublicKeyInfo. An
 * alias is a key's name, which the store handles itself.
 */
#ifndef STORE_SEARCH_H
#define STORE_SEARCH_H

#include "provider/provider.h"

#define SEARCH_MAX 8192 /* bytes of one criterion */

struct search {
	int wanted;             /* 0: everything matches */
	/* DER, DER, big-endian, bytes; empty: any */
	struct tao_buf subject, issuer, serial, fingerprint;
	char digest[50];        /* of the fingerprint */
	char alias[TAO_WHY_MAX]; /* "": none */
};

extern const OSSL_PARAM search_settable[]; /* with what else a store takes */

void search_init(struct search *s);
void search_clear(struct search *s);
/* 0: a criterion that is too long. */
int search_set(struct search *s, const OSSL_PARAM params[]);
/* 1 if this certificate (DER) is one that is looked for. */
int search_matches(const struct prov *p, const struct search *s, const void *der, size_t n);

#endif
