/*
 * What tao.so does beside keys, and only for who names it: TAO-RAND and
 * TAO-SECRET. No other implementation bears these names, so a program reaches
 * them by writing them into its configuration or code, and never otherwise.
 *
 * TAO-RAND (OSSL_OP_RAND, rand.c): seeds OpenSSL's generators from the host's
 * randomness (Tao.GetRandomBytes). In openssl.cnf:
 *
 *   [openssl_init]                   [random_sect]
 *   random = random_sect             seed = TAO-RAND
 *
 * It is a seed source, as OpenSSL's own SEED-SRC, and no generator. A program
 * draws many times in one handshake, from several threads: a generator in the
 * host would make each of these a request, and a host that ends would fail
 * them all. As a seed source it is asked when the usual CTR-DRBG starts, when that
 * reseeds (once an hour, or after 256 reseeds of its threads' generators), and
 * in each forked child; everything that is known of that DRBG stays true. As a generator it
 * is refused, with a sentence that says so. Its functions are those of
 * providers/implementations/rands/seed_src.c.
 *
 * A seed is the host's bytes, exclusive-or'ed with the kernel's where the
 * kernel has some at once: it is as good as the better one of the two. Without the
 * host's there is no seed and no random number: the program's call fails, with the host's
 * sentence. Making and starting the source ask nobody and cannot fail for the host's sake, since
 * OpenSSL would then seed from the kernel alone and tell no one.
 *
 * TAO-SECRET (OSSL_OP_KDF, kdf.c): a secret that the host derives for this
 * program and a label (Tao.GetSharedSecret): the same ones, of this or another
 * instance of the program, get the same, also after a restart, and nobody else gets it. What "the
 * same" is, the policy says (host/sealing.h). Parameters of EVP_KDF:
 *
 *   label   octets or text, 1 to TAO_PARENT_LABEL_MAX bytes, no control characters; required
 *   info    another name for it, that of most KDFs; not both
 *   policy  text: exact (the default), program, host, policy
 *
 * As a key object of OpenSSL 3.5: keymgmt/secret.h.
 *
 * 1 to TAO_PARENT_SECRET_MAX bytes can be derived (tao/tao.h). A shorter secret is the beginning of
 * a longer one.
 */
#ifndef PROVIDER_BYNAME_H
#define PROVIDER_BYNAME_H

#include "provider.h"

#define BYNAME_RANDOM_MAX 4096 /* bytes that TAO-RAND gives at once */

/* Exactly n bytes, which op answers; on failure out is wiped. rq's size is set here. */
enum tao_err byname_ask(struct prov *p, const char *op, Tao__RPCRequest *rq, uint8_t *out,
                        size_t n);

extern const OSSL_DISPATCH prov_rand[]; /* rand.c */
extern const OSSL_DISPATCH prov_kdf[];  /* kdf.c */

#endif
