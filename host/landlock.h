/*
 * Landlock (Linux 5.13, landlock(7)) on the keeper: of all files it may open
 * those below its state directory, and make, write and remove them there; and
 *
 *   /dev/null             taod goes into the background: standard input and output
 *   /proc/sys/kernel/random/boot_id, to read: which programs are those of before
 *   the socket's directory, if it is elsewhere: to make the socket and remove it
 *
 * Nothing else, not even to read, and nothing to execute: configuration, the
 * measurer and the socket's address are there before. glibc looks for
 * /etc/localtime and /proc/sys/vm/overcommit_memory and does without. From ABI 4 on
 * no TCP port, from ABI 6 on no abstract Unix socket of processes outside. What is open
 * stays open (log, lock, socket); rights to descriptors that programs pass along
 * are those of their openers.
 *
 * Uses the system calls themselves, with the newest of the interfaces (ABI)
 * that the kernel and this file know. The measurer is not restricted:
 * Landlock hides /proc/PID/exe of processes outside from those inside.
 */
#ifndef HOST_LANDLOCK_H
#define HOST_LANDLOCK_H

/* Restricts the calling thread and those it makes from here on; PR_SET_NO_NEW_PRIVS must be set.
 * socket: its path. Returns the ABI that is in force; 0 if it is not, with the reason in
 * tao_why(). */
int landlock_keeper(const char *dir, const char *socket);

#endif
