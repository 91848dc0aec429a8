"""TMPDIR, and what else of the caller's files a variable leads to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.transparency.case import Case, script
from tests.transparency.outcomes import Outcome, files
from tests.transparency.routes import Call

SCRIPT = 'echo "${TMPDIR-unset}"; d=${TMPDIR-/tmp}; [ -d "$d" ] && cd "$d" && pwd -P && ls'
WRITE = 'echo "${TMPDIR-unset}"; [ -z "$TMPDIR" ] || echo x >"$TMPDIR/made by tool"'
NAMES = {
    "plain": "scratch",
    "blank": "a b",
    "comma": "a,b",
    "colon": "a:b",
    "quote": "it's",
    "dollar": "$HOME",
    "non-ascii": "é 脳",
    "glob": "*",
    "dash": "-x",
    "double-quote": 'a"b',
    "newline": "a\nb",
    "backslash": "a\\b",
}
HERE_ONLY = "on the host any text is passed as TMPDIR; in a container only what is a directory that can be shown"


def _named(label: str, name: str, outside: bool) -> Case:
    def observe(call: Call) -> tuple[Outcome, tuple[str, ...]]:
        place = call.bench.outside if outside else call.place
        directory = place / name
        directory.mkdir()
        call.user.give(place)
        done = call.run("ash", "-c", WRITE, env={"TMPDIR": str(directory)})
        return Outcome(done.code, done.out, done.err), files(place)

    def check(seen: tuple[Outcome, tuple[str, ...]]) -> None:
        assert (seen[0].code, seen[0].err) == (0, b"")
        assert len(seen[1]) == 2, seen

    full = label in ("glob", "dash", "non-ascii", "quote")  # no other than blanks or a dollar to the runtime
    return Case(f"tmpdir-{'outside' if outside else 'home'}-{label}", observe, check, "", full)


def _value(label: str, value: Callable[[Call], str | None], deviation: str = HERE_ONLY) -> Case:
    def observe(call: Call) -> Outcome:
        given = value(call)
        return call.run("ash", "-c", 'echo "${TMPDIR-unset}"', env={} if given is None else {"TMPDIR": given})

    def check(outcome: Outcome) -> None:
        assert (outcome.code, outcome.err) == (0, b""), outcome

    return Case(f"tmpdir-{label}", observe, check, deviation)


def _file(call: Call) -> str:
    path = call.place / "file"
    path.touch()
    return str(path)


def _link(call: Call) -> str:
    (call.bench.outside / "real").mkdir()
    (call.place / "link").symlink_to(call.bench.outside / "real")
    return str(call.place / "link")


def _read_only(call: Call) -> str:
    path = call.bench.outside / "locked"
    path.mkdir(mode=0o555)
    call.user.give(call.bench.outside)
    path.chmod(0o555)
    return str(path)


def _below_tmp() -> Case:
    def observe(call: Call) -> Outcome:
        directory = Path("/tmp") / f"neurocommand tmpdir {call.user.name}"
        directory.mkdir(mode=0o755)
        try:
            call.user.give(directory)
            done = call.run("ash", "-c", WRITE, env={"TMPDIR": str(directory)})
            return Outcome(done.code, done.out, done.err, files(directory))
        finally:
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()

    def check(outcome: Outcome) -> None:
        assert (outcome.code, outcome.err, len(outcome.files)) == (0, b"", 1), outcome

    return Case("tmpdir-below-tmp", observe, check)


def _here(call: Call) -> str:
    return str(call.place)


def _xauthority(label: str, name: str | None, outside: bool) -> Case:
    """The cookie is seen where it is, and cannot be written."""
    text = """echo "${XAUTHORITY-unset}"; [ -z "$XAUTHORITY" ] || { cat "$XAUTHORITY"
{ echo x >"$XAUTHORITY"; } 2>/dev/null || echo refused; }"""

    def observe(call: Call) -> Outcome:
        path = (call.bench.outside if outside else call.place) / (name or "absent")
        if name:
            path.write_text("key\n")
            call.user.give(path.parent)
        return call.run("ash", "-c", text, env={"XAUTHORITY": str(path), "DISPLAY": ":0"})

    def check(outcome: Outcome) -> None:
        assert (outcome.code, outcome.err) == (0, b""), outcome
        assert outcome.out.endswith(b"\nkey\nrefused\n" if name else b"unset\n"), outcome

    return Case(f"xauthority-{label}", observe, check, "on the host the file can be written, and need not be there")


CASES = (
    *(_named(label, name, outside=True) for label, name in NAMES.items()),
    *(_named(label, NAMES[label], outside=False) for label in ("plain", "blank", "newline", "double-quote")),
    _value("unset", lambda call: None, deviation=""),
    _value("empty", lambda call: ""),
    _value("missing", lambda call: "/nowhere/at/all"),
    _value("a-file", _file),
    _value("relative", lambda call: "relative"),
    _value("a-dot", lambda call: "."),
    _value("a-link", _link, deviation="the runtime is told the real path, so that it can be shown"),
    _value("read-only", _read_only, deviation=""),
    _value("the-root", lambda call: "/tmp/../tmp", deviation="the runtime is told the real path"),
    _value("the-working-directory", _here, deviation=""),
    _value("with-options-in-it", lambda call: "/tmp:/etc,ro"),
    _below_tmp(),
    _xauthority("plain", "cookie", outside=False),
    _xauthority("outside", "cookie", outside=True),
    _xauthority("blank-and-comma", "coo, kie", outside=True),
    _xauthority("absent", None, outside=False),
    script("tmpdir-mktemp", 'f=$(mktemp) && echo x >"$f" && cat "$f" && rm "$f"', out=b"x\n"),
)
