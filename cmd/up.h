/* What the files of `tao up` share. */
#ifndef CMD_UP_H
#define CMD_UP_H

#include <limits.h>

#include "cmd.h"

/* taod beside this tao (a build tree), else where it is installed. */
enum tao_err cmd_find_taod(char path[PATH_MAX]);
/* Starts taod, which makes its host conf's, as a program of the parent host; returns the exit
 * status when it answers, or does not. In the foreground it returns only when it fails. */
int cmd_up_parent(const struct cmd_env *env, const struct host_conf *conf, int foreground);

#endif
