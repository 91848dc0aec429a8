"""The hidden file as which a download grows: it outlives a crash, and has one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from pathlib import Path

from neurocommand.errors import BusyError
from neurocommand.files import rename_durably

ENDING = 5.0  # seconds


def written(path: Path) -> int:
    """Return the bytes that an earlier download to a path has written already."""
    try:
        return os.lstat(_part(path)).st_blocks * 512
    except OSError:
        return 0


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


class Part:
    """``.<name>.part`` beside a file that is being made, held as long as a ``with`` block runs.

    With ``.<name>.part.aria2`` beside it, which says what aria2 has got of it, it may have holes; without, it is the
    beginning of the object. What it holds proves nothing: it may be of other sources, or of another artifact.
    It stays when the block ends, unless it is empty. ``other`` is a name for what cannot be continued; it never stays.

    Raises:
        BusyError: on entering, when another process holds it.
        OSError: on entering, when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.final = path
        self.path = _part(path)
        self.control = path.with_name(f".{path.name}.part.aria2")
        self.other = path.with_name(f".{path.name}.partial")
        self._descriptor = -1

    def __enter__(self) -> Part:
        while True:
            descriptor = self._open()
            held = os.fstat(descriptor)
            # the one who held it before may have removed it before we got the lock
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(held, os.lstat(self.path)):
                    self._descriptor = descriptor
                    self.other.unlink(missing_ok=True)
                    return self
            os.close(descriptor)

    def __exit__(self, *_: object) -> None:
        self.other.unlink(missing_ok=True)
        if self.size == 0:
            self.control.unlink(missing_ok=True)
            # it has its name by now, or there was nothing to keep
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _open(self) -> int:
        # what somebody else has put there is not written through
        with contextlib.suppress(FileNotFoundError):
            there = os.lstat(self.path)
            if not stat.S_ISREG(there.st_mode) or there.st_uid != os.geteuid() or there.st_nlink != 1:
                self.path.unlink()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            self._hold(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _hold(self, descriptor: int) -> None:
        # the aria2c of a run that was killed may need a moment to put its files in order, and holds the lock till then
        deadline = time.monotonic() + ENDING
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    return None  # a file system without locks
                if time.monotonic() > deadline:
                    raise BusyError(
                        f"{self.final}: another process is downloading it", "wait until it has ended, then run again"
                    ) from error
            time.sleep(0.05)

    @property
    def lock(self) -> int:
        """The open file that holds the lock."""
        return self._descriptor

    @property
    def size(self) -> int:
        """Its length in bytes; holes count."""
        try:
            return os.lstat(self.path).st_size
        except FileNotFoundError:
            return 0

    @property
    def written(self) -> int:
        """The bytes that it takes on its file system."""
        return os.fstat(self._descriptor).st_blocks * 512

    @property
    def has_holes(self) -> bool:
        """Whether aria2 left it unfinished."""
        return self.control.exists()

    def restart(self) -> None:
        """Forget what it holds."""
        os.ftruncate(self._descriptor, 0)
        self.control.unlink(missing_ok=True)

    def replace(self) -> None:
        """Take what was written under the other name instead."""
        self.restart()
        os.replace(self.other, self.path)

    def keep(self) -> None:
        """Give it its name, both durable."""
        rename_durably(self.path, self.final)
        self.control.unlink(missing_ok=True)
