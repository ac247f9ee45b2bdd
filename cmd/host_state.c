/* tao host: what the host's owner looks after. */
#include "cmd.h"

#include <stdio.h>
#include <string.h>

#include "../host/counter.h"
#include "tao.pb-c.h"

enum { OPT_NEW = 1, OPT_RETIRE, OPT_REMOVE };

static const struct option epoch_options[] = {
	{ "new", no_argument, NULL, OPT_NEW },
	{ "retire", required_argument, NULL, OPT_RETIRE },
	{ NULL, 0, NULL, 0 },
};

static const struct option counters_options[] = {
	{ "new", no_argument, NULL, OPT_NEW },
	{ "remove", required_argument, NULL, OPT_REMOVE },
	{ NULL, 0, NULL, 0 },
};

static int no_operands(struct cmd_env *env, int argc, char **argv)
{
	if (optind == argc)
		return 1;
	env->status = cmd_usage(env, "'%s' is too much", argv[optind]);
	return 0;
}

/* ---- epochs ---- */

static int parse_epoch(struct cmd_env *env, int argc, char **argv, Tao__EpochRequest *rq)
{
	int64_t retire;
	int c;

	while ((c = cmd_option(env, argc, argv, epoch_options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (c == OPT_NEW) {
			rq->has_begin = rq->begin = 1;
		} else {
			if (!cmd_number(env, "--retire", optarg, 1, UINT32_MAX - 1, &retire))
				return 0;
			rq->has_retire = 1;
			rq->retire = (uint32_t)retire;
		}
	}
	return no_operands(env, argc, argv);
}

static int put_epochs(const struct cmd_env *env, const Tao__EpochResponse *rs)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	if (!env->json) {
		cmd_fieldf("epoch", "%u: what is sealed now", rs->epoch);
		cmd_fieldf("oldest", "%u: what was sealed before it does not open", rs->oldest);
		return 0;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_int(&j, "epoch", rs->epoch);
	tao_json_int(&j, "oldest", rs->oldest);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

int cmd_host_epoch(struct cmd_env *env, int argc, char **argv)
{
	Tao__EpochRequest rq = TAO__EPOCH_REQUEST__INIT;
	Tao__EpochResponse *rs = NULL;
	int status;

	if (!parse_epoch(env, argc, argv, &rq))
		return env->status;
	if (cmd_ask(env, "Host.Epoch", &rq.base, -1, &tao__epoch_response__descriptor,
	            (ProtobufCMessage **)&rs) != TAO_OK)
		return cmd_failed(env);
	status = put_epochs(env, rs);
	tao__epoch_response__free_unpacked(rs, NULL);
	return status;
}

/* ---- counters ---- */

static int parse_counters(struct cmd_env *env, int argc, char **argv, Tao__CountersRequest *rq,
                          uint8_t id[COUNTER_ID_LEN])
{
	int c;

	while ((c = cmd_option(env, argc, argv, counters_options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (c == OPT_NEW) {
			rq->has_renew = rq->renew = 1;
			continue;
		}
		if (tao_unhex(optarg, strlen(optarg), id, COUNTER_ID_LEN) != TAO_OK) {
			env->status = cmd_usage(env, "--remove takes an id of %d hex digits, as it "
			                        "is listed, not '%s'", 2 * COUNTER_ID_LEN, optarg);
			return 0;
		}
		rq->has_remove = 1;
		rq->remove.data = id;
		rq->remove.len = COUNTER_ID_LEN;
	}
	return no_operands(env, argc, argv);
}

static void table(const Tao__CountersResponse *rs)
{
	static const char *const titles[] = { "ID", "USER", "OWNER", "HASH", "COUNTER", "LABEL" };
	struct cmd_grid g = { .cols = sizeof titles / sizeof titles[0] };
	struct tao_buf hex = TAO_BUF_INIT;
	char user[CMD_USER_MAX];

	for (size_t i = 0; i < g.cols; i++)
		cmd_cell(&g, "%s", titles[i]);
	for (size_t i = 0; i < rs->n_counters; i++) {
		const Tao__CounterInfo *c = rs->counters[i];

		tao_buf_reset(&hex);
		tao_buf_hex(&hex, c->id.data, c->id.len);
		cmd_cell(&g, "%s", tao_buf_cstr(&hex));
		cmd_cell(&g, "%s", cmd_user_name(c->uid, user));
		cmd_cell(&g, "%s", c->exact ? "exact" : "program");
		tao_buf_reset(&hex);
		tao_buf_hex(&hex, c->hash.data, c->hash.len);
		cmd_cell(&g, "%s", tao_buf_cstr(&hex));
		cmd_cell(&g, "%lld", (long long)c->value);
		cmd_cell(&g, "%s", c->label);
	}
	cmd_grid_print(&g);
	tao_buf_free(&hex);
}

static int json(const struct cmd_env *env, const Tao__CountersResponse *rs)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '[');
	for (size_t i = 0; i < rs->n_counters; i++) {
		const Tao__CounterInfo *c = rs->counters[i];

		tao_json_begin(&j, NULL, '{');
		tao_json_hex(&j, "id", c->id.data, c->id.len);
		tao_json_int(&j, "uid", c->uid);
		tao_json_str(&j, "owner", c->exact ? "exact" : "program");
		tao_json_hex(&j, "hash", c->hash.data, c->hash.len);
		tao_json_str(&j, "label", c->label);
		tao_json_int(&j, "counter", c->value);
		tao_json_end(&j, '}');
	}
	tao_json_end(&j, ']');
	return cmd_put_json(env, &b);
}

int cmd_host_counters(struct cmd_env *env, int argc, char **argv)
{
	Tao__CountersRequest rq = TAO__COUNTERS_REQUEST__INIT;
	Tao__CountersResponse *rs = NULL;
	uint8_t id[COUNTER_ID_LEN];
	int status = 0;

	if (!parse_counters(env, argc, argv, &rq, id))
		return env->status;
	if (cmd_ask(env, "Host.Counters", &rq.base, -1, &tao__counters_response__descriptor,
	            (ProtobufCMessage **)&rs) != TAO_OK)
		return cmd_failed(env);
	if (env->json)
		status = json(env, rs);
	else
		table(rs);
	tao__counters_response__free_unpacked(rs, NULL);
	return status;
}
