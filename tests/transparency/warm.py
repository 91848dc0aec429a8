"""Warm calls: the container of a release that waits in the background, and whether it does."""

from __future__ import annotations

import time
from pathlib import Path

from tests.transparency.processes import end, running
from tests.users import User

SETTING = {"NEUROCOMMAND_WARM": "1"}
PATIENCE = 10.0  # seconds in which a first call has made the release warm
KNOWN = False  # whether is_warm can tell


def is_warm(user: User, directory: Path) -> bool:
    """Return whether a user's call of a release would enter a container that waits; never, while there are none.

    Args:
        user: who calls.
        directory: the release's, with its image and its wrappers.
    """
    return False


def is_holder(process: int) -> bool:
    """Return whether a process is what keeps a release warm, which is meant to stay."""
    return False


def warm_up(user: User, directory: Path) -> None:
    """Make a release warm for a user, unless it is: call it once, then wait until it says so."""
    if not KNOWN or is_warm(user, directory):
        return
    done = user.run([str(directory / "bin/true")], env=SETTING)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    deadline = time.monotonic() + PATIENCE
    while not is_warm(user, directory):
        assert time.monotonic() < deadline, f"{directory}: not warm {PATIENCE:.0f} s after its first call"
        time.sleep(0.02)


def cool_down(user: User, directory: Path) -> None:
    """End what keeps a release warm, so that its image can be removed."""
    if KNOWN and is_warm(user, directory):
        for process in running(user):
            if is_holder(process):
                end(frozenset((process,)))
