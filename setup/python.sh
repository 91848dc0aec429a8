#!/usr/bin/env bash
# python.sh PIP-ARGUMENT...: make sure that .venv holds this project and what it needs, e.g. python.sh -e '.[test]'.
#
# The system's own Python is preferred: users' private ones (pyenv, conda) are often unreadable for others. A second
# run with nothing changed does nothing: a stamp per set of arguments remembers the files that say what is needed.
set -euo pipefail
# shellcheck source=setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$top"
venv=$top/.venv
[ $# -gt 0 ] || { echo "usage: python.sh PIP-ARGUMENT..." >&2 && exit 2; }

find_python() {
    local candidate
    for candidate in /usr/bin/python3 "$(command -v python3 || true)"; do
        if [ -x "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.10 or newer is missing" "run: $(root_command apt-get install python3 python3-venv)"
}

# Debian keeps the part of Python that makes virtual environments in a package of its own.
need_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    if [ "$1" = /usr/bin/python3 ] && command -v apt-get >/dev/null && may_be_root; then
        "$top/setup/packages.sh" '/usr/lib*/python3.*/ensurepip/__init__.py=python3-venv'
    else
        fail "$1 cannot make virtual environments" "run: $(root_command apt-get install python3-venv)"
    fi
}

works() { "$venv/bin/python" -c 'import pip' 2>/dev/null && [ "$(cat "$venv/.home" 2>/dev/null)" = "$venv" ]; }

# A checkout that was moved or copied has scripts that point to the old place: then the environment is made anew.
if ! works; then
    python=$(find_python)
    need_venv "$python"
    say "virtual environment: .venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    echo "$venv" >"$venv/.home"
fi

stamp=$venv/.installed-$(printf '%s\n' "$@" | sha256sum | cut -c1-12)
content=$(cat pyproject.toml examples/requirements.txt | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$content" ]; then
    say "Python packages: up to date"
    exit 0
fi
say "Python packages: pip install $*"
"$venv/bin/pip" install --quiet "$@" ||
    fail "pip could not install: $*" "read pip's message above; behind a proxy set https_proxy, with a CA of your site's own set PIP_CERT"
echo "$content" >"$stamp"
