/*
 * A program's own socket, DIR/run/programs/ID.sock: for programs that were built
 * with CloudProxy's client library (tao run --channel=unix), which speaks as
 * soon as it is connected and cannot answer a challenge.
 *
 * Whoever connects is looked at when he is accepted, and before each request is
 * answered. It is the program if it runs the measured file by the very exec that
 * was registered, or is a fork of that (process_view.exec), and lives: then the connection counts
 * for the program, and nothing but CloudProxy's operations is allowed on it. As on all connections
 * of programs, every byte must be the connecting process's own, by the kernel's
 * credentials. Others stay strangers: each of their requests is refused with the
 * sentence of that first look, and they count for their user alone. So
 * there may be any number of connections, and a stranger who comes first takes nothing.
 *
 * What this cannot see: the process that registers knows the path before it
 * executes the program. What it sends then, to be accepted when the program runs
 * already, is answered as the program's. It is of the same user.
 *
 * The socket is there from the registration to the instance's end. A taod that
 * starts makes those of recalled instances again, and removes all others.
 *
 * Errors: TAO_ELIMIT (the path is too long for a socket), TAO_ESYS, TAO_ENOMEM.
 */
#ifndef HOST_PROGSOCK_H
#define HOST_PROGSOCK_H

#include "host.h"

/* Before instances are recalled: removes the sockets of a taod before. */
void progsock_sweep(struct host *h);
/* Its path, malloc'ed; NULL when out of memory. */
char *progsock_path(struct host *h, const struct instance *i);
/* Makes it, and listens. Once for an instance, before its process is watched. */
enum tao_err progsock_open(struct host *h, struct instance *i);
/* The instance is over: it goes. Nothing if there is none. */
void progsock_close(struct host *h, struct instance *i);

/* Looks for the first time at who connected. */
void progsock_accepted(struct host *h, struct conn *c);
/* Before a request: TAO_EDENIED for strangers, and when the program is no longer that. */
enum tao_err progsock_check(struct host *h, struct conn *c);

#endif
