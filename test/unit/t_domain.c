/* The domain: facts, the signed rules, its files, its answers, its certificates. */
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "../../domain/cert.h"
#include "../../domain/domain.h"
#include "../../domain/rules.h"
#include "../../domain/state.h"
#include "../../tao/file.h"
#include "tap.h"

#define PASS   "correct horse", 13
#define HEX    (2 * TAO_HASH_LEN)
#define SECOND 1000000000LL

/* Hashes by their first digit pair: h("aa") is aaaa...aa. */
static const char *h(const char *pair)
{
	static char text[64][HEX + 1];
	static int next;
	char *t = text[next++ % 64];

	for (int i = 0; i < TAO_HASH_LEN; i++)
		memcpy(t + 2 * i, pair, 2);
	t[HEX] = 0;
	return t;
}

static void bytes(const char *pair, uint8_t out[TAO_HASH_LEN])
{
	tao_unhex(h(pair), HEX, out, TAO_HASH_LEN);
}

static void hex_of(const uint8_t *hash, char out[HEX + 1])
{
	for (int i = 0; i < TAO_HASH_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static const char *fmt(const char *f, ...) __attribute__((format(printf, 1, 2)));
static const char *fmt(const char *f, ...)
{
	static char text[64][8192];
	static int next;
	char *t = text[next++ % 64];
	va_list ap;

	va_start(ap, f);
	vsnprintf(t, sizeof text[0], f, ap);
	va_end(ap);
	return t;
}

static struct tao_node *prin(const char *text)
{
	struct tao_node *n = NULL;

	if (tao_prin_parse(text, strlen(text), &n) != TAO_OK)
		printf("# %s: %s\n", text, tao_why());
	return n;
}

/* The error, and a sentence that holds this. */
static void refused(enum tao_err got, enum tao_err want, const char *sentence, const char *what)
{
	int good = got == want && strstr(tao_why(), sentence) != NULL;

	if (!ok(good, "%s", what))
		printf("# got %d, wanted %d with '%s': %s\n", (int)got, (int)want, sentence,
		       tao_why());
}

/* ---- facts ---- */

static void test_rename(void)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{ "_", "Any_" },
		{ "P(_)", "P(Any_)" },
		{ "P(_,_ , _)", "P(Any_,Any_ , Any_)" },
		{ "P(\"_\")", "P(\"_\")" },
		{ "P(\"a\\\"_\", _)", "P(\"a\\\"_\", Any_)" },
		{ "P(\"\\\\\", _)", "P(\"\\\\\", Any_)" },
		{ "P(\"Any_\")", "P(\"Any_\")" },
		{ "P({_}, [_], _)", "P({_}, [_], Any_)" },
		{ "P({YQ_-Any_})", "P({YQ_-Any_})" },
		{ "P(__, _a, a_, 1_)", "P(__, _a, a_, 1_)" },
		{ "AnyX_ Any_1 xAny_", "AnyX_ Any_1 xAny_" },
		{ "\"_", "\"_" },
		{ "[_", "[_" },
		{ "\"\\", "\"\\" },
		{ "", "" },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct tao_buf b = TAO_BUF_INIT, back = TAO_BUF_INIT;
		enum tao_err e = fact_rename(t[i].in, strlen(t[i].in), "_", FACT_ANY, &b);

		ok_err(e, TAO_OK, "renames '%s'", t[i].in);
		ok_str(tao_buf_cstr(&b), t[i].out, "to '%s'", t[i].out);
		fact_rename(tao_buf_cstr(&b), b.n, FACT_ANY, "_", &back);
		ok_str(tao_buf_cstr(&back), t[i].in, "and back");
		tao_buf_free(&b);
		tao_buf_free(&back);
	}
	struct tao_buf b = TAO_BUF_INIT;
	refused(fact_rename("P(Any_)", 7, "_", FACT_ANY, &b), TAO_EFORMAT, "reserved",
	        "the reserved variable cannot be written");
	tao_buf_free(&b);
}

static const uint8_t D[TAO_HASH_LEN] = { 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd,
	                                 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd,
	                                 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd,
	                                 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd };

static void fact_is(const char *in, const char *want)
{
	struct fact f;

	ok_err(fact_parse(in, strlen(in), D, &f), TAO_OK, "takes %.70s", in);
	ok_str(f.text, want, "canonical");
	fact_clear(&f);
}

static void fact_not(const char *in, const char *sentence, const char *what)
{
	struct fact f;

	refused(fact_parse(in, strlen(in), D, &f), TAO_EFORMAT, sentence, what);
	ok(f.text == NULL && f.form == NULL, "and leaves nothing");
	fact_clear(&f);
}

static void test_facts_taken(void)
{
	const char *a = h("aa"), *b = h("bb"), *d = h("dd"), *s;

	s = fmt("TrustedProgram([%s])", a);
	fact_is(s, s);
	fact_is(fmt("( TrustedProgram( [%s] ) )", h("AA")), s);
	fact_is(fmt("SelfContained([%s])", a), fmt("SelfContained([%s])", a));
	fact_is(fmt("Successor([%s],[%s])", a, b), fmt("Successor([%s], [%s])", a, b));
	s = fmt("TrustedHost(key([%s]).DatalogGuard(key([%s])))", a, d);
	fact_is(s, s);
	s = fmt("Serves(key([%s]).Measured([%s], _, _), \"www.example.org\")", d, a);
	fact_is(s, s);
	s = fmt("Unseal(key([%s]).Process(_, 1000, \"a_ _.service\"), \"Any_ _\")", d);
	fact_is(s, s);
	s = fmt("Connect(key([%s]).DatalogGuard(_).Program([%s]), key([%s]))", a, b, a);
	fact_is(s, s);
	s = fmt("Revoked([%s])", a);
	fact_is(s, s);
	s = fmt("Revoked(key([%s]))", a);
	fact_is(s, s);
}

static void test_facts_refused(void)
{
	const char *a = h("aa"), *d = h("dd");
	char *long_label = malloc(DOMAIN_MAX_FACT + 2);
	struct fact f;

	fact_not("", "", "refuses nothing");
	fact_not("TrustedProgram", "", "refuses a bare word");
	fact_not(fmt("Trusted([%s])", a), "no rule has the predicate", "refuses another predicate");
	fact_not(fmt("trustedProgram([%s])", a), "", "refuses a lower-case predicate");
	fact_not("TrustedProgram([aa])", "a hash is needed", "refuses a short hash");
	fact_not("TrustedProgram(_)", "stands only for", "refuses _ outside a principal");
	fact_not("Revoked(_)", "stands only for", "refuses to revoke everything");
	fact_not("Unseal(_, _)", "stands only for", "refuses _ as a label");
	fact_not(fmt("TrustedHost(key(_))"), "key of a principal", "refuses _ as a key");
	fact_not(fmt("TrustedHost(key(\"a\"))"), "key of a principal", "refuses a key of text");
	fact_not("TrustedHost(key([aa]))", "principal is needed", "refuses a short key");
	fact_not(fmt("TrustedHost(key([%s]).DatalogGuard(key(_)))", a), "key of a principal",
	         "refuses _ as a key inside");
	fact_not(fmt("TrustedProgram([%s], [%s])", a, a), "1 argument, not 2", "counts arguments");
	fact_not("TrustedProgram()", "1 argument, not 0", "counts none");
	fact_not(fmt("Serves(key([%s]).A(X), \"a\")", d), "is a variable", "refuses variables");
	fact_not(fmt("Serves(key([%s]).A(Any_), \"a\")", d), "reserved", "refuses Any_");
	fact_not(fmt("Serves(key([%s]).Any_(1), \"a\")", d), "reserved", "also as an extension");
	fact_not(fmt("Serves(key([%s]).Measured([%s], _), \"a\")", d, a), "Measured needs",
	         "refuses a measurement with too few arguments");
	fact_not(fmt("Serves(key([%s]).Measured([%s], _, \"x\"), \"a\")", d, a), "Measured needs",
	         "refuses a measurement with a user of text");
	fact_not(fmt("Serves(key([%s]).Process(_, -1, _), \"a\")", d), "Process needs",
	         "refuses a negative user");
	fact_not(fmt("Serves(key([%s]).Measured([%s], _, _), \"a\")", a, a), "not this domain's",
	         "refuses a local name of another domain");
	fact_not(fmt("Serves(key([%s]), \"a b\")", d), "DNS name", "refuses a bad DNS name");
	fact_not(fmt("Serves(key([%s]), [%s])", d, a), "DNS name", "refuses bytes as a DNS name");
	fact_not(fmt("Unseal(key([%s]), \"\")", d), "label", "refuses an empty label");
	fact_not(fmt("Unseal(key([%s]), \"a\\x00b\")", d), "", "refuses a NUL in a label");
	fact_not(fmt("Unseal(key([%s]), 7)", d), "label", "refuses a number as a label");
	fact_not(fmt("TrustedProgram([%s]) and TrustedProgram([%s])", a, a), "one predicate",
	         "refuses a conjunction");
	fact_not(fmt("key([%s]) says TrustedProgram([%s])", a, a), "one predicate", "refuses says");
	fact_not(fmt("forall X: TrustedProgram([%s])", a), "one predicate", "refuses forall");
	memset(long_label, ' ', DOMAIN_MAX_FACT + 1);
	ok_err(fact_parse(long_label, DOMAIN_MAX_FACT + 1, D, &f), TAO_ELIMIT, "refuses long text");
	free(long_label);
	refused(fact_parse("TrustedProgram\0()", 17, D, &f), TAO_EFORMAT, "", "refuses a NUL");
}

static void test_dns(void)
{
	static const char *const good[] = { "localhost",
		                            "a",
		                            "www.example.org",
		                            "*.example.org",
		                            "xn--bcher-kva.example",
		                            "1.example",
		                            "A-b.C",
		                            "a.1b" };
	static const char *const bad[] = { "",          ".",    "a.",           ".a",    "a..b",
		                           "*",         "*.",   "*a.b",         "a.*.b", "-a",
		                           "a-",        "a.-b", "a_b",          "a b",   "a/b",
		                           "192.0.2.1", "1",    "m\xc3\xbcsli", "*.*.a", "a:1" };
	char label[300];

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ok(fact_dns_name(good[i], strlen(good[i])), "%s is a DNS name", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!fact_dns_name(bad[i], strlen(bad[i])), "'%s' is none", bad[i]);
	ok(!fact_dns_name("a\0b", 3), "no NUL in a DNS name");
	memset(label, 'a', sizeof label);
	ok(fact_dns_name(label, 63), "a label of 63");
	ok(!fact_dns_name(label, 64), "not of 64");
	for (size_t i = 50; i < sizeof label; i += 50)
		label[i] = '.';
	ok(fact_dns_name(label, 253), "a name of 253");
	ok(!fact_dns_name(label, 254), "not of 254");
}

static void means(const char *pattern, const char *name, int equal, int covers)
{
	struct fact f;
	struct fact_program p;
	struct tao_node *n = prin(name);
	const char *text = fmt("Revoked(%s)", pattern);

	if (fact_parse(text, strlen(text), D, &f) != TAO_OK || fact_program(n, D, &p) != TAO_OK)
		printf("# %s\n", tao_why());
	else
		ok(fact_means_program(f.form->kid[0], &p) == equal &&
		       fact_covers_program(f.form->kid[0], &p) == covers,
		   "%s%s..%s",
		   equal    ? "means "
		   : covers ? "covers "
		            : "neither ",
		   "", pattern + 70);
	fact_program_clear(&p);
	fact_clear(&f);
	tao_node_free(n);
}

static void test_matching(void)
{
	const char *d = h("dd"), *a = h("aa"), *e = h("ee"), *m = h("11");
	char host[400], prog[600], name[700], sub[800];

	snprintf(host, sizeof host, "key([%s]).DatalogGuard(key([%s]))", a, d);
	snprintf(prog, sizeof prog, "%s.Measured([%s], [%s], 33)", host, e, m);
	snprintf(name, sizeof name, "%s.PolicyKey([%s])", prog, d);
	snprintf(sub, sizeof sub, "%s.Worker(1)", name);
	means(name, name, 1, 1);
	means(prog, name, 1, 1);
	means(host, name, 0, 1);
	means(fmt("key([%s])", a), name, 0, 1);
	means(fmt("key([%s]).Measured([%s], _, _)", d, e), name, 1, 1);
	means(fmt("key([%s]).Measured(_, [%s], 33)", d, m), name, 1, 1);
	means(fmt("key([%s]).Measured([%s], _, _).PolicyKey([%s])", d, e, d), name, 1, 1);
	means(fmt("key([%s]).Measured([%s], _, _).PolicyKey([%s])", d, e, d), prog, 0, 0);
	means(fmt("key([%s]).Measured([%s], _, 34)", d, e), name, 0, 0);
	means(fmt("key([%s]).Measured([%s], _, _)", d, m), name, 0, 0);
	means(fmt("key([%s]).Program([%s])", d, e), name, 0, 0);
	means(fmt("%s.Measured(_, _, _)", host), name, 1, 1);
	means(fmt("key([%s]).DatalogGuard(_).Measured(_, _, 33)", a), name, 1, 1);
	means(fmt("key([%s]).DatalogGuard(_).Measured(_, _, 33)", e), name, 0, 0);
	means(prog, sub, 0, 1);
	means(name, sub, 0, 1);
	means(sub, sub, 1, 1);
	means(fmt("key([%s]).Measured([%s], _, _).PolicyKey([%s]).Worker(_)", d, e, d), sub, 1, 1);
	means(sub, name, 0, 0);
}

static void is_program(const char *name, const char *what)
{
	struct fact_program p;
	struct tao_node *n = prin(name);

	ok_err(fact_program(n, D, &p), TAO_OK, "%s", what);
	fact_program_clear(&p);
	tao_node_free(n);
}

static void not_program(const char *name, const char *what)
{
	struct fact_program p;
	struct tao_node *n = prin(name);

	ok_err(fact_program(n, D, &p), TAO_EDENIED, "%s", what);
	fact_program_clear(&p);
	tao_node_free(n);
}

static void test_not_programs(void)
{
	const char *d = h("dd"), *a = h("aa"),
		   *host = fmt("key([%s]).DatalogGuard(key([%s]))", a, d), *unit = fmt("%0257d", 0);

	not_program(host, "a host is no program");
	not_program(fmt("key([%s]).Program([%s])", a, a), "nor is one without a guard");
	not_program(fmt("key([%s]).DatalogGuard(key([%s])).Program([%s])", a, a, a),
	            "nor one of another domain");
	not_program(fmt("key([%s]).DatalogGuard([%s]).Program([%s])", a, d, a),
	            "nor one with an unsigned guard");
	not_program(fmt("key([%s]).DatalogGuard(key([%s]).X()).Program([%s])", a, d, a),
	            "nor one with a guard of a subprincipal");
	not_program(fmt("tpm([%s]).DatalogGuard(key([%s])).Program([%s])", a, d, a),
	            "nor one of another kind of key");
	not_program(fmt("%s.Foo([%s])", host, a), "nor one not measured");
	not_program(fmt("%s.Program([aa])", host), "nor one with a short hash");
	not_program(fmt("%s.Program([%s], 1)", host, a), "nor one with more arguments");
	not_program(fmt("%s.Measured([%s], [%s], X)", host, a, a), "nor one with a variable");
	not_program(fmt("%s.Measured([%s], [%s], Any_)", host, a, a), "nor one of any user");
	not_program(fmt("%s.Measured([%s], [%s], 4294967295)", host, a, a), "nor one of no user");
	is_program(fmt("%s.Measured([%s], [%s], 4294967294)", host, a, a),
	           "but one of the last user");
	not_program(fmt("%s.Process([%s], 1, \"%s\")", host, a, unit),
	            "nor one in a unit of 257 bytes");
	is_program(fmt("%s.Process([%s], 1, \"%s\")", host, a, unit + 1),
	           "but one in a unit of 256");
	not_program(fmt("%s.X().Program([%s])", host, a), "nor one measured further back");
}

/* ---- names on stacked hosts ---- */

static void splits(const char *name, size_t n_host, const char *exe, size_t n_ext, int in_domain)
{
	struct fact_program p;
	struct tao_node *n = prin(name);
	char hex[HEX + 1] = "";

	if (fact_program(n, D, &p) == TAO_OK)
		hex_of(p.exe, hex);
	ok(strcmp(hex, exe) == 0 && p.n_host == n_host && p.n_ext == n_ext &&
	       p.in_domain == in_domain,
	   "%zu extensions of the host in %.100s...", n_host, name);
	fact_program_clear(&p);
	tao_node_free(n);
}

static void test_stacked_names(void)
{
	const char *d = h("dd"), *o = h("00"), *a = h("aa"), *e = h("ee"), *t = h("77"), *m = h("11");
	char outer[800], host[900], prog[1200], name[1400];

	snprintf(outer, sizeof outer,
	         "key([%s]).DatalogGuard(key([%s])).Measured([%s], [%s], 0).PolicyKey([%s])", a, o,
	         t, m, o);
	snprintf(host, sizeof host, "%s.DatalogGuard(key([%s]))", outer, d);
	snprintf(prog, sizeof prog, "%s.Measured([%s], [%s], 33)", host, e, m);
	snprintf(name, sizeof name, "%s.PolicyKey([%s])", prog, d);
	splits(prog, 4, e, 0, 0);
	splits(name, 4, e, 1, 1);
	splits(fmt("%s.Worker(1)", name), 4, e, 2, 0);
	not_program(outer, "a program of the parent's domain is none of the inner one's");
	not_program(host, "a stacked host is no program");
	not_program(fmt("%s.X().Program([%s])", host, e), "nor is what stands further back");
	/* What a program of this domain writes behind its name stays behind its name. */
	splits(fmt("key([%s]).DatalogGuard(key([%s])).Program([%s]).PolicyKey([%s])"
	           ".DatalogGuard(key([%s])).Program([%s]).PolicyKey([%s])", a, d, e, d, d, t, d),
	       1, e, 4, 0);
	means(fmt("key([%s]).Measured([%s], _, _)", d, e), name, 1, 1);
	means(fmt("key([%s]).Measured([%s], _, _)", d, t), name, 0, 0);
	means(name, name, 1, 1);
	means(host, name, 0, 1);
	means(outer, name, 0, 1);
	means(fmt("key([%s])", a), name, 0, 1);
}

/* ---- the text of the rules ---- */

static enum tao_err parse_text(const char *text)
{
	struct rules r;
	enum tao_err e;

	rules_init(&r, D);
	e = rules_parse(text, strlen(text), &r);
	rules_clear(&r);
	return e;
}

static void test_rules_text(void)
{
	const char *a = h("aa"), *b = h("bb"), *d = h("dd");
	const char *head = fmt("tao rules 1\ndomain %s\nversion 7\ndate 2026-11-23T10:00:00Z\n", d);
	const char *good = fmt("%sTrustedProgram([%s])\nTrustedProgram([%s])\n", head, a, b);
	struct tao_buf out = TAO_BUF_INIT;
	struct rules r;

	rules_init(&r, D);
	ok_err(rules_parse(good, strlen(good), &r), TAO_OK, "reads rules");
	ok(r.version == 7 && r.n == 2, "version and facts");
	ok_str(r.date, "2026-11-23T10:00:00Z", "date");
	rules_print(&r, &out);
	ok_str(tao_buf_cstr(&out), good, "writes them as they were");
	rules_clear(&r);
	tao_buf_free(&out);

	ok_err(parse_text(head), TAO_OK, "no facts is fine");
	ok_err(parse_text(fmt("%sTrustedProgram([%s])\nTrustedProgram([%s])\n", head, b, a)),
	       TAO_EFORMAT, "refuses facts out of order");
	ok_err(parse_text(fmt("%sTrustedProgram([%s])\nTrustedProgram([%s])\n", head, a, a)),
	       TAO_EFORMAT, "refuses a fact twice");
	ok_err(parse_text(fmt("%sTrustedProgram( [%s])\n", head, a)), TAO_EFORMAT,
	       "refuses a fact not in canonical form");
	ok_err(parse_text(fmt("%sTrustedProgram([%s])", head, a)), TAO_EFORMAT,
	       "refuses a missing newline");
	ok_err(parse_text(fmt("%s\n", head)), TAO_EFORMAT, "refuses an empty line");
	refused(parse_text(fmt("tao rules 3\n%s", head + 12)), TAO_EVERSION, "newer version",
	        "refuses format 3");
	ok_err(parse_text(fmt("tao rules 2\n%sUntil([%s], \"2026-11-23T10:00:00Z\")\n", head + 12,
	                      a)),
	       TAO_OK, "format 2 has times");
	ok_err(parse_text(fmt("tao rules 2\n%sInstalled([%s], \"/bin/x\")\n", head + 12, a)),
	       TAO_OK,
	       "and paths");
	refused(parse_text(fmt("tao rules 2\n%sTrustedProgram([%s])\n", head + 12, a)), TAO_EFORMAT,
	        "facts of another", "format 2 is for facts that need it");
	refused(parse_text(fmt("%sUntil([%s], \"2026-11-23T10:00:00Z\")\n", head, a)), TAO_EFORMAT,
	        "facts of another", "and they are not in format 1");
	ok_err(parse_text(fmt("tao rules 12345678901234567890123\n%s", head + 12)), TAO_EFORMAT,
	       "refuses a format beyond 64 bits");
	ok_err(parse_text(fmt("tao rules 0\n%s", head + 12)), TAO_EFORMAT, "refuses format 0");
	ok_err(parse_text(fmt("tao rules 01\n%s", head + 12)), TAO_EFORMAT, "refuses format 01");
	refused(
	    parse_text(fmt("tao rules 1\ndomain %s\nversion 7\ndate 2026-11-23T10:00:00Z\n", a)),
	    TAO_ESIGNATURE, "those of the domain aaaa", "refuses another domain's");
	ok_err(parse_text(fmt("tao rules 1\ndomain %s\nversion 0\ndate 2026-11-23T10:00:00Z\n", d)),
	       TAO_EFORMAT, "refuses version 0");
	ok_err(
	    parse_text(fmt("tao rules 1\ndomain %s\nversion 7 \ndate 2026-11-23T10:00:00Z\n", d)),
	    TAO_EFORMAT, "refuses a blank behind the version");
	ok_err(parse_text(fmt("tao rules 1\ndomain %s\nversion 7\ndate 2026-11-23 10:00:00Z\n", d)),
	       TAO_EFORMAT, "refuses another date");
	ok_err(parse_text(""), TAO_EFORMAT, "refuses nothing");
	ok_err(parse_text("tao rules 1\n"), TAO_EFORMAT, "refuses a head cut off");
}

static void test_limit(void)
{
	struct rules r;
	struct fact f;
	enum tao_err e = TAO_OK;
	int i;

	rules_init(&r, D);
	for (i = 0; i <= DOMAIN_MAX_FACTS && e == TAO_OK; i++) {
		const char *t = fmt("Unseal(key([%s]), \"%d\")", h("aa"), i);

		e = fact_parse(t, strlen(t), D, &f);
		if (e == TAO_OK)
			e = rules_insert(&r, &f);
		fact_clear(&f);
	}
	ok_err(e, TAO_ELIMIT, "a limit on facts");
	ok(i == DOMAIN_MAX_FACTS + 1 && r.n == DOMAIN_MAX_FACTS, "at its place");
	rules_clear(&r);
}

/* ---- the directory ---- */

static char top[] = "/tmp/t_domain.XXXXXX";

static char *in(const char *dir, const char *name)
{
	static char path[8][256];
	static int next;
	char *p = path[next++ % 8];

	snprintf(p, sizeof path[0], "%s/%s%s%s", top, dir, *name ? "/" : "", name);
	return p;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static void copy(const char *from, const char *to)
{
	struct tao_buf b = TAO_BUF_INIT;

	if (tao_file_read(from, 1 << 20, &b) != TAO_OK ||
	    tao_file_write(to, b.p, b.n, 0644, 0) != TAO_OK)
		printf("# %s\n", tao_why());
	tao_buf_free(&b);
}

static enum tao_err try_load(const char *dir)
{
	struct domain *d;
	enum tao_err e = domain_load(dir, PASS, &d);

	domain_free(d);
	return e;
}

static void test_create(void)
{
	char *long_name = malloc(CERT_MAX_NAME + 2);
	struct domain *d = (struct domain *)1;

	memset(long_name, 'a', CERT_MAX_NAME + 1);
	long_name[CERT_MAX_NAME + 1] = 0;
	ok_err(domain_create(in("x", ""), "", PASS), TAO_EINVAL, "a domain has a name");
	ok_err(domain_create(in("x", ""), long_name, PASS), TAO_EINVAL, "not a long one");
	ok_err(domain_create(in("x", ""), "a\nb", PASS), TAO_EINVAL, "of one line");
	ok_err(domain_create(in("x", ""), "a\xff", PASS), TAO_EINVAL, "in UTF-8");
	ok(access(in("x", ""), F_OK) != 0, "refused names leave nothing");
	ok_err(domain_create(in("none/x", ""), "a", PASS), TAO_ENOTFOUND, "parents must exist");
	free(long_name);

	ok_err(domain_create(in("a", ""), "Größe & Co.", PASS), TAO_OK, "makes a domain");
	ok(mode_of(in("a", "policy.key")) == 0600, "the key is its owner's");
	ok(mode_of(in("a", "policy.pem")) == 0644 && mode_of(in("a", "rules")) == 0644,
	   "the rest is for all");
	copy(in("a", "rules"), in("", "rules.first"));
	refused(domain_create(in("a", ""), "b", PASS), TAO_EEXIST, top, "not over another");
	ok_err(try_load(in("a", "")), TAO_OK, "which is unharmed");
	refused(domain_load(in("a", ""), "wrong", 5, &d), TAO_EPASS, "policy.key",
	        "a wrong passphrase names the file");
	ok(d == NULL, "and yields no domain");
	refused(domain_load(in("none", ""), PASS, &d), TAO_ENOTFOUND, "policy.key",
	        "no domain at all");
	ok_err(domain_create(in("b", ""), "b", PASS), TAO_OK, "makes another");
}

/* What is beside the key has to be the key's. */
static void test_files(void)
{
	copy(in("a", "policy.pem"), in("", "pem"));
	copy(in("a", "rules"), in("", "rules"));
	copy(in("b", "policy.pem"), in("a", "policy.pem"));
	refused(try_load(in("a", "")), TAO_ESIGNATURE, "is not the certificate of policy.key",
	        "another's certificate");
	tao_file_write(in("a", "policy.pem"), "rubbish\n", 8, 0644, 0);
	refused(try_load(in("a", "")), TAO_EFORMAT, "policy.pem", "no certificate");
	unlink(in("a", "policy.pem"));
	refused(try_load(in("a", "")), TAO_ENOTFOUND, "policy.pem", "a missing certificate");
	copy(in("", "pem"), in("a", "policy.pem"));
	copy(in("b", "rules"), in("a", "rules"));
	refused(try_load(in("a", "")), TAO_ESIGNATURE, "those of the domain", "another's rules");
	unlink(in("a", "rules"));
	refused(try_load(in("a", "")), TAO_ENOTFOUND, "not complete", "missing rules");
	copy(in("", "rules"), in("a", "rules"));
	ok_err(try_load(in("a", "")), TAO_OK, "all back in place");
}

static void test_altered_cert(void)
{
	struct tao_buf pem = TAO_BUF_INIT, der = TAO_BUF_INIT;
	const unsigned char *p;
	char *name;
	X509 *cert;

	/* Another organisation, the signature left. */
	tao_file_read(in("b", "policy.pem"), 65536, &pem);
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	cert_to_der(cert, &der);
	X509_free(cert);
	name = memmem(der.p, der.n, "policy key of b", 15);
	name[14] = 'c';
	p = der.p;
	cert = d2i_X509(NULL, &p, (long)der.n);
	tao_buf_reset(&pem);
	cert_to_pem(cert, &pem);
	tao_file_write(in("b", "policy.pem"), pem.p, pem.n, 0644, 0);
	refused(try_load(in("b", "")), TAO_ESIGNATURE, "altered", "an altered certificate");
	X509_free(cert);
	BIO_free(bio);
	tao_buf_free(&pem);
	tao_buf_free(&der);
}

struct seen {
	int n;
	char text[4][512];
};

static void see(const char *fact, void *arg)
{
	struct seen *s = arg;

	if (s->n < 4)
		snprintf(s->text[s->n], sizeof s->text[0], "%s", fact);
	s->n++;
}

static void test_editing(struct domain *d)
{
	const char *f = fmt("TrustedProgram([%s])", h("77")),
		   *g = fmt("SelfContained([%s])", h("77"));
	struct seen s = { 0 };
	struct domain *again = NULL;
	uint64_t version = 0;
	char date[32], today[16];
	time_t now = time(NULL);

	ok(domain_rules_version(d) == 1, "a new domain has rules of version 1");
	ok_err(domain_add_fact(d, f), TAO_OK, "adds a fact");
	ok_err(domain_add_fact(d, fmt(" SelfContained([%s] )", h("77"))), TAO_OK, "and another");
	ok(domain_rules_version(d) == 3, "each a version");
	refused(domain_add_fact(d, fmt("(%s)", f)), TAO_EEXIST, f, "not twice");
	ok_err(domain_add_fact(d, "Foo()"), TAO_EFORMAT, "no nonsense");
	ok_err(domain_remove_fact(d, "Foo()"), TAO_EFORMAT, "nor out");
	ok_err(domain_remove_fact(d, fmt("TrustedProgram([%s])", h("78"))), TAO_ENOTFOUND,
	       "nor what is not there");
	ok(domain_rules_version(d) == 3, "failures are no version");
	ok_err(domain_load(in("a", ""), PASS, &again), TAO_OK, "all is in the file");
	ok_err(domain_rules(again, &version, date, see, &s), TAO_OK, "and told");
	ok(version == 3 && s.n == 2, "version and number");
	ok_str(s.text[0], g, "sorted, first");
	ok_str(s.text[1], f, "sorted, second");
	strftime(today, sizeof today, "%Y-%m-%d", gmtime(&now));
	ok(strlen(date) == 20 && strncmp(date, today, 10) == 0, "dated today: %s", date);
	domain_free(again);
	ok_err(domain_remove_fact(d, g), TAO_OK, "takes one back");
	ok(domain_rules_version(d) == 4, "a version too");
	ok_err(domain_remove_fact(d, g), TAO_ENOTFOUND, "once");
}

/* Where the file cannot be written, memory stays as the file is. */
static void test_write_failure(struct domain *d)
{
	const char *f = fmt("TrustedProgram([%s])", h("77")),
		   *g = fmt("SelfContained([%s])", h("77"));
	uint64_t version = domain_rules_version(d);
	struct seen s = { 0 };
	char date[32];

	rename(in("a", "rules"), in("a", "aside"));
	mkdir(in("a", "rules"), 0755);
	ok(domain_add_fact(d, g) != TAO_OK, "fails to add when it cannot write");
	ok(domain_remove_fact(d, f) != TAO_OK, "and to remove");
	domain_rules(d, &version, date, see, &s);
	ok(s.n == 1 && strcmp(s.text[0], f) == 0 && version == domain_rules_version(d),
	   "nothing changed");
	rmdir(in("a", "rules"));
	rename(in("a", "aside"), in("a", "rules"));
	ok_err(domain_add_fact(d, g), TAO_OK, "adds when it can");
	ok(domain_rules_version(d) == version + 1, "with the next version");
}

/* ---- the signed file ---- */

static enum tao_err load_bytes(EVP_PKEY *key, const void *p, size_t n)
{
	uint8_t id[TAO_HASH_LEN];
	struct rules r;
	enum tao_err e;
	FILE *f = fopen(in("", "altered"), "w");

	fwrite(p, 1, n, f);
	fclose(f);
	tao_key_hash(key, id);
	rules_init(&r, id);
	e = rules_load(in("", "altered"), key, &r);
	rules_clear(&r);
	return e;
}

static int altered(enum tao_err e)
{
	return e == TAO_ESIGNATURE || e == TAO_EFORMAT;
}

static void test_altered_rules(void)
{
	struct tao_keyset ks = { 0 };
	struct tao_buf b = TAO_BUF_INIT;
	int flips = 0, cuts = 0;

	tao_keyset_load(in("a", "policy.key"), PASS, &ks);
	tao_file_read(in("a", "rules"), 65536, &b);
	ok_err(load_bytes(ks.signer, b.p, b.n), TAO_OK, "the rules as they are");
	for (size_t i = 0; i < b.n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			int newer =
			    i == 10 && (b.p[i] ^ 1 << bit) > '1' && (b.p[i] ^ 1 << bit) <= '9';
			enum tao_err e;

			b.p[i] ^= (uint8_t)(1 << bit);
			e = load_bytes(ks.signer, b.p, b.n);
			b.p[i] ^= (uint8_t)(1 << bit);
			if (newer ? e == TAO_EVERSION : altered(e))
				flips++;
			else
				printf("# byte %zu, bit %d: %d %s\n", i, bit, (int)e, tao_why());
		}
	}
	ok(flips == 8 * (int)b.n, "every bit of every byte counts");
	for (size_t n = 0; n < b.n; n++)
		cuts += altered(load_bytes(ks.signer, b.p, n));
	ok(cuts == (int)b.n, "so does every length");
	tao_buf_u8(&b, '\n');
	ok(altered(load_bytes(ks.signer, b.p, b.n)), "and a line more");
	tao_buf_free(&b);
	tao_keyset_clear(&ks);
}

/* What protobuf would skip behind a good signature is an alteration too. */
static void test_signature_padded(void)
{
	struct tao_keyset ks = { 0 };
	struct tao_buf b = TAO_BUF_INIT;
	unsigned char raw[512], text[700];
	const char *line;
	int n;

	tao_keyset_load(in("a", "policy.key"), PASS, &ks);
	tao_file_read(in("a", "rules"), 65536, &b);
	line = strstr(tao_buf_cstr(&b), "\nsignature ") + 11;
	n = EVP_DecodeBlock(raw, (unsigned char *)line, (int)strcspn(line, "\n"));
	n -= line[strcspn(line, "\n") - 1] == '=';
	n -= line[strcspn(line, "\n") - 2] == '=';
	memcpy(raw + n, "\x78\x01", 2); /* field 15, a number */
	EVP_EncodeBlock(text, raw, n + 2);
	b.n = (size_t)(line - (char *)b.p);
	tao_buf_fmt(&b, "%s\n", (char *)text);
	refused(load_bytes(ks.signer, b.p, b.n), TAO_ESIGNATURE, "header was altered",
	        "a signature with something behind it");
	tao_buf_free(&b);
	tao_keyset_clear(&ks);
}

/* Valid text, rightly signed or not. */
static void test_signed_rules(void)
{
	struct tao_keyset ks = { 0 };
	struct tao_buf b = TAO_BUF_INIT, old = TAO_BUF_INIT;
	char *p;

	tao_keyset_load(in("a", "policy.key"), PASS, &ks);
	tao_file_read(in("a", "rules"), 65536, &b);
	memcpy(b.p, "tao rules 3", 11);
	refused(load_bytes(ks.signer, b.p, b.n), TAO_EVERSION, "upgrade",
	        "format 3 is a newer one's");
	memcpy(b.p, "tao rules 1", 11);
	p = (char *)strstr(tao_buf_cstr(&b), "version ");
	p[8]++;
	refused(load_bytes(ks.signer, b.p, b.n), TAO_ESIGNATURE, "altered", "a version set higher");
	p[8]--;
	p = strstr(p, "SelfContained");
	memcpy(p, "Unsealwhatsit", 13);
	refused(load_bytes(ks.signer, b.p, b.n), TAO_ESIGNATURE, "altered",
	        "the signature is looked at before the facts");
	tao_file_read(in("", "rules.first"), 65536, &old);
	ok_err(load_bytes(ks.signer, old.p, old.n), TAO_OK,
	       "an older file is good: its version tells");
	tao_buf_free(&b);
	tao_buf_free(&old);
	tao_keyset_clear(&ks);
}

/* ---- questions ---- */

static void add(struct domain *d, const char *f)
{
	if (domain_add_fact(d, f) != TAO_OK)
		ok(0, "adds %s: %s", f, tao_why());
}

static void drop(struct domain *d, const char *f)
{
	if (domain_remove_fact(d, f) != TAO_OK)
		ok(0, "removes %s: %s", f, tao_why());
}

/* Asks with the fact and without. */
static void revoked(struct domain *d, enum tao_err (*ask)(struct domain *, const struct tao_node *),
                    const char *name, const char *fact, const char *what)
{
	struct tao_node *n = prin(name);

	ok_err(ask(d, n), TAO_OK, "%s: fine before", what);
	add(d, fact);
	refused(ask(d, n), TAO_EDENIED, "revoked", what);
	drop(d, fact);
	tao_node_free(n);
}

static void test_hosts(struct domain *d, const char *id)
{
	const char *a = h("aa"), *text = fmt("key([%s]).DatalogGuard(key([%s]))", a, id);
	const char *f = fmt("TrustedHost(%s)", text);
	struct tao_node *host = prin(text), *other = prin(fmt("%s.Program([%s])", text, a));
	struct tao_node *key = prin(fmt("key([%s])", a));

	refused(domain_trusts_host(d, host), TAO_EDENIED, f,
	        "an unknown host, and the rule to add");
	add(d, f);
	ok_err(domain_trusts_host(d, host), TAO_OK, "a trusted host");
	ok_err(domain_trusts_host(d, other), TAO_EDENIED, "not what is on it");
	ok_err(domain_trusts_host(d, key), TAO_EDENIED, "not its key");
	revoked(d, domain_trusts_host, text, fmt("Revoked([%s])", a), "a host with a revoked key");
	revoked(d, domain_trusts_host, text, fmt("Revoked(%s)", text), "a revoked host");
	revoked(d, domain_trusts_host, text, fmt("Revoked(key([%s]))", a), "a revoked root");
	revoked(d, domain_trusts_host, text, fmt("Revoked(key([%s]).DatalogGuard(_))", a),
	        "a host revoked under any guard");
	drop(d, f);
	tao_node_free(host);
	tao_node_free(other);
	tao_node_free(key);
}

static void test_programs(struct domain *d, const char *id)
{
	const char *a = h("aa"), *e = h("ee"), *m = h("11");
	char name[700], local[400];
	struct tao_node *n;

	snprintf(name, sizeof name,
	         "key([%s]).DatalogGuard(key([%s])).Measured([%s], [%s], 33).PolicyKey([%s])", a,
	         id, e, m, id);
	snprintf(local, sizeof local, "key([%s]).Measured([%s], _, _)", id, e);
	n = prin(name);
	refused(domain_trusts_program(d, n), TAO_EDENIED, e, "an unknown program, by its hash");
	refused(domain_trusts_program(d, n), TAO_EDENIED, "tao trust PATH", "and what to do");
	add(d, fmt("Successor([%s], [%s])", e, h("77")));
	ok_err(domain_trusts_program(d, n), TAO_EDENIED, "a successor is not trusted for that");
	add(d, fmt("TrustedProgram([%s])", e));
	ok_err(domain_trusts_program(d, n), TAO_OK, "a trusted program");
	revoked(d, domain_trusts_program, name, fmt("Revoked([%s])", e), "a revoked executable");
	revoked(d, domain_trusts_program, name, fmt("Revoked([%s])", a), "a revoked host key");
	revoked(d, domain_trusts_program, name, fmt("Revoked(key([%s]))", a), "a revoked host");
	revoked(d, domain_trusts_program, name, fmt("Revoked(%s)", local), "a revoked program");
	revoked(d, domain_trusts_program, name, fmt("Revoked(%s)", name), "a revoked name");
	revoked(d, domain_trusts_program, name,
	        fmt("Revoked(key([%s]).Measured(_, [%s], _))", id, m), "a revoked manifest");
	add(d, fmt("Revoked(key([%s]).Measured([%s], _, 34))", id, e));
	ok_err(domain_trusts_program(d, n), TAO_OK, "another user's is revoked: not this one");

	refused(domain_may_unseal(d, n, "db"), TAO_EDENIED, e, "no right to unseal, by its hash");
	add(d, fmt("Unseal(%s, \"db\")", local));
	ok_err(domain_may_unseal(d, n, "db"), TAO_OK, "a right to unseal");
	ok_err(domain_may_unseal(d, n, "d"), TAO_EDENIED, "not another label");
	add(d, fmt("Revoked([%s])", e));
	refused(domain_may_unseal(d, n, "db"), TAO_EDENIED, "revoked", "not when revoked");
	drop(d, fmt("Revoked([%s])", e));
	tao_node_free(n);
}

static struct tao_node *on_host(const char *id, const char *exe, const char *more)
{
	return prin(fmt("key([%s]).DatalogGuard(key([%s])).Measured([%s], [%s], 33)%s", h("aa"), id,
	                h(exe), h("11"), more));
}

/* Each with the rule alone. */
static void allows(struct domain *d, const char *rule, struct tao_node *c, struct tao_node *s,
                   int yes, const char *what)
{
	add(d, rule);
	ok_err(domain_may_connect(d, c, s), yes ? TAO_OK : TAO_EDENIED, "%s", what);
	drop(d, rule);
}

static void test_connect(struct domain *d, const char *id)
{
	const char *policy = fmt(".PolicyKey([%s])", id);
	char c_any[300], s_any[300], both[700];
	struct tao_node *c = on_host(id, "c1", policy), *s = on_host(id, "51", policy);
	struct tao_node *sub = on_host(id, "c1", fmt("%s.Sub()",
	                                             policy)), *root = prin(fmt("key([%s])", id));

	snprintf(c_any, sizeof c_any, "key([%s]).Measured([%s], _, _)", id, h("c1"));
	snprintf(s_any, sizeof s_any, "key([%s]).Measured([%s], _, 33)", id, h("51"));
	snprintf(both, sizeof both, "Connect(%s, %s)", c_any, s_any);
	ok(!domain_has_connect(d), "no rule of who may talk to whom");
	refused(domain_may_connect(d, c, s), TAO_EDENIED, "tao connect",
	        "so nobody may, and what to do");
	allows(d, both, c, s, 1, "a client and a server");
	allows(d, both, s, c, 0, "not the other way round");
	allows(d, both, c, c, 0, "nor to another of the client's");
	allows(d, both, sub, s, 0, "nor a subprincipal of the client");
	allows(d, both, c, root, 0, "nor to what is no program");
	allows(d, fmt("Connect(%s, key([%s]).Measured(_, _, _))", c_any, id), c, s, 1,
	       "to any program");
	allows(d, fmt("Connect(key([%s]).Measured(_, _, 34), %s)", id, s_any), c, s, 0,
	       "another user's");
	add(d, both);
	ok(domain_has_connect(d), "now there is one");
	ok_err(domain_not_revoked(d, c, NULL), TAO_OK, "neither is revoked");
	add(d, fmt("Revoked([%s])", h("51")));
	refused(domain_may_connect(d, c, s), TAO_EDENIED, "revoked", "a revoked server");
	ok_err(domain_not_revoked(d, s, NULL), TAO_EDENIED, "as can be asked");
	drop(d, fmt("Revoked([%s])", h("51")));
	add(d, fmt("Revoked(%s)", c_any));
	refused(domain_may_connect(d, c, s), TAO_EDENIED, "revoked", "a revoked client");
	drop(d, fmt("Revoked(%s)", c_any));
	drop(d, both);
	tao_node_free(c);
	tao_node_free(s);
	tao_node_free(sub);
	tao_node_free(root);
}

static void test_serves(struct domain *d, const char *id)
{
	struct tao_node *s = on_host(id, "51", fmt(".PolicyKey([%s])", id)), *c = on_host(id, "c1",
	                                                                                  "");
	uint8_t key[TAO_HASH_LEN];
	char exact[300], star[300];

	snprintf(exact, sizeof exact, "Serves(key([%s]).Measured([%s], _, _), \"Www.example.org\")",
	         id, h("51"));
	snprintf(star, sizeof star, "Serves(key([%s]).Measured([%s], _, _), \"*.example.net\")", id,
	         h("51"));
	ok(!domain_knows_service(d, "www.example.org"), "a name of which no rule speaks");
	add(d, exact);
	add(d, star);
	ok(domain_knows_service(d, "www.example.org"), "one that a program serves");
	ok_err(domain_serves(d, s, "WWW.example.org"), TAO_OK, "however it is written");
	refused(domain_serves(d, c, "www.example.org"), TAO_EDENIED, "--serves",
	        "not another program");
	ok_err(domain_serves(d, s, "example.org"), TAO_EDENIED, "not a part of it");
	ok_err(domain_serves(d, s, "a.example.net"), TAO_OK, "a star stands for a label");
	ok_err(domain_serves(d, s, "a.b.example.net"), TAO_EDENIED, "not for two");
	ok_err(domain_serves(d, s, "example.net"), TAO_EDENIED, "nor for none");
	ok_err(domain_serves(d, s, ".example.net"), TAO_EDENIED, "nor for an empty one");
	ok(!domain_knows_service(d, "a.b.example.net"), "nobody does");
	drop(d, exact);
	drop(d, star);
	bytes("77", key);
	add(d, fmt("Revoked([%s])", h("77")));
	ok_err(domain_not_revoked(d, s, key), TAO_EDENIED, "a revoked key");
	drop(d, fmt("Revoked([%s])", h("77")));
	ok_err(domain_not_revoked(d, s, key), TAO_OK, "that is no more");
	tao_node_free(s);
	tao_node_free(c);
}

static void test_hash_rules(struct domain *d)
{
	uint8_t e[TAO_HASH_LEN], old[TAO_HASH_LEN], other[TAO_HASH_LEN];

	bytes("ee", e);
	bytes("77", old);
	bytes("66", other);
	ok_err(domain_self_contained(d, old), TAO_OK, "self-contained");
	refused(domain_self_contained(d, e), TAO_EDENIED, h("ee"), "not self-contained");
	ok_err(domain_successor(d, e, old), TAO_OK, "a successor");
	refused(domain_successor(d, old, e), TAO_EDENIED, "does not follow", "not backwards");
	ok_err(domain_successor(d, other, old), TAO_EDENIED, "not another");
	add(d, fmt("Revoked([%s])", h("ee")));
	refused(domain_successor(d, e, old), TAO_EDENIED, "revoked", "not a revoked one");
	drop(d, fmt("Revoked([%s])", h("ee")));
	add(d, fmt("Revoked([%s])", h("77")));
	ok_err(domain_self_contained(d, old), TAO_EDENIED, "nor self-contained when revoked");
	ok_err(domain_successor(d, e, old), TAO_OK, "it may follow a revoked one");
	drop(d, fmt("Revoked([%s])", h("77")));
}

/* ---- upgrades ---- */

static void count_change(const char *fact, int removed, void *arg)
{
	(void)fact;
	((int *)arg)[removed]++;
}

static enum tao_err upgrade(struct domain *d, const char *exe, const char *old, int64_t until,
                            int changes[2])
{
	uint8_t new[TAO_HASH_LEN], olds[1][TAO_HASH_LEN];
	struct domain_upgrade u = { .exe = new, .path = "/opt/\"x\"", .until = until };

	changes[0] = changes[1] = 0;
	bytes(exe, new);
	if (old != NULL) {
		bytes(old, olds[0]);
		u.old = (const uint8_t (*)[TAO_HASH_LEN])olds;
		u.n_old = 1;
	}
	return domain_upgrade(d, &u, count_change, changes);
}

static enum tao_err executable(struct domain *d, const char *exe)
{
	uint8_t hash[TAO_HASH_LEN];

	bytes(exe, hash);
	return domain_executable(d, hash);
}

static enum tao_err follows(struct domain *d, const char *new, const char *old)
{
	uint8_t a[TAO_HASH_LEN], b[TAO_HASH_LEN];

	bytes(new, a);
	bytes(old, b);
	return domain_successor(d, a, b);
}

static void test_times(struct domain *d)
{
	static const char *const bad[] = { "", "2026", "2026-11-23T10:00:00",
	                                   "2026-11-23T10:00:00z",
		"2026-13-23T10:00:00Z", "2026-02-30T10:00:00Z", "2026-11-23T24:00:00Z",
		" 2026-11-23T10:00:00Z",
		"2026-11-23T10:00:00Z ", "2026-11-23T10:00:60Z", "26-11-23T10:00:00Z",
		"1969-11-23T10:00:00Z",
		"2026-11-23 10:00:00Z", "99999-11-23T10:00:00Z", "2026-1-23T10:00:00Z" };

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		refused(domain_add_fact(d, fmt("Until([%s], \"%s\")", h("51"), bad[i])),
		        TAO_EFORMAT,
		        "a time is needed", fmt("not a time: '%s'", bad[i]));
	ok_err(domain_add_fact(d, fmt("Until([%s], 5)", h("51"))), TAO_EFORMAT, "nor a number");
	ok_err(domain_add_fact(d, fmt("Until(key([%s]), \"2026-11-23T10:00:00Z\")", h("51"))),
	       TAO_EFORMAT,
	       "Until is of an executable");
	ok_err(domain_add_fact(d, fmt("Installed([%s], \"x\")", h("51"))), TAO_EFORMAT,
	       "a path is absolute");
	ok_err(domain_add_fact(d, fmt("Installed([%s], \"/\")", h("51"))), TAO_EFORMAT,
	       "and of a file");

	ok_err(executable(d, "51"), TAO_OK, "an executable that nothing is said of");
	add(d, fmt("Until([%s], \"2999-11-23T10:00:00Z\")", h("51")));
	ok_err(executable(d, "51"), TAO_OK, "before its time is over");
	add(d, fmt("Until([%s], \"2020-11-23T10:00:00Z\")", h("51")));
	refused(executable(d, "51"), TAO_EEXPIRED, "accepted until 2020-11-23T10:00:00Z",
	        "the earliest counts");
	ok_err(executable(d, "52"), TAO_OK, "another one is not meant");
	drop(d, fmt("Until([%s], \"2020-11-23T10:00:00Z\")", h("51")));
	drop(d, fmt("Until([%s], \"2999-11-23T10:00:00Z\")", h("51")));
}

static void test_upgrades(struct domain *d, const char *id)
{
	const char *local = fmt("key([%s]).Measured([%s], _, 33)", id, h("51"));
	uint64_t version = domain_rules_version(d);
	struct tao_node *n = prin(fmt("key([%s]).DatalogGuard(key([%s])).Measured([%s], [%s], 33)",
	                              h("aa"), id, h("52"), h("dd")));
	int64_t now = time(NULL);
	int changes[2];

	refused(upgrade(d, "51", NULL, now + 9, changes), TAO_ENOTFOUND, "--replaces",
	        "nothing that it replaces");
	ok(domain_rules_version(d) == version, "changes nothing");
	ok_err(upgrade(d, "51", NULL, 0, changes), TAO_OK, "the first at a path");
	ok(changes[0] == 1 && changes[1] == 0, "is installed there");
	ok_err(upgrade(d, "51", NULL, 0, changes), TAO_OK, "once more");
	ok(changes[0] == 0 && changes[1] == 0 && domain_rules_version(d) == version + 1,
	   "changes nothing");
	add(d, fmt("TrustedProgram([%s])", h("51")));
	add(d, fmt("Serves(%s, \"up.test\")", local));
	add(d, fmt("Unseal(%s, \"up\")", local));
	ok_err(domain_may_unseal(d, n, "up"), TAO_EDENIED, "the next one has no rights yet");
	ok_err(upgrade(d, "52", NULL, 0, changes), TAO_OK, "the next one there");
	ok(changes[0] == 5 && changes[1] == 1 && domain_rules_version(d) == version + 5,
	   "in one version");
	ok_err(follows(d, "52", "51"), TAO_OK, "follows it");
	ok_err(follows(d, "51", "52"), TAO_EDENIED, "not the other way round");
	ok_err(follows(d, "52", "52"), TAO_EDENIED, "nor itself");
	ok_err(domain_trusts_program(d, n), TAO_OK, "is trusted as it is");
	ok_err(domain_may_unseal(d, n, "up"), TAO_OK, "with its rights");
	drop(d, fmt("Unseal(key([%s]).Measured([%s], _, 33), \"up\")", id, h("52")));
	ok_err(upgrade(d, "52", NULL, 0, changes), TAO_OK, "once more");
	ok_err(domain_may_unseal(d, n, "up"), TAO_EDENIED, "what was taken back stays so");

	ok_err(upgrade(d, "53", "50", now + 1000, changes), TAO_OK,
	       "one more, which replaces one of elsewhere too");
	ok_err(follows(d, "53", "51"), TAO_OK, "it follows the first by way of the second");
	ok_err(follows(d, "53", "50"), TAO_OK, "and that other one");
	ok_err(follows(d, "52", "50"), TAO_EDENIED, "which the second does not");
	ok_err(executable(d, "51"), TAO_OK, "for the stated time all work");
	ok_err(executable(d, "52"), TAO_OK, "the second");
	ok_err(upgrade(d, "53", NULL, now - 1, changes), TAO_OK, "the time is over");
	ok(changes[0] == 3 && changes[1] == 3, "for all three");
	refused(executable(d, "50"), TAO_EEXPIRED, "replaced by an upgrade", "one");
	refused(executable(d, "51"), TAO_EEXPIRED, h("51"), "two");
	refused(domain_trusts_program(d, n), TAO_EEXPIRED, "start the program again",
	        "three: gets no certificate");
	refused(domain_may_unseal(d, n, "up"), TAO_EEXPIRED, "start the program again",
	        "and no key");
	refused(follows(d, "52", "51"), TAO_EEXPIRED, "start the program again",
	        "nor what was another's");
	ok_err(executable(d, "53"), TAO_OK, "the newest works");
	ok_err(upgrade(d, "53", NULL, now + 1000, changes), TAO_OK, "another time, too late");
	ok(changes[0] == 0 && changes[1] == 0, "does not revive them");

	ok_err(upgrade(d, "52", NULL, now + 1000, changes), TAO_OK, "back to the second");
	ok_err(executable(d, "52"), TAO_OK, "which works again");
	ok_err(executable(d, "53"), TAO_OK, "and the third for its time");
	ok_err(executable(d, "51"), TAO_EEXPIRED, "not the first");
	ok_err(follows(d, "52", "53"), TAO_OK, "what was the third's is the second's");
	tao_node_free(n);
}

/* A clock behind the rules' own date is not believed. */
static void test_clock(struct domain *d)
{
	struct tao_keyset ks = { 0 };
	struct rules r;

	add(d, fmt("Until([%s], \"2999-11-23T10:00:00Z\")", h("54")));
	ok_err(executable(d, "54"), TAO_OK, "far from its end");
	ok_err(tao_keyset_load(in("a", "policy.key"), PASS, &ks), TAO_OK, "the policy key");
	rules_init(&r, domain_id(d));
	ok_err(rules_load(in("a", "rules"), ks.signer, &r), TAO_OK, "its rules");
	ok(rules_format(&r) == 2, "are of format 2");
	rules_clear(&r);
	pthread_mutex_lock(&d->lock);
	strcpy(d->rules.date, "2999-11-23T10:00:00Z");
	pthread_mutex_unlock(&d->lock);
	ok_err(executable(d, "54"), TAO_EEXPIRED, "rules that were written after it");
	drop(d, fmt("Until([%s], \"2999-11-23T10:00:00Z\")", h("54")));
	tao_keyset_clear(&ks);
}

/* ---- certificates ---- */

/* All that one request is made of; a test changes a part and asks. */
struct scene {
	struct domain *d;
	char id[HEX + 1], host[HEX + 1], key_hash[HEX + 1];
	EVP_PKEY *host_key, *key;
	struct tao_buf spki;
	char name[700];
};

static EVP_PKEY *new_key(char hash[HEX + 1])
{
	uint8_t b[TAO_HASH_LEN];
	EVP_PKEY *k = NULL;

	tao_key_generate("ecdsap256", &k);
	tao_key_hash(k, b);
	hex_of(b, hash);
	return k;
}

static void scene_init(struct scene *s, struct domain *d)
{
	memset(s, 0, sizeof *s);
	s->spki = (struct tao_buf)TAO_BUF_INIT;
	s->d = d;
	hex_of(domain_id(d), s->id);
	s->host_key = new_key(s->host);
	s->key = new_key(s->key_hash);
	tao_key_spki(s->key, &s->spki);
	snprintf(s->name, sizeof s->name,
	         "key([%s]).DatalogGuard(key([%s])).Measured([%s], [%s], 33).PolicyKey([%s])",
	         s->host, s->id, h("ee"), h("11"), s->id);
}

static void scene_clear(struct scene *s)
{
	EVP_PKEY_free(s->host_key);
	EVP_PKEY_free(s->key);
	tao_buf_free(&s->spki);
}

static enum tao_err attest(EVP_PKEY *signer, const char *name, const char *message, int64_t from,
                           int64_t until, const struct tao_buf *delegation, struct tao_buf *out)
{
	struct tao_node *n = prin(name), *m = NULL;
	enum tao_err e = tao_form_parse(message, strlen(message), &m);

	if (e == TAO_OK)
		e = tao_attest(signer, n, from, until, m, delegation != NULL ? delegation->p : NULL,
		               delegation != NULL ? delegation->n : 0, out);
	if (e != TAO_OK)
		printf("# attest: %s\n", tao_why());
	tao_node_free(n);
	tao_node_free(m);
	return e;
}

/* The statement of a program's host: the host speaks, and SealedKey([...], ...) becomes
 * SealedKey(NAME, [...], ...). */
static enum tao_err attest_key(EVP_PKEY *signer, const char *name, const char *message,
                               int64_t from, int64_t until, const struct tao_buf *delegation,
                               struct tao_buf *out)
{
	struct tao_node *program = prin(name), *host = tao_prin_prefix(program, 1);
	const char *open = strstr(message, "ealed");
	char *speaker = tao_node_text(host), *text = NULL;
	int to_paren = open != NULL ? (int)(strchr(open, '(') + 1 - message) : 0;
	enum tao_err e;

	if (open == NULL)
		text = strdup(message);
	else if (asprintf(&text, "%.*s%s, %s", to_paren, message, name, message + to_paren) < 0)
		text = NULL;
	e = attest(signer, speaker, text, from, until, delegation, out);
	free(speaker);
	free(text);
	tao_node_free(program);
	tao_node_free(host);
	return e;
}

static enum tao_err ask_for(struct scene *s, EVP_PKEY *signer, const char *name,
                            const char *message, uint32_t seconds, X509 **cert)
{
	struct tao_buf a = TAO_BUF_INIT, der = TAO_BUF_INIT;
	enum tao_err e = attest_key(signer, name, message, TAO_NOW, TAO_NOW, NULL, &a);

	if (e == TAO_OK)
		e = domain_issue(s->d, a.p, a.n, s->spki.p, s->spki.n, seconds, &der);
	if (e == TAO_OK && cert != NULL) {
		const unsigned char *p = der.p;

		*cert = d2i_X509(NULL, &p, (long)der.n);
		ok(*cert != NULL && p == der.p + der.n, "the certificate is DER, and no more");
	} else if (e != TAO_OK) {
		if (der.n != 0)
			ok(0, "a refusal writes nothing");
	}
	tao_buf_free(&a);
	tao_buf_free(&der);
	return e;
}

static const char *statement(const struct scene *s)
{
	return fmt("SealedKey([%s], \"web\", \"tls\")", s->key_hash);
}

static enum tao_err ask(struct scene *s, X509 **cert)
{
	return ask_for(s, s->host_key, s->name, statement(s), 0, cert);
}

static int verify(struct domain *d, X509 *cert, int purpose, const char *dns, time_t at)
{
	struct tao_buf der = TAO_BUF_INIT;
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	const unsigned char *p;
	X509 *policy;
	int r;

	domain_policy_cert(d, &der);
	p = der.p;
	policy = d2i_X509(NULL, &p, (long)der.n);
	X509_STORE_add_cert(store, policy);
	X509_STORE_CTX_init(ctx, store, cert, NULL);
	X509_STORE_CTX_set_purpose(ctx, purpose);
	X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
	if (dns != NULL)
		X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(ctx), dns, 0);
	if (at != 0)
		X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), at);
	r = X509_verify_cert(ctx) == 1 ? 0 : X509_STORE_CTX_get_error(ctx);
	X509_free(policy);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	tao_buf_free(&der);
	return r;
}

/* The n-th attribute of the subject, or "". */
static const char *subject(X509 *cert, int nid)
{
	static char text[1024];
	const X509_NAME *n = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(n, nid, -1);
	const ASN1_STRING *s;

	if (at < 0)
		return "";
	s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(n, at));
	snprintf(text, sizeof text, "%.*s", ASN1_STRING_length(s),
	         (const char *)ASN1_STRING_get0_data(s));
	return text;
}

/* "URI:... DNS:... " in the certificate's order. */
static const char *alt_names(X509 *cert)
{
	static char text[2048];
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

	text[0] = 0;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		int type;
		ASN1_STRING *s = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
		size_t n = strlen(text);

		snprintf(text + n, sizeof text - n, "%s:%s ", type == GEN_URI ? "URI" : "DNS",
		         (const char *)ASN1_STRING_get0_data(s));
	}
	GENERAL_NAMES_free(names);
	return text;
}

static const char *extension(X509 *cert, int nid)
{
	static char text[512];
	int at = X509_get_ext_by_NID(cert, nid, -1), n;
	X509_EXTENSION *e = at >= 0 ? (X509_EXTENSION *)X509_get_ext(cert, at) : NULL;
	BIO *bio = BIO_new(BIO_s_mem());

	if (e != NULL)
		X509V3_EXT_print(bio, e, 0, 0);
	n = BIO_read(bio, text, sizeof text - 16);
	text[n > 0 ? n : 0] = 0;
	if (e != NULL && X509_EXTENSION_get_critical(e))
		strcat(text, " critical");
	BIO_free(bio);
	return text;
}

static void test_policy_cert(struct domain *d)
{
	struct tao_buf der = TAO_BUF_INIT;
	const unsigned char *p;
	char id[HEX + 1], ski[128];
	X509 *c;
	int days = 0, seconds = 0;

	hex_of(domain_id(d), id);
	ok_err(domain_policy_cert(d, &der), TAO_OK, "the policy certificate");
	p = der.p;
	c = d2i_X509(NULL, &p, (long)der.n);
	ok_str(subject(c, NID_organizationName), "Größe & Co.", "organisation");
	ok_str(subject(c, NID_organizationalUnitName), fmt("key([%s])", id), "unit: the key");
	ok_str(subject(c, NID_commonName), "Tao policy key of Größe & Co.", "common name");
	ok(X509_NAME_cmp(X509_get_subject_name(c), X509_get_issuer_name(c)) == 0, "self-issued");
	ok_str(extension(c, NID_basic_constraints), "CA:TRUE, pathlen:0 critical",
	       "a CA of leaves");
	ok_str(extension(c, NID_key_usage), "Certificate Sign, CRL Sign critical", "key usage");
	snprintf(ski, sizeof ski, "%s", extension(c, NID_subject_key_identifier));
	ok(strlen(ski) == 59, "subject key identifier");
	ok(strstr(extension(c, NID_authority_key_identifier), ski) != NULL, "and authority's");
	ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(c));
	ok(days >= 3650 && days <= 3653, "ten years");
	ok(verify(d, c, X509_PURPOSE_ANY, NULL, 0) == 0, "verifies itself");
	X509_free(c);
	tao_buf_free(&der);
}

static void check_program_cert(struct scene *s, X509 *c)
{
	int days = 0, seconds = 0;
	char ski[128];

	ok_str(subject(c, NID_organizationName), "Größe & Co.", "organisation");
	ok_str(subject(c, NID_organizationalUnitName), s->name, "unit: the whole name");
	ok_str(subject(c, NID_commonName), "*.example.org", "common name: the first DNS name");
	ok_str(
	    alt_names(c),
	    fmt("URI:urn:tao:key(%%5B%s%%5D).DatalogGuard(key(%%5B%s%%5D)).Measured(%%5B%s%%5D,%%20"
	        "%%5B%s%%5D,%%2033).PolicyKey(%%5B%s%%5D) DNS:*.example.org DNS:localhost "
	        "DNS:www.example.org ",
	        s->host, s->id, h("ee"), h("11"), s->id),
	    "alternative names, sorted, once each");
	ok_str(extension(c, NID_basic_constraints), "CA:FALSE critical", "no CA");
	ok_str(extension(c, NID_key_usage), "Digital Signature critical", "key usage");
	ok_str(extension(c, NID_ext_key_usage),
	       "TLS Web Server Authentication, TLS Web Client Authentication", "extended");
	snprintf(ski, sizeof ski, "%s", extension(c, NID_subject_key_identifier));
	ok(strlen(ski) == 59, "subject key identifier");
	ok(strlen(extension(c, NID_authority_key_identifier)) >= 59, "authority key identifier");
	ok(EVP_PKEY_eq(X509_get0_pubkey(c), s->key) == 1, "the program's key");
	ok(X509_get_version(c) == X509_VERSION_3, "version 3");
	ok(i2d_ASN1_INTEGER(X509_get_serialNumber(c), NULL) > 12, "a long serial number");
	ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(c));
	ok(days * 86400 + seconds > 72 * 3600 - 10 && days * 86400 + seconds <= 72 * 3600,
	   "72 hours");
	ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(c), NULL);
	ok(days == 0 && seconds >= 300 && seconds < 310, "begun 5 minutes ago");
	ok(verify(s->d, c, X509_PURPOSE_SSL_SERVER, "localhost", 0) == 0, "serves localhost");
	ok(verify(s->d, c, X509_PURPOSE_SSL_SERVER, "a.example.org", 0) == 0, "and the wildcard");
	ok(verify(s->d, c, X509_PURPOSE_SSL_SERVER, "example.com", 0) ==
	       X509_V_ERR_HOSTNAME_MISMATCH,
	   "no other");
	ok(verify(s->d, c, X509_PURPOSE_SSL_CLIENT, NULL, 0) == 0, "is a client");
}

/* openssl(1), as users call it. */
static void test_openssl_verify(X509 *c)
{
	struct tao_buf pem = TAO_BUF_INIT;
	char *policy = in("a", "policy.pem"), *cert = in("", "cert.pem");

	if (system("openssl version >/dev/null 2>&1") != 0) {
		skip("openssl verify", "no openssl program");
		return;
	}
	cert_to_pem(c, &pem);
	tao_file_write(cert, pem.p, pem.n, 0644, 0);
	ok(system(fmt("openssl verify -CAfile %s -purpose sslserver -verify_hostname localhost %s "
	              ">/dev/null 2>&1",
	              policy, cert)) == 0,
	   "openssl verify, as a server");
	ok(system(fmt("openssl verify -CAfile %s -purpose sslclient %s >/dev/null 2>&1", policy,
	              cert)) == 0,
	   "openssl verify, as a client");
	ok(system(fmt("openssl verify -CAfile %s -purpose sslserver -verify_hostname other %s "
	              ">/dev/null 2>&1",
	              policy, cert)) != 0,
	   "openssl verify, another host name");
	tao_buf_free(&pem);
}

static void test_issue(struct scene *s)
{
	char *local = strdup(fmt("key([%s]).Measured([%s], _, _)", s->id, h("ee")));
	X509 *c = NULL, *again = NULL;

	refused(ask(s, NULL), TAO_EDENIED, "does not trust the host", "an unknown host");
	add(s->d, fmt("TrustedHost(key([%s]).DatalogGuard(key([%s])))", s->host, s->id));
	drop(s->d, fmt("TrustedProgram([%s])", h("ee")));
	refused(ask(s, NULL), TAO_EDENIED,
	        fmt("does not trust the program [%s]: its owner can allow it with 'tao trust PATH'",
	            h("ee")),
	        "an unknown program");
	add(s->d, fmt("TrustedProgram([%s])", h("ee")));
	ok_err(ask(s, &c), TAO_OK, "a certificate without DNS names");
	ok_str(subject(c, NID_commonName), "", "has no common name");
	ok(strstr(alt_names(c), "DNS:") == NULL && strstr(alt_names(c), "URI:urn:tao:key(") != NULL,
	   "and only its URI");
	ok(verify(s->d, c, X509_PURPOSE_SSL_CLIENT, NULL, 0) == 0, "is a client's");
	X509_free(c);

	add(s->d, fmt("Serves(%s, \"www.example.org\")", local));
	add(s->d, fmt("Serves(%s, \"localhost\")", s->name));
	add(s->d, fmt("Serves(%s, \"*.example.org\")", local));
	add(s->d, fmt("Serves(%s, \"localhost\")", local));
	add(s->d,
	    fmt("Serves(key([%s]).Measured([%s], _, 34), \"not.example.org\")", s->id, h("ee")));
	add(s->d,
	    fmt("Serves(key([%s]).DatalogGuard(key([%s])), \"host.example.org\")", s->host, s->id));
	ok_err(ask(s, &c), TAO_OK, "a certificate");
	check_program_cert(s, c);
	test_openssl_verify(c);
	ok_err(ask(s, &again), TAO_OK, "another");
	ok(ASN1_INTEGER_cmp(X509_get_serialNumber(c), X509_get_serialNumber(again)) != 0,
	   "has another serial number");
	X509_free(c);
	X509_free(again);
	free(local);
}

static void test_life(struct scene *s)
{
	time_t now = time(NULL);
	int days = 0, seconds = 0;
	X509 *c = NULL;

	ok_err(ask_for(s, s->host_key, s->name, statement(s), 2, &c), TAO_OK, "for two seconds");
	ok(verify(s->d, c, X509_PURPOSE_SSL_SERVER, NULL, now) == 0, "good now");
	ok(verify(s->d, c, X509_PURPOSE_SSL_SERVER, NULL, now + 4) == X509_V_ERR_CERT_HAS_EXPIRED,
	   "expired then");
	X509_free(c);
	ok_err(ask_for(s, s->host_key, s->name, statement(s), UINT32_MAX, &c), TAO_OK,
	       "for a century");
	ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(c));
	ok(days >= 3650 && days <= 3653, "ends with the policy certificate");
	X509_free(c);
}

static void test_names_refused(struct scene *s)
{
	const char *host = fmt("key([%s]).DatalogGuard(key([%s]))", s->host, s->id);
	char process[700];
	const struct {
		const char *name, *sentence, *what;
	} t[] = {
		{ host, "not the name of a program", "the host itself" },
		{ fmt("%s.Measured([%s], [%s], 33)", host, h("ee"), h("11")), "program's own name",
		  "a program outside the domain" },
		{ fmt("%s.Measured([%s], [%s], 33).PolicyKey([%s])", host, h("ee"), h("11"),
		      h("ab")),
		  "program's own name", "a program of another domain" },
		{ fmt("%s.Worker(1)", s->name), "program's own name", "a subprincipal" },
		{ fmt("%s.Program([%s]).PolicyKey([%s])", s->name, h("ee"), s->id),
		  "program's own name", "a program measured by a program" },
		{ fmt("%s.Program([%s]).Program([%s])", host, h("ee"), h("ee")),
		  "program's own name", "two measurements" },
		{ fmt("key([%s]).DatalogGuard(key([%s])).Program([%s]).PolicyKey([%s])", s->host,
		      h("ab"), h("ee"), s->id),
		  "not the name of a program", "another domain's guard" },
		{ fmt("key([%s]).Program([%s]).PolicyKey([%s])", s->host, h("ee"), s->id),
		  "not the name of a program", "no guard" },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		refused(ask_for(s, s->host_key, t[i].name, statement(s), 0, NULL), TAO_EDENIED,
		        t[i].sentence, t[i].what);
	ok_err(ask_for(s, s->host_key,
	               fmt("%s.Program([%s]).PolicyKey([%s])", host, h("ee"), s->id), statement(s),
	               0, NULL),
	       TAO_OK, "a Program gets one");
	snprintf(process, sizeof process, "%s.Process([%s], 33, \"a.service\").PolicyKey([%s])",
	         host, h("ee"), s->id);
	refused(ask_for(s, s->host_key, process, statement(s), 0, NULL), TAO_EDENIED,
	        "TrustedProgram(key(", "a Process gets none by a hash, which is a hint");
	add(s->d, fmt("TrustedProgram(key([%s]).Process(_, 34, \"a.service\"))", s->id));
	ok_err(ask_for(s, s->host_key, process, statement(s), 0, NULL), TAO_EDENIED,
	       "nor by a rule for another user");
	add(s->d, fmt("TrustedProgram(key([%s]).Process(_, 33, \"a.service\"))", s->id));
	ok_err(ask_for(s, s->host_key, process, statement(s), 0, NULL), TAO_OK,
	       "but by one that names it");
}

static void test_statements_refused(struct scene *s)
{
	const char *k = s->key_hash;
	const struct {
		const char *text, *sentence;
	} t[] = {
		{ fmt("SealedKey([%s], \"web\", \"\")", k), "purpose" },
		{ fmt("SealedKey([%s], \"web\", \"tls1\")", k), "purpose" },
		{ fmt("SealedKey([%s], \"web\")", k), "not about a sealed key" },
		{ fmt("SealedKey([%s], \"web\", \"tls\", 1)", k), "not known here" },
		{ fmt("SealedKey([%s], \"web\", \"tls\", \"exported\")", k), "not known here" },
		{ fmt("SealedKey([%s], \"web\", \"tls\", \"imported\", 1)", k), "not about a sealed key" },
		{ fmt("SealedKey(\"%s\", \"web\", \"tls\")", k), "not about a sealed key" },
		{ fmt("SealedKey([%s], 1, \"tls\")", k), "not about a sealed key" },
		{ fmt("SealedKey([%s], \"web\", 1)", k), "not about a sealed key" },
		{ fmt("Sealedkey([%s], \"web\", \"tls\")", k), "not about a sealed key" },
		{ fmt("not SealedKey([%s], \"web\", \"tls\")", k), "not about a sealed key" },
		{ fmt("key([%s]) speaksfor %s", k, s->name), "not about a sealed key" },
		{ fmt("SealedKey([%s], \"web\", \"tls\")", s->host), "another key" },
		{ "SealedKey([], \"web\", \"tls\")", "another key" },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		refused(ask_for(s, s->host_key, s->name, t[i].text, 0, NULL), TAO_EDENIED,
		        t[i].sentence, fmt("refuses %.20s...", t[i].text));
	ok_err(ask_for(s, s->host_key, s->name,
	               fmt("SealedKey([%s], \"web\", \"tls\", \"imported\")", k), 0, NULL),
	       TAO_OK, "certifies an imported key");
}

/* keyUsage and extendedKeyUsage by purpose and kind of key. */
static void test_usage(struct scene *s)
{
	static const char tls[] = "TLS Web Server Authentication, TLS Web Client Authentication";
	static const char mail[] = "E-mail Protection";
	static const struct {
		const char *algorithm, *purpose, *usage, *extended; /* usage NULL: refused */
	} t[] = {
		{ "EC", "tls", "Digital Signature critical", tls },
		{ "EC", "tls13", "Digital Signature critical", tls },
		{ "EC", "sign", "Digital Signature critical", mail },
		{ "EC", "any", "Digital Signature, Key Agreement critical", tls },
		{ "EC", "decrypt", "Key Agreement critical", mail },
		{ "RSA", "tls", "Digital Signature critical", tls },
		{ "RSA", "any", "Digital Signature, Key Encipherment critical", tls },
		{ "RSA", "decrypt", "Key Encipherment critical", mail },
		{ "ED25519", "any", "Digital Signature critical", tls },
		{ "ED25519", "decrypt", NULL, NULL },
		{ "X25519", "any", "Key Agreement critical", tls },
		{ "X25519", "decrypt", "Key Agreement critical", mail },
		{ "X25519", "tls", NULL, NULL },
	};
	struct tao_buf kept = s->spki;

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		EVP_PKEY *key = strcmp(t[i].algorithm, "EC") == 0    ? EVP_EC_gen("P-256")
		                : strcmp(t[i].algorithm, "RSA") == 0 ? EVP_RSA_gen(2048)
		                                                     : EVP_PKEY_Q_keygen(NULL, NULL,
		                                                                         t[i].algorithm);
		struct tao_buf spki = TAO_BUF_INIT;
		uint8_t hash[TAO_HASH_LEN];
		char text[HEX + 1];
		X509 *c = NULL;

		tao_key_spki(key, &spki);
		tao_key_hash(key, hash);
		hex_of(hash, text);
		s->spki = spki;
		ok_err(ask_for(s, s->host_key, s->name,
		               fmt("SealedKey([%s], \"web\", \"%s\")", text, t[i].purpose), 0, &c),
		       t[i].usage != NULL ? TAO_OK : TAO_EDENIED, "%s for %s", t[i].algorithm,
		       t[i].purpose);
		if (c != NULL && t[i].usage != NULL) {
			ok_str(extension(c, NID_key_usage), t[i].usage, "its usage");
			ok_str(extension(c, NID_ext_key_usage), t[i].extended, "and the extended");
		}
		X509_free(c);
		EVP_PKEY_free(key);
		tao_buf_free(&spki);
	}
	s->spki = kept;
}

static enum tao_err issue_on(struct scene *s, const struct tao_buf *a)
{
	struct tao_buf der = TAO_BUF_INIT;
	enum tao_err e = domain_issue(s->d, a->p, a->n, s->spki.p, s->spki.n, 0, &der);

	tao_buf_free(&der);
	return e;
}

static void test_attestations_refused(struct scene *s)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	int64_t now = tao_now_ns();
	char other[HEX + 1], mine[HEX + 1];
	EVP_PKEY *key = new_key(other), *own = new_key(mine);
	const char *host = fmt("key([%s]).DatalogGuard(key([%s]))", s->host, s->id);
	int bad = 0;

	attest_key(s->host_key, s->name, statement(s), now - 20 * SECOND, now - 10 * SECOND, NULL,
	           &a);
	ok_err(issue_on(s, &a), TAO_EEXPIRED, "refuses an expired attestation");
	tao_buf_reset(&a);
	attest_key(s->host_key, s->name, statement(s), now + 3600 * SECOND, now + 7200 * SECOND,
	           NULL,
	       &a);
	ok_err(issue_on(s, &a), TAO_EEXPIRED, "refuses one from the future");
	tao_buf_reset(&a);
	attest_key(key, s->name, statement(s), TAO_NOW, TAO_NOW, NULL, &a);
	ok_err(issue_on(s, &a), TAO_EDENIED, "refuses one that another key signed");
	tao_buf_reset(&a);
	attest_key(key,
	       fmt("key([%s]).DatalogGuard(key([%s])).Program([%s]).PolicyKey([%s])", other, s->id,
	           h("ee"), s->id),
	       statement(s), TAO_NOW, TAO_NOW, NULL, &a);
	refused(issue_on(s, &a), TAO_EDENIED, "does not trust the host", "refuses another host's");

	/* What a program says of its own key, which its host attests like anything else. */
	tao_buf_reset(&a);
	attest(s->host_key, s->name,
	       fmt("SealedKey(%s, [%s], \"web\", \"tls\")", s->name, s->key_hash), TAO_NOW,
	       TAO_NOW, NULL, &a);
	refused(issue_on(s, &a), TAO_EDENIED, "only the host", "refuses the program's own word");
	tao_buf_reset(&a);
	attest(s->host_key, fmt("key([%s])", s->host),
	       fmt("SealedKey(%s, [%s], \"web\", \"tls\")", s->name, s->key_hash), TAO_NOW,
	       TAO_NOW, NULL, &a);
	refused(issue_on(s, &a), TAO_EDENIED, "only the host", "refuses the bare key's word");

	/* Nor is a delegation enough, even the host's. */
	attest(s->host_key, host, fmt("key([%s]) speaksfor %s", mine, host), TAO_NOW, TAO_NOW, NULL,
	       &b);
	tao_buf_reset(&a);
	attest_key(own, s->name, statement(s), TAO_NOW, TAO_NOW, &b, &a);
	refused(issue_on(s, &a), TAO_EDENIED, "host itself", "refuses a delegation");

	tao_buf_reset(&a);
	attest_key(s->host_key, s->name, statement(s), TAO_NOW, TAO_NOW, NULL, &a);
	ok_err(issue_on(s, &a), TAO_OK, "takes the right one");
	for (size_t i = 0; i < a.n; i++) {
		a.p[i] ^= 1;
		if (issue_on(s, &a) == TAO_OK)
			printf("# byte %zu\n", i);
		else
			bad++;
		a.p[i] ^= 1;
	}
	/* The header beside a signature (its key's name and the like) is not part of it. */
	ok(bad > (int)a.n * 9 / 10, "not an altered one: %d of %zu bytes count", bad, a.n);
	a.n--;
	ok(issue_on(s, &a) != TAO_OK, "nor a truncated one");
	a.n = 0;
	ok(issue_on(s, &a) != TAO_OK, "nor an empty one");
	EVP_PKEY_free(key);
	EVP_PKEY_free(own);
	tao_buf_free(&a);
	tao_buf_free(&b);
}

/* A host that is a program of another domain's: its key speaks by that host's delegation. */
static void test_stacked_issue(struct scene *s)
{
	const char *taod = h("77"),
		   *outer = fmt("key([%s]).DatalogGuard(key([%s])).Measured([%s], [%s], 0)"
	                        ".PolicyKey([%s])", s->host, h("00"), taod, h("11"), h("00")),
		   *host = fmt("%s.DatalogGuard(key([%s]))", outer, s->id),
		   *name = fmt("%s.Measured([%s], [%s], 33).PolicyKey([%s])", host, h("ee"),
		               h("11"), s->id),
		   *said = fmt("SealedKey(%s, [%s], \"web\", \"tls\")", name, s->key_hash),
		   *trust = fmt("TrustedHost(%s)", host), *revoke = fmt("Revoked([%s])", taod);
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT;
	char mine[HEX + 1];
	EVP_PKEY *own = new_key(mine);
	struct tao_node *node;
	int64_t now = tao_now_ns();

	attest(s->host_key, host, fmt("key([%s]) speaksfor %s", mine, host), TAO_NOW, TAO_NOW, NULL,
	       &b);
	attest(own, host, said, TAO_NOW, TAO_NOW, &b, &a);
	refused(issue_on(s, &a), TAO_EDENIED, "does not trust the host",
	        "a stacked host that no rule names");
	refused(issue_on(s, &a), TAO_EDENIED, trust, "the sentence has the whole rule");
	ok_err(domain_add_fact(s->d, trust), TAO_OK, "a rule names it");
	ok_err(issue_on(s, &a), TAO_OK, "certifies by the word of a stacked host");
	ok_err(domain_add_fact(s->d, revoke), TAO_OK, "its taod is revoked");
	refused(issue_on(s, &a), TAO_EDENIED, "stands on", "then nothing on it is certified");
	node = prin(host);
	refused(domain_trusts_host(s->d, node), TAO_EDENIED, "stands on", "nor is it trusted");
	tao_node_free(node);
	ok_err(domain_remove_fact(s->d, revoke), TAO_OK, "not any more");

	tao_buf_reset(&a);
	attest(own, name, said, TAO_NOW, TAO_NOW, &b, &a);
	refused(issue_on(s, &a), TAO_EDENIED, "only the host",
	        "refuses the program's own word there");
	tao_buf_reset(&a);
	attest(own, host, said, TAO_NOW, TAO_NOW, NULL, &a);
	ok_err(issue_on(s, &a), TAO_EDENIED, "and the host's own without its parent's");
	tao_buf_reset(&b);
	attest(s->host_key, name, fmt("key([%s]) speaksfor %s", mine, name), TAO_NOW, TAO_NOW, NULL,
	       &b);
	tao_buf_reset(&a);
	attest(own, host, said, TAO_NOW, TAO_NOW, &b, &a);
	ok_err(issue_on(s, &a), TAO_EDENIED, "and that of a key which speaks for the program");
	tao_buf_reset(&b);
	attest(s->host_key, outer, fmt("key([%s]) speaksfor %s", mine, outer), now - 20 * SECOND,
	       now - 10 * SECOND, NULL, &b);
	tao_buf_reset(&a);
	attest(own, host, said, TAO_NOW, TAO_NOW, &b, &a);
	ok_err(issue_on(s, &a), TAO_EEXPIRED, "and one by a delegation that has ended");
	ok_err(domain_remove_fact(s->d, trust), TAO_OK, "the rule goes");
	EVP_PKEY_free(own);
	tao_buf_free(&a);
	tao_buf_free(&b);
}

static void test_revoked_issue(struct scene *s)
{
	const char *facts[] = {
		fmt("Revoked([%s])", s->key_hash),
		fmt("Revoked([%s])", h("ee")),
		fmt("Revoked([%s])", s->host),
		fmt("Revoked(key([%s]))", s->host),
		fmt("Revoked(%s)", s->name),
		fmt("Revoked(key([%s]).Measured([%s], _, _))", s->id, h("ee")),
	};

	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
		add(s->d, facts[i]);
		refused(ask(s, NULL), TAO_EDENIED, "revoked", facts[i]);
		drop(s->d, facts[i]);
	}
	ok_err(ask(s, NULL), TAO_OK, "and taken back");
}

static void test_keys_refused(struct scene *s)
{
	struct tao_buf spki = s->spki, weak = TAO_BUF_INIT;
	EVP_PKEY *rsa = EVP_RSA_gen(1024);
	uint8_t hash[TAO_HASH_LEN];
	char text[HEX + 1];
	unsigned char *der = NULL;
	int n = i2d_PUBKEY(rsa, &der);

	tao_buf_put(&weak, der, (size_t)n);
	tao_sha256(weak.p, weak.n, hash);
	hex_of(hash, text);
	s->spki = weak;
	ok(ask_for(s, s->host_key, s->name, fmt("SealedKey([%s], \"web\", \"tls\")", text), 0,
	           NULL) != TAO_OK,
	   "refuses a weak key");
	s->spki = spki;
	s->spki.n--;
	refused(ask(s, NULL), TAO_EDENIED, "another key", "refuses a key cut off");
	tao_sha256(s->spki.p, s->spki.n, hash);
	hex_of(hash, text);
	ok_err(ask_for(s, s->host_key, s->name, fmt("SealedKey([%s], \"web\", \"tls\")", text), 0,
	               NULL),
	       TAO_EFORMAT, "also when the host attested it");
	s->spki = spki;
	OPENSSL_free(der);
	EVP_PKEY_free(rsa);
	tao_buf_free(&weak);
}

static void test_many_names(struct scene *s)
{
	for (int i = 0; i < DOMAIN_MAX_DNS - 3; i++)
		add(s->d, fmt("Serves(%s, \"n%d.example.org\")", s->name, i));
	ok_err(ask(s, NULL), TAO_OK, "as many DNS names as a certificate takes");
	add(s->d, fmt("Serves(%s, \"more.example.org\")", s->name));
	refused(ask(s, NULL), TAO_ELIMIT, "DNS names", "not one more");
}

static void test_expired_policy(struct scene *s)
{
	struct cert_program p = {
		.key = s->key, .principal = "key([aa])", .urn = "urn:tao:x", .seconds = 60,
		.usage = "critical,digitalSignature", .extended_usage = "clientAuth"
	};
	struct tao_keyset ks = { 0 };
	X509 *policy = NULL, *c = NULL;

	tao_keyset_generate(&ks);
	cert_policy(ks.signer, "old", &policy);
	ok_err(cert_program(policy, ks.signer, &p, &c), TAO_OK, "a policy certificate of today");
	X509_free(c);
	X509_gmtime_adj(X509_getm_notAfter(policy), -1);
	ok_err(cert_program(policy, ks.signer, &p, &c), TAO_EEXPIRED,
	       "an expired one issues nothing");
	ok(c == NULL, "nothing at all");
	X509_gmtime_adj(X509_getm_notAfter(policy), 100);
	X509_gmtime_adj(X509_getm_notBefore(policy), 50);
	ok_err(cert_program(policy, ks.signer, &p, &c), TAO_EEXPIRED, "nor one of tomorrow");
	X509_free(policy);
	tao_keyset_clear(&ks);
}

static void test_urn(void)
{
	struct tao_node *n = prin("key([00]).A(\"x%/ü\", -1)");
	struct tao_buf b = TAO_BUF_INIT;

	ok_err(domain_principal_urn(n, &b), TAO_OK, "a principal as a URN");
	ok_str(tao_buf_cstr(&b), "urn:tao:key(%5B00%5D).A(%22x%25%2F%C3%BC%22,%20-1)", "encoded");
	tao_buf_free(&b);
	tao_node_free(n);
}

/* ---- threads ---- */

struct worker {
	struct scene *s;
	int number, bad;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 10; i++) {
		char f[256];

		snprintf(f, sizeof f, "Unseal(key([%s]), \"%d-%d\")", w->s->id, w->number, i);
		w->bad += domain_add_fact(w->s->d, f) != TAO_OK;
		w->bad += i % 2 != 0 && domain_remove_fact(w->s->d, f) != TAO_OK;
	}
	return NULL;
}

static void test_threads(struct scene *s)
{
	uint64_t version = domain_rules_version(s->d);
	struct worker w[4];
	pthread_t t[4];
	int bad = 0;

	for (int i = 0; i < 4; i++) {
		w[i] = (struct worker){ s, i, 0 };
		pthread_create(&t[i], NULL, work, &w[i]);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		bad += w[i].bad;
	}
	ok(bad == 0, "four threads edit the rules");
	ok(domain_rules_version(s->d) == version + 60, "none of their versions is lost");
	ok_err(try_load(in("a", "")), TAO_OK, "and the file is good");
}

int main(void)
{
	struct domain *d = NULL;
	struct scene s;

	if (mkdtemp(top) == NULL)
		return 1;
	umask(022);
	setvbuf(stdout, NULL, _IOLBF, 0);
	test_rename();
	test_facts_taken();
	test_facts_refused();
	test_dns();
	test_matching();
	test_not_programs();
	test_stacked_names();
	test_rules_text();
	test_limit();
	test_create();
	test_files();
	test_altered_cert();
	ok_err(domain_load(in("a", ""), PASS, &d), TAO_OK, "loads the domain");
	test_editing(d);
	test_write_failure(d);
	test_altered_rules();
	test_signature_padded();
	test_signed_rules();
	scene_init(&s, d);
	test_hosts(d, s.id);
	test_programs(d, s.id);
	test_connect(d, s.id);
	test_serves(d, s.id);
	test_hash_rules(d);
	test_times(d);
	test_upgrades(d, s.id);
	test_clock(d);
	test_policy_cert(d);
	test_issue(&s);
	test_life(&s);
	test_names_refused(&s);
	test_usage(&s);
	test_statements_refused(&s);
	test_attestations_refused(&s);
	test_stacked_issue(&s);
	test_revoked_issue(&s);
	test_keys_refused(&s);
	test_many_names(&s);
	test_expired_policy(&s);
	test_urn();
	test_threads(&s);
	scene_clear(&s);
	domain_free(d);
	domain_free(NULL);
	if (system(fmt("rm -rf '%s'", top)) != 0)
		printf("# %s is left\n", top);
	return done();
}
