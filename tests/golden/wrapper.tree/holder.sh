#!/bin/sh
# holder.sh of small_1.0_20260102: made by neurocommand. Keeps a container of the release running for the calls of one session
# (warm.sh), and ends it when nobody has called for a while, or when the session or the job is over; never while
# something still runs in it.
#
#   holder.sh SLOT ANCHOR BORN IDLE RUNTIME OPTION... IMAGE
#
# The container waits on a pipe that this process holds, so it ends with this process however that ends.
set -f
nc_newline='
'
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

quote() { # TEXT: sets nc_quoted, a word of shell
    nc_quoted='' nc_value=$1
    while :; do
        case $nc_value in
        *\'*) nc_quoted=$nc_quoted${nc_value%%\'*}"'\''" nc_value=${nc_value#*\'} ;;
        *) break ;;
        esac
    done
    nc_quoted="'$nc_quoted$nc_value'"
}

# holder.sh --environment DIRECTORY NAME=VALUE...: write a container's environment as shell; exit 1 where it cannot be.
if [ "$1" = --environment ]; then
    nc_dir=$2
    shift 2
    for nc_pair in "$@"; do
        nc_name=${nc_pair%%=*}
        case $nc_name in
        '' | [0-9]* | *[!A-Za-z0-9_]* | nc_* | UID | EUID | PPID | SHELLOPTS | BASHOPTS | BASH_* | IFS) exit 1 ;;
        PWD | OLDPWD) continue ;;
        esac
        quote "${nc_pair#*=}"
        case $nc_pair in
        LD_LIBRARY_PATH=/.singularity.d/libs) ;;
        LD_* | GLIBC_TUNABLES=* | GCONV_PATH=* | LOCPATH=*)
            # these would change how the host's own programs start on the way into the container
            # shellcheck disable=SC2016
            printf 'export %s="$NEUROCOMMAND_%s"; unset NEUROCOMMAND_%s; ' "$nc_name" "$nc_name" "$nc_name" >>"$nc_dir/inner"
            nc_name=NEUROCOMMAND_$nc_name
            ;;
        esac
        printf 'export %s=%s\n' "$nc_name" "$nc_quoted" >>"$nc_dir/environment"
    done
    exit 0
fi

nc_slot=$1 nc_anchor=$2 nc_anchor_born=$3 nc_idle=$4 nc_key=$NEUROCOMMAND_KEY
trap '' HUP INT QUIT TSTP TTIN TTOU
if [ -z "${NEUROCOMMAND_CLOSED-}" ]; then
    born $$
    printf '%s %s\n' "$$" "$nc_born" >"$nc_slot.lock/owner"
fi

# What the first caller has open must not stay open: whoever reads a pipe's other end waits for all of its writers.
set +f
nc_high=
for nc_value in /proc/self/fd/*; do
    nc_value=${nc_value##*/}
    case $nc_value in
    [012]) ;;
    [3-9]) eval "exec $nc_value>&-" ;;
    *) [ "/proc/self/fd/$nc_value" -ef "$0" ] || [ ! -e "/proc/self/fd/$nc_value" ] || nc_high=1 ;;
    esac
done
set -f
if [ -n "$nc_high" ]; then
    # sh can close those of one digit only
    if [ -z "${NEUROCOMMAND_CLOSED-}" ] && command -v bash >/dev/null; then
        export NEUROCOMMAND_CLOSED=1
        # shellcheck disable=SC2016
        exec bash -c 'for f in /proc/$$/fd/*; do f=${f##*/}; [ "$f" -le 2 ] || eval "exec $f>&-"; done; exec sh "$0" "$@"' "$0" "$@"
    fi
    rm -rf -- "$nc_slot.lock"
    exit 1
fi
unset NEUROCOMMAND_CLOSED NEUROCOMMAND_KEY
shift 4

# The first caller's limits are not the holder's; a limit of processor time that cannot be lifted would end it.
for nc_value in t v n f d; do ulimit -S "-$nc_value" "$(ulimit -H "-$nc_value")" 2>/dev/null; done
end() { # nothing was started
    rm -rf -- "$nc_slot.lock" ${nc_dir:+"$nc_dir"}
    exit 1
}
nc_dir=
[ "$(ulimit -t)" = unlimited ] || end
# On a CVMFS publisher a running container would keep the repository busy.
set +f
for nc_value in /etc/cvmfs/repositories.d/*/server.conf; do [ ! -e "$nc_value" ] || end; done
# What holders left that were killed, and what belongs to sessions that are over.
lives() { # PROCESS BORN
    born "$1" && [ "$nc_born" = "$2" ]
}
for nc_old in "${nc_slot%/*}"/*.ending; do
    nc_name=${nc_old%.ending}
    born "${nc_name##*.}" || rm -rf -- "$nc_old"
done
for nc_old in "${nc_slot%/*}"/*.[1-8]; do
    nc_held=none nc_held_born=
    [ ! -f "$nc_old/state" ] || . "$nc_old/state"
    nc_name=${nc_old%.*} && nc_to=${nc_name##*-} && nc_name=${nc_name%-*} && nc_name=${nc_name##*-}
    if lives "$nc_held" "$nc_held_born"; then continue; fi
    if lives "$nc_name" "$nc_to"; then
        # calls of that session stay cold, or it is just about to have a holder started
        [ -n "$nc_held" ] || continue
        [ "$nc_held" != none ] || [ "$nc_name-$nc_to" = "$nc_anchor-$nc_anchor_born" ] || continue
    fi
    rm -rf -- "$nc_old"
done
set -f
for nc_value in 1 2 3 4 5 6 7 8 none; do
    [ "$nc_value" != none ] || end
    nc_dir=$nc_slot.$nc_value
    if [ -f "$nc_dir/state" ]; then
        . "$nc_dir/state"
        if [ "$nc_held_key" = "$nc_key" ] && [ ! -e "$nc_dir/stale" ]; then
            nc_dir=
            end
        fi
    elif mkdir -m 700 -- "$nc_dir" 2>/dev/null; then
        break
    fi
done
mkfifo -m 600 "$nc_dir/pipe" || end

# shellcheck disable=SC2016
"$@" /bin/sh -c 'echo "$$"; read -r nc_end' <"$nc_dir/pipe" >"$nc_dir/process" &
nc_container=$!
exec 3>"$nc_dir/pipe"

write_state() { # PROCESS: the holder's, or nothing where calls must stay cold
    quote "$nc_key"
    {
        printf 'nc_held_key=%s\nnc_held=%s\n' "$nc_quoted" "$1"
        [ -z "$1" ] || printf 'nc_held_born=%s nc_held_wdns=%s nc_held_setpriv=%s nc_held_nsenter=%s nc_held_env=%s\n' \
            "$nc_held_born" "$nc_wdns" "$nc_setpriv" "$nc_nsenter" "$(command -v env)"
        quote "$nc_inner" && printf 'nc_held_inner=%s\n' "$nc_quoted"
        quote "$nc_path" && printf 'nc_held_path=%s\n' "$nc_quoted"
    } >"$nc_dir/state.new"
    : >"$nc_dir/used"
    mv -f -- "$nc_dir/state.new" "$nc_dir/state"
    rm -rf -- "$nc_slot.lock"
}

ready() { # waits for the container, and sees that it can be entered
    nc_tries=0
    until [ -s "$nc_dir/process" ]; do
        nc_tries=$((nc_tries + 1))
        [ "$nc_tries" -lt 1200 ] && born "$nc_container" || return 1
        sleep 0.05 3>&-
    done
    read -r nc_held <"$nc_dir/process"
    born "$nc_held" || return 1
    nc_held_born=$nc_born nc_setpriv=$(command -v setpriv) nc_nsenter=$(command -v nsenter) nc_wdns=yes nc_inner=
    # a set-uid runtime makes no user namespace, and others cannot be entered
    if [ "/proc/$nc_held/ns/user" -ef /proc/self/ns/user ]; then return 1; fi
    case $nc_setpriv$nc_nsenter in *[!A-Za-z0-9_./+-]*) return 1 ;; esac
    xargs -0 sh "$0" --environment "$nc_dir" <"/proc/$nc_held/environ" 3>&- || return 1
    set -- "$nc_setpriv" --no-new-privs "$nc_nsenter" --target "$nc_held" --user --mount --preserve-credentials
    if ! "$@" --wdns=/ -- /bin/sh -c : 3>&- 2>/dev/null; then
        nc_wdns=
        "$@" -- /bin/sh -c : 3>&- 2>/dev/null || return 1
    fi
    if [ -f "$nc_dir/inner" ]; then read -r nc_inner <"$nc_dir/inner" || [ -n "$nc_inner" ]; fi
    if [ -n "$nc_inner" ] || [ -z "$nc_wdns" ]; then
        # shellcheck disable=SC2016
        nc_inner='cd -P -- "$NEUROCOMMAND_PWD" && unset NEUROCOMMAND_PWD OLDPWD; '"$nc_inner"'exec "$@"'
    fi
    nc_path=$(. "$nc_dir/environment" && printf %s "$PATH")
    nc_namespace=$(readlink "/proc/$nc_held/ns/mnt") && nc_namespace=${nc_namespace#mnt:?} && nc_namespace=${nc_namespace%?}
    nc_alone=$(running)
}

running() { # prints how many processes are in the container's mount namespace
    find /proc -maxdepth 3 -path '/proc/[0-9]*/ns/mnt' -lname "mnt:?$nc_namespace?" 2>/dev/null 3>&- | wc -l 3>&-
}

if ! ready; then
    # the key is remembered, so that not every call tries again
    nc_inner='' nc_path=
    write_state ''
    exec 3>&-
    wait "$nc_container"
    exit 1
fi
write_state "$nc_held"
nc_tick=2 nc_unused=0
[ "$nc_idle" -ge 10 ] || nc_tick=1
: >"$nc_dir/seen"
while sleep "$nc_tick" 3>&-; do
    lives "$nc_held" "$nc_held_born" || break
    if [ "$nc_dir/used" -nt "$nc_dir/seen" ]; then
        : >"$nc_dir/seen"
        nc_unused=0
    else
        nc_unused=$((nc_unused + nc_tick))
    fi
    if lives "$nc_anchor" "$nc_anchor_born" && [ "$nc_unused" -lt "$nc_idle" ] && [ ! -e "$nc_dir/stale" ]; then
        continue
    fi
    # From here on no call finds it; one that has just found it needs a moment to enter.
    mv -- "$nc_dir" "$nc_slot.$$.ending" && nc_dir=$nc_slot.$$.ending
    sleep 2 3>&-
    while born "$nc_held" && [ "$(running)" -gt "$nc_alone" ]; do sleep 1 3>&-; done
    break
done
exec 3>&-
wait "$nc_container"
rm -rf -- "$nc_dir"
