/*
 * What a registered process executes, seen at the execve() itself: the measurer
 * traces the process from before it executes (PTRACE_SEIZE, which does not stop
 * it) to the moment when the new program is in place and has not executed an
 * instruction (PTRACE_EVENT_EXEC, ptrace(2)). There it reads what
 * measure_process() or measure_started() tell, keeps it, and lets go
 * (PTRACE_DETACH): the program itself is never traced. A look from outside comes
 * at some later time, when the program may have changed its user, its
 * arguments, or executed another. Who can do so as another user is not the
 * instance, so what was not seen in time could only be refused.
 *
 * The keeper asks for it where there is a user to change from: root starts the
 * program. So nobody else's process is ever traced or can take a place here.
 *
 * Nothing of this is needed to run: where it cannot be done, the host looks from
 * outside, as it does at any time afterwards. It is not done
 *
 *   - without CAP_SYS_PTRACE, so on an ordinary user's host: hold_open() says so;
 *   - for a process that is traced already (strace, gdb), or that the kernel does not
 *     let be traced: hold_start() gives TAO_EPERM;
 *   - with HOLD_PLACES traced: TAO_ELIMIT.
 *
 * A process is let go when it has executed something, whatever it is, at its
 * end, HOLD_SECONDS after the start, and with the HOLD_STOPS'th stop. Until then signals
 * reach it as ever, it can be stopped and continued, and its parent sees what it would see.
 * One whose other thread executes something is traced no more, and nothing was seen.
 * When the tracer ends, the kernel lets go of all.
 *
 * One thread traces, since ptrace(2) answers to one only, and it looks at nothing that could
 * keep it waiting. It has SIGCHLD, which must stay blocked in all others.
 */
#ifndef HOST_HOLD_H
#define HOST_HOLD_H

#include "measure.h"

#define HOLD_PLACES 64  /* traced at once, or seen and kept */
#define HOLD_SECONDS 10 /* for execve(), and then to be asked for what was seen */
#define HOLD_STOPS 64   /* by signals, before it is let go */

struct hold_request {
	uint64_t id;      /* by which it is asked for, not used twice */
	pid_t pid;
	uint64_t start;   /* of struct process_view */
	const void *args; /* as for measure_started(); NULL: whatever they are */
	size_t args_n;
};

struct holder;

/* Starts the thread; blocks SIGCHLD in this one, so no other may be there yet. TAO_EPERM: this
 * process has no CAP_SYS_PTRACE. It ends with the process. */
enum tao_err hold_open(struct holder **out);
/* Returns when the process is traced. Several of one process: the last one counts. TAO_ENOTFOUND:
 * another process has the number by now; it is let go again. h may be NULL: TAO_EPERM. */
enum tao_err hold_start(struct holder *h, const struct hold_request *rq);
/* What it executed first, as often as it is asked for, until HOLD_SECONDS later or until the place
 * is needed. TAO_EBUSY: nothing yet. TAO_ENOTFOUND: it was let go before, had other arguments, or
 * is not known. h may be NULL. */
enum tao_err hold_seen(struct holder *h, uint64_t id, struct process_view *v);

#endif
