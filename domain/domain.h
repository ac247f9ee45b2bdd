/*
 * A policy domain: policy key, policy certificate, signed rules, program
 * certificates.
 *
 * This is the domain of one machine. It lives in a directory of its own and
 * is asked only through this interface, by taod; nothing here knows about the host.
 *
 *   DIR/policy.key    keyset file (tao/key.h), under a passphrase
 *   DIR/policy.pem    X.509 certificate of the policy key, self-signed, CA
 *   DIR/rules         signed rules (below)
 *
 * Domain id: SHA-256 of the SubjectPublicKeyInfo of the first policy key.
 *
 * Rules: ground facts, one predicate a line. File format, UTF-8:
 *
 *   tao rules 1            2 if there are facts Installed or Until, which 1 does not know
 *   domain HEX
 *   version N            goes up by one with every change
 *   date 2026-11-23T10:00:00Z
 *   FACT                 canonical text of tao/logic.h, sorted bytewise, no duplicates
 *   ...
 *   signature BASE64     SignedData of the policy key over all before this line,
 *                        context "Tao Rules Signing Context V1"
 *
 * Predicates: TrustedHost(P), TrustedProgram([exe]), SelfContained([exe]),
 * Successor([new], [old]), Serves(P, "dns name"), Connect(C, S),
 * Unseal(P, "label"), Revoked(X), Installed([exe], "path"), Until([exe], "time"). In a fact, the
 * identifier _ stands for any one argument of a principal's extension; no other variable may
 * appear. The key of a principal is given. P in Serves, Connect and Unseal may be a whole
 * program principal, or the host-independent form
 * key([domain id]).Measured([exe], _, _): the part of a name from its measurement on, re-rooted at
 * the domain id. Revoked(X): X is a principal, or [bytes]: an executable's or a key's hash.
 * Successor: an executable follows those that its predecessors follow, too.
 * Installed: what 'tao trust' last found at a path; it decides nothing but which executable the
 * next one there replaces.
 * Until: the executable is refused from that time on ("2026-11-23T10:00:00Z", UTC, the host's
 * clock; one that is behind the rules' own date is not believed, that date counts then). The
 * earliest of several counts.
 *
 * Thread safety: functions may be called by any thread; a domain has a lock of its own.
 *
 * Errors: TAO_EPASS, TAO_EFORMAT, TAO_EVERSION, TAO_ESIGNATURE (rules altered), TAO_EDENIED with
 * the reason,
 * TAO_EEXIST, TAO_ENOTFOUND, and those of tao/file.h.
 */
#ifndef DOMAIN_DOMAIN_H
#define DOMAIN_DOMAIN_H

#include <stdint.h>

#include "../tao/attest.h"
#include "../tao/buf.h"
#include "../tao/key.h"
#include "../tao/logic.h"

#define DOMAIN_MAX_FACTS 10000
#define DOMAIN_MAX_FACT 4096          /* bytes of one fact's text */
#define DOMAIN_MAX_RULES (4u << 20)   /* bytes of the file */
#define DOMAIN_MAX_DNS 64             /* DNS names in one certificate */
#define DOMAIN_CERT_SECONDS (72 * 3600) /* default life of a program certificate */
#define DOMAIN_POLICY_YEARS 10        /* life of the policy certificate */

struct domain;

/* Makes a domain in DIR (the directory is made too). name: organisation in its certificates. */
enum tao_err domain_create(const char *dir, const char *name, const void *pass, size_t pass_n);
enum tao_err domain_load(const char *dir, const void *pass, size_t pass_n, struct domain **out);
void domain_free(struct domain *d);

const uint8_t *domain_id(const struct domain *d); /* TAO_HASH_LEN bytes */
/* The SHA-256 of its SubjectPublicKeyInfo: of the current policy key's, which may not be the
 * first. */
enum tao_err domain_policy_key(const struct domain *d, uint8_t hash[TAO_HASH_LEN]);
/* The policy certificate, DER; valid as long as the domain. */
enum tao_err domain_policy_cert(struct domain *d, struct tao_buf *der);

/* Rules. Facts are text; they are checked, canonicalised, and the file is
 * signed and written before the call returns. Adding one that is there, or removing one that is
 * not, is TAO_EEXIST / TAO_ENOTFOUND. */
enum tao_err domain_add_fact(struct domain *d, const char *fact);
enum tao_err domain_remove_fact(struct domain *d, const char *fact);
uint64_t domain_rules_version(struct domain *d);
/* Version, date and facts; the callback sees each fact's text. */
enum tao_err domain_rules(struct domain *d, uint64_t *version, char date[32],
                          void (*each)(const char *fact, void *arg), void *arg);

/* Questions. Each returns TAO_OK for yes and TAO_EDENIED, with the reason and what to do, for
 * no. */
enum tao_err domain_trusts_host(struct domain *d, const struct tao_node *host);
/* name: the program's whole principal. */
enum tao_err domain_trusts_program(struct domain *d, const struct tao_node *name);
enum tao_err domain_self_contained(struct domain *d, const uint8_t exe[TAO_HASH_LEN]);
enum tao_err domain_successor(struct domain *d, const uint8_t new_exe[TAO_HASH_LEN],
                              const uint8_t old_exe[TAO_HASH_LEN]);
enum tao_err domain_may_unseal(struct domain *d, const struct tao_node *name, const char *label);

/* Who may talk to whom (connect.c); names are whole principals of programs. In Serves(P, "*.NAME"),
 * the star stands for one label. */
/* subject: SHA-256 of a key that must not be revoked either, or NULL. */
enum tao_err domain_not_revoked(struct domain *d, const struct tao_node *name,
                                const uint8_t *subject);
/* Connect(client, server), and neither is revoked. */
enum tao_err domain_may_connect(struct domain *d, const struct tao_node *client,
                                const struct tao_node *server);
enum tao_err domain_serves(struct domain *d, const struct tao_node *name, const char *dns);
/* 1 if some program is said to serve that name. */
int domain_knows_service(struct domain *d, const char *dns);
/* 1 if there is a Connect rule at all. */
int domain_has_connect(struct domain *d);

/* Its time is not over (Until), else TAO_EEXPIRED. Cheap where no rule is of that kind. */
enum tao_err domain_executable(struct domain *d, const uint8_t exe[TAO_HASH_LEN]);

/* exe is installed at path, in the place of older executables: those that the rules know at that
 * path, and these. It becomes their successor, and what the rules TrustedProgram, Serves, Connect
 * and Unseal give them is its own as well. until: when all that it follows end (seconds since
 * 1970), 0: both work on; TAO_ENOTFOUND if it follows none. All in one version of the rules;
 * without older ones that is Installed alone. each is told what changed. */
struct domain_upgrade {
	const uint8_t *exe; /* TAO_HASH_LEN bytes */
	const char *path;
	const uint8_t (*old)[TAO_HASH_LEN];
	size_t n_old;
	int64_t until;
};
enum tao_err domain_upgrade(struct domain *d, const struct domain_upgrade *u,
                            void (*each)(const char *fact, int removed, void *arg), void *arg);

/* A program certificate, on a host's attestation of
 *
 *   HOST says SealedKey(NAME, [SHA-256 of spki], "key name", "purpose")
 *
 * (and "imported" as a fifth argument, for a key that was outside of a host once),
 * signed by the host's key, where NAME = host.measurement.PolicyKey([domain id]) and the host is
 * trusted. For a stacked host, whose name its parent gives, by a key with delegations down from
 * the key that the name starts with; for other hosts without any. The statement is a predicate, not
 * speaksfor: a TLS key thereby never speaks for its program in the Tao's logic.
 *
 * The certificate: X.509 v3, serial 128 random bits, signed by the policy key with SHA-256;
 * subject O = the domain's name, OU = NAME's text (longer than 64 characters, as CloudProxy), CN =
 * first DNS name if there is one; subjectAltName = URI urn:tao:NAME percent-encoded, and every DNS
 * name that Serves gives the program; basicConstraints CA:FALSE; subject and authority key
 * identifiers. notBefore is 5 minutes back. keyUsage is what the purpose allows of what the key can
 * do:
 *
 *   purpose     keyUsage                                     extendedKeyUsage
 *   tls tls13   digitalSignature                             serverAuth, clientAuth
 *   any         digitalSignature; and as with decrypt        serverAuth, clientAuth
 *   sign        digitalSignature                             emailProtection
 *   decrypt     keyEncipherment (RSA), keyAgreement (EC,     emailProtection
 *               X25519)
 *
 * seconds: its life, 0 for the default.
 */
enum tao_err domain_issue(struct domain *d, const void *attestation, size_t attestation_n,
                          const void *spki, size_t spki_n, uint32_t seconds,
                          struct tao_buf *cert_der);

/* "urn:tao:..." of a principal. */
enum tao_err domain_principal_urn(const struct tao_node *name, struct tao_buf *out);

#endif
