#!/bin/sh
# Builds and tests this working copy on Debian 13 (gcc 14, OpenSSL 3.5), in a
# chroot that debootstrap makes; or on Debian unstable with the OpenSSL 4 of
# experimental. Needs root, for debootstrap and for mounts,
# which are in a mount namespace of their own: they end with it, however it ends.
set -u

cache=${TAO_DEBIAN13:-/var/cache/tao-debian13}

usage() {
	cat <<'USAGE'
usage: test/debian13.sh [--openssl4] [--all] [--asan] [--exec COMMAND | RECIPE...]

  --openssl4      not Debian 13, but unstable with experimental's OpenSSL 4,
                  where most applications have still OpenSSL 3
  --all           also the tests that take long, and those of heavy packages
  --asan          a build with sanitizers
  --exec COMMAND  builds nothing: runs that shell command in the source directory
  RECIPE          a part of a recipe's name under test/recipes; all if none is given

$TAO_DEBIAN13 is where the chroots are kept [/var/cache/tao-debian13]; nothing
else deletes it. $TAO_DEBIAN_MIRROR is where packages come from [the mirror
that this machine's apt uses for Debian, or deb.debian.org]; apt's settings for
proxies and logins are copied. $TAO_VECTORS is handed on. Exits with 77, and
says why, where this cannot work.
USAGE
}

die() { echo "debian13.sh: $*" >&2; exit 1; }
skip() { echo "skipped: $*"; exit 77; }

release=trixie all='' asan='' command=''
while [ $# -gt 0 ]; do
	case $1 in
	--openssl4) release=sid ;;
	--all) all=1 ;;
	--asan) asan=1 ;;
	--exec) [ $# -ge 2 ] || { usage >&2; exit 2; }; command=$2; shift ;;
	-h|--help) usage; exit 0 ;;
	-*) echo "debian13.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
	*) break ;;
	esac
	shift
done

src=$(cd "$(dirname "$0")/.." && pwd) || exit 1
root=$cache/$release

# ---- in a mount namespace of its own ----

if [ "${TAO_DEBIAN13_INSIDE:-}" != "$$" ]; then
	[ "$(id -u)" -eq 0 ] || skip 'only root can make a chroot'
	command -v debootstrap >/dev/null || skip 'debootstrap is not installed'
	unshare --mount true 2>/dev/null || skip 'mounting is not allowed here'
	mkdir -p "$cache" || exit 1
	exec 8>"$cache/lock"
	flock -n 8 || { echo "waiting for another debian13.sh that uses $cache"; flock 8; }
	[ $release = trixie ] || set -- --openssl4 "$@"
	set -- ${all:+--all} ${asan:+--asan} ${command:+--exec "$command"} "$@"
	# unshare and sh replace each other: the process stays the same one.
	TAO_DEBIAN13_INSIDE=$$ exec unshare --mount --propagation private sh "$src/test/debian13.sh" "$@"
fi
unset TAO_DEBIAN13_INSIDE

# ---- the chroot ----

# The Debian mirror in apt's own words; nothing if its lists are not there.
mirror_of_apt() {
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' 2>/dev/null |
		sed -n 's,/*$,,; /security/d; /^https\{0,1\}:/p' | head -n 1
}

apt_setting() { apt-config shell v "$1" 2>/dev/null | sed "s/^v='\(.*\)'\$/\1/"; }

# How apt reaches its mirrors, as this machine's apt does.
copy_apt_settings() {
	apt-config dump Acquire 2>/dev/null | grep -v '^Acquire::IndexTargets' |
		grep '::.* "..*";$' >"$root/etc/apt/apt.conf.d/90caller"
	for f in auth.conf auth.conf.d; do
		[ ! -e "/etc/apt/$f" ] || cp -a "/etc/apt/$f" "$root/etc/apt/"
	done
	for f in resolv.conf hosts; do
		[ ! -e "/etc/$f" ] || cat "/etc/$f" >"$root/etc/$f"
	done
}

# A mirror's copy of experimental may be a little old.
take_openssl4() {
	echo "deb [check-valid-until=no] $1 experimental main" >>"$2/sources.list"
	printf '%s\n' 'Package: src:openssl' 'Pin: release a=experimental' 'Pin-Priority: 900' >"$2/preferences.d/openssl4"
}

bootstrap() {
	mirror=${TAO_DEBIAN_MIRROR:-$(mirror_of_apt)}
	mirror=${mirror:-http://deb.debian.org/debian}
	proxy=$(apt_setting Acquire::http::Proxy)
	case $proxy in ''|DIRECT) ;; *) http_proxy=$proxy; export http_proxy ;; esac
	echo "== Making a chroot of Debian $release in $root"
	rm -rf --one-file-system "$root.new"
	debootstrap --variant=minbase "$release" "$root.new" "$mirror" >"$cache/debootstrap.log" 2>&1 || {
		tail -n 20 "$cache/debootstrap.log" >&2
		die "debootstrap failed: its log is $cache/debootstrap.log; another mirror is chosen with TAO_DEBIAN_MIRROR"
	}
	echo "deb $mirror $release main" >"$root.new/etc/apt/sources.list"
	[ $release = trixie ] || take_openssl4 "$mirror" "$root.new/etc/apt"
	mv "$root.new" "$root"
}

[ -x "$root/usr/bin/dpkg" ] || bootstrap
copy_apt_settings

# ---- what is in it: /proc, /dev, this working copy ----

# A root directory that is no mount point allows no mount namespaces inside.
mount --bind "$root" "$root" && mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" && mount -t tmpfs tmpfs "$root/tmp" ||
	skip 'mounting is not allowed here'
vectors=${TAO_VECTORS:+/usr/src/vectors}
if [ -n "$vectors" ]; then
	mkdir -p "$root$vectors" && mount --bind "$TAO_VECTORS" "$root$vectors" || exit 1
fi

# A file that differs from the one before is newer than what was built of that, whatever its time says: this
# may be an older state.
keep_times() {
	# shellcheck disable=SC2016
	(cd "$root/usr/src/tao.new" && find . -type f -exec sh -c 'for f; do
		if cmp -s "$f" "../tao/$f"; then touch -r "../tao/$f" "$f"; else touch "$f"; fi
	done' sh {} +)
}

copy_source() {
	rm -rf "$root/usr/src/tao.new" && mkdir -p "$root/usr/src/tao.new" || return 1
	if git -C "$src" rev-parse >/dev/null 2>&1; then
		(cd "$src" && git ls-files -z -co --exclude-standard | tar -c --null --ignore-failed-read -T - 2>/dev/null)
	else
		tar -c -C "$src" --exclude='./build*' --exclude=./Makefile .
	fi | tar -x --no-same-owner -C "$root/usr/src/tao.new" || return 1
	keep_times && rm -rf "$root/usr/src/tao" && mv "$root/usr/src/tao.new" "$root/usr/src/tao"
}
copy_source || die "the working copy could not be copied to $root/usr/src/tao"

# ---- inside ----

inside() {
	chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
		${all:+TAO_TEST_ALL=1} ${vectors:+"TAO_VECTORS=$vectors"} \
		${TAO_TEST_JOBS:+"TAO_TEST_JOBS=$TAO_TEST_JOBS"} \
		tree="/usr/src/build${asan:+-asan}" groups="quickstart tests${all:+ applications}" \
		/bin/bash -c "cd /usr/src/tao && $1" debian13 "$@" </dev/null 8>&-
}

# The processes that run there.
those_inside() {
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/root")" != "$root" ] || grep -q '^State:.*Z' "$p/status" 2>/dev/null || echo "${p#/proc/}"
	done
}

# What does not end by itself in five seconds is named and ended; 1 if there was any.
end_leftovers() {
	for _ in 1 2 3 4 5; do
		pids=$(those_inside)
		[ -n "$pids" ] || return 0
		sleep 1
	done
	for p in $pids; do
		echo "left behind: process $p: $(tr '\0' ' ' <"/proc/$p/cmdline")"
		kill -KILL "$p"
	done 2>/dev/null
	return 1
}

if [ -n "$command" ]; then
	inside "$command"
	exit
fi
inside '. test/lib/packages.sh && tao_install_packages packages $groups' || die 'the packages could not be installed'
inside 'mkdir -p $tree && cd $tree && /usr/src/tao/Configure '"${asan:+--enable-asan}"' && make -s -j"$(nproc)" tests' ||
	die 'it does not build'
shift_first='shift; exec perl test/run.pl "$tree" "$@"'
status=0
inside "$shift_first" "$@" || status=$?
end_leftovers || status=1
exit $status
