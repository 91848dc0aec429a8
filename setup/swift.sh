#!/usr/bin/env bash
# swift.sh: make sure that OpenStack Swift is in .tools/swift; the tests run it, all in one, as a real object store.
#
# It has an environment of its own: what it needs must not decide about the versions of what we need.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=$top/.tools/swift
wanted='swift>=2.35,<3' # 2.35: conditional puts and AWS chunked bodies in its S3 API

# A checkout that was moved or copied has scripts that point to the old place.
is_there() {
    [ "$(cat "$folder/.installed" 2>/dev/null)" = "$wanted in $folder" ] &&
        "$folder/bin/python" -c 'import swift.proxy.server' 2>/dev/null
}

if is_there; then
    say "Swift: up to date in .tools/swift"
    exit 0
fi
python3 -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$(command -v python3 || echo python3) cannot make virtual environments" "run setup/python.sh first, then this again"
say "Swift: pip install $wanted into .tools/swift"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet "$wanted" ||
    fail "pip could not install: $wanted" "read pip's message above; behind a proxy set https_proxy, with a CA of your site's own set PIP_CERT"
echo "$wanted in $folder" >"$folder/.installed"
is_there || fail "Swift was installed but does not run" "look at: $folder/bin/python -c 'import swift.proxy.server'"
