/*
 * Functions of libcrypto that tao.so looks up when it first calls one of them, all at once, so that
 * programs that load it and never use it do not pay for it: looking up two hundred names was a third of
 * what loading cost, and `-z lazy` does not help, since OpenSSL loads its modules with RTLD_NOW.
 *
 * No source names them. The module is linked twice: what the first result wants of libcrypto, but for
 * MODULE_EARLY of the Makefile (what loading itself calls), is in gen/late.h, and with `--wrap` the
 * second one calls a stub of late.c in the place of each. The stubs' table is filled with what the dynamic
 * linker would have bound at load, found in the same order, and is in the part of the file
 * that is read-only but while it is filled. x86-64 only; elsewhere, and with a sanitizer, every function is
 * bound at load, and both functions here return 1.
 */
#ifndef PROVIDER_LATE_H
#define PROVIDER_LATE_H

/* At load. 0: this libcrypto is older than the one that it was built with, and lacks a function. After it
 * nothing that the others do fails for want of one. */
int late_complete(void);

/* Looks them up, the first time. To be called where the module begins to be of use, so that this happens there
 * and not somewhere in a forked or confined process; a stub that is called earlier does it, too. 0: one is
 * missing, or the kernel does not let the table be written. Any thread may call it, also after a fork. */
int late_find(void);

#endif
