/*
 * What struct domain is made of, for the files of this directory only.
 *
 * rules is read and changed under lock; everything else is fixed once the domain is loaded.
 */
#ifndef DOMAIN_STATE_H
#define DOMAIN_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/x509.h>

#include "../tao/shield.h"
#include "domain.h"
#include "rules.h"

struct domain {
	char *rules_path;
	uint8_t id[TAO_HASH_LEN];
	struct tao_signer signer; /* the policy key */
	X509 *cert;
	pthread_mutex_t lock;
	struct rules rules;
	_Atomic uint64_t version; /* of rules, also for those without the lock */
	atomic_size_t limits; /* facts Until: without any, nobody takes the lock */
};

/* After the rules changed; lock held. */
void domain_changed(struct domain *d);
/* Until: TAO_EEXPIRED; lock held. */
enum tao_err domain_check_until(struct domain *d, const uint8_t *exe);
/* new follows old by Successor facts, directly or by way of others. */
enum tao_err domain_follows(const struct rules *r, const uint8_t *new, const uint8_t *old,
                            int *follows);

/* Trusted and not revoked; lock held. subject: SHA-256 of a key that must not be revoked
 * either, or NULL. */
enum tao_err domain_check_host(struct domain *d, const struct tao_node *host);
enum tao_err domain_check_program(struct domain *d, const struct fact_program *p,
                                  const uint8_t *subject);
/* Neither the program, nor what it runs on, nor the key subject (NULL: none) is revoked; lock
 * held. */
enum tao_err domain_check_revoked(struct domain *d, const struct fact_program *p,
                                  const uint8_t *subject);

#endif
