/*
 * Measuring a program that runs already: another executable that a process of
 * an instance started, found by the connection it makes.
 *
 * It gets the name that `tao run EXE ARGS` would have given it, as far as can
 * be told afterwards: executable, interpreter, libraries and modules as files
 * that only root can change (stable.h), arguments from /proc/PID/cmdline, the
 * configuration file that its OPENSSL_CONF names, else the host's. Refused
 * (TAO_EDENIED, with the reason) is a process
 *
 *   - whose executable, or any file that it has mapped as code, is not stable;
 *   - that is being traced;
 *   - whose environment says what code is loaded: LD_*, GLIBC_TUNABLES,
 *     OPENSSL_ENGINES, OPENSSL_MODULES other than the host's;
 *   - that is an interpreter and has anything in its environment that tao run
 *     would not have passed: in it are module paths and start-up files.
 *
 * The user in its name is the process's own real one, not that of the instance
 * it was found in: whoever runs as a user can execute a file of his choice
 * with arguments of his choice, and trace what comes of it. What an instance
 * executes after it has given up its rights is therefore not of the user
 * who ran tao run; what connects before it gives them up is.
 *
 * The limit of all this is that same user: he may trace a process before it
 * connects and let go of it again, and a process may overwrite its own
 * arguments, environment and auxiliary vector. The boundary between programs of
 * one machine is the user; against him nothing here helps, nor would anything elsewhere.
 *
 * With hint, only the executable is hashed, stable or not: for Process(...),
 * whose hash is a hint and no more.
 *
 * Errors: TAO_EDENIED; TAO_ENOTFOUND (gone), TAO_EBUSY (executed something else meanwhile), those
 * of measure.h.
 */
#ifndef HOST_RUNNING_H
#define HOST_RUNNING_H

#include "measure.h"

#define RUNNING_MAX_ENV (1u << 20)       /* bytes of its environment */
#define RUNNING_MAX_MAPS (8u << 20)      /* bytes of /proc/PID/maps */
#define RUNNING_MAX_CODE 1024            /* files mapped as code */
#define RUNNING_MAX_HINT (256ull << 20)  /* bytes of an executable hashed for a hint */

struct running_request {
	pid_t pid;
	uint64_t start;           /* as it was seen: another one by now is TAO_EBUSY */
	int hint;
	uid_t dev_uid;            /* as in struct measure_request */
	const char *openssl_conf; /* the host's */
	char **modules;           /* NULL-terminated */
};

/* m needs measurement_clear(), *path, its executable's, free(); both also after a failure. */
enum tao_err measure_running(struct measure_cache *c, const struct running_request *rq,
                             struct measurement *m, char **path);

#endif
