"""What the command says, and how it gives up."""

from __future__ import annotations

import sys


class RefusedError(Exception):
    """The command ends: with an exit code, and these lines on standard error."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code, *lines)
        self.code = code
        self.lines = lines


class WorkerError(Exception):
    """The worker (cvmfs_swissknife) failed: these are its own lines."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


def say(*lines: str) -> None:
    """Write lines to standard output at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def complain(*lines: str) -> None:
    """Write lines to standard error at once."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def answer(question: str) -> str:
    """Ask and return what standard input says; nothing at its end."""
    sys.stdout.write(question)
    sys.stdout.flush()
    said = sys.stdin.readline().strip()
    say("")
    return said
