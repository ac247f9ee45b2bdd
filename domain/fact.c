#include "fact.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "domain.h"

#define MAX_UID 4294967294 /* the last one means "no user" */

/* ---- `_` ---- */

static int word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

/* Bytes of the token at p: a string, bytes in either bracket, a word, or one
 * character. What is not closed goes to the end; the parser refuses it. */
static size_t token(const char *p, size_t n)
{
	char close = p[0] == '"' ? '"' : p[0] == '[' ? ']' : p[0] == '{' ? '}' : 0;
	size_t i = 1;

	if (close != 0) {
		while (i < n && p[i] != close)
			i += p[i] == '\\' && close == '"' ? 2 : 1;
		return i < n ? i + 1 : n;
	}
	if (word_char(p[0]))
		while (i < n && word_char(p[i]))
			i++;
	return i;
}

enum tao_err fact_rename(const char *text, size_t n, const char *from, const char *to,
                         struct tao_buf *out)
{
	while (n > 0) {
		size_t k = token(text, n);

		if (k == strlen(to) && memcmp(text, to, k) == 0)
			return tao_fail(TAO_EFORMAT,
			                "'%s' is reserved: write '_' for any one argument",
			                FACT_ANY);
		if (k == strlen(from) && memcmp(text, from, k) == 0)
			tao_buf_str(out, to);
		else
			tao_buf_put(out, text, k);
		text += k;
		n -= k;
	}
	return tao_buf_err(out);
}

/* ---- what a fact may hold ---- */

static int is_hash(const struct tao_node *t)
{
	return t->tag == TAO_BYTES && t->len == TAO_HASH_LEN;
}

static int is_any(const struct tao_node *t)
{
	return t->tag == TAO_VAR && strcmp(t->text, FACT_ANY) == 0;
}

static int is_uid(const struct tao_node *t)
{
	return t->tag == TAO_INT && t->num >= 0 && t->num <= MAX_UID;
}

static int is_unit(const struct tao_node *t)
{
	return t->tag == TAO_STR && t->len <= FACT_MAX_UNIT && memchr(t->text, 0, t->len) == NULL;
}

typedef int check_fn(const struct tao_node *t);

static const struct measurement {
	const char *name;
	size_t n_arg;
	check_fn *arg[3];
} measurements[] = {
	{ "Measured", 3, { is_hash, is_hash, is_uid } },
	{ "Program", 1, { is_hash } },
	{ "Process", 3, { is_hash, is_uid, is_unit } },
};

static const struct measurement *measurement_of(const struct tao_node *ext)
{
	for (size_t i = 0; i < sizeof measurements / sizeof *measurements; i++)
		if (strcmp(ext->text, measurements[i].name) == 0)
			return &measurements[i];
	return NULL;
}

static int measurement_ok(const struct measurement *m, const struct tao_node *ext, int may_be_any)
{
	if (ext->n_kid != m->n_arg)
		return 0;
	for (size_t i = 0; i < m->n_arg; i++)
		if (!m->arg[i](ext->kid[i]) && !(may_be_any && is_any(ext->kid[i])))
			return 0;
	return 1;
}

/* `_` only as an argument of an extension, and no principal without its key. */
static enum tao_err check_term(const struct tao_node *t, const struct tao_node *parent)
{
	enum tao_err e = TAO_OK;

	if (t->tag == TAO_VAR && !is_any(t))
		return tao_fail(TAO_EFORMAT, "'%.64s' is a variable: a fact has none but '_'",
		                t->text);
	if (t->tag == TAO_VAR && parent->tag != TAO_EXT)
		return tao_fail(TAO_EFORMAT,
		                "'_' stands only for an argument of a principal's extension");
	if (t->tag == TAO_PRIN && t->kid[0]->tag != TAO_BYTES)
		return tao_fail(TAO_EFORMAT, "the key of a principal is [hex], the hash of a key");
	for (size_t i = 0; e == TAO_OK && i < t->n_kid; i++)
		e = check_term(t->kid[i], t);
	return e;
}

static int is_domain_key(const struct tao_node *prin, const uint8_t *domain)
{
	return strcmp(prin->text, "key") == 0 && is_hash(prin->kid[0]) &&
	       memcmp(prin->kid[0]->text, domain, TAO_HASH_LEN) == 0;
}

/* A name that no program can ever have is a mistake of the writer. */
static enum tao_err check_prin(const struct tao_node *t, const uint8_t *domain)
{
	const struct measurement *m;

	if (t->tag != TAO_PRIN || !is_hash(t->kid[0]))
		return tao_fail(TAO_EFORMAT, "a principal is needed here: key([%d hex digits])...",
		                2 * TAO_HASH_LEN);
	for (size_t i = 1; i < t->n_kid; i++) {
		m = measurement_of(t->kid[i]);
		if (m == NULL)
			continue;
		if (!measurement_ok(m, t->kid[i], 1))
			return tao_fail(TAO_EFORMAT,
			                "%s needs Measured([exe], [manifest], uid), "
			                "Program([exe]) or Process([exe], uid, \"unit\")",
			                m->name);
		if (i == 1 && !is_domain_key(t, domain))
			return tao_fail(
			    TAO_EFORMAT,
			    "%s stands directly behind a key that is not this "
			    "domain's: write the domain id there, or a host's whole name",
			    m->name);
	}
	return TAO_OK;
}

static enum tao_err check_hash(const struct tao_node *t, const uint8_t *domain)
{
	(void)domain;
	if (is_hash(t))
		return TAO_OK;
	return tao_fail(TAO_EFORMAT, "a hash is needed here: [%d hex digits]", 2 * TAO_HASH_LEN);
}

static enum tao_err check_either(const struct tao_node *t, const uint8_t *domain)
{
	return t->tag == TAO_BYTES ? check_hash(t, domain) : check_prin(t, domain);
}

static enum tao_err check_label(const struct tao_node *t, const uint8_t *domain)
{
	(void)domain;
	if (t->tag == TAO_STR && t->len > 0 && memchr(t->text, 0, t->len) == NULL)
		return TAO_OK;
	return tao_fail(TAO_EFORMAT, "a label is needed here: \"text\"");
}

static enum tao_err check_dns(const struct tao_node *t, const uint8_t *domain)
{
	(void)domain;
	if (t->tag == TAO_STR && fact_dns_name(t->text, t->len))
		return TAO_OK;
	return tao_fail(TAO_EFORMAT, "a DNS name is needed here: \"www.example.org\", "
	                             "\"*.example.org\" or \"localhost\"");
}

static enum tao_err check_path(const struct tao_node *t, const uint8_t *domain)
{
	(void)domain;
	if (t->tag == TAO_STR && t->len > 1 && t->text[0] == '/' &&
	    memchr(t->text, 0, t->len) == NULL)
		return TAO_OK;
	return tao_fail(TAO_EFORMAT, "a path is needed here: \"/usr/sbin/nginx\"");
}

static enum tao_err check_time(const struct tao_node *t, const uint8_t *domain)
{
	int64_t seconds;

	(void)domain;
	if (t->tag == TAO_STR && fact_time(t->text, t->len, &seconds))
		return TAO_OK;
	return tao_fail(TAO_EFORMAT, "a time is needed here: \"2026-11-23T10:00:00Z\"");
}

typedef enum tao_err arg_fn(const struct tao_node *t, const uint8_t *domain);

static const struct predicate {
	const char *name;
	size_t n_arg;
	arg_fn *arg[2];
} predicates[] = {
	{ "TrustedHost", 1, { check_prin } },
	{ "TrustedProgram", 1, { check_either } },
	{ "SelfContained", 1, { check_hash } },
	{ "Successor", 2, { check_hash, check_hash } },
	{ "Serves", 2, { check_prin, check_dns } },
	{ "Connect", 2, { check_prin, check_prin } },
	{ "Unseal", 2, { check_prin, check_label } },
	{ "Revoked", 1, { check_either } },
	{ "Installed", 2, { check_hash, check_path } },
	{ "Until", 2, { check_hash, check_time } },
};

static enum tao_err check_form(const struct tao_node *f, const uint8_t *domain)
{
	const struct predicate *p = predicates, *end = p + sizeof predicates / sizeof *predicates;
	enum tao_err e = TAO_OK;

	if (f->tag != TAO_PRED)
		return tao_fail(TAO_EFORMAT, "a fact is one predicate, as TrustedProgram([hex])");
	while (p < end && strcmp(p->name, f->text) != 0)
		p++;
	if (p == end)
		return tao_fail(TAO_EFORMAT,
		                "no rule has the predicate '%.64s': there are TrustedHost, "
		                "TrustedProgram, SelfContained, Successor, Serves, Connect, "
		                "Unseal, Revoked, Installed and Until",
		                f->text);
	if (f->n_kid != p->n_arg)
		return tao_fail(TAO_EFORMAT, "%s has %zu argument%s, not %zu", p->name, p->n_arg,
		                p->n_arg == 1 ? "" : "s", f->n_kid);
	for (size_t i = 0; e == TAO_OK && i < p->n_arg; i++) {
		e = check_term(f->kid[i], f);
		if (e == TAO_OK)
			e = p->arg[i](f->kid[i], domain);
	}
	return e;
}

static enum tao_err canonical(const struct tao_node *form, char **text)
{
	struct tao_buf plain = TAO_BUF_INIT, out = TAO_BUF_INIT;
	enum tao_err e;

	tao_node_print(form, &plain);
	e = tao_buf_err(&plain);
	if (e == TAO_OK)
		e = fact_rename(tao_buf_cstr(&plain), plain.n, FACT_ANY, "_", &out);
	if (e == TAO_OK && out.n > DOMAIN_MAX_FACT)
		e = tao_fail(TAO_ELIMIT, "a fact has at most %d bytes", DOMAIN_MAX_FACT);
	if (e == TAO_OK && (*text = tao_buf_steal(&out)) == NULL)
		e = tao_fail_nomem();
	tao_buf_free(&plain);
	tao_buf_free(&out);
	return e;
}

enum tao_err fact_parse(const char *text, size_t n, const uint8_t domain[TAO_HASH_LEN],
                        struct fact *out)
{
	struct tao_buf plain = TAO_BUF_INIT;
	enum tao_err e;

	memset(out, 0, sizeof *out);
	if (n > DOMAIN_MAX_FACT)
		return tao_fail(TAO_ELIMIT, "a fact has at most %d bytes", DOMAIN_MAX_FACT);
	e = fact_rename(text, n, "_", FACT_ANY, &plain);
	if (e == TAO_OK)
		e = tao_form_parse(tao_buf_cstr(&plain), plain.n, &out->form);
	if (e == TAO_OK)
		e = check_form(out->form, domain);
	if (e == TAO_OK)
		e = canonical(out->form, &out->text);
	if (e != TAO_OK)
		fact_clear(out);
	tao_buf_free(&plain);
	return e;
}

void fact_clear(struct fact *f)
{
	free(f->text);
	tao_node_free(f->form);
	memset(f, 0, sizeof *f);
}

/* ---- times ---- */

int fact_time_text(int64_t seconds, char text[FACT_TIME_MAX])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	return gmtime_r(&t, &tm) != NULL && tm.tm_year >= 70 && tm.tm_year < 8100 &&
	       strftime(text, FACT_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0;
}

int fact_time(const char *text, size_t n, int64_t *seconds)
{
	char copy[FACT_TIME_MAX], again[FACT_TIME_MAX];
	struct tm tm = { 0 };
	const char *end;

	if (n >= sizeof copy)
		return 0;
	memcpy(copy, text, n);
	copy[n] = 0;
	end = strptime(copy, "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (end == NULL || *end != 0)
		return 0;
	*seconds = timegm(&tm);
	return fact_time_text(*seconds, again) && strcmp(copy, again) == 0;
}

/* ---- DNS names ---- */

static int label_char(char c)
{
	return word_char(c) && c != '_';
}

/* Bytes of the label at p, 0 if there is none. */
static size_t dns_label(const char *p, size_t n)
{
	size_t k = 0;

	while (k < n && (label_char(p[k]) || p[k] == '-'))
		k++;
	return k > FACT_MAX_DNS_LABEL || k == 0 || p[0] == '-' || p[k - 1] == '-' ? 0 : k;
}

int fact_dns_name(const char *name, size_t n)
{
	int digits = 0;

	if (n > FACT_MAX_DNS_NAME)
		return 0;
	if (n >= 2 && name[0] == '*' && name[1] == '.') {
		name += 2;
		n -= 2;
	}
	for (;;) {
		size_t k = dns_label(name, n);

		if (k == 0)
			return 0;
		digits = strspn(name, "0123456789") >= k;
		if (k == n)
			return !digits; /* 192.0.2.1 is an address */
		if (name[k] != '.')
			return 0;
		name += k + 1;
		n -= k + 1;
	}
}

/* ---- matching ---- */

/* The first n_kid kids of both: a principal's key and extensions. */
static int match_kids(const struct tao_node *pattern, const struct tao_node *name, size_t n_kid)
{
	for (size_t i = 0; i < n_kid; i++)
		if (!fact_match(pattern->kid[i], name->kid[i]))
			return 0;
	return 1;
}

static int match_head(const struct tao_node *pattern, const struct tao_node *name)
{
	if (pattern->tag != name->tag || pattern->num != name->num || pattern->len != name->len)
		return 0;
	return pattern->len == 0 || memcmp(pattern->text, name->text, pattern->len) == 0;
}

int fact_match(const struct tao_node *pattern, const struct tao_node *name)
{
	if (is_any(pattern))
		return 1;
	return match_head(pattern, name) && pattern->n_kid == name->n_kid &&
	       match_kids(pattern, name, name->n_kid);
}

int fact_covers(const struct tao_node *pattern, const struct tao_node *name)
{
	return match_head(pattern, name) && pattern->n_kid <= name->n_kid &&
	       match_kids(pattern, name, pattern->n_kid);
}

static int match_first(const struct tao_node *pattern, const struct tao_node *name, size_t n_kid)
{
	return pattern->n_kid == n_kid && fact_covers(pattern, name);
}

int fact_means_program(const struct tao_node *pattern, const struct fact_program *p)
{
	const struct tao_node *form[2] = { p->name, p->local };

	for (size_t i = 0; i < 2; i++) {
		if (match_first(pattern, form[i], form[i]->n_kid))
			return 1;
		if (p->in_domain && match_first(pattern, form[i], form[i]->n_kid - 1))
			return 1;
	}
	return 0;
}

int fact_covers_program(const struct tao_node *pattern, const struct fact_program *p)
{
	return fact_covers(pattern, p->name) || fact_covers(pattern, p->local);
}

/* ---- a program's name ---- */

static int is_guard(const struct tao_node *ext, const uint8_t *domain)
{
	return strcmp(ext->text, "DatalogGuard") == 0 && ext->n_kid == 1 &&
	       ext->kid[0]->tag == TAO_PRIN && ext->kid[0]->n_kid == 1 &&
	       is_domain_key(ext->kid[0], domain);
}

static int is_policy_key(const struct tao_node *ext, const uint8_t *domain)
{
	return strcmp(ext->text, "PolicyKey") == 0 && ext->n_kid == 1 && is_hash(ext->kid[0]) &&
	       memcmp(ext->kid[0]->text, domain, TAO_HASH_LEN) == 0;
}

const uint8_t *fact_measured(const struct tao_node *ext)
{
	const struct measurement *m = measurement_of(ext);

	return m != NULL && measurement_ok(m, ext, 0) ? (const uint8_t *)ext->kid[0]->text : NULL;
}

/* The measurement's place in the name, 0 if it is no program's. */
static size_t program_at(const struct tao_node *name, const uint8_t *domain)
{
	size_t guard = 1;

	if (name->tag != TAO_PRIN || strcmp(name->text, "key") != 0 || !is_hash(name->kid[0]))
		return 0;
	while (guard < name->n_kid && !is_guard(name->kid[guard], domain))
		guard++;
	if (guard + 1 >= name->n_kid || fact_measured(name->kid[guard + 1]) == NULL)
		return 0;
	return guard + 1;
}

static struct tao_node *local_name(const struct tao_node *name, size_t at, const uint8_t *domain)
{
	struct tao_node *p = tao_prin_key(domain);

	for (size_t i = at; p != NULL && i < name->n_kid; i++) {
		struct tao_node *longer = tao_prin_extend(p, tao_node_dup(name->kid[i]));

		tao_node_free(p);
		p = longer;
	}
	return p;
}

enum tao_err fact_program(const struct tao_node *name, const uint8_t domain[TAO_HASH_LEN],
                          struct fact_program *out)
{
	size_t at = program_at(name, domain);

	memset(out, 0, sizeof *out);
	if (at == 0) {
		char *text = tao_node_text(name);

		tao_fail(
		    TAO_EDENIED,
		    "this is not the name of a program in the domain, which is "
		    "HOST.DatalogGuard(DOMAIN).Measured(...): start the program with 'tao run' "
		    "on a host of the domain (%.400s)",
		    text != NULL ? text : "");
		free(text);
		return TAO_EDENIED;
	}
	out->name = name;
	out->host_key = (const uint8_t *)name->kid[0]->text;
	out->exe = fact_measured(name->kid[at]);
	out->n_host = at - 1;
	out->n_ext = name->n_kid - at - 1;
	out->in_domain = out->n_ext == 1 && is_policy_key(name->kid[at + 1], domain);
	out->is_process = strcmp(name->kid[at]->text, "Process") == 0;
	out->local = local_name(name, at, domain);
	return out->local != NULL ? TAO_OK : tao_fail_nomem();
}

void fact_program_clear(struct fact_program *p)
{
	tao_node_free(p->local);
	memset(p, 0, sizeof *p);
}
