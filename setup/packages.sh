#!/usr/bin/env bash
# packages.sh SET | packages.sh COMMAND=PACKAGE...: make sure that the programs we call are on this machine.
#
# SET is `demo` or `test`. What is there already is left as it is, wherever it came from. What is missing is installed
# from the machine's own archive by apt, as root or by a sudo that asks for no password; without those rights each
# missing program is named, with the one command that brings them all.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A command, or a file (a pattern) where the package has no command of its own, and the Debian package that brings it.
demo=(
    '/usr/lib*/python3.*/ensurepip/__init__.py=python3-venv'
    /etc/ssl/certs/ca-certificates.crt=ca-certificates curl=curl
    unsquashfs=squashfs-tools squashfuse_ll=squashfuse fusermount3=fuse3 # Apptainer: read and mount a SIF
    fuse2fs=fuse2fs fuse-overlayfs=fuse-overlayfs newuidmap=uidmap       # Apptainer: overlays and user namespaces
    /usr/share/lmod/lmod/init/bash=lmod                                  # `module` and `ml`
    docker-registry=docker-registry skopeo=skopeo                        # the local OCI registry, and a look into it
    aria2c=aria2                                                         # downloads from all mirrors at once
    buildah=buildah mmdebstrap=mmdebstrap                                # the demo's images
)
# Newer buildahs do not start without their network plugin, although nothing here asks for a network of its own.
if [ "$(os_release ID)" = debian ] && [ "$(os_release VERSION_ID)" != 12 ]; then
    demo+=(/usr/lib/podman/netavark=netavark)
fi
tests=(
    "${demo[@]}" umoci=umoci htpasswd=apache2-utils # images without a build, a registry that asks for a password
    busybox=busybox-static bash-static=bash-static  # the small test image
    zsh=zsh luac=lua5.3 shellcheck=shellcheck       # other shells, a parser for modulefiles and one for scripts
    strace=strace faketime=faketime                 # kills a run at a chosen system call; a clock that is wrong
    memcached=memcached                             # where Swift keeps its tokens
    slurmctld=slurmctld slurmd=slurmd sbatch=slurm-client munged=munge # a batch system of one node
    tclsh8.6=tcl8.6                                                    # what Environment Modules are written in
    proot=proot runc=runc                           # what udocker runs containers with
    /usr/sbin/logrotate=logrotate                   # the log of runs is moved away under their hands
)
# Packages that bring a service along, of which the command is all that we want.
services=(docker-registry memcached munge slurmctld slurmd)

is_there() {
    case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# Packages must not start services: the demo and the tests start what they need themselves, on ports of their own.
# An administrator's own policy stays; ours lasts for one installation.
policy=/usr/sbin/policy-rc.d
forbid_services() {
    [ -e "$policy" ] && return
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    trap 'as_root rm -f "$policy"' EXIT
}

# Where systemd runs, a package asks for its service at every boot. Only what was installed just now is disabled.
disable_services() {
    local service
    [ -d /run/systemd/system ] || return 0
    for service in "${services[@]}"; do
        case " $* " in *" $service "*) ;; *) continue ;; esac
        as_root systemctl disable --quiet "$service.service" || say "could not disable $service.service"
    done
}

install() {
    local options=(-y -qq --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    local log
    log=$(mktemp)
    forbid_services
    # --no-remove: Lmod and Environment Modules exclude each other; never take away what somebody uses.
    if ! {
        as_root apt-get update -qq -o DPkg::Lock::Timeout=300 &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@"
    } </dev/null >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt could not install: $*" "read apt's own message above, then run: $(root_command apt-get install "$*")"
    fi
    rm -f "$log"
    disable_services "$@"
}

case ${1-} in
demo) needs=("${demo[@]}") ;;
test) needs=("${tests[@]}") ;;
*=*) needs=("$@") ;;
*)
    echo "usage: packages.sh demo | test | COMMAND=PACKAGE..." >&2
    exit 2
    ;;
esac

missing=() packages=()
for need in "${needs[@]}"; do
    is_there "${need%%=*}" && continue
    packages+=("${need##*=}")
    case $need in /*) missing+=("${need##*=}") ;; *) missing+=("${need%%=*}") ;; esac
done
if [ ${#missing[@]} -eq 0 ]; then
    say "system packages: all ${#needs[@]} programs are here"
    exit 0
fi

remedy=$(root_command apt-get install --no-install-recommends "${packages[*]}")
command -v apt-get >/dev/null ||
    fail "missing programs: ${missing[*]}" "this system has no apt: install them by its own means (Debian's names: ${packages[*]})"
may_be_root ||
    fail "missing programs: ${missing[*]}" "they need root, and sudo is missing or asks for a password; run: $remedy"
say "system packages: installing ${packages[*]}"
install "${packages[@]}"
for need in "${needs[@]}"; do
    is_there "${need%%=*}" || fail "${need%%=*} is still missing after installing ${need##*=}" "run: $remedy"
done
