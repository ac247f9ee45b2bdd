#include "cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_TRUST = 1, OPT_AT };

static const struct option options[] = {
	{ "trust", required_argument, NULL, OPT_TRUST },
	{ "at", required_argument, NULL, OPT_AT },
	{ NULL, 0, NULL, 0 },
};

/* The key that this program's own name starts with: its host's, or that of the
 * host below that. */
static enum tao_err own_root(struct cmd_env *env, struct tao_node **root)
{
	struct tao_parent *p;
	struct tao_node *name = NULL;
	enum tao_err e = cmd_parent(env, &p);

	if (e == TAO_OK)
		e = tao_parent_name(p, &name);
	if (e == TAO_OK && (*root = tao_prin_prefix(name, 0)) == NULL)
		e = tao_fail_nomem();
	tao_node_free(name);
	tao_parent_close(p);
	return e;
}

static enum tao_err verify(struct cmd_env *env, const char *file, const char *trust, int64_t at,
                           struct tao_attested *said)
{
	struct tao_buf att = TAO_BUF_INIT;
	struct tao_node *root = NULL;
	enum tao_err e = cmd_input(file, TAO_ATTEST_MAX, &att);

	if (e == TAO_OK)
		e = trust != NULL ? tao_prin_parse(trust, strlen(trust), &root)
		                  : own_root(env, &root);
	if (e == TAO_OK)
		e = tao_attestation_verify(att.p, att.n, at, root, said);
	tao_node_free(root);
	tao_buf_free(&att);
	return e;
}

static void put_node(struct tao_json *j, const char *key, const struct tao_node *n)
{
	char *text = tao_node_text(n);

	tao_json_str(j, key, text);
	free(text);
}

static int put_json(struct cmd_env *env, const struct tao_attested *a)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	put_node(&j, "speaker", a->speaker);
	put_node(&j, "message", a->message);
	put_node(&j, "root", a->root);
	tao_json_int(&j, "from", a->from);
	tao_json_int(&j, "until", a->until);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

static int put_text(struct cmd_env *env, const struct tao_attested *a)
{
	struct tao_node *says =
	    tao_says(tao_node_dup(a->speaker), a->from, a->until, tao_node_dup(a->message));
	char *text = says != NULL ? tao_node_text(says) : NULL;
	int status = 0;

	if (text != NULL) {
		printf("%s\n", text);
	} else {
		tao_fail_nomem();
		status = cmd_failed(env);
	}
	tao_node_free(says);
	free(text);
	return status;
}

int cmd_verify(struct cmd_env *env, int argc, char **argv)
{
	const char *trust = NULL;
	struct tao_attested said = { 0 };
	int64_t at = TAO_NOW;
	int c, status;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_TRUST)
			trust = optarg;
		else if (!cmd_number(env, "--at", optarg, 0, INT64_MAX, &at))
			return env->status;
	}
	if (argc - optind > 1)
		return cmd_usage(env, "give one file");
	if (verify(env, argv[optind], trust, at, &said) != TAO_OK)
		return cmd_failed(env);
	status = env->json ? put_json(env, &said) : put_text(env, &said);
	tao_attested_clear(&said);
	return status;
}
