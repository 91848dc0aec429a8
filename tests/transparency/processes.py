"""What still runs of a user's after a call."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.users import User


def running(user: User) -> frozenset[int]:
    """Return the processes of the tests' own user; none where the tests run as that user: they are not told apart."""
    if not user.root:
        return frozenset()
    owner = pwd.getpwnam(user.name).pw_uid
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if os.stat(f"/proc/{name}").st_uid == owner and state(int(name)) != "Z":
                found.add(int(name))
    return frozenset(found)


def state(process: int) -> str:
    """Return the state of a process as one letter of proc(5); empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def name(process: int) -> str:
    """Return the command line of a process, with its name where it has none; empty when it is gone."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return words or Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def remaining(user: User, before: frozenset[int], patience: float, meant: Callable[[int], bool]) -> frozenset[int]:
    """Wait until nothing runs that did not run before, and return what still does after that many seconds.

    Args:
        user: whose processes.
        before: those that ran before.
        patience: in seconds.
        meant: tells which processes are meant to stay.
    """
    deadline = time.monotonic() + patience
    while True:
        left = frozenset(process for process in running(user) - before if not meant(process))
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.01)


def end(processes: frozenset[int]) -> None:
    """End processes that a call left."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
