# shellcheck shell=sh
# wrapper.sh of small_1.0_20260102: made by neurocommand. Every wrapper in bin/ sources it, and becomes its command in a container.
#
# The command runs in a clean environment, in the caller's directory, with the caller's TMPDIR and X authority where
# they exist. It gets the variables listed below, those that $NEUROCOMMAND_PASS names (NAME or PREFIX*, with blanks,
# commas or colons between), and what is set as APPTAINERENV_* or SINGULARITYENV_*. APPTAINER_BINDPATH,
# SINGULARITY_BINDPATH and $neurodesk_singularity_opts (split at blanks) mean what they always meant.
# NEUROCOMMAND_RUNTIME names another runtime; NEUROCOMMAND_GPU is off, auto or on; NEUROCOMMAND_WARM is 0, 1, or names
# the applications (with : between) whose calls are to be warm. A machine's own settings stand in
# /etc/neurocommand/wrapper.conf, or the file that NEUROCOMMAND_WRAPPER_CONF names, as lines `gpu auto`, `warm yes`,
# `warm-idle 600`, `pass NAME...`, `bind SOURCE [DESTINATION [ro]]`, `runtime PATH`.
# All names here begin with nc_, since a caller may export any other.
nc_gpu=off nc_warm=no nc_idle=600 nc_conf_runtime=
nc_pass=''
nc_binds=''
nc_image=$nc_release/small_1.0_20260102.simg
nc_newline='
'
nc_blanks=" 	$nc_newline"
IFS=$nc_blanks
unset CDPATH
set -f

fail() { # CODE MESSAGE
    printf '%s: %s\n' "$nc_command" "$2" >&2
    exit "$1"
}

# Inside a container no other can be started; inside its own, a wrapper runs the command itself.
nc_inside=${APPTAINER_CONTAINER:-${SINGULARITY_CONTAINER-}}
if [ -n "$nc_inside" ] && [ -d /.singularity.d ]; then
    [ "${nc_inside##*/}" = small_1.0_20260102.simg ] ||
        fail 126 "called inside the container ${nc_inside##*/}; it needs one of its own: call it on the host"
    IFS=:
    for nc_place in $PATH; do
        nc_place=${nc_place:-.}/$nc_command
        if [ -x "$nc_place" ] && [ ! -d "$nc_place" ] && ! [ "$nc_place" -ef "$nc_self" ]; then
            unset IFS
            exec "$nc_place" "$@"
        fi
    done
    fail 127 'not on the PATH of its own container'
fi
[ -x "$nc_image/" ] || fail 126 "$nc_image: the image is missing or cannot be read; install small_1.0_20260102 again"

nc_conf=${NEUROCOMMAND_WRAPPER_CONF:-/etc/neurocommand/wrapper.conf}
if [ -r "$nc_conf" ]; then
    while read -r nc_name nc_value || [ -n "$nc_name" ]; do
        case $nc_name in
        '' | '#'*) ;;
        gpu) nc_gpu=$nc_value ;;
        warm) nc_warm=$nc_value ;;
        warm-idle) nc_idle=$nc_value ;;
        pass) nc_pass="$nc_pass $nc_value" ;;
        bind) nc_binds=$nc_binds$nc_value$nc_newline ;;
        runtime) nc_conf_runtime=$nc_value ;;
        *) printf '%s: %s: no such setting: %s\n' "$nc_command" "$nc_conf" "$nc_name" >&2 ;;
        esac
    done <"$nc_conf"
fi

nc_runtime=${NEUROCOMMAND_RUNTIME:-$nc_conf_runtime}
if [ -n "$nc_runtime" ]; then
    command -v "$nc_runtime" >/dev/null || fail 127 "NEUROCOMMAND_RUNTIME: there is no command $nc_runtime"
elif command -v apptainer >/dev/null; then
    nc_runtime=apptainer
elif command -v singularity >/dev/null; then
    nc_runtime=singularity
elif command -v udocker >/dev/null; then
    nc_runtime=udocker
else
    fail 127 'neither apptainer nor singularity is on PATH; install Apptainer, or load its module'
fi
nc_odd=
case $nc_runtime in /*) ;; */*) nc_odd=1 ;; esac
case ${nc_runtime##*/} in apptainer*) nc_prefix=APPTAINER ;; *) nc_prefix=SINGULARITY ;; esac

# Who calls. Root without all capabilities cannot start a container as root; in a user namespace it can.
nc_uid=
if [ -r /proc/self/status ]; then
    while read -r nc_name nc_value nc_effective _; do
        case $nc_name in
        Uid:)
            nc_uid=$nc_effective
            [ "$nc_uid" = 0 ] || break
            ;;
        CapEff:)
            nc_value=${nc_value#"${nc_value%%[!0]*}"}
            case $nc_value in [137f]*) nc_value=${nc_value#?} ;; *) nc_value=- ;; esac
            case $nc_uid${APPTAINER_USERNS-}${SINGULARITY_USERNS-}/$nc_value in
            0/*[!f]*) export "${nc_prefix}_USERNS=1" ;;
            esac
            break
            ;;
        esac
    done </proc/self/status
fi

# Which variables of the caller's the command gets (nc_passed), and which the runtime obeys: those are part of nc_key,
# that tells which calls can share a container. nc_names are all. With nc_odd no container is shared.
nc_asked="$nc_pass ${NEUROCOMMAND_PASS-}"
while :; do
    case $nc_asked in
    *[,:]*) nc_asked="${nc_asked%%[,:]*} ${nc_asked#*[,:]}" ;;
    *) break ;;
    esac
done
is_asked() { # NAME
    IFS=$nc_blanks
    for nc_value in $nc_asked; do
        # shellcheck disable=SC2254
        case $1 in $nc_value) return 0 ;; esac
    done
    return 1
}
nc_names='' nc_passed='' nc_key=$nc_runtime$nc_newline$nc_image$nc_newline${HOME-}
nc_value=$(export -p)
IFS=$nc_newline
for nc_name in $nc_value; do
    case $nc_name in
    'export '*) nc_name=${nc_name#export } ;;
    'declare -x '*) nc_name=${nc_name#declare -x } ;;
    *) continue ;;
    esac
    nc_name=${nc_name%%=*}
    case $nc_name in
    '' | [0-9]* | *[!A-Za-z0-9_]*) continue ;;
    DISPLAY | WAYLAND_DISPLAY | LANG | LANGUAGE | LC_* | TZ | TERM | OMP_* | MKL_* | SLURM_* | PMI_* | PMIX_* | \
        OPENBLAS_NUM_THREADS | ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS | \
        CUDA_VISIBLE_DEVICES | NVIDIA_VISIBLE_DEVICES | ROCR_VISIBLE_DEVICES | HIP_VISIBLE_DEVICES)
        # what looks like a name may be a line of another one's value
        eval "[ -z \"\${$nc_name+x}\" ] || nc_passed=\${nc_passed}$nc_name\$nc_newline"
        ;;
    APPTAINERENV_* | SINGULARITYENV_*) eval "nc_key=\$nc_key\$nc_newline\$nc_name=\$$nc_name" ;;
    APPTAINER_* | SINGULARITY_*)
        eval "nc_key=\$nc_key\$nc_newline\$nc_name=\$$nc_name"
        case ${nc_name#*_} in
        BIND | BINDPATH | NO_EVAL | USERNS | CACHEDIR | TMPDIR | CONFIGDIR | HOME | NV | ROCM) ;;
        *) nc_odd=1 ;;
        esac
        ;;
    TMPDIR | XAUTHORITY | XDG_RUNTIME_DIR | HOME | PATH | PWD | IFS) ;;
    nc_*) nc_odd=1 ;;
    *)
        if [ -n "$nc_asked" ] && is_asked "$nc_name" && eval "[ -n \"\${$nc_name+x}\" ]"; then
            nc_passed=$nc_passed$nc_name$nc_newline
            case $nc_name in LD_* | GLIBC_TUNABLES) nc_odd=1 ;; esac
        fi
        IFS=$nc_newline
        ;;
    esac
    nc_names=$nc_names$nc_name$nc_newline
done
IFS=$nc_blanks

# The runtime's options go before the image, nc_count words; the command's arguments stay as they are.
set -- "$nc_image" "$nc_command" "$@"
nc_count=0
bind() { # SOURCE [DESTINATION [ro]]: sets nc_flag and nc_place; --mount takes any path, but only since Apptainer 1.0
    nc_to=${2:-$1}
    case $1$nc_to in
    *[\"\\,:]*)
        csv "$1" && nc_place=type=bind,\"source=$nc_csv\"
        csv "$nc_to" && nc_place=$nc_place,\"destination=$nc_csv\"${3:+,$3}
        nc_flag=--mount
        ;;
    *) nc_flag=--bind nc_place=$1:$nc_to${3:+:$3} ;;
    esac
    nc_key=$nc_key$nc_newline$nc_place
    is_bound "$1" "$nc_to"
    [ -z "${3-}" ] || nc_sealed=$nc_sealed$nc_to$nc_newline
}
is_bound() { # SOURCE DESTINATION: remembers it; of a pair a line each, in nc_bound
    case $1$2 in *"$nc_newline"*) nc_odd=1 ;; esac
    nc_bound=$nc_bound$1$nc_newline$2$nc_newline
    [ "$1" != "$2" ] || nc_shown=$nc_shown$1$nc_newline
}
are_bound() { # SOURCE[:DESTINATION[:OPTIONS]],...: as the runtime reads it
    IFS=,
    for nc_value in $1; do
        case $nc_value in
        '') ;;
        [!/]* | *\\*) nc_odd=1 ;;
        *)
            nc_to=${nc_value#*:}
            is_bound "${nc_value%%:*}" "${nc_to%%:*}"
            ;;
        esac
    done
    IFS=$nc_blanks
}
csv() { # TEXT: sets nc_csv, every " doubled
    nc_csv='' nc_value=$1
    while :; do
        case $nc_value in
        *\"*) nc_csv=$nc_csv${nc_value%%\"*}\"\" nc_value=${nc_value#*\"} ;;
        *) break ;;
        esac
    done
    nc_csv=$nc_csv$nc_value
}
# Directories that the container shows anyway, with all below them; the home directory is that of the user database.
nc_bound='' nc_sealed='' nc_shown=/tmp$nc_newline/var/tmp$nc_newline
is_shown() { # PATH
    IFS=$nc_newline
    for nc_value in $nc_shown; do
        case $1/ in
        "${nc_value%/}"/*)
            IFS=$nc_blanks
            return 0
            ;;
        esac
    done
    IFS=$nc_blanks
    return 1
}
for nc_line in "${APPTAINER_BINDPATH-}" "${SINGULARITY_BINDPATH-}" "${APPTAINER_BIND-}" "${SINGULARITY_BIND-}"; do
    are_bound "$nc_line"
done

bind_if_there() { # SOURCE [DESTINATION [ro]]
    [ -e "${1-}" ] && bind "$@"
}
IFS=$nc_newline
for nc_line in $nc_binds; do
    IFS=$nc_blanks
    # shellcheck disable=SC2086  # its words are the arguments
    if bind_if_there $nc_line; then
        set -- "$nc_flag" "$nc_place" "$@"
        nc_count=$((nc_count + 2))
    fi
done
IFS=$nc_blanks
case ${XAUTHORITY-} in
/*) if [ -r "$XAUTHORITY" ] && bind "$XAUTHORITY" "$XAUTHORITY" ro; then
    nc_passed=${nc_passed}XAUTHORITY$nc_newline
    set -- "$nc_flag" "$nc_place" "$@"
    nc_count=$((nc_count + 2))
fi ;;
esac
case ${WAYLAND_DISPLAY-}/${XDG_RUNTIME_DIR-} in
[!/]*//*) if [ -S "$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY" ] && bind "$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY"; then
    nc_passed=${nc_passed}XDG_RUNTIME_DIR$nc_newline
    set -- "$nc_flag" "$nc_place" "$@"
    nc_count=$((nc_count + 2))
fi ;;
esac
case ${TMPDIR-} in
/tmp | /var/tmp) nc_passed=${nc_passed}TMPDIR$nc_newline ;;
/*) if nc_value=$(cd -P -- "$TMPDIR" 2>/dev/null && printf '%s.' "$PWD"); then
    TMPDIR=${nc_value%.}
    nc_passed=${nc_passed}TMPDIR$nc_newline
    if ! is_shown "$TMPDIR"; then
        bind "$TMPDIR"
        set -- "$nc_flag" "$nc_place" "$@"
        nc_count=$((nc_count + 2))
    fi
fi ;;
esac

if [ "${nc_runtime##*/}" = udocker ]; then
    shift "$((nc_count + 2))"
    IFS=$nc_newline passed=$nc_passed tmpdir=
    for nc_name in $nc_names; do
        case $nc_name in
        APPTAINERENV_?* | SINGULARITYENV_?*)
            eval "export ${nc_name#*_}=\"\$$nc_name\""
            passed=$passed${nc_name#*_}$nc_newline
            ;;
        esac
    done
    IFS=$nc_blanks
    case $nc_newline$passed in *"$nc_newline"TMPDIR"$nc_newline"*) tmpdir=$TMPDIR ;; esac
    # shellcheck disable=SC2034  # read by what follows
    release=$nc_release id=small_1.0_20260102 command=$nc_command
    . "$nc_release/udocker.sh"
fi

# Graphics processors: --nv and --rocm bring the host's libraries along, and these must work with the image's libc.
gpu_fits() { # sets nc_value to why not
    nc_glibc=31 nc_value='no glibc of the image is known'
    [ -n "$nc_glibc" ] || return 1
    nc_flag=$(getconf GNU_LIBC_VERSION 2>/dev/null) || return 0
    [ "${nc_flag#glibc 2.}" -gt "$nc_glibc" ] 2>/dev/null || return 0
    # The host's is newer. What its graphics libraries really need is written in them.
    nc_place=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
        sed -n 's/^[[:blank:]]*lib\(cuda\|nvidia\|nvcuvid\|nvoptix\|EGL\|GL\|OpenCL\|hsa\|amd\|drm\)[^ ]* .*=> //p')
    IFS=$nc_newline
    # shellcheck disable=SC2086  # one path a line
    nc_to=$(grep -aoh 'GLIBC_2\.[0-9]*' $nc_place /dev/null 2>/dev/null | sort -t. -k2n | tail -n 1)
    IFS=$nc_blanks
    nc_value="the host's graphics libraries need glibc 2.${nc_to#GLIBC_2.}, the image has 2.$nc_glibc"
    [ "${nc_to#GLIBC_2.}" -le "$nc_glibc" ] 2>/dev/null
}
nc_gpu=${NEUROCOMMAND_GPU-$nc_gpu}
case $nc_gpu in
auto | on | 1 | yes)
    nc_flag=
    if [ -e /dev/nvidiactl ]; then nc_flag=--nv; elif [ -e /dev/kfd ]; then nc_flag=--rocm; fi
    nc_line=$nc_flag
    if [ -n "$nc_line" ] && [ "$nc_gpu" = auto ] && ! gpu_fits; then
        nc_line=
        # on a terminal only: a script's output must not depend on the machine
        [ ! -t 2 ] || printf '%s: without the GPU: %s; NEUROCOMMAND_GPU=on insists, off is silent\n' "$nc_command" "$nc_value" >&2
    fi
    case $nc_gpu in auto) ;; *) nc_line=${nc_line:---nv} ;; esac
    if [ -n "$nc_line" ]; then
        set -- "$nc_line" "$@"
        nc_count=$((nc_count + 1)) nc_key=$nc_key$nc_newline$nc_line
    fi
    ;;
'' | off | 0 | no) ;;
*) fail 126 "GPU setting $nc_gpu: use off, auto or on" ;;
esac

# shellcheck disable=SC2086  # several options in one variable
if [ -n "${neurodesk_singularity_opts-}" ]; then
    nc_key=$nc_key$nc_newline$neurodesk_singularity_opts
    nc_to=$#
    set -- $neurodesk_singularity_opts "$@"
    nc_count=$((nc_count + $# - nc_to))
    for nc_line in $neurodesk_singularity_opts; do
        case $nc_line in
        --nv | --rocm | --cleanenv | -e) ;;
        --bind=*) are_bound "${nc_line#--bind=}" ;;
        *) nc_odd=1 ;;
        esac
    done
fi

# The working directory: the container shows it, too, whatever its name, but for a few it takes for the system's own.
nc_cwd=
if cd -P . 2>/dev/null; then
    nc_cwd=$PWD
    case $PWD in /mnt)
        set -- --bind /mnt "$@"
        nc_count=$((nc_count + 2)) nc_key="$nc_key$nc_newline/mnt" nc_shown=$nc_shown/mnt$nc_newline
        ;;
    esac
fi

case ${NEUROCOMMAND_WARM-} in
'') ;;
*) case :$NEUROCOMMAND_WARM: in
    *:1:* | *:yes:* | *:on:* | *:small:*) nc_warm=yes ;;
    *:0:* | *:no:* | *:off:*) nc_warm=no ;;
    esac ;;
esac
case $nc_warm$nc_odd in
yes | 1 | on | true) if [ -n "$nc_cwd" ] && [ -r "$nc_release/warm.sh" ]; then . "$nc_release/warm.sh"; fi ;;
esac

# Values go through the runtime's environment: --env would split them at commas. NO_EVAL: they are no shell code.
IFS=$nc_newline
for nc_name in $nc_passed; do
    eval "[ -n \"\${APPTAINERENV_$nc_name+x}\${SINGULARITYENV_$nc_name+x}\" ] || export \"${nc_prefix}ENV_$nc_name=\$$nc_name\""
done
IFS=$nc_blanks
export "${nc_prefix}_NO_EVAL=1"
if [ -n "$nc_cwd" ]; then set -- --pwd "$nc_cwd" "$@"; fi

# What a container cannot be started without, and what to do about it: only where the runtime is surely not set-uid.
is_plain() {
    nc_value=$(command -v "$nc_runtime") && nc_value=$(readlink -f -- "$nc_value") && nc_value=${nc_value%/*}/..
    set +f
    nc_to=1
    for nc_place in "$nc_value"/libexec/*/bin/starter "$nc_value"/lib/*/bin/starter "$nc_value"/lib/*/*/bin/starter; do
        [ ! -x "$nc_place" ] || nc_to=0
        if [ -u "$nc_place-suid" ]; then
            nc_to=1
            break
        fi
    done
    set -f
    return "$nc_to"
}
is_positive() { # FILE: read byte by byte, as dash does, such a file gives its first digit only
    nc_value=
    read -r nc_value <"$1" || :
    [ "$nc_value" != 0 ]
}
for nc_line in /proc/sys/user/max_user_namespaces /proc/sys/kernel/unprivileged_userns_clone; do
    if [ -r "$nc_line" ] && ! is_positive "$nc_line" && [ "$nc_uid" != 0 ] && is_plain; then
        case $nc_line in *namespaces) nc_value=user.max_user_namespaces=15000 ;; *) nc_value=kernel.unprivileged_userns_clone=1 ;; esac
        fail 126 "user namespaces are switched off here: ask for \`sysctl $nc_value\`, or for the set-uid package of the runtime"
    fi
done

exec "$nc_runtime" --silent exec --cleanenv "$@"
