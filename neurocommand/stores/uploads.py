"""Records of unfinished uploads: what another run needs to go on where a killed one stopped."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Purpose:
    """What an upload is for; another run may go on with it only if all of this is still the same.

    Args:
        place: the server and the bucket.
        name: the object's name there.
        sha256: bare hex digest of the artifact.
        size: of the artifact, in bytes.
        part_size: in bytes.
    """

    place: str
    name: str
    sha256: str
    size: int
    part_size: int


@dataclass(frozen=True)
class Part:
    """A part that the server took: its number from 1, its entity tag, and the bare hex sha256 of its bytes."""

    number: int
    etag: str
    sha256: str


class Record:
    """One unfinished upload in a file of lines of JSON: purpose and id first, then each part as the server takes it.

    Threads may add parts at the same time.
    The file is not waited for to be on disk, and that it cannot be written fails no upload: what is not remembered is
    sent again.

    Args:
        stream: the open file, without a buffer, in which all is appended; None remembers nothing beyond this process.
    """

    def __init__(self, stream: io.FileIO | None) -> None:
        self._stream = stream

    @property
    def lasts(self) -> bool:
        """Whether another run will find what is remembered."""
        return self._stream is not None

    def read(self) -> tuple[Purpose, str, tuple[Part, ...]] | None:
        """Return purpose, upload id and parts; None when nothing is remembered that can be understood."""
        if self._stream is None:
            return None
        try:
            self._stream.seek(0)
            first, *others = self._stream.readall().splitlines() or [b""]
            fields = json.loads(first)
            return Purpose(**fields["purpose"]), str(fields["upload"]), tuple(_parts(others))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, purpose: Purpose, upload: str) -> None:
        """Remember a new upload in place of another."""
        self.clear()
        self._append({"purpose": asdict(purpose), "upload": upload})

    def add(self, part: Part) -> None:
        """Remember a part that the server took."""
        self._append(asdict(part))

    def clear(self) -> None:
        """Forget the upload."""
        if self._stream is not None:
            self._stream.truncate(0)

    def _append(self, fields: dict[str, object]) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.write(json.dumps(fields).encode() + b"\n")


def _parts(lines: list[bytes]) -> Iterator[Part]:
    """Yield the parts in some lines; a full disk may leave half a line."""
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            yield Part(**json.loads(line))


@contextlib.contextmanager
def record(directory: Path | None, filename: str) -> Iterator[Record]:
    """Open the record of an upload, held against others; one that remembers nothing where that cannot be.

    Args:
        directory: where records are kept; made when it is missing. None: nowhere.
        filename: the record's own.
    """
    stream = None if directory is None else _held(directory / filename)
    if directory is None or stream is None:
        yield Record(None)
        return
    with stream:
        try:
            yield Record(stream)
        finally:
            if not os.fstat(stream.fileno()).st_size:
                (directory / filename).unlink(missing_ok=True)


_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def _held(path: Path) -> io.FileIO | None:
    """Open and lock a file; None when another upload holds it, or when it cannot be written."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, _FLAGS, 0o600)
            stream = stack.enter_context(io.FileIO(descriptor, "r+b"))
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one that held it before may have removed it meanwhile.
            if os.fstat(descriptor).st_nlink:
                stack.pop_all()
                return stream
    return None
