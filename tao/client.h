/*
 * Client side of the RPC: connections to the Tao host.
 *
 * Two layers. struct tao_conn is one connection, used by one thread at a time,
 * one request in flight: tools use it directly. struct tao_client is a pool for a whole process:
 * any thread may call it, also after fork (a child never touches its parent's
 * connections), and it identifies the program (Hello, Prove) on each new
 * connection by itself. Provider modules use that one. It takes no lock that
 * a fork could leave held, starts no thread, installs no handler, and sends
 * nothing until its first call.
 *
 * How a program reaches its host: through its door, the descriptor that `tao run` leaves open and
 * names in
 * TAO_DOOR=FD:INODE, or one that it asked for since; else by connecting to the socket path.
 * Descriptors are close-on-exec; before each
 * use their identity is checked with fstat, since daemons close and reuse numbers.
 *
 * Every call has a deadline (milliseconds), over all of its steps. When one has passed in a pool,
 * and no other call was answered meanwhile, the host counts as silent: then all calls fail at once
 * (TAO_ETIMEOUT, with a sentence that says so), but for one that comes straight away, and one every
 * few seconds; that waits a tenth of the time, or a second, and its answer ends this. Each process
 * finds out for itself; a child knows what its parent did.
 *
 * Errors: TAO_ENOHOST, TAO_EPERM, TAO_ETIMEOUT, TAO_EPROTO, TAO_ENOMEM, and any
 * code that the host answers with, with the host's sentence.
 */
#ifndef TAO_CLIENT_H
#define TAO_CLIENT_H

#include <sys/types.h>

#include "buf.h"

#define TAO_SOCKET_PATH_MAX 107   /* bytes: sun_path */
#define TAO_CALL_TIMEOUT_MS 10000 /* default deadline of one call */
#define TAO_CLIENT_CONNS 64       /* connections of one process, at most */
#define TAO_CLIENT_POSTS 64       /* posted requests of one connection that are not answered yet */
#define TAO_CHALLENGE_LEN 32

/* ---- one connection ---- */

#define TAO_CALL_MAX_FDS 2

struct tao_conn {
	int fd;          /* -1: none */
	dev_t dev;       /* identity of fd */
	ino_t ino;
	uint64_t seq;
	int taken;       /* the last request was read whole by a host that then ended */
	unsigned owed;   /* answers that nobody waits for */
	struct tao_buf in, out;
};

void tao_conn_init(struct tao_conn *c);
enum tao_err tao_conn_open(struct tao_conn *c, const char *path, int timeout_ms);
void tao_conn_close(struct tao_conn *c);
/* Sends body as op, appends the reply's body to reply. send_fd: a descriptor to go along, or -1.
 * fds/n_fds: descriptors that came with the reply (close-on-exec, the caller's), at most
 * TAO_CALL_MAX_FDS; may be NULL. A failure of transport closes the connection; an error reply does
 * not. */
enum tao_err tao_conn_call(struct tao_conn *c, const char *op, const void *body, size_t n,
                           int send_fd, int timeout_ms, struct tao_buf *reply, int *fds,
                           size_t *n_fds);
/* Hello and Prove: makes the connection the calling program's. name (binary principal) may be
 * NULL. */
enum tao_err tao_conn_identify(struct tao_conn *c, int timeout_ms, struct tao_buf *name);

/* ---- a process's pool ---- */

struct tao_client;

/* What a caller can do without the answer, while the host works on the request: fn(arg) is called
 * once, when the request was sent. done: whether it was; it is 1 after a call that succeeded. */
struct tao_meanwhile {
	void (*fn)(void *arg);
	void *arg;
	int done;
};

/* path: the host's socket. The environment (TAO_DOOR) is read here and never
 * again. NULL when out of memory. */
struct tao_client *tao_client_new(const char *path, int timeout_ms);
/* Closes this process's connections. In a forked child: does not disturb the parent. */
void tao_client_free(struct tao_client *cl);
/* As tao_conn_call on an identified connection. A connection that the host
 * closed since its last use (it was restarted) is replaced once, silently,
 * if nothing of a reply had arrived. A request that changes something, and that the old
 * host may have carried out before it ended, is not made twice: TAO_ENOHOST says so.
 * w: NULL if there is nothing to be done meanwhile. */
enum tao_err tao_client_call(struct tao_client *cl, const char *op, const void *body, size_t n,
                             struct tao_meanwhile *w, struct tao_buf *reply);
/* The same for what needs no answer: does not wait for one, so whether the host carried it out is
 * not known. Every TAO_CLIENT_POSTS of them it does wait. */
enum tao_err tao_client_post(struct tao_client *cl, const char *op, const void *body, size_t n);
/*
 * For a program that has read a key, and may be about to give up its rights or root directory: if
 * its door is gone (it closed it, it executed itself anew, the host ended since), asks the
 * host for another by way of the socket path. Where there is one, that costs two system calls.
 * Where the host does not know the process, or does not answer within a second,
 * it stays without; it is not asked again within a second. Leaves tao_why() as it likes.
 */
void tao_client_keep_door(struct tao_client *cl);
/* 1 if the process has a door: it was started by tao run. */
int tao_client_has_door(const struct tao_client *cl);
/* The socket path, for sentences. */
const char *tao_client_path(const struct tao_client *cl);

#endif
