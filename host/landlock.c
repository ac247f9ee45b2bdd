#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config.h"
#include "../tao/err.h"

#ifndef SYS_landlock_create_ruleset /* the same on every architecture */
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

/* linux/landlock.h, whose older versions lack the later ABIs. */
#define CREATE_RULESET_VERSION 1
#define RULE_PATH_BENEATH 1
#define EXECUTE (1ull << 0)
#define WRITE_FILE (1ull << 1)
#define READ_FILE (1ull << 2)
#define READ_DIR (1ull << 3)
#define REMOVE_DIR (1ull << 4)
#define REMOVE_FILE (1ull << 5)
#define MAKE_DIR (1ull << 7)
#define MAKE_REG (1ull << 8)
#define MAKE_SOCK (1ull << 9)
#define REFER (1ull << 13)
#define TRUNCATE (1ull << 14)
#define ALL_OF_ABI_1 ((1ull << 13) - 1)
#define IOCTL_DEV (1ull << 15)
#define NET_BIND_TCP (1ull << 0)
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_UNIX (1ull << 0)

struct ruleset {
	uint64_t fs, net, scoped; /* what is refused unless a rule allows it */
};

struct beneath {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

/* What each ABI added. */
static const struct {
	int abi;
	struct ruleset adds;
} abis[] = {
	{ 1, { ALL_OF_ABI_1, 0, 0 } },
	{ 2, { REFER, 0, 0 } },
	{ 3, { TRUNCATE, 0, 0 } },
	{ 4, { 0, NET_BIND_TCP | NET_CONNECT_TCP, 0 } },
	{ 5, { IOCTL_DEV, 0, 0 } },
	{ 6, { 0, 0, SCOPE_ABSTRACT_UNIX } },
};

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

#define OF_FILES (READ_FILE | WRITE_FILE | TRUNCATE)
#define OF_STATE (OF_FILES | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | \
                  MAKE_SOCK | REFER)

static int known_abi(int kernel, struct ruleset *all)
{
	int abi = 0;

	memset(all, 0, sizeof *all);
	for (size_t i = 0; i < sizeof abis / sizeof abis[0] && abis[i].abi <= kernel; i++) {
		abi = abis[i].abi;
		all->fs |= abis[i].adds.fs;
		all->net |= abis[i].adds.net;
		all->scoped |= abis[i].adds.scoped;
	}
	return abi;
}

static int allow(int ruleset, const struct ruleset *all, const char *path, uint64_t rights)
{
	struct beneath rule = { rights & all->fs, open(path, O_PATH | O_CLOEXEC) };
	int good = rule.fd >= 0 &&
	           syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0;

	if (!good)
		tao_fail_sys("files are not restricted: Landlock on %s", path);
	if (rule.fd >= 0)
		close(rule.fd);
	return good;
}

/* Rights add up: below the state directory it has them all already. */
static void socket_dir(const char *socket, char dir[PATH_MAX])
{
	const char *slash = strrchr(socket, '/');

	snprintf(dir, PATH_MAX, "%.*s", slash > socket ? (int)(slash - socket) : 1, socket);
}

static int restrict_to(const struct ruleset *all, const char *dir, const char *socket)
{
	char run[PATH_MAX];
	int fd = (int)syscall(SYS_landlock_create_ruleset, all, sizeof *all, 0), good;

	if (fd < 0) {
		tao_fail_sys("files are not restricted: Landlock");
		return 0;
	}
	socket_dir(socket, run);
	good = allow(fd, all, dir, OF_STATE) && allow(fd, all, run, MAKE_SOCK | REMOVE_FILE) &&
	       allow(fd, all, "/dev/null", READ_FILE | WRITE_FILE) &&
	       allow(fd, all, BOOT_ID, READ_FILE);
	if (good && syscall(SYS_landlock_restrict_self, fd, 0) != 0) {
		tao_fail_sys("files are not restricted: Landlock");
		good = 0;
	}
	close(fd);
	return good;
}

int landlock_keeper(const char *dir, const char *socket)
{
	struct ruleset all;
	long kernel = TAO_ASAN ? 0 : syscall(SYS_landlock_create_ruleset, NULL, 0,
	                                     CREATE_RULESET_VERSION);
	int abi = known_abi((int)kernel, &all);

	if (TAO_ASAN)
		tao_fail(TAO_ESYS, "files are not restricted: this is a build with sanitizers");
	else if (abi == 0)
		tao_fail(TAO_ESYS, "files are not restricted: this kernel has no Landlock (Linux "
		                   "5.13, and landlock among the lsm= of its command line)");
	return abi > 0 && restrict_to(&all, dir, socket) ? abi : 0;
}
