"""Signals reach the tool as if the caller had started it itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

from tests.transparency import processes
from tests.transparency.case import Case, ended, host
from tests.transparency.outcomes import Outcome
from tests.transparency.routes import Call, close, read_line

MOUNT = "a runtime that is killed leaves the mount of its image behind"
IGNORED = "the runtime resets the signals that its caller ignores or blocks"
READY = b"ready\n"
SOON = 5.0  # seconds
# The runtime hands on what the tool has already heard as a member of the caller's group.
ONCE = 'trap "" INT TERM; echo caught; exit 9'
WITHOUT = "echo ready; exec sleep 60"
# A shell looks for a signal between commands, so these are short.
LOOP = "echo ready; while :; do sleep 0.02; done"


def _finish(process: subprocess.Popen[bytes]) -> Outcome:
    """Return how a started tool ended; one that does not end is killed."""
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        close(process)
    return Outcome(process.returncode, out, err)


def _sent(
    name: str,
    text: str,
    send: Callable[[subprocess.Popen[bytes]], None],
    *,
    check: Callable[[Outcome], None],
    deviation: str = "",
    group: bool = False,
) -> Case:
    """Start the tool, wait until it is ready, send something, and see how it ends."""

    def observe(call: Call) -> Outcome:
        process = call.start("ash", "-c", text, start_new_session=group)
        assert read_line(process.stdout) == READY
        time.sleep(0.05)  # until the shell has become what it waits for
        send(process)
        return _finish(process)

    return Case(name, observe, check, deviation, warm="either" if deviation else "bare")


def _by(number: signal.Signals) -> Callable[[Outcome], None]:
    def check(outcome: Outcome) -> None:
        assert outcome.code in (-number, 128 + number), outcome

    return check


def _without_handler(number: signal.Signals) -> Case:
    return _sent(f"signals-{number.name}-ends-it", WITHOUT, lambda it: it.send_signal(number), check=_by(number))


def _with_handler(number: signal.Signals) -> Case:
    text = f'trap "echo caught; exit 9" {number.name[3:]}; {LOOP}'
    return _sent(
        f"signals-{number.name}-is-handled", text, lambda it: it.send_signal(number), check=ended(9, b"caught\n")
    )


def _ignored_by_the_tool() -> Case:
    text = f'trap "" TERM INT; trap "echo last; exit 3" HUP; {LOOP}'

    def send(process: subprocess.Popen[bytes]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)

    return _sent("signals-that-the-tool-ignores", text, send, check=ended(3, b"last\n"))


def _one_after_another() -> Case:
    text = f'n=0; trap "n=\\$((n + 1)); echo \\$n; [ \\$n -lt 5 ] || exit 5" USR1; {LOOP}'

    def observe(call: Call) -> Outcome:
        process = call.start("ash", "-c", text)
        assert read_line(process.stdout) == READY
        heard = b""
        for _ in range(5):
            process.send_signal(signal.SIGUSR1)
            heard += read_line(process.stdout)
        rest = _finish(process)
        return Outcome(rest.code, heard + rest.out, rest.err)

    return Case("signals-one-after-another", observe, ended(5, b"1\n2\n3\n4\n5\n"))


def _killed() -> Case:
    """Nothing that was started by it survives SIGKILL to the one process that the caller knows."""

    def observe(call: Call) -> tuple[int, str]:
        process = call.start("ash", "-c", "echo $$; exec sleep 61")
        tool = int(read_line(process.stdout))
        process.kill()
        code = process.wait(timeout=30)
        deadline = time.monotonic() + SOON
        while processes.state(tool) not in ("", "Z") and time.monotonic() < deadline:
            time.sleep(0.01)
        close(process)
        return code, "gone" if processes.state(tool) in ("", "Z") else "still there"

    def check(seen: tuple[int, str]) -> None:
        assert seen == (-signal.SIGKILL, "gone")

    return Case("signals-SIGKILL-ends-the-tool-itself", observe, check, MOUNT, warm="host", patience=1.0)


def _to_the_group() -> Case:
    def send(process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, signal.SIGTERM)

    return _sent("signals-to-the-process-group", WITHOUT, send, check=_by(signal.SIGTERM), group=True)


def _to_the_group_handled() -> Case:
    """The tool is in the caller's group, so it hears of it; the runtime, which is, too, sends it once more."""
    text = f"exec 2>/dev/null; trap '{ONCE}' INT; {LOOP}"

    def send(process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, signal.SIGINT)

    return _sent("signals-to-the-group-are-handled", text, send, check=ended(9, b"caught\n"), group=True)


def _stopped(number: signal.Signals) -> Case:
    """A stopped tool does nothing until it goes on, and who waits for it sees it stopped."""
    text = "i=0; echo 0 >count; echo ready; while [ $i -lt 60 ]; do i=$((i + 1)); echo $i >count; sleep 0.01; done"

    def observe(call: Call) -> tuple[bool, bool, Outcome]:
        process = call.start("ash", "-c", text)
        assert read_line(process.stdout) == READY
        process.send_signal(number)
        time.sleep(0.1)
        stopped = processes.state(process.pid) == "T"
        first = (call.place / "count").read_bytes()
        time.sleep(0.2)
        stands = first == (call.place / "count").read_bytes()
        process.send_signal(signal.SIGCONT)
        return stopped, stands, _finish(process)

    def check(seen: tuple[bool, bool, Outcome]) -> None:
        assert seen[2] == Outcome(0, b"", b"")

    deviation = "the runtime's process is stopped, or hands the signal on, and the tool is another process"
    return Case(f"signals-{number.name}-and-SIGCONT", observe, check, deviation, warm="either")


def _blocked() -> Case:
    """What the caller ignores or blocks is so for the tool."""
    text = "while read -r k v; do case $k in Sig[BI]*) echo $k $v; esac; done </proc/self/status"

    def observe(call: Call) -> Outcome:
        def ignore() -> None:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

        return call.run("ash", "-c", text, preexec_fn=ignore)

    return Case("signals-ignored-and-blocked-by-the-caller", observe, ended(0), IGNORED, warm="either")


NOHUP = """nohup "$T" -c 'echo $$ >pid; i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 0.01; done; echo end' >out 2>&1 &
it=$!; while [ ! -s pid ]; do sleep 0.01; done; kill -HUP $it; wait $it; echo $?; grep -v nohup out; rm pid
"""
TIMEOUT_KILL = 'timeout -s KILL 0.5 "$T" -c "sleep 60"; echo $?'

CASES = (
    *(_without_handler(getattr(signal, f"SIG{name}")) for name in ("INT", "TERM", "HUP", "USR1", "QUIT")),
    *(_with_handler(getattr(signal, f"SIG{name}")) for name in ("INT", "TERM", "HUP", "USR1", "USR2", "QUIT", "WINCH")),
    _ignored_by_the_tool(),
    _one_after_another(),
    _killed(),
    _to_the_group(),
    _to_the_group_handled(),
    _stopped(signal.SIGTSTP),
    _stopped(signal.SIGSTOP),
    _blocked(),
    host("signals-the-default-of-all", '"$B/grep" SigIgn /proc/self/status', out=b"SigIgn:\t0000000000000000\n"),
    host("signals-nohup", NOHUP, err=None, deviation=IGNORED, warm="either"),
    host("signals-timeout", 'timeout 0.5 "$T" -c "sleep 60"; echo $?', out=b"124\n"),
    host(
        "signals-timeout-with-a-handler",
        f"timeout 0.5 \"$T\" -c 'exec 2>/dev/null; t() {{ {ONCE}; }}; trap t TERM; {LOOP}'; echo $?",
        out=b"ready\ncaught\n124\n",
    ),
    replace(
        host("signals-timeout-with-SIGKILL", TIMEOUT_KILL, out=b"137\n", err=None, deviation=MOUNT, warm="host"),
        patience=1.0,
    ),
)
