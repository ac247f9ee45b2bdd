#include "late.h"

#ifndef TAO_LATE

int late_complete(void)
{
	return 1;
}

int late_find(void)
{
	return 1;
}

#else

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define VERSION(major, minor) ((major) * 1000 + (minor))

enum {
#define LATE(i, name) NUMBER_##name,
#include "gen/late.h"
#undef LATE
	COUNT
};

/* One after the other: pointers to them would have to be relocated. */
static const char names[] =
#define LATE(i, name) #name "\0"
#include "gen/late.h"
#undef LATE
	"";

/* What the assembler refers to. */
#define FOR_STUBS __attribute__((visibility("hidden"), used))

/* NULL: not looked up yet. */
FOR_STUBS __attribute__((section(".data.rel.ro.late"))) void *late_table[COUNT + 1];

FOR_STUBS void late_first(void);

/* A stub goes on to its function. In an empty table, all are looked up first, with the arguments kept: six
 * in registers, eight in vector registers and their count, and where the table has this one. */
__asm__(".text\n"
        ".type late_stub_first, @function\n"
        "late_stub_first:\n"
        "	.cfi_startproc\n"
        "	subq $200, %rsp\n"
        "	.cfi_adjust_cfa_offset 200\n"
        "	movaps %xmm0, (%rsp)\n"
        "	movaps %xmm1, 16(%rsp)\n"
        "	movaps %xmm2, 32(%rsp)\n"
        "	movaps %xmm3, 48(%rsp)\n"
        "	movaps %xmm4, 64(%rsp)\n"
        "	movaps %xmm5, 80(%rsp)\n"
        "	movaps %xmm6, 96(%rsp)\n"
        "	movaps %xmm7, 112(%rsp)\n"
        "	movq %rax, 128(%rsp)\n"
        "	movq %rdi, 136(%rsp)\n"
        "	movq %rsi, 144(%rsp)\n"
        "	movq %rdx, 152(%rsp)\n"
        "	movq %rcx, 160(%rsp)\n"
        "	movq %r8, 168(%rsp)\n"
        "	movq %r9, 176(%rsp)\n"
        "	movq %r11, 184(%rsp)\n"
        "	call late_first\n"
        "	movaps (%rsp), %xmm0\n"
        "	movaps 16(%rsp), %xmm1\n"
        "	movaps 32(%rsp), %xmm2\n"
        "	movaps 48(%rsp), %xmm3\n"
        "	movaps 64(%rsp), %xmm4\n"
        "	movaps 80(%rsp), %xmm5\n"
        "	movaps 96(%rsp), %xmm6\n"
        "	movaps 112(%rsp), %xmm7\n"
        "	movq 128(%rsp), %rax\n"
        "	movq 136(%rsp), %rdi\n"
        "	movq 144(%rsp), %rsi\n"
        "	movq 152(%rsp), %rdx\n"
        "	movq 160(%rsp), %rcx\n"
        "	movq 168(%rsp), %r8\n"
        "	movq 176(%rsp), %r9\n"
        "	movq 184(%rsp), %r11\n"
        "	addq $200, %rsp\n"
        "	.cfi_adjust_cfa_offset -200\n"
        "	jmp *(%r11)\n"
        "	.cfi_endproc\n"
        ".size late_stub_first, . - late_stub_first\n");

#define LATE(i, name) \
	__asm__(".globl __wrap_" #name "\n" \
	        ".hidden __wrap_" #name "\n" \
	        ".type __wrap_" #name ", @function\n" \
	        "__wrap_" #name ":\n" \
	        "	.cfi_startproc\n" \
	        "	endbr64\n" \
	        "	leaq late_table + 8 * " #i "(%rip), %r11\n" \
	        "	cmpq $0, (%r11)\n" \
	        "	je late_stub_first\n" \
	        "	jmp *(%r11)\n" \
	        "	.cfi_endproc\n" \
	        ".size __wrap_" #name ", . - __wrap_" #name "\n");
#include "gen/late.h"
#undef LATE

static int protect(int how)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)late_table & ~(page - 1);

	return mprotect((void *)from, (uintptr_t)(late_table + COUNT) - from, how) == 0;
}

/* RTLD_DEFAULT is what the dynamic linker does for this file: first those that the program began with,
 * then this file's own. A process that forked in the middle of it does it anew. */
static int fill(void)
{
	const char *name = names;
	void *f;

	if (!protect(PROT_READ | PROT_WRITE))
		return 0;
	for (int i = 0; i < COUNT; i++, name += strlen(name) + 1) {
		f = dlsym(RTLD_DEFAULT, name);
		if (f == NULL)
			return 0;
		late_table[i] = f;
	}
	return protect(PROT_READ);
}

static int found;

static void find(void)
{
	found = fill();
}

int late_find(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	return pthread_once(&once, find) == 0 && found;
}

void late_first(void)
{
	if (late_find())
		return;
	fputs("tao.so: a function of libcrypto is missing, or the process may not change its memory's "
	      "protection\n", stderr);
	abort();
}

int late_complete(void)
{
	return VERSION(OPENSSL_version_major(), OPENSSL_version_minor()) >=
	       VERSION(OPENSSL_VERSION_MAJOR, OPENSSL_VERSION_MINOR) || late_find();
}

#endif
