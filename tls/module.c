#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>

#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "tls.h"

/* crypto.h declares another OPENSSL_init(): ours has the name for the linker only. */
int module_init(CONF_IMODULE *md, const CONF *cnf) __asm__("OPENSSL_init")
	__attribute__((visibility("default")));
void module_finish(CONF_IMODULE *md) __asm__("OPENSSL_finish") __attribute__((visibility("default")));

/* Written once, before the first SSL_CTX is made. */
static struct tls_settings settings;

/* Every new SSL_CTX of the process comes here. */
static void hook_ctx(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)ptr;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	if (parent != NULL && tls_is_libssls(parent) && tls_conn_setup(&settings))
		tls_hook_ctx(parent, &settings);
}

struct place {
	const void *address;
	uintptr_t file; /* tells the file that it belongs to from others */
	const char *name;
};

static int find_base(struct dl_phdr_info *file, size_t size, void *arg)
{
	struct place *p = arg;

	(void)size;
	for (int i = 0; i < file->dlpi_phnum; i++) {
		uintptr_t at = file->dlpi_addr + file->dlpi_phdr[i].p_vaddr;

		if (file->dlpi_phdr[i].p_type == PT_LOAD &&
		    (uintptr_t)p->address - at < file->dlpi_phdr[i].p_memsz) {
			p->file = (uintptr_t)file->dlpi_phdr;
			p->name = file->dlpi_name;
			return 1;
		}
	}
	return 0;
}

/* A bundled OpenSSL that reads the system's openssl.cnf loads this file, which
 * brings the system's libcrypto: its objects are not ours to touch. dladdr() would look for
 * the nearest symbol, through all of libcrypto's. */
static int is_own_libcrypto(const void *caller)
{
	struct place c = { .address = caller };
	struct place own = { .address = (const void *)(uintptr_t)&CRYPTO_get_ex_new_index };

	return dl_iterate_phdr(find_base, &c) == 1 && dl_iterate_phdr(find_base, &own) == 1 &&
	       c.file == own.file;
}

/* Contexts that were hooked call into this file, also when OpenSSL has unloaded module and provider. A
 * provider alone may leave the process. */
static int stay_loaded(void)
{
	struct place own = { .address = &settings };

	return dl_iterate_phdr(find_base, &own) == 1 &&
	       dlopen(own.name, RTLD_NOLOAD | RTLD_NOW | RTLD_NODELETE) != NULL;
}

int module_init(CONF_IMODULE *md, const CONF *cnf)
{
	static atomic_flag hooked = ATOMIC_FLAG_INIT;
	const char *section = CONF_imodule_get_value(md);
	int good;

	if (!is_own_libcrypto(__builtin_return_address(0)))
		return 1;
	if (atomic_flag_test_and_set(&hooked)) /* a second library context reads it again */
		return 1;
	good = tls_settings_read(cnf, section, NULL, &settings);
	return stay_loaded() &&
	       CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL, hook_ctx, NULL, NULL) >= 0 && good;
}

void module_finish(CONF_IMODULE *md)
{
	(void)md; /* contexts that were hooked go on */
}
