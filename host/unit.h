/*
 * The system unit of a process, from /proc/PID/cgroup (cgroups(7)): lines
 *
 *   hierarchy ID:controllers:path
 *
 * of which systemd's own counts: "name=systemd" with version 1, hierarchy 0
 * with version 2 (with both, the first). A system service is a path
 *
 *   /system.slice/NAME.service
 *   /system.slice/system-X.slice/.../NAME.service     slices below, as for templates
 *
 * and nothing else is: below user.slice a user decides, and what is deeper in a
 * service's group the service itself has moved there. Only root moves
 * processes into a system service. In a container without systemd there is no such path.
 */
#ifndef HOST_UNIT_H
#define HOST_UNIT_H

#include "../tao/buf.h"

#define UNIT_MAX 256              /* bytes of its path: FACT_MAX_UNIT of domain/fact.h */
#define UNIT_MAX_TEXT (64u << 10) /* bytes of /proc/PID/cgroup that are read */

/* The unit's path without the leading "/", or "" if it is none. Malformed text has no unit. */
void unit_parse(const void *text, size_t n, char unit[UNIT_MAX + 1]);
/* The last part: "NAME.service". */
const char *unit_name(const char *unit);

#endif
