"""The working directory is the caller's, whatever its name, its place and its mode."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.transparency.case import Case, host
from tests.transparency.outcomes import Outcome, files
from tests.transparency.routes import Call

SCRIPT = """printf "%s|" "$PWD" "$(pwd)" "$(pwd -P)"
cat file; echo new >made; mkdir -p sub; echo x >sub/y; ls ..//"${PWD##*/}"
"""
NAMES = {
    "plain": "plain",
    "blanks": " a  b ",
    "newline": "a\nb",
    "trailing-newline": "a\n",
    "single-quote": "it's",
    "double-quote": 'a"b',
    "backslash": "a\\b",
    "trailing-backslash": "a\\",
    "comma": "a,b",
    "colon": "a:b",
    "dollar": "$HOME",
    "substitution": "$(id)`id`",
    "dash": "-x",
    "two-dashes": "--",
    "glob": "*",
    "tilde": "~",
    "hash": "#a",
    "equals": "a=b",
    "semicolon": "a;b&c",
    "braces": "{a,b}",
    "percent": "%s",
    "non-ascii": "é 脳 \U0001f9e0",
    "tab-and-control": "a\tb\x01",
    "dots": "...",
}
NOT_UTF8 = os.fsdecode(b"caf\xe9")


# These stand for others that run by default: of quotes, of what a shell expands, of what a runtime's option splits.
ONLY_FULL = {
    *("two-dashes", "tilde", "hash", "equals", "semicolon", "braces", "percent", "dots", "trailing-backslash"),
    *("tab-and-control", "substitution"),
}


def _named(label: str, name: str, outside: bool, deviation: str = "") -> Case:
    def observe(call: Call) -> tuple[Outcome, tuple[str, ...]]:
        place = call.bench.outside if outside else call.place
        directory = place / name
        directory.mkdir()
        (directory / "file").write_text("seen\n")
        call.user.give(place)
        done = call.run("ash", "-c", SCRIPT, cwd=directory)
        return Outcome(done.code, done.out, done.err), files(place)

    def check(seen: tuple[Outcome, tuple[str, ...]]) -> None:
        if deviation:
            return
        outcome, listed = seen
        assert (outcome.code, outcome.err) == (0, b"")
        assert b"|seen\n" in outcome.out
        assert len(listed) == 5, listed

    where = "outside" if outside else "home"
    return Case(f"directories-{where}-{label}", observe, check, deviation, full=label in ONLY_FULL)


def _at(label: str, where: Callable[[Call], Path], script: str, deviation: str = "", code: int = 0) -> Case:
    def observe(call: Call) -> Outcome:
        return call.run("ash", "-c", script, cwd=where(call))

    def check(outcome: Outcome) -> None:
        assert (outcome.code, outcome.err) == (code, b""), outcome

    return Case(f"directories-{label}", observe, check, deviation)


def _below_tmp() -> Case:
    def observe(call: Call) -> Outcome:
        directory = Path("/tmp") / f"neurocommand-{call.user.name}"
        directory.mkdir(mode=0o755)
        try:
            call.user.give(directory)
            done = call.run("ash", "-c", "pwd; echo x >y; cat y; rm y", cwd=directory)
            return Outcome(done.code, done.out, done.err)
        finally:
            directory.rmdir()

    def check(outcome: Outcome) -> None:
        assert (outcome.code, outcome.err) == (0, b"")
        assert outcome.out.endswith(b"\nx\n")

    return Case("directories-below-tmp", observe, check)


def _deep(outside: bool) -> Case:
    """More than a thousand characters, as pipelines make them."""

    def observe(call: Call) -> Outcome:
        place = call.bench.outside if outside else call.place
        directory = place.joinpath(*(f"{number:03}-" + "d" * 96 for number in range(12)))
        directory.mkdir(parents=True)
        call.user.give(place)
        done = call.run("ash", "-c", "pwd -P; echo x >y; cat y", cwd=directory)
        return Outcome(done.code, done.out, done.err)

    def check(outcome: Outcome) -> None:
        assert (outcome.code, outcome.err) == (0, b"")
        assert len(outcome.out) > 1200

    return Case(f"directories-{'outside' if outside else 'home'}-deep", observe, check)


def _closed(label: str, mode: int) -> Case:
    """The tool is called in a directory that its user is in, and may not list or not even enter any more."""
    text = f'mkdir d; cd d; chmod {mode:o} .; "$T" -c "echo run; ls . >/dev/null 2>&1; echo \\$?" 2>/dev/null; echo $?'
    text += '; cd "$HOME"; chmod 700 "$OLDPWD"'
    deviation = "" if mode & 0o400 else "the runtime opens the directory, and fails where it must not"
    return host(f"directories-{label}", text, having=b"\n", deviation=deviation, warm="either")


LINKED = "mkdir -p real/deep; ln -s real/deep link; cd link; pwd; \"$T\" -c '{}'; cd ..; ls real/deep"

CASES = (
    *(_named(label, name, outside=True) for label, name in NAMES.items()),
    *(_named(label, NAMES[label], outside=False) for label in ("blanks", "newline", "colon", "dash")),
    _named("not-utf8", NOT_UTF8, outside=True, deviation="the runtime, a Go program, knows no such names"),
    _at("home", lambda call: call.user.home, 'pwd; [ "$PWD" = "$HOME" ] && echo home'),
    _at("tmp", lambda call: Path("/tmp"), "pwd"),
    _at("root", lambda call: Path("/"), "pwd; [ . -ef / ] && echo root"),
    _at("mnt", lambda call: Path("/mnt"), "pwd; stat -c %i ."),
    _at("proc", lambda call: Path("/proc"), "pwd; [ -r self/stat ] && echo proc"),
    _at("dev-shm", lambda call: Path("/dev/shm"), "pwd"),
    _at("usr", lambda call: Path("/usr/bin"), "pwd", deviation="the image's own directory of that name is meant"),
    _below_tmp(),
    _deep(outside=True),
    _deep(outside=False),
    _closed("not-listable", 0o311),
    _closed("not-enterable", 0o000),
    _closed("read-only", 0o555),
    host("directories-linked-physical", LINKED.format("pwd -P; echo x >made"), having=b"made\n"),
    host(
        "directories-linked-logical",
        LINKED.format('echo "$PWD"; pwd; cd ..; ls'),
        having=b"real",
        deviation="the runtime is told the real path, so that it can be shown; a shell remembers how it came there",
    ),
    host(
        "directories-deleted",
        'mkdir gone; cd gone; rmdir ../gone; "$T" -c "echo run" 2>/dev/null; echo $?',
        err=None,
        deviation="the runtime cannot name it, and says so",
        warm="either",
    ),
    host(
        "directories-relative-arguments",
        'mkdir -p a/b; echo 1 >a/x; echo 2 >a/b/y; cd a/b; "$B/cat" ../x y ./y ../../a/b/../x',
        out=b"1\n2\n2\n1\n",
    ),
    host(
        "directories-a-wrong-PWD",
        'mkdir d; cd d; PWD=/tmp "$T" -c "pwd -P; echo x >made"; cd ..; ls d',
        having=b"made\n",
    ),
    host(
        "directories-a-linked-PWD-that-is-right",
        'mkdir real; ln -s real link; cd real; PWD=${PWD%real}link "$T" -c "pwd -P; echo x >made"; ls',
        having=b"made\n",
    ),
    host(
        "directories-the-caller-moves-on",
        'for d in a b c; do mkdir $d; (cd $d; "$T" -c "echo \\${PWD##*/} >me"); done; cat a/me b/me c/me',
        out=b"a\nb\nc\n",
    ),
)
