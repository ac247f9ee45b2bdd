/*
 * Several libssl in one process.
 *
 *   twossl FILE...
 *
 * loads these files, in that order, each in a way that shows its symbols to nobody else. If it is a
 * libssl, makes an SSL_CTX with it and prints "hooked" if tao_tls.so has added its extension,
 * "alone" if not; if it is another library, prints "loaded". "+FILE" shows its symbols to all. For
 * "-", prints "waiting" and waits for a line on standard input.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <openssl/ssl.h>

#define EXTENSION 0xFF54 /* of tao-channel(7) */

static int look(const char *path)
{
	int all = *path == '+';
	void *lib = dlopen(path + all, RTLD_NOW | (all ? RTLD_GLOBAL : RTLD_LOCAL));
	const SSL_METHOD *(*method)(void);
	SSL_CTX *(*make)(const SSL_METHOD *);
	int (*has)(const SSL_CTX *, unsigned);
	void (*drop)(SSL_CTX *);
	SSL_CTX *ctx;

	if (lib == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 0;
	}
	*(void **)&method = dlsym(lib, "TLS_client_method");
	*(void **)&make = dlsym(lib, "SSL_CTX_new");
	*(void **)&has = dlsym(lib, "SSL_CTX_has_client_custom_ext");
	*(void **)&drop = dlsym(lib, "SSL_CTX_free");
	if (method == NULL) {
		printf("loaded\n");
		return 1;
	}
	ctx = make != NULL && has != NULL && drop != NULL ? make(method()) : NULL;
	if (ctx == NULL)
		return 0;
	printf("%s\n", has(ctx, EXTENSION) ? "hooked" : "alone");
	drop(ctx);
	return 1;
}

static int waits(void)
{
	printf("waiting\n");
	fflush(stdout);
	return getchar() == '\n';
}

int main(int argc, char **argv)
{
	int good = argc > 1;

	for (int i = 1; i < argc; i++)
		good = (strcmp(argv[i], "-") == 0 ? waits() : look(argv[i])) && good;
	return good ? 0 : 1;
}
