/*
 * Stable files: those that nobody but root can change, by any name on the way
 * to them. What is measured at a stable path is what will be found there later.
 *
 * A path is walked from the root directory one name at a time, symbolic links
 * resolved here and not by the kernel, so that every directory that has a say
 * is seen:
 *
 *   - a directory must belong to root and not be writable by group or others.
 *     One that is writable but has the sticky bit (/tmp) counts when the entry
 *     followed in it belongs to root, since then nobody else can rename or
 *     remove that entry;
 *   - the file itself must be a regular file of root's, not writable by group
 *     or others (an access control list shows in the group's bits);
 *   - no part may lie on a file system that someone other than this kernel
 *     serves (FUSE and so virtiofs, NFS, SMB, 9P, AFS, Ceph, Coda), nor on
 *     /proc, whose names mean something else in each process.
 *
 * dev_uid: the user of a development host; what belongs to that user counts as
 * root's. 0: none. Its groups get no trust.
 *
 * A name that does not exist is "stably absent" (TAO_ENOTFOUND) when nobody
 * else could create it. All errors: TAO_EDENIED (someone else could change it:
 * says what, whose, and how to mend it), TAO_ENOTFOUND, TAO_EPERM (this process
 * may not look there or read it), TAO_EINVAL (not absolute), TAO_ELIMIT, TAO_ESYS,
 * TAO_ENOMEM. Any thread.
 */
#ifndef HOST_STABLE_H
#define HOST_STABLE_H

#include <sys/stat.h>
#include <sys/types.h>

#include "../tao/err.h"

struct stable_file {
	int fd;         /* open for reading, close-on-exec; -1 if none */
	char *real;     /* the path without symbolic links */
	struct stat st;
};
#define STABLE_FILE_INIT { .fd = -1 }

/* Opens a stable regular file. */
enum tao_err stable_open(const char *path, uid_t dev_uid, struct stable_file *f);
void stable_close(struct stable_file *f); /* NULL-safe; usable again afterwards */

/* TAO_OK: a directory whose entries only root can change. */
enum tao_err stable_dir(const char *path, uid_t dev_uid);

/* The same question about a file that is open already. On TAO_OK *real is its path
 * (malloc'ed). TAO_EDENIED also when no path leads to it any more. */
enum tao_err stable_fd(int fd, uid_t dev_uid, char **real);

/* 1 if the open file's bytes come from somebody other than this kernel. */
int stable_served(int fd);
/* 1 if they come from a process of this machine (FUSE), which may also never answer. */
int stable_fuse(int fd);

#endif
