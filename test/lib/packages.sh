# Shell functions, for sourcing: install what the file `packages` lists.
#
#   tao_install_packages FILE GROUP...
#
# says what is missing and installs just that, with apt-get and without
# recommended packages. Returns 1 if something is missing and it could not be
# installed; an ordinary user is then shown the one command that does it.
# Services of new packages are neither started nor left enabled. Does nothing
# where there is no dpkg: Configure names what it misses.
#
# What apt-get says is shown only if it fails.
# A policy-rc.d of the machine is put aside meanwhile and comes back as it was.

tao_policy=${tao_policy:-/usr/sbin/policy-rc.d}

# tao_list_packages FILE GROUP...: the names, one a line.
tao_list_packages() {
	tao_file=$1
	shift
	for tao_group in "$@"; do
		awk -v want="[$tao_group]" '
			/^[[:space:]]*(#|$)/ { next }
			/^\[/ { on = $1 == want; next }
			on { print $1 }' "$tao_file" || return 1
	done
}

tao_is_installed() {
	dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

tao_put_policy() {
	if [ -e "$tao_policy" ] && [ ! -e "$tao_policy.tao-saved" ]; then
		mv "$tao_policy" "$tao_policy.tao-saved" || return 1
	fi
	printf '#!/bin/sh\n# Written by tao_install_packages: no service starts meanwhile.\nexit 101\n' \
		>"$tao_policy" && chmod 755 "$tao_policy"
}

tao_restore_policy() {
	rm -f "$tao_policy"
	[ ! -e "$tao_policy.tao-saved" ] || mv "$tao_policy.tao-saved" "$tao_policy"
}

# The units that something wants, as lines "unit".
tao_enabled_units() {
	find /etc/systemd/system -path '*.wants/*' -type l -printf '%f\n' 2>/dev/null | sort -u
}

# tao_disable_new_units BEFORE: those enabled now that were not, but for the
# system's own (a first systemd may come as a dependency).
tao_disable_new_units() {
	for tao_unit in $(tao_enabled_units); do
		if printf '%s\n' "$1" | grep -qxF "$tao_unit"; then continue; fi
		case $(dpkg -S "*/systemd/system/$tao_unit" 2>/dev/null) in
		systemd*|dbus*) continue ;;
		esac
		echo "Disabling $tao_unit, which the installation had enabled."
		if command -v systemctl >/dev/null; then
			systemctl disable "$tao_unit"
		else
			deb-systemd-helper disable "$tao_unit"
		fi >/dev/null 2>&1
		tao_service=${tao_unit%.service}
		[ ! -x "/etc/init.d/$tao_service" ] || update-rc.d "$tao_service" disable >/dev/null 2>&1
	done
}

# In a subshell of its own: its trap puts the policy back however it ends.
tao_apt_get() (
	trap tao_restore_policy EXIT
	trap 'exit 130' HUP INT TERM
	export DEBIAN_FRONTEND=noninteractive
	tao_log=$(mktemp) && tao_put_policy || exit 1
	tao_before=$(tao_enabled_units)
	{
		apt-get -q -o DPkg::Lock::Timeout=120 update &&
			apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
				--no-install-recommends install "$@"
	} </dev/null >"$tao_log" 2>&1
	tao_status=$?
	[ $tao_status -eq 0 ] || cat "$tao_log" >&2
	rm -f "$tao_log"
	tao_disable_new_units "$tao_before"
	exit $tao_status
)

tao_install_packages() {
	if ! command -v dpkg-query >/dev/null; then
		echo 'This is not a Debian system: no packages are installed.'
		return 0
	fi
	tao_wanted=$(tao_list_packages "$@") || return 1
	tao_missing=
	for tao_name in $tao_wanted; do
		tao_is_installed "$tao_name" || tao_missing="$tao_missing $tao_name"
	done
	if [ -z "$tao_missing" ]; then
		echo 'All Debian packages that are needed are installed.'
		return 0
	fi
	if [ "$(id -u)" -ne 0 ]; then
		tao_sudo=
		command -v sudo >/dev/null && tao_sudo='sudo '
		{
			echo 'Debian packages are missing. Only root can install them; this does it:'
			echo "  ${tao_sudo}apt-get install --no-install-recommends$tao_missing"
		} >&2
		return 1
	fi
	echo "Installing these Debian packages:$tao_missing"
	# Word splitting is wanted here.
	if ! tao_apt_get $tao_missing; then
		echo "apt-get could not install:$tao_missing" >&2
		return 1
	fi
}
