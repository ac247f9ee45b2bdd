/*
 * What /proc says of a process, for the measurer: measure.h's measure_process()
 * and, here, what only the measurer's own files need. Everything read is
 * bounded, and is a process's own word where it can write it (cmdline, environ).
 *
 * Errors: TAO_ENOTFOUND (gone), TAO_EPERM, TAO_ELIMIT, TAO_ESYS, TAO_ENOMEM.
 */
#ifndef HOST_PROC_H
#define HOST_PROC_H

#include "measure.h"
#include "unit.h"

#define PROC_MAX_CMDLINE (2u << 20) /* bytes: more than the kernel lets through by default */

#define PROC_MAX_STATUS 65536       /* bytes of status: Linux has about 1500 */

/* Appends the file NAME of that process; TAO_ELIMIT when it is longer than max. */
enum tao_err proc_slurp(pid_t pid, const char *name, size_t max, struct tao_buf *out);

/* The same of its environment: NAME=VALUE, each ended by NUL. */
enum tao_err proc_environ(pid_t pid, size_t max, struct tao_buf *out);
/* Its start time, of struct process_view, and nothing else. */
enum tao_err proc_start(pid_t pid, uint64_t *start);
/* Its system unit, "" if it is in none. */
enum tao_err proc_unit(pid_t pid, char unit[UNIT_MAX + 1]);

#endif
