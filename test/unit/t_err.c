/* tao/err.h: sentences of a thread, their limits, and the table of codes. */
#include "tao/err.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "tap.h"

static void sentences(void)
{
	ok_str(tao_why(), "", "no sentence before the first failure");
	ok_err(tao_fail(TAO_EINVAL, "%s: %d is wrong", "port", 7), TAO_EINVAL,
	       "the code comes back");
	ok_str(tao_why(), "port: 7 is wrong", "the sentence is kept");
	tao_fail(TAO_EFORMAT, "key web: %s (%s)", tao_why(), tao_why());
	ok_str(tao_why(), "key web: port: 7 is wrong (port: 7 is wrong)",
	       "a sentence may quote itself");
	tao_fail_nomem();
	ok_str(tao_why(), "out of memory", "a shorter sentence replaces a longer one");
	tao_fail(TAO_EINVAL, "%s", "");
	ok_str(tao_why(), "", "an empty sentence is empty");
}

/* What cannot be kept is cut off; what follows in memory is not touched. */
static void truncation(void)
{
	static char longer[3 * TAO_WHY_MAX];

	memset(longer, 'x', sizeof longer - 1);
	ok_err(tao_fail(TAO_ELIMIT, "a%s", longer), TAO_ELIMIT, "a long sentence keeps its code");
	ok(strlen(tao_why()) == TAO_WHY_MAX - 1 && tao_why()[0] == 'a', "and is cut to %d bytes",
	   TAO_WHY_MAX - 1);
	tao_fail(TAO_ELIMIT, "%s%s%s", tao_why(), tao_why(), tao_why());
	ok(strlen(tao_why()) == TAO_WHY_MAX - 1, "quoting a full sentence stays within the limit");
	errno = ENOENT;
	tao_fail_sys("%s", longer);
	ok(strlen(tao_why()) == TAO_WHY_MAX - 1, "a reason behind a full sentence stays within it");
	longer[TAO_WHY_MAX - 5] = 0;
	errno = ENOENT;
	tao_fail_sys("%s", longer);
	ok_str(tao_why() + TAO_WHY_MAX - 5, ": No", "a reason is cut in its middle");
}

static void system_errors(void)
{
	static const struct {
		int err;
		enum tao_err code;
		const char *text;
	} cases[] = {
		{ ENOENT, TAO_ESYS, "open x: No such file or directory" },
		{ ENOSPC, TAO_ESYS, "open x: the disk is full: free some space and try again" },
		{ EDQUOT, TAO_ESYS, "open x: the disk is full: free some space and try again" },
		{ ENOMEM, TAO_ENOMEM, "open x: Cannot allocate memory" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		errno = cases[i].err;
		ok_err(tao_fail_sys("open %s", "x"), cases[i].code, "code for errno %d",
		       cases[i].err);
		ok(errno == cases[i].err, "errno stays");
		ok_str(tao_why(), cases[i].text, "sentence for errno %d", cases[i].err);
	}
	tao_fail(TAO_EINVAL, "inner");
	errno = EACCES;
	tao_fail_sys("outer, after '%s'", tao_why());
	ok_str(tao_why(), "outer, after 'inner': Permission denied", "a system error may quote");
}

static void crypto_errors(void)
{
	ERR_clear_error();
	ok_err(tao_fail_crypto("signing with %s", "web"), TAO_ECRYPTO, "no error of libcrypto's");
	ok_str(tao_why(), "signing with web: libcrypto gave no reason", "says so");
	ERR_raise(ERR_LIB_EVP, EVP_R_BAD_DECRYPT);
	ERR_raise(ERR_LIB_EVP, EVP_R_DIFFERENT_KEY_TYPES);
	ok_err(tao_fail_crypto("comparing"), TAO_ECRYPTO, "errors of libcrypto's");
	ok_str(tao_why(), "comparing: different key types", "the newest is told");
	ok(ERR_peek_error() == 0, "and the queue is empty");
}

static void *in_thread(void *arg)
{
	char *first = arg;

	snprintf(first, TAO_WHY_MAX, "%s", tao_why());
	tao_fail(TAO_EBUSY, "the thread's own");
	return NULL;
}

static void threads(void)
{
	char first[TAO_WHY_MAX] = "unset";
	pthread_t t;

	tao_fail(TAO_EINVAL, "the main thread's");
	if (pthread_create(&t, NULL, in_thread, first) != 0)
		exit(1);
	pthread_join(t, NULL);
	ok_str(first, "", "a new thread has no sentence");
	ok_str(tao_why(), "the main thread's", "another thread's failure does not change ours");
}

static void table(void)
{
	const char *unknown = tao_err_text(TAO_ERR_COUNT);
	int all = 1, differ = 1, one_line = 1;

	for (int i = 0; i < TAO_ERR_COUNT; i++) {
		const char *text = tao_err_text(i);

		all &= text != NULL && text[0] != 0 && strcmp(text, unknown) != 0;
		one_line &= strchr(text, '\n') == NULL && text[strlen(text) - 1] != '.';
		for (int j = 0; j < i; j++)
			differ &= strcmp(text, tao_err_text(j)) != 0;
	}
	ok(all, "every code has a sentence");
	ok(differ, "no two codes have the same");
	ok(one_line, "without newline or full stop");
	ok_str(tao_err_text(-1), unknown, "a negative code has one");
	ok_str(tao_err_text(INT32_MIN), unknown, "the least code has one");
	ok_str(tao_err_text(INT32_MAX), unknown, "the greatest code has one");
}

/* The numbers go over the wire. */
static void numbers(void)
{
	ok(TAO_OK == 0 && TAO_EFORMAT == 3 && TAO_ENOHOST == 11 && TAO_ENOTRUN == 15 &&
	       TAO_EVERSION == 20 && TAO_EPURPOSE == 24,
	   "codes keep their numbers");
}

int main(void)
{
	sentences();
	truncation();
	system_errors();
	crypto_errors();
	threads();
	table();
	numbers();
	return done();
}
