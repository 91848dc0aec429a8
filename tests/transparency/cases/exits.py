"""How a tool ends is how its call ends: exit codes, and signals that it sends itself."""

from __future__ import annotations

from collections.abc import Sequence

from tests.transparency.case import Case, host, is_, script, tool
from tests.transparency.routes import Call

CHOSEN = (1, 64, 126, 127, 130, 255)
# but QUIT, which busybox's shell ignores
SIGNALS = ("HUP", "USR1", "PIPE", "ALRM", "FPE", "TERM")


def _codes(name: str, codes: Sequence[int], full: bool = False) -> Case:
    def observe(call: Call) -> list[int]:
        return [call.run("ash", "-c", f"exit {code}").code for code in codes]

    return Case(name, observe, is_(list(codes)), full=full)


def _in_a_shell(signals: Sequence[str]) -> Case:
    """What a user's shell makes of it: $?, of all in one caller."""
    text = "for s in " + " ".join(signals) + '; do "$T" -c "kill -$s \\$\\$; sleep 9" 2>/dev/null; echo $s $?; done'
    return host("exits-by-signals-as-a-shell-sees-them", text, err=None, having=b"TERM 143\n")


def _by_signal(name: str) -> Case:
    def observe(call: Call) -> int:
        return call.run("ash", "-c", f"kill -{name} $$; sleep 9").code

    def check(code: int) -> None:
        assert code < 0 or code > 128

    return Case(f"exits-by-{name}", observe, check)


CASES = (
    _codes("exits-chosen-codes", CHOSEN),
    _codes("exits-all-codes", range(256), full=True),
    *(_by_signal(name) for name in ("KILL", "TERM", "SEGV", "ABRT", "INT")),
    _in_a_shell(SIGNALS),
    tool("exits-true", "true", code=0),
    tool("exits-false", "false", code=1),
    script("exits-with-the-last-commands-code", "(exit 9)", code=9),
    script("exits-modulo-256", "exit 256; exit 1", code=0),
    script("exits-after-output", "echo x; echo y >&2; exit 3", code=3, out=b"x\n", err=b"y\n"),
    tool("exits-a-command-that-the-image-lacks", "absent", code=255, err=None, deviation="the runtime says so"),
    script("exits-a-program-that-the-tool-lacks", "nosuch_program", code=127, err=None),
    script("exits-a-file-that-is-no-program", "/etc", code=126, err=None),
    host("exits-in-a-condition", 'if "$T" -c "exit 1"; then echo yes; else echo no; fi', out=b"no\n"),
    host("exits-and-or", '"$B/true" && echo a; "$B/false" || echo b; ! "$B/false" && echo c', out=b"a\nb\nc\n"),
    host("exits-under-set-e", 'set -e; "$B/true"; "$T" -c "exit 4"; echo not here', code=4, out=b""),
    host(
        "exits-in-a-pipeline-with-pipefail",
        'set -o pipefail; "$T" -c "exit 6" | "$B/cat"; echo $? "${PIPESTATUS[@]}"',
        shell=("/bin/bash", "-c"),
        out=b"6 6 0\n",
    ),
    host(
        "exits-while-a-child-runs-on",
        '"$T" -c "sleep 0.4 & exit 5" >/dev/null; echo $?',
        out=b"5\n",
    ),
    host(
        "exits-when-the-tool-does-not-when-its-children-do",
        'start=$(date +%s); "$T" -c "sleep 4 >/dev/null 2>&1 & echo \\$! >pid"; end=$(date +%s)\n'
        "kill $(cat pid) 2>/dev/null; rm pid; [ $((end - start)) -lt 3 ] && echo at once",
        out=b"at once\n",
    ),
)
