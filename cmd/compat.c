/* tao compat: CloudProxy's keys and what was made with them. */
#include "compat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "../tao/attest.h"
#include "../tao/file.h"
#include "../tao/key.h"

#define FD_MAX     (1 << 20)
#define DERIVE_MAX (255 * TAO_MAC_MAX) /* bytes, with the longest hash of HKDF */

/* ---- reports ---- */

int compat_print(const struct cmd_env *env, const struct compat_report *r)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (compat_err(r) != TAO_OK)
		return cmd_failed(env);
	if (!env->json) {
		for (size_t i = 0; i < r->n; i++)
			cmd_field(r->line[i].name, r->line[i].value);
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_begin(&j, "lines", '[');
	for (size_t i = 0; i < r->n; i++) {
		tao_json_begin(&j, NULL, '{');
		tao_json_str(&j, "name", r->line[i].name);
		tao_json_str(&j, "value", r->line[i].value);
		tao_json_end(&j, '}');
	}
	tao_json_end(&j, ']');
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

/* ---- files ---- */

enum tao_err compat_quote(enum tao_err e, const char *file)
{
	return tao_fail(e, "%.400s: %s", file, tao_why());
}

enum tao_err compat_read(const char *file, struct tao_buf *out)
{
	enum tao_err e = cmd_input(file, COMPAT_MAX_FILE, out);

	if (e == TAO_OK && out->n == 0)
		e = tao_fail(TAO_EFORMAT, "%.400s is empty: is it the right file?", file);
	return e;
}

int cmd_compat_inspect(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct compat_report r = { 0 };
	struct tao_rd f;
	enum tao_err e;
	int status;

	if (!cmd_operands(env, argc, argv, 1, 1))
		return env->status;
	e = compat_read(argv[optind], &b);
	if (e == TAO_OK) {
		f = tao_rd_of(b.p, b.n);
		e = compat_inspect(&f, &r);
		if (e != TAO_OK)
			e = compat_quote(e, argv[optind]);
	}
	status = e == TAO_OK ? compat_print(env, &r) : cmd_failed(env);
	compat_clear(&r);
	tao_buf_free(&b);
	return status;
}

/* A CryptoKey by itself, or a CryptoKeyset. */
struct keys {
	struct tao_anykey one;
	struct tao_keyset set;
};

static void keys_clear(struct keys *k)
{
	tao_anykey_clear(&k->one);
	tao_keyset_clear(&k->set);
}

/* What is wrong with a file that is neither is what is wrong with it as a CryptoKey. */
static enum tao_err keys_read(const char *file, struct keys *k)
{
	struct tao_buf b = TAO_BUF_INIT;
	char why[TAO_WHY_MAX];
	enum tao_err e;

	memset(k, 0, sizeof *k);
	e = compat_read(file, &b);
	if (e == TAO_OK) {
		e = tao_anykey_decode(b.p, b.n, &k->one);
		snprintf(why, sizeof why, "%s", tao_why());
		if (e != TAO_OK && tao_keyset_decode_any(b.p, b.n, &k->set) == TAO_OK)
			e = TAO_OK;
		else if (e != TAO_OK)
			e = tao_fail(e, "%.400s: %.600s", file, why);
	}
	tao_buf_free(&b);
	return e;
}

/* ---- verify, decrypt, unpbe, derive ---- */

enum { OPT_CONTEXT = 1, OPT_KEY, OPT_FD, OPT_LENGTH, OPT_AT, OPT_TRUST };

static const struct option verify_options[] = {
	{ "context", required_argument, NULL, OPT_CONTEXT },
	{ "key", required_argument, NULL, OPT_KEY },
	{ NULL, 0, NULL, 0 },
};
static const struct option decrypt_options[] = {
	{ "key", required_argument, NULL, OPT_KEY },
	{ NULL, 0, NULL, 0 },
};
static const struct option unpbe_options[] = {
	{ "password-fd", required_argument, NULL, OPT_FD },
	{ NULL, 0, NULL, 0 },
};
static const struct option derive_options[] = {
	{ "key", required_argument, NULL, OPT_KEY },
	{ "context", required_argument, NULL, OPT_CONTEXT },
	{ "length", required_argument, NULL, OPT_LENGTH },
	{ NULL, 0, NULL, 0 },
};
static const struct option attestation_options[] = {
	{ "at", required_argument, NULL, OPT_AT },
	{ "trust", required_argument, NULL, OPT_TRUST },
	{ NULL, 0, NULL, 0 },
};

/* By option's value; NULL: not given. */
struct given {
	const char *value[OPT_TRUST + 1];
};

/* Reads the options of which all but those that may_lack has bits for must be there, and exactly
 * n operands. Returns 1; else 0, and env->status is what to return. */
static int parse(struct cmd_env *env, int argc, char **argv, const struct option *own,
                 unsigned may_lack, int n, struct given *g)
{
	int c;

	memset(g, 0, sizeof *g);
	while ((c = cmd_option(env, argc, argv, own)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		g->value[c] = optarg;
	}
	for (; own->name != NULL; own++) {
		if (g->value[own->val] != NULL || (may_lack & 1u << own->val) != 0)
			continue;
		env->status = cmd_usage(env, "--%s is missing", own->name);
		return 0;
	}
	if (argc - optind == n)
		return 1;
	if (argc - optind < n)
		env->status = cmd_usage(env, "something is missing");
	else
		env->status = cmd_usage(env, "'%s' is too much", argv[optind + n]);
	return 0;
}

static enum tao_err read_spki(const char *file, EVP_PKEY **key)
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = compat_read(file, &b);

	*key = NULL;
	if (e == TAO_OK && (e = tao_key_from_spki(b.p, b.n, key)) != TAO_OK)
		e = compat_quote(e, file);
	tao_buf_free(&b);
	return e;
}

static void say_signer(struct compat_report *r, EVP_PKEY *key)
{
	struct tao_buf spki = TAO_BUF_INIT;

	if (tao_key_spki(key, &spki) == TAO_OK)
		compat_say_key(r, "signer", "key", spki.p, spki.n);
	else
		r->err = TAO_ECRYPTO;
	tao_buf_free(&spki);
}

int cmd_compat_verify(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf msg = TAO_BUF_INIT, sig = TAO_BUF_INIT;
	struct compat_report r = { 0 };
	EVP_PKEY *key = NULL;
	struct given g;
	enum tao_err e;
	int status;

	if (!parse(env, argc, argv, verify_options, 0, 2, &g))
		return env->status;
	e = read_spki(g.value[OPT_KEY], &key);
	if (e == TAO_OK)
		e = cmd_input(argv[optind], COMPAT_MAX_FILE, &msg);
	if (e == TAO_OK)
		e = compat_read(argv[optind + 1], &sig);
	if (e == TAO_OK) {
		e = tao_key_verify(key, g.value[OPT_CONTEXT], msg.p, msg.n, sig.p, sig.n);
		if (e == TAO_OK)
			say_signer(&r, key);
		else
			e = compat_quote(e, argv[optind + 1]);
	}
	status = e == TAO_OK ? compat_print(env, &r) : cmd_failed(env);
	compat_clear(&r);
	EVP_PKEY_free(key);
	tao_buf_free(&msg);
	tao_buf_free(&sig);
	return status;
}

static enum tao_err decrypt(const char *key_file, const char *file, struct tao_buf *out)
{
	struct tao_buf b = TAO_BUF_INIT;
	const struct tao_crypter *c = NULL;
	struct keys k;
	enum tao_err e = keys_read(key_file, &k);

	if (e == TAO_OK)
		e = compat_read(file, &b);
	if (e == TAO_OK) {
		c = k.one.crypter.type != NULL ? &k.one.crypter : tao_keyset_crypter(&k.set, NULL);
		if (c == NULL)
			e = tao_fail(TAO_EPURPOSE,
			             "%.400s has no key for decrypting: its purpose "
			             "must be 'crypting'",
			             key_file);
		else if ((e = tao_crypter_decrypt(c, b.p, b.n, out)) != TAO_OK)
			e = compat_quote(e, file);
	}
	keys_clear(&k);
	tao_buf_free(&b);
	return e;
}

int cmd_compat_decrypt(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf plain = TAO_BUF_INIT;
	struct given g;
	enum tao_err e;

	if (!parse(env, argc, argv, decrypt_options, 0, 1, &g))
		return env->status;
	e = decrypt(g.value[OPT_KEY], argv[optind], &plain);
	if (e == TAO_OK)
		e = cmd_output(NULL, plain.p, plain.n, 0);
	tao_buf_free(&plain);
	return e == TAO_OK ? 0 : cmd_failed(env);
}

int cmd_compat_unpbe(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf b = TAO_BUF_INIT, pass = TAO_BUF_INIT, plain = TAO_BUF_INIT;
	struct given g;
	int64_t fd;
	enum tao_err e;

	if (!parse(env, argc, argv, unpbe_options, 0, 1, &g) ||
	    !cmd_number(env, "--password-fd", g.value[OPT_FD], 0, FD_MAX, &fd))
		return env->status;
	if (fd == 0 && strcmp(argv[optind], "-") == 0)
		return cmd_usage(env, "standard input cannot be both the file and the password");
	e = compat_read(argv[optind], &b);
	if (e == TAO_OK)
		e = tao_passphrase_fd((int)fd, &pass);
	if (e == TAO_OK && (e = tao_pbe_open(pass.p, pass.n, b.p, b.n, &plain)) != TAO_OK)
		e = compat_quote(e, argv[optind]);
	if (e == TAO_OK)
		e = cmd_output(NULL, plain.p, plain.n, 0);
	tao_buf_free(&b);
	tao_buf_free(&pass);
	tao_buf_free(&plain);
	return e == TAO_OK ? 0 : cmd_failed(env);
}

static enum tao_err derive(const char *key_file, const char *context, void *out, size_t n)
{
	struct tao_deriver d = { 0 };
	struct keys k;
	enum tao_err e = keys_read(key_file, &k);

	if (e == TAO_OK && k.one.deriver.type != NULL)
		d = k.one.deriver;
	else if (e == TAO_OK && (tao_anykey_type(&k.one) != NULL ||
	                         tao_keyset_deriver(&k.set, NULL, &d) != TAO_OK))
		e = tao_fail(TAO_EPURPOSE,
		             "%.400s has no key for deriving: its purpose must be "
		             "'deriving'",
		             key_file);
	if (e == TAO_OK)
		e = tao_deriver_derive(&d, NULL, 0, context, strlen(context), out, n);
	tao_deriver_clear(&d);
	keys_clear(&k);
	return e;
}

int cmd_compat_derive(struct cmd_env *env, int argc, char **argv)
{
	uint8_t secret[DERIVE_MAX];
	struct given g;
	int64_t n;
	enum tao_err e;

	if (!parse(env, argc, argv, derive_options, 0, 0, &g) ||
	    !cmd_number(env, "--length", g.value[OPT_LENGTH], 1, DERIVE_MAX, &n))
		return env->status;
	e = derive(g.value[OPT_KEY], g.value[OPT_CONTEXT], secret, (size_t)n);
	if (e == TAO_OK)
		e = cmd_output_hex(secret, (size_t)n, 0);
	OPENSSL_cleanse(secret, sizeof secret);
	return e == TAO_OK ? 0 : cmd_failed(env);
}

/* ---- attestation ---- */

static enum tao_err judge(const char *file, const char *trust, int64_t at,
                          struct tao_attested *said)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *root = NULL;
	enum tao_err e = TAO_OK;

	if (trust != NULL && (e = tao_prin_parse(trust, strlen(trust), &root)) != TAO_OK)
		e = compat_quote(e, "--trust");
	if (e == TAO_OK)
		e = compat_read(file, &b);
	if (e == TAO_OK && (e = tao_attestation_verify(b.p, b.n, at, root, said)) != TAO_OK)
		e = compat_quote(e, file);
	tao_node_free(root);
	tao_buf_free(&b);
	return e;
}

/* The statement by itself on the first line, as tao verify prints it. */
static int tell(const struct cmd_env *env, const struct tao_attested *a, int with_root)
{
	struct tao_node *says =
	    tao_says(tao_node_dup(a->speaker), a->from, a->until, tao_node_dup(a->message));
	char *text = says != NULL ? tao_node_text(says) : NULL;
	char *root = tao_node_text(a->root);
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;
	int status = 0;

	if (text == NULL || root == NULL) {
		tao_fail_nomem();
		status = cmd_failed(env);
	} else if (env->json) {
		tao_json_open(&j, &b);
		tao_json_begin(&j, NULL, '{');
		tao_json_str(&j, "statement", text);
		tao_json_str(&j, "root", root);
		tao_json_int(&j, "from", a->from);
		tao_json_int(&j, "until", a->until);
		tao_json_end(&j, '}');
		status = cmd_put_json(env, &b);
	} else {
		printf("%s\n", text);
		cmd_field("root", with_root ? root : NULL);
	}
	tao_node_free(says);
	free(text);
	free(root);
	return status;
}

int cmd_compat_attestation(struct cmd_env *env, int argc, char **argv)
{
	struct tao_attested said = { 0 };
	int64_t at = TAO_NOW;
	struct given g;
	int status;

	if (!parse(env, argc, argv, attestation_options, ~0u, 1, &g) ||
	    (g.value[OPT_AT] != NULL &&
	     !cmd_number(env, "--at", g.value[OPT_AT], 0, INT64_MAX, &at)))
		return env->status;
	if (judge(argv[optind], g.value[OPT_TRUST], at, &said) == TAO_OK)
		status = tell(env, &said, g.value[OPT_TRUST] == NULL);
	else
		status = cmd_failed(env);
	tao_attested_clear(&said);
	return status;
}
