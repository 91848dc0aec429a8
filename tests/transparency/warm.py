"""Warm calls: the containers that wait in the background, and whether one is there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from tests.transparency.processes import name, running, state
from tests.users import User

SETTING = {"NEUROCOMMAND_WARM": "1"}
HELD = 7.0  # seconds that a lock is believed whose owners are dead
PATIENCE = 20.0  # seconds in which a first call has made the release warm


def _place(user: User) -> Path:
    return Path(f"/tmp/neurocommand-{user.home.stat().st_uid}")


def holders(user: User) -> frozenset[str]:
    """Return the holders that a user's calls have started, or are just about to."""
    return frozenset(path.name for path in _place(user).glob("*"))


def is_warm(user: User, directory: Path) -> bool:
    """Return whether a container of a release waits for a user's calls.

    Args:
        user: who calls.
        directory: the release's, with its image and its wrappers.
    """
    for path in _place(user).glob("*/state"):
        with contextlib.suppress(OSError):
            if f"{directory}/" in (text := path.read_text(errors="replace")) and " nc_held_wdns=" in text:
                return True
    return False


def is_holder(process: int) -> bool:
    """Return whether a process is what keeps a release warm, which is meant to stay: it is in a holder's session."""
    with contextlib.suppress(OSError):
        session = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[3]
        return "/holder.sh " in name(int(session))
    return True  # it ended meanwhile


def settle(user: User) -> None:
    """Wait until no holder is just being started; where who did so was killed, the next call sees that."""
    deadline = time.monotonic() + PATIENCE
    while any(_is_held(path) for path in _place(user).glob("*.lock")):
        assert time.monotonic() < deadline, _owners(user)
        time.sleep(0.02)


def _owners(user: User) -> list[str]:
    """Say who holds locks, and what that process waits for."""
    said = []
    for path in _place(user).glob("*.lock/*-*"):
        process = path.name.split("-")[0]
        with contextlib.suppress(OSError):
            said.append(f"{name(int(process))}: {Path('/proc', process, 'wchan').read_text()}")
    return said


def _is_held(lock: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        owners = [int(path.name.split("-")[0]) for path in lock.iterdir()]
        alive = any(state(owner) not in ("", "Z") for owner in owners)
        return alive or time.time() - lock.stat().st_mtime < HELD
    return False


def warm_up(user: User, directory: Path) -> None:
    """Make a release warm for a user, unless it is: call it once, then wait until it is."""
    if is_warm(user, directory):
        return
    done = user.run([str(directory / "bin/true")], env=SETTING)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    deadline = time.monotonic() + PATIENCE
    while not is_warm(user, directory):
        assert time.monotonic() < deadline, f"{directory}: not warm {PATIENCE:.0f} s after its first call"
        time.sleep(0.02)


def cool_down(user: User) -> None:
    """End what keeps releases warm, so that their images can be removed."""
    for process in running(user):
        if is_holder(process) and "/holder.sh " in name(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while any(is_holder(process) and state(process) for process in running(user)) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(_place(user), ignore_errors=True)
