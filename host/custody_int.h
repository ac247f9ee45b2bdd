/*
 * What custody.c and custody_use.c share: a held key, and its private half
 * while somebody uses it. See host.h for what custody is.
 *
 * A held key's facts never change. Its private half comes and goes: it is there
 * between held_key_use() and held_key_done(), and for KEY_IDLE_SECONDS after.
 */
#ifndef HOST_CUSTODY_INT_H
#define HOST_CUSTODY_INT_H

#include <pthread.h>

#include "custody_type.h"
#include "host.h"
#include "sealedkey.h"
#include "tao.pb-c.h"
#include "../tao/stub.h"

#define KEY_CTXS 8 /* signing contexts kept for one key: about a worker each */

struct held_key {
	atomic_uint refs;
	uint8_t id[TAO_HASH_LEN];      /* SHA-256 of the stub */
	char name[TAO_KEY_NAME_MAX + 1];
	struct tao_buf stub;           /* DER, with its sealed part */
	uint32_t epoch;                /* that it was sealed in */
	struct tao_buf spki;
	uint8_t spki_hash[TAO_HASH_LEN];
	struct tao_pb_alloc alloc;
	Tao__SealedKey *sealed;        /* its private_key is wiped */
	struct tao_node *principal;    /* policy exact */
	const struct key_type *type;
	const struct key_purpose *purpose;
	atomic_int gone;               /* deleted meanwhile */

	pthread_mutex_t lock;          /* what follows */
	EVP_PKEY *key;                 /* NULL: not opened now */
	unsigned users;
	int64_t used;                  /* loop_now() */
	EVP_PKEY_CTX *ctx[KEY_CTXS];
	atomic_int ctx_busy[KEY_CTXS]; /* without the lock, by users */
};

/* The private half, opened again if need be; held_key_done() after TAO_OK. */
enum tao_err held_key_use(struct host *h, struct held_key *k, EVP_PKEY **key);
void held_key_done(struct held_key *k);

/* A context for signing as the key's type does without being told more, by a user.
 * slot: -1 for one that is freed by held_key_give_ctx(). NULL: TAO_ECRYPTO. */
EVP_PKEY_CTX *held_key_take_ctx(struct held_key *k, int *slot);
void held_key_give_ctx(struct held_key *k, EVP_PKEY_CTX *ctx, int slot);

#endif
