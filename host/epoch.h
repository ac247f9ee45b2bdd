/*
 * Epochs of sealing: the host's owner begins a new one, and retires old ones when what was sealed
 * in them has been sealed anew. Until then it opens.
 *
 * DIR/host/epoch, absent on a host that is in its first epoch:
 *
 *   tao epochs 1
 *   current N
 *   oldest M
 *
 * Both only go up. The file is written before anything is sealed in a new epoch.
 *
 * Errors: TAO_EFORMAT, TAO_EVERSION, TAO_EINVAL, TAO_ELIMIT, and those of tao/file.h.
 */
#ifndef HOST_EPOCH_H
#define HOST_EPOCH_H

#include "../tao/seal.h"

#define EPOCH_MAX 1000000

struct epochs;

/* Reads the file and sets the sealer, which outlives it. */
enum tao_err epochs_open(const char *path, struct tao_sealer *sealer, struct epochs **out);
void epochs_free(struct epochs *es);
/* begin: a new epoch. retire: that one (not the current one) and all before it, 0: none; one that
 * is retired already changes nothing. */
enum tao_err epochs_change(struct epochs *es, int begin, uint32_t retire);

#endif
