/*
 * What taod takes from its own process before it serves: dumps, swap,
 * capabilities; what else it gives up is in seccomp.h and landlock.h. None of it fails: what the
 * kernel refuses is a warning in the log.
 */
#ifndef HOST_PROCESS_H
#define HOST_PROCESS_H

/* What is on, for tao status. */
struct process_guards {
	int seccomp;      /* the keeper's filter of system calls (seccomp.h) */
	int landlock;     /* ABI in force (landlock.h); 0: none */
	int memory;       /* locked */
	int capabilities; /* dropped */
};

void process_guard_memory(void);     /* no core dump, no debugger of the same user */
void process_show_memory(void);      /* dumps and debuggers again: only where it cannot be helped */
/* These return 1 if it is done. */
/* no swap; a child inherits no lock, so in the one that serves */
int process_lock_memory(void);
int process_drop_capabilities(void); /* and no new privileges; all threads made from here on */
void process_raise_files(void);       /* as many descriptors as the hard limit allows */
/* has CAP_SYS_PTRACE: the measurer sees other users' processes */
int process_may_trace(void);

#endif
