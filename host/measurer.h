/*
 * The measurer: a process of its own that looks at programs and processes for
 * the keeper. It parses hostile files and may look into other users' processes
 * (CAP_SYS_PTRACE); in return it holds no key, and the keeper holds no capability.
 *
 * measurer_start() executes `taod --measurer` with one end of a SOCK_SEQPACKET
 * pair as descriptor 3, /dev/null as 0, 1 and 2, and nothing else open. Any
 * threads of the keeper may ask at the same time; processes are answered at once, at most
 * MEASURER_JOBS programs are measured at a time, more wait. An answer takes at
 * most MEASURER_SECONDS, else TAO_ETIMEOUT, and the child is killed: what
 * hangs it is a file system that does not answer.
 *
 * It is two processes. The one that was started is a small supervisor, which keeps the
 * capability; it forks the child that serves the socket, and when that was killed
 * forks another, RESTART_MS later, and tells the keeper in between: what was not answered yet is
 * then asked once more. The new child has an empty hash cache. To an answer that takes
 * longer than MEASURER_SECONDS the keeper sends the supervisor SIGUSR1, which kills the child.
 *
 * A supervisor that died is started again by the call that finds it dead, once
 * in that call; if that fails, or it dies again, TAO_ESYS with a sentence. taod's keeper may
 * execute nothing once it is restricted: without a supervisor it ends, so that systemd, or who
 * reads its log, starts it again.
 *
 * It ends when the keeper does, by the end of the socket. (PR_SET_PDEATHSIG would end it with
 * the thread that happened to start it.) Nobody else may reap the keeper's children with wait(-1).
 *
 * Wire, integers big-endian, one packet a message:
 *
 *   u32 operation, u32 sequence number, u32 length of the body,
 *   u8 flags: 1 body is in a sealed memfd (the last descriptor), 2 a descriptor comes along
 *   body
 *
 * An answer repeats operation and number; its body is u32 error, sentence, and
 * on success what was asked. Strings are u32 length and bytes. Both sides check every field.
 *
 * Errors: those of measure.h, and TAO_EPROTO, TAO_ETIMEOUT, TAO_ESYS.
 */
#ifndef HOST_MEASURER_H
#define HOST_MEASURER_H

#include "hold.h"
#include "measure.h"
#include "running.h"
#include "unit.h"

#define MEASURER_FD 3
#define MEASURER_JOBS 4     /* programs measured at a time */
#define MEASURER_SECONDS 60 /* for one answer */

struct measurer;

/* Returns when the measurer has answered once. dev_uid: as in struct measure_request, for all
 * requests; 0 or less: none. */
enum tao_err measurer_start(const char *taod_path, int dev_uid, struct measurer **out);
void measurer_stop(struct measurer *m); /* NULL-safe; no call may be under way */

/* As measure_program(), but dev_uid is the one given at the start. out needs measurement_clear()
 * also after a failure. */
enum tao_err measurer_program(struct measurer *m, const struct measure_request *rq,
                              struct measurement *out);
/* As measure_running(), dev_uid as above. */
enum tao_err measurer_running(struct measurer *m, const struct running_request *rq,
                              struct measurement *out, char **path);
enum tao_err measurer_process(struct measurer *m, pid_t pid, struct process_view *v);
/* Both that and the system unit, "" if it is in none, with one question. */
enum tao_err measurer_caller(struct measurer *m, pid_t pid, struct process_view *v,
                             char unit[UNIT_MAX + 1]);
/* Its system unit; "" if it is in none, or the measurer cannot be asked. */
void measurer_unit(struct measurer *m, pid_t pid, char unit[UNIT_MAX + 1]);
/* As measure_started(); n > 0. */
enum tao_err measurer_started(struct measurer *m, pid_t pid, const void *args, size_t n,
                              struct process_view *v);

/* As hold_start() and hold_seen(). A child that was started again knows of none: TAO_ENOTFOUND. */
enum tao_err measurer_hold(struct measurer *m, const struct hold_request *rq);
enum tao_err measurer_seen(struct measurer *m, uint64_t id, struct process_view *v);

/* The supervisor now running, for tests and status; -1 if there is none. */
pid_t measurer_pid(struct measurer *m);
/* From here on no supervisor is started again: lost() is called once, by the call that finds it
 * dead, with a lock held. For a keeper that is restricted, which can start none. */
void measurer_is_last(struct measurer *m, void (*lost)(void *arg), void *arg);

/* The supervisor, until the keeper closes its end of fd. Returns the exit status. */
int measurer_main(int fd);

#endif
