/*
 * libtao: the Tao for C programs.
 *
 *   #include <tao/tao.h>          cc prog.c $(pkg-config --cflags --libs libtao)
 *
 * A program that runs under `tao run` has a name that says what it is, and a
 * host that draws random bytes for it, seals its data and attests what it says:
 * its parent. Channels are TLS connections whose two ends know each other by
 * such names. Around that: names and logic (logic.h), keys (key.h, crypter.h),
 * attestations (attest.h), guards (guard.h), channels (channel.h), and below
 * here the parent and policy domains.
 *
 * Conventions. Functions that can fail return enum tao_err, 0 for success, and
 * leave a sentence for tao_why() (err.h). Results go through pointers and are
 * the caller's; each kind has one function that frees it, which takes NULL.
 * Bytes of unknown length are appended to a struct tao_buf (buf.h), which wipes
 * them when it is freed. On failure results are NULL or left as they were.
 *
 * Functions that are not in these headers are not exported. Symbols carry the
 * version LIBTAO_0; a function in it keeps its meaning as long as the library
 * is called libtao.so.0.
 */
#ifndef TAO_TAO_H
#define TAO_TAO_H

#include "attest.h"
#include "buf.h"
#include "channel.h"
#include "crypter.h"
#include "err.h"
#include "guard.h"
#include "key.h"
#include "logic.h"

/* ---- the parent: the host that runs this program ----
 *
 * Requests are CloudProxy's Tao operations. They go through the door that
 * `tao run` leaves open (TAO_DOOR), else to the host's socket (TAO_SOCKET, else
 * the installed host's). Any thread may call; it works on after fork and after
 * a restart of the host. Nothing is sent before the first call.
 *
 * Errors: TAO_ENOTRUN (not started with `tao run`), TAO_ENOHOST, TAO_EPERM,
 * TAO_ETIMEOUT, TAO_EPROTO, TAO_EBUSY, TAO_ENOMEM, and whatever the host answers, with
 * the host's sentence. */

#define TAO_PARENT_RANDOM_MAX (16u << 20) /* random bytes of one call */
#define TAO_PARENT_SECRET_MAX 4096        /* bytes of a shared secret */
#define TAO_PARENT_SEAL_MAX   1000000     /* bytes that are sealed: a blob fits into a request */
#define TAO_PARENT_LABEL_MAX  256         /* bytes of a label */
#define TAO_PARENT_GROUP_MAX  64          /* members of a group key */
#define TAO_PARENT_GROUP_KEY  32          /* bytes of one */
#define TAO_PARENT_POLICY_MAX 32          /* bytes of a policy's word, with its NUL */

struct tao_parent;

/* TAO_EINVAL if TAO_SOCKET cannot be a socket's path. A host need not run yet. */
enum tao_err tao_parent_open(struct tao_parent **out);
/* With that socket in the place of TAO_SOCKET's (a door goes first all the same: a program's host
 * is the one that started it), each call within timeout_ms milliseconds (0: 10 000). */
enum tao_err tao_parent_open_at(const char *socket, int timeout_ms, struct tao_parent **out);
void tao_parent_close(struct tao_parent *p); /* NULL is fine */

/* The program's name, as it is now: a principal. */
enum tao_err tao_parent_name(struct tao_parent *p, struct tao_node **name);
/* Puts extensions behind the name of this program, for good: what was sealed for the exact name
 * before is out of reach. sub: TAO_SUBPRIN (tao_subprin_parse()). Words
 * that hosts assign are refused (TAO_EDENIED). */
enum tao_err tao_parent_extend(struct tao_parent *p, const struct tao_node *sub);
/* 1..TAO_PARENT_RANDOM_MAX bytes from the host's generator, else TAO_ELIMIT. */
enum tao_err tao_parent_random(struct tao_parent *p, void *out, size_t n);
/* The host's signature under "NAME from F until U says message", an
 * attestation (attest.h), appended. issuer: the program or one of its
 * subprincipals, NULL for itself. from: TAO_NOW for the clock's; until: TAO_NOW for
 * a year later. */
enum tao_err tao_parent_attest(struct tao_parent *p, const struct tao_node *issuer, int64_t from,
                               int64_t until, const struct tao_node *message,
                               struct tao_buf *attestation);

/* Sealing: encrypted by the host, for whom the policy says. policy: "exact" (or NULL;
 * exactly this name), "program" (this executable and its successors, this
 * user; not for interpreters), "host" (any program of this host), or CloudProxy's words for these,
 * "self",
 * "few", "any"; with a label (below), "policy" (whoever the domain's rules let unseal the
 * label). 1..TAO_PARENT_SEAL_MAX bytes, else TAO_EINVAL, TAO_ELIMIT. */
enum tao_err tao_parent_seal(struct tao_parent *p, const void *data, size_t n, const char *policy,
                             struct tao_buf *blob);
/* policy: the word that it was sealed with; may be NULL. TAO_EWRONGPROG: sealed for another. */
enum tao_err tao_parent_unseal(struct tao_parent *p, const void *blob, size_t n,
                               struct tao_buf *data, char policy[TAO_PARENT_POLICY_MAX]);
/* n bytes that every program gets to which the same policy applies: with
 * "exact" this name again, with "program" this executable again (not its successors), with "host"
 * any of this host. 1..TAO_PARENT_SECRET_MAX, else TAO_ELIMIT. Fewer bytes are the beginning of
 * more. */
enum tao_err tao_parent_shared_secret(struct tao_parent *p, const char *policy, void *out,
                                      size_t n);
/* Another secret for each label, NULL for none. Policy "policy": for whoever may unseal the
 * label. */
enum tao_err tao_parent_shared_secret_as(struct tao_parent *p, const char *policy,
                                         const char *label, void *out, size_t n);

/* A key that the named programs, of which this one must be one, can all have as long as
 * the epoch is accepted: 2..TAO_PARENT_GROUP_MAX different ones of this host, in any order
 * (TAO_EINVAL,
 * TAO_EDENIED). *epoch: 0 for the present one, whose number it becomes. TAO_PARENT_GROUP_KEY
 * bytes. */
enum tao_err tao_parent_group_key(struct tao_parent *p, struct tao_node *const *member, size_t n,
                                  uint32_t *epoch, uint8_t *key);

/* A counter of this program under a label; it only goes up. Making one that there is already
 * raises it if counter is higher, and else does nothing. TAO_ENOTFOUND: none was made. */
enum tao_err tao_parent_init_counter(struct tao_parent *p, const char *label, int64_t counter);
enum tao_err tao_parent_get_counter(struct tao_parent *p, const char *label, int64_t *counter);
/* Rollback-protected blobs: sealing makes the label's counter go up, and from then on only this
 * blob opens, for this program and its successors; older ones are TAO_EDENIED. */
enum tao_err tao_parent_rollback_seal(struct tao_parent *p, const char *label, const void *data,
                                      size_t n, const char *policy, struct tao_buf *blob);
enum tao_err tao_parent_rollback_unseal(struct tao_parent *p, const void *blob, size_t n,
                                        struct tao_buf *data, char policy[TAO_PARENT_POLICY_MAX]);

/* The same with everything that a host knows about sealing. */
struct tao_sealing {
	const char *policy;  /* NULL: "exact" */
	/* sealed with the data, NULL: none; that of the counter, if there is one */
	const char *label;
	int64_t expires;     /* nanoseconds since 1970, after which it does not open; 0: never */
};
struct tao_unsealed {
	char policy[TAO_PARENT_POLICY_MAX];
	char label[TAO_PARENT_LABEL_MAX + 1]; /* "": none */
	int64_t expires;                      /* 0: never */
	uint32_t epoch, host_epoch; /* the blob is older than the host's epoch: seal it anew, since
	                             * the host's owner may retire old ones; TAO_EEXPIRED then */
};

/* epoch may be NULL. */
enum tao_err tao_parent_seal_as(struct tao_parent *p, const void *data, size_t n,
                                const struct tao_sealing *how, struct tao_buf *blob,
                                uint32_t *epoch);
/* label: what it must have been sealed under (TAO_EDENIED otherwise); NULL: whatever. what may be
 * NULL. */
enum tao_err tao_parent_unseal_as(struct tao_parent *p, const void *blob, size_t n,
                                  const char *label, struct tao_buf *data,
                                  struct tao_unsealed *what);
enum tao_err tao_parent_rollback_seal_as(struct tao_parent *p, const void *data, size_t n,
                                         const struct tao_sealing *how, struct tao_buf *blob,
                                         uint32_t *epoch);
/* For state that must survive a power cut: the blob opens only once tao_parent_init_counter() has
 * raised its counter to *counter, and until then the former one does. Store it beside the former,
 * raise, then drop the former. */
enum tao_err tao_parent_rollback_prepare(struct tao_parent *p, const void *data, size_t n,
                                         const struct tao_sealing *how, struct tao_buf *blob,
                                         int64_t *counter);
enum tao_err tao_parent_rollback_unseal_as(struct tao_parent *p, const void *blob, size_t n,
                                           const char *label, struct tao_buf *data,
                                           struct tao_unsealed *what);

/* ---- policy domains ----
 *
 * A domain is a directory: policy key under a passphrase, policy certificate,
 * signed rules (see tao(1), policy). These are for its owner; a program finds its domain's
 * certificate as tao:ca. Any thread may call; two processes must not change one domain
 * at a time: while a host has it open, change it with `tao policy`.
 *
 * Errors: TAO_EPASS, TAO_EFORMAT, TAO_EVERSION, TAO_ESIGNATURE (rules altered),
 * TAO_EDENIED with the reason, TAO_EEXIST, TAO_ENOTFOUND, TAO_EINVAL, TAO_ELIMIT,
 * and those of files: TAO_EPERM, TAO_ESYS. */

struct tao_domain;

/* Makes one; the directory is made too (TAO_EEXIST if there is a domain in it). name: for
 * people, 1 to 64 bytes; the organisation in its certificates. */
enum tao_err tao_domain_create(const char *dir, const char *name, const void *pass, size_t pass_n);
enum tao_err tao_domain_load(const char *dir, const void *pass, size_t pass_n,
                             struct tao_domain **out);
void tao_domain_free(struct tao_domain *d); /* NULL is fine */

/* The domain's id, TAO_HASH_LEN bytes, part of d: what stands in PolicyKey([...]). */
const uint8_t *tao_domain_id(const struct tao_domain *d);
/* The policy certificate, DER, appended. */
enum tao_err tao_domain_certificate(struct tao_domain *d, struct tao_buf *der);

/* Rules are facts, one predicate each, for example TrustedProgram([hash]). The file is signed
 * and written before the call returns. TAO_EEXIST, TAO_ENOTFOUND. */
enum tao_err tao_domain_add_fact(struct tao_domain *d, const char *fact);
enum tao_err tao_domain_remove_fact(struct tao_domain *d, const char *fact);
/* Goes up with every change. */
uint64_t tao_domain_version(struct tao_domain *d);
/* Each fact's text, sorted. The callback must not call the domain. */
enum tao_err tao_domain_facts(struct tao_domain *d, void (*each)(const char *fact, void *arg),
                              void *arg);
/* TAO_OK: the domain trusts the program of that (whole) name, and its host; TAO_EDENIED says why
 * not. */
enum tao_err tao_domain_trusts(struct tao_domain *d, const struct tao_node *program);

#endif
