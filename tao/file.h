/*
 * Files: read whole within a limit, written so that a reader or a power cut
 * sees the old contents or the new, never a part.
 *
 * Errors: TAO_ENOTFOUND (no such file), TAO_EPERM (not permitted), TAO_ELIMIT, TAO_EEXIST,
 * TAO_ESYS with the path and the reason.
 */
#ifndef TAO_FILE_H
#define TAO_FILE_H

#include <sys/types.h>
#include <time.h>

#include "buf.h"

/* Appends the file to out. */
enum tao_err tao_file_read(const char *path, size_t max, struct tao_buf *out);
/* From an open descriptor, to its end. what names it in sentences. */
enum tao_err tao_fd_read(int fd, const char *what, size_t max, struct tao_buf *out);

#define TAO_FILE_NEW 1      /* TAO_EEXIST if the path exists */
#define TAO_FILE_VOLATILE 2 /* no fsync: it need not survive the machine, only its writer */
#define TAO_FILE_KEEP 4     /* a file that has these bytes and this mode is left as it is */
/* write to a temporary beside it, fsync, rename, fsync of the directory. */
enum tao_err tao_file_write(const char *path, const void *p, size_t n, mode_t mode, int flags);

/* Files that change together: each is written to a temporary beside its path and flushed, which may
 * take its time and fail with nothing changed; then all are renamed in the order of the list, with
 * nothing in between, and their directories flushed. mtime: NULL, or what the file says it was
 * changed. When one cannot be renamed, those before it are in place and those after it are not.
 * tao_file_free(), NULL-safe, removes the temporary of one that is not in place. */
struct tao_file;
enum tao_err tao_file_prepare(const char *path, const void *p, size_t n, mode_t mode,
                              const struct timespec *mtime, struct tao_file **out);
enum tao_err tao_files_place(struct tao_file *const *files, size_t n);
void tao_file_free(struct tao_file *f);

/* Removes the temporaries that writers who were killed left there and in the directories below,
 * symbolic links not followed. Only while nobody writes there. Returns how many; what cannot be
 * read or removed stays. */
unsigned tao_dir_sweep(const char *path);

/* Waits for, and takes, the lock of those who read a file, change it and write it back: the file
 * PATH.lock beside it, which is made, belongs to whoever comes first, and stays. close(*fd) gives
 * it back, and so does the end of the process. Readers need none: see tao_file_write(). */
enum tao_err tao_file_lock(const char *path, int *fd);

/* Removes the file, with fsync of the directory; fine if there is none. */
enum tao_err tao_file_remove(const char *path);

/* Makes the directory (parents must exist); fine if it exists already. */
enum tao_err tao_dir_make(const char *path, mode_t mode);

/* A passphrase: the first line of a file or descriptor, without its newline;
 * 1 to 1023 bytes, else TAO_EINVAL. */
enum tao_err tao_passphrase_file(const char *path, struct tao_buf *out);
enum tao_err tao_passphrase_fd(int fd, struct tao_buf *out);

#endif
