/*
 * Measuring: what a program is, as hashes.
 *
 * A measurement is made from an open descriptor of the executable (the
 * caller's own right to open it is thereby used, not the host's), and names
 *
 *   Measured([exe], [manifest], uid)
 *
 * exe is the SHA-256 of the file; manifest is the SHA-256 of this text, UTF-8,
 * one item a line, each line ended by '\n', in this order:
 *
 *   tao manifest 1
 *   interpreter HEX PATH            ELF PT_INTERP; absent when static
 *   library HEX PATH                every needed library of executable and modules, closure,
 *                                   once each, sorted by PATH bytewise
 *   module HEX PATH                 provider modules that the host's openssl.cnf loads, sorted
 *   script HEX PATH                 #! file; exe is then its interpreter
 *   config HEX PATH                 openssl.cnf, then --config files, in the order given
 *   arg TEXT                        each argument, program name first
 *   env NAME=VALUE                  each --env, sorted bytewise
 *
 * HEX: lower-case SHA-256 of the file. PATH and TEXT: bytes below 0x21, 0x7f and '%' are
 * written %xx. PATH is the file's own path, symbolic links resolved. A static program has no
 * libraries of its own, but its modules are listed with theirs. With several #! files, each
 * being the interpreter of the one before, the outermost comes first. A configuration file is
 * measured, files that it includes are not.
 *
 * What is measured is what runs: a file that root owns and nobody else may
 * write, in directories for which the same holds, is executed in place, and
 * recognised afterwards by device, inode, size and time of change of /proc/PID/exe. Anything else
 * is copied into a sealed memfd and executed from there; such a path inside the manifest
 * (interpreter, library, config, script) is refused. On a development host (an ordinary user's)
 * files that only that user can write count as stable as well.
 *
 * Errors: TAO_EFORMAT (not an ELF file of this machine, nor a #! script), TAO_ENOTFOUND (a
 * library is missing), TAO_EDENIED (someone else could change a file; says
 * which and whose; also: a set-user-ID program, a program on a FUSE file system, LD_* or
 * GLIBC_TUNABLES in env), TAO_EPERM (the descriptor is not for reading, so O_PATH is not enough:
 * what its user cannot read is not measured), TAO_EINVAL, TAO_ELIMIT, TAO_ESYS, TAO_ENOMEM.
 *
 * stable.h says what exactly is stable, libs.h how libraries are found.
 */
#ifndef HOST_MEASURE_H
#define HOST_MEASURE_H

#include <sys/stat.h>
#include <sys/types.h>

#include "../tao/buf.h"
#include "../tao/key.h"

#define MEASURE_MAX_FILE (2ull << 30)  /* bytes of one measured file */
#define MEASURE_MAX_LIBS 512           /* libraries in one closure */
#define MEASURE_MAX_ITEMS 1024         /* arguments, settings, configuration files */
#define MEASURE_MAX_MANIFEST (4u << 20)

/* Identity of a file, cheap to compare: enough to know it again while root is trusted. */
struct file_id {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};
void file_id_of(const struct stat *st, struct file_id *id);
/* Of an executable, to know it again in /proc/PID/exe: without ctime if only root can write it. A
 * package's upgrade links and unlinks the file that still runs, which changes no byte of it. */
void file_id_of_exe(const struct stat *st, struct file_id *id);
int file_id_equal(const struct file_id *a, const struct file_id *b);

struct measure_request {
	const char *path;      /* absolute, as the caller named it */
	int fd;                /* the executable, O_RDONLY */
	uid_t uid;             /* whose program it will be */
	uid_t dev_uid;         /* the host's own user, trusted as root is; 0: root alone */
	char **args;           /* NULL-terminated; args[0] is the program name */
	char **env;            /* NULL-terminated, NAME=VALUE; may be NULL */
	char **config;         /* NULL-terminated paths, openssl.cnf first; may be NULL */
	char **modules;        /* NULL-terminated paths of provider modules; may be NULL */
	int program_only;      /* no manifest: --measure=program */
};

struct measurement {
	uint8_t exe[TAO_HASH_LEN];
	uint8_t manifest[TAO_HASH_LEN]; /* zeros with program_only */
	struct tao_buf text;            /* the manifest's text */
	struct file_id id;              /* of what will be /proc/PID/exe (memfd copy: the copy's) */
	int is_static;                  /* no ELF interpreter */
	int is_script;                  /* exe is the interpreter of a #! file */
	int is_interpreter;             /* exe runs scripts by its nature: came through #!, or has a
	                                 * known base name (python3.11, perl, sh, env ...). A hint:
	                                 * a copy under another name is not told. */
	int copy_fd;                    /* sealed memfd to execute instead, or -1 */
};

enum tao_err measure_program(const struct measure_request *rq, struct measurement *m);
void measurement_clear(struct measurement *m); /* closes copy_fd */

/* SHA-256 of an open file, cached by identity (bounded; any thread). c may be NULL. Cached are
 * only files whose change would show: filehash.h says which. */
struct measure_cache;
struct measure_cache *measure_cache_new(void);
void measure_cache_free(struct measure_cache *c);
enum tao_err measure_file(struct measure_cache *c, int fd, const char *path,
                          uint8_t hash[TAO_HASH_LEN]);

/*
 * The process as the kernel shows it now. exec comes from where the kernel put
 * code, stack and data into the new address space (proc_pid_stat(5), fields 26, 28 and
 * 45): drawn anew at each exec, the same in forks. A process can change what
 * is shown there of itself (prctl PR_SET_MM_MAP), so this is no defence against
 * code that runs in it already; and where address space layout is not
 * randomised (setarch -R), two starts with the same arguments are one.
 */
struct process_view {
	struct file_id exe;
	uid_t uid;             /* real */
	pid_t pid, ppid;
	uint64_t start;        /* start time, clock ticks since boot */
	uint64_t exec;         /* tells one exec from another, forks share it; 0: not known (yet) */
};
/* TAO_ENOTFOUND: gone, or without an executable (ended, a kernel thread). TAO_EPERM: another
 * user's, and this process has no CAP_SYS_PTRACE. */
enum tao_err measure_process(pid_t pid, struct process_view *v);
/* The same of a process whose arguments, each ended by NUL, end in these n bytes; else
 * TAO_EDENIED. */
enum tao_err measure_started(pid_t pid, const void *args, size_t n, struct process_view *v);

#endif
