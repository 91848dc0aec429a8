#!/bin/sh
# holder.sh of small_1.0_20260102: made by neurocommand. Keeps a container of the release running for the calls of one session
# (warm.sh), and ends it when nobody has called for a while, or when the session or the job is over; never while
# a command still runs in it.
#
#   holder.sh PLACE SLOT IDLE DIRECTORY IMAGE RUNTIME OPTION...     with the key in NEUROCOMMAND_KEY
#   holder.sh --unlock SLOT                                         in the place: takes away what a killed one left
#
# The container waits on a pipe that this process holds, so it ends with this process however that ends, or, where that
# was killed, with the last command in it. This process has open: 3 that pipe, 4 the image, 5 the file to which calls add
# lines, 6 its state. Others look at 4 to 6 through /proc, so they stay where they are: a shell moves what it closes for
# a program that it starts.
set -f
umask 077
nc_newline='
'
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

if [ "$1" = --unlock ]; then
    set +f
    for nc_name in "./$2.lock"/[0-9]*-[0-9]*; do
        [ -d "$nc_name" ] || continue
        nc_value=${nc_name##*/}
        if lives "${nc_value%-*}" "${nc_value#*-}"; then exit 0; fi
    done
    # a holder may need a moment until its name is there; 6 seconds, where find knows parts of a minute
    nc_value=$(find "./$2.lock" -maxdepth 0 -mmin +0.1 2>/dev/null) ||
        nc_value=$(find "./$2.lock" -maxdepth 0 -mmin +1 2>/dev/null)
    [ -z "$nc_value" ] || rm -rf -- "./$2.lock"
    exit 0
fi

trap '' HUP INT QUIT TSTP TTIN TTOU
# All that follows stays in the directory that is judged here, whatever becomes of its name.
cd -P -- "$1" && [ -O . ] && [ -n "$(find . -maxdepth 0 \( -perm 700 -o -perm 2700 \))" ] && [ -d "./$2.lock" ] || exit 1
# a neighbour's own mount could show a directory of anybody's, and other files at each look
nc_value=$(stat -c %d .) && [ "$(stat -L -c %d "${1%/*}/")" = "$nc_value" ] || exit 1
if [ -z "${NEUROCOMMAND_CLOSED-}" ]; then
    born $$ && mkdir "./$2.lock/$$-$nc_born"
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
    rm -rf -- "./$2.lock"
    exit 1
fi
nc_key=$NEUROCOMMAND_KEY nc_slot=$2 nc_idle=$3 nc_start=$4 nc_image=$5
unset NEUROCOMMAND_CLOSED NEUROCOMMAND_KEY
shift 5
nc_value=${nc_slot#small_1.0_20260102-} && nc_anchor=${nc_value%-*} nc_anchor_born=${nc_value##*-}

# The first caller's limits are not the holder's; a limit of processor time that cannot be lifted would end it.
# The number of processes is u in bash, and p in dash.
for nc_value in t v n f d u p; do ulimit -S "-$nc_value" "$(ulimit -H "-$nc_value")"; done 2>/dev/null
nc_dir=
give_up() { # nothing was started
    rm -rf -- "./$nc_slot.lock" ${nc_dir:+"./$nc_dir"}
    exit 1
}
[ "$(ulimit -t)" = unlimited ] || give_up
# On a CVMFS publisher a running container would keep the repository busy.
set +f
for nc_value in /etc/cvmfs/repositories.d/*/server.conf; do [ ! -e "$nc_value" ] || give_up; done
# What holders of this release left that were killed, or whose session is over.
for nc_old in small_1.0_20260102-[0-9]*-[0-9]*.[1-8] small_1.0_20260102-[0-9]*-[0-9]*.ending small_1.0_20260102-[0-9]*-[0-9]*.lock; do
    if [ ! -d "./$nc_old" ] || [ -h "./$nc_old" ] || [ "$nc_old" = "$nc_slot.lock" ]; then continue; fi
    nc_held_holder='' nc_held_holder_born=
    [ ! -f "./$nc_old/state" ] || . "./$nc_old/state"
    if lives "$nc_held_holder" "$nc_held_holder_born"; then continue; fi
    nc_name=${nc_old#small_1.0_20260102-} && nc_name=${nc_name%%.*}
    if lives "${nc_name%-*}" "${nc_name##*-}"; then
        # another session may be just about to have one started
        if [ "$nc_name" != "$nc_anchor-$nc_anchor_born" ]; then continue; fi
    fi
    rm -rf -- "./$nc_old"
done
set -f
for nc_value in 1 2 3 4 5 6 7 8 none; do
    if [ "$nc_value" = none ]; then
        # all are taken
        nc_dir=
        give_up
    fi
    nc_dir=$nc_slot.$nc_value
    if [ -f "./$nc_dir/state" ]; then
        . "./$nc_dir/state"
        if [ "$nc_held_key" = "$nc_key" ] && [ ! -e "./$nc_dir/stale" ]; then
            nc_dir=
            give_up
        fi
    elif mkdir -m 700 -- "./$nc_dir" 2>/dev/null; then
        break
    fi
done
# A redirection of `:` or exec that fails ends a shell, and here all commands in the container with it.
{ mkfifo -m 600 "./$nc_dir/pipe" && { :; } >"./$nc_dir/used" && [ -r "$nc_image" ]; } || give_up
exec 4<"$nc_image"

# shellcheck disable=SC2016
(
    cd "$nc_start" && exec "$@" "$nc_image" /bin/sh -c '
        [ "/proc/$0/ns/mnt" -ef "/proc/$$/ns/mnt" ] && nc_own=no || nc_own=yes
        echo "$$"; read -r nc_end
        while [ "$nc_own" = yes ] && for nc_end in /proc/[0-9]*; do
            [ "$nc_end" != "/proc/$$" ] && [ "$nc_end/ns/mnt" -ef "/proc/$$/ns/mnt" ] && break
        done; do sleep 1 || exit; done' "$$" 4>&-
) <"./$nc_dir/pipe" >"./$nc_dir/process" &
nc_container=$!
exec 3>"./$nc_dir/pipe" 5<"./$nc_dir/used"

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

assign() { # NAME TEXT: prints an assignment
    quote "$2" && printf '%s=%s\n' "$1" "$nc_quoted"
}

# Write a container's environment as a function of shell; fails where no shell can have it. A pair a line is read, with
# the byte 1 for the line breaks in it, so it must hold no other.
write_environment() {
    printf 'nc_environment() {\n:\n'
    while IFS='' read -r nc_pair || [ -n "$nc_pair" ]; do
        nc_name=${nc_pair%%=*} nc_pair=${nc_pair#*=}
        case $nc_name in
        '' | [0-9]* | *[!A-Za-z0-9_]* | nc_* | UID | EUID | PPID | SHELLOPTS | BASHOPTS | BASH_* | IFS) return 1 ;;
        PWD | OLDPWD) continue ;;
        PATH) nc_path=$nc_pair ;;
        esac
        nc_text=
        while :; do
            case $nc_pair in
            *"$nc_one"*) nc_text=$nc_text${nc_pair%%"$nc_one"*}$nc_newline nc_pair=${nc_pair#*"$nc_one"} ;;
            *) break ;;
            esac
        done
        nc_text=$nc_text$nc_pair
        case $nc_name=$nc_text in
        LD_LIBRARY_PATH=/.singularity.d/libs) ;;
        LD_* | GLIBC_TUNABLES=* | GCONV_PATH=* | LOCPATH=*)
            # these would change how the host's own programs start on the way into the container
            nc_inner="${nc_inner}export $nc_name=\"\$NEUROCOMMAND_$nc_name\"; unset NEUROCOMMAND_$nc_name; "
            nc_name=NEUROCOMMAND_$nc_name
            ;;
        esac
        quote "$nc_text" && printf 'export %s=%s\n' "$nc_name" "$nc_quoted" || return 1
    done <"./$nc_dir/pairs"
    printf '}\n'
}

write_state() { # PROCESS: the holder's, or nothing where calls must stay cold; fails where the disk is full
    born $$
    {
        printf '# holder of small_1.0_20260102 %s\n' "$$" && assign nc_held_key "$nc_key" && assign nc_held "$1" &&
            printf 'nc_held_holder=%s nc_held_holder_born=%s\n' "$$" "$nc_born" &&
            if [ -n "$1" ]; then
                printf 'nc_held_born=%s nc_held_wdns=%s\n' "$nc_held_born" "$nc_wdns" &&
                    assign nc_held_setpriv "$nc_setpriv" && assign nc_held_nsenter "$nc_nsenter" &&
                    assign nc_held_env "$(command -v env)" && assign nc_held_path "$nc_path" &&
                    assign nc_held_inner "$nc_inner" && cat "./$nc_dir/environment"
            fi
    } >"./$nc_dir/state.new" && exec 6<"./$nc_dir/state.new" && mv -f -- "./$nc_dir/state.new" "./$nc_dir/state"
}

running() { # prints how many processes are in the container's mount namespace
    find /proc -maxdepth 3 -path '/proc/[0-9]*/ns/mnt' -lname "mnt:?$nc_namespace?" 2>/dev/null |
        wc -l
}

ready() { # waits for the container, and sees that it can be entered; sets nc_never where it cannot
    nc_tries=0 nc_never=yes
    until [ -s "./$nc_dir/process" ]; do
        nc_tries=$((nc_tries + 1))
        [ "$nc_tries" -lt 1200 ] || return 1
        # another node or process namespace may take for dead what it cannot see
        [ -p "./$nc_dir/pipe" ] || { nc_never='' && return 1; }
        born "$nc_container" || { sleep 0.2 && [ -s "./$nc_dir/process" ]; } || return 1
        sleep 0.05
    done
    read -r nc_held <"./$nc_dir/process"
    born "$nc_held" || return 1
    nc_held_born=$nc_born nc_setpriv=$(command -v setpriv) nc_nsenter=$(command -v nsenter) nc_wdns=yes nc_inner='' nc_path=
    # a set-uid runtime makes no user namespace, and others cannot be entered
    if [ "/proc/$nc_held/ns/user" -ef /proc/self/ns/user ]; then return 1; fi
    nc_one=$(printf '\001')
    if grep -q "$nc_one" "/proc/$nc_held/environ"; then return 1; fi
    tr '\000\n' '\n\001' <"/proc/$nc_held/environ" >"./$nc_dir/pairs" || return 1
    write_environment >"./$nc_dir/environment" || return 1
    set -- "$nc_setpriv" --no-new-privs "$nc_nsenter" --target "$nc_held" --user --mount --preserve-credentials
    if ! "$@" --wdns=/ -- /bin/sh -c : 2>/dev/null; then
        nc_wdns=
        "$@" -- /bin/sh -c : 2>/dev/null || return 1
    fi
    # shellcheck disable=SC2016
    nc_path=$("$@" ${nc_wdns:+--wdns=/} -- /bin/sh -c 'set -f; IFS=:; for d in $0; do
        (cd -P -- "$d/" && printf "%s:%s:" "$d" "${PWD%/}") || printf "%s:%s:" "$d" "$d"; done' "$nc_path" 2>/dev/null)
    if [ -n "$nc_inner" ] || [ -z "$nc_wdns" ]; then
        # shellcheck disable=SC2016
        nc_inner='cd -P -- "$NEUROCOMMAND_PWD" && unset NEUROCOMMAND_PWD OLDPWD; '"$nc_inner"'exec "$@"'
    fi
    nc_namespace=$(readlink "/proc/$nc_held/ns/mnt")
    nc_namespace=${nc_namespace#mnt:?} && nc_namespace=${nc_namespace%?}
    nc_alone=$(running) nc_never=
}

if ! { ready && write_state "$nc_held"; }; then
    # the key is remembered for a while, where not every call shall try again
    if [ -n "$nc_never" ]; then write_state ''; fi
    exec 3>&-
    wait "$nc_container"
    rm -rf -- "./$nc_slot.lock"
    nc_unused=0
    while [ -n "$nc_never" ] && lives "$nc_anchor" "$nc_anchor_born" && [ "$nc_unused" -lt "$nc_idle" ] &&
        [ "$nc_unused" -lt 60 ]; do
        sleep 1
        nc_unused=$((nc_unused + 1))
    done
    rm -rf -- "./$nc_dir"
    exit 1
fi
rm -rf -- "./$nc_slot.lock" "./$nc_dir/pairs" "./$nc_dir/environment"

nc_callers='' nc_lines=0 nc_stale=
is_called() { # reads the lines that were added since: remembers who called, and fails where nobody did
    nc_calls=
    while read -r nc_name nc_value <&5; do
        nc_calls=yes nc_lines=$((nc_lines + 1))
        case $nc_name in
        stale) nc_stale=yes && { :; } >"./$nc_dir/stale" ;;
        *) nc_callers="$nc_callers$nc_name $nc_value$nc_newline" ;;
        esac
    done
    # a line that comes in between is lost, which ends nothing: what runs in the container is counted, too
    if [ "$nc_lines" -gt 4000 ]; then
        { :; } >"/proc/$$/fd/5" && exec 5<"/proc/$$/fd/5"
        nc_lines=0
    fi
    [ -n "$nc_calls" ]
}
has_callers() { # do commands that came in still run, though perhaps in namespaces of their own by now
    IFS=$nc_newline nc_text=$nc_callers nc_callers=
    for nc_line in $nc_text; do
        unset IFS
        if lives "${nc_line% *}" "${nc_line#* }"; then nc_callers=$nc_callers$nc_line$nc_newline; fi
    done
    unset IFS
    [ -n "$nc_callers" ]
}
is_found() { # where its directory was taken away, another holder may have that name by now
    [ "./$nc_dir/used" -ef "/proc/$$/fd/5" ]
}

nc_tick=2 nc_unused=0
[ "$nc_idle" -ge 10 ] || nc_tick=1
while sleep "$nc_tick"; do
    lives "$nc_held" "$nc_held_born" || break
    if is_called || has_callers; then nc_unused=0; else nc_unused=$((nc_unused + nc_tick)); fi
    has_callers
    if lives "$nc_anchor" "$nc_anchor_born" && [ "$nc_unused" -lt "$nc_idle" ] && [ -z "$nc_stale" ] && is_found; then
        continue
    fi
    # From here on no call finds it; one that has just found it needs a moment to enter.
    is_found && mv -- "./$nc_dir" "./$nc_slot.$$.ending" && nc_dir=$nc_slot.$$.ending
    sleep 2
    is_called
    while lives "$nc_held" "$nc_held_born" && { has_callers || [ "$(running)" -gt "$nc_alone" ]; }; do
        sleep 1
    done
    break
done
exec 3>&-
wait "$nc_container"
if is_found; then rm -rf -- "./$nc_dir"; fi
