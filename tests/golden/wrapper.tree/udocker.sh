# shellcheck shell=sh disable=SC2154  # the wrapper, which reads this, sets: command id passed release tmpdir
# Run $command of the release $id with udocker, where there is neither apptainer nor singularity; "$@" are its arguments.
#
# `release` is the absolute path of the release's directory, `tmpdir` an absolute one to show and to set as TMPDIR, or
# empty, `passed` the names of variables, one a line, that are exported and that the command is to see. A tree is run as
# it is. Else the image, as `neurocommand export` writes it, becomes a container of the user's own at the first call.
# A signal to udocker alone does not reach the command; one from the terminal does.
udocker_fail() { # CODE MESSAGE
    printf '%s: %s\n' "$command" "$2" >&2
    exit "$1"
}

command -v udocker >/dev/null || udocker_fail 127 'neither apptainer nor singularity nor udocker is on PATH'
udocker_home=${UDOCKER_DIR:-${HOME-}/.udocker}
udocker_containers=${UDOCKER_CONTAINERS:-$udocker_home/containers}
udocker_own=$udocker_home/neurocommand
# A repository of Docker has small letters only; a container's name has no dot. Ids stay apart: there is no - in a version.
udocker_image=$(printf %s "${id%_*}" | tr '[:upper:]' '[:lower:]'):${id##*_}
udocker_name=$id
while case $udocker_name in *.*) ;; *) false ;; esac do
    udocker_name=${udocker_name%%.*}-${udocker_name#*.}
done
udocker_call() { # its own words are for people: never on the standard output of a command
    if [ "$(id -u)" = 0 ]; then udocker --allow-root --quiet "$@"; else udocker --quiet "$@"; fi
}

udocker_lock() { # NAME: one at a time, for a user; what a killed one left is taken away
    udocker_held=$udocker_own/$1.lock udocker_waited=0
    until mkdir "$udocker_held" 2>/dev/null; do
        { read -r udocker_holder udocker_host <"$udocker_held/by"; } 2>/dev/null || udocker_holder='' udocker_host=''
        udocker_waited=$((udocker_waited + 1))
        [ -d "$udocker_held" ] || [ "$udocker_waited" -lt 20 ] || udocker_fail 126 "$udocker_held: cannot be made"
        if [ "$udocker_host" = "$(uname -n)" ] && ! kill -0 "$udocker_holder" 2>/dev/null; then
            rm -rf "$udocker_held"
        elif [ "$udocker_waited" -gt 100 ] && [ -z "$udocker_holder" ]; then
            rm -rf "$udocker_held"
        elif [ "$udocker_waited" = 100 ]; then
            printf '%s: waiting for process %s on %s, which holds %s\n' \
                "$command" "$udocker_holder" "$udocker_host" "$udocker_held" >&2
        fi
        sleep 0.1 2>/dev/null || sleep 1
    done
    printf '%s %s\n' "$$" "$(uname -n)" >"$udocker_held/by"
}

udocker_stop() { # MESSAGE: give up while the lock is held
    rm -rf "$udocker_held"
    udocker_fail 126 "$1"
}

udocker_prepare() { # load the image and make a container of it, unless somebody else did meanwhile
    udocker_lock "$udocker_name"
    udocker_loaded=
    if [ ! -d "$udocker_containers/$udocker_name/ROOT" ]; then
        if [ ! -d "${UDOCKER_REPOS:-$udocker_home/repos}/${udocker_image%:*}/${udocker_image##*:}" ]; then
            if [ ! -f "$release/$id.docker.tar.gz" ]; then
                rm -rf "$udocker_held"
                udocker_fail 127 "udocker does not have $udocker_image; run: neurocommand export $id --format docker-archive, then udocker load -i the file"
            fi
            printf '%s: loading %s into udocker, once for all calls\n' "$command" "$id" >&2
            udocker_said=$(udocker_call load --input="$release/$id.docker.tar.gz" 2>&1) ||
                udocker_stop "udocker load: $udocker_said"
            udocker_image=${udocker_said##*'
'} udocker_loaded=yes
        fi
        # udocker says 0 although a layer could not be unpacked, so any word but the id is a failure
        udocker_said=$(udocker_call create "$udocker_image" 2>&1)
        if [ ! -d "$udocker_containers/$udocker_said/ROOT" ] || [ -z "$udocker_said" ]; then
            udocker_id=${udocker_said##*'
'}
            [ -z "$udocker_id" ] || udocker_call rm "$udocker_id" >/dev/null 2>&1
            udocker_stop "udocker create $udocker_image: $udocker_said"
        fi
        udocker_call name "$udocker_said" "$udocker_name" >&2 || udocker_stop 'udocker: the container cannot be named'
        # the container has all of it; an image that the user loaded is the user's own
        [ -z "$udocker_loaded" ] || udocker_call rmi "$udocker_image" >/dev/null 2>&1
    fi
    rm -rf "$udocker_held"
}

udocker_find_mode() { # sets udocker_mode, in udocker's own order
    udocker_mode=
    if [ -f "$udocker_containers/$udocker_name/execmode" ]; then
        read -r udocker_mode <"$udocker_containers/$udocker_name/execmode" || :
    fi
    udocker_mode=${udocker_mode:-${UDOCKER_DEFAULT_EXECUTION_MODE-}}
    for udocker_file in "$udocker_home/udocker.conf" "${HOME-}/.udocker/udocker.conf" /etc/udocker.conf; do
        [ -n "$udocker_mode" ] || [ ! -r "$udocker_file" ] ||
            udocker_mode=$(sed -n 's/^override_default_execution_mode *[=:] *//p' "$udocker_file")
    done
    [ -n "$udocker_mode" ] || case $(uname -m) in
    x86_64 | i?86 | aarch64 | arm*) udocker_mode=P1 ;;
    *) udocker_mode=R1 ;;
    esac
}

(umask 077 && mkdir -p "$udocker_own") || udocker_fail 126 "$udocker_own: cannot be made"
# without its engine, the first call would fetch it, and speak of it on the standard output
[ -f "${UDOCKER_LIB:-$udocker_home/lib}/VERSION" ] || udocker_call install >&2 ||
    udocker_fail 127 'udocker has no engine; run: udocker install'
udocker_find_mode
udocker_tree=$release/$id.simg
case $udocker_mode in P*) ;; *) udocker_tree= ;; esac # only these modes run a tree, and write nothing there
if [ -z "$udocker_tree" ] || [ ! -d "$udocker_tree" ]; then
    udocker_tree=
    [ -d "$udocker_containers/$udocker_name/ROOT" ] || udocker_prepare
    udocker_find_mode
fi

# What runs inside. udocker drops empty arguments, so where there are such, each has an x before it. It knows nothing of
# a tree's environment, which is in files, as for Apptainer. The shell stays, since proot tells no signals apart, and
# runc without a terminal hands them to the first process alone, which does not die of any: so it hands them on.
# shellcheck disable=SC2016  # for the shell inside
udocker_inside='
udocker_read() { . "$1"; }
if [ -n "$UDOCKER_FILES" ]; then
    unset PATH
    for udocker_file in $UDOCKER_FILES; do udocker_read "/.singularity.d/env/$udocker_file"; done
    export PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
fi
udocker_way=$1 udocker_marked=$2 udocker_command=$3
shift 3
if [ -n "$UDOCKER_PWD" ]; then
    cd -P "$UDOCKER_PWD" 2>/dev/null || {
        printf "%s: udocker cannot show the directory %s\n" "$udocker_command" "$UDOCKER_PWD" >&2
        exit 126
    }
fi
unset UDOCKER_PWD UDOCKER_FILES
[ "$udocker_marked" = no ] || for udocker_word do
    shift
    set -- "$@" "${udocker_word#x}"
done
if [ "$udocker_way" != pipes ]; then
    "$udocker_command" "$@"
    exit "$?"
fi
{ "$udocker_command" "$@" <&3 3<&- & } 3<&0
udocker_child=$!
trap "kill $udocker_child 2>/dev/null" HUP INT TERM
while wait "$udocker_child"; udocker_code=$?; kill -0 "$udocker_child" 2>/dev/null; do :; done
exit "$udocker_code"
'
udocker_way=direct
case $udocker_mode in R*) [ -t 0 ] && [ -t 1 ] && [ -t 2 ] || udocker_way=pipes ;; esac
udocker_marked=no
for udocker_word do
    [ -n "$udocker_word" ] || udocker_marked=yes
done
[ "$udocker_marked" = no ] || for udocker_word do
    shift
    set -- "$@" "x$udocker_word"
done
set -- --nobanner "$udocker_name" /bin/sh -c "$udocker_inside" sh "$udocker_way" "$udocker_marked" "$command" "$@"

# Values go through udocker's own environment: in --env=NAME=VALUE everybody could read them, and blanks would be lost.
UDOCKER_PWD=
if cd -P . 2>/dev/null; then UDOCKER_PWD=$PWD; fi
UDOCKER_FILES=
set +f
[ -z "$udocker_tree" ] || for udocker_file in "$udocker_tree"/.singularity.d/env/*.sh; do
    case ${udocker_file##*/} in
    01-base.sh | 94-appsbase.sh | 95-apps.sh | 99-base.sh | 99-runtimevars.sh | *[!A-Za-z0-9._-]*) ;; # Apptainer's own
    *) [ ! -f "$udocker_file" ] || UDOCKER_FILES="$UDOCKER_FILES ${udocker_file##*/}" ;;
    esac
done
export UDOCKER_PWD UDOCKER_FILES
[ -z "$tmpdir" ] || export TMPDIR="$tmpdir"
set -f
udocker_ifs=$IFS
IFS='
'
for udocker_word in HOME UDOCKER_PWD UDOCKER_FILES ${tmpdir:+TMPDIR} $passed; do
    set -- "--env=$udocker_word" "$@"
done

# What Apptainer shows: what APPTAINER_BINDPATH names (udocker knows no read-only), and the usual places under their own
# names, parents first. A path that udocker cannot be told is left out.
udocker_there=$UDOCKER_PWD
case $udocker_there/ in /tmp/* | /var/tmp/* | "${HOME:-/tmp}"/* | "${tmpdir:-/tmp}"/* | *:*) udocker_there= ;; esac
udocker_temporary=$tmpdir
case $udocker_temporary/ in /tmp/* | /var/tmp/* | "${HOME:-/tmp}"/* | *:*) udocker_temporary= ;; esac
IFS=,
for udocker_word in "$udocker_there" "$udocker_temporary" \
    ${APPTAINER_BINDPATH-} ${SINGULARITY_BINDPATH-} "${HOME-}" /var/tmp /tmp; do
    case $udocker_word in *:*:*) udocker_word=${udocker_word%:*} ;; esac
    case $udocker_word in
    *! | *[[:space:]]) ;;
    /?*) [ ! -e "${udocker_word%%:*}" ] || set -- "--volume=$udocker_word" "$@" ;;
    esac
done
IFS=$udocker_ifs
# inside, a user is who he is outside; runc knows no other one than root, which is he
set -- "--user=$(id -u)" "$@"
! id -un >/dev/null 2>&1 || set -- --hostauth "$@"
[ -z "$udocker_tree" ] || set -- "--location=$udocker_tree" "$@"
unset udocker_root
[ "$(id -u)" != 0 ] || udocker_root=--allow-root
# With --location it leaves a directory where it is called.
cd "$udocker_own" || udocker_fail 126 "$udocker_own: cannot be entered"
case $udocker_mode in
R*) ;;
*) exec udocker ${udocker_root+"$udocker_root"} --quiet run "$@" ;;
esac

# Without a terminal, udocker puts runc's output through one of its own and loses the exit code; and two calls at once
# share one config.json. So it is given this in the place of runc, which takes the file away and restores the streams.
# shellcheck disable=SC2016  # for the script's own shell
udocker_runc='#!/bin/sh
# made by neurocommand: runc, with the streams and the exit code of the wrapper
case " $* " in *" run --bundle "*) ;; *) exec "$UDOCKER_RUNC" "$@" ;; esac
while [ "$1" != --bundle ]; do shift; done
echo "$$" >"$UDOCKER_CALL/running"
trap : HUP INT TERM
mkdir "$UDOCKER_CALL/bundle" && mv "$2/config.json" "$UDOCKER_CALL/bundle/" && rm -rf "$UDOCKER_LOCK" || exit 1
set -- --root "$UDOCKER_CALL/state" run --bundle "$UDOCKER_CALL/bundle" "$3"
if [ "$UDOCKER_WAY" = pipes ]; then
    exec 7>&1
    "$UDOCKER_RUNC" "$@" <&6 >&8 2>&9 6<&- 7>&- 8>&- 9>&-
else
    "$UDOCKER_RUNC" "$@"
fi
echo "$?" >"$UDOCKER_CALL/code"
rm -f "$UDOCKER_CALL/running"
kill -0 "$UDOCKER_WRAPPER" 2>/dev/null || rm -rf "$UDOCKER_CALL"
'
UDOCKER_RUNC=${UDOCKER_USE_RUNC_EXECUTABLE-}
case $UDOCKER_RUNC in
'' | UDOCKER)
    [ -n "$UDOCKER_RUNC" ] || UDOCKER_RUNC=$(command -v runc || command -v crun) || :
    for udocker_word in runc-x86_64 runc-aarch64 runc-arm64 runc-ppc64le runc crun-x86_64 crun; do
        [ -x "$UDOCKER_RUNC" ] || UDOCKER_RUNC=${UDOCKER_BIN:-$udocker_home/bin}/$udocker_word
    done
    ;;
esac
[ -x "$UDOCKER_RUNC" ] || udocker_fail 127 'udocker is to use runc, which is missing; run: udocker install'
UDOCKER_CALL=$(mktemp -d "$udocker_own/call.XXXXXX") || udocker_fail 126 "$udocker_own: cannot be written"
trap 'rm -rf "$UDOCKER_CALL"' EXIT
printf %s "$udocker_runc" >"$UDOCKER_CALL/runc"
chmod 700 "$UDOCKER_CALL/runc"
udocker_lock "$udocker_name.run"
UDOCKER_LOCK=$udocker_held UDOCKER_USE_RUNC_EXECUTABLE=$UDOCKER_CALL/runc
UDOCKER_WAY=$udocker_way UDOCKER_WRAPPER=$$
export UDOCKER_RUNC UDOCKER_CALL UDOCKER_LOCK UDOCKER_USE_RUNC_EXECUTABLE UDOCKER_WAY UDOCKER_WRAPPER
trap : HUP INT # from a terminal, so that runc gets them as well
if [ "$udocker_way" = pipes ]; then
    udocker ${udocker_root+"$udocker_root"} --quiet run "$@" 6<&0 8>&1 9>&2 >/dev/null 2>"$UDOCKER_CALL/said" || :
else
    udocker ${udocker_root+"$udocker_root"} --quiet run "$@" || :
fi
# an interrupt ends udocker at once
while read -r udocker_word <"$UDOCKER_CALL/running" && kill -0 "$udocker_word"; do
    sleep 0.1 || sleep 1
done 2>/dev/null
if read -r udocker_code <"$UDOCKER_CALL/code"; then
    exit "$udocker_code"
fi 2>/dev/null
{ read -r udocker_holder _ <"$UDOCKER_LOCK/by"; } 2>/dev/null || udocker_holder=
[ "$udocker_holder" != "$$" ] || rm -rf "$UDOCKER_LOCK"
[ "$udocker_way" != pipes ] || cat "$UDOCKER_CALL/said" >&2
exit 126
