/*
 * The ancestor of two programs: who gives them the keys of their channels (tao-channel(7)).
 *
 * For programs of one host that is the host itself (ancestor_local.c), which is its own domain as
 * well. For programs on different hosts it is the domain that both are enrolled in: another
 * table of these functions, asked in the same way.
 *
 * Epochs. Their number is the time divided by their length. Each has a root, from which
 * pair and group keys come, and a naming key, from which the ids come that programs have on
 * the wire. Both are random, made one epoch ahead, and erased with the overlap's end. Besides the
 * current epoch, the one before is accepted for the overlap, the next one for the last
 * ANCESTOR_EARLY seconds, or half an epoch if that is less.
 *
 * Policy is not the ancestor's affair here: who may have a key asks that first.
 *
 * Threads: all functions may be called by any. now is seconds since 1970.
 *
 * Errors: TAO_EEXPIRED (not an epoch that is accepted now), TAO_EBUSY (its keys are not there
 * yet: prepare() makes them, and may write files), TAO_ENOTFOUND (no such id), TAO_ENOMEM,
 * TAO_ECRYPTO.
 */
#ifndef HOST_ANCESTOR_H
#define HOST_ANCESTOR_H

#include <stdatomic.h>
#include <stdint.h>

#include "../tao/logic.h"
#include "../tao/seal.h"
#include "../tao/tlskeys.h"
#include "share.h"

#define ANCESTOR_EARLY 300 /* seconds */

/* A program's name in the forms that are needed; fixed once made, reference-counted. */
struct principal {
	atomic_uint refs;
	struct tao_node *node;
	uint8_t *bytes; /* binary */
	size_t n;
	uint8_t hash[TAO_HASH_LEN]; /* SHA-256 of these */
	uid_t uid; /* the user that its measurement names; SHARE_NOBODY: none */
};

enum tao_err principal_new(const struct tao_node *name, struct principal **out);
struct principal *principal_ref(struct principal *p);
void principal_unref(struct principal *p); /* NULL-safe */

struct ancestor_fns {
	const char *name;
	uint32_t (*epoch)(void *data, int64_t now);
	enum tao_err (*accepts)(void *data, int64_t now, uint32_t epoch);
	int (*ready)(void *data, uint32_t epoch); /* its keys are there */
	/* Makes the keys that are due, erases those that are over. Slow. */
	enum tao_err (*prepare)(void *data, int64_t now);
	/* This program runs here, and can be found by its id, until as many leave() were called. */
	enum tao_err (*enter)(void *data, struct principal *p);
	void (*leave)(void *data, struct principal *p);
	/* The id of one that entered. */
	enum tao_err (*id)(void *data, uint32_t epoch, const struct principal *p,
	                   uint8_t id[TLSKEYS_ID]);
	/* Whose id it is; a reference. Costs the same whether there is one or not, and never
	 * waits. */
	enum tao_err (*resolve)(void *data, uint32_t epoch, const uint8_t id[TLSKEYS_ID],
	                        struct principal **out);
	/* Directional: of a client and a server. */
	enum tao_err (*pair_key)(void *data, uint32_t epoch, const struct principal *c,
	                         const struct principal *s, uint8_t key[TLSKEYS_LEN]);
	/* The members' hashes, as tlskeys_group() takes them. */
	enum tao_err (*group_key)(void *data, uint32_t epoch, uint8_t (*member)[TAO_HASH_LEN],
	                          size_t n, uint8_t key[TLSKEYS_LEN]);
	void (*free)(void *data); /* NULL-safe */
};

struct tao_ancestor {
	const struct ancestor_fns *fn; /* NULL: none */
	void *data;
};

/*
 * This host. Its epochs are kept in DIR, a file each, so that they outlive taod:
 *
 *   DIR/epoch-N   a sealed blob of kind 6, mode 0600. Associated data: "tao channel epoch".
 *                 Plaintext: format(1) = 1 | epoch(4) | its length in seconds(4) | root(32) |
 *                 naming key(32)
 *
 * A file is overwritten before it is removed, as far as file systems let that have a meaning.
 * What does not open, or is of another length of epochs, is replaced by fresh keys. A file of a
 * newer version is TAO_EVERSION. Where a file cannot be written, the keys are kept in memory alone,
 * and written later.
 */
struct ancestor_conf {
	const char *dir;      /* made if it is not there */
	uint32_t seconds;     /* length of an epoch */
	uint32_t overlap;     /* seconds; at most the length */
	const struct tao_node *name; /* the ancestor's */
	const struct tao_sealer *sealer;     /* outlives it */
	void (*say)(const char *level, const char *why); /* what went wrong with files */
};
enum tao_err ancestor_local_new(const struct ancestor_conf *c, int64_t now,
                                struct tao_ancestor *out);
void ancestor_clear(struct tao_ancestor *a);

#endif
