#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

/* Per thread, as errno is: two threads of an application may fail at once. */
static __thread char why[TAO_WHY_MAX];

static const char *const texts[TAO_ERR_COUNT] = {
	[TAO_OK] = "no error",
	[TAO_ENOMEM] = "out of memory",
	[TAO_EINVAL] = "an argument or setting is wrong: see the message beside this one",
	[TAO_EFORMAT] = "malformed Tao data: the file is damaged or truncated, "
			"write it again with 'tao key pem'",
	[TAO_ELIMIT] = "a size limit of the Tao was exceeded",
	[TAO_ECRYPTO] = "libcrypto failed inside the Tao",
	[TAO_ESYS] = "a system call failed: see the message beside this one",
	[TAO_ENOTFOUND] = "no such Tao key: 'tao key list' shows the keys of this user",
	[TAO_EEXIST] = "it exists already",
	[TAO_EDENIED] = "policy refuses it: the domain's owner can allow it with 'tao trust'",
	[TAO_EPASS] = "wrong passphrase",
	[TAO_ENOHOST] = "the Tao host is not running: start it with 'tao up'",
	[TAO_EPERM] = "this user may not use the Tao host's socket",
	[TAO_ETIMEOUT] = "the Tao host did not answer in time: see 'tao status'",
	[TAO_EPROTO] =
	    "the Tao host broke the protocol: check that taod and tao.so are of one version",
	[TAO_ENOTRUN] =
	    "not started with 'tao run', so it has no Tao keys: start it as 'tao run PROGRAM ARGS'",
	[TAO_EOTHERHOST] =
	    "the key was sealed by another Tao host: make one here with 'tao key new'",
	[TAO_EALTERED] = "the sealed key was altered: write the stub again with 'tao key pem'",
	[TAO_EWRONGPROG] = "the key is sealed for another program or user: "
			   "make one for this program with 'tao key new NAME --for PROGRAM'",
	[TAO_EEXPIRED] = "expired: start the program again with 'tao run' for a new certificate",
	[TAO_EVERSION] = "written by a newer version of the Tao: upgrade this one",
	[TAO_ESIGNATURE] = "a signature does not verify",
	[TAO_EBUSY] = "the Tao host is busy or in use: try again",
	[TAO_EUNKNOWNKEY] = "the Tao host does not have this key open",
	[TAO_EPURPOSE] =
	    "the key's purpose does not allow this use: make another with 'tao key new --purpose'",
};

static void keep(const char *fmt, va_list ap)
{
	char fresh[TAO_WHY_MAX]; /* the arguments may quote why itself */

	if (vsnprintf(fresh, sizeof fresh, fmt, ap) < 0)
		fresh[0] = 0;
	strcpy(why, fresh);
}

enum tao_err tao_fail(enum tao_err e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	keep(fmt, ap);
	va_end(ap);
	return e;
}

static const char *plain(int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
		return "the disk is full: free some space and try again";
	case EROFS:
		return "Read-only file system: mount it writable, if it is not damaged, and try again";
	default:
		return strerror(err);
	}
}

static void append(const char *reason)
{
	size_t n = strlen(why);

	snprintf(why + n, sizeof why - n, ": %s", reason);
}

enum tao_err tao_fail_sys(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	keep(fmt, ap);
	va_end(ap);
	append(plain(saved));
	errno = saved;
	return saved == ENOMEM ? TAO_ENOMEM : TAO_ESYS;
}

enum tao_err tao_fail_crypto(const char *fmt, ...)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	va_list ap;

	va_start(ap, fmt);
	keep(fmt, ap);
	va_end(ap);
	append(reason != NULL ? reason : "libcrypto gave no reason");
	ERR_clear_error();
	return TAO_ECRYPTO;
}

const char *tao_why(void)
{
	return why;
}

const char *tao_err_text(int e)
{
	if (e < 0 || e >= TAO_ERR_COUNT || texts[e] == NULL)
		return "unknown error of a newer Tao host";
	return texts[e];
}
