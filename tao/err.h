/*
 * Errors: one idiom for the whole project.
 *
 * A function that can fail returns enum tao_err; 0 is success. At the point
 * of failure it calls tao_fail(), which keeps a sentence for the user in a
 * buffer of the calling thread (as errno is the thread's) and returns the
 * code. Callers hand the code upward; the program's outermost layer prints
 * tao_why(). A caller that knows more may call tao_fail() again and quote
 * the earlier sentence with tao_why() as an argument.
 *
 * Sentences are English, without a trailing newline, name the thing (file,
 * key, socket) and end with what to do about it. They never hold a secret.
 */
#ifndef TAO_ERR_H
#define TAO_ERR_H

/* Numbers go over the wire (ProtoRPCResponseHeader.code): only append. */
enum tao_err {
	TAO_OK = 0,
	TAO_ENOMEM = 1,       /* out of memory */
	TAO_EINVAL = 2,       /* an argument, option or configuration value is wrong */
	TAO_EFORMAT = 3,      /* bytes or text are malformed */
	TAO_ELIMIT = 4,       /* a named limit was exceeded */
	TAO_ECRYPTO = 5,      /* libcrypto failed for no reason of the caller's */
	TAO_ESYS = 6,         /* a system call failed */
	TAO_ENOTFOUND = 7,    /* no such key, file or program */
	TAO_EEXIST = 8,       /* it is there already */
	TAO_EDENIED = 9,      /* policy says no */
	TAO_EPASS = 10,       /* wrong passphrase */
	TAO_ENOHOST = 11,     /* no Tao host answers on the socket */
	TAO_EPERM = 12,       /* the caller's user may not do this */
	TAO_ETIMEOUT = 13,    /* the host did not answer in time */
	TAO_EPROTO = 14,      /* the other side broke the protocol */
	TAO_ENOTRUN = 15,     /* the process was not started with tao run */
	TAO_EOTHERHOST = 16,  /* sealed by another host */
	TAO_EALTERED = 17,    /* a sealed blob or its stub was altered */
	TAO_EWRONGPROG = 18,  /* sealed for another program or user */
	TAO_EEXPIRED = 19,    /* not valid at this time */
	TAO_EVERSION = 20,    /* written by a newer version */
	TAO_ESIGNATURE = 21,  /* a signature does not verify */
	TAO_EBUSY = 22,       /* in use by another, or too many at once */
	TAO_EUNKNOWNKEY = 23, /* the host does not have this key open: open it first */
	TAO_EPURPOSE = 24,    /* the key's purpose does not allow this use */
	TAO_ERR_COUNT
};

#define TAO_WHY_MAX 1024 /* bytes of a sentence, with its NUL */

/* Keeps the sentence (printf-style; may quote tao_why()) and returns e. */
enum tao_err tao_fail(enum tao_err e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), cold));

/* As tao_fail(TAO_ESYS, ...) with ": strerror(errno)" put after it; ENOSPC and
 * EDQUOT, ENOMEM are told in plain words. Reads errno on entry. */
enum tao_err tao_fail_sys(const char *fmt, ...) __attribute__((format(printf, 1, 2), cold));

/* As tao_fail(TAO_ECRYPTO, ...) with libcrypto's newest error put after it;
 * empties the thread's OpenSSL error queue. */
enum tao_err tao_fail_crypto(const char *fmt, ...) __attribute__((format(printf, 1, 2), cold));

#define tao_fail_nomem() tao_fail(TAO_ENOMEM, "out of memory")

/* The calling thread's last sentence; "" if there was none. Never NULL. */
const char *tao_why(void);

/* A fixed sentence for the code, with what to do: for places that can only
 * show static text (OpenSSL reason strings). Never NULL, any int. */
const char *tao_err_text(int e);

#endif
