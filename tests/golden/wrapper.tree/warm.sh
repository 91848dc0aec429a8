# shellcheck shell=sh
# warm.sh of small_1.0_20260102: made by neurocommand. wrapper.sh sources it where calls are to be warm: this call enters the
# container that an earlier one of this session has left running with the same options; where there is none, one is
# started beside this call (holder.sh), which goes on as a cold one.
#
# A holder belongs to one user, one session (or task of a Slurm job), one release and one set of options. Its directory
# <place>/<release>-<process>-<time>.<n>/ holds `state`, to be sourced, and `environment`, what a command's environment
# is there before the caller's variables; `used` is touched by each call.
born() { # PROCESS: sets nc_born to the time at which a living process began; fails where it is dead
    nc_born=
    case $1 in '' | 0 | *[!0-9]*) return 1 ;; esac
    [ -r "/proc/$1/stat" ] && read -r nc_value 2>/dev/null <"/proc/$1/stat" || return 1
    # proc(5): the name in brackets may hold anything; the state follows, and 19 fields later the time
    # shellcheck disable=SC2086
    set -- ${nc_value##*) }
    case $1 in [ZX]) return 1 ;; esac
    shift 19
    nc_born=$1
}


enter() { # ARGUMENT...: becomes the command in the namespaces of process nc_held
    IFS=$nc_newline
    for nc_name in $nc_passed; do eval "nc_kept_$nc_name=\$$nc_name"; done
    for nc_name in $nc_names; do
        case $nc_name in SHELLOPTS | BASHOPTS) ;; *) unset "$nc_name" ;; esac
    done
    . "$nc_dir/environment"
    for nc_name in $nc_passed; do eval "export $nc_name=\"\$nc_kept_$nc_name\""; done
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
    # bash hands down what dash drops: functions, names that no variable can have, and one of its own
    if [ -n "${BASH_VERSION-}" ]; then
        # shellcheck disable=SC2086,SC3044  # several words in one variable
        for nc_name in $(compgen -A function); do unset -f "$nc_name"; done
        # shellcheck disable=SC2086
        exec "$nc_held_env" -u _ -u SHLVL -u SHELLOPTS -u BASHOPTS $nc_unnamed "$@"
    fi
    exec "$@"
}

warm() { # ARGUMENT...
    [ -r /proc/self/stat ] && read -r nc_value </proc/self/stat || return 0
    nc_value=${nc_value##*) } && nc_value=${nc_value#* * * }
    # The session's leader; below Slurm that is dead from the beginning, and the task ends with its step. Who leads a
    # session of his own has nobody who calls again.
    for nc_anchor in "${SLURM_TASK_PID-}" "${nc_value%% *}" ''; do
        if born "$nc_anchor"; then break; fi
    done
    [ -n "$nc_born" ] && [ "$nc_anchor" != $$ ] || return 0
    nc_place=/tmp/neurocommand-$nc_uid
    if [ -d "${XDG_RUNTIME_DIR:-/}" ] && [ -O "${XDG_RUNTIME_DIR:-/}" ] && [ "$nc_uid" != 0 ]; then
        nc_place=$XDG_RUNTIME_DIR/neurocommand
    fi
    nc_slot=$nc_place/small_1.0_20260102-$nc_anchor-$nc_born
    # the runtime passes these, too; SLURM and the like are in nc_passed already
    for nc_name in http_proxy HTTP_PROXY https_proxy HTTPS_PROXY no_proxy NO_PROXY all_proxy ALL_PROXY ftp_proxy FTP_PROXY; do
        eval "[ -z \"\${$nc_name+x}\" ] || nc_passed=\${nc_passed}$nc_name\$nc_newline"
    done
    nc_start=/
    is_shown "$nc_cwd" || nc_start=$nc_cwd nc_key="$nc_key${nc_newline}in $nc_cwd"
    [ -r . ] && [ -x . ] || return 0
    if [ -d "$nc_place" ]; then
        [ -O "$nc_place" ] && [ ! -h "$nc_place" ] || return 0
        nc_began=$nc_born
        for nc_line in 1 2 3 4 5 6 7 8; do
            nc_dir=$nc_slot.$nc_line nc_held_key=
            # its holder may take the directory away at any moment
            if [ -f "$nc_dir/state" ]; then command . "$nc_dir/state" 2>/dev/null; fi
            [ "$nc_held_key" = "$nc_key" ] || continue
            [ -n "$nc_held" ] || return 0
            # only a holder that lives and is the caller's own
            if ! { born "$nc_held" && [ "$nc_born" = "$nc_held_born" ] && [ -O "/proc/$nc_held" ]; }; then continue; fi
            if ! is_current; then
                true 2>/dev/null >"$nc_dir/stale"
                continue
            fi
            # where its directory is gone, it is about to end
            if find_program && true 2>/dev/null >"$nc_dir/used"; then
                keep_user_variables
                shift "$((nc_count + 2))"
                enter "$@"
            fi
            return 0
        done
        nc_born=$nc_began
    fi
    start "$@"
}

is_current() { # what the container was started with may have been replaced since: a directory made anew, a mount
    [ "/proc/$nc_held/root$nc_cwd" -ef . ] || [ "$nc_start" = / ] || return 1
    IFS=$nc_newline
    for nc_name in $nc_bound; do
        if ! [ "/proc/$nc_held/root$nc_name" -ef "$nc_name" ]; then
            IFS=$nc_blanks
            return 1
        fi
    done
    # a file that was replaced is not bound any more, and what was read only could be written
    for nc_name in $nc_sealed; do
        if [ -w "/proc/$nc_held/root$nc_name" ]; then
            IFS=$nc_blanks
            return 1
        fi
    done
    IFS=$nc_blanks
}

find_program() { # sets nc_program to the command's path in the container, as the runtime finds it; fails without one
    [ "/proc/$nc_held/root$nc_cwd" -ef . ] || return 1
    IFS=:
    for nc_program in $nc_held_path; do
        nc_program=$nc_program/$nc_command nc_value=/proc/$nc_held/root$nc_program
        # the target of a link would be looked for outside
        if [ -h "$nc_value" ] || { [ -x "$nc_value" ] && [ ! -d "$nc_value" ]; }; then
            IFS=$nc_blanks
            return 0
        fi
    done
    IFS=$nc_blanks
    return 1
}

# What the caller set as APPTAINERENV_* is in the holder's environment, and counts more.
keep_user_variables() {
    IFS=$nc_newline nc_value=$nc_passed nc_passed=
    for nc_name in $nc_value; do
        eval "[ -n \"\${APPTAINERENV_$nc_name+x}\${SINGULARITYENV_$nc_name+x}\" ]" ||
            nc_passed=$nc_passed$nc_name$nc_newline
    done
    IFS=$nc_blanks nc_unnamed=
    if [ -n "${BASH_VERSION-}" ]; then
        for nc_value in $(env | sed -n 's/^\([^=]*[^A-Za-z0-9_=][^=]*\)=.*/-u \1/p'); do
            nc_unnamed="$nc_unnamed $nc_value"
        done
    fi
}

start() { # OPTION... IMAGE COMMAND ARGUMENT...: has a holder started, by one of all calls that find none
    for nc_name in setsid setpriv nsenter xargs mkfifo find; do
        command -v "$nc_name" >/dev/null || return 0
    done
    [ -d "$nc_place" ] || mkdir -m 700 -- "$nc_place" 2>/dev/null
    [ -O "$nc_place" ] && [ ! -h "$nc_place" ] || return 0
    if ! mkdir -m 700 -- "$nc_slot.lock" 2>/dev/null; then
        # whoever took it may have been killed
        nc_began=$nc_born
        if [ -f "$nc_slot.lock/owner" ] && read -r nc_name nc_to <"$nc_slot.lock/owner" &&
            ! { born "$nc_name" && [ "$nc_born" = "$nc_to" ]; }; then
            rm -rf -- "$nc_slot.lock"
        fi
        nc_born=$nc_began
        return 0
    fi
    # until the holder puts its own name there
    nc_began=$nc_born
    born $$ && printf '%s %s\n' "$$" "$nc_born" 2>/dev/null >"$nc_slot.lock/owner"
    nc_born=$nc_began
    (
        (
            nc_line=0 nc_to=$#
            for nc_value in "$@"; do
                [ "$nc_line" -gt "$nc_count" ] || set -- "$@" "$nc_value"
                nc_line=$((nc_line + 1))
            done
            shift "$nc_to"
            IFS=$nc_newline
            for nc_name in $nc_names; do
                case $nc_name in
                APPTAINER* | SINGULARITY* | HOME | PATH | USER | LOGNAME | SHELLOPTS | BASHOPTS) ;;
                *) unset "$nc_name" ;;
                esac
            done
            IFS=$nc_blanks
            export "${nc_prefix}_NO_EVAL=1" NEUROCOMMAND_KEY="$nc_key"
            [ "$nc_start" != / ] || cd /
            exec setsid sh "$nc_release/holder.sh" "$nc_slot" "$nc_anchor" "$nc_born" "$nc_idle" \
                "$nc_runtime" --silent exec --cleanenv --pwd "$nc_start" "$@"
        ) </dev/null >/dev/null 2>&1 &
    )
}

warm "$@"
