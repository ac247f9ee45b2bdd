/*
 * Roots of trust: what a host's name starts with, and who vouches for its key.
 *
 * One table of functions for each kind; taod.conf's `root` chooses. A host has
 * a signing key, sealing secret and domain of its own whatever the kind; kinds
 * differ in what opens these, in the name, and in what stands behind the key:
 *
 *   soft     (root_soft.c)    keys under a passphrase, made by `tao init`. Name:
 *                             key([K]).DatalogGuard(key([domain])), K the hash of the signing
 *                             key, which therefore needs nobody behind it
 *   parent   (root_parent.c)  a stacked host: taod is itself a program of another host, the
 *                             parent. Keys under a secret that the parent seals, made when it
 *                             first starts. Name: PARENT.DatalogGuard(key([domain])), PARENT
 *                             being what the parent calls this taod. The parent attests
 *                             "NAME says key([K]) speaksfor NAME", which goes into the chain of
 *                             each attestation
 *
 * Files, in the host's directory (conf.h):
 *
 *   host/root.key       keyset under the passphrase, or the secret
 *   host/secret.sealed  parent: "tao parent secret 1\n", then what the parent's Seal gave for the
 *                       secret, 32 bytes; policy `program`, so that an upgrade that the parent's
 *                       domain calls a Successor opens it
 *   host/new            parent, until the first start has made the keys: "tao new host 1\n", the
 *                       domain's name, "\n"
 *   host/principal      parent: this host's name as of the last start, text. When the parent calls
 *                       this taod otherwise (other arguments, an upgrade), the fact TrustedHost of
 *                       the old name becomes one of the new. Only a taod that opened the secret,
 *                       and so the policy key, comes that far
 *
 * Errors: TAO_EPASS; of a parent TAO_ENOTRUN (not under a parent), TAO_ENOHOST,
 * TAO_EOTHERHOST (the secret is another parent's), TAO_EWRONGPROG (another executable or
 * user), TAO_EEXPIRED (the delegation ended and was not renewed); those of domain.h and file.h.
 */
#ifndef HOST_ROOT_H
#define HOST_ROOT_H

#include <stdint.h>

#include "conf.h"
#include "../tao/buf.h"
#include "../tao/logic.h"

struct domain;
struct host;

/* Public facts, for tao status. Strings are the receiver's (free); NULL, 0: none. */
struct root_facts {
	char *parent;            /* what the parent calls this host's program: text */
	int64_t delegated_until; /* end of the delegation, seconds since 1970 */
	char *warning;           /* a sentence: something is wrong with the root */
};

struct host_root {
	const char *name;
	int passphrase; /* its keys are under one, which tao init and taod are given */
	/* tao init: what it makes in host/ and domain/. pass may be NULL without a passphrase. */
	enum tao_err (*create)(const struct host_conf *c, const char *domain_name, const void *pass,
	                       size_t pass_n);
	/* taod's start: fills signer, sealer, root, domain, name. After a failure end() as well. */
	enum tao_err (*load)(struct host *h, const struct tao_buf *pass);
	/* Capabilities are dropped: starts what goes on beside the workers. NULL: nothing. */
	enum tao_err (*serve)(struct host *h);
	/* Signs "issuer from F until U says message", with the chain from the root down to this
	 * host's key. issuer: h->name or below. Any thread; asks nobody. */
	enum tao_err (*attest)(struct host *h, const struct tao_node *issuer, int64_t from,
	                       int64_t until, const struct tao_node *message, struct tao_buf *out);
	void (*facts)(struct host *h, struct root_facts *out); /* NULL: none */
	void (*clock_set)(struct host *h);                     /* NULL: nothing; any thread */
	void (*end)(struct host *h);                           /* NULL: nothing */
};

extern const struct host_root host_root_soft, host_root_parent;

/* NULL: there is none of that name. */
const struct host_root *host_root_find(const char *name);
/* "soft or parent": for sentences. */
#define HOST_ROOT_NAMES "soft or parent"

/* ---- for the kinds ---- */

/* host/root.key, host/counters and domain/, new, under that passphrase. */
enum tao_err root_make_keys(const struct host_conf *c, const char *domain_name, const void *pass,
                            size_t pass_n);
/* Adds (or removes) TrustedHost(host) to the domain's rules; TAO_OK too if it is there already
 * (or not there). */
enum tao_err root_trust_host(struct domain *d, const struct tao_node *host, int trust);
/* Opens them: signer, sealer, secrets, root, domain. */
enum tao_err root_load_keys(struct host *h, const void *pass, size_t pass_n);

/* Signs with h->signer. delegation: empty for none. */
enum tao_err root_attest(struct host *h, const struct tao_node *issuer, int64_t from, int64_t until,
                         const struct tao_node *message, const struct tao_buf *delegation,
                         struct tao_buf *out);

#endif
