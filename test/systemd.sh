#!/bin/sh
# Boots a systemd of its own on this machine's files, runs a command in it, and
# leaves nothing behind. See usage().
set -u

usage() {
	cat <<'USAGE'
usage: test/systemd.sh [--bind DIR]... COMMAND [ARGUMENT...]

The command runs in namespaces whose process 1 is this machine's systemd: with
process identifiers, mounts, host name, network (loopback) and control groups of
their own. The files are this machine's, in an overlay: whatever is written, or
removed, is so in memory only, and forgotten at the end. A DIR that is on
another file system is seen as well, read-only. Units that this machine's
administrator enabled are not; nor are those that manage devices and consoles.

Exits with the command's status, or with 77, and says why, where this cannot
work; with 1 if systemd does not come up.
USAGE
}

die() { echo "systemd.sh: $*" >&2; exit 1; }
skip() { echo "skipped: $*"; exit 77; }

init=/lib/systemd/systemd

# What is the machine's and not a container's. What else is not for containers,
# systemd leaves out by itself.
masked='systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket
	systemd-udev-trigger.service getty.target console-getty.service systemd-logind.service
	systemd-journald-audit.socket systemd-remount-fs.service systemd-sysctl.service
	systemd-modules-load.service systemd-random-seed.service systemd-pstore.service
	systemd-binfmt.service kmod-static-nodes.service systemd-repart.service
	systemd-networkd.service systemd-resolved.service systemd-timesyncd.service
	systemd-tmpfiles-clean.service systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev.service systemd-update-utmp.service
	proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount dev-hugepages.mount
	sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
	sys-fs-fuse-connections.mount tmp.mount ldconfig.service
	systemd-ask-password-wall.path systemd-ask-password-console.path'

# ---- inside, before systemd: the files ----

# see WHAT WHERE: of this machine, and so read-only.
see() { mount --bind "$1" "$2" && mount -o remount,bind,ro "$2"; }

make_devices() {
	mount -t tmpfs -o mode=755,nosuid tmpfs "$1" && mkdir "$1/pts" "$1/shm" "$1/mqueue" || return 1
	for d in null zero full random urandom tty; do
		: >"$1/$d" && see "/dev/$d" "$1/$d" || return 1
	done
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$1/pts" &&
		mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$1/shm" &&
		ln -s pts/ptmx "$1/ptmx" && ln -s /proc/self/fd "$1/fd" && ln -s fd/0 "$1/stdin" &&
		ln -s fd/1 "$1/stdout" && ln -s fd/2 "$1/stderr"
}

# Nothing here is writable but what is in memory.
make_root() {
	to=$1/root
	mount -t tmpfs -o mode=755 tmpfs "$1" && mkdir "$1/upper" "$1/work" "$to" &&
		mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$to" || return 1
	shift
	mount -t proc -o nosuid,nodev,noexec proc "$to/proc" &&
		see "$to/proc/sys" "$to/proc/sys" &&
		mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$to/sys" &&
		mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$to/sys/fs/cgroup" &&
		mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$to/run" && make_devices "$to/dev" || return 1
	for dir; do
		[ "$(stat -c %d "$dir")" != "$(stat -c %d /)" ] || continue
		mkdir -p "$to$dir" && see "$dir" "$to$dir" || return 1
	done
}

# The directories of services in /run are made; nothing is removed at this boot.
make_settings() {
	units=$1/etc/systemd/system
	mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$units" || return 1
	for unit in $masked; do ln -s /dev/null "$units/$unit" || return 1; done
	mkdir "$units/systemd-tmpfiles-setup.service.d" &&
		cat >"$units/systemd-tmpfiles-setup.service.d/create.conf" <<-'EOF' &&
			[Service]
			ExecStart=
			ExecStart=systemd-tmpfiles --create --boot --prefix=/run --prefix=/var
		EOF
		printf '[Journal]\nStorage=volatile\nForwardToSyslog=no\n' >"$1/etc/systemd/journald.conf" &&
		: >"$1/etc/fstab" && echo tao-test >"$1/etc/hostname" || return 1
	[ -s "$1/etc/machine-id" ] || tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"
}

if [ "${TAO_SYSTEMD_INSIDE:-}" != '' ]; then
	make_root "$TAO_SYSTEMD_INSIDE" "$@" && make_settings "$TAO_SYSTEMD_INSIDE/root" &&
		ip link set lo up && cd "$TAO_SYSTEMD_INSIDE/root" || exit 1
	# It takes the place of the root: in a mere chroot, units with namespaces of users do not
	# start, nor do units with credentials where mounts are private.
	mount --move . / && exec chroot . /bin/sh -c 'mount --make-rshared / && exec "$@"' sh \
		/usr/bin/env -i container=tao PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		"$init" --unit=multi-user.target --log-target=journal --show-status=no
	exit 1
fi

# ---- outside: may we, a control group, process 1, the command ----

bind=''
while :; do
	case ${1:-} in
	-h|--help) usage; exit 0 ;;
	--bind) [ -d "${2:-}" ] || { usage >&2; exit 2; }; bind="$bind $2"; shift 2 ;;
	''|-*) usage >&2; exit 2 ;;
	*) break ;;
	esac
done

[ "$(id -u)" -eq 0 ] || skip 'only root can boot a system'
[ -x "$init" ] && command -v systemctl >/dev/null || skip 'systemd is not installed'
for program in unshare nsenter ip; do
	command -v $program >/dev/null || skip "$program is not installed"
done
for dir in /usr /etc /var; do
	! mountpoint -q $dir || skip "$dir is a file system of its own"
done
if [ "${TAO_SYSTEMD_MOUNTS:-}" != "$$" ]; then
	unshare --mount --pid --net --uts --ipc --cgroup --fork true 2>/dev/null ||
		skip 'namespaces are not permitted here'
	for dir in $bind; do set -- --bind "$dir" "$@"; done
	TAO_SYSTEMD_MOUNTS=$$ exec unshare --mount --propagation private sh "$0" "$@"
fi
unset TAO_SYSTEMD_MOUNTS

at=$(mktemp -d /tmp/tao-systemd.XXXXXX) && mkdir "$at/groups" "$at/root" || exit 1
boot='' run='' group=''

# The end of process 1 is that of all that runs inside; then their groups are empty.
finish() {
	trap '' HUP INT TERM
	[ -z "$boot" ] || { kill -KILL "$boot"; wait "$boot"; } 2>/dev/null
	[ -z "$run" ] || { kill -KILL "$run"; wait "$run"; } 2>/dev/null
	tries=0
	while [ -n "$group" ] && [ -d "$group" ] && [ $tries -lt 50 ]; do
		find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
		tries=$((tries + 1))
		sleep 0.1
	done
	umount -l "$at/groups" 2>/dev/null
	rm -f "$at/log"
	rmdir "$at/groups" "$at/root" "$at"
}
trap finish EXIT
trap 'exit 143' HUP INT TERM

mount -t cgroup2 cgroup2 "$at/groups" 2>/dev/null || skip 'control groups (version 2) cannot be mounted here'
own=$at/groups$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir "$own/${at##*/}" 2>/dev/null || skip 'control groups cannot be made here'
group=$own/${at##*/}
mkdir "$group/command" && echo $$ >"$group/cgroup.procs" || skip 'control groups cannot be changed here'
TAO_SYSTEMD_INSIDE=$at/root unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child \
	--propagation private sh "$0" $bind </dev/null >"$at/log" 2>&1 8>&- 9>&- &
boot=$!
echo $$ >"$own/cgroup.procs"

# systemd moves itself to a group of its own, in which it is alone.
init_pid() { [ -e "$group/init.scope" ] && head -n 1 "$group/init.scope/cgroup.procs"; }

inside() {
	nsenter --target "$pid" --mount --pid --net --uts --ipc --cgroup --root --wd "$@"
}

tries=0
until pid=$(init_pid 2>/dev/null) && [ -n "$pid" ] && inside systemctl list-jobs >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries -gt 600 ] || ! kill -0 "$boot" 2>/dev/null; then
		cat "$at/log" >&2
		die 'systemd did not start'
	fi
	sleep 0.1
done
echo "$boot" >"$own/cgroup.procs"
inside systemctl is-system-running --wait >/dev/null || inside systemctl --no-pager --failed --full >&2
(
	sh -c 'echo $PPID' >"$group/command/cgroup.procs"
	inside "$@"
) &
run=$!
wait "$run"
status=$?
run=''
exit $status
