#include "conf.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/conf.h>

#include "config.h"
#include "counter.h"
#include "root.h"
#include "../tao/file.h"

#define MAX_CONF 65536
#define MAX_WORKERS 256
#define MAX_SLOW 64

enum kind { NUMBER, PATH, ADMIT, AUDIT, ROOT, YESNO };

#define LIMIT(name, min, max, def) \
	{ #name, NUMBER, offsetof(struct host_conf, name), min, max, def }

/* The keys of taod.conf. */
static const struct key {
	const char *name;
	enum kind kind;
	size_t offset;
	uint32_t min, max;
	uint32_t value; /* default; 0: defaults() finds it out */
} keys[] = {
	{ "socket", PATH, offsetof(struct host_conf, socket), 0, 0, 0 },
	{ "provider", PATH, offsetof(struct host_conf, module), 0, 0, 0 },
	{ "workers", NUMBER, offsetof(struct host_conf, workers), 1, MAX_WORKERS, 0 },
	{ "certificate_lifetime", NUMBER, offsetof(struct host_conf, cert_seconds), 1, 366 * 86400,
	  72 * 3600 },
	{ "timeout", NUMBER, offsetof(struct host_conf, timeout_ms), 1, 3600000, 10000 },
	{ "admit", ADMIT, offsetof(struct host_conf, admit), 0, 0, 0 },
	{ "audit", AUDIT, offsetof(struct host_conf, audit_require), 0, 0, 0 },
	{ "audit_size", NUMBER, offsetof(struct host_conf, audit_bytes), 4096, 1u << 30, 16u << 20 },
	{ "sandbox", YESNO, offsetof(struct host_conf, sandbox), 0, 0, 0 },
	{ "undumpable", YESNO, offsetof(struct host_conf, undumpable), 0, 0, 0 },
	{ "root", ROOT, offsetof(struct host_conf, root), 0, 0, 0 },
	{ "parent", PATH, offsetof(struct host_conf, parent), 0, 0, 0 },
	{ "delegation_lifetime", NUMBER, offsetof(struct host_conf, delegation_seconds), 1, 366 * 86400,
	  30 * 86400 },
	{ "channel_epoch", NUMBER, offsetof(struct host_conf, channel_epoch), 4, 30 * 86400, 86400 },
	{ "channel_overlap", NUMBER, offsetof(struct host_conf, channel_overlap), 1, 30 * 86400, 3600 },
	LIMIT(max_channel_nonces, 64, 1 << 28, 8 << 20),
	LIMIT(max_instances, 1, 1000000, 16384),
	LIMIT(max_instances_per_user, 1, 1000000, 4096),
	LIMIT(max_connections_per_program, 1, 1000000, 1024),
	LIMIT(max_connections_per_user, 1, 1000000, 16384),
	LIMIT(max_unnamed_per_user, 1, 1000000, 256),
	LIMIT(max_keys, 1, 1000000, 1000),
	LIMIT(max_keys_per_program, 1, 1000000, 1000),
	LIMIT(max_labels, 1, COUNTERS_MAX_USER, COUNTERS_MAX_LABELS),
	LIMIT(max_request, 4096, 1 << 20, 1 << 20),
	LIMIT(max_memory_per_user, 1 << 20, 1 << 30, 256 << 20),
	LIMIT(max_rate_per_program, 1, 1000000, 1000),
	LIMIT(max_rate_per_user, 1, 1000000, 4000),
	LIMIT(max_slow_per_user, 1, MAX_SLOW, 0),
};

char *host_path(const struct host_conf *c, const char *fmt, ...)
{
	struct tao_buf b = TAO_BUF_INIT;
	char *rest = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&rest, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	tao_buf_fmt(&b, "%s/%s", c->dir, rest);
	free(rest);
	return tao_buf_steal(&b);
}

static enum tao_err set_number(const struct key *k, const char *path, const char *value,
                               struct host_conf *c)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(value, &end, 10);
	if (errno != 0 || value[0] < '0' || value[0] > '9' || *end != 0 || v < k->min || v > k->max)
		return tao_fail(TAO_EINVAL, "%s: %s = %s: give a number from %u to %u", path,
		                k->name, value, k->min, k->max);
	*(uint32_t *)((char *)c + k->offset) = (uint32_t)v;
	return TAO_OK;
}

static enum tao_err set_path(const struct key *k, const char *path, const char *value,
                             struct host_conf *c)
{
	char **to = (char **)((char *)c + k->offset);

	if (value[0] != '/')
		return tao_fail(TAO_EINVAL, "%s: %s = %s: give an absolute path", path, k->name,
		                value);
	free(*to);
	*to = strdup(value);
	return *to != NULL ? TAO_OK : tao_fail_nomem();
}

static enum tao_err set_audit(const struct key *k, const char *path, const char *value,
                              struct host_conf *c)
{
	if (strcmp(value, "on") != 0 && strcmp(value, "require") != 0)
		return tao_fail(TAO_EINVAL, "%s: %s = %s: give on or require", path, k->name,
		                value);
	*(uint32_t *)((char *)c + k->offset) = strcmp(value, "require") == 0;
	return TAO_OK;
}

static enum tao_err set_root(const struct key *k, const char *path, const char *value,
                             struct host_conf *c)
{
	const struct host_root *root = host_root_find(value);

	if (root == NULL)
		return tao_fail(TAO_EINVAL, "%s: %s = %s: give " HOST_ROOT_NAMES, path, k->name,
		                value);
	c->root = root;
	return TAO_OK;
}

static enum tao_err set_yesno(const struct key *k, const char *path, const char *value,
                              struct host_conf *c)
{
	int yes = strcmp(value, "yes") == 0;

	if (!yes && strcmp(value, "no") != 0)
		return tao_fail(TAO_EINVAL, "%s: %s = %s: say yes or no", path, k->name, value);
	*(uint32_t *)((char *)c + k->offset) = yes ? CONF_YES : CONF_NO;
	return TAO_OK;
}

/* The number of a word is its place. */
static const char *const admits[] = { "none", "connected" };

static enum tao_err set_admit(const struct key *k, const char *path, const char *value,
                             struct host_conf *c)
{
	for (uint32_t i = 0; i < sizeof admits / sizeof *admits; i++)
		if (strcmp(value, admits[i]) == 0) {
			*(uint32_t *)((char *)c + k->offset) = i;
			return TAO_OK;
		}
	return tao_fail(TAO_EINVAL, "%s: %s = %s: give none or connected", path, k->name, value);
}

static enum tao_err set_key(const char *path, const CONF_VALUE *v, struct host_conf *c)
{
	static enum tao_err (*const setters[])(const struct key *, const char *, const char *,
	                                       struct host_conf *) = {
		[NUMBER] = set_number, [PATH] = set_path, [ADMIT] = set_admit,
		[AUDIT] = set_audit, [ROOT] = set_root,
		[YESNO] = set_yesno,
	};

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		if (strcmp(v->name, keys[i].name) != 0)
			continue;
		return setters[keys[i].kind](&keys[i], path, v->value, c);
	}
	return tao_fail(TAO_EINVAL, "%s: unknown key %s: see taod.conf(5)", path, v->name);
}

static enum tao_err parse(const char *path, const struct tao_buf *text, int lenient,
                          struct host_conf *c)
{
	BIO *bio = BIO_new_mem_buf(text->p, (int)text->n);
	CONF *conf = NCONF_new(NULL);
	STACK_OF(CONF_VALUE) *values;
	enum tao_err e = TAO_OK;
	long line = 0;

	if (bio == NULL || conf == NULL) {
		e = tao_fail_nomem();
		goto out;
	}
	if (text->n > 0 && NCONF_load_bio(conf, bio, &line) <= 0) {
		e = tao_fail_crypto("%s: line %ld cannot be read", path, line);
		e = tao_fail(TAO_EINVAL, "%s", tao_why());
		goto out;
	}
	for (const char *line = tao_buf_cstr((struct tao_buf *)text); line != NULL;
	     line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL)
		if (line[strspn(line, " \t")] == '[') {
			e = tao_fail(TAO_EINVAL, "%s has no sections: put all keys before the "
			             "first line with [", path);
			goto out;
		}
	values = NCONF_get_section(conf, "default");
	for (int i = 0; e == TAO_OK && values != NULL && i < sk_CONF_VALUE_num(values); i++) {
		e = set_key(path, sk_CONF_VALUE_value(values, i), c);
		if (e == TAO_EINVAL && lenient)
			e = TAO_OK;
	}
out:
	NCONF_free(conf);
	BIO_free(bio);
	return e;
}

/* The provider module: beside the build's bin/ when run from a build tree. */
static char *default_module(void)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 64);
	char *slash;

	if (n > 0) {
		exe[n] = 0;
		slash = strrchr(exe, '/');
		if (slash != NULL && slash - exe >= 4 && memcmp(slash - 4, "/bin", 4) == 0) {
			strcpy(slash - 4, "/modules/tao.so");
			if (access(exe, R_OK) == 0)
				return strdup(exe);
		}
	}
	return strdup(TAO_MODULESDIR "/tao.so");
}

/* tao_tls.so beside the provider. */
static enum tao_err find_tls_module(struct host_conf *c)
{
	const char *slash = strrchr(c->module, '/');
	char *path;

	if (slash == NULL)
		return TAO_OK;
	if (asprintf(&path, "%.*s/tao_tls.so", (int)(slash - c->module), c->module) < 0)
		return tao_fail_nomem();
	if (access(path, R_OK) == 0)
		c->tls_module = path;
	else
		free(path);
	return TAO_OK;
}

static enum tao_err defaults(const char *dir, struct host_conf *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (keys[i].kind == NUMBER)
			*(uint32_t *)((char *)c + keys[i].offset) = keys[i].value;
	c->dir = strdup(dir);
	if (c->dir == NULL)
		return tao_fail_nomem();
	c->socket = host_path(c, "run/tao.sock");
	c->openssl_conf = host_path(c, "openssl.cnf");
	c->module = default_module();
	c->workers = cpus < 1 ? 1 : cpus > MAX_WORKERS ? MAX_WORKERS : (uint32_t)cpus;
	c->max_slow_per_user = cpus < 2 ? 2 : cpus > MAX_SLOW ? MAX_SLOW : (uint32_t)cpus;
	c->root = &host_root_soft;
	if (c->socket == NULL || c->openssl_conf == NULL || c->module == NULL)
		return tao_fail_nomem();
	return TAO_OK;
}

/* "tao state N": another N is a newer version's. */
static enum tao_err check_format(const struct host_conf *c)
{
	struct tao_buf text = TAO_BUF_INIT;
	char *path = host_path(c, "format");
	enum tao_err e;

	if (path == NULL)
		return tao_fail_nomem();
	e = tao_file_read(path, 64, &text);
	if (e == TAO_ENOTFOUND)
		e = tao_fail(TAO_ENOTFOUND, "there is no Tao host in %s: make one with 'tao init'",
		             c->dir);
	else if (e == TAO_OK && strncmp(tao_buf_cstr(&text), "tao state ", 10) != 0)
		e = tao_fail(TAO_EFORMAT, "%s is not a Tao host's: give the host's directory with "
		             "-d", path);
	else if (e == TAO_OK && strcmp(tao_buf_cstr(&text), HOST_FORMAT) != 0)
		e = tao_fail(TAO_EVERSION, "%s was written by a newer version: upgrade this one "
		             "(it understands \"tao state 1\")", path);
	free(path);
	tao_buf_free(&text);
	return e;
}

static enum tao_err load(const char *dir, int lenient, struct host_conf *out)
{
	struct tao_buf text = TAO_BUF_INIT;
	char *path = NULL;
	enum tao_err e = defaults(dir, out);

	if (e == TAO_OK)
		e = check_format(out);
	if (e != TAO_OK)
		goto out;
	path = host_path(out, "taod.conf");
	if (path == NULL) {
		e = tao_fail_nomem();
		goto out;
	}
	e = tao_file_read(path, MAX_CONF, &text);
	if (e == TAO_ENOTFOUND)
		e = TAO_OK; /* all defaults */
	else if (e == TAO_OK)
		e = parse(path, &text, lenient, out);
	if (e == TAO_OK && !lenient && out->channel_overlap > out->channel_epoch)
		e = tao_fail(TAO_EINVAL, "%s: channel_overlap = %u is longer than channel_epoch = "
		             "%u", path, out->channel_overlap, out->channel_epoch);
	if (e == TAO_OK)
		e = find_tls_module(out);
out:
	free(path);
	tao_buf_free(&text);
	if (e != TAO_OK)
		host_conf_clear(out);
	return e;
}

enum tao_err host_conf_load(const char *dir, struct host_conf *out)
{
	return load(dir, 0, out);
}

enum tao_err host_conf_load_lenient(const char *dir, struct host_conf *out)
{
	return load(dir, 1, out);
}

void host_conf_clear(struct host_conf *c)
{
	free(c->dir);
	free(c->socket);
	free(c->openssl_conf);
	free(c->module);
	free(c->tls_module);
	free(c->parent);
	memset(c, 0, sizeof *c);
}

void host_openssl_conf(const struct host_conf *c, struct tao_buf *out)
{
	tao_buf_fmt(out,
	            "# OpenSSL configuration of the Tao host in %s.\n"
	            "# taod writes this file at every start; `tao run` sets OPENSSL_CONF to it.\n"
	            "# The order matters: default is activated before tao (provider-tao(7)),\n"
	            "# and the providers before the TLS module (tao_tls(5)).\n"
	            "\n"
	            "openssl_conf = openssl_init\n"
	            "nodejs_conf = openssl_init\n"
	            "extensions = default_exts\n"
	            "\n"
	            "[openssl_init]\n"
	            "providers = provider_sect\n"
	            "%s"
	            "\n"
	            "[provider_sect]\n"
	            "default = default_sect\n"
	            "tao = tao_sect\n"
	            "\n"
	            "[default_sect]\n"
	            "activate = 1\n"
	            "\n"
	            "[tao_sect]\n"
	            "activate = 1\n"
	            "module = %s\n"
	            "socket = %s\n"
	            "timeout = %u\n"
	            "undumpable = %s\n"
	            "\n",
	            c->dir, c->tls_module != NULL ? "tao_tls = tao_tls_sect\n" : "", c->module,
	            c->socket, c->timeout_ms, c->undumpable == CONF_YES ? "yes" : "no");
	if (c->tls_module != NULL)
		tao_buf_fmt(out, "[tao_tls_sect]\npath = %s\n\n", c->module);
	tao_buf_fmt(out,
	            "# What `openssl req`, `openssl ca` and, of OpenSSL 4, `openssl x509 -req` expect of a\n"
	            "# configuration file.\n"
	            "[default_exts]\n"
	            "subjectKeyIdentifier = hash\n"
	            "authorityKeyIdentifier = keyid:nonss,issuer:nonss\n"
	            "\n"
	            "[req]\n"
	            "distinguished_name = req_dn\n"
	            "\n"
	            "[req_dn]\n");
}
