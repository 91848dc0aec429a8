"""What every transfer does, both ways: count the bytes, take their digest, compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import urllib3

from neurocommand.errors import ImmutableError, StoreError, TransientStoreError
from neurocommand.files import Readable, copy_with_digest
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Advance

_AT_ONCE = 1 << 16  # bytes

Guard = Callable[[], AbstractContextManager[None]]


class Arriving:
    """A body that is handed on as it arrives: a slow server does not keep the caller from looking up in between."""

    def __init__(self, body: urllib3.HTTPResponse) -> None:
        self.body = body

    def read(self, size: int, /) -> bytes:
        """Return what is there already, at least a byte and at most ``size`` of them; none at the end."""
        return self.body.read1(min(size, _AT_ONCE))


class GuardedReader:
    """A stream whose faults become errors of the store, so that they differ from those of the file being written.

    Args:
        store: the store's name in messages.
        source: the stream of the store's library.
        guard: makes a context that turns the library's exceptions into StoreError.
    """

    def __init__(self, store: str, source: Readable, guard: Guard) -> None:
        self.store = store
        self.source = source
        self.guard = guard

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        with self.guard():
            return self.source.read(size)


class VerifiedReader:
    """A file that takes the digest of what is read from it in order, and refuses to end when it is not the artifact's.

    An upload that is completed only after its source ended never makes other bytes visible.

    Args:
        source: the open file.
        path: its name, for messages.
        artifact: what it must hold.
    """

    def __init__(self, source: BinaryIO, path: Path, artifact: Artifact) -> None:
        self.source = source
        self.path = path
        self.artifact = artifact
        self.digest = hashlib.sha256()
        self.done = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes.

        Raises:
            ImmutableError: at the end, when what was read is not the artifact.
        """
        chunk = self.source.read(size)
        self.digest.update(chunk)
        self.done += len(chunk)
        if not chunk or self.done > self.artifact.size:
            check_sent(self.path, self.artifact, self.digest.hexdigest(), self.done)
        return chunk


def receive(source: GuardedReader, path: Path, stated: StoredObject, advance: Advance) -> tuple[str, int]:
    """Write a stream to a file and return its bare hex sha256 and size.

    Args:
        source: what the store sends.
        path: written from its beginning.
        stated: what the store says it sends.
        advance: called with the number of bytes received so far.

    Raises:
        TransientStoreError: the stream ended early, or goes on beyond the stated size.
        OSError: ``path`` cannot be written.
    """
    with open(path, "wb") as target:
        sha256, done = copy_with_digest(source, target, advance)
    if done != stated.size:
        raise TransientStoreError(
            f"store {source.store}: {stated.key} ended after {done} bytes, {stated.size} were stated"
        )
    return sha256, done


def check_sent(path: Path, artifact: Artifact, sha256: str, size: int) -> None:
    """Compare what was read from the caller's file with the artifact.

    Raises:
        ImmutableError: the bytes are others.
    """
    if (sha256, size) != (artifact.sha256, artifact.size):
        raise ImmutableError(
            f"{path}: sha256 {sha256}, {size} bytes; the lock has sha256 {artifact.sha256}, {artifact.size} bytes",
            "a release id never changes its bytes: remove this file, or give the new image a new build date",
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
