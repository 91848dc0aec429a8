"""Where an unfinished upload goes on: a file that outlives a killed run, since no registry lists its uploads."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Unfinished:
    """An upload that was not ended: the address where it goes on, and the bare hex sha256 of what is sent."""

    location: str
    sha256: str


class Note:
    """A note that one run at a time may hold; the address in it is for its owner's eyes only.

    Args:
        stream: the open file; None remembers nothing.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self.stream = stream

    def read(self) -> Unfinished | None:
        """Return what is remembered; None when that is nothing, or was being written when the machine stopped."""
        if self.stream is None:
            return None
        self.stream.seek(0)
        try:
            fields = json.loads(self.stream.read())
            return Unfinished(str(fields["location"]), str(fields["sha256"]))
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, unfinished: Unfinished | None) -> None:
        """Remember an upload, or that there is none."""
        if self.stream is None:
            return
        self.stream.seek(0)
        self.stream.truncate()
        if unfinished is not None:
            text = json.dumps({"location": unfinished.location, "sha256": unfinished.sha256})
            self.stream.write(text.encode())
        self.stream.flush()


@contextlib.contextmanager
def held(path: Path | None) -> Iterator[Note]:
    """Hold a note for the time of an upload; one that another run holds, or that cannot be written, remembers nothing.

    Args:
        path: the note; it vanishes at the end when there is nothing to remember. None for a note that forgets.
    """
    stream = _opened(path) if path is not None else None
    if stream is None or path is None:
        yield Note()
        return
    with stream:
        note = Note(stream)
        try:
            yield note
        finally:
            if note.read() is None:
                path.unlink(missing_ok=True)


def _opened(path: Path) -> BinaryIO | None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have ended, and removed the file, before it was locked.
            if os.fstat(stream.fileno()).st_nlink:
                return stream
        except OSError:
            stream.close()
            raise
        stream.close()
    return None
