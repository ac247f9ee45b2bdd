#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_USER = 1, OPT_CLIENT_USER, OPT_SERVER_USER, OPT_ANY_USER, OPT_REMOVE, OPT_UNDO };

#define PRINCIPAL "key(" /* what a principal begins with, and no program's path */

static const struct option connect_options[] = {
	{ "user", required_argument, NULL, OPT_USER },
	{ "client-user", required_argument, NULL, OPT_CLIENT_USER },
	{ "server-user", required_argument, NULL, OPT_SERVER_USER },
	{ "any-user", no_argument, NULL, OPT_ANY_USER },
	{ "remove", no_argument, NULL, OPT_REMOVE },
	{ NULL, 0, NULL, 0 },
};

static const struct option revoke_options[] = {
	{ "undo", no_argument, NULL, OPT_UNDO },
	{ NULL, 0, NULL, 0 },
};

static int is_principal(const char *text)
{
	return strncmp(text, PRINCIPAL, strlen(PRINCIPAL)) == 0;
}

/* The host measures it, and says of which domain it is. */
static enum tao_err measure(struct cmd_env *env, const char *program, Tao__MeasureResponse **out)
{
	Tao__MeasureRequest rq = TAO__MEASURE_REQUEST__INIT;
	int fd = -1;
	enum tao_err e = cmd_program(program, &rq.path, &fd);

	if (e == TAO_OK)
		e = cmd_ask(env, "Host.Measure", &rq.base, fd, &tao__measure_response__descriptor,
		            (ProtobufCMessage **)out);
	if (fd >= 0)
		close(fd);
	free(rq.path);
	return e;
}

static int ask_fact(struct cmd_env *env, struct tao_buf *fact, int remove)
{
	Tao__FactRequest rq = TAO__FACT_REQUEST__INIT;

	if (tao_buf_err(fact) != TAO_OK)
		return cmd_failed(env);
	rq.fact = (char *)tao_buf_cstr(fact);
	return policy_ask(env, remove ? "Host.RemoveFact" : "Host.AddFact", &rq.base, -1, 0);
}

/* ---- connect ---- */

/* A principal as it is; a program as key([domain]).Measured([hash], _, user). */
static enum tao_err put_peer(struct cmd_env *env, const char *who, const char *user,
                             struct tao_buf *fact)
{
	Tao__MeasureResponse *m = NULL;
	enum tao_err e;

	if (is_principal(who)) {
		tao_buf_str(fact, who);
		return tao_buf_err(fact);
	}
	e = measure(env, who, &m);
	if (e != TAO_OK)
		return e;
	tao_buf_str(fact, PRINCIPAL "[");
	tao_buf_hex(fact, m->domain.data, m->domain.len);
	tao_buf_str(fact, "]).Measured([");
	tao_buf_hex(fact, m->program_hash.data, m->program_hash.len);
	tao_buf_fmt(fact, "], _, %s)", user);
	tao__measure_response__free_unpacked(m, NULL);
	return tao_buf_err(fact);
}

#define UID_TEXT 16

struct users {
	char client[UID_TEXT], server[UID_TEXT];
	int remove;
};

static enum tao_err set_user(int option, const char *user, struct users *u)
{
	uid_t uid;
	enum tao_err e = cmd_user_find(user, &uid);

	if (e == TAO_OK && option != OPT_SERVER_USER)
		snprintf(u->client, UID_TEXT, "%lu", (unsigned long)uid);
	if (e == TAO_OK && option != OPT_CLIENT_USER)
		snprintf(u->server, UID_TEXT, "%lu", (unsigned long)uid);
	return e;
}

static int connect_them(struct cmd_env *env, const char *client, const char *server,
                        const struct users *u)
{
	struct tao_buf fact = TAO_BUF_INIT;
	enum tao_err e;
	int status;

	tao_buf_str(&fact, "Connect(");
	e = put_peer(env, client, u->client, &fact);
	tao_buf_str(&fact, ", ");
	if (e == TAO_OK)
		e = put_peer(env, server, u->server, &fact);
	tao_buf_str(&fact, ")");
	status = e == TAO_OK ? ask_fact(env, &fact, u->remove) : cmd_failed(env);
	tao_buf_free(&fact);
	return status;
}

int cmd_peers_connect(struct cmd_env *env, int argc, char **argv)
{
	struct users u = { "", "", 0 };
	int c;

	snprintf(u.client, UID_TEXT, "%lu", (unsigned long)getuid());
	snprintf(u.server, UID_TEXT, "%lu", (unsigned long)getuid());
	while ((c = cmd_option(env, argc, argv, connect_options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_REMOVE)
			u.remove = 1;
		else if (c == OPT_ANY_USER)
			u = (struct users){ "_", "_", u.remove };
		else if (set_user(c, optarg, &u) != TAO_OK)
			return cmd_failed(env);
	}
	if (argc - optind != 2)
		return cmd_usage(env, "give a client and a server");
	return connect_them(env, argv[optind], argv[optind + 1], &u);
}

/* ---- revoke ---- */

/* A principal, a hash, or a program's hash. */
static enum tao_err put_revoked(struct cmd_env *env, const char *what, struct tao_buf *fact)
{
	uint8_t hash[TAO_HASH_LEN] = { 0 };
	Tao__MeasureResponse *m = NULL;
	enum tao_err e = TAO_OK;

	if (is_principal(what)) {
		tao_buf_str(fact, what);
		return tao_buf_err(fact);
	}
	if (tao_unhex(what, strlen(what), hash, sizeof hash) != TAO_OK) {
		e = measure(env, what, &m);
		if (e == TAO_OK)
			memcpy(hash, m->program_hash.data,
			       m->program_hash.len < sizeof hash ? m->program_hash.len : sizeof hash);
		tao__measure_response__free_unpacked(m, NULL);
	}
	if (e == TAO_OK) {
		tao_buf_str(fact, "[");
		tao_buf_hex(fact, hash, sizeof hash);
		tao_buf_str(fact, "]");
	}
	return e == TAO_OK ? tao_buf_err(fact) : e;
}

int cmd_revoke(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf fact = TAO_BUF_INIT;
	int c, undo = 0, status;

	while ((c = cmd_option(env, argc, argv, revoke_options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		undo = 1;
	}
	if (argc - optind != 1)
		return cmd_usage(env, "give a program, a hash or a principal");
	tao_buf_str(&fact, "Revoked(");
	status = put_revoked(env, argv[optind], &fact) != TAO_OK ? cmd_failed(env) : 0;
	tao_buf_str(&fact, ")");
	if (status == 0)
		status = ask_fact(env, &fact, undo);
	tao_buf_free(&fact);
	return status;
}
