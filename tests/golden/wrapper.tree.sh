#!/bin/sh
# @tool.x of small_1.0_20260102: made by neurocommand. It finds its image through its own path, so the directory may be moved.
#
# The command runs in a clean environment, in the caller's directory. It gets TMPDIR, XAUTHORITY, the variables listed
# below, and what is set as APPTAINERENV_* or SINGULARITYENV_*. $NEUROCOMMAND_RUNTIME names another runtime, and
# $neurodesk_singularity_opts holds more options for it, split at blanks. APPTAINER_BINDPATH and SINGULARITY_BINDPATH work.
fail() {
    printf '%s: %s\n' '@tool.x' "$2" >&2
    exit "$1"
}

self=$0
case $self in */*) ;; *) self=./$self ;; esac
while [ -h "$self" ]; do
    link=$(readlink -- "$self") || fail 126 "$self: this link cannot be read"
    case $link in /*) self=$link ;; *) self=${self%/*}/$link ;; esac
done
image=${self%/*}/../small_1.0_20260102.simg
[ -x "$image/" ] || fail 126 "$image: the image is missing or cannot be read; install small_1.0_20260102 again"

runtime=${NEUROCOMMAND_RUNTIME-}
if [ -n "$runtime" ]; then
    command -v "$runtime" >/dev/null || fail 127 "NEUROCOMMAND_RUNTIME: there is no command $runtime"
elif command -v apptainer >/dev/null; then
    runtime=apptainer
elif command -v singularity >/dev/null; then
    runtime=singularity
else
    fail 127 'neither apptainer nor singularity is on PATH; install Apptainer, or load its module'
fi
case ${runtime##*/} in apptainer*) prefix=APPTAINER ;; *) prefix=SINGULARITY ;; esac

# Values go through the runtime's environment: --env would split them at commas. NO_EVAL: they are no shell code.
export "${prefix}_NO_EVAL=1"
pass() { # NAME VALUE: unless the caller decided otherwise
    eval "[ -n \"\${APPTAINERENV_$1+x}\${SINGULARITYENV_$1+x}\" ]" || export "${prefix}ENV_$1=$2"
}
for name in DISPLAY WAYLAND_DISPLAY LANG LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_MONETARY LC_NUMERIC LC_TIME TZ TERM \
    OMP_NUM_THREADS OMP_PLACES OMP_PROC_BIND MKL_NUM_THREADS OPENBLAS_NUM_THREADS ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS \
    CUDA_VISIBLE_DEVICES; do
    eval "[ -z \"\${$name+x}\" ] || pass $name \"\$$name\""
done

# The runtime's options go before the image; the command's arguments stay as they are.
set -- "$image" '@tool.x' "$@"
bind() { # PATH [ro]: sets flag and place; --mount takes , and : in a path, but only since Apptainer 1.0
    case $1 in
    *[\"\\]* | *'
'*) return 1 ;;
    *[,:]*) flag=--mount place="type=bind,\"source=$1\",\"destination=$1\"${2:+,$2}" ;;
    *) flag=--bind place=$1:$1${2:+:$2} ;;
    esac
}
case ${XAUTHORITY-} in
/*) if [ -r "$XAUTHORITY" ] && bind "$XAUTHORITY" ro; then
    pass XAUTHORITY "$XAUTHORITY"
    set -- "$flag" "$place" "$@"
fi ;;
esac
case ${TMPDIR-} in
/*) if there=$(cd -P -- "$TMPDIR" 2>/dev/null && printf '%s' "$PWD"); then
    # The runtime itself shows /tmp, /var/tmp and the home directory to the command.
    case $there/ in
    /tmp/* | /var/tmp/* | "${HOME:-/tmp}"/*) pass TMPDIR "$there" ;;
    *) if bind "$there"; then
        pass TMPDIR "$there"
        set -- "$flag" "$place" "$@"
    fi ;;
    esac
fi ;;
esac
# It shows the working directory, too, whatever its name, but for a few it takes for the system's own.
if cd -P . 2>/dev/null; then
    case $PWD in /mnt) set -- --bind /mnt "$@" ;; esac
    set -- --pwd "$PWD" "$@"
fi

# Root without all capabilities cannot start a container as root; in a user namespace it can.
if [ -z "${APPTAINER_USERNS-}${SINGULARITY_USERNS-}" ] && [ -r /proc/self/status ]; then
    while read -r key value effective _; do
        case $key in
        Uid:) [ "$effective" = 0 ] || break ;;
        CapEff:)
            value=${value#"${value%%[!0]*}"}
            case $value in [137f]*) value=${value#?} ;; *) value=- ;; esac
            case $value in *[!f]*) export "${prefix}_USERNS=1" ;; esac
            break
            ;;
        esac
    done </proc/self/status
fi

set -f
# shellcheck disable=SC2086  # several options in one variable
exec "$runtime" --silent exec --cleanenv ${neurodesk_singularity_opts-} "$@"
