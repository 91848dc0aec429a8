"""The digest of a file, taken while the file grows, so that nobody waits for it at the end."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from neurocommand.files import CHUNK

_FLUSHED = 64 << 20  # bytes after which they are sent to the disk, so that the end has little left to wait for


class Following:
    """Read the beginning of a file behind the one who writes it, in a thread, as long as a ``with`` block runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._done = 0
        self._ready = 0
        self._ending = False
        self._fault: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"digest of {path.name}", daemon=True)

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ending = True
            self._ready = 0
            self._changed.notify()
        self._thread.join()

    def grown(self, ready: int) -> None:
        """Say how many bytes from the beginning on will not change any more."""
        with self._changed:
            self._ready = max(self._ready, ready)
            self._changed.notify()

    def finish(self) -> tuple[str, int]:
        """Return the bare hex sha256 and the size of the whole file.

        Raises:
            OSError: the file cannot be read.
        """
        with self._changed:
            self._ready = self.path.stat().st_size
            self._ending = True
            self._changed.notify()
        self._thread.join()
        if self._fault is not None:
            raise self._fault
        return self._digest.hexdigest(), self._done

    def _run(self) -> None:
        try:
            with open(self.path, "rb", buffering=0) as stream:
                self._follow(stream.fileno())
        except BaseException as error:
            self._fault = error

    def _follow(self, descriptor: int) -> None:
        flushed = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready > self._done or self._ending)
                left = self._ready - self._done
            if left <= 0:
                return
            chunk = os.pread(descriptor, min(left, CHUNK), self._done)
            if not chunk:
                return
            self._digest.update(chunk)
            self._done += len(chunk)
            if self._done - flushed >= _FLUSHED:
                os.fdatasync(descriptor)
                flushed = self._done
