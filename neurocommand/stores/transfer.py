"""What every transfer does, both ways: count the bytes, take their digest, compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import urllib3

from neurocommand.errors import OtherBytesError, StoreError, TransientStoreError
from neurocommand.files import Readable, copy_with_digest
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Advance, Content, Stream

_AT_ONCE = 1 << 16  # bytes

Guard = Callable[[], AbstractContextManager[None]]


class Arriving:
    """A body that is handed on as it arrives: a slow server does not keep the caller from looking up in between."""

    def __init__(self, body: urllib3.HTTPResponse) -> None:
        self.body = body

    def read(self, size: int, /) -> bytes:
        """Return what is there already, at least a byte and at most ``size`` of them; none at the end."""
        return self.body.read1(min(size, _AT_ONCE))


class ObjectStream:
    """An object as it comes; its faults are errors of the store, so that they differ from those of who takes it.

    Args:
        store: the store's name in messages.
        source: the stream of the store's library.
        stated: what the store says it sends.
        guard: makes a context that turns the library's exceptions into StoreError.
    """

    def __init__(self, store: str, source: Readable, stated: StoredObject, guard: Guard) -> None:
        self.store = store
        self.source = source
        self.stated = stated
        self.guard = guard
        self.done = 0

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end.

        Raises:
            TransientStoreError: it ended early, or goes on beyond the stated size.
        """
        with self.guard():
            chunk = self.source.read(size)
        self.done += len(chunk)
        if self.done > self.stated.size or (not chunk and self.done < self.stated.size):
            raise TransientStoreError(
                f"store {self.store}: {self.stated.key} ended after {self.done} bytes, {self.stated.size} were stated"
            )
        return chunk


class VerifiedReader:
    """A source that is read in order, takes the digest of it, and refuses to end when it is not the artifact.

    An upload that is completed only after its source ended never makes other bytes visible.

    Args:
        source: the open source.
        name: what it is, for messages.
        artifact: what it must hold.
    """

    def __init__(self, source: Readable, name: object, artifact: Artifact) -> None:
        self.source = source
        self.name = name
        self.artifact = artifact
        self.digest = hashlib.sha256()
        self.done = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes.

        Raises:
            OtherBytesError: at the end, when what was read is not the artifact.
        """
        chunk = self.source.read(size)
        self.digest.update(chunk)
        self.done += len(chunk)
        if not chunk or self.done > self.artifact.size:
            check_sent(self.name, self.artifact, self.digest.hexdigest(), self.done)
        return chunk


def reading(source: Path | Content) -> AbstractContextManager[Readable]:
    """Open what a store is to take.

    Raises:
        OSError: it is a file that cannot be read.
        SourceError: it comes from elsewhere, and cannot be read.
    """
    return open(source, "rb") if isinstance(source, Path) else source.opened()


def receive(stream: Stream, path: Path, advance: Advance) -> tuple[str, int]:
    """Write a stream to a file and return its bare hex sha256 and size.

    Args:
        stream: what the store sends.
        path: written from its beginning.
        advance: called with the number of bytes received so far.

    Raises:
        StoreError: the stream broke off.
        OSError: ``path`` cannot be written.
    """
    with open(path, "wb") as target:
        return copy_with_digest(stream, target, advance)


def check_sent(name: object, artifact: Artifact, sha256: str, size: int) -> None:
    """Compare what was read from a source with the artifact.

    Raises:
        OtherBytesError: the bytes are others.
    """
    if (sha256, size) != (artifact.sha256, artifact.size):
        raise OtherBytesError(
            f"{name}: sha256 {sha256}, {size} bytes; the lock has sha256 {artifact.sha256}, {artifact.size} bytes",
            "a release id never changes its bytes: remove this file, or give the new image a new build date",
            sha256=sha256,
            size=size,
        )


def check_kept(store: str, key: str, artifact: Artifact, seen: StoredObject | None) -> None:
    """Compare what a store says after a ``put`` with what was sent.

    Raises:
        StoreError: it states something else, or nothing.
    """
    if seen is None:
        raise StoreError(f"store {store}: took {key} but does not hold it now")
    if not seen.agrees(artifact):
        raise StoreError(
            f"store {store}: after writing, {key} reads back as {seen.size} bytes, "
            f"sha256 {seen.sha256 or 'not stated'}; "
            f"sent were {artifact.size} bytes, sha256 {artifact.sha256}",
            "the object is damaged there: run again, and look at the store if it stays so",
        )
