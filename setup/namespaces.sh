#!/usr/bin/env bash
# namespaces.sh [ranges]: make sure that the kernel lets this user have user namespaces; Apptainer runs in them.
#
# With `ranges` an ordinary user also needs subordinate ids, to build images without root. Both are an
# administrator's decisions: nothing is changed here, but the command is named.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# setting NAME VALUE: does the kernel have this setting, and with this value?
setting() { [ "$(cat "/proc/sys/${1//.//}" 2>/dev/null)" = "$2" ]; }

unshare --user --map-root-user true 2>/dev/null || {
    remedies=()
    for one in user.max_user_namespaces:0:15000 kernel.unprivileged_userns_clone:0:1 \
        kernel.apparmor_restrict_unprivileged_userns:1:0; do
        IFS=: read -r name bad good <<<"$one"
        if setting "$name" "$bad"; then remedies+=("run: $(root_command sysctl -w "$name=$good")"); fi
    done
    [ ${#remedies[@]} -gt 0 ] ||
        remedies=("inside a container, its runtime must allow them (Docker: --security-opt seccomp=unconfined, or --privileged)")
    fail "this kernel gives $(id -un) no user namespaces" "${remedies[@]}"
}

[ "${1-}" = ranges ] && ! is_root || exit 0

user=$(id -un)
# The first range that nobody has yet.
free=$(awk -F: '$2 + $3 > end { end = $2 + $3 } END { print (end > 100000 ? end : 100000) }' /etc/subuid /etc/subgid 2>/dev/null)
for kind in uid gid; do
    grep -qE "^($user|$(id -u)):[0-9]+:[0-9]{5,}" "/etc/sub$kind" 2>/dev/null && continue
    fail "$user has no range of subordinate ids (/etc/sub$kind), which building images without root takes" \
        "run: $(root_command usermod --add-subuids "$free-$((free + 65535))" --add-subgids "$free-$((free + 65535))" "$user")"
done
