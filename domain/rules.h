/*
 * The rules of a domain: a sorted set of facts, and the signed file that
 * keeps it. Format and predicates are in domain.h.
 *
 * The file is read strictly: there is one text for one set of rules, so that
 * a byte that differs is either malformed or breaks the signature. The facts
 * are looked at only after the signature was found good.
 *
 * An older file that was signed properly is accepted: to notice that one was
 * put back, remember the version (domain_rules_version()) elsewhere.
 *
 * No locking here: domain.c has the lock. Errors: TAO_EFORMAT, TAO_EVERSION, TAO_ESIGNATURE,
 * TAO_ELIMIT, TAO_ENOMEM, and those of tao/file.h.
 */
#ifndef DOMAIN_RULES_H
#define DOMAIN_RULES_H

#include <openssl/evp.h>

#include "fact.h"

#define RULES_CONTEXT  "Tao Rules Signing Context V1"
#define RULES_DATE_MAX 32

struct rules {
	uint8_t domain[TAO_HASH_LEN];
	/* of the text that was parsed; what is printed has rules_format() */
	uint64_t format;
	uint64_t version;
	char date[RULES_DATE_MAX]; /* 2026-11-23T10:00:00Z */
	struct fact *fact;         /* sorted by text, bytewise */
	size_t n, cap;
};

/* An empty set; version 0, which was never written. */
void rules_init(struct rules *r, const uint8_t domain[TAO_HASH_LEN]);
void rules_clear(struct rules *r);

/* The text up to the signature, and back. Parsing fills a set that the caller
 * initialised and clears also after a failure. */
enum tao_err rules_parse(const char *text, size_t n, struct rules *r);
void rules_print(const struct rules *r, struct tao_buf *out);

/* Reads, verifies and parses the file. key: the domain's policy key. */
enum tao_err rules_load(const char *path, EVP_PKEY *key, struct rules *r);
/* Writes the file with the next version and the clock's date; r gets these
 * only if that succeeds. */
enum tao_err rules_save(const char *path, EVP_PKEY *key, struct rules *r);

/* Puts it in its place. Takes over its members, which are then empty. TAO_EEXIST. */
enum tao_err rules_insert(struct rules *r, struct fact *f);
/* Takes the fact out and hands it to the caller. TAO_ENOTFOUND. */
enum tao_err rules_take(struct rules *r, const char *text, struct fact *out);

/* The number in the text's first line: 2 if a fact is of a predicate that versions before did not
 * know (Installed, Until), else 1. */
uint64_t rules_format(const struct rules *r);

/* 1 if the fact with this canonical text is there. */
int rules_have(const struct rules *r, const char *text);
/* The facts of one predicate: fact[first] up to, not including, fact[*end]. */
size_t rules_range(const struct rules *r, const char *predicate, size_t *end);
/* The same for those whose text begins so. */
size_t rules_prefix(const struct rules *r, const char *prefix, size_t *end);

#endif
