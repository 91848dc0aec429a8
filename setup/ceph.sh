#!/usr/bin/env bash
# ceph.sh: make sure that Ceph is in .tools/ceph, a folder with Debian unstable's packages; ./test --full runs its S3.
#
# Nothing is installed on the machine: mmdebstrap unpacks the packages (640 MB), the tests run them in that folder, in
# namespaces of their own. That takes root; without it nothing is done, and the tests of Ceph say that they are skipped.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=$top/.tools/ceph
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

if ! is_root; then
    say "Ceph: left out, since it takes root to run it in a folder"
    exit 0
fi
if [ -e "$folder/.installed" ]; then
    say "Ceph: up to date in .tools/ceph"
    exit 0
fi
if [ "$(uname -m)" != x86_64 ] || [ "$(os_release ID)" != debian ]; then
    say "Ceph: left out, since $(os_release PRETTY_NAME) on $(uname -m) is not known to run it"
    exit 0
fi
"$top/setup/packages.sh" mmdebstrap=mmdebstrap
say "Ceph: unpacking Debian unstable's packages into .tools/ceph (apt checks signature and checksums)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$top/setup/archive.sh" settings >"$work/apt.conf"
mirror=$("$top/setup/archive.sh" mirror)
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
# shellcheck disable=SC2016  # mmdebstrap gives the hook the folder as its first argument
mmdebstrap --quiet --variant=extract --include=radosgw,ceph-mon,ceph-osd,ceph-common,bash,coreutils,grep,libnss3 \
    --aptopt="$work/apt.conf" \
    --setup-hook='for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done' \
    sid "$folder" "deb [signed-by=$keyring] $mirror sid main" </dev/null ||
    fail "mmdebstrap could not unpack Ceph" "read its message above"
ln -sfn bash "$folder/usr/bin/sh"
mkdir -p "$folder"/{proc,dev,tmp,root,etc}
cp /etc/passwd /etc/group "$folder/etc/"
echo 127.0.0.1 localhost >"$folder/etc/hosts"
touch "$folder/.installed"
