#!/usr/bin/env bash
# tcl-modules.sh: make sure that Environment Modules are in .tools/tcl-modules; the tests load modules with them.
#
# Theirs and Lmod's packages exclude each other, so Debian 12's package is only unpacked, which takes no root. It stays
# as it came: its files name each other where the package would have put them, and who uses it (tests/modulesystems.py)
# makes a copy of it that is right for its own place.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=$top/.tools/tcl-modules
wanted=5 # the first with `ml`

is_there() { [ -e "$folder/.installed" ] && [ -e "$folder/usr/share/modules/init/bash" ]; }

if is_there; then
    say "Environment Modules: $(cat "$folder/.installed") in .tools/tcl-modules"
    exit 0
fi
command -v dpkg-deb >/dev/null ||
    fail "dpkg-deb is missing, which unpacks Environment Modules" "install Debian's dpkg, then run this again"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "Environment Modules: unpacking their package into .tools/tcl-modules (apt checks signature and checksums)"
if [ "$(os_release ID)" = debian ]; then
    "$top/setup/archive.sh" download bookworm "$work" environment-modules
else
    (cd "$work" && apt-get -qq download environment-modules)
fi || fail "apt could not download environment-modules" "read its message above; with an empty list of packages run: $(root_command apt-get update)"
version=$(dpkg-deb -f "$work"/environment-modules_*.deb Version)
printf '%s\n%s\n' "$wanted" "$version" | sort -V -C ||
    fail "Environment Modules $wanted or newer are needed, and this machine's archive has $version" "take a newer system"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
dpkg-deb -x "$work"/environment-modules_*.deb "$folder"
echo "$version" >"$folder/.installed"
is_there || fail "Environment Modules were unpacked, but have no usr/share/modules/init/bash" "look into $folder"
