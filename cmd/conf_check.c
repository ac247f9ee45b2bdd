#include "cmd.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/conf.h>
#include <openssl/err.h>

#include "../tao/file.h"
#include "../tls/tls.h"
#include "config.h"

#define CONF_MAX (1u << 20)         /* bytes of an openssl.cnf */
#define MODULE_MAX (64 << 20)       /* bytes of a provider module */
#define TIMEOUT_MAX 3600000         /* milliseconds, as the provider takes them */
#define ENTRY "\0OSSL_provider_init" /* in a module's symbol names, with its NUL */

struct check {
	CONF *conf;
	struct tao_buf text; /* the file, to find lines in */
	struct cmd_findings *f;
	const char *init;    /* the section that openssl_conf names */
};

static const char *const truths[] = { "1", "yes", "YES", "true", "TRUE", "on", "ON", NULL };

/* ---- values and where they stand ---- */

/* Without NCONF_get_string()'s way of looking in [default] as well. */
static const char *value(const struct check *c, const char *section, const char *key)
{
	STACK_OF(CONF_VALUE) *all = NCONF_get_section(c->conf, section);

	for (int i = 0; all != NULL && i < sk_CONF_VALUE_num(all); i++) {
		const CONF_VALUE *v = sk_CONF_VALUE_value(all, i);

		if (strcmp(v->name, key) == 0)
			return v->value;
	}
	return NULL;
}

static int has_section(const struct check *c, const char *section)
{
	return NCONF_get_section(c->conf, section) != NULL;
}

/* A word without the blanks around it is this one. */
static int is_word(const char *p, size_t n, const char *word)
{
	while (n > 0 && (*p == ' ' || *p == '\t')) {
		p++;
		n--;
	}
	while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	return n == strlen(word) && strncmp(p, word, n) == 0;
}

/* NCONF forgets lines. 0: not found, it is in an included file perhaps. key
 * NULL: the section's own line. */
static long line_of(struct check *c, const char *section, const char *key)
{
	const char *p = tao_buf_cstr(&c->text);
	int inside = strcmp(section, "default") == 0;
	long line = 0;

	for (size_t n; *p != 0; p += n + (p[n] == '\n')) {
		n = strcspn(p, "\r\n");
		line++;
		p += strspn(p, " \t");
		n = strcspn(p, "\n");
		if (*p == '[') {
			inside = is_word(p + 1, strcspn(p + 1, "]\n"), section);
			if (inside && key == NULL)
				return line;
		} else if (inside && key != NULL && is_word(p, strcspn(p, "=\n"), key)) {
			return line;
		}
	}
	return 0;
}

/* ---- the module ---- */

/* The same kind of ELF file as this program. */
static int same_machine(const uint8_t *p, size_t n)
{
	Elf64_Ehdr own, theirs;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int good = fd >= 0 && read(fd, &own, sizeof own) == (ssize_t)sizeof own;

	if (fd >= 0)
		close(fd);
	if (!good || n < sizeof theirs)
		return 0;
	memcpy(&theirs, p, sizeof theirs);
	return memcmp(theirs.e_ident, own.e_ident, EI_DATA + 1) == 0 && theirs.e_type == ET_DYN &&
	       theirs.e_machine == own.e_machine;
}

/* Reads and does not load it: a file to be checked must not run code here. */
static void examine_bytes(const char *path, long line, const uint8_t *p, size_t n,
                          struct cmd_findings *f)
{
	if (n < SELFMAG || memcmp(p, ELFMAG, SELFMAG) != 0)
		cmd_found(f, CMD_BAD, line, "module %s is not an ELF file: name tao.so", path);
	else if (!same_machine(p, n))
		cmd_found(f, CMD_BAD, line, "module %s is not a shared object for this machine: "
		          "build tao.so for it", path);
	else if (memmem(p, n, ENTRY, sizeof ENTRY) == NULL)
		cmd_found(f, CMD_BAD, line, "module %s has no OSSL_provider_init, so it is no "
		          "provider: name tao.so", path);
	else
		cmd_found(f, CMD_GOOD, line, "module %s is a provider", path);
}

void cmd_examine_module(const char *path, long line, struct cmd_findings *f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	void *p = MAP_FAILED;

	if (fd < 0 || fstat(fd, &st) != 0) {
		cmd_found(f, CMD_BAD, line, "module %s: %s; install it with 'make install', or "
		          "name another with 'module ='", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size < 1 || st.st_size > MODULE_MAX) {
		cmd_found(f, CMD_BAD, line, "module %s is not a file of a module's size: name "
		          "tao.so", path);
	} else {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED)
			cmd_found(f, CMD_BAD, line, "module %s cannot be read: %s", path,
			          strerror(errno));
		else
			examine_bytes(path, line, p, (size_t)st.st_size, f);
	}
	if (p != MAP_FAILED)
		munmap(p, (size_t)st.st_size);
	if (fd >= 0)
		close(fd);
}

/* As libcrypto finds it. */
static void check_module(struct check *c, const char *section)
{
	const char *module = value(c, section, "module"), *dir = getenv("OPENSSL_MODULES");
	long line = line_of(c, section, module != NULL ? "module" : NULL);
	char *path;

	if (module != NULL && *module == '/') {
		cmd_examine_module(module, line, c->f);
		return;
	}
	if (asprintf(&path, "%s/%s", dir != NULL ? dir : TAO_MODULESDIR,
	             module != NULL ? module : "tao.so") < 0) {
		cmd_found(c->f, CMD_BAD, 0, "out of memory");
		return;
	}
	cmd_examine_module(path, line, c->f);
	free(path);
}

/* ---- the provider's own section ---- */

static void check_keys(struct check *c, const char *section)
{
	static const char *const known[] = { "identity", "module", "activate", "soft_load",
	                                     "socket",
	                                     "timeout", "undumpable", NULL };
	STACK_OF(CONF_VALUE) *all = NCONF_get_section(c->conf, section);

	for (int i = 0; all != NULL && i < sk_CONF_VALUE_num(all); i++) {
		const char *name = sk_CONF_VALUE_value(all, i)->name;
		size_t k = 0;

		while (known[k] != NULL && strcmp(known[k], name) != 0)
			k++;
		if (known[k] == NULL)
			cmd_found(c->f, CMD_BAD, line_of(c, section, name),
			          "%s in [%s] is no key of the Tao "
			          "provider: it has module, activate, socket, timeout and "
			          "undumpable", name, section);
	}
}

static void check_undumpable(struct check *c, const char *section)
{
	const char *text = value(c, section, "undumpable");

	if (text != NULL && strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
		cmd_found(c->f, CMD_BAD, line_of(c, section, "undumpable"),
		          "undumpable = %s: say yes or no", text);
}

static void check_timeout(struct check *c, const char *section)
{
	const char *text = value(c, section, "timeout");
	char *end;
	long v;

	if (text == NULL)
		return;
	errno = 0;
	v = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != 0 || v < 1 || v > TIMEOUT_MAX)
		cmd_found(c->f, CMD_BAD, line_of(c, section, "timeout"),
		          "timeout = %s: give milliseconds, 1 to %d", text, TIMEOUT_MAX);
}

static void check_socket(struct check *c, const char *section)
{
	const char *path = value(c, section, "socket"), *env = getenv("TAO_SOCKET");
	long line = line_of(c, section, "socket");
	struct tao_conn conn;

	if (path == NULL) {
		path = env != NULL ? env : TAO_LOCALSTATEDIR "/lib/tao/run/tao.sock";
		line = line_of(c, section, NULL);
		cmd_found(c->f, CMD_WARNING, line, "[%s] has no socket, so %s is used: 'tao conf "
		          "print' prints this host's", section, path);
	}
	if (*path != '/' || strlen(path) > TAO_SOCKET_PATH_MAX) {
		cmd_found(c->f, CMD_BAD, line, "socket = %s: give an absolute path of at most %d "
		          "bytes", path, TAO_SOCKET_PATH_MAX);
		return;
	}
	tao_conn_init(&conn);
	if (tao_conn_open(&conn, path, TAO_CALL_TIMEOUT_MS) == TAO_OK)
		cmd_found(c->f, CMD_GOOD, line, "a Tao host answers on %s", path);
	else
		cmd_found(c->f, CMD_WARNING, line, "%s", tao_why());
	tao_conn_close(&conn);
}

/* ---- providers ---- */

struct provider {
	const char *section; /* NULL: there is no such provider */
	int place;           /* in the list */
	int active;
};

/* "1.tao" means tao: OpenSSL lets names be made unique that way. */
static const char *skip_dot(const char *name)
{
	const char *dot = strchr(name, '.');

	return dot != NULL ? dot + 1 : name;
}

static int is_provider(const struct check *c, const CONF_VALUE *v, const char *name)
{
	const char *identity = value(c, v->value, "identity");
	const char *module = value(c, v->value, "module"), *base;

	if (strcmp(identity != NULL ? identity : skip_dot(v->name), name) == 0)
		return 1;
	base = module != NULL ? strrchr(module, '/') : NULL;
	base = base != NULL ? base + 1 : module;
	return strcmp(name, "tao") == 0 && base != NULL && strcmp(base, "tao.so") == 0;
}

static int check_active(struct check *c, const char *section, const char *name)
{
	const char *text = value(c, section, "activate");

	if (text == NULL) {
		cmd_found(c->f, CMD_BAD, line_of(c, section, NULL),
		          "the %s provider is not activated: "
		          "put 'activate = 1' into [%s]", name, section);
		return 0;
	}
	for (size_t i = 0; truths[i] != NULL; i++)
		if (strcmp(truths[i], text) == 0)
			return 1;
	cmd_found(c->f, CMD_BAD, line_of(c, section, "activate"),
	          "activate = %s: OpenSSL 3.0 takes "
	          "any value for yes and later versions this one for no; write 'activate = 1'",
	          text);
	return 0;
}

static struct provider find_provider(struct check *c, const char *list, const char *name)
{
	STACK_OF(CONF_VALUE) *all = NCONF_get_section(c->conf, list);
	struct provider p = { NULL, 0, 0 };

	for (int i = 0; all != NULL && i < sk_CONF_VALUE_num(all); i++) {
		const CONF_VALUE *v = sk_CONF_VALUE_value(all, i);

		if (p.section != NULL || !is_provider(c, v, name))
			continue;
		p.section = v->value;
		p.place = i;
		if (strcmp(v->value, "default") == 0)
			cmd_found(c->f, CMD_BAD, line_of(c, list, v->name),
			          "%s = default: OpenSSL keeps what "
			          "stands before the first section in one of that name, and then "
			          "activates no provider at all: call it [default_sect]", v->name);
		else if (has_section(c, v->value))
			p.active = check_active(c, v->value, name);
		else
			cmd_found(c->f, CMD_BAD, line_of(c, list, v->name),
			          "%s = %s, but there is no section "
			          "[%s]: add it, with 'activate = 1'", v->name, v->value, v->value);
	}
	return p;
}

static void check_order(struct check *c, const char *list, const struct provider *dflt,
                        const struct provider *tao)
{
	long line = line_of(c, list, NULL);

	if (dflt->section == NULL)
		cmd_found(c->f, CMD_BAD, line, "[%s] does not name the default provider, which "
		          "then vanishes: put 'default = default_sect' first, and 'activate = 1' "
		          "into [default_sect]", list);
	if (tao->section == NULL)
		cmd_found(c->f, CMD_BAD, line, "[%s] does not name the tao provider: add what "
		          "'tao conf print' prints", list);
	if (!dflt->active || !tao->active)
		return;
	if (tao->place < dflt->place)
		cmd_found(c->f, CMD_BAD, line, "tao comes before default in [%s]: new keys are "
		          "then the host's, those of each handshake too, or there are none; put "
		          "default first", list);
	else
		cmd_found(c->f, CMD_GOOD, line, "the default provider is activated, then tao");
}

static void check_providers(struct check *c)
{
	const char *list = value(c, c->init, "providers");
	struct provider dflt, tao;

	if (list == NULL) {
		cmd_found(c->f, CMD_BAD, line_of(c, c->init, NULL),
		          "[%s] has no 'providers =': add what "
		          "'tao conf print' prints", c->init);
		return;
	}
	if (!has_section(c, list)) {
		cmd_found(c->f, CMD_BAD, line_of(c, c->init, "providers"),
		          "providers = %s, but there is "
		          "no section [%s]: add it", list, list);
		return;
	}
	dflt = find_provider(c, list, "default");
	tao = find_provider(c, list, "tao");
	check_order(c, list, &dflt, &tao);
	if (tao.section == NULL || !has_section(c, tao.section))
		return;
	check_keys(c, tao.section);
	check_module(c, tao.section);
	check_timeout(c, tao.section);
	check_undumpable(c, tao.section);
	check_socket(c, tao.section);
}

/* ---- what else can go wrong ---- */

/* One clause of a property query; what it does to the tao provider. */
static void check_clause(struct check *c, long line, const char *p, size_t n)
{
	int optional = 0;

	while (n > 0 && (*p == ' ' || *p == '\t' || *p == '?')) {
		optional |= *p == '?';
		p++;
		n--;
	}
	if (n == 0)
		return;
	if (is_word(p, n, "provider=tao"))
		cmd_found(c->f, CMD_BAD, line, "default_properties choose tao for everything: new "
		          "keys are then made in the host, and TLS has not its usual groups; "
		          "remove 'provider=tao', tao's keys need no query");
	else if (!optional || is_word(p, n, "provider!=tao"))
		cmd_found(c->f, CMD_BAD, line, "default_properties demand '%.*s', which excludes "
		          "the tao provider: remove it, or put a '?' before it", (int)n, p);
	else
		cmd_found(c->f, CMD_WARNING, line, "default_properties prefer '%.*s': leave them "
		          "out unless something needs them", (int)n, p);
}

static void check_properties(struct check *c)
{
	const char *section = value(c, c->init, "alg_section"), *fips, *p;
	long line;

	if (section == NULL)
		return;
	p = value(c, section, "default_properties");
	line = line_of(c, section, "default_properties");
	for (size_t n; p != NULL && *p != 0; p += n + (p[n] == ',')) {
		n = strcspn(p, ",");
		check_clause(c, line, p, n);
	}
	fips = value(c, section, "fips_mode");
	for (size_t i = 0; fips != NULL && truths[i] != NULL; i++)
		if (strcmp(fips, truths[i]) == 0)
			cmd_found(c->f, CMD_BAD, line_of(c, section, "fips_mode"),
			          "fips_mode = %s excludes "
			          "the tao provider, which is not validated: remove it", fips);
}

static void check_ssl(struct check *c)
{
	const char *ssl = value(c, c->init, "ssl_conf"), *section;
	STACK_OF(CONF_VALUE) *all;
	long line;

	if (ssl == NULL)
		return;
	if (!has_section(c, ssl)) {
		cmd_found(c->f, CMD_BAD, line_of(c, c->init, "ssl_conf"),
		          "ssl_conf = %s, but there is no "
		          "section [%s]: add it, or remove the line", ssl, ssl);
		return;
	}
	section = value(c, ssl, "system_default");
	if (section == NULL)
		return;
	all = NCONF_get_section(c->conf, section);
	if (all != NULL && sk_CONF_VALUE_num(all) > 0)
		return;
	line = line_of(c, ssl, "system_default");
	cmd_found(c->f, CMD_BAD, line, "system_default = %s, but the section [%s] is %s, and some "
	          "programs (node) do not start then: put a setting into it, or remove the line",
	          section, section, all == NULL ? "missing" : "empty");
}

/* Both names are of one file. */
static int is_tls_module(const char *path)
{
	const char *base = path != NULL ? strrchr(path, '/') : NULL;

	return base != NULL && (strcmp(base, "/tao.so") == 0 || strcmp(base, "/tao_tls.so") == 0);
}

/* The entry of [init] whose section loads the TLS module; its place. NULL: there is none. */
static const CONF_VALUE *find_tls(struct check *c, int *place)
{
	STACK_OF(CONF_VALUE) *all = NCONF_get_section(c->conf, c->init);

	for (int i = 0; all != NULL && i < sk_CONF_VALUE_num(all); i++) {
		const CONF_VALUE *v = sk_CONF_VALUE_value(all, i);

		if (is_tls_module(value(c, v->value, "path"))) {
			*place = i;
			return v;
		}
	}
	return NULL;
}

static int place_of(const struct check *c, const char *name)
{
	STACK_OF(CONF_VALUE) *all = NCONF_get_section(c->conf, c->init);

	for (int i = 0; all != NULL && i < sk_CONF_VALUE_num(all); i++)
		if (strcmp(sk_CONF_VALUE_value(all, i)->name, name) == 0)
			return i;
	return -1;
}

/* The settings, and those of each program that has some: 0 with an error on the queue. */
static int read_all_settings(struct check *c, const char *section, struct tls_settings *set)
{
	const char *programs = value(c, section, "programs");
	STACK_OF(CONF_VALUE) *all = programs != NULL ? NCONF_get_section(c->conf, programs) : NULL;
	int good = tls_settings_read(c->conf, section, "", set);

	for (int i = 0; good && all != NULL && i < sk_CONF_VALUE_num(all); i++) {
		struct tls_settings its;

		good = tls_settings_read(c->conf, section, sk_CONF_VALUE_value(all, i)->name, &its);
		free(its.peers);
	}
	return good;
}

/* Without the TLS module all works, but a renewed certificate needs a reload. */
static void check_tls(struct check *c)
{
	int place;
	const CONF_VALUE *v = find_tls(c, &place);
	struct tls_settings set;
	const char *path, *why = NULL;
	int good, flags = 0;

	if (v == NULL)
		return;
	path = value(c, v->value, "path");
	good = read_all_settings(c, v->value, &set);
	if (!good)
		ERR_peek_last_error_all(NULL, NULL, NULL, &why, &flags);
	if (access(path, R_OK) != 0)
		cmd_found(c->f, CMD_BAD, line_of(c, v->value, "path"),
		          "path = %s: %s; OpenSSL then skips "
		          "all that comes after %s in [%s]", path, strerror(errno), v->name,
		          c->init);
	else if (place < place_of(c, "providers"))
		cmd_found(c->f, CMD_BAD, line_of(c, c->init, v->name),
		          "%s comes before providers in [%s]: "
		          "put it behind", v->name, c->init);
	else if (!good)
		cmd_found(c->f, CMD_BAD, line_of(c, c->init, v->name),
		          "%s: no TLS connection is made "
		          "with that", flags & ERR_TXT_STRING ? why : "the section cannot be read");
	else
		cmd_found(c->f, CMD_GOOD, line_of(c, c->init, v->name),
		          "the TLS module is loaded behind the "
		          "providers: renewed certificates need no reload, mode is %s",
		          tls_mode_word(set.mode));
	free(set.peers);
}

/* OpenSSL seeds from the kernel alone, and tells no one, where it does not find what seed names. */
static void check_random(struct check *c)
{
	const char *section = value(c, c->init, "random"), *generator, *seed;

	if (section == NULL)
		return;
	generator = value(c, section, "random");
	seed = value(c, section, "seed");
	if (generator != NULL && strcasecmp(generator, "TAO-RAND") == 0)
		cmd_found(c->f, CMD_BAD, line_of(c, section, "random"), "TAO-RAND seeds OpenSSL's "
		          "generators and is none itself: write 'seed = TAO-RAND'");
	if (seed != NULL && strcasecmp(seed, "TAO-RAND") == 0)
		cmd_found(c->f, CMD_GOOD, line_of(c, section, "seed"),
		          "random numbers are seeded by the "
		          "Tao host: there are none while a program cannot reach it");
	else if (seed != NULL && strcasecmp(seed, "SEED-SRC") != 0)
		cmd_found(c->f, CMD_WARNING, line_of(c, section, "seed"),
		          "seed = %s is neither TAO-RAND nor "
		          "OpenSSL's SEED-SRC: if no provider has it, OpenSSL seeds from the "
		          "kernel and tells no one", seed);
}

static void check_permissions(struct check *c, const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return;
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		cmd_found(c->f, CMD_BAD, 0, "others than its owner may write it, and choose the "
		          "code that programs load: 'chmod go-w %s'", path);
	if ((st.st_mode & S_IROTH) == 0)
		cmd_found(c->f, CMD_WARNING, 0, "programs of other users cannot read it, and then "
		          "run without the Tao: 'chmod a+r %s' if they should not", path);
}

static int load(struct check *c, const char *path)
{
	BIO *bio = NULL;
	long line = 0;
	int good = 0;

	if (tao_file_read(path, CONF_MAX, &c->text) != TAO_OK) {
		cmd_found(c->f, CMD_BAD, 0, "%s", tao_why());
		return 0;
	}
	bio = BIO_new_mem_buf(tao_buf_cstr(&c->text), (int)c->text.n);
	c->conf = NCONF_new(NULL);
	if (bio != NULL && c->conf != NULL)
		good = c->text.n == 0 || NCONF_load_bio(c->conf, bio, &line) > 0;
	if (!good) {
		const char *why = ERR_reason_error_string(ERR_peek_last_error());

		cmd_found(c->f, CMD_BAD, line, "it cannot be read as an OpenSSL configuration: %s; "
		          "see config(5)", why != NULL ? why : "out of memory");
	}
	ERR_clear_error();
	BIO_free(bio);
	return good;
}

void cmd_examine_conf(const char *path, struct cmd_findings *f)
{
	struct check c = { .text = TAO_BUF_INIT, .f = f };
	const char *before = f->file;

	f->file = path;
	if (!load(&c, path))
		goto out;
	check_permissions(&c, path);
	c.init = value(&c, "default", "openssl_conf");
	if (c.init == NULL) {
		cmd_found(f, CMD_BAD, 0, "there is no 'openssl_conf =' before the first section, "
		          "so OpenSSL reads nothing of it: add what 'tao conf print' prints");
	} else if (!has_section(&c, c.init)) {
		cmd_found(f, CMD_BAD, line_of(&c, "default", "openssl_conf"),
		          "openssl_conf = %s, but there is no section [%s]: add it", c.init,
		          c.init);
	} else {
		check_providers(&c);
		check_properties(&c);
		check_ssl(&c);
		check_tls(&c);
		check_random(&c);
	}
out:
	ERR_clear_error();
	NCONF_free(c.conf);
	tao_buf_free(&c.text);
	f->file = before;
}

/* ---- what is enforced ---- */

static const char *const mode_texts[] = {
	[TLS_OFF] = "its connections are left alone, but for renewed certificates",
	[TLS_CERTIFICATE] = "policy on certificates of the domain, no Tao channels",
	[TLS_PREFER] = "as client a Tao channel with every name that policy knows; as server with whoever can",
	[TLS_REQUIRE] = "no connection but Tao channels",
};

static void say_mode(struct check *c, const CONF_VALUE *v, const char *program)
{
	struct tls_settings set;

	if (!tls_settings_read(c->conf, v->value, program, &set)) {
		cmd_found(c->f, CMD_BAD, line_of(c, c->init, v->name),
		          "the settings of tao_tls are wrong: "
		          "nothing connects; see 'tao conf check'");
		return;
	}
	cmd_found(c->f, CMD_GOOD, line_of(c, v->value, "mode"), "mode = %s: %s%s",
	          tls_mode_word(set.mode), mode_texts[set.mode],
	          set.n_peers > 0 ? "; other modes for the names in peers" : "");
	if (set.demand && set.mode != TLS_OFF)
		cmd_found(c->f, CMD_GOOD, line_of(c, v->value, "demand"),
		          "demand = yes: as server it asks "
		          "every client for its program certificate");
	if (set.mode == TLS_REQUIRE && value(c, c->init, "ssl_conf") == NULL)
		cmd_found(c->f, CMD_WARNING, line_of(c, v->value, "mode"),
		          "nothing is required where tao_tls.so "
		          "cannot be loaded: add the lines of tao_tls(5), EXAMPLES");
	free(set.peers);
}

/* Where that file loads the TLS module; NULL: nowhere. */
static const CONF_VALUE *load_tls(struct check *c, const char *path)
{
	int place;

	if (!load(c, path))
		return NULL;
	c->init = value(c, "default", "openssl_conf");
	return c->init != NULL ? find_tls(c, &place) : NULL;
}

char *cmd_tls_module(const char *path)
{
	struct cmd_findings none = { 0 };
	struct check c = { .text = TAO_BUF_INIT, .f = &none };
	const CONF_VALUE *v = path != NULL ? load_tls(&c, path) : NULL;
	char *module = v != NULL ? strdup(value(&c, v->value, "path")) : NULL;

	ERR_clear_error();
	NCONF_free(c.conf);
	tao_buf_free(&c.text);
	cmd_findings_clear(&none);
	return module;
}

void cmd_examine_mode(const char *path, const char *program, struct cmd_findings *f)
{
	struct check c = { .text = TAO_BUF_INIT, .f = f };
	const char *before = f->file;
	const CONF_VALUE *v;

	f->file = path;
	v = load_tls(&c, path);
	if (v != NULL)
		say_mode(&c, v, program);
	ERR_clear_error();
	NCONF_free(c.conf);
	tao_buf_free(&c.text);
	f->file = before;
}
