/*
 * TAP for C unit tests: one program, one plan printed at the end.
 *
 *   int main(void) { ok(1 + 1 == 2, "sums"); ok_err(f(), TAO_EFORMAT, "refuses"); return done(); }
 *
 * The mutable counters are the test program's own.
 */
#ifndef TEST_TAP_H
#define TEST_TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../tao/err.h"

static int tap_run, tap_failed;

__attribute__((format(printf, 2, 3), unused)) static int ok(int pass, const char *fmt, ...)
{
	va_list ap;

	tap_run++;
	if (!pass)
		tap_failed++;
	printf("%sok %d - ", pass ? "" : "not ", tap_run);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return pass;
}

/* The call returned this code; if not, the sentence it left is shown. */
__attribute__((format(printf, 3, 4), unused)) static int ok_err(enum tao_err got,
                                                               enum tao_err want,
                                                               const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (ok(got == want, "%s", text))
		return 1;
	printf("# got %d, wanted %d: %s\n", (int)got, (int)want, tao_why());
	return 0;
}

__attribute__((format(printf, 3, 4), unused)) static int ok_str(const char *got, const char *want,
                                                               const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (ok(got != NULL && strcmp(got, want) == 0, "%s", text))
		return 1;
	printf("#  got: %s\n# want: %s\n", got != NULL ? got : "(null)", want);
	return 0;
}

__attribute__((unused)) static void skip(const char *what, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_run, what, why);
}

static int done(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed != 0;
}

#endif
