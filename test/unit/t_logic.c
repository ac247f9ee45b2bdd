/*
 * The logic: vectors, texts and binary forms accepted and refused, limits,
 * properties of random trees, relations of principals.
 *
 * TAO_TEST_SEED (a number) makes the random trees others.
 */
#include "tap.h"

#include "../../tao/logic.h"

#define N_VECTORS 80   /* lines of formulas.tsv */
#define N_RANDOM  4000 /* random trees */
#define GEN_DEPTH 7    /* their depth */

enum kind { FORM, TERM, PRIN, SUBPRIN };

typedef enum tao_err parse_fn(const char *text, size_t len, struct tao_node **out);
typedef enum tao_err decode_fn(const void *p, size_t n, struct tao_node **out);

static parse_fn *const parsers[] = {
	tao_form_parse,
	tao_term_parse,
	tao_prin_parse,
	tao_subprin_parse,
};
static decode_fn *const decoders[] = {
	tao_form_decode,
	tao_term_decode,
	tao_prin_decode,
	tao_subprin_decode,
};

static struct tao_node *parse(enum kind k, const char *text)
{
	struct tao_node *n = NULL;

	return parsers[k](text, strlen(text), &n) == TAO_OK ? n : NULL;
}

/* The bytes of a hex text, malloc'ed. */
static uint8_t *unhex(const char *hex, size_t *n)
{
	uint8_t *p;

	*n = strlen(hex) / 2;
	p = malloc(*n + 1);
	if (p == NULL || tao_unhex(hex, strlen(hex), p, *n) != TAO_OK)
		abort();
	return p;
}

static enum tao_err decode_hex(enum kind k, const char *hex, struct tao_node **out)
{
	size_t n;
	uint8_t *p = unhex(hex, &n);
	enum tao_err e = decoders[k](p, n, out);

	free(p);
	return e;
}

static char *encode_hex(const struct tao_node *t)
{
	struct tao_buf b = TAO_BUF_INIT, h = TAO_BUF_INIT;
	char *s;

	tao_node_encode(t, &b);
	tao_buf_hex(&h, b.p, b.n);
	s = tao_buf_steal(&h);
	tao_buf_free(&b);
	return s;
}

static int prints_as(const struct tao_node *n, const char *want)
{
	char *got = tao_node_text(n);
	int same = n != NULL && got != NULL && strcmp(got, want) == 0;

	if (!same)
		printf("#  got: %s\n# want: %s\n", got, want);
	free(got);
	return same;
}

static int encodes_as(const struct tao_node *n, const char *want)
{
	char *got = encode_hex(n);
	int same = n != NULL && strcmp(got, want) == 0;

	if (!same)
		printf("#  got: %s\n# want: %s\n", got, want);
	free(got);
	return same;
}

/* --- vectors --- */

static void check_vector(enum kind k, const char *text, const char *hex, const char *print)
{
	struct tao_node *n = parse(k, text), *d = NULL, *again = parse(k, print);

	if (n == NULL)
		printf("# %s\n", tao_why());
	ok(n != NULL && encodes_as(n, hex), "encodes: %.60s", text);
	ok(decode_hex(k, hex, &d) == TAO_OK && prints_as(d, print), "decodes: %.60s", print);
	ok(tao_node_equal(n, d), "the same tree: %.60s", text);
	ok(again != NULL && prints_as(again, print), "its print reads back: %.60s", print);
	tao_node_free(n);
	tao_node_free(d);
	tao_node_free(again);
}

/* clang-format off */
static void test_examples(void)
{
	check_vector(FORM, "P(1)", "07015001" "0501", "P(1)");
	check_vector(FORM, "key([70]) says true", "0e01036b65790401701100" "0000" "0801",
	             "key([70]) says true");
	check_vector(FORM, "key([70]).Program([deadbeef]) speaksfor key([71])",
	             "0d01036b65790401701101120750726f6772616d010404deadbeef01036b65790401711100",
	             "key([70]).Program([deadbeef]) speaksfor key([71])");
	check_vector(FORM, "tpm2([70]) says true", "0e010474706d320401701100" "0000" "0801",
	             "tpm2([70]) says true");
	check_vector(TERM, "-1", "05ffffffffffffffffff01", "-1");
	check_vector(TERM, "ext.A(1).B()", "02110212014101050112014200", "ext.A(1).B()");
	check_vector(PRIN, "key(X).A()", "01036b6579060158110112014100", "key(X).A()");
	check_vector(SUBPRIN, ".A().B(\"\")", "11021201410012014201" "0300", ".A().B(\"\")");
}
/* clang-format on */

static void test_vectors(void)
{
	const char *dir = getenv("TAO_VECTORS");
	char path[4096], *line = NULL, *hex, *print;
	size_t cap = 0, count = 0;
	FILE *f;

	if (dir == NULL) {
		skip("formulas.tsv", "TAO_VECTORS is not set");
		return;
	}
	snprintf(path, sizeof path, "%s/cloudproxy/formulas.tsv", dir);
	f = fopen(path, "r");
	if (!ok(f != NULL, "%s opens", path))
		return;
	while (getline(&line, &cap, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		hex = strchr(line, '\t');
		print = hex != NULL ? strchr(hex + 1, '\t') : NULL;
		if (print == NULL)
			continue;
		*hex++ = '\0';
		*print++ = '\0';
		count++;
		check_vector(FORM, line, hex, print);
	}
	ok(count == N_VECTORS, "%zu vectors, %d expected", count, N_VECTORS);
	free(line);
	fclose(f);
}

/* --- texts --- */

/* clang-format off */
static const struct {
	enum kind kind;
	const char *text, *print;
} good_texts[] = {
	/* precedence and flattening */
	{ FORM, "A() or B() and C() implies D() implies E()",
	  "A() or B() and C() implies D() implies E()" },
	{ FORM, "(A() implies B()) implies C()", "(A() implies B()) implies C()" },
	{ FORM, "A() and (B() and C())", "A() and B() and C()" },
	{ FORM, "((A() and B())) and C()", "A() and B() and C()" },
	{ FORM, "(A() or B()) and not not C()", "(A() or B()) and not not C()" },
	{ FORM, "X says A() and B() implies C()", "X says A() and B() implies C()" },
	{ FORM, "(X says A()) and B()", "(X says A()) and B()" },
	{ FORM, "A() and X says B() or C()", "A() and X says B() or C()" },
	{ FORM, "(A() and X says B()) or C()", "A() and (X says B()) or C()" },
	{ FORM, "(not X says A()) and B()", "not (X says A()) and B()" },
	{ FORM, "not X speaksfor Y and B()", "not X speaksfor Y and B()" },
	{ FORM, "A() or X speaksfor Y implies B()", "A() or X speaksfor Y implies B()" },
	{ FORM, "(A() or X says C()) implies B()", "A() or (X says C()) implies B()" },
	{ FORM, "A() and (B() and X speaksfor Y) and C()",
	  "A() and B() and (X speaksfor Y) and C()" },
	{ FORM, "(forall X: A(X)) or true", "(forall X: A(X)) or true" },
	{ FORM, "not forall X: exists Y: A(X, Y) or true",
	  "not forall X: exists Y: A(X, Y) or true" },
	{ FORM, "X from 1 until (-2) says true", "X from 1 until -2 says true" },
	{ FORM, "X until 2 from 1 says true", "X from 1 until 2 says true" },
	{ FORM, "X until 2 says true", "X until 2 says true" },
	{ FORM, "\"s\" says [00] says 5 says ext.A() says true",
	  "\"s\" says [00] says 5 says ext.A() says true" },
	{ FORM, "X speaksfor ((Y))", "X speaksfor Y" },
	{ FORM, "\t( P(1 ,\n( 2 ) ) )\r\n", "P(1, 2)" },
	{ FORM, "Says()", "Says()" },
	/* terms */
	{ TERM, "[]", "[]" },
	{ TERM, "{}", "[]" },
	{ TERM, "[DeadBeef]", "[deadbeef]" },
	{ TERM, "{-_8=}", "[fbff]" },
	{ TERM, "{AA==}", "[00]" },
	{ TERM, "{AAAA}", "[000000]" },
	{ TERM, "(((X_1)))", "X_1" },
	{ TERM, "9223372036854775807", "9223372036854775807" },
	{ TERM, "-9223372036854775808", "-9223372036854775808" },
	{ TERM, "-0", "0" },
	{ TERM, "007", "7" },
	{ TERM, "word(\"any\")", "word(\"any\")" },
	{ TERM, "key(tpm2(ext.A(key(1)).B()).C())", "key(tpm2(ext.A(key(1)).B()).C())" },
	{ PRIN, " (key([00]).A( 1 )) ", "key([00]).A(1)" },
	{ SUBPRIN, " .A() ", ".A()" },
	/* strings: every escape, then what %q does with each sort of character */
	{ TERM, "\"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\"", "\"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\"" },
	{ TERM, "\"\\x41\\101\\u0041\\U00000041\"", "\"AAAA\"" },
	{ TERM, "\"\\xe2\\x82\\xac\\342\\202\\254\\u20ac\\U000020AC\"", "\"€€€€\"" },
	{ TERM, "\"\\x00\\x01\\x1f\\x7f'\"", "\"\\x00\\x01\\x1f\\x7f'\"" },
	{ TERM, "\"\t\r\"", "\"\\t\\r\"" },
	{ TERM, "\"\\xff\\xc0\\x80\\xed\\xa0\\x80\\xe2\\x82\"",
	  "\"\\xff\\xc0\\x80\\xed\\xa0\\x80\\xe2\\x82\"" },
	{ TERM, "\"\\u0080\\u00a0\\u00ad\\u200b\\ufeff\\ue000\\uffff\"",
	  "\"\\u0080\\u00a0\\u00ad\\u200b\\ufeff\\ue000\\uffff\"" },
	{ TERM, "\"\\u00e9\\u65e5\\ufffd\\u0301\\u00a1\\u00bd\"",
	  "\"é日\xef\xbf\xbd\xcc\x81¡½\"" },
	{ TERM, "\"\\U0001f600\\U0010FFFF\\U000E0001\"", "\"😀\\U0010ffff\\U000e0001\"" },
};
/* clang-format on */

static const struct {
	enum kind kind;
	const char *text;
	size_t column; /* that the sentence names */
} bad_texts[] = {
	{ FORM, "", 1 },
	{ FORM, "P", 2 },
	{ FORM, "P (1)", 3 },
	{ FORM, "P(1,)", 5 },
	{ FORM, "P(1 2)", 5 },
	{ FORM, "P(1", 4 },
	{ FORM, "P())", 4 },
	{ FORM, "p()", 3 },
	{ FORM, "P() Q()", 5 },
	{ FORM, "P() and", 8 },
	{ FORM, "and P()", 1 },
	{ FORM, "P(not)", 3 },
	{ FORM, "forall x: true", 8 },
	{ FORM, "forall says: true", 8 },
	{ FORM, "forall X true", 10 },
	{ FORM, "exists true: true", 8 },
	{ FORM, "says says true", 1 },
	{ FORM, "X speaksfor true", 13 },
	{ FORM, "(X) speaksfor Y", 3 },
	{ FORM, "X from 1 from 2 says true", 10 },
	{ FORM, "X until 1 until 2 says true", 11 },
	{ FORM, "X from Y says true", 8 },
	{ FORM, "X from 1 speaksfor Y", 10 },
	{ FORM, "X from 1 P()", 10 },
	{ FORM, "P(1) ; true", 6 },
	{ FORM, "true_", 5 },
	{ TERM, "", 1 },
	{ TERM, "true", 1 },
	{ TERM, "P(1)", 2 },
	{ TERM, "+5", 1 },
	{ TERM, "- 5", 1 },
	{ TERM, "0x10", 2 },
	{ TERM, "1_0", 2 },
	{ TERM, "9223372036854775808", 1 },
	{ TERM, "-9223372036854775809", 1 },
	{ TERM, "99999999999999999999999", 1 },
	{ TERM, "lower", 6 },
	{ TERM, "_X", 1 },
	{ TERM, "\xc3\x84", 1 },
	{ TERM, "[7]", 3 },
	{ TERM, "[70 71]", 4 },
	{ TERM, "[ 70]", 2 },
	{ TERM, "[0g]", 3 },
	{ TERM, "[00", 4 },
	{ TERM, "{AA}", 1 },
	{ TERM, "{AA=}", 1 },
	{ TERM, "{AB==}", 1 },
	{ TERM, "{A===}", 1 },
	{ TERM, "{====}", 1 },
	{ TERM, "{AA==AAAA}", 1 },
	{ TERM, "{AA\n==}", 1 },
	{ TERM, "{+/8=}", 1 },
	{ TERM, "{AAAA", 1 },
	{ TERM, "\"", 1 },
	{ TERM, "\"abc", 1 },
	{ TERM, "\"\\\"", 1 },
	{ TERM, "\"a\nb\"", 3 },
	{ TERM, "\"\xff\"", 2 },
	{ TERM, "\"\xc0\x80\"", 2 },
	{ TERM, "\"\xed\xa0\x80\"", 2 },
	{ TERM, "\"\xf4\x90\x80\x80\"", 2 },
	{ TERM, "\"\xe2\x82\"", 2 },
	{ TERM, "\"\\q\"", 2 },
	{ TERM, "\"\\'\"", 2 },
	{ TERM, "\"\\x1\"", 2 },
	{ TERM, "\"\\400\"", 2 },
	{ TERM, "\"\\08\"", 2 },
	{ TERM, "\"\\u123\"", 2 },
	{ TERM, "\"\\ud800\"", 2 },
	{ TERM, "\"\\U00110000\"", 2 },
	{ TERM, "`raw`", 1 },
	{ TERM, "ext", 4 },
	{ TERM, "ext .A()", 5 },
	{ TERM, "ext. A()", 6 },
	{ TERM, "ext.a()", 5 },
	{ TERM, "ext.A ()", 7 },
	{ TERM, "ext.A", 6 },
	{ PRIN, "ext.A()", 1 },
	{ PRIN, "X", 1 },
	{ PRIN, "key", 4 },
	{ PRIN, "key ([00])", 5 },
	{ PRIN, "key()", 5 },
	{ PRIN, "key(([00]))", 5 },
	{ PRIN, "key([00], 1)", 9 },
	{ PRIN, "key([00]) .A()", 11 },
	{ PRIN, "key([00]). A()", 12 },
	{ PRIN, "key([00])..A()", 11 },
	{ PRIN, "not([00])", 1 },
	{ PRIN, "tpm3([00])", 4 },
	{ PRIN, "tpm22([00])", 5 },
	{ PRIN, "key2([00])", 4 },
	{ PRIN, "Key([00])", 1 },
	{ PRIN, "(key([00])", 11 },
	{ SUBPRIN, "", 1 },
	{ SUBPRIN, "A()", 1 },
	{ SUBPRIN, ".", 2 },
	{ SUBPRIN, "(.A())", 1 },
	{ SUBPRIN, ".A() .B()", 6 },
};

static void test_texts(void)
{
	struct tao_node *n;
	char column[32];
	size_t i;

	for (i = 0; i < sizeof good_texts / sizeof good_texts[0]; i++) {
		n = parse(good_texts[i].kind, good_texts[i].text);
		if (n == NULL)
			printf("# %s\n", tao_why());
		ok(n != NULL && prints_as(n, good_texts[i].print), "text accepted, #%zu", i);
		tao_node_free(n);
	}
	for (i = 0; i < sizeof bad_texts / sizeof bad_texts[0]; i++) {
		enum tao_err e =
		    parsers[bad_texts[i].kind](bad_texts[i].text, strlen(bad_texts[i].text), &n);

		snprintf(column, sizeof column, "column %zu: ", bad_texts[i].column);
		ok_err(e, TAO_EFORMAT, "text refused, #%zu", i);
		if (!ok(strncmp(tao_why(), column, strlen(column)) == 0 && n == NULL, "at %s#%zu",
		        column, i))
			printf("# %s\n", tao_why());
		tao_node_free(n);
	}
	ok_err(tao_form_parse("true\0", 5, &n), TAO_EFORMAT, "a NUL does not end a text");
	n = NULL;
	ok(tao_term_parse("\"\0\"", 3, &n) == TAO_OK && n->len == 1 && prints_as(n, "\"\\x00\""),
	   "a NUL in a string is a character");
	tao_node_free(n);
}

/* What only the binary form can say. */
static void test_prints(void)
{
	/* clang-format off */
	static const struct {
		const char *hex, *print;
	} cases[] = {
		{ "0a00", "true" },
		{ "0b00", "false" },
		{ "0a0107015000", "P()" },
		{ "090a020b000a00", "not (false and true)" },
		{ "0a020b010b0208000801" "0801", "(false or true) and true" },
		{ "0b010a010d060158060159", "X speaksfor Y" },
		{ "0a020b010d060158060159" "0801", "(X speaksfor Y) and true" },
		{ "0a02" "0801" "0a02" "0e060158" "00000801" "0800",
		  "true and (X says true) and false" },
		{ "0a02" "09" "0f0158" "0801" "0800", "not (forall X: true) and false" },
		{ "0c" "0a02" "0801" "0f0158" "0801" "0800",
		  "true and (forall X: true) implies false" },
	};
	/* clang-format on */
	struct tao_node *n, *back;
	size_t i;
	char *text;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		n = back = NULL;
		ok(decode_hex(FORM, cases[i].hex, &n) == TAO_OK && prints_as(n, cases[i].print),
		   "prints %s", cases[i].print);
		back = parse(FORM, cases[i].print);
		text = tao_node_text(back);
		ok_str(text, cases[i].print, "and that again: %s", cases[i].print);
		free(text);
		tao_node_free(n);
		tao_node_free(back);
	}
}

/* --- binary forms refused --- */

/* clang-format off */
static const struct {
	enum kind kind;
	const char *hex, *what;
} bad_bins[] = {
	{ FORM, "", "nothing" },
	{ FORM, "00", "tag 0" },
	{ FORM, "130000", "tag 19" },
	{ FORM, "28", "tag 40" },
	{ FORM, "880001", "a tag that is no shortest varint" },
	{ FORM, "0501", "a term for a formula" },
	{ FORM, "1100", "a subprincipal for a formula" },
	{ TERM, "0801", "a formula for a term" },
	{ TERM, "12014100", "an extension for a term" },
	{ PRIN, "0501", "an integer for a principal" },
	{ PRIN, "021101" "12014100", "a tail for a principal" },
	{ SUBPRIN, "01036b65790401701100", "a principal for a subprincipal" },
	{ FORM, "080100", "a byte behind the end" },
	/* Prin */
	{ PRIN, "01", "prin: no word" },
	{ PRIN, "01000401701100", "prin: empty word" },
	{ PRIN, "01034b65790401701100", "prin: capital in the word" },
	{ PRIN, "01036b65320401701100", "prin: digit in the word" },
	{ PRIN, "010474706d330401701100", "prin: tpm3" },
	{ PRIN, "01036e6f740401701100", "prin: reserved word" },
	{ PRIN, "01036b657d0401701100", "prin: punctuation in the word" },
	{ PRIN, "01" "83006b65790401701100", "prin: length no shortest varint" },
	{ PRIN, "01ffffffffffffffffff016b65790401701100", "prin: length -1" },
	{ PRIN, "01036b6579" "0801" "1100", "prin: a formula for a key" },
	{ PRIN, "01036b6579" "040170", "prin: no extensions' tag" },
	{ PRIN, "01036b6579" "040170" "1000", "prin: wrong extensions' tag" },
	{ PRIN, "01036b6579" "040170" "910000", "prin: extensions' tag no shortest varint" },
	{ PRIN, "01036b6579" "040170" "11", "prin: no count" },
	{ PRIN, "01036b6579" "040170" "118000", "prin: count no shortest varint" },
	{ PRIN, "01036b6579" "040170" "1101", "prin: an extension missing" },
	{ PRIN, "01036b6579" "040170" "11010501", "prin: a term for an extension" },
	/* PrinTail, SubPrin, PrinExt */
	{ TERM, "02", "tail: nothing" },
	{ TERM, "021100", "tail: empty" },
	{ TERM, "0212014100", "tail: without the extensions' tag" },
	{ SUBPRIN, "1100", "subprin: empty" },
	{ SUBPRIN, "11010501", "subprin: a term for an extension" },
	{ SUBPRIN, "1102" "12014100", "subprin: an extension missing" },
	{ SUBPRIN, "1101" "120000", "ext: empty name" },
	{ SUBPRIN, "1101" "12016100", "ext: lower-case name" },
	{ SUBPRIN, "1101" "1203412e4200", "ext: a dot in the name" },
	{ SUBPRIN, "1101" "120141", "ext: no count" },
	{ SUBPRIN, "1101" "12014102" "0501", "ext: an argument missing" },
	{ SUBPRIN, "1101" "12014101" "0801", "ext: a formula for an argument" },
	/* Str, Bytes, Int, TermVar */
	{ TERM, "03", "str: no length" },
	{ TERM, "030161" "00", "str: a byte too many" },
	{ TERM, "030261", "str: too short" },
	{ TERM, "03810061", "str: length no shortest varint" },
	{ TERM, "03ffffffff0f61", "str: length 2^32-1" },
	{ TERM, "03ffffffffffffffffff0161", "str: length -1" },
	{ TERM, "04", "bytes: no length" },
	{ TERM, "040261", "bytes: too short" },
	{ TERM, "04810061", "bytes: length no shortest varint" },
	{ TERM, "05", "int: nothing" },
	{ TERM, "0580", "int: cut short" },
	{ TERM, "058000", "int: not the shortest" },
	{ TERM, "05ffffffffffffffffff02", "int: 65 bits" },
	{ TERM, "0580808080808080808080" "01", "int: eleven bytes" },
	{ TERM, "0600", "var: empty" },
	{ TERM, "060178", "var: lower case" },
	{ TERM, "060473617973", "var: a reserved word" },
	{ TERM, "06025821", "var: punctuation" },
	{ TERM, "06025800", "var: a NUL" },
	{ TERM, "060258", "var: too short" },
	/* Pred, Const, Not, And, Or, Implies */
	{ FORM, "07", "pred: nothing" },
	{ FORM, "070000", "pred: empty name" },
	{ FORM, "070470284129" "00", "pred: parentheses in the name" },
	{ FORM, "070150", "pred: no count" },
	{ FORM, "0701508100" "0501", "pred: count no shortest varint" },
	{ FORM, "07015002" "0501", "pred: an argument missing" },
	{ FORM, "07015001" "0801", "pred: a formula for an argument" },
	{ FORM, "08", "const: nothing" },
	{ FORM, "0802", "const: 2" },
	{ FORM, "088100", "const: not the shortest" },
	{ FORM, "09", "not: nothing" },
	{ FORM, "090501", "not: a term" },
	{ FORM, "0a", "and: no count" },
	{ FORM, "0a8000", "and: count no shortest varint" },
	{ FORM, "0a010501", "and: a term" },
	{ FORM, "0a020801", "and: an operand missing" },
	{ FORM, "0b", "or: no count" },
	{ FORM, "0b010501", "or: a term" },
	{ FORM, "0b020801", "or: an operand missing" },
	{ FORM, "0c0801", "implies: no consequent" },
	{ FORM, "0c05010801", "implies: a term in front" },
	{ FORM, "0c08010501", "implies: a term behind" },
	/* Speaksfor, Says, Forall, Exists */
	{ FORM, "0d060158", "speaksfor: no delegator" },
	{ FORM, "0d0801060158", "speaksfor: a formula as delegate" },
	{ FORM, "0d0601580801", "speaksfor: a formula as delegator" },
	{ FORM, "0e", "says: nothing" },
	{ FORM, "0e0801" "0000" "0801", "says: a formula as speaker" },
	{ FORM, "0e060158", "says: no times" },
	{ FORM, "0e060158" "0200" "0801", "says: 2 for a time" },
	{ FORM, "0e060158" "8000" "00" "0801", "says: a long 0 for a time" },
	{ FORM, "0e060158" "01" "8000" "00" "0801", "says: from not the shortest" },
	{ FORM, "0e060158" "00" "02" "0801", "says: 2 for an expiry" },
	{ FORM, "0e060158" "00" "018000" "0801", "says: until not the shortest" },
	{ FORM, "0e060158" "00" "01", "says: no expiry" },
	{ FORM, "0e060158" "0000", "says: no message" },
	{ FORM, "0e060158" "0000" "0501", "says: a term as message" },
	{ FORM, "0f000801", "forall: empty variable" },
	{ FORM, "0f01780801", "forall: lower-case variable" },
	{ FORM, "0f0158", "forall: no body" },
	{ FORM, "0f01580501", "forall: a term as body" },
	{ FORM, "10000801", "exists: empty variable" },
	{ FORM, "1003736179" "0801", "exists: lower-case variable" },
	{ FORM, "10015805" "01", "exists: a term as body" },
};
/* clang-format on */

static void test_bad_bins(void)
{
	struct tao_node *n;
	size_t i;

	for (i = 0; i < sizeof bad_bins / sizeof bad_bins[0]; i++) {
		n = NULL;
		ok_err(decode_hex(bad_bins[i].kind, bad_bins[i].hex, &n), TAO_EFORMAT, "%s",
		       bad_bins[i].what);
		ok(n == NULL, "and no tree: %s", bad_bins[i].what);
		tao_node_free(n);
	}
}

/* Every field kind in one formula: each prefix is refused, and whatever a
 * changed byte makes of it either is refused or is canonical. */
static void test_mutations(void)
{
	static const char text[] =
	    "forall X: (tpm2([ab12]).A(\"s\", -1).B() from 1 until 300 says not (P(X, ext.C()) "
	    "or true) and exists Y: Y speaksfor key(X)) implies false";
	struct tao_node *n = parse(FORM, text);
	struct tao_buf b = TAO_BUF_INIT, again = TAO_BUF_INIT;
	size_t i, cut = 0, good = 0, wrong = 0;
	int v;

	ok(n != NULL, "the formula of many fields parses");
	tao_node_encode(n, &b);
	tao_node_free(n);
	for (i = 0; i < b.n; i++) {
		uint8_t *copy = malloc(i + 1); /* exact size, for the sanitizer */

		memcpy(copy, b.p, i);
		cut += tao_form_decode(copy, i, &n) == TAO_EFORMAT;
		tao_node_free(n);
		free(copy);
	}
	ok(cut == b.n && cut > 50, "every prefix of %zu bytes is refused", b.n);
	for (i = 0; i < b.n; i++) {
		uint8_t old = b.p[i];

		for (v = 0; v < 256; v++) {
			b.p[i] = (uint8_t)v;
			if (tao_form_decode(b.p, b.n, &n) != TAO_OK)
				continue;
			good++;
			tao_buf_reset(&again);
			tao_node_encode(n, &again);
			wrong += again.n != b.n || memcmp(again.p, b.p, b.n) != 0;
			tao_node_free(n);
		}
		b.p[i] = old;
	}
	ok(good > 1000 && wrong == 0, "%zu decodable changes, %zu not canonical", good, wrong);
	tao_buf_free(&b);
	tao_buf_free(&again);
}

/* --- limits --- */

static void repeat(struct tao_buf *b, const char *s, size_t n)
{
	while (n-- > 0)
		tao_buf_str(b, s);
}

/* head, n times mid, middle, n times end */
static enum tao_err parse_nested(enum kind k, const char *mid, size_t n, const char *middle,
                                 const char *end)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *t = NULL, *back = NULL;
	enum tao_err e;
	char *text;

	repeat(&b, mid, n);
	tao_buf_str(&b, middle);
	repeat(&b, end, n);
	e = parsers[k]((char *)b.p, b.n, &t);
	text = e == TAO_OK ? tao_node_text(t) : NULL;
	if (text != NULL && parsers[k](text, strlen(text), &back) != TAO_OK)
		e = TAO_ERR_COUNT; /* the canonical text must not be refused */
	free(text);
	tao_node_free(back);
	tao_node_free(t);
	tao_buf_free(&b);
	return e;
}

static void test_depth(void)
{
	static const struct {
		enum kind kind;
		const char *mid, *middle, *end;
		size_t levels, fixed; /* of the tree: per repetition, besides them */
	} cases[] = {
		{ FORM, "not ", "true", "", 1, 1 },
		{ FORM, "not (true and ", "true", ")", 2, 1 },
		{ FORM, "(true and (true or ", "true", "))", 2, 1 },
		{ FORM, "(", "true", " implies true)", 1, 1 },
		{ FORM, "true implies ", "true", "", 1, 1 },
		{ FORM, "not (true implies ", "true", ")", 2, 1 },
		{ FORM, "X says ", "true", "", 1, 1 },
		{ FORM, "(not X says ", "true", ") and true", 3, 1 },
		{ FORM, "exists X: ", "true", "", 1, 1 },
		{ TERM, "key(", "1", ")", 1, 1 },
		{ TERM, "key(X).A(", "1", ")", 2, 1 },
		{ TERM, "ext.A(", "1", ")", 2, 1 },
	};
	size_t i, most;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		most = (TAO_LOGIC_MAX_DEPTH - cases[i].fixed) / cases[i].levels;
		ok_err(
		    parse_nested(cases[i].kind, cases[i].mid, most, cases[i].middle, cases[i].end),
		    TAO_OK, "%zu times %s", most, cases[i].mid);
		ok_err(parse_nested(cases[i].kind, cases[i].mid, most + 1, cases[i].middle,
		                    cases[i].end),
		       TAO_ELIMIT, "%zu times %s", most + 1, cases[i].mid);
		ok_err(
		    parse_nested(cases[i].kind, cases[i].mid, 10000, cases[i].middle, cases[i].end),
		    TAO_ELIMIT, "10000 times %s", cases[i].mid);
	}
	ok_err(parse_nested(FORM, "(", 40, "true", ")"), TAO_OK, "40 parentheses");
	ok_err(parse_nested(FORM, "(", 300, "true", ")"), TAO_ELIMIT, "300 parentheses");
	ok_err(parse_nested(FORM, "(", 100000, "true", ")"), TAO_ELIMIT, "100000 parentheses");
	ok_err(parse_nested(FORM, "(", 100000, "", ""), TAO_ELIMIT, "100000 open ones");
	ok_err(parse_nested(TERM, "(", 100000, "1", ")"), TAO_OK, "around a term they are free");
}

static enum tao_err decode_nested(size_t n)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *t;
	enum tao_err e;

	repeat(&b, "\x09", n);
	tao_buf_str(&b, "\x08\x01");
	e = tao_form_decode(b.p, b.n, &t);
	tao_node_free(t);
	tao_buf_free(&b);
	return e;
}

static enum tao_err decode_counted(const char *head, uint64_t count, const char *element,
                                   size_t times)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *t;
	enum tao_err e;

	tao_buf_str(&b, head);
	tao_buf_varint(&b, count);
	repeat(&b, element, times);
	e = tao_form_decode(b.p, b.n, &t);
	tao_node_free(t);
	tao_buf_free(&b);
	return e;
}

/* outer conjunctions of 4000 constants each */
static enum tao_err decode_many(size_t outer)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *t;
	enum tao_err e;
	size_t i;

	tao_buf_u8(&b, TAO_AND);
	tao_buf_varint(&b, outer);
	for (i = 0; i < outer; i++) {
		tao_buf_u8(&b, TAO_OR);
		tao_buf_varint(&b, 3998);
		repeat(&b, "\x08\x01", 3998);
	}
	e = tao_form_decode(b.p, b.n, &t);
	tao_node_free(t);
	tao_buf_free(&b);
	return e;
}

static void test_bin_limits(void)
{
	static const char *const heads[] = { "\x0a", "\x0b", "\x07\x01P" };
	static const char *const elements[] = { "\x08\x01", "\x08\x01", "\x05\x01" };
	static const char prin[] = "\x0e\x01\x03key\x05\x01\x11", ext[] = "\x12\x01"
									  "A\x01\x05\x01";
	uint8_t *big = calloc(1, TAO_LOGIC_MAX_TEXT + 1);
	struct tao_node *t;
	size_t i;

	ok_err(decode_nested(TAO_LOGIC_MAX_DEPTH - 1), TAO_OK, "64 levels decode");
	ok_err(decode_nested(TAO_LOGIC_MAX_DEPTH), TAO_ELIMIT, "65 do not");
	ok_err(decode_nested(200000), TAO_ELIMIT, "nor 200000");
	for (i = 0; i < 3; i++) {
		ok_err(decode_counted(heads[i], 4096, elements[i], 4096), TAO_OK, "4096 kids");
		ok_err(decode_counted(heads[i], 4097, elements[i], 4097), TAO_ELIMIT, "4097 kids");
		ok_err(decode_counted(heads[i], UINT64_MAX, "", 0), TAO_ELIMIT, "-1 kids");
		ok_err(decode_counted(heads[i], 1u << 31, "", 0), TAO_ELIMIT, "2^31 kids");
		ok_err(decode_counted(heads[i], 4096, "", 0), TAO_EFORMAT, "4096 missing kids");
	}
	ok_err(decode_counted(prin, 4095, ext, 4095), TAO_EFORMAT, "4095 extensions, then nothing");
	ok_err(decode_counted(prin, 4096, ext, 4096), TAO_ELIMIT, "4096 extensions");
	ok_err(decode_many(5), TAO_OK, "19996 nodes");
	ok_err(decode_many(6), TAO_ELIMIT, "23995 nodes");
	ok_err(tao_form_decode(big, TAO_LOGIC_MAX_TEXT + 1, &t), TAO_ELIMIT, "too long a form");
	ok_err(tao_form_decode(big, TAO_LOGIC_MAX_TEXT, &t), TAO_EFORMAT, "one just as long");
	ok_err(tao_form_parse((char *)big, TAO_LOGIC_MAX_TEXT + 1, &t), TAO_ELIMIT,
	       "too long a text");
	free(big);
}

static enum tao_err parse_list(const char *first, const char *more, size_t n, const char *end)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *t;
	enum tao_err e;

	tao_buf_str(&b, first);
	repeat(&b, more, n - 1);
	tao_buf_str(&b, end);
	e = tao_form_parse((char *)b.p, b.n, &t);
	tao_node_free(t);
	tao_buf_free(&b);
	return e;
}

static void test_text_limits(void)
{
	static const struct {
		const char *first, *more, *end;
		size_t most;
	} cases[] = {
		{ "true", " and true", "", 4096 },
		{ "true", " or true", "", 4096 },
		{ "P(1", ",1", ")", 4096 },
		{ "key(1).A()", ".A()", " says true", 4095 }, /* the key is one of them */
		{ "ext.A()", ".A()", " says true", 4096 },
		{ "P(X)", " and P(X,X,X,X,X,X,X,X)", "", 2222 }, /* 20000 nodes */
	};
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ok_err(parse_list(cases[i].first, cases[i].more, cases[i].most, cases[i].end),
		       TAO_OK, "%zu of %s", cases[i].most, cases[i].more);
		ok_err(parse_list(cases[i].first, cases[i].more, cases[i].most + 1, cases[i].end),
		       TAO_ELIMIT, "%zu of %s", cases[i].most + 1, cases[i].more);
	}
}

/* --- random trees --- */

struct gen {
	uint64_t state;
};

static uint32_t pick(struct gen *g, uint32_t n)
{
	g->state ^= g->state << 13;
	g->state ^= g->state >> 7;
	g->state ^= g->state << 17;
	return (uint32_t)(g->state >> 20) % n;
}

/* Trees are generated in binary, by rules of the generator's own. */
static void gen_form(struct gen *g, struct tao_buf *b, unsigned depth);
static void gen_term(struct gen *g, struct tao_buf *b, unsigned depth);

static void gen_text(struct gen *g, struct tao_buf *b, const char *const *of, uint32_t n)
{
	const char *s = of[pick(g, n)];

	tao_buf_varint(b, strlen(s));
	tao_buf_str(b, s);
}

static void gen_name(struct gen *g, struct tao_buf *b)
{
	static const char *const names[] = { "X", "Says", "A_b9", "Program", "Q__" };

	gen_text(g, b, names, 5);
}

static void gen_bytes(struct gen *g, struct tao_buf *b)
{
	static const char *const parts[] = { "a",
		                             "\"",
		                             "\\",
		                             "\n",
		                             "\x7f",
		                             "é",
		                             "日",
		                             "😀",
		                             "\xff",
		                             "\xc3",
		                             "\xed\xa0\x80",
		                             "\xc2\xa0",
		                             "\xf4\x8f\xbf\xbf",
		                             "'",
		                             "\x01",
		                             " " };
	struct tao_buf s = TAO_BUF_INIT;
	uint32_t n = pick(g, 6);

	while (n-- > 0)
		if (pick(g, 8) == 0)
			tao_buf_u8(&s, (uint8_t)pick(g, 256));
		else
			tao_buf_str(&s, parts[pick(g, 16)]);
	tao_buf_varint(b, s.n);
	tao_buf_put(b, s.p, s.n);
	tao_buf_free(&s);
}

static void gen_int(struct gen *g, struct tao_buf *b)
{
	static const int64_t edges[] = { 0, 1, -1, 127, 128, -128, INT64_MAX, INT64_MIN };
	uint64_t v = (uint64_t)edges[pick(g, 8)];

	if (pick(g, 2))
		v = ((uint64_t)pick(g, UINT32_MAX) << 32 | pick(g, UINT32_MAX)) >> pick(g, 64);
	tao_buf_varint(b, v);
}

static void gen_list(struct gen *g, struct tao_buf *b, unsigned depth,
                     void (*one)(struct gen *g, struct tao_buf *b, unsigned depth))
{
	uint32_t n = pick(g, 4);

	tao_buf_varint(b, n);
	while (n-- > 0)
		one(g, b, depth);
}

static void gen_exts(struct gen *g, struct tao_buf *b, unsigned depth, uint32_t least)
{
	uint32_t n = least + pick(g, 3);

	tao_buf_u8(b, TAO_SUBPRIN);
	tao_buf_varint(b, n);
	while (n-- > 0) {
		tao_buf_u8(b, TAO_EXT);
		gen_name(g, b);
		gen_list(g, b, depth, gen_term);
	}
}

static void gen_prin(struct gen *g, struct tao_buf *b, unsigned depth)
{
	static const char *const words[] = { "key", "tpm", "tpm2", "k" };

	gen_text(g, b, words, 4);
	gen_term(g, b, depth);
	gen_exts(g, b, depth, 0);
}

static void gen_term(struct gen *g, struct tao_buf *b, unsigned depth)
{
	enum tao_tag tag = depth == 0 ? TAO_STR + pick(g, 4) : TAO_PRIN + pick(g, 6);

	tao_buf_u8(b, (uint8_t)tag);
	if (tag == TAO_PRIN)
		gen_prin(g, b, depth - 1);
	else if (tag == TAO_TAIL)
		gen_exts(g, b, depth - 1, 1);
	else if (tag == TAO_STR || tag == TAO_BYTES)
		gen_bytes(g, b);
	else if (tag == TAO_INT)
		gen_int(g, b);
	else
		gen_name(g, b);
}

static void gen_times(struct gen *g, struct tao_buf *b)
{
	int i;

	for (i = 0; i < 2; i++) {
		uint32_t has = pick(g, 2);

		tao_buf_u8(b, (uint8_t)has);
		if (has)
			gen_int(g, b);
	}
}

static void gen_form(struct gen *g, struct tao_buf *b, unsigned depth)
{
	enum tao_tag tag = depth == 0 ? TAO_PRED + pick(g, 2) : TAO_PRED + pick(g, 10);

	tao_buf_u8(b, (uint8_t)tag);
	if (tag == TAO_PRED || tag == TAO_FORALL || tag == TAO_EXISTS)
		gen_name(g, b);
	if (tag == TAO_PRED)
		gen_list(g, b, depth > 2 ? 2 : depth, gen_term);
	else if (tag == TAO_CONST)
		tao_buf_u8(b, (uint8_t)pick(g, 2));
	else if (tag == TAO_AND || tag == TAO_OR)
		gen_list(g, b, depth - 1, gen_form);
	if (tag == TAO_SPEAKSFOR || tag == TAO_SAYS)
		gen_term(g, b, 1);
	if (tag == TAO_SPEAKSFOR)
		gen_term(g, b, 1);
	if (tag == TAO_SAYS)
		gen_times(g, b);
	if (tag == TAO_IMPLIES)
		gen_form(g, b, depth - 1);
	if (tag == TAO_NOT || tag == TAO_IMPLIES || tag >= TAO_SAYS)
		gen_form(g, b, depth - 1);
}

/*
 * What a formula becomes when it is printed and read: and/or directly within
 * the same are one with it, of one operand are that operand, of none are a
 * constant. Made as an encoding, without the module's own makers.
 */
static int is_list(const struct tao_node *n)
{
	return n->tag == TAO_AND || n->tag == TAO_OR;
}

static const struct tao_node *only(const struct tao_node *n)
{
	while (is_list(n) && n->n_kid == 1)
		n = n->kid[0];
	return n;
}

static void norm_encode(const struct tao_node *n, struct tao_buf *b);

static size_t norm_operands(const struct tao_node *n, enum tao_tag tag, struct tao_buf *b)
{
	size_t i, count = 0;

	n = only(n);
	if (n->tag != tag || n->n_kid == 0) {
		norm_encode(n, b);
		return 1;
	}
	for (i = 0; i < n->n_kid; i++)
		count += norm_operands(n->kid[i], tag, b);
	return count;
}

static void norm_list(const struct tao_node *n, struct tao_buf *b)
{
	struct tao_buf operands = TAO_BUF_INIT;
	size_t count;

	if (n->n_kid == 0) {
		tao_buf_u8(b, TAO_CONST);
		tao_buf_u8(b, n->tag == TAO_AND);
		return;
	}
	count = norm_operands(n, n->tag, &operands);
	tao_buf_u8(b, (uint8_t)n->tag);
	tao_buf_varint(b, count);
	tao_buf_put(b, operands.p, operands.n);
	tao_buf_free(&operands);
}

/* The encoding of norm(n). */
static void norm_encode(const struct tao_node *n, struct tao_buf *b)
{
	struct tao_buf whole = TAO_BUF_INIT, kid = TAO_BUF_INIT;
	size_t i, tail = 0, first;

	n = only(n);
	first = n->tag == TAO_SAYS ? 1 : 0;
	if (is_list(n)) {
		norm_list(n, b);
		return;
	}
	tao_node_encode(n, &whole);
	if (n->tag == TAO_NOT || n->tag == TAO_IMPLIES || n->tag >= TAO_SAYS) {
		/* The formulas within stand at the end of the encoding. */
		for (i = first; i < n->n_kid; i++) {
			tao_buf_reset(&kid);
			tao_node_encode(n->kid[i], &kid);
			tail += kid.n;
		}
		tao_buf_put(b, whole.p, whole.n - tail);
		for (i = first; i < n->n_kid; i++)
			norm_encode(n->kid[i], b);
	} else {
		tao_buf_put(b, whole.p, whole.n);
	}
	tao_buf_free(&kid);
	tao_buf_free(&whole);
}

struct tally {
	size_t decoded, same, printed, normed, idem, dups, bytes;
};

static int same_bytes(const struct tao_buf *a, const struct tao_buf *b)
{
	return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

static void check_random(struct gen *g, struct tally *t)
{
	struct tao_buf in = TAO_BUF_INIT, out = TAO_BUF_INIT, norm = TAO_BUF_INIT;
	struct tao_node *n = NULL, *back = NULL, *copy = NULL;
	char *text = NULL, *again = NULL;

	gen_form(g, &in, 1 + pick(g, GEN_DEPTH));
	t->bytes += in.n;
	if (tao_form_decode(in.p, in.n, &n) != TAO_OK)
		goto out;
	t->decoded++;
	tao_node_encode(n, &out);
	t->same += same_bytes(&in, &out);
	copy = tao_node_dup(n);
	t->dups += tao_node_equal(n, copy);
	text = tao_node_text(n);
	if (tao_form_parse(text, strlen(text), &back) != TAO_OK) {
		printf("# %s: %s\n", tao_why(), text);
		goto out;
	}
	t->printed++;
	norm_encode(n, &norm);
	tao_buf_reset(&out);
	tao_node_encode(back, &out);
	if (same_bytes(&norm, &out))
		t->normed++;
	else
		printf("# not its norm: %s\n", text);
	again = tao_node_text(back);
	t->idem += strcmp(text, again) == 0;
out:
	free(text);
	free(again);
	tao_node_free(n);
	tao_node_free(back);
	tao_node_free(copy);
	tao_buf_free(&in);
	tao_buf_free(&out);
	tao_buf_free(&norm);
}

static void test_random(void)
{
	const char *seed = getenv("TAO_TEST_SEED");
	struct gen g = { seed != NULL ? strtoull(seed, NULL, 0) | 1 : 20240229 };
	struct tally t = { 0 };
	int i;

	for (i = 0; i < N_RANDOM; i++)
		check_random(&g, &t);
	printf("# %zu bytes in all\n", t.bytes);
	ok(t.bytes > 20 * N_RANDOM, "the random formulas are not all small");
	ok(t.decoded == N_RANDOM, "%zu of %d decode", t.decoded, N_RANDOM);
	ok(t.same == N_RANDOM, "%zu encode to the same bytes", t.same);
	ok(t.dups == N_RANDOM, "%zu equal their copies", t.dups);
	ok(t.printed == N_RANDOM, "%zu prints parse", t.printed);
	ok(t.normed == N_RANDOM, "%zu of them to the norm of the formula", t.normed);
	ok(t.idem == N_RANDOM, "%zu print the same again", t.idem);
}

/* --- makers and relations --- */

static void test_makers(void)
{
	static const uint8_t hash[32] = { 0xab, 0xcd };
	struct tao_node *key = tao_prin_key(hash), *prog, *f, *copy;

	ok(prints_as(key, "key([abcd"
	                  "000000000000000000000000000000000000000000000000000000000000"
	                  "])"),
	   "tao_prin_key");
	prog = tao_prin_extend(key, tao_ext("Program", 2, tao_term_int(-7), tao_term_str("a\"")));
	ok(prog != NULL && prog->n_kid == 2 && key->n_kid == 1, "tao_prin_extend copies");
	f = tao_says(tao_node_dup(prog), -5, 10,
	             tao_speaksfor(tao_prin_key(hash), tao_node_dup(prog)));
	copy = tao_node_dup(f);
	ok(copy != f && tao_node_equal(f, copy), "tao_node_dup");
	copy->until++;
	ok(!tao_node_equal(f, copy), "times matter");
	tao_node_free(copy);
	copy = parse(FORM, "P(\"x\", [00], 1)");
	tao_node_free(f);
	f = tao_pred("P", 3, tao_term_str("x"), tao_term_bytes("", 1), tao_term_int(1));
	ok(tao_node_equal(f, copy), "tao_pred is what the parser makes");
	tao_node_free(f);
	tao_node_free(copy);
	ok(tao_pred("P", 3, tao_term_int(1), NULL, tao_term_int(2)) == NULL &&
	       tao_ext("P", 1, NULL) == NULL && tao_prin_extend(key, NULL) == NULL &&
	       tao_prin_extend(NULL, tao_ext("A", 0)) == NULL &&
	       tao_speaksfor(NULL, tao_term_int(1)) == NULL &&
	       tao_says(tao_term_int(1), 0, 0, NULL) == NULL && tao_node_dup(NULL) == NULL,
	   "a missing part makes nothing");
	tao_node_free(NULL);
	tao_node_free(key);
	tao_node_free(prog);
}

static void test_equal(void)
{
	static const char *const differ[] = {
		"1",           "2",          "\"1\"",          "\"\"",    "[]",        "[31]",
		"X",           "Y",          "key(1)",         "key(2)",  "tpm(1)",    "key(1).A()",
		"key(1).A(1)", "key(1).B()", "key(1).A().A()", "ext.A()", "\"\\x00\"", "\"\\x00a\""
	};
	size_t i, j, n = sizeof differ / sizeof differ[0], wrong = 0;

	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++) {
			struct tao_node *a = parse(TERM, differ[i]), *b = parse(TERM, differ[j]);

			wrong += a == NULL || b == NULL || tao_node_equal(a, b) != (i == j);
			tao_node_free(a);
			tao_node_free(b);
		}
	ok(wrong == 0, "terms equal themselves and no other");
	ok(tao_node_equal(NULL, NULL), "nothing equals nothing");
}

static void test_covers(void)
{
	static const struct {
		const char *parent, *child;
		int covers;
	} cases[] = {
		{ "key([00])", "key([00])", 1 },
		{ "key([00])", "key([00]).A()", 1 },
		{ "key([00]).A()", "key([00]).A().B(1)", 1 },
		{ "key([00]).A()", "key([00])", 0 },
		{ "key([00])", "key([01]).A()", 0 },
		{ "key([00])", "key([0000]).A()", 0 },
		{ "key([00])", "tpm([00]).A()", 0 },
		{ "key([00])", "key(\"\\x00\").A()", 0 },
		{ "key([00]).A()", "key([00]).B()", 0 },
		{ "key([00]).A()", "key([00]).AB()", 0 },
		{ "key([00]).A()", "key([00]).A(1)", 0 },
		{ "key([00]).A(1)", "key([00]).A(1).A(2)", 1 },
		{ "key([00]).A(1)", "key([00]).A(2).A(1)", 0 },
	};
	struct tao_node *p, *c;
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		p = parse(PRIN, cases[i].parent);
		c = parse(PRIN, cases[i].child);
		ok(tao_prin_covers(p, c) == cases[i].covers, "%s %s %s", cases[i].parent,
		   cases[i].covers ? "covers" : "does not cover", cases[i].child);
		ok(!tao_prin_covers(p, NULL) && !tao_prin_covers(NULL, c), "nor nothing");
		tao_node_free(p);
		tao_node_free(c);
	}
	p = parse(TERM, "ext.A()");
	ok(!tao_prin_covers(p, p), "a tail is no principal");
	tao_node_free(p);
}

static void test_prefix(void)
{
	struct tao_node *p = parse(PRIN, "key([00]).A(1).B().C()"), *q;
	static const char *const want[] = { "key([00])", "key([00]).A(1)", "key([00]).A(1).B()",
		                            "key([00]).A(1).B().C()", "key([00]).A(1).B().C()" };
	size_t i;

	ok(tao_prin_ext_count(p) == 3 && tao_prin_ext_count(NULL) == 0, "tao_prin_ext_count");
	ok(prints_as(tao_prin_ext(p, 0), ".A(1)") && prints_as(tao_prin_ext(p, 2), ".C()"),
	   "tao_prin_ext");
	ok(tao_prin_ext(p, 3) == NULL && tao_prin_ext(NULL, 0) == NULL, "and none behind");
	for (i = 0; i < 5; i++) {
		q = tao_prin_prefix(p, i);
		ok(prints_as(q, want[i]), "the first %zu extensions", i);
		tao_node_free(q);
	}
	tao_node_free(p);
}

int main(void)
{
	test_examples();
	test_vectors();
	test_texts();
	test_prints();
	test_bad_bins();
	test_mutations();
	test_depth();
	test_bin_limits();
	test_text_limits();
	test_random();
	test_makers();
	test_equal();
	test_covers();
	test_prefix();
	return done();
}
