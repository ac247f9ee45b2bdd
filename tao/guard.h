/*
 * Guards: who may do what. One interface with several policies behind it:
 *
 *   liberal        everything is allowed
 *   conservative   nothing is allowed
 *   ACL            what is on a list: entries Authorized(P, "operation", "argument"...)
 *
 * A question is a predicate, most often Authorized(P, "Execute"). Every answer
 * carries its reason. A host's guard is part of the host's name: its
 * subprincipal stands behind the host's key.
 *
 * Rules are text of tao/logic.h (man/tao-logic.7). An ACL's entries are
 * compared as trees, not as text: [AB] and [ab] are the same bytes. They are
 * ground, that is, without variables.
 *
 * Signed sets. An ACL is kept in CloudProxy's SignedACLSet (go/tao/acl_guard.go,
 * context "tao.ACLGuard Version 1"), which CloudProxy itself can read. Ours
 * carries a version and a date besides, and loading refuses
 *   - a version below the guard's own, or below the caller's floor: an old file
 *     was put back;
 *   - other rules under the same version;
 *   - a set without a version. tao_guard_import() reads those: CloudProxy's own
 *     files, whose age nobody can tell.
 * A guard remembers the highest version that it saw. To notice an old file
 * after a restart as well, keep tao_guard_version() where it cannot be put back
 * along with the file, and give it as the floor.
 *
 * A guard follows its file: after tao_guard_load() and tao_guard_save() every
 * question looks whether the file changed, and if so, loads it anew, as a
 * whole: rules that are gone from it are gone, and so are changes that were
 * never saved. While the file is missing or refused, every answer is no.
 *
 * Endorsements are statements of the policy key that come with a question.
 * All are considered, for that question only; none becomes a rule.
 *
 * Ownership: nodes given to a guard stay the caller's. A guard is used by one
 * thread at a time.
 *
 * Errors: TAO_EFORMAT (malformed), TAO_EINVAL (well-formed, but no rule of
 * such a guard; or something that this kind of guard does not do), TAO_EEXIST,
 * TAO_ENOTFOUND, TAO_ELIMIT, TAO_ESIGNATURE, TAO_EEXPIRED (an old set),
 * TAO_EALTERED (two sets of one version), TAO_EVERSION, TAO_EBUSY, TAO_ENOMEM,
 * and those of file.h.
 */
#ifndef TAO_GUARD_H
#define TAO_GUARD_H

#include <openssl/evp.h>

#include "attest.h"
#include "key.h"
#include "logic.h"

#define TAO_GUARD_MAX_ARGS         8          /* arguments of an operation */
#define TAO_GUARD_MAX_RULES        10000      /* of one guard */
#define TAO_GUARD_MAX_RULE         4096       /* bytes of one rule's text */
#define TAO_GUARD_MAX_FILE         (4u << 20) /* bytes of a signed set */
#define TAO_GUARD_MAX_ENDORSEMENTS 64         /* in one attestation */

struct tao_guard;

/* ---- making them ---- */

enum tao_err tao_guard_liberal(struct tao_guard **out);
enum tao_err tao_guard_conservative(struct tao_guard **out);
/* policy_key: whose signature its sets need, and which may endorse; NULL: such a
 * guard has no file and listens to no endorsement. A reference is kept. */
enum tao_err tao_guard_acl(EVP_PKEY *policy_key, struct tao_guard **out);
void tao_guard_free(struct tao_guard *g); /* NULL is fine */

/* The guard's extension in names, TAO_EXT, the caller's: TrivialGuard("Liberal"),
 * TrivialGuard("Conservative"), ACLGuard(key([hash])) or, without a policy key,
 * ACLGuard([SHA-256 of the serialized set]), which changes with the rules. */
enum tao_err tao_guard_subprincipal(struct tao_guard *g, struct tao_node **out);

/* ---- asking ---- */

/* Verified attestations (attest.h), of anybody: only what the guard's policy
 * key itself says has a meaning. */
struct tao_endorsements {
	struct tao_attested *v;
	size_t n;
};
/* Those that an attestation of a peer carries, as far as they verify at that
 * time (TAO_NOW: the clock) and are the policy key's; others are left out. The
 * attestation itself is not looked at: verify it. TAO_ELIMIT if there are too
 * many. *out is cleared by the caller, also after a failure. */
enum tao_err tao_guard_endorsements(const struct tao_guard *g, const void *attestation, size_t n,
                                    int64_t at, struct tao_endorsements *out);
void tao_endorsements_clear(struct tao_endorsements *e);

struct tao_decision {
	int yes;
	char why[TAO_WHY_MAX]; /* a sentence, also for yes */
};

/* TAO_OK is yes, everything else is no: TAO_EDENIED if the rules do not allow
 * it, another error if that could not be found out. args: strings, ended by
 * NULL; may be NULL. said and d may be NULL. */
enum tao_err tao_guard_is_authorised(struct tao_guard *g, const struct tao_node *who,
                                     const char *op, const char *const *args,
                                     const struct tao_endorsements *said, struct tao_decision *d);
/* The same for any ground predicate, as text. */
enum tao_err tao_guard_query(struct tao_guard *g, const char *predicate,
                             const struct tao_endorsements *said, struct tao_decision *d);

/* ---- changing: in memory, until saved ---- */

/* Authorized(who, "op", "args"...) as a rule. TAO_EEXIST if it is there. */
enum tao_err tao_guard_authorise(struct tao_guard *g, const struct tao_node *who, const char *op,
                                 const char *const *args);
/* Takes it back. TAO_ENOTFOUND if it is not there. */
enum tao_err tao_guard_retract(struct tao_guard *g, const struct tao_node *who, const char *op,
                               const char *const *args);
enum tao_err tao_guard_add_rule(struct tao_guard *g, const char *rule);
enum tao_err tao_guard_retract_rule(struct tao_guard *g, const char *rule);
enum tao_err tao_guard_clear(struct tao_guard *g);

/* How many rules there are, and their canonical text in the order in which
 * they were added. */
size_t tao_guard_count(const struct tao_guard *g);
enum tao_err tao_guard_list(const struct tao_guard *g, void (*each)(const char *rule, void *arg),
                            void *arg);

/* ---- signed sets ---- */

/* What a set must at least be; zeros ask for nothing. */
struct tao_guard_floor {
	uint64_t version;
	int64_t date; /* seconds since 1970: for rules that must be fresh */
};

/* Signs with the private half of the policy key and writes, as the next
 * version, with the clock's date. The file is replaced atomically, under the lock
 * PATH.lock (file.h): of programs that save at the same time one is the first.
 * TAO_EBUSY if the file holds a version that this guard has not loaded: the
 * others load, make their changes again, and save. */
enum tao_err tao_guard_save(struct tao_guard *g, EVP_PKEY *private_key, const char *path);
/* Replaces all rules by those of the file, or changes nothing. The floor
 * (NULL: none) also holds when the guard follows its file. */
enum tao_err tao_guard_load(struct tao_guard *g, const char *path,
                            const struct tao_guard_floor *floor);
/* The same for bytes from elsewhere; the guard then follows no file. */
enum tao_err tao_guard_open(struct tao_guard *g, const void *p, size_t n,
                            const struct tao_guard_floor *floor);
/* A file that CloudProxy wrote: signed, without version. Saving it makes it ours. */
enum tao_err tao_guard_import(struct tao_guard *g, const char *path);

/* Of the newest set that was loaded or saved; 0 if there was none. */
uint64_t tao_guard_version(const struct tao_guard *g);
int64_t tao_guard_date(const struct tao_guard *g);

/* ---- for those who write a guard ---- */

/* A set's identity. */
struct tao_guard_set {
	uint64_t version; /* 0: none */
	int64_t date;
	uint8_t hash[TAO_HASH_LEN]; /* SHA-256 of the signed bytes */
};

struct tao_guard_ops {
	const char *kind; /* for sentences: "an ACL guard" */
	enum tao_err (*subprincipal)(struct tao_guard *g, struct tao_node **out);
	/* Sets d; an error means that there is no answer. */
	enum tao_err (*ask)(struct tao_guard *g, const struct tao_node *query,
	                    const struct tao_endorsements *said, struct tao_decision *d);
	enum tao_err (*add)(struct tao_guard *g, const struct tao_node *rule);
	enum tao_err (*retract)(struct tao_guard *g, const struct tao_node *rule);
	enum tao_err (*clear)(struct tao_guard *g);
	size_t (*count)(const struct tao_guard *g);
	/* May be NULL, as may be the two below: there is nothing to list or to keep. */
	const struct tao_node *(*rule)(const struct tao_guard *g, size_t i);
	/* The signed set under s->version and s->date; fills in s->hash. */
	enum tao_err (*pack)(struct tao_guard *g, EVP_PKEY *private_key, struct tao_guard_set *s,
	                     struct tao_buf *out);
	/* Verifies and parses; calls accept() on what it found before it replaces its
	 * rules, and replaces them only if that and all else went well. */
	enum tao_err (*unpack)(struct tao_guard *g, const void *p, size_t n,
	                       enum tao_err (*accept)(const struct tao_guard_set *s, void *arg),
	                       void *arg);
	void (*clean)(struct tao_guard *g); /* frees what is its own, not g; may be NULL */
};

/* The beginning of every guard's own struct, which is calloc'ed and which
 * tao_guard_free() frees. */
struct tao_guard {
	const struct tao_guard_ops *ops;
	EVP_PKEY *key;           /* policy key, or NULL */
	struct tao_node *policy; /* its principal, or NULL */
	struct tao_guard_set newest;
	struct tao_guard_floor floor;
	struct tao_guard_file *file; /* what it follows, or NULL: guard.c's own */
};

/* Allocates n bytes, at least a struct tao_guard, and fills that in. */
enum tao_err tao_guard_new(const struct tao_guard_ops *ops, size_t n, EVP_PKEY *policy_key,
                           struct tao_guard **out);

/* 1 if this endorsement is a statement of the guard's policy key. */
int tao_guard_endorses(const struct tao_guard *g, const struct tao_attested *a);

#endif
