/* tao compat import: what a domain of ours can take over from one of CloudProxy's. */
#include "compat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tao/guard.h"
#include "../tao/pb.h"
#include "tao.pb-c.h"

#define RULES_CONTEXT "Datalog Rules Signing Context V1"
#define UNPACK_MEMORY (8 * TAO_GUARD_MAX_FILE)
#define MAX_CERT      65536
#define MAX_CONFIG    65536

struct import {
	const char *dir;
	struct compat_config conf;
	EVP_PKEY *policy; /* public half */
	struct compat_report report;
	size_t refused;
};

static void refuse(struct import *im, const struct tao_node *rule, const char *why)
{
	char *text = tao_node_text(rule);

	if (text == NULL)
		im->report.err = TAO_ENOMEM;
	else
		compat_say(&im->report, "refused", "%s: %s", text, why);
	free(text);
	im->refused++;
}

/* ---- single rules ---- */

/* Program([hash]); a container's or virtual machine's measurement is none that is made here. */
static const struct tao_node *program_hash(const struct tao_node *ext)
{
	return strcmp(ext->text, "Program") == 0 && ext->n_kid == 1 &&
	               ext->kid[0]->tag == TAO_BYTES && ext->kid[0]->len == TAO_HASH_LEN
	           ? ext->kid[0]
	           : NULL;
}

/* Each fact once: several hosts may have had the same program. */
static void trust_program(struct import *im, const struct tao_node *hash)
{
	struct tao_node *fact = tao_pred("TrustedProgram", 1, tao_node_dup(hash));
	char *text = fact != NULL ? tao_node_text(fact) : NULL;
	const struct compat_report *r = &im->report;
	int there = 0;

	for (size_t i = 0; text != NULL && i < r->n; i++)
		there |=
		    strcmp(r->line[i].name, "fact") == 0 && strcmp(r->line[i].value, text) == 0;
	if (text == NULL)
		im->report.err = TAO_ENOMEM;
	else if (!there)
		compat_say(&im->report, "fact", "%s", text);
	free(text);
	tao_node_free(fact);
}

/* TrustedProgramHash(ext.Program([hash])) */
static int take_program(struct import *im, const struct tao_node *f)
{
	const struct tao_node *hash = NULL;

	if (f->n_kid == 1 && f->kid[0]->tag == TAO_TAIL && f->kid[0]->n_kid == 1)
		hash = program_hash(f->kid[0]->kid[0]);
	if (hash != NULL)
		trust_program(im, hash);
	return hash != NULL;
}

/* Authorized(HOST.GUARD.Program([hash]), "Execute"): just the program, no part of one. */
static int take_authorized(struct import *im, const struct tao_node *f)
{
	const struct tao_node *hash = NULL, *p;
	size_t n;

	if (f->n_kid != 2 || f->kid[0]->tag != TAO_PRIN || f->kid[1]->tag != TAO_STR ||
	    strcmp(f->kid[1]->text, "Execute") != 0)
		return 0;
	p = f->kid[0];
	n = tao_prin_ext_count(p);
	if (n == 0)
		return 0;
	for (size_t i = 0; i + 1 < n; i++)
		if (strcmp(tao_prin_ext(p, i)->text, "Program") == 0)
			return 0;
	hash = program_hash(tao_prin_ext(p, n - 1));
	if (hash != NULL)
		trust_program(im, hash);
	return hash != NULL;
}

static const char no_counterpart[] =
    "the new domain has no fact that says this: see tao policy in tao(1) for those it has";
static const char new_names[] =
    "names of hosts are new: the new domain trusts its hosts when they are made";

/* take NULL: never. */
static const struct predicate {
	const char *name;
	int (*take)(struct import *im, const struct tao_node *f);
	const char *why;
} predicates[] = {
	{ "TrustedProgramHash", take_program,
	  "only ext.Program([SHA-256 of an executable]) can be taken over" },
	{ "Authorized", take_authorized,
	  "only the right to \"Execute\" of a name that ends in .Program([SHA-256]) can be taken "
	  "over" },
	{ "TrustedHost", NULL, new_names },
	{ "TrustedGuard", NULL, new_names },
	{ "TrustedTPM", NULL, new_names },
	{ "TrustedTPM2", NULL, new_names },
	{ "TrustedOS", NULL, new_names },
	{ "TrustedContainerHash", NULL,
	  "containers are measured otherwise here: use tao trust on the program in it" },
};

static void take_rule(struct import *im, const struct tao_node *f)
{
	if (f->tag != TAO_PRED) {
		refuse(im, f,
		       "rules with variables are part of the new domain itself, "
		       "and can neither be added nor are needed");
		return;
	}
	for (size_t i = 0; i < sizeof predicates / sizeof predicates[0]; i++) {
		const struct predicate *p = &predicates[i];

		if (strcmp(p->name, f->text) != 0)
			continue;
		if (p->take == NULL || !p->take(im, f))
			refuse(im, f, p->why);
		return;
	}
	refuse(im, f, no_counterpart);
}

/* ---- files of the domain ---- */

static enum tao_err in_dir(const struct import *im, const char *a, const char *b, char **path)
{
	if (asprintf(path, "%s/%s%s%s", im->dir, a, b != NULL ? "/" : "", b != NULL ? b : "") >= 0)
		return TAO_OK;
	*path = NULL;
	return tao_fail_nomem();
}

static enum tao_err read_config(struct import *im)
{
	struct tao_buf b = TAO_BUF_INIT;
	char *path;
	enum tao_err e = in_dir(im, "tao.config", NULL, &path);

	if (e == TAO_OK)
		e = cmd_input(path, MAX_CONFIG, &b);
	if (e == TAO_OK && (e = compat_config(&b, &im->conf)) != TAO_OK)
		e = compat_quote(e, path);
	if (e == TAO_OK) {
		compat_say(&im->report, "domain", "%s", im->conf.name);
		compat_say(&im->report, "guard", "%s", im->conf.guard_type);
	}
	free(path);
	tao_buf_free(&b);
	return e;
}

static enum tao_err read_policy_key(struct import *im)
{
	struct tao_buf b = TAO_BUF_INIT;
	char *path, *keys = NULL;
	enum tao_err e = in_dir(im, im->conf.policy_keys_path, "cert", &path);

	if (e == TAO_OK)
		e = cmd_input(path, MAX_CERT, &b);
	if (e == TAO_OK && (e = compat_certificate(b.p, b.n, &im->report, &im->policy)) != TAO_OK)
		e = compat_quote(e, path);
	if (e == TAO_OK)
		e = in_dir(im, im->conf.policy_keys_path, "keys", &keys);
	if (e == TAO_OK && access(keys, F_OK) == 0)
		compat_say(&im->report, "policy key",
		           "%s stays there: the new domain makes one of its "
		           "own; tao compat unpbe opens the old one",
		           keys);
	free(path);
	free(keys);
	tao_buf_free(&b);
	return e;
}

/* Each rule as a tree of its own, for both kinds of sets. */
static void take_acl_entry(const char *rule, void *arg)
{
	struct import *im = arg;
	struct tao_node *f = NULL;

	/* The guard printed it. */
	if (tao_form_parse(rule, strlen(rule), &f) == TAO_OK)
		take_rule(im, f);
	else
		im->report.err = TAO_ENOMEM;
	tao_node_free(f);
}

static enum tao_err take_acls(struct import *im, const char *path)
{
	struct tao_guard *g = NULL;
	enum tao_err e = tao_guard_acl(im->policy, &g);

	if (e == TAO_OK)
		e = tao_guard_import(g, path);
	if (e == TAO_OK)
		e = tao_guard_list(g, take_acl_entry, im);
	tao_guard_free(g);
	return e;
}

static enum tao_err take_forms(struct import *im, const Tao__DatalogRules *set)
{
	enum tao_err e = TAO_OK;

	if (set->has_format || set->has_version || set->has_date)
		return tao_fail(TAO_EFORMAT,
		                "these rules have a version: CloudProxy did not make them");
	if (set->n_rules > TAO_GUARD_MAX_RULES)
		return tao_fail(TAO_ELIMIT, "there are %zu rules: at most %d are read",
		                set->n_rules, TAO_GUARD_MAX_RULES);
	for (size_t i = 0; e == TAO_OK && i < set->n_rules; i++) {
		struct tao_node *f = NULL;

		e = tao_form_decode(set->rules[i].data, set->rules[i].len, &f);
		if (e == TAO_OK)
			take_rule(im, f);
		else
			e = tao_fail(e, "rule %zu: %s", i + 1, tao_why());
		tao_node_free(f);
	}
	return e;
}

static enum tao_err take_signed(struct import *im, const Tao__SignedDatalogRules *s)
{
	const ProtobufCBinaryData *body = &s->serialized_rules;
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb = NULL;
	enum tao_err e = tao_key_verify(im->policy, RULES_CONTEXT, body->data, body->len,
	                                s->signature.data, s->signature.len);

	tao_pb_alloc_init(&pa, UNPACK_MEMORY);
	if (e == TAO_OK)
		e = tao_pb_unpack_strict(&pa, &tao__datalog_rules__descriptor, body->data,
		                         body->len, "set of rules", &pb);
	if (e == TAO_OK)
		e = take_forms(im, (const Tao__DatalogRules *)pb);
	tao_pb_free(&pa, pb);
	return e;
}

static enum tao_err take_rules(struct import *im, const char *path)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb = NULL;
	enum tao_err e = cmd_input(path, TAO_GUARD_MAX_FILE, &b);

	tao_pb_alloc_init(&pa, UNPACK_MEMORY);
	if (e == TAO_OK) {
		e = tao_pb_unpack_strict(&pa, &tao__signed_datalog_rules__descriptor, b.p, b.n,
		                         "signed set of rules", &pb);
		if (e == TAO_OK)
			e = take_signed(im, (const Tao__SignedDatalogRules *)pb);
		if (e != TAO_OK)
			e = compat_quote(e, path);
	}
	tao_pb_free(&pa, pb);
	tao_buf_free(&b);
	return e;
}

static const char *no_path(const struct compat_config *c)
{
	(void)c;
	return NULL;
}

static const char *acls_path(const struct compat_config *c)
{
	return c->signed_acls_path;
}

static const char *rules_path(const struct compat_config *c)
{
	return c->signed_rules_path;
}

/* take NULL: nothing is kept for such a guard; why NULL: and nothing is lost. */
static const struct guard {
	const char *type;
	const char *(*path)(const struct compat_config *c);
	enum tao_err (*take)(struct import *im, const char *path);
	const char *why;
} guards[] = {
	{ "ACLs", acls_path, take_acls, NULL },
	{ "Datalog", rules_path, take_rules, NULL },
	{ "DenyAll", no_path, NULL, NULL },
	{ "AllowAll", no_path, NULL,
	  "no domain here allows everything: name the programs with tao trust" },
};

static enum tao_err take_guard(struct import *im)
{
	const struct guard *g = NULL;
	char *path = NULL;
	enum tao_err e;

	for (size_t i = 0; i < sizeof guards / sizeof guards[0] && g == NULL; i++)
		if (strcmp(guards[i].type, im->conf.guard_type) == 0)
			g = &guards[i];
	if (g == NULL)
		return tao_fail(TAO_EINVAL,
		                "%.400s/tao.config: CloudProxy has no guard '%.64s': it is "
		                "ACLs, Datalog, AllowAll or DenyAll",
		                im->dir, im->conf.guard_type);
	if (g->take == NULL) {
		if (g->why != NULL) {
			compat_say(&im->report, "refused", "%s: %s", g->type, g->why);
			im->refused++;
		}
		return TAO_OK;
	}
	e = in_dir(im, g->path(&im->conf), NULL, &path);
	if (e == TAO_OK)
		e = g->take(im, path);
	free(path);
	return e;
}

int cmd_compat_import(struct cmd_env *env, int argc, char **argv)
{
	struct import im = { 0 };
	enum tao_err e;
	int status;

	if (!cmd_operands(env, argc, argv, 1, 1))
		return env->status;
	im.dir = argv[optind];
	e = read_config(&im);
	if (e == TAO_OK)
		e = read_policy_key(&im);
	if (e == TAO_OK)
		e = take_guard(&im);
	status = e == TAO_OK ? compat_print(env, &im.report) : cmd_failed(env);
	if (status == 0 && im.refused > 0) {
		tao_fail(TAO_EINVAL,
		         "not everything can be taken over: the output says what is refused, "
		         "and why");
		status = cmd_failed(env);
	}
	compat_config_clear(&im.conf);
	compat_clear(&im.report);
	EVP_PKEY_free(im.policy);
	return status;
}
