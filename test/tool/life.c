/*
 * life: what happens to a process while it has a private key.
 *
 *   life KEY STEP...
 *
 * KEY is a URI or a file. Steps are done in their order; each prints a line, "STEP ok" or
 * "STEP failed: " and all that is on OpenSSL's error queue. When all are done "done N" is printed,
 * N of them having failed, and the exit status is 1 unless that is 0.
 *
 * Keys and contexts:
 *   init        has OpenSSL read its configuration, which otherwise is read when it is needed
 *   load        reads the key; in the context chosen last, and so for all that follows
 *   ask         has the host list its keys, so that it knows this process
 *   sign        signs and verifies, then expects an empty error queue
 *   threads:N   the same in N threads, ten times each, with one key
 *   busy:N      N threads start to sign, and go on until `calm`, which expects that none failed
 *   free        drops the key
 *   private     asks for its private half
 *   ctx:DIR     a library context of the program's own, without configuration; modules are in DIR
 *   conf:FILE   in such a context, that configuration
 *   child       a context as a provider makes it, child of the default one
 *   provider:P  loads the provider P in the context; `unload` unloads the one that was loaded last
 *   drop        frees the context, and with it modules that nobody else has
 *   modules     CONF_modules_unload(1)
 *   cleanup     OPENSSL_cleanup(): nothing of OpenSSL works from here on
 *   atexit      as `sign`, but at exit; the second of them is done first
 * The process:
 *   fork        a child does what comes until `end`; its parent waits for it and goes on behind
 * that
 *   daemon      a child goes on, its parent ends
 *   end         exit(); end:quick _exit(); end:cleanup OPENSSL_cleanup() and _exit(); end:kill
 * SIGKILL
 *   exec        executes itself with the steps that are left
 *   setuid:N    with the group of that number, and no others
 *   chroot:DIR  and its root becomes the working directory
 *   clearenv
 *   close       all descriptors but the standard ones
 *   reuse       the same, and their numbers become something else's; `unharmed` expects these to be
 *               as they were, with nothing written to them
 *   dumpable    expects the process not to be it
 * What there is of it, as "sockets INODE..." and so on, without "ok":
 *   sockets     tasks      mapped (1 if tao.so is)      fds (how many)
 *   wait:FILE   goes on when that file exists
 */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/conf.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>

#define SIG_MAX 1024
#define THREADS_MAX 256
#define PROVIDERS_MAX 8
#define FDS_MAX 1024
#define ROUNDS 10 /* signatures of a thread */

struct busy {
	struct life *l;
	pthread_t thread;
	int failed;
};

struct life {
	char **argv, **at; /* the step at hand */
	const char *uri;
	OSSL_LIB_CTX *ctx; /* NULL: the default one */
	EVP_PKEY *key;
	OSSL_PROVIDER *providers[PROVIDERS_MAX];
	int n_providers;
	int depth;         /* of forks that wait for an end */
	int failed;
	struct busy busy[THREADS_MAX];
	int n_busy;
	atomic_int calm;
	int other[2];      /* what took the place of closed descriptors, and where it leads */
	int replaced[FDS_MAX], n_replaced;
};

typedef int step_fn(struct life *l, const char *arg);

static struct life life; /* for what is done at exit */

/* ---- keys ---- */

static int step_load(struct life *l, const char *arg)
{
	OSSL_STORE_CTX *s = OSSL_STORE_open_ex(l->uri, l->ctx, NULL, NULL, NULL, NULL, NULL, NULL);

	(void)arg;
	EVP_PKEY_free(l->key);
	l->key = NULL;
	if (s != NULL)
		OSSL_STORE_expect(s, OSSL_STORE_INFO_PKEY);
	while (s != NULL && l->key == NULL && !OSSL_STORE_eof(s)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(s);

		if (info != NULL)
			l->key = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(s);
	return l->key != NULL;
}

static int step_init(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	return OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1;
}

static int step_ask(struct life *l, const char *arg)
{
	OSSL_STORE_CTX *s = OSSL_STORE_open_ex("tao:", l->ctx, NULL, NULL, NULL, NULL, NULL, NULL);
	OSSL_STORE_INFO *info = s != NULL ? OSSL_STORE_load(s) : NULL;
	int good = info != NULL;

	(void)arg;
	OSSL_STORE_INFO_free(info);
	OSSL_STORE_close(s);
	return good;
}

static int sign_once(struct life *l)
{
	static atomic_int number;
	EVP_MD_CTX *s = EVP_MD_CTX_new(), *v = EVP_MD_CTX_new();
	const char *digest = l->key != NULL && EVP_PKEY_is_a(l->key, "ED25519") ? NULL : "SHA256";
	uint8_t sig[SIG_MAX];
	size_t n = sizeof sig;
	char text[64];
	int len = snprintf(text, sizeof text, "message %d", atomic_fetch_add(&number, 1)), good;

	good = EVP_DigestSignInit_ex(s, NULL, digest, l->ctx, NULL, l->key, NULL) == 1 &&
	       EVP_DigestSign(s, sig, &n, (const uint8_t *)text, (size_t)len) == 1 &&
	       EVP_DigestVerifyInit_ex(v, NULL, digest, l->ctx, NULL, l->key, NULL) == 1 &&
	       EVP_DigestVerify(v, sig, n, (const uint8_t *)text, (size_t)len) == 1;
	EVP_MD_CTX_free(s);
	EVP_MD_CTX_free(v);
	return good && ERR_peek_error() == 0;
}

static int step_sign(struct life *l, const char *arg)
{
	(void)arg;
	return sign_once(l);
}

static void *work(void *arg)
{
	struct busy *b = arg;

	for (int i = 0; i < ROUNDS; i++)
		b->failed += !sign_once(b->l);
	if (b->failed > 0)
		ERR_print_errors_fp(stdout);
	return NULL;
}

static void *work_on(void *arg)
{
	struct busy *b = arg;

	while (!atomic_load(&b->l->calm) && b->failed == 0)
		b->failed = !sign_once(b->l);
	if (b->failed > 0)
		ERR_print_errors_fp(stdout);
	return NULL;
}

static int start(struct life *l, int n, void *(*fn)(void *))
{
	for (l->n_busy = 0; l->n_busy < n && l->n_busy < THREADS_MAX; l->n_busy++) {
		l->busy[l->n_busy] = (struct busy){ .l = l };
		if (pthread_create(&l->busy[l->n_busy].thread, NULL, fn, &l->busy[l->n_busy]) != 0)
			return 0;
	}
	return 1;
}

static int join(struct life *l)
{
	int failed = 0;

	while (l->n_busy > 0) {
		pthread_join(l->busy[--l->n_busy].thread, NULL);
		failed += l->busy[l->n_busy].failed;
	}
	return failed == 0;
}

static int step_threads(struct life *l, const char *arg)
{
	int good = start(l, atoi(arg), work);

	return join(l) && good;
}

static int step_busy(struct life *l, const char *arg)
{
	atomic_store(&l->calm, 0);
	return start(l, atoi(arg), work_on);
}

static int step_calm(struct life *l, const char *arg)
{
	(void)arg;
	atomic_store(&l->calm, 1);
	return join(l);
}

static int step_free(struct life *l, const char *arg)
{
	(void)arg;
	EVP_PKEY_free(l->key);
	l->key = NULL;
	return 1;
}

static int ignore(const OSSL_PARAM params[], void *arg)
{
	(void)params;
	(void)arg;
	return 1;
}

/* A key of the host has none to give, and puts an error on the queue. */
static int step_private(struct life *l, const char *arg)
{
	(void)arg;
	EVP_PKEY_export(l->key, OSSL_KEYMGMT_SELECT_PRIVATE_KEY, ignore, NULL);
	ERR_clear_error();
	return 1;
}

/* ---- contexts and providers ---- */

static int step_ctx(struct life *l, const char *arg)
{
	l->ctx = OSSL_LIB_CTX_new();
	return l->ctx != NULL && OSSL_PROVIDER_set_default_search_path(l->ctx, arg) == 1;
}

static int step_conf(struct life *l, const char *arg)
{
	l->ctx = OSSL_LIB_CTX_new();
	return l->ctx != NULL && OSSL_LIB_CTX_load_config(l->ctx, arg) == 1;
}

static OSSL_FUNC_provider_teardown_fn outer_teardown;

static void outer_teardown(void *ctx)
{
	OSSL_LIB_CTX_free(ctx);
}

/* A provider that uses OpenSSL itself, with what the application has activated. */
static int outer_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                      const OSSL_DISPATCH **out, void **ctx)
{
	static const OSSL_DISPATCH functions[] = {
		{ OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))outer_teardown },
		{ 0, NULL }
	};

	*ctx = life.ctx = OSSL_LIB_CTX_new_child(handle, in);
	*out = functions;
	return *ctx != NULL;
}

static int step_provider(struct life *l, const char *arg)
{
	OSSL_PROVIDER *p = OSSL_PROVIDER_load(l->ctx, arg);

	if (p == NULL || l->n_providers == PROVIDERS_MAX)
		return 0;
	l->providers[l->n_providers++] = p;
	return 1;
}

static int step_child(struct life *l, const char *arg)
{
	(void)arg;
	return OSSL_PROVIDER_add_builtin(NULL, "outer", outer_init) == 1 &&
	       OSSL_PROVIDER_load(NULL, "outer") != NULL && l->ctx != NULL;
}

static int step_unload(struct life *l, const char *arg)
{
	(void)arg;
	return l->n_providers > 0 && OSSL_PROVIDER_unload(l->providers[--l->n_providers]) == 1;
}

static int step_drop(struct life *l, const char *arg)
{
	(void)arg;
	OSSL_LIB_CTX_free(l->ctx);
	l->ctx = NULL;
	return 1;
}

static int step_modules(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	CONF_modules_unload(1);
	return 1;
}

static int step_cleanup(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	OPENSSL_cleanup();
	return 1;
}

static void report(const char *step, int good);

static void sign_at_exit(void)
{
	report("at exit sign", sign_once(&life));
}

static int step_atexit(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	return atexit(sign_at_exit) == 0;
}

/* ---- the process ---- */

static int is_step(const char *step, const char *name)
{
	size_t n = strlen(name);

	return strncmp(step, name, n) == 0 && (step[n] == 0 || step[n] == ':');
}

/* To the end that belongs to the fork at hand. */
static void skip_child(struct life *l)
{
	for (int depth = 1; l->at[1] != NULL && depth > 0; l->at++)
		depth += is_step(l->at[1], "fork") - is_step(l->at[1], "end");
}

static int step_fork(struct life *l, const char *arg)
{
	pid_t child = fork();
	int status;

	(void)arg;
	if (child == 0) {
		l->depth++;
		l->failed = 0;
		return 1;
	}
	skip_child(l);
	return child > 0 && waitpid(child, &status, 0) == child &&
	       (WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
}

static int step_daemon(struct life *l, const char *arg)
{
	static const struct timespec pause = { 0, 1000000 };
	pid_t parent = getpid(), child = fork();

	(void)l;
	(void)arg;
	if (child > 0)
		_exit(0);
	while (child == 0 && getppid() == parent)
		nanosleep(&pause, NULL);
	return child == 0;
}

static int step_end(struct life *l, const char *arg)
{
	fflush(stdout);
	if (strcmp(arg, "kill") == 0)
		raise(SIGKILL);
	if (strcmp(arg, "cleanup") == 0)
		OPENSSL_cleanup();
	if (arg[0] != 0)
		_exit(l->failed > 0);
	exit(l->failed > 0);
}

static int step_exec(struct life *l, const char *arg)
{
	char *to[2] = { l->argv[0], l->argv[1] };

	(void)arg;
	l->at[-1] = to[0];
	l->at[0] = to[1];
	execv("/proc/self/exe", l->at - 1);
	return 0;
}

static int step_setuid(struct life *l, const char *arg)
{
	unsigned id = (unsigned)atoi(arg);

	(void)l;
	return setgroups(0, NULL) == 0 && setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0;
}

static int step_chroot(struct life *l, const char *arg)
{
	(void)l;
	return chroot(arg) == 0 && chdir("/") == 0;
}

static int step_clearenv(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	return clearenv() == 0;
}

static int step_close(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	for (int fd = 3; fd < FDS_MAX; fd++)
		close(fd);
	return 1;
}

static int step_reuse(struct life *l, const char *arg)
{
	int pair[2];

	(void)arg;
	l->n_replaced = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return 0;
	l->other[0] = fcntl(pair[0], F_DUPFD, FDS_MAX);
	l->other[1] = fcntl(pair[1], F_DUPFD, FDS_MAX);
	close(pair[0]);
	close(pair[1]);
	for (int fd = 3; fd < FDS_MAX; fd++)
		if (fcntl(fd, F_GETFD) >= 0 && dup2(l->other[0], fd) == fd)
			l->replaced[l->n_replaced++] = fd;
	return l->other[1] >= 0 && l->n_replaced > 0;
}

static int step_unharmed(struct life *l, const char *arg)
{
	struct stat is, was;
	char byte;

	(void)arg;
	if (fstat(l->other[0], &was) != 0 || recv(l->other[1], &byte, 1, MSG_DONTWAIT) >= 0)
		return 0;
	for (int i = 0; i < l->n_replaced; i++)
		if (fstat(l->replaced[i], &is) != 0 || is.st_ino != was.st_ino)
			return 0;
	return send(l->other[0], "", 1, MSG_NOSIGNAL) == 1;
}

static int step_dumpable(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	return prctl(PR_GET_DUMPABLE) == 0;
}

static int step_wait(struct life *l, const char *arg)
{
	static const struct timespec pause = { 0, 5000000 };

	(void)l;
	puts("waiting");
	fflush(stdout);
	while (access(arg, F_OK) != 0)
		nanosleep(&pause, NULL);
	return 1;
}

/* ---- what there is ---- */

static int count(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n - 2;
}

static int step_sockets(struct life *l, const char *arg)
{
	struct stat st;

	(void)l;
	(void)arg;
	printf("sockets");
	for (int fd = 3; fd < FDS_MAX; fd++)
		if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
			printf(" %d:%lu", fd, (unsigned long)st.st_ino);
	puts("");
	return 1;
}

static int step_tasks(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	printf("tasks %d\n", count("/proc/self/task"));
	return 1;
}

static int step_fds(struct life *l, const char *arg)
{
	(void)l;
	(void)arg;
	printf("fds %d\n", count("/proc/self/fd") - 1);
	return 1;
}

static int step_mapped(struct life *l, const char *arg)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[4096];
	int found = 0;

	(void)l;
	(void)arg;
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		found = found || strstr(line, "/tao.so") != NULL;
	if (f != NULL)
		fclose(f);
	printf("mapped %d\n", found);
	return 1;
}

/* ---- all of it ---- */

static const struct {
	const char *name;
	step_fn *fn;
	int silent; /* prints its own line */
} steps[] = {
	{ "init", step_init, 0 }, { "load", step_load, 0 }, { "ask", step_ask, 0 },
	{ "sign", step_sign, 0 }, { "threads", step_threads, 0 },
	{ "busy", step_busy, 0 }, { "calm", step_calm, 0 }, { "free", step_free, 0 },
	{ "private", step_private, 0 },
	{ "ctx", step_ctx, 0 }, { "conf", step_conf, 0 }, { "child", step_child, 0 },
	{ "provider", step_provider, 0 }, { "unload", step_unload, 0 },
	{ "drop", step_drop, 0 }, { "modules", step_modules, 0 }, { "cleanup", step_cleanup, 0 },
	{ "atexit", step_atexit, 0 }, { "fork", step_fork, 0 }, { "daemon", step_daemon, 0 },
	{ "end", step_end, 0 }, { "exec", step_exec, 0 }, { "setuid", step_setuid, 0 },
	{ "chroot", step_chroot, 0 }, { "clearenv", step_clearenv, 0 }, { "close", step_close, 0 },
	{ "reuse", step_reuse, 0 }, { "unharmed", step_unharmed, 0 },
	{ "dumpable", step_dumpable, 0 }, { "wait", step_wait, 0 },
	{ "sockets", step_sockets, 1 }, { "tasks", step_tasks, 1 }, { "fds", step_fds, 1 },
	{ "mapped", step_mapped, 1 },
};

static int print_error(const char *text, size_t n, void *arg)
{
	(void)arg;
	printf(" %.*s", (int)(n > 0 ? n - 1 : 0), text);
	return 1;
}

static void report(const char *step, int good)
{
	printf("%s %s", step, good ? "ok" : "failed:");
	ERR_print_errors_cb(print_error, NULL);
	puts("");
	fflush(stdout);
}

static void do_step(struct life *l)
{
	const char *step = *l->at, *colon = strchr(step, ':');
	int good;

	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		if (!is_step(step, steps[i].name))
			continue;
		good = steps[i].fn(l, colon != NULL ? colon + 1 : "");
		l->failed += !good;
		if (steps[i].silent)
			fflush(stdout);
		else
			report(step, good);
		return;
	}
	fprintf(stderr, "life: unknown step %s\n", step);
	exit(2);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: life KEY STEP...\n");
		return 2;
	}
	life.argv = argv;
	life.uri = argv[1];
	for (life.at = argv + 2; *life.at != NULL; life.at++)
		do_step(&life);
	printf("done %d\n", life.failed);
	fflush(stdout);
	return life.failed > 0;
}
