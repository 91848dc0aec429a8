"""One run at a time: a lock that the kernel gives up whatever happens to its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import time
from pathlib import Path
from types import TracebackType

from neurocommand.errors import BusyError, NeurocommandError, RefusedError, is_full, printable


class RunLock:
    """Hold a run lock as long as a ``with`` block runs, and as long as the process where the block ends unforeseen.

    The lock is flock(2) on the open file, which Linux keeps across machines on NFS as well. The file says who holds it
    (JSON: pid, host, since, command) and stays when the run ends: were it removed, two runs could lock two files of one
    name. Programs that the run starts do not inherit it.

    Args:
        path: the lock's file; its directory is made when it is not there.
        command: what the holder is doing, for the message that others get.

    Raises:
        BusyError: on entering, when another run holds it; names that run.
        NeurocommandError: on entering, when the file cannot be opened or locked; RefusedError where the disk is full.
    """

    def __init__(self, path: Path, command: str = "") -> None:
        self.path = path
        self.command = command
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._share(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._holder().encode(), 0)
        except OSError as error:
            busy = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
            failure = self._busy(descriptor) if busy else self._unusable(error)
            os.close(descriptor)
            raise failure from error
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an interrupt, or what nobody foresaw, threads may still be at work: the process holds it until it ends.
        if error is not None and not isinstance(error, NeurocommandError):
            return
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def _share(self, descriptor: int) -> None:
        """Let those who may write to the directory take the lock too, whatever the umask of the one who made it."""
        file, directory = os.fstat(descriptor), self.path.parent.stat()
        if file.st_uid != os.geteuid() or not directory.st_mode & 0o020 or not stat.S_ISREG(file.st_mode):
            return
        # what the system refuses here, as a group that is not ours, leaves the lock to this user
        with contextlib.suppress(OSError):
            if file.st_gid != directory.st_gid:
                os.fchown(descriptor, -1, directory.st_gid)
            if file.st_mode & 0o060 != 0o060:
                os.fchmod(descriptor, stat.S_IMODE(file.st_mode) | 0o060)

    def _holder(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime())
        fields = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": self.command}
        return json.dumps(fields) + "\n"

    def _busy(self, descriptor: int) -> BusyError:
        try:
            fields = json.loads(os.pread(descriptor, 4096, 0))
            # others can write this file: what it says is shown, but not obeyed by a terminal
            pid, host, since, command = (printable(str(fields[name])) for name in ("pid", "host", "since", "command"))
            holder = f"process {pid} on {host}{f' ({command})' if command else ''} since {since}"
        except (ValueError, KeyError, TypeError):
            # The holder has the lock but has not said yet who it is.
            holder = "another run"
        return BusyError(f"{self.path}: the run lock is held by {holder}", "wait until it has ended, then run again")

    def _unusable(self, error: OSError) -> NeurocommandError:
        kind = RefusedError if is_full(error) else NeurocommandError
        return kind(
            f"{self.path}: no run lock can be taken: {error.strerror}", "may this user write there, and has it space?"
        )
