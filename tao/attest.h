/*
 * Attestations: signed statements "P says F", with chains of delegation.
 *
 * Format and meaning are CloudProxy's (go/tao/attestation.go), described in
 * man/tao-formats.7; its context is "Tao Attestation Signing Context V1". What
 * differs: the clock is consulted, the root of a chain is an explicit
 * argument, a delegation never goes upward, signatures are verified over the
 * bytes received, and the length of a chain is bounded.
 *
 * Errors: TAO_EFORMAT, TAO_ESIGNATURE, TAO_EEXPIRED (also: not yet valid),
 * TAO_EDENIED (the chain does not support the statement, or its root is not
 * the trusted one), TAO_ELIMIT, TAO_EVERSION (a signer type not known here).
 */
#ifndef TAO_ATTEST_H
#define TAO_ATTEST_H

#include <openssl/evp.h>

#include "buf.h"
#include "logic.h"

#define TAO_ATTEST_CONTEXT "Tao Attestation Signing Context V1"
#define TAO_ATTEST_MAX_CHAIN 16    /* delegations below one statement */
#define TAO_ATTEST_MAX (256u << 10) /* bytes of one attestation, with its chain */
#define TAO_ATTEST_YEAR_NS (365LL * 86400 * 1000000000)
#define TAO_NOW INT64_MIN           /* as a time: the clock's */

/* Nanoseconds since 1970, from the clock. */
int64_t tao_now_ns(void);

/* Signs "issuer from F until U says message". from may be TAO_NOW; until may
 * be TAO_NOW, which means a year after from. delegation: a serialized
 * attestation that lets the signer speak for the issuer, or NULL. issuer and
 * message stay the caller's. */
enum tao_err tao_attest(EVP_PKEY *signer, const struct tao_node *issuer, int64_t from,
                        int64_t until, const struct tao_node *message, const void *delegation,
                        size_t delegation_n, struct tao_buf *out);

/* What a verified attestation says. Free with tao_attested_clear(). */
struct tao_attested {
	struct tao_node *speaker;
	struct tao_node *message;
	struct tao_node *root;  /* principal of the key at the chain's root */
	int64_t from, until;    /* the whole chain's: latest from, earliest until */
};
void tao_attested_clear(struct tao_attested *a);

/* Verifies the chain: signatures, delegations, times at the given one
 * (TAO_NOW: the clock), and that its root is trusted_root (a key principal);
 * NULL leaves the root to the caller, who then must look at out->root. */
enum tao_err tao_attestation_verify(const void *p, size_t n, int64_t at,
                                    const struct tao_node *trusted_root,
                                    struct tao_attested *out);

#endif
