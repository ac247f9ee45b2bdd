#include "cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tao.pb-c.h"

enum { OPT_HOST = 1, OPT_HAS };

static const struct option options[] = {
	{ "host", required_argument, NULL, OPT_HOST },
	{ "has", required_argument, NULL, OPT_HAS },
	{ NULL, 0, NULL, 0 },
};

struct request {
	const char *host, *has, *dir;  /* as given, or NULL */
	uint8_t key[TAO_HASH_LEN];
	int has_key, from_host;        /* from_host: the running host said so */
	struct audit_mark mark;
	int has_mark;
};

/* The hash in key([HASH]), with which the principal begins. */
static enum tao_err parse_host(const char *text, uint8_t key[TAO_HASH_LEN])
{
	size_t n = strlen("key(["), hex = (size_t)2 * TAO_HASH_LEN;

	if (strncmp(text, "key([", n) == 0 && strlen(text) >= n + hex + 2 &&
	    strncmp(text + n + hex, "])", 2) == 0 &&
	    tao_unhex(text + n, hex, key, TAO_HASH_LEN) == TAO_OK)
		return TAO_OK;
	return tao_fail(TAO_EINVAL, "'%s' is no host's principal: it begins with key([HASH])",
	                text);
}

static enum tao_err parse_mark(const char *text, struct audit_mark *m)
{
	char *end;
	unsigned long long seq = strtoull(text, &end, 10);

	if (text[0] >= '1' && text[0] <= '9' && *end == ':' &&
	    tao_unhex(end + 1, strlen(end + 1), m->hash, sizeof m->hash) == TAO_OK) {
		m->seq = seq;
		return TAO_OK;
	}
	return tao_fail(TAO_EINVAL, "'%s' is not RECORD:HASH, as 'tao log verify' prints a head",
	                text);
}

/* What the running host says of its key and of its last record, if one answers. */
static void ask_host(struct cmd_env *env, struct request *q)
{
	Tao__StatusResponse *s = NULL;
	Tao__LogRequest rq = TAO__LOG_REQUEST__INIT;
	Tao__LogResponse *l = NULL;

	if (!q->has_key && cmd_ask(env, "Host.Status", NULL, -1, &tao__status_response__descriptor,
	                           (ProtobufCMessage **)&s) == TAO_OK) {
		q->has_key = q->from_host = strcmp(s->root, "soft") == 0 &&
		                            parse_host(s->principal, q->key) == TAO_OK;
		tao__status_response__free_unpacked(s, NULL);
	}
	rq.has_from = 1;
	rq.from = UINT64_MAX;
	if (!q->has_mark && cmd_ask(env, "Host.Log", &rq.base, -1, &tao__log_response__descriptor,
	                            (ProtobufCMessage **)&l) == TAO_OK) {
		q->has_mark = l->has_head && l->head > 0 && l->has_head_hash &&
		              l->head_hash.len == TAO_HASH_LEN;
		if (q->has_mark) {
			q->mark.seq = l->head;
			memcpy(q->mark.hash, l->head_hash.data, TAO_HASH_LEN);
		}
		tao__log_response__free_unpacked(l, NULL);
	}
}

/* ---- the verdict ---- */

static void hex(const uint8_t *p, char out[2 * TAO_HASH_LEN + 1])
{
	for (size_t i = 0; i < TAO_HASH_LEN; i++)
		sprintf(out + 2 * i, "%02x", p[i]);
}

static void text(const char *dir, const struct request *q, const struct audit_verdict *v)
{
	char key[2 * TAO_HASH_LEN + 1], head[2 * TAO_HASH_LEN + 1];

	hex(v->key, key);
	hex(v->head.hash, head);
	cmd_field("log", dir);
	cmd_fieldf("records", "%llu to %llu, in %llu file%s, as they were written",
	           (unsigned long long)v->first, (unsigned long long)v->last,
	           (unsigned long long)v->files, v->files == 1 ? "" : "s");
	if (v->checkpoints > 0)
		cmd_fieldf("signed", "to record %llu, %llu time%s, by key([%s])",
		           (unsigned long long)v->signed_to, (unsigned long long)v->checkpoints,
		           v->checkpoints == 1 ? "" : "s", key);
	cmd_fieldf("host", q->from_host ? "the running one"
	                   : q->has_key ? "as you said"
	                                : "not checked: compare that key with the host's, or give --host");
	cmd_fieldf("head", "%llu:%s", (unsigned long long)v->head.seq, head);
	if (v->first > 1)
		cmd_fieldf("note", "it begins with record %llu: the files before were moved away",
		           (unsigned long long)v->first);
	if (v->checkpoints == 0)
		cmd_field("note", "no checkpoint: nothing is signed");
	else if (v->signed_to < v->last)
		cmd_fieldf("note", "no checkpoint behind record %llu: the host runs, or was killed",
		           (unsigned long long)v->signed_to);
	else if (!v->ended)
		cmd_fieldf("note", "it does not end with the host's stop: the host runs, or was "
		           "killed");
	if (v->rest > 0)
		cmd_fieldf("note", "it ends with half a record, %zu bytes: the host runs, or was "
		           "killed", v->rest);
}

static int json(const struct cmd_env *env, enum tao_err e, const struct audit_verdict *v)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_bool(&j, "good", e == TAO_OK);
	if (e == TAO_EALTERED) {
		tao_json_int(&j, "bad_record", (int64_t)v->bad);
		tao_json_str(&j, "why", tao_why());
	}
	tao_json_int(&j, "first", (int64_t)v->first);
	tao_json_int(&j, "last", (int64_t)v->last);
	tao_json_int(&j, "signed", (int64_t)v->signed_to);
	tao_json_int(&j, "checkpoints", (int64_t)v->checkpoints);
	tao_json_int(&j, "files", (int64_t)v->files);
	tao_json_bool(&j, "stopped", v->ended);
	tao_json_hex(&j, "key", v->key, sizeof v->key);
	tao_json_hex(&j, "head", v->head.hash, sizeof v->head.hash);
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b) != 0 || e != TAO_OK;
}

static int verify(struct cmd_env *env, const char *dir, const struct request *q)
{
	struct audit_verdict v;
	enum tao_err e = audit_verify(dir, q->has_key ? q->key : NULL,
	                              q->has_mark ? &q->mark : NULL, &v);

	if (e == TAO_OK && v.last == 0)
		e = tao_fail(TAO_ENOTFOUND, "%s holds no records", dir);
	if (env->json && (e == TAO_OK || e == TAO_EALTERED))
		return json(env, e, &v);
	if (e != TAO_OK)
		return cmd_failed(env);
	text(dir, q, &v);
	return 0;
}

static int find_and_verify(struct cmd_env *env, struct request *q)
{
	struct host_conf conf;
	char *dir;
	int status;

	if (q->dir != NULL)
		return verify(env, q->dir, q);
	if (cmd_conf(env, &conf) != TAO_OK) {
		host_conf_clear(&conf);
		return cmd_failed(env);
	}
	ask_host(env, q);
	dir = host_path(&conf, "audit");
	status = verify(env, dir != NULL ? dir : "", q);
	free(dir);
	host_conf_clear(&conf);
	return status;
}

int cmd_log_verify(struct cmd_env *env, int argc, char **argv)
{
	struct request q = { 0 };
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		*(c == OPT_HOST ? &q.host : &q.has) = optarg;
	}
	if (optind < argc)
		q.dir = argv[optind++];
	if (optind < argc)
		return cmd_usage(env, "'%s' is too much", argv[optind]);
	if ((q.host != NULL && parse_host(q.host, q.key) != TAO_OK) ||
	    (q.has != NULL && parse_mark(q.has, &q.mark) != TAO_OK))
		return cmd_usage(env, "%s", tao_why());
	q.has_key = q.host != NULL;
	q.has_mark = q.has != NULL;
	return find_and_verify(env, &q);
}
