/* tao group key: inside tao run, for the program around it. */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "tao.pb-c.h"

enum { OPT_EPOCH = 1, OPT_RAW };

static const struct option options[] = {
	{ "epoch", required_argument, NULL, OPT_EPOCH },
	{ "raw", no_argument, NULL, OPT_RAW },
	{ NULL, 0, NULL, 0 },
};

static enum tao_err print(struct cmd_env *env, uint32_t epoch, const uint8_t *key, int raw)
{
	struct tao_buf b = TAO_BUF_INIT, hex = TAO_BUF_INIT;
	struct tao_json j;

	if (!env->json)
		return cmd_output_hex(key, TAO_PARENT_GROUP_KEY, raw);
	tao_buf_hex(&hex, key, TAO_PARENT_GROUP_KEY);
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_int(&j, "epoch", epoch);
	tao_json_str(&j, "key", tao_buf_cstr(&hex));
	tao_json_end(&j, '}');
	tao_buf_free(&hex);
	cmd_put_json(env, &b);
	return TAO_OK;
}

static enum tao_err member_of(const char *name, struct tao_node **out)
{
	enum tao_err e = tao_prin_parse(name, strlen(name), out);

	if (e == TAO_OK || e == TAO_ENOMEM)
		return e;
	return tao_fail(e, "'%.60s' is no principal, as 'tao ps --long' has it of programs: %s",
	                name, tao_why());
}

/* The members that are named, and this program itself, which may be among them. */
static enum tao_err group_key(struct cmd_env *env, char **names, size_t n, uint32_t *epoch, int raw)
{
	struct tao_node *member[TAO_PARENT_GROUP_MAX] = { NULL };
	uint8_t key[TAO_PARENT_GROUP_KEY];
	struct tao_parent *p = NULL;
	size_t n_members = 0;
	enum tao_err e = cmd_parent(env, &p);

	if (e == TAO_OK)
		e = tao_parent_name(p, &member[n_members++]);
	for (size_t i = 0; e == TAO_OK && i < n; i++) {
		e = member_of(names[i], &member[n_members]);
		if (e == TAO_OK && tao_node_equal(member[n_members], member[0]))
			tao_node_free(member[n_members]);
		else if (e == TAO_OK)
			n_members++;
	}
	if (e == TAO_OK)
		e = tao_parent_group_key(p, member, n_members, epoch, key);
	if (e == TAO_OK)
		e = print(env, *epoch, key, raw);
	OPENSSL_cleanse(key, sizeof key);
	for (size_t i = 0; i < n_members; i++)
		tao_node_free(member[i]);
	tao_parent_close(p);
	return e;
}

int cmd_group_key(struct cmd_env *env, int argc, char **argv)
{
	int64_t given = 0;
	uint32_t epoch;
	int c, raw = 0;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_RAW)
			raw = 1;
		else if (!cmd_number(env, "--epoch", optarg, 1, UINT32_MAX, &given))
			return env->status;
	}
	if (argc - optind < 1 || argc - optind > TAO_PARENT_GROUP_MAX - 1)
		return cmd_usage(env, "give 1 to %d other members", TAO_PARENT_GROUP_MAX - 1);
	epoch = (uint32_t)given;
	return group_key(env, argv + optind, (size_t)(argc - optind), &epoch, raw) == TAO_OK
	       ? 0 : cmd_failed(env);
}
