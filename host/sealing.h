/*
 * For whom something is sealed or derived: the policies of Tao.Seal, Tao.RollbackProtectedSeal and
 * Tao.GetSharedSecret, and who owns a counter.
 *
 *   exact    self   exactly this name
 *   program  few    this executable and, for what is sealed, its successors (a rule says so); as
 * this user
 *   host     any    any program of this host
 *   policy          whoever the rules let unseal the label: Unseal(P, "label"), of any user
 *
 * The second column is CloudProxy's word; self is the default. Unseal gives back the word that was
 * used.
 *
 * Whoever may unseal a label may also seal under it, nobody else: a program could otherwise hand
 * its own data to those who trust the label. In rules, labels that begin with "key:" are those of
 * keys.
 *
 * Policy program is not for interpreters, whose executable is every script's, nor for what runs
 * without `tao run`, whose executable is a hint: they use exact or policy, and their counters are
 * those of their exact name.
 *
 * A label may be given with every policy. It is sealed with the data; who unseals may say which
 * label he expects, so that his other data cannot be put in its place.
 */
#ifndef HOST_SEALING_H
#define HOST_SEALING_H

#include "counter.h"
#include "host.h"

#define SEAL_DATA_MAX 1000000 /* bytes; the blob still fits into a request */

/* The numbers go into derived secrets: they stay. */
enum seal_policy { SEAL_EXACT = 1, SEAL_PROGRAM = 2, SEAL_HOST = 3, SEAL_POLICY = 4 };

/* NULL and "" are self. TAO_EINVAL. */
enum tao_err seal_policy_find(const char *word, enum seal_policy *out);
/* TAO_OK if i may seal or derive for that policy and label (NULL: none), TAO_EDENIED,
 * TAO_EINVAL. */
enum tao_err seal_policy_check(struct host *h, struct instance *i, enum seal_policy p,
                               const char *label);
/* Of i's counters: its user and executable, or its exact name (above). */
enum tao_err seal_counter_owner(struct instance *i, struct counter_owner *out);

#endif
