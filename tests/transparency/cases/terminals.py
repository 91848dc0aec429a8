"""At a terminal the tool is at the caller's terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable

from tests.transparency.case import Case
from tests.transparency.routes import Call

PATIENCE = 30.0
SIZE = (37, 113)
TERM = {"TERM": "xterm"}

Seen = tuple[int, bytes]


class Terminal:
    """The near end of a terminal that one tool has, as a terminal program holds it."""

    def __init__(self, call: Call, command: list[str], streams: str = "012") -> None:
        """Start a command in a session of its own at a new terminal.

        Args:
            call: the call.
            command: a command line of its user's.
            streams: which of 0, 1 and 2 are the terminal; the others are /dev/null.
        """
        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        if call.user.root:
            os.chown(os.ttyname(far), int(subprocess.check_output(["id", "-u", call.user.name])), -1)
        kept = os.open("/dev/null", os.O_RDWR)

        def control() -> None:
            fcntl.ioctl(far, termios.TIOCSCTTY, 0)

        stdin, stdout, stderr = (far if number in streams else kept for number in "012")
        self.process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=call.place,
            start_new_session=True,
            preexec_fn=control,  # noqa: PLW1509 - the only thread here
            pass_fds=(far,),
        )
        os.close(far)
        os.close(kept)
        self.heard = b""

    def until(self, text: bytes) -> None:
        """Read until a text was heard."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.heard:
            assert time.monotonic() < deadline, self.heard
            if select.select([self.near], [], [], 0.5)[0]:
                self.heard += self._read()

    def _read(self) -> bytes:
        try:
            return os.read(self.near, 4096)
        except OSError:  # the other end is closed
            return b""

    def type(self, text: bytes) -> None:
        """Type something."""
        os.write(self.near, text)

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self.near, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> Seen:
        """Read to the end, and return how the tool ended and all that was heard."""
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                ended = self.process.poll() is not None
                more = self._read() if select.select([self.near], [], [], 0 if ended else 0.02)[0] else b""
                self.heard += more
                if ended and not more:
                    break
            return self.process.wait(timeout=PATIENCE), self.heard
        finally:
            self.close()

    def close(self) -> None:
        """Hang up, and end what does not end by that."""
        with contextlib.suppress(OSError):
            os.close(self.near)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _at_a_terminal(
    name: str,
    text: str,
    act: Callable[[Terminal], None] = lambda terminal: None,
    *,
    expected: bytes,
    code: int = 0,
    streams: str = "012",
    deviation: str = "",
) -> Case:
    def observe(call: Call) -> Seen:
        terminal = Terminal(call, call.command(("ash", "-c", text), TERM), streams)
        try:
            act(terminal)
        except BaseException:
            terminal.close()
            raise
        return terminal.end()

    def check(seen: Seen) -> None:
        assert seen[0] in (code, -(code - 128)), seen
        assert expected in seen[1], seen

    return Case(f"terminal-{name}", observe, check, deviation)


def _types(*steps: bytes) -> Callable[[Terminal], None]:
    """Return who waits for a text, types the next one, waits for the one after that, and so on."""

    def act(terminal: Terminal) -> None:
        for number, step in enumerate(steps):
            if number % 2:
                time.sleep(0.1)  # for a shell that becomes another program after it said that it is ready
                terminal.type(step)
            else:
                terminal.until(step)

    return act


def _resizes(terminal: Terminal) -> None:
    terminal.until(b"ready")
    terminal.resize(20, 50)


def _hangs_up() -> Case:
    """Closing the window ends the shell in it, and the tool hears of that by SIGHUP, as any other program there."""
    text = "exec 2>/dev/null; trap 'echo hung up >said; exit 0' HUP; echo ready; while :; do sleep 0.02; done"

    def observe(call: Call) -> bytes:
        settings = {"T": str(call.tools / "ash"), **call.environment(TERM)}
        terminal = Terminal(call, call.user.command(("/bin/bash", "-c", '"$T" -c "$0"; true', text), settings))
        terminal.until(b"ready")
        terminal.close()
        deadline = time.monotonic() + 5
        said = call.place / "said"
        while not (said.exists() and said.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return said.read_bytes() if said.exists() else b""

    def check(seen: bytes) -> None:
        assert seen == b"hung up\n"

    return Case("terminal-hangs-up", observe, check)


IS = 'for n in 0 1 2; do [ -t $n ] && printf "$n yes " || printf "$n no "; done; echo'
GOES_ON = """exec 2>/dev/null; n=0; trap 'n=1' INT; echo ready; while [ $n = 0 ]; do sleep 0.02; done
trap '' INT; echo on; read x; echo "<$x>\""""
STATE = "stty -g | cut -d: -f1-6; stty -echo; stty | grep -c -- -echo; stty echo"

CASES = (
    *(
        _at_a_terminal(f"is-{streams or 'nothing'}", f"{{ {IS}; }} >/dev/tty", expected=b"yes", streams=streams)
        for streams in ("012", "0", "1", "2", "02", "12")
    ),
    _at_a_terminal("is-nothing", f"{{ {IS}; }} >/dev/tty", expected=b"0 no 1 yes 2 no", streams=""),
    _at_a_terminal("size", "stty size", expected=b"37 113"),
    _at_a_terminal(
        "is-resized",
        "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done",
        _resizes,
        expected=b"20 50",
    ),
    _at_a_terminal("name", '[ "$(tty)" != "not a tty" ] && [ -c "$(tty)" ] && echo named', expected=b"named"),
    _at_a_terminal("dev-tty", "echo to the terminal >/dev/tty", expected=b"to the terminal", streams=""),
    _at_a_terminal("state", STATE, expected=b"1"),
    _at_a_terminal(
        "line-in", 'echo ready; read -r x; echo "<$x>"', _types(b"ready", b"typed words\n"), expected=b"<typed words>"
    ),
    _at_a_terminal("erased", 'echo ready; read -r x; echo "<$x>"', _types(b"ready", b"abc\x7fd\n"), expected=b"<abd>"),
    _at_a_terminal("end-of-input", "echo ready; cat; echo after", _types(b"ready", b"x\n\x04"), expected=b"after"),
    _at_a_terminal(
        "raw",
        "stty raw -echo; echo ready; dd bs=1 count=3 2>/dev/null | od -An -tx1; stty sane",
        _types(b"ready", b"\x03\x04\x1a"),
        expected=b"03 04 1a",
    ),
    _at_a_terminal("interrupted", "echo ready; exec sleep 60", _types(b"ready", b"\x03"), expected=b"^C", code=130),
    _at_a_terminal("quit", "echo ready; exec sleep 60", _types(b"ready", b"\x1c"), expected=b"^\\", code=131),
    _at_a_terminal(
        "interrupt-is-handled",
        "exec 2>/dev/null; trap 'trap \"\" INT; echo caught; exit 4' INT; echo ready; while :; do sleep 0.02; done",
        _types(b"ready", b"\x03"),
        expected=b"caught",
        code=4,
    ),
    _at_a_terminal(
        "goes-on-after-an-interrupt",
        GOES_ON,
        _types(b"ready", b"\x03", b"on", b"more\n"),
        expected=b"<more>",
    ),
    _at_a_terminal(
        "interactive-shell",
        "PS1='> ' ash -i",
        _types(b"> \x1b[6n", b"echo $((40 + 2))\n", b"42\r\n> \x1b[6n", b"exit 6\n"),
        expected=b"42",
        code=6,
    ),
    _hangs_up(),
)
