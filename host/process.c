#include "process.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <linux/capability.h>
#include <unistd.h>

#include "config.h"
#include "host.h"

/* Keys stay out of core dumps and debuggers. */
void process_guard_memory(void)
{
	struct rlimit none = { 0, 0 };

	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &none);
}

void process_show_memory(void)
{
	prctl(PR_SET_DUMPABLE, 1);
}

/* And out of swap. A child inherits no lock, so this is for the process that serves. */
int process_lock_memory(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	/* root may, and whose unit says LimitMEMLOCK=infinity; a lesser limit would end in
	 * ENOMEM. */
	if (TAO_ASAN || setrlimit(RLIMIT_MEMLOCK, &all) != 0)
		return 0;
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
		return 1;
	host_log("warning", "memory is not locked: %s", strerror(errno));
	return 0;
}

/* The keeper needs no capability: it serves sockets and its own files. */
int process_drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2];

	memset(none, 0, sizeof none);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int cap = 0; cap <= 63; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) == 0)
		return 1;
	host_log("warning", "capabilities are not dropped: %s", strerror(errno));
	return 0;
}

void process_raise_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* Whether the measurer will see other users' processes. */
int process_may_trace(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct have[2];

	return syscall(SYS_capget, &head, have) == 0 &&
	       (have[0].effective & 1u << CAP_SYS_PTRACE) != 0;
}
