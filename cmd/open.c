#include "cmd.h"

enum tao_err cmd_open(struct cmd_env *env, struct tao_conn *c)
{
	struct host_conf conf;
	enum tao_err e = cmd_connect(env, &conf, c);

	host_conf_clear(&conf);
	return e;
}
