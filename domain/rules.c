#include "rules.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tao/file.h"
#include "domain.h"

#define FORMAT        2 /* the newest */
#define MAX_SIGNATURE 4096 /* bytes of the signature line's text */
#define SIGNATURE     "signature "

void rules_init(struct rules *r, const uint8_t domain[TAO_HASH_LEN])
{
	memset(r, 0, sizeof *r);
	memcpy(r->domain, domain, TAO_HASH_LEN);
}

void rules_clear(struct rules *r)
{
	for (size_t i = 0; i < r->n; i++)
		fact_clear(&r->fact[i]);
	free(r->fact);
	memset(r, 0, sizeof *r);
}

/* ---- the set ---- */

/* Where text is, or would have to be. */
static size_t position(const struct rules *r, const char *text)
{
	size_t low = 0, high = r->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(r->fact[mid].text, text) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int have_at(const struct rules *r, size_t at, const char *text)
{
	return at < r->n && strcmp(r->fact[at].text, text) == 0;
}

int rules_have(const struct rules *r, const char *text)
{
	return have_at(r, position(r, text), text);
}

enum tao_err rules_insert(struct rules *r, struct fact *f)
{
	size_t at = position(r, f->text);

	if (have_at(r, at, f->text))
		return tao_fail(TAO_EEXIST, "the domain has this rule already: %.800s", f->text);
	if (r->n >= DOMAIN_MAX_FACTS)
		return tao_fail(TAO_ELIMIT,
		                "a domain has at most %d rules: remove those that are no "
		                "longer needed",
		                DOMAIN_MAX_FACTS);
	if (r->n == r->cap) {
		size_t cap = r->cap != 0 ? 2 * r->cap : 16;
		struct fact *p = realloc(r->fact, cap * sizeof *p);

		if (p == NULL)
			return tao_fail_nomem();
		r->fact = p;
		r->cap = cap;
	}
	memmove(r->fact + at + 1, r->fact + at, (r->n - at) * sizeof *r->fact);
	r->fact[at] = *f;
	r->n++;
	memset(f, 0, sizeof *f);
	return TAO_OK;
}

enum tao_err rules_take(struct rules *r, const char *text, struct fact *out)
{
	size_t at = position(r, text);

	if (!have_at(r, at, text))
		return tao_fail(TAO_ENOTFOUND, "the domain has no such rule: %.800s", text);
	*out = r->fact[at];
	r->n--;
	memmove(r->fact + at, r->fact + at + 1, (r->n - at) * sizeof *r->fact);
	return TAO_OK;
}

size_t rules_prefix(const struct rules *r, const char *prefix, size_t *end)
{
	size_t n = strlen(prefix), first = position(r, prefix);

	*end = first;
	while (*end < r->n && strncmp(r->fact[*end].text, prefix, n) == 0)
		(*end)++;
	return first;
}

size_t rules_range(const struct rules *r, const char *predicate, size_t *end)
{
	char prefix[64];

	snprintf(prefix, sizeof prefix, "%s(", predicate);
	return rules_prefix(r, prefix, end);
}

uint64_t rules_format(const struct rules *r)
{
	size_t end;

	return rules_range(r, "Installed", &end) < end || rules_range(r, "Until", &end) < end
	       ? 2 : 1;
}

/* ---- the text ---- */

void rules_print(const struct rules *r, struct tao_buf *out)
{
	tao_buf_fmt(out, "tao rules %" PRIu64 "\ndomain ", rules_format(r));
	tao_buf_hex(out, r->domain, TAO_HASH_LEN);
	tao_buf_fmt(out, "\nversion %" PRIu64 "\ndate %s\n", r->version, r->date);
	for (size_t i = 0; i < r->n; i++) {
		tao_buf_str(out, r->fact[i].text);
		tao_buf_u8(out, '\n');
	}
}

/* The next line, without its newline; bad if there is none, or no newline. */
static struct tao_rd line(struct tao_rd *rd)
{
	const uint8_t *end = rd->n > 0 ? memchr(rd->p, '\n', rd->n) : NULL;
	size_t n = end != NULL ? (size_t)(end - rd->p) : 0;
	struct tao_rd l = tao_rd_of(rd->p, n);

	if (end == NULL)
		rd->bad = l.bad = 1;
	else
		tao_rd_bytes(rd, n + 1);
	return l;
}

static void word(struct tao_rd *l, const char *s)
{
	size_t n = strlen(s);
	const uint8_t *p = tao_rd_bytes(l, n);

	if (p == NULL || memcmp(p, s, n) != 0)
		l->bad = 1;
}

/* The line's rest: a decimal number, in its one way of writing. */
static uint64_t number(struct tao_rd *l)
{
	uint64_t v = 0;

	if (l->n == 0 || (l->n > 1 && l->p[0] == '0'))
		l->bad = 1;
	while (l->n > 0 && !l->bad) {
		uint8_t c = tao_rd_u8(l);

		if (c < '0' || c > '9' || v > (UINT64_MAX - 9) / 10)
			l->bad = 1;
		v = 10 * v + (uint64_t)(c - '0');
	}
	return v;
}

static enum tao_err parse_format(struct tao_rd *rd, uint64_t *out)
{
	struct tao_rd l = line(rd);
	uint64_t format;

	word(&l, "tao rules ");
	format = number(&l);
	if (!tao_rd_done(&l) || format < 1)
		return tao_fail(TAO_EFORMAT, "these are not the rules of a domain");
	if (format > FORMAT)
		return tao_fail(TAO_EVERSION,
		                "the rules have format %" PRIu64 ", which a newer version "
		                "of the Tao wrote: upgrade this one",
		                format);
	*out = format;
	return TAO_OK;
}

static enum tao_err parse_domain(struct tao_rd *rd, const uint8_t *domain)
{
	struct tao_buf mine = TAO_BUF_INIT;
	struct tao_rd l = line(rd);
	enum tao_err e = TAO_OK;

	tao_buf_hex(&mine, domain, TAO_HASH_LEN);
	word(&l, "domain ");
	if (l.bad || l.n != mine.n)
		e = tao_fail(TAO_EFORMAT, "the rules do not name their domain");
	else if (mine.err == TAO_OK && memcmp(l.p, mine.p, mine.n) != 0)
		e = tao_fail(TAO_ESIGNATURE,
		             "the rules are those of the domain %.64s, not of %s: put "
		             "this domain's own rules back",
		             (const char *)l.p, tao_buf_cstr(&mine));
	if (e == TAO_OK)
		e = tao_buf_err(&mine);
	tao_buf_free(&mine);
	return e;
}

/* The shape of a time in UTC; that it is one was the signer's affair. */
static int date_ok(const uint8_t *p, size_t n)
{
	static const char most[] = "9999-19-39T29:59:69Z";

	if (n != sizeof most - 1)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (most[i] >= '0' && most[i] <= '9' ? p[i] < '0' || p[i] > most[i]
		                                     : p[i] != most[i])
			return 0;
	return 1;
}

static enum tao_err parse_head(struct tao_rd *rd, struct rules *r)
{
	struct tao_rd l;
	enum tao_err e = parse_format(rd, &r->format);

	if (e == TAO_OK)
		e = parse_domain(rd, r->domain);
	if (e != TAO_OK)
		return e;
	l = line(rd);
	word(&l, "version ");
	r->version = number(&l);
	if (!tao_rd_done(&l) || r->version == 0)
		return tao_fail(TAO_EFORMAT, "the rules have no version");
	l = line(rd);
	word(&l, "date ");
	if (l.bad || !date_ok(l.p, l.n))
		return tao_fail(TAO_EFORMAT, "the rules have no date");
	memcpy(r->date, l.p, l.n);
	r->date[l.n] = 0;
	return TAO_OK;
}

static enum tao_err parse_fact(struct tao_rd *l, struct rules *r)
{
	struct fact f;
	enum tao_err e = fact_parse((const char *)l->p, l->n, r->domain, &f);

	if (e != TAO_OK)
		return e;
	if (strlen(f.text) != l->n || memcmp(f.text, l->p, l->n) != 0)
		e = tao_fail(TAO_EFORMAT, "a rule is not in canonical form: %.400s", f.text);
	else if (r->n > 0 && strcmp(r->fact[r->n - 1].text, f.text) >= 0)
		e = tao_fail(TAO_EFORMAT, "a rule is out of order: %.400s", f.text);
	else
		e = rules_insert(r, &f);
	fact_clear(&f);
	return e;
}

enum tao_err rules_parse(const char *text, size_t n, struct rules *r)
{
	struct tao_rd rd = tao_rd_of(text, n);
	enum tao_err e;

	if (n > DOMAIN_MAX_RULES)
		return tao_fail(TAO_ELIMIT, "the rules exceed %u bytes", DOMAIN_MAX_RULES);
	e = parse_head(&rd, r);
	while (e == TAO_OK && rd.n > 0) {
		struct tao_rd l = line(&rd);

		e = l.bad ? tao_fail(TAO_EFORMAT, "the rules end within a line")
		          : parse_fact(&l, r);
	}
	if (e == TAO_OK && r->format != rules_format(r))
		e = tao_fail(TAO_EFORMAT, "the rules have format %" PRIu64 ", but facts of another",
		             r->format);
	return e;
}

/* ---- the signed file ---- */

/* Cuts the signature line off. */
static enum tao_err split(struct tao_rd *file, struct tao_rd *body, struct tao_rd *b64)
{
	size_t n = file->n, start;

	if (n == 0 || file->p[n - 1] != '\n')
		return tao_fail(TAO_EFORMAT, "the rules are truncated");
	for (start = n - 1; start > 0 && file->p[start - 1] != '\n'; start--)
		;
	*body = tao_rd_of(file->p, start);
	*b64 = tao_rd_of(file->p + start, n - 1 - start);
	word(b64, SIGNATURE);
	if (b64->bad || b64->n == 0 || b64->n > MAX_SIGNATURE)
		return tao_fail(TAO_EFORMAT,
		                "the rules are truncated: they end without a signature");
	return TAO_OK;
}

static void base64(const void *p, size_t n, struct tao_buf *out)
{
	uint8_t *room = tao_buf_room(out, (n + 2) / 3 * 4 + 1);

	if (room != NULL) {
		EVP_EncodeBlock(room, p, (int)n);
		out->n--; /* its NUL */
	}
}

/* Only what base64() writes: the decoder of libcrypto is lenient. */
static enum tao_err unbase64(const struct tao_rd *text, struct tao_buf *out)
{
	struct tao_buf again = TAO_BUF_INIT;
	uint8_t *room = tao_buf_room(out, text->n / 4 * 3 + 3);
	enum tao_err e = TAO_OK;
	int n = -1;

	if (room == NULL)
		return tao_buf_err(out);
	if (text->n % 4 == 0)
		n = EVP_DecodeBlock(room, text->p, (int)text->n);
	for (size_t i = 1; n > 0 && i <= 2 && text->p[text->n - i] == '='; i++)
		n--;
	out->n = n > 0 ? (size_t)n : 0;
	base64(out->p, out->n, &again);
	if (again.err != TAO_OK)
		e = tao_buf_err(&again);
	else if (again.n != text->n || memcmp(again.p, text->p, text->n) != 0)
		e = tao_fail(TAO_EFORMAT, "the signature of the rules is not base64");
	tao_buf_free(&again);
	return e;
}

/* The header of a SignedData: its first field, whole. The rest of rd is left. */
static struct tao_rd header(struct tao_rd *rd)
{
	struct tao_rd h = *rd;

	tao_rd_u8(rd);
	tao_rd_bytes(rd, tao_rd_varint(rd));
	h.n -= rd->n;
	h.bad = rd->bad;
	return h;
}

/* The signature does not cover its own header, and protobuf skips what it
 * does not know: neither may differ from what this key writes. */
static enum tao_err check_shape(EVP_PKEY *key, const struct tao_buf *sig)
{
	struct tao_buf own = TAO_BUF_INIT;
	struct tao_rd a, b, ha, hb;
	enum tao_err e = tao_key_sign(key, RULES_CONTEXT, "", 0, &own);

	a = tao_rd_of(own.p, own.n);
	b = tao_rd_of(sig->p, sig->n);
	ha = header(&a);
	hb = header(&b);
	if (tao_rd_u8(&a) != tao_rd_u8(&b) || tao_rd_varint(&b) != b.n)
		b.bad = 1;
	if (e == TAO_OK && (a.bad || b.bad || ha.n != hb.n || memcmp(ha.p, hb.p, ha.n) != 0))
		e = tao_fail(TAO_ESIGNATURE, "the signature's header was altered");
	tao_buf_free(&own);
	return e;
}

static enum tao_err open_signed(struct tao_rd file, EVP_PKEY *key, struct rules *r)
{
	struct tao_buf sig = TAO_BUF_INIT;
	struct tao_rd head = file, body = file, b64 = file;
	enum tao_err e = parse_head(&head, r);

	if (e == TAO_OK)
		e = split(&file, &body, &b64);
	if (e == TAO_OK)
		e = unbase64(&b64, &sig);
	if (e == TAO_OK)
		e = check_shape(key, &sig);
	if (e == TAO_OK)
		e = tao_key_verify(key, RULES_CONTEXT, body.p, body.n, sig.p, sig.n);
	if (e == TAO_OK)
		e = rules_parse((const char *)body.p, body.n, r);
	tao_buf_free(&sig);
	return e;
}

enum tao_err rules_load(const char *path, EVP_PKEY *key, struct rules *r)
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e = tao_file_read(path, DOMAIN_MAX_RULES + MAX_SIGNATURE, &text);

	if (e == TAO_OK) {
		e = open_signed(tao_rd_of(text.p, text.n), key, r);
		if (e == TAO_ESIGNATURE || e == TAO_EFORMAT)
			tao_fail(e,
			         "%s was altered or damaged: put a good copy of it back (%.600s)",
			         path, tao_why());
		else if (e != TAO_OK)
			tao_fail(e, "%s: %.700s", path, tao_why());
	}
	tao_buf_free(&text);
	return e;
}

static enum tao_err sign(EVP_PKEY *key, struct tao_buf *text)
{
	struct tao_buf sig = TAO_BUF_INIT;
	enum tao_err e = tao_buf_err(text);

	if (e == TAO_OK)
		e = tao_key_sign(key, RULES_CONTEXT, text->p, text->n, &sig);
	if (e == TAO_OK) {
		text->max += MAX_SIGNATURE;
		tao_buf_str(text, SIGNATURE);
		base64(sig.p, sig.n, text);
		tao_buf_u8(text, '\n');
		e = tao_buf_err(text);
	}
	tao_buf_free(&sig);
	return e;
}

static enum tao_err date_now(char date[RULES_DATE_MAX])
{
	time_t now = time(NULL);
	struct tm tm;

	if (gmtime_r(&now, &tm) == NULL ||
	    strftime(date, RULES_DATE_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return tao_fail(TAO_ESYS, "the system's clock is wrong: set it");
	return TAO_OK;
}

enum tao_err rules_save(const char *path, EVP_PKEY *key, struct rules *r)
{
	struct tao_buf text = TAO_BUF_INIT;
	struct rules next = *r;
	enum tao_err e;

	if (r->version == UINT64_MAX)
		return tao_fail(TAO_ELIMIT, "the rules cannot have a higher version");
	text.max = DOMAIN_MAX_RULES;
	next.version++;
	e = date_now(next.date);
	if (e == TAO_OK) {
		rules_print(&next, &text);
		e = sign(key, &text);
	}
	if (e == TAO_OK)
		e = tao_file_write(path, text.p, text.n, 0644, 0);
	if (e == TAO_OK)
		*r = next;
	tao_buf_free(&text);
	return e;
}
