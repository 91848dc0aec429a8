#!/usr/bin/env bash
# build.sh FOLDER NAME VERSION REFERENCE: build the image that NAME/Containerfile describes and push it as REFERENCE.
#
# FOLDER holds a bare Debian 12 (made once by mmdebstrap from the machine's own sources) and buildah's storage, so that
# nobody's own images are touched and the next build starts where this one ended. Neither root nor Docker is needed: an
# ordinary user needs a range of subordinate ids (/etc/subuid), as useradd gives to every new user.
# REFERENCE's registry is a local one, spoken to without TLS.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../setup/common.sh"

# Mounts of a build that is killed go with its own mount namespace; an ordinary user's buildah always has one.
if is_root && [ -z "${BUILD_NAMESPACE-}" ]; then BUILD_NAMESPACE=1 exec unshare --mount "$0" "$@"; fi

folder=$(realpath -m "$1") name=$2 version=$3 reference=$4
base=localhost/debian:bookworm

# run WHAT COMMAND...: its messages matter only if it fails.
run() {
    local what=$1
    shift
    say "$what"
    "$@" >"$folder/log" 2>&1 || {
        cat "$folder/log" >&2
        fail "$what failed" "read the messages above; what is kept for the next run is in $folder"
    }
}

use_driver() { buildah=(buildah --root "$folder/storage" --runroot "$folder/run" --storage-driver "$1"); }

# Overlays are fast, but not every file system that FOLDER may lie on can carry them (another overlay cannot).
choose_driver() {
    local driver
    for driver in overlay vfs; do
        use_driver "$driver"
        if "${buildah[@]}" info >/dev/null 2>"$folder/log"; then
            echo "$driver" >"$folder/driver"
            return
        fi
        rm -rf "$folder/storage" "$folder/run"
    done
    cat "$folder/log" >&2
    fail "buildah does not run here" "read its message above; an ordinary user needs a line in /etc/subuid and /etc/subgid"
}

# The bare Debian goes by its own name once complete; a run that was cut off leaves only the other name.
make_base() {
    "$top/setup/archive.sh" settings >"$folder/apt.conf"
    "$top/setup/archive.sh" sources >"$folder/sources.list"
    # Without sources mmdebstrap takes Debian's own default server.
    local sources=()
    if [ -s "$folder/sources.list" ]; then sources=("$folder/sources.list"); fi
    # Device nodes are the container runtime's business.
    run "a bare Debian 12 by mmdebstrap" mmdebstrap --variant=minbase --skip=output/dev --aptopt="$folder/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        bookworm "$folder/bookworm.part.tar" "${sources[@]}"
    mv "$folder/bookworm.part.tar" "$folder/bookworm.tar"
}

import_base() {
    local container
    container=$("${buildah[@]}" from --network host scratch) &&
        "${buildah[@]}" add --quiet "$container" "$folder/bookworm.tar" / &&
        "${buildah[@]}" config --cmd /bin/bash --env LANG=C.UTF-8 \
            --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container" &&
        "${buildah[@]}" commit --quiet --rm "$container" "$base"
}

mkdir -p "$folder"
# A build that fails or is interrupted leaves a container behind, with its file system mounted.
trap '"${buildah[@]}" rm --all >/dev/null 2>&1 || true' EXIT
if [ -s "$folder/driver" ]; then use_driver "$(cat "$folder/driver")"; else choose_driver; fi
[ -s "$folder/bookworm.tar" ] || make_base
"${buildah[@]}" inspect --type image "$base" >/dev/null 2>&1 || run "the bare Debian as an image" import_base
# Limits that never need raising: newer buildahs try to raise them, which the root of a container may not.
processes=$(printf '%s\n' "$(ulimit -Hu)" "$(cat /proc/sys/kernel/pid_max)" | sort -n | grep -v unlimited | head -n 1)
run "image $name $version by buildah" "${buildah[@]}" build --isolation chroot --network host --layers \
    --ulimit nofile=1024:1024 --ulimit "nproc=$processes:$processes" \
    --build-arg "VERSION=$version" --tag "$reference" "$top/examples/images/$name"
run "push to the registry" "${buildah[@]}" push --tls-verify=false --digestfile "$folder/digest" \
    "$reference" "docker://$reference"

# What the registry holds is what was built, and says what a Neurodesk image has to say.
skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$reference" | grep -Fxq "$(cat "$folder/digest")" ||
    fail "$reference: the registry holds another digest than was pushed" "remove $folder and run this again"
skopeo inspect --tls-verify=false --config "docker://$reference" | grep -q '"DEPLOY_\(PATH\|BINS\)=' ||
    fail "$reference: the image names no commands (DEPLOY_PATH, DEPLOY_BINS)" "add them to $top/examples/images/$name/Containerfile"
say "$reference is $(cat "$folder/digest")"
