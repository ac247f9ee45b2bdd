#include "policy.h"

#include <stdlib.h>
#include <unistd.h>

#define SERVES_MAX 64 /* DNS names at once, as domain/domain.h */

enum { OPT_SERVES = 1, OPT_USER, OPT_ANY_USER, OPT_REMOVE };

static const struct option options[] = {
	{ "serves", required_argument, NULL, OPT_SERVES },
	{ "user", required_argument, NULL, OPT_USER },
	{ "any-user", no_argument, NULL, OPT_ANY_USER },
	{ "remove", no_argument, NULL, OPT_REMOVE },
	{ NULL, 0, NULL, 0 },
};

int cmd_trust(struct cmd_env *env, int argc, char **argv)
{
	Tao__TrustRequest rq = TAO__TRUST_REQUEST__INIT;
	char *serves[SERVES_MAX];
	int c, fd, status;
	uid_t uid;

	rq.serves = serves;
	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_REMOVE) {
			rq.has_remove = rq.remove = 1;
		} else if (c == OPT_ANY_USER) {
			rq.has_any_user = rq.any_user = 1;
		} else if (c == OPT_USER) {
			if (cmd_user_find(optarg, &uid) != TAO_OK)
				return cmd_failed(env);
			rq.has_uid = 1;
			rq.uid = uid;
		}
		else if (rq.n_serves < SERVES_MAX)
			serves[rq.n_serves++] = optarg;
		else
			return cmd_usage(env, "at most %d DNS names at once", SERVES_MAX);
	}
	if (argc - optind != 1)
		return cmd_usage(env, "give one program");
	if (cmd_program(argv[optind], &rq.path, &fd) != TAO_OK)
		return cmd_failed(env);
	status = policy_ask(env, "Host.Trust", &rq.base, fd, 0);
	close(fd);
	free(rq.path);
	return status;
}
