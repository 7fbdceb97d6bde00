#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tools/packages.sh SECTION...           print the packages of packages.txt's sections that are missing
# tools/packages.sh install SECTION...   install them; without root say how, and exit 69 (EX_UNAVAILABLE)
set -eu

list=$(dirname "$0")/../packages.txt

install=no
if [ "${1-}" = install ]; then
	install=yes
	shift
fi
if [ $# -eq 0 ]; then
	echo "usage: tools/packages.sh [install] SECTION..." >&2
	exit 64
fi

packages_of() {
	awk -v section="[$1]" '
		{ sub(/#.*/, ""); gsub(/[ \t]/, "") }
		$0 == "" { next }
		/^\[/ { inside = ($0 == section); found = found || inside; next }
		inside { print }
		END { exit found ? 0 : 1 }' "$list" || {
		echo "packages.txt has no section [$1]" >&2
		exit 64
	}
}

wanted=
for section; do
	names=$(packages_of "$section")
	wanted="$wanted $names"
done

missing=
for package in $wanted; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done

if [ -z "$missing" ]; then
	exit 0
fi
if [ $install = no ]; then
	printf '%s\n' $missing
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "Packages are missing. Please run, then try again:" >&2
	echo "    sudo apt-get install --no-install-recommends$missing" >&2
	exit 69
fi

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# Old package lists may still do, so a failed update is no reason to stop.
apt-get -q -o DPkg::Lock::Timeout=600 update || echo "apt-get update failed; trying all the same" >&2
apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends $missing || exit 69
