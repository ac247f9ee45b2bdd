#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "tls.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:"

static const struct {
	const char *word;
	enum tls_mode mode;
} modes[] = {
	{ "off", TLS_OFF },
	{ "certificate", TLS_CERTIFICATE },
	{ "prefer", TLS_PREFER },
	{ "require", TLS_REQUIRE },
};

const char *tls_mode_word(enum tls_mode m)
{
	return modes[m].word;
}

static int bad(const char *section, const CONF_VALUE *line, const char *what)
{
	ERR_raise_data(ERR_LIB_CONF, CONF_R_MODULE_INITIALIZATION_ERROR,
	               "tao_tls: %s in section [%s] %s, not '%.100s'", line->name, section, what,
	               line->value);
	return 0;
}

/* ---- values ---- */

struct reading {
	const CONF *cnf;
	const char *section;
	const char *program; /* NULL: the one that runs, which few have to ask for */
	struct tls_settings *s;
	int depth;
};

typedef int value_fn(struct reading *r, const CONF_VALUE *line, void *to);

static int read_mode(struct reading *r, const CONF_VALUE *line, void *to)
{
	for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
		if (strcmp(line->value, modes[i].word) == 0) {
			*(enum tls_mode *)to = modes[i].mode;
			return 1;
		}
	return bad(r->section, line, "is require, prefer, certificate or off");
}

static int read_switch(struct reading *r, const CONF_VALUE *line, void *to)
{
	int yes = strcmp(line->value, "yes") == 0;

	if (!yes && strcmp(line->value, "no") != 0)
		return bad(r->section, line, "is yes or no");
	*(int *)to = yes;
	return 1;
}

static int read_seconds(struct reading *r, const CONF_VALUE *line, void *to)
{
	char *end;
	unsigned long v = strtoul(line->value, &end, 10);

	if (line->value[0] < '0' || line->value[0] > '9' || *end != 0 || v > TLS_RENEW_MAX)
		return bad(r->section, line, "is a number of at most 86400");
	*(unsigned *)to = (unsigned)v;
	return 1;
}

static int read_path(struct reading *r, const CONF_VALUE *line, void *to)
{
	(void)r;
	(void)line;
	(void)to;
	return 1; /* OpenSSL's: it has loaded this file by it */
}

/* A DNS name as it goes over the wire, or an address; before it perhaps "*." Whatever else would fit nobody. */
static int is_peer(const char *name, size_t n)
{
	size_t label = 0;

	if (n > 1 && strncmp(name, "*.", 2) == 0) {
		name += 2;
		n -= 2;
	}
	for (size_t i = 0; i < n; i++) {
		if (name[i] == '.' ? label == 0 : strchr(NAME_CHARS, name[i]) == NULL)
			return 0;
		label = name[i] == '.' ? 0 : label + 1;
	}
	return label > 0;
}

static int bad_peer(const struct reading *r, const CONF_VALUE *line)
{
	ERR_raise_data(ERR_LIB_CONF, CONF_R_MODULE_INITIALIZATION_ERROR,
	               "tao_tls: '%.100s' in section [%s] is no name that a client asks for: write db.example.org, "
	               "*.example.org or an address, without a port", line->name, r->section);
	return 0;
}

static int read_one_peer(struct reading *r, const CONF_VALUE *line)
{
	struct tls_settings *s = r->s;
	struct tls_peer_mode *p;
	size_t n = strlen(line->name);

	if (n > 1 && line->name[n - 1] == '.')
		n--;
	if (n >= TLS_HOST_MAX || s->n_peers == TLS_MAX_PEERS)
		return bad(r->section, line, "is one name too long or too many");
	if (!is_peer(line->name, n))
		return bad_peer(r, line);
	p = realloc(s->peers, (s->n_peers + 1) * sizeof *p);
	if (p == NULL)
		return 0;
	s->peers = p;
	p += s->n_peers;
	memcpy(p->name, line->name, n);
	p->name[n] = 0;
	if (!read_mode(r, line, &p->mode))
		return 0;
	s->n_peers++;
	return 1;
}

static int read_peers(struct reading *r, const CONF_VALUE *line, void *to)
{
	struct reading inner = *r;
	STACK_OF(CONF_VALUE) *lines = NCONF_get_section(r->cnf, line->value);

	(void)to;
	inner.section = line->value;
	if (lines == NULL)
		return bad(r->section, line, "names a section of this file");
	for (int i = 0; i < sk_CONF_VALUE_num(lines); i++)
		if (!read_one_peer(&inner, sk_CONF_VALUE_value(lines, i)))
			return 0;
	return 1;
}

static int read_section(struct reading *r);

/* What the kernel calls the executable, as a path. A copy in memory has it in its name (host/filehash.h). */
void tls_program_path(char *link)
{
	static const char copy[] = "/memfd:", gone[] = " (deleted)";
	size_t n = strlen(link), to = 0;
	char hex[3] = { 0 };

	if (n > sizeof gone - 1 && strcmp(link + n - (sizeof gone - 1), gone) == 0)
		link[n - (sizeof gone - 1)] = 0;
	if (strncmp(link, copy, sizeof copy - 1) != 0)
		return;
	for (const char *at = link + sizeof copy - 1; *at != 0; at++) {
		if (*at == '%' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2])) {
			memcpy(hex, at + 1, 2);
			link[to++] = (char)strtoul(hex, NULL, 16);
			at += 2;
		} else {
			link[to++] = *at;
		}
	}
	link[to] = 0;
}

/* The process's own. Where /proc is not there, as it was started. */
static void find_program(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	const char *started = (const char *)getauxval(AT_EXECFN);

	path[n > 0 ? n : 0] = 0;
	if (n > 0)
		tls_program_path(path);
	else if (started != NULL)
		snprintf(path, PATH_MAX, "%s", started);
}

/* The whole path, or the last part of it. */
static int is_program(const char *name, const char *path)
{
	const char *base = strrchr(path, '/');

	return strcmp(name, path) == 0 || strcmp(name, base != NULL ? base + 1 : path) == 0;
}

static int read_programs(struct reading *r, const CONF_VALUE *line, void *to)
{
	STACK_OF(CONF_VALUE) *lines = NCONF_get_section(r->cnf, line->value);
	char own[PATH_MAX];

	(void)to;
	if (lines == NULL || r->depth == TLS_SECTION_DEPTH)
		return bad(r->section, line, "names a section of this file");
	if (r->program == NULL)
		find_program(own);
	for (int i = 0; i < sk_CONF_VALUE_num(lines); i++) {
		const CONF_VALUE *v = sk_CONF_VALUE_value(lines, i);
		struct reading inner = *r;

		inner.section = v->value;
		inner.program = r->program != NULL ? r->program : own;
		inner.depth++;
		if (is_program(v->name, inner.program) && !read_section(&inner))
			return 0;
	}
	return 1;
}

static const struct {
	const char *name;
	value_fn *read;
	size_t offset;
} keys[] = {
	{ "path", read_path, 0 },
	{ "renew", read_seconds, offsetof(struct tls_settings, renew) },
	{ "mode", read_mode, offsetof(struct tls_settings, mode) },
	{ "psk", read_switch, offsetof(struct tls_settings, psk) },
	{ "group", read_switch, offsetof(struct tls_settings, group) },
	{ "identity", read_switch, offsetof(struct tls_settings, identity) },
	{ "trust", read_switch, offsetof(struct tls_settings, trust) },
	{ "demand", read_switch, offsetof(struct tls_settings, demand) },
	{ "tls12_psk", read_switch, offsetof(struct tls_settings, tls12) },
	{ "peers", read_peers, 0 },
	{ "programs", read_programs, 0 }, /* the last: on top of the others */
};

static int read_line(struct reading *r, const CONF_VALUE *line, int programs)
{
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (strcmp(line->name, keys[i].name) == 0)
			return (keys[i].read == read_programs) != programs ||
			       keys[i].read(r, line, (char *)r->s + keys[i].offset);
	return bad(r->section, line, "is none of its settings");
}

static int read_section(struct reading *r)
{
	STACK_OF(CONF_VALUE) *lines = NCONF_get_section(r->cnf, r->section);

	for (int programs = 0; programs < 2; programs++)
		for (int i = 0; lines != NULL && i < sk_CONF_VALUE_num(lines); i++)
			if (!read_line(r, sk_CONF_VALUE_value(lines, i), programs))
				return 0;
	return lines != NULL;
}

int tls_settings_read(const CONF *cnf, const char *section, const char *program, struct tls_settings *s)
{
	struct reading r = { cnf, section, program, s, 0 };

	*s = (struct tls_settings){ .renew = TLS_RENEW_DEFAULT, .mode = TLS_PREFER, .psk = 1,
		                    .group = 1, .identity = 1, .trust = 1 };
	if (read_section(&r))
		return 1;
	s->mode = TLS_REQUIRE;
	free(s->peers);
	s->peers = NULL;
	s->n_peers = 0;
	s->psk = s->group = 0;
	s->broken = 1;
	return 0;
}

static int covers(const char *pattern, const char *name)
{
	size_t n = strlen(name), m = strlen(pattern);

	if (strncmp(pattern, "*.", 2) != 0)
		return OPENSSL_strcasecmp(pattern, name) == 0;
	return n > m - 1 && OPENSSL_strcasecmp(name + n - (m - 1), pattern + 1) == 0;
}

enum tls_mode tls_settings_mode(const struct tls_settings *s, const char *name)
{
	for (size_t i = 0; i < s->n_peers; i++)
		if (name[0] != 0 && covers(s->peers[i].name, name))
			return s->peers[i].mode;
	return s->mode;
}
