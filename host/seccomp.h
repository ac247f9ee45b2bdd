/*
 * Which system calls taod's two processes may make: allow-lists, in tables of
 * host/seccomp.c that say for each what needs it.
 *
 * A call that is not on the list ends the process at once (SIGSYS, the whole
 * process): an error code would leave an intruder time to try others, and a
 * handler that wrote to the log would run in what he holds already. So the log
 * has no line about it. The kernel's audit has: "type=1326 ... comm="taod" ...
 * sig=31 syscall=N" in journalctl -k or ausearch -m SECCOMP, and
 * scmp_sys_resolver N names the call. An error code is given where a library
 * asks for something it can do without: memory that is executable (dlopen), and
 * clone3, so that glibc makes threads with clone, whose flags can be looked at.
 *
 * Names are resolved by libseccomp; what it or the architecture does not know is
 * left out, and lists name the old and the new way of a call (open, openat):
 * what Debian's glibc 2.36 and 2.41 use on x86-64 and arm64. The kernel checks calls
 * without conditions on their arguments against a bitmap (5.11): requests pay nothing
 * for the filter.
 *
 * A build with sanitizers has no filter: their runtime forks, traces and executes.
 *
 * Both return 1 when the filter is on for all threads and for those made later,
 * 0 with the reason in tao_why(). PR_SET_NO_NEW_PRIVS must be set.
 */
#ifndef HOST_SECCOMP_H
#define HOST_SECCOMP_H

int seccomp_keeper(void);
int seccomp_measurer(void);

#endif
