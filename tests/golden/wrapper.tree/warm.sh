# shellcheck shell=sh
# warm.sh of small_1.0_20260102: made by neurocommand. wrapper.sh sources it where calls are to be warm: this call enters the
# container that an earlier one of this session has left running with the same options; where there is none, one is
# started beside this call (holder.sh), which goes on as a cold one.
#
# A holder belongs to one user, one session (or task of a Slurm job), one release and one set of options. In its
# directory <place>/<release>-<process>-<time>.<n>/ stand `state`, to be sourced, and `used`, to which each call adds a
# line. The place may be in /tmp, where others can put things in the way: so what is read and written is judged once it
# is open, never by its name, and by what the holder's own process has open.
born() { # PROCESS: sets nc_born to the time at which a living process began; fails where it is dead, or nobody can tell
    nc_born=
    case $1 in '' | 0 | *[!0-9]*) return 1 ;; esac
    [ -r "/proc/$1/stat" ] && read -r nc_value 2>/dev/null <"/proc/$1/stat" || return 1
    # proc(5): the name in brackets may hold anything; the state follows, and 19 fields later the time
    # shellcheck disable=SC2086
    set -- ${nc_value##*) }
    [ "$#" -ge 20 ] || return 1
    case $1 in [ZX]) return 1 ;; esac
    shift 19
    nc_born=$1
}

lives() { # PROCESS TIME: is the process that began then
    born "$1" && [ "$nc_born" = "$2" ]
}

take() { # FILE: sources a state, if a holder of the caller's own has it open, and works in the place
    # its owner says nothing: who may mount (FUSE, allow_other) shows files of anybody's
    {
        read -r nc_line <&7 && nc_value=${nc_line#"# holder of small_1.0_20260102 "} &&
            case $nc_value in '' | *[!0-9]*) false ;; esac && [ -O "/proc/$nc_value" ] &&
            [ "/proc/$nc_value/cwd" -ef "$nc_place" ] && [ /proc/self/fd/7 -ef "/proc/$nc_value/fd/6" ] &&
            . /proc/self/fd/7
    } 2>/dev/null 7<"$1"
}

tell() { # WORDS: adds a line to the file that the holder itself has open
    # where the caller's files may not grow that long, the call stays cold, and is not ended by a signal
    trap '' XFSZ
    # shellcheck disable=SC2094  # its name is looked at only
    {
        # a holder that is ending has moved the file, and reads it once more two seconds later
        [ /proc/self/fd/7 -ef "/proc/$nc_held_holder/fd/5" ] && printf '%s\n' "$1" >&7 &&
            [ /proc/self/fd/7 -ef "$nc_dir/used" ]
    } 2>/dev/null 7>>"$nc_dir/used"
    set -- "$?"
    trap - XFSZ
    return "$1"
}

is_current() { # what the container was started with may have been replaced since: the image, a directory, a mount
    [ "/proc/$nc_held_holder/fd/4" -ef "$nc_image" ] || return 1
    [ "/proc/$nc_held/root$nc_cwd" -ef . ] || [ "$nc_start" = / ] || return 1
    IFS=$nc_newline
    # shellcheck disable=SC2086
    set -- $nc_bound
    IFS=$nc_blanks
    while [ "$#" -gt 1 ]; do
        [ "/proc/$nc_held/root$2" -ef "$1" ] || return 1
        shift 2
    done
    # a file that was replaced is not bound any more, and what was read only could be written
    IFS=$nc_newline
    # shellcheck disable=SC2086
    set -- $nc_sealed
    IFS=$nc_blanks
    for nc_value; do
        [ ! -w "/proc/$nc_held/root$nc_value" ] || return 1
    done
}

find_program() { # sets nc_program to the command's path in the container, as the runtime finds it; fails without one
    [ "/proc/$nc_held/root$nc_cwd" -ef . ] || return 1
    IFS=:
    # shellcheck disable=SC2086
    set -- $nc_held_path
    IFS=$nc_blanks
    # of each directory its name, and where it really is: what a link leads to would be looked for outside
    nc_link=
    while [ "$#" -gt 1 ]; do
        nc_program=$1/$nc_command nc_to=/proc/$nc_held/root$2 && nc_value=$nc_to/$nc_command
        shift 2
        if [ -x "$nc_value" ] && [ ! -d "$nc_value" ]; then
            [ -z "$nc_link" ]
            return
        fi
        # such a program may be there inside, or not, which matters where there is another one
        if [ -h "$nc_value" ]; then
            [ -z "$nc_link" ] || [ "$nc_to" -ef "$nc_link_to" ] || return 1
            [ -n "$nc_link" ] || nc_link_to=$nc_to
            nc_link=${nc_link:-$nc_program}
        fi
    done
    nc_program=$nc_link
    [ -n "$nc_program" ]
}

enter() { # ARGUMENT...: becomes the command in the namespaces of process nc_held
    # the runtime opens what is closed
    [ -e /proc/self/fd/0 ] || exec </dev/null
    [ -e /proc/self/fd/1 ] || exec >/dev/null
    [ -e /proc/self/fd/2 ] || exec 2>/dev/null
    IFS=$nc_newline
    for nc_name in $nc_passed; do
        # what the caller set as APPTAINERENV_* is in the holder's environment, and counts more
        if eval "[ -z \"\${APPTAINERENV_$nc_name+x}\${SINGULARITYENV_$nc_name+x}\" ]"; then
            eval "nc_kept_$nc_name=\$$nc_name"
        fi
    done
    for nc_name in $nc_names; do
        case $nc_name in SHELLOPTS | BASHOPTS) ;; *) unset "$nc_name" ;; esac
    done
    # bash speaks of languages that the host does not have
    {
        nc_environment
        for nc_name in $nc_passed; do
            eval "[ -z \"\${nc_kept_$nc_name+x}\" ] || export $nc_name=\"\$nc_kept_$nc_name\""
        done
    } 2>/dev/null
    unset IFS OLDPWD
    export PWD="$nc_cwd"
    if [ -n "$nc_held_inner" ]; then
        set -- /bin/sh -c "$nc_held_inner" "$nc_command" "$nc_program" "$@"
        export NEUROCOMMAND_PWD="$PWD"
    else
        set -- "$nc_program" "$@"
    fi
    if [ -n "$nc_held_wdns" ]; then set -- "--wdns=$nc_cwd" -- "$@"; else set -- -- "$@"; fi
    set -- "$nc_held_setpriv" --no-new-privs \
        "$nc_held_nsenter" --target "$nc_held" --user --mount --preserve-credentials "$@"
    case ${BASH_VERSION-} in
    '') exec "$@" ;;
    esac
    # bash hands down what dash drops: functions, names that no variable can have, and one of its own
    # shellcheck disable=SC3044
    for nc_name in $(compgen -A function); do unset -f "$nc_name"; done
    # shellcheck disable=SC3045
    while IFS='' read -r -d '' nc_line; do
        nc_line=${nc_line%%=*}
        case $nc_line in [0-9]* | *[!A-Za-z0-9_]*) set -- -u "$nc_line" "$@" ;; esac
    done </proc/self/environ
    exec "$nc_held_env" -u _ -u SHLVL -u SHELLOPTS -u BASHOPTS "$@"
}

lead() { # STATE PARENT GROUP SESSION: sets nc_anchor to the session's leader, and nc_born; fails where nobody can tell
    nc_anchor=$4
    if born "$nc_anchor"; then return 0; fi
    # It is dead (who started us in the background is gone), or in an outer namespace: the oldest ancestor in the session
    nc_session=$4 nc_anchor=$$ nc_parent=$2
    while born "$nc_parent"; do
        # shellcheck disable=SC2086
        set -- ${nc_value##*) }
        [ "$4" = "$nc_session" ] || break
        nc_anchor=$nc_parent nc_parent=$2
    done
    born "$nc_anchor"
}

warm() { # OPTION... IMAGE COMMAND ARGUMENT...
    # root is the same one inside, and could change what other calls see
    [ "${nc_uid:-0}" != 0 ] && [ -r . ] && [ -x . ] && born $$ || return 0
    nc_mine=$nc_born nc_status=${nc_value##*) }
    # Below Slurm the session's leader is dead from the beginning, and the task ends with its step. Who leads a session
    # of his own has nobody who calls again.
    nc_anchor=${SLURM_TASK_PID-}
    # shellcheck disable=SC2086
    { born "$nc_anchor" && [ -O "/proc/$nc_anchor" ]; } || lead $nc_status || return 0
    [ "$nc_anchor" != $$ ] || return 0
    nc_place=/tmp/neurocommand-$nc_uid
    case ${XDG_RUNTIME_DIR-} in
    /*) if [ -d "$XDG_RUNTIME_DIR" ] && [ -O "$XDG_RUNTIME_DIR" ]; then nc_place=$XDG_RUNTIME_DIR/neurocommand; fi ;;
    esac
    nc_slot=small_1.0_20260102-$nc_anchor-$nc_born nc_began=$nc_born
    # the runtime passes these, too
    for nc_name in http_proxy HTTP_PROXY https_proxy HTTPS_PROXY no_proxy NO_PROXY all_proxy ALL_PROXY ftp_proxy FTP_PROXY; do
        eval "[ -z \"\${$nc_name+x}\" ] || nc_passed=\${nc_passed}$nc_name\$nc_newline"
    done
    nc_start=/
    case $nc_cwd/ in
    "${HOME:-/tmp}"/*) ;;
    *) is_shown "$nc_cwd" || nc_start=$nc_cwd nc_key="$nc_key${nc_newline}in $nc_cwd" ;;
    esac
    for nc_line in 1 2 3 4 5 6 7 8; do
        nc_dir=$nc_place/$nc_slot.$nc_line nc_held_key=
        { [ -f "$nc_dir/state" ] && take "$nc_dir/state" && [ "$nc_held_key" = "$nc_key" ]; } || continue
        # there it is known that calls have to stay cold
        [ -n "$nc_held" ] || return 0
        # only a holder that lives and is the caller's own; elsewhere the same names may be other directories
        { lives "$nc_held" "$nc_held_born" && [ -O "/proc/$nc_held" ]; } || continue
        [ "/proc/$nc_held_holder/ns/mnt" -ef /proc/self/ns/mnt ] || continue
        if ! is_current; then
            tell stale
            continue
        fi
        # where its directory is gone, it is about to end
        if find_program && tell "$$ $nc_mine"; then
            shift "$((nc_count + 2))"
            enter "$@"
        fi
        return 0
    done
    start "$@"
}

start() { # OPTION... IMAGE COMMAND ARGUMENT...: has a holder started, by one of all calls that find none
    for nc_name in setsid setpriv nsenter mkfifo find stat tr readlink wc; do
        command -v "$nc_name" >/dev/null || return 0
    done
    [ -d "$nc_place" ] || mkdir -m 700 -- "$nc_place" 2>/dev/null
    [ -O "$nc_place" ] && [ ! -h "$nc_place" ] || return 0
    if ! mkdir -m 700 -- "$nc_place/$nc_slot.lock" 2>/dev/null; then
        (cd -P -- "$nc_place" && sh "$nc_release/holder.sh" --unlock "$nc_slot") 2>/dev/null
        return 0
    fi
    # who holds the lock, as the name of a directory, which cannot be led elsewhere; the holder puts its own there
    mkdir -m 700 -- "$nc_place/$nc_slot.lock/$$-$nc_mine" 2>/dev/null
    (
        (
            nc_line=0 nc_to=$#
            for nc_value in "$@"; do
                [ "$nc_line" -ge "$nc_count" ] || set -- "$@" "$nc_value"
                nc_line=$((nc_line + 1))
            done
            shift "$nc_to"
            export NEUROCOMMAND_KEY="$nc_key"
            IFS=$nc_newline
            for nc_name in $nc_names; do
                case $nc_name in
                APPTAINER* | SINGULARITY* | HOME | PATH | USER | LOGNAME | SHELLOPTS | BASHOPTS) ;;
                *) unset "$nc_name" ;;
                esac
            done
            IFS=$nc_blanks
            export "${nc_prefix}_NO_EVAL=1" NEUROCOMMAND_KEY
            exec setsid sh "$nc_release/holder.sh" "$nc_place" "$nc_slot" "$nc_idle" "$nc_start" "$nc_image" \
                "$nc_runtime" --silent exec --cleanenv --pwd "$nc_start" "$@"
        ) </dev/null >/dev/null 2>&1 &
    )
}

warm "$@"
