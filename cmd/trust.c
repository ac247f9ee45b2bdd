#include "policy.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tao/key.h"

#define SERVES_MAX 64 /* DNS names at once, as domain/domain.h */

#define REPLACES_MAX 64 /* older executables, as host/upgrade.h */

enum { OPT_SERVES = 1, OPT_USER, OPT_ANY_USER, OPT_REMOVE, OPT_BOTH_FOR, OPT_REPLACES };

static const struct option options[] = {
	{ "serves", required_argument, NULL, OPT_SERVES },
	{ "user", required_argument, NULL, OPT_USER },
	{ "any-user", no_argument, NULL, OPT_ANY_USER },
	{ "remove", no_argument, NULL, OPT_REMOVE },
	{ "both-for", required_argument, NULL, OPT_BOTH_FOR },
	{ "replaces", required_argument, NULL, OPT_REPLACES },
	{ NULL, 0, NULL, 0 },
};

struct wanted {
	Tao__TrustRequest rq;
	char *serves[SERVES_MAX];
	uint8_t hash[REPLACES_MAX][TAO_HASH_LEN];
	ProtobufCBinaryData replaces[REPLACES_MAX];
};

static int take_hash(struct cmd_env *env, struct wanted *w)
{
	size_t n = w->rq.n_replaces;

	if (n == REPLACES_MAX)
		return env->status = cmd_usage(env, "at most %d older executables",
		                               REPLACES_MAX), 0;
	if (tao_unhex(optarg, strlen(optarg), w->hash[n], TAO_HASH_LEN) != TAO_OK)
		return env->status = cmd_usage(env, "--replaces takes the SHA-256 of an "
		                               "executable, as 'tao key show' prints it, not '%s'",
		                               optarg), 0;
	w->replaces[n].data = w->hash[n];
	w->replaces[n].len = TAO_HASH_LEN;
	w->rq.n_replaces++;
	return 1;
}

/* Returns 1, or 0 with env->status. */
static int take(struct cmd_env *env, int c, struct wanted *w)
{
	switch (c) {
	case OPT_REMOVE:
		w->rq.has_remove = w->rq.remove = 1;
		return 1;
	case OPT_ANY_USER:
		w->rq.has_any_user = w->rq.any_user = 1;
		return 1;
	case OPT_USER:
		w->rq.has_uid = 1;
		return cmd_user_find(optarg, &w->rq.uid) == TAO_OK
		       ? 1 : (env->status = cmd_failed(env), 0);
	case OPT_BOTH_FOR:
		w->rq.has_both_for = 1;
		return cmd_seconds(optarg, &w->rq.both_for) ? 1
		       : (env->status = cmd_usage(env, "--both-for is a number of seconds, "
		                                  "minutes, hours or days (90s, 5m, 12h, 30d), not "
		                                  "'%s'", optarg), 0);
	case OPT_REPLACES:
		return take_hash(env, w);
	default:
		if (w->rq.n_serves == SERVES_MAX)
			return env->status = cmd_usage(env, "at most %d DNS names at once",
			                               SERVES_MAX), 0;
		w->serves[w->rq.n_serves++] = optarg;
		return 1;
	}
}

int cmd_trust(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { .rq = TAO__TRUST_REQUEST__INIT };
	int c, fd, status;

	w.rq.serves = w.serves;
	w.rq.replaces = w.replaces;
	while ((c = cmd_option(env, argc, argv, options)) != CMD_END)
		if (c == CMD_STOP || !take(env, c, &w))
			return env->status;
	if (argc - optind != 1)
		return cmd_usage(env, "give one program");
	if (w.rq.has_remove && (w.rq.has_both_for || w.rq.n_replaces > 0))
		return cmd_usage(env, "--remove takes back, and goes with neither --both-for nor "
		                 "--replaces");
	if (cmd_program(argv[optind], &w.rq.path, &fd) != TAO_OK)
		return cmd_failed(env);
	status = policy_ask(env, "Host.Trust", &w.rq.base, fd, 0);
	close(fd);
	free(w.rq.path);
	return status;
}
