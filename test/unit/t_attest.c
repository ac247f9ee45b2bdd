/* tao/attest.h: chains that verify, and one refusal for each rule. */
#include "tao/attest.h"

#include <unistd.h>

#include "tao/file.h"
#include "tao/key.h"
#include "tao/pb.h"
#include "tao.pb-c.h"
#include "tap.h"

#define FROM 1000
#define UNTIL 2000
#define INSIDE 1500

/* R is the root's key, C a key it delegates to, X nobody's. */
static EVP_PKEY *r_key, *c_key, *x_key;
static char r_name[128], c_name[128], x_name[128];

static void make_key(EVP_PKEY **key, char name[128])
{
	uint8_t hash[TAO_HASH_LEN];
	struct tao_buf hex = TAO_BUF_INIT;

	if (tao_key_generate("ecdsap256", key) != TAO_OK || tao_key_hash(*key, hash) != TAO_OK)
		exit(1);
	tao_buf_hex(&hex, hash, sizeof hash);
	snprintf(name, 128, "key([%s])", tao_buf_cstr(&hex));
	tao_buf_free(&hex);
}

/* "$R", "$C" and "$X" in a text become the keys' principals. */
static char *expand(const char *text)
{
	struct tao_buf b = TAO_BUF_INIT;

	for (; *text != 0; text++) {
		if (text[0] != '$') {
			tao_buf_u8(&b, (uint8_t)text[0]);
			continue;
		}
		text++;
		tao_buf_str(&b, *text == 'R' ? r_name : *text == 'C' ? c_name : x_name);
	}
	return tao_buf_steal(&b);
}

static struct tao_node *form(const char *text)
{
	struct tao_node *n = NULL;
	char *s = expand(text);

	if (tao_form_parse(s, strlen(s), &n) != TAO_OK)
		printf("# %s: %s\n", s, tao_why());
	free(s);
	return n;
}

static struct tao_node *prin(const char *text)
{
	struct tao_node *n = NULL;
	char *s = expand(text);

	if (tao_prin_parse(s, strlen(s), &n) != TAO_OK)
		printf("# %s: %s\n", s, tao_why());
	free(s);
	return n;
}

static void attest(EVP_PKEY *key, const char *issuer, int64_t from, int64_t until,
                   const char *message, const struct tao_buf *delegation, struct tao_buf *out)
{
	struct tao_node *p = prin(issuer), *f = form(message);

	tao_buf_reset(out);
	if (tao_attest(key, p, from, until, f, delegation != NULL ? delegation->p : NULL,
	               delegation != NULL ? delegation->n : 0, out) != TAO_OK)
		printf("# %s\n", tao_why());
	tao_node_free(p);
	tao_node_free(f);
}

static enum tao_err verify_at(const struct tao_buf *att, int64_t at, const char *root)
{
	struct tao_node *trusted = root != NULL ? prin(root) : NULL;
	struct tao_attested a;
	enum tao_err e = tao_attestation_verify(att->p, att->n, at, trusted, &a);

	if (e != TAO_OK && (a.speaker != NULL || a.message != NULL || a.root != NULL))
		e = TAO_ERR_COUNT; /* must not leave anything behind */
	tao_attested_clear(&a);
	tao_node_free(trusted);
	return e;
}

static void is_text(const struct tao_node *n, const char *want, const char *what)
{
	char *text = tao_node_text(n), *w = expand(want);

	ok_str(text, w, "%s", what);
	free(text);
	free(w);
}

/* Good ones */

static void single(void)
{
	struct tao_buf att = TAO_BUF_INIT;
	struct tao_attested a;

	attest(r_key, "$R.Host(1)", FROM, UNTIL, "P(\"x\")", NULL, &att);
	ok_err(tao_attestation_verify(att.p, att.n, INSIDE, NULL, &a), TAO_OK,
	       "a single statement");
	is_text(a.speaker, "$R.Host(1)", "its speaker");
	is_text(a.message, "P(\"x\")", "its message");
	is_text(a.root, "$R", "its root");
	ok(a.from == FROM && a.until == UNTIL, "its times");
	tao_attested_clear(&a);
	ok_err(verify_at(&att, INSIDE, "$R"), TAO_OK, "with its root");
	ok_err(verify_at(&att, INSIDE, "$X"), TAO_EDENIED, "with another root");
	ok_err(verify_at(&att, INSIDE, "$R.Host(1)"), TAO_EDENIED, "with a root that is no key");
	ok_err(verify_at(&att, FROM, NULL), TAO_OK, "at its first moment");
	ok_err(verify_at(&att, FROM - 1, NULL), TAO_EEXPIRED, "before");
	ok_err(verify_at(&att, UNTIL - 1, NULL), TAO_OK, "at its last moment");
	ok_err(verify_at(&att, UNTIL, NULL), TAO_EEXPIRED, "after");
	ok_err(verify_at(&att, TAO_NOW, NULL), TAO_EEXPIRED, "by the clock");
	tao_buf_put(&att, "\x78\x01", 2);
	ok_err(verify_at(&att, INSIDE, NULL), TAO_EFORMAT, "with a field that nobody knows, and nobody signed");
	tao_buf_free(&att);
}

static void clocked(void)
{
	struct tao_buf att = TAO_BUF_INIT;
	struct tao_node *p = prin("$R"), *f = form("P(1)");
	struct tao_attested a;
	int64_t before = tao_now_ns();

	tao_attest(r_key, p, TAO_NOW, TAO_NOW, f, NULL, 0, &att);
	ok_err(tao_attestation_verify(att.p, att.n, TAO_NOW, p, &a), TAO_OK, "from now on");
	ok(a.from >= before && a.from <= tao_now_ns(), "from now");
	ok(a.until == a.from + TAO_ATTEST_YEAR_NS, "for a year");
	ok_err(verify_at(&att, before + TAO_ATTEST_YEAR_NS + 3600 * 1000000000LL, NULL),
	       TAO_EEXPIRED,
	       "no longer");
	tao_attested_clear(&a);
	ok_err(tao_attest(r_key, p, UNTIL, FROM, f, NULL, 0, &att), TAO_EINVAL,
	       "an end before the beginning");
	tao_node_free(p);
	tao_node_free(f);
	tao_buf_free(&att);
}

static void delegated(void)
{
	struct tao_buf d = TAO_BUF_INIT, att = TAO_BUF_INIT;
	struct tao_attested a;

	attest(r_key, "$R.Host(1)", FROM, UNTIL, "$C speaksfor $R.Host(1)", NULL, &d);
	attest(c_key, "$R.Host(1).Program(2)", FROM + 100, UNTIL + 100, "P(1)", &d, &att);
	ok_err(tao_attestation_verify(att.p, att.n, INSIDE, NULL, &a), TAO_OK, "delegated once");
	is_text(a.speaker, "$R.Host(1).Program(2)", "the speaker is the outer one's");
	is_text(a.root, "$R", "the root is the delegation's");
	ok(a.from == FROM + 100 && a.until == UNTIL, "the latest from, the earliest until");
	tao_attested_clear(&a);
	ok_err(verify_at(&att, FROM + 50, NULL), TAO_EEXPIRED, "not yet: the outer one");
	ok_err(verify_at(&att, UNTIL + 50, NULL), TAO_EEXPIRED, "no longer: the delegation");
	ok_err(verify_at(&att, INSIDE, "$R"), TAO_OK, "with its root");
	ok_err(verify_at(&att, INSIDE, "$C"), TAO_EDENIED, "the signer is not the root");
	attest(c_key, "$R.Host(1)", FROM, UNTIL, "P(1)", &d, &att);
	ok_err(verify_at(&att, INSIDE, NULL), TAO_OK, "for the delegator itself");
	attest(r_key, "$R.Host(1)", FROM, UNTIL, "$C.Sub(1) speaksfor $R.Host(1)", NULL, &d);
	attest(c_key, "$R.Host(1)", FROM, UNTIL, "P(1)", &d, &att);
	ok_err(verify_at(&att, INSIDE, NULL), TAO_OK, "a delegate below the signer");
	attest(r_key, "$R", FROM, UNTIL, "$C speaksfor $R", NULL, &d);
	attest(c_key, "$R.Host(1)", FROM, UNTIL, "$X speaksfor $R.Host(1)", &d, &att);
	attest(x_key, "$R.Host(1)", FROM, UNTIL, "P(1)", &att, &d);
	ok_err(verify_at(&d, INSIDE, "$R"), TAO_OK, "delegated twice");
	tao_buf_free(&d);
	tao_buf_free(&att);
}

/* Refusals: chains */

static void chains(void)
{
	static const struct {
		const char *what, *by, *delegation, *issuer;
	} cases[] = {
		{ "no speaksfor", "$R.Host(1)", "P($C)", "$R.Host(1)" },
		{ "a speaksfor inside another form", "$R.Host(1)",
		  "true and $C speaksfor $R.Host(1)", "$R.Host(1)" },
		{ "a name above its issuer's", "$R.Host(1)", "$C speaksfor $R", "$R.Host(1)" },
		{ "a name beside its issuer's", "$R.Host(1)", "$C speaksfor $R.Host(2)", "$R.Host(2)" },
		{ "a name below its issuer's", "$R", "$C speaksfor $R.Host(1)", "$R.Host(1)" },
		{ "for another key", "$R.Host(1)", "$X speaksfor $R.Host(1)", "$R.Host(1)" },
		{ "a delegate that is the issuer", "$R.Host(1)", "$R speaksfor $R.Host(1)", "$R.Host(1)" },
		{ "to nobody", "$R.Host(1)", "1 speaksfor $R.Host(1)", "$R.Host(1)" },
		{ "an issuer beside it", "$R.Host(1)", "$C speaksfor $R.Host(1)", "$R.Host(2)" },
		{ "an issuer above it", "$R.Host(1)", "$C speaksfor $R.Host(1)", "$R" },
		{ "an issuer of the signer's own", "$R.Host(1)", "$C speaksfor $R.Host(1)", "$C" },
		{ "by one who may not", "$X", "$C speaksfor $X", "$X.Host(1)" },
	};
	struct tao_buf d = TAO_BUF_INIT, att = TAO_BUF_INIT;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		attest(r_key, cases[i].by, FROM, UNTIL, cases[i].delegation, NULL, &d);
		attest(c_key, cases[i].issuer, FROM, UNTIL, "P(1)", &d, &att);
		ok_err(verify_at(&att, INSIDE, NULL), TAO_EDENIED, "delegation: %s", cases[i].what);
	}
	attest(c_key, "$R.Host(1)", FROM, UNTIL, "P(1)", NULL, &att);
	ok_err(verify_at(&att, INSIDE, NULL), TAO_EDENIED, "no delegation, but another's name");
	tao_buf_free(&d);
	tao_buf_free(&att);
}

static void lengths(void)
{
	struct tao_buf a = TAO_BUF_INIT, b = TAO_BUF_INIT, *now = &a, *next = &b;
	struct tao_node *p = prin("$R"), *f;
	char *big = malloc(300001);

	attest(r_key, "$R", FROM, UNTIL, "$R speaksfor $R", NULL, now);
	for (int i = 0; i < TAO_ATTEST_MAX_CHAIN; i++) {
		struct tao_buf *t = now;

		attest(r_key, "$R", FROM, UNTIL, "$R speaksfor $R", now, next);
		now = next;
		next = t;
	}
	ok_err(verify_at(now, INSIDE, NULL), TAO_OK, "%d delegations", TAO_ATTEST_MAX_CHAIN);
	attest(r_key, "$R", FROM, UNTIL, "P(1)", now, next);
	ok_err(verify_at(next, INSIDE, NULL), TAO_ELIMIT, "one more");
	memset(big, 'x', 300000);
	big[300000] = 0;
	f = tao_pred("P", 1, tao_term_str(big));
	tao_buf_reset(&a);
	ok_err(tao_attest(r_key, p, FROM, UNTIL, f, NULL, 0, &a), TAO_ELIMIT,
	       "none too large is made");
	attest(r_key, "$R", FROM, UNTIL, "P(1)", NULL, &a);
	tao_buf_u8(&a, 6 << 3 | 2); /* an endorsement, which is not signed */
	tao_buf_varint(&a, 300000);
	tao_buf_put(&a, big, 300000);
	ok_err(verify_at(&a, INSIDE, NULL), TAO_ELIMIT, "nor read");
	free(big);
	tao_node_free(p);
	tao_node_free(f);
	tao_buf_free(&a);
	tao_buf_free(&b);
}

/* Refusals: one attestation, put together by hand */

struct craft {
	const char *what, *statement, *context, *signer_type;
	const char *key_type, *purpose; /* of the header; NULL: right */
	int version, junk;              /* junk: a byte behind the statement */
	enum tao_err want;
};

static void put_header(struct tao_buf *sd, const struct craft *c)
{
	Tao__SignedData *m = (Tao__SignedData *)protobuf_c_message_unpack(
		&tao__signed_data__descriptor, NULL, sd->n, sd->p);

	if (c->key_type != NULL) {
		free(m->header->key_type);
		m->header->key_type = strdup(c->key_type);
	}
	if (c->purpose != NULL) {
		free(m->header->key_purpose);
		m->header->key_purpose = strdup(c->purpose);
	}
	if (c->version != 0)
		m->header->version = (Tao__CryptoVersion)c->version;
	tao_buf_reset(sd);
	tao_pb_pack(&m->base, sd);
	protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void crafted(const struct craft *c)
{
	struct tao_buf st = TAO_BUF_INIT, spki = TAO_BUF_INIT, sd = TAO_BUF_INIT, att = TAO_BUF_INIT;
	Tao__Attestation a = TAO__ATTESTATION__INIT;
	struct tao_node *says = form(c->statement);

	tao_node_encode(says, &st);
	if (c->junk)
		tao_buf_u8(&st, 0);
	tao_key_spki(r_key, &spki);
	tao_key_sign(r_key, c->context, st.p, st.n, &sd);
	put_header(&sd, c);
	a.serialized_statement = (ProtobufCBinaryData){ st.n, st.p };
	a.signer_type = (char *)c->signer_type;
	a.signer_key = (ProtobufCBinaryData){ spki.n, spki.p };
	a.signature = (ProtobufCBinaryData){ sd.n, sd.p };
	tao_pb_pack(&a.base, &att);
	ok_err(verify_at(&att, INSIDE, NULL), c->want, "%s", c->what);
	tao_node_free(says);
	tao_buf_free(&st);
	tao_buf_free(&spki);
	tao_buf_free(&sd);
	tao_buf_free(&att);
}

static void by_hand(void)
{
	static const char ctx[] = TAO_ATTEST_CONTEXT;
	static const char good[] = "$R from 1000 until 2000 says P(1)";
	static const struct craft cases[] = {
		{ "by hand, as it should be", good, ctx, "key", NULL, NULL, 0, 0, TAO_OK },
		{ "another context", good, "tao.ACLGuard Version 1", "key", NULL, NULL, 0, 0,
		  TAO_ESIGNATURE },
		{ "signed by a TPM", good, ctx, "tpm2", NULL, NULL, 0, 0, TAO_EVERSION },
		{ "signed by an old TPM", good, ctx, "tpm", NULL, NULL, 0, 0, TAO_EVERSION },
		{ "signed by something else", good, ctx, "Key", NULL, NULL, 0, 0, TAO_EVERSION },
		{ "a header of another key type", good, ctx, "key", "ecdsap384-public", NULL, 0, 0,
		  TAO_ESIGNATURE },
		{ "a header of another purpose", good, ctx, "key", NULL, "deriving", 0, 0,
		  TAO_ESIGNATURE },
		{ "a header of a newer version", good, ctx, "key", NULL, NULL, 3, 0, TAO_EVERSION },
		{ "a byte behind the statement", good, ctx, "key", NULL, NULL, 0, 1, TAO_EFORMAT },
		{ "no 'says'", "true", ctx, "key", NULL, NULL, 0, 0, TAO_EFORMAT },
		{ "a speaker that is no principal", "1 from 1000 until 2000 says P(1)", ctx, "key", NULL,
		  NULL, 0, 0, TAO_EFORMAT },
		{ "a speaker of another kind", "tpm([00]) from 1000 until 2000 says P(1)", ctx, "key",
		  NULL, NULL, 0, 0, TAO_EDENIED },
		{ "no beginning", "$R until 2000 says P(1)", ctx, "key", NULL, NULL, 0, 0, TAO_EFORMAT },
		{ "no end", "$R from 1000 says P(1)", ctx, "key", NULL, NULL, 0, 0, TAO_EFORMAT },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		crafted(&cases[i]);
}

/* A changed bit is refused, or stands in the header, which says nothing. */
static void altered(const struct tao_buf *original)
{
	struct tao_buf att = TAO_BUF_INIT;
	struct tao_attested a, b;
	size_t opened = 0, lies = 0;

	tao_buf_put(&att, original->p, original->n);
	if (tao_attestation_verify(att.p, att.n, INSIDE, NULL, &a) != TAO_OK)
		return;
	for (size_t n = 0; n < att.n; n++)
		opened += tao_attestation_verify(att.p, n, INSIDE, NULL, &b) == TAO_OK;
	ok(opened == 0, "no prefix verifies");
	for (size_t i = 0; i < att.n * 8; i++) {
		att.p[i / 8] ^= (uint8_t)(1 << i % 8);
		if (tao_attestation_verify(att.p, att.n, INSIDE, NULL, &b) == TAO_OK)
			lies += !tao_node_equal(a.speaker, b.speaker) || !tao_node_equal(a.root, b.root) ||
			        !tao_node_equal(a.message, b.message) || a.from != b.from ||
			        a.until != b.until;
		tao_attested_clear(&b);
		att.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	ok(lies == 0, "no changed bit changes what is verified");
	tao_attested_clear(&a);
	tao_buf_free(&att);
}

static void every_bit(void)
{
	struct tao_buf d = TAO_BUF_INIT, att = TAO_BUF_INIT;

	attest(r_key, "$R.Host(1)", FROM, UNTIL, "$C speaksfor $R.Host(1)", NULL, &d);
	attest(c_key, "$R.Host(1)", FROM, UNTIL, "P(1)", &d, &att);
	altered(&att);
	tao_buf_free(&d);
	tao_buf_free(&att);
}

/* CloudProxy's */

static int vector(const char *name, struct tao_buf *out)
{
	char path[512];

	snprintf(path, sizeof path, "%s/cloudproxy/%s", getenv("TAO_VECTORS"), name);
	if (access(path, R_OK) != 0)
		snprintf(path, sizeof path, "%s/%s", getenv("TAO_VECTORS"), name);
	return tao_file_read(path, TAO_ATTEST_MAX, out) == TAO_OK;
}

static void vector_chain(const char *name, int64_t until)
{
	static const char root[] =
		"key([5aa92173245dd9d4fb7f43df68c25ec7d34d414201aeb42f637559691dff010e])";
	struct tao_buf att = TAO_BUF_INIT;
	struct tao_attested a;

	ok(vector(name, &att), "%s", name);
	ok_err(tao_attestation_verify(att.p, att.n, INSIDE, NULL, &a), TAO_OK, "%s: verifies",
	       name);
	ok(a.from == 1000 && a.until == until, "%s: its times", name);
	is_text(a.root, root, "its root");
	tao_attested_clear(&a);
	ok_err(verify_at(&att, TAO_NOW, root), TAO_OK, "%s: by the clock, with its root", name);
	ok_err(verify_at(&att, TAO_NOW, "$R"), TAO_EDENIED, "%s: not with another", name);
	ok_err(verify_at(&att, 499, NULL), TAO_EEXPIRED, "%s: before", name);
	ok_err(verify_at(&att, 999, NULL), TAO_EEXPIRED, "%s: just before", name);
	ok_err(verify_at(&att, until, NULL), TAO_EEXPIRED, "%s: after", name);
	tao_buf_free(&att);
}

static void vectors(void)
{
	struct tao_buf att = TAO_BUF_INIT;

	if (getenv("TAO_VECTORS") == NULL) {
		skip("CloudProxy's vectors", "TAO_VECTORS is not set");
		return;
	}
	vector_chain("chain1.att", 9000000000000000000);
	vector_chain("chain2.att", 8000000000000000000);
	ok(vector("chain2_nodel.bad.att", &att), "chain2_nodel.bad.att");
	ok_err(verify_at(&att, INSIDE, NULL), TAO_EDENIED,
	       "without its delegation it does not verify");
	tao_buf_reset(&att);
	ok(vector("chain2.att", &att), "chain2.att");
	altered(&att);
	tao_buf_free(&att);
}

int main(void)
{
	make_key(&r_key, r_name);
	make_key(&c_key, c_name);
	make_key(&x_key, x_name);
	single();
	clocked();
	delegated();
	chains();
	lengths();
	by_hand();
	every_bit();
	vectors();
	EVP_PKEY_free(r_key);
	EVP_PKEY_free(c_key);
	EVP_PKEY_free(x_key);
	return done();
}
