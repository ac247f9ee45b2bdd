/*
 * What taod takes from its own process before it serves: dumps, swap,
 * capabilities. None of it fails: what the kernel refuses is a warning in the log.
 */
#ifndef HOST_PROCESS_H
#define HOST_PROCESS_H

void process_guard_memory(void);      /* no core dump, no debugger of the same user */
void process_show_memory(void);       /* dumps and debuggers again: only where it cannot be helped */
void process_lock_memory(void);       /* no swap; a child inherits no lock, so in the one that serves */
void process_drop_capabilities(void); /* and no new privileges; all threads made from here on */
void process_raise_files(void);       /* as many descriptors as the hard limit allows */
int process_may_trace(void);          /* has CAP_SYS_PTRACE: the measurer sees other users' processes */

#endif
