#!/usr/bin/env bash
# archive.sh settings | sources | mirror | download SUITE DIR PACKAGE...: the Debian archive that this machine's own apt
# uses.
#
# settings   how apt reaches its archive (proxies, retries, validity checks), as lines of an apt configuration
# sources    Debian 12's sources as one-line entries, from the servers that this machine's sources name
# mirror     the address of the archive, for any suite
# download   fetch packages of any suite into DIR. A private apt root is used: the machine's sources, lists and
#            packages stay as they are. apt checks the archive's signature and the packages' checksums.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Only how to reach an archive is taken over, never whether to trust it, and no hooks.
settings() {
    apt-config dump | grep -E '^Acquire::(https?|ftp|Retries|Check-|ForceIPv|Queue-)' || true
}

# apt itself reads the sources, in whatever form they are written: "suite address" of each main component.
main_sources() {
    # shellcheck disable=SC2016  # $(...) is apt's syntax here
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Identifier: Packages' |
        awk '$2 == "main" && !seen[$1 $3]++ { print $1, $3 }'
}

need_keyring() {
    [ -e "$keyring" ] || fail "$keyring is missing" "run: $(root_command apt-get install debian-archive-keyring)"
}

# A newer Debian's servers have Debian 12 under the same addresses. Elsewhere mmdebstrap's own default is used.
sources() {
    local suite address codename
    need_keyring
    [ "$(os_release ID)" = debian ] || return 0
    codename=$(os_release VERSION_CODENAME)
    while read -r suite address; do
        case $suite in
        "$codename" | "$codename-updates" | "$codename-security")
            echo "deb [signed-by=$keyring] $address ${suite/$codename/bookworm} main"
            ;;
        esac
    done < <(main_sources)
}

mirror() {
    local found
    found=$(main_sources | awk '/^(bookworm|trixie|stable|oldstable|testing|sid|unstable) / { print $2; exit }')
    [ -n "$found" ] || fail "the apt sources name no Debian archive" "add one to /etc/apt/sources.list.d, then run apt-get update"
    echo "$found"
}

download() {
    local suite=$1 dir=$2 mirror
    shift 2
    mirror=$(mirror)
    need_keyring
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/{etc/apt.conf.d,etc/preferences.d,state/lists/partial,cache/archives/partial} "$dir"
    : >"$work/state/status"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/etc/sources.list"
    {
        settings
        cat <<CONF
Dir::Etc "$work/etc";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
CONF
    } >"$work/apt.conf"
    export APT_CONFIG=$work/apt.conf
    apt-get -qq update
    (cd "$dir" && apt-get -qq download "$@")
}

case ${1-} in
settings) settings ;;
sources) sources ;;
mirror) mirror ;;
download) shift && download "$@" ;;
*)
    echo "usage: archive.sh settings | sources | mirror | download SUITE DIR PACKAGE..." >&2
    exit 2
    ;;
esac
