"""Free space: asked for before a run, and promised to work under way, so that nobody counts on another one's bytes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from neurocommand import sizes
from neurocommand.errors import RefusedError
from neurocommand.files import free_space


def require(path: Path, need: int, free: Callable[[Path], int] = free_space) -> None:
    """See that the file system on which a directory is, or would be made, has so much left.

    Args:
        path: the directory.
        need: bytes.
        free: returns the free bytes of a path's file system.

    Raises:
        RefusedError: it has less.
    """
    has = free(next(place for place in (path, *path.parents) if os.path.exists(place)))
    if has < need:
        raise RefusedError(
            f"{path}: needs {sizes.shown(need)}, has {sizes.shown(has)}",
            "free some space, or set `spool` to a directory on another disk",
        )


class Space:
    """Bytes that are promised, by file system; may be used by several threads at once.

    Args:
        free: returns the free bytes of a path's file system.
    """

    def __init__(self, free: Callable[[Path], int] = free_space) -> None:
        self._free = free
        self._promised: Counter[int] = Counter()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, path: Path, need: int, what: str) -> Iterator[None]:
        """Keep so many bytes free for the block; wait for them as long as others of us are about to give theirs back.

        Bytes that the block has written already count twice until it ends, which errs on the safe side.

        Args:
            path: a directory of the file system that is written.
            need: bytes.
            what: what needs them, for the message.

        Raises:
            RefusedError: there are not so many, and nobody of us will give any back.
        """
        device = os.stat(path).st_dev
        with self._changed:
            while self._free(path) - self._promised[device] < need:
                if not self._promised[device]:
                    raise RefusedError(
                        f"{what}: needs {need} bytes, {path} has {self._free(path)} left",
                        "free some space, or choose another place",
                    )
                self._changed.wait()
            self._promised[device] += need
        try:
            yield
        finally:
            with self._changed:
                self._promised[device] -= need
                self._changed.notify_all()
