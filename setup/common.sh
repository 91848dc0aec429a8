# common.sh: what every set-up script shares. Sourced, never run: it only defines functions and variables.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly top

# Debian keeps some commands in sbin, which an ordinary user's PATH lacks. What the set-up itself made comes first.
PATH=$top/.venv/bin:$PATH:$top/.tools/apptainer/bin:/usr/local/sbin:/usr/sbin:/sbin
export PATH PIP_DISABLE_PIP_VERSION_CHECK=1
# One language for numbers and messages, files that others may read, and only our own Python packages.
export LC_ALL=C.UTF-8
unset PYTHONHOME PYTHONPATH
umask 022

say() { printf 'setup: %s\n' "$*"; }

# fail WHAT REMEDY...: one line for what is missing, one line for each thing to do about it.
fail() {
    printf 'setup: error: %s\n' "$1" >&2
    shift
    printf 'setup:   %s\n' "$@" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# May this user become root without being asked for a password?
may_be_root() { is_root || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

as_root() { if is_root; then "$@"; else sudo -n "$@"; fi; }

# How a person types a command that needs root; not every Debian has sudo.
root_command() {
    if is_root; then
        printf '%s' "$*"
    elif command -v sudo >/dev/null; then
        printf 'sudo %s' "$*"
    else
        printf "su -c '%s'" "$*"
    fi
}

# os_release KEY: one value of /etc/os-release, empty when there is none (ID, VERSION_CODENAME).
os_release() { sed -nE "s/^$1=\"?([^\"]*)\"?\$/\1/p" /etc/os-release 2>/dev/null || true; }

# Does this process have every capability that the kernel knows? Roots of containers often do not.
has_all_capabilities() {
    local held last
    held=$(sed -nE 's/^CapEff:\s*([0-9a-f]+)$/\1/p' /proc/self/status)
    last=$(cat /proc/sys/kernel/cap_last_cap)
    [ $((16#$held)) -eq $(((1 << (last + 1)) - 1)) ]
}
