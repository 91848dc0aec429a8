"""A store whose transfers keep to the bandwidth that all of a run share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from neurocommand.bandwidth import Bandwidth
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Advance, Content, Link, Store, Stream


class PacedStore:
    """Let a store's transfers wait wherever they report progress; questions are not counted.

    What an upload in parts has sent by then is counted afterwards: some parts may go at once, and then nothing for as
    long as they should have taken. What a broken upload is continued with counts from its beginning.

    Args:
        store: the store.
        bandwidth: shared by the run.
    """

    def __init__(self, store: Store, bandwidth: Bandwidth) -> None:
        self.name = store.name
        self.writable = store.writable
        self.listable = store.listable
        self.lists_digests = store.lists_digests
        self.local = store.local
        self._store = store
        self._bandwidth = bandwidth

    def list(self) -> Iterator[StoredObject]:
        """List the store."""
        return self._store.list()

    def stat(self, key: str) -> StoredObject | None:
        """Ask the store for an object."""
        return self._store.stat(key)

    def link(self, key: str) -> Link | None:
        """Ask the store for an address; who reads from there keeps to the bandwidth himself."""
        return self._store.link(key)

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Put to the store."""
        with self._bandwidth.used():
            self._store.put(key, source, artifact, self._bandwidth.paced(advance))

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Get from the store."""
        with self._bandwidth.used():
            return self._store.get(key, path, self._bandwidth.paced(advance))

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[Stream]:
        """Open an object of the store; what is read of it counts, beside what another store takes of it."""
        with self._bandwidth.used(), self._store.opened(key) as stream:
            yield _PacedStream(stream, self._bandwidth)

    def delete(self, key: str) -> None:
        """Delete from the store."""
        self._store.delete(key)

    def close(self) -> None:
        """Close the connections of the inner store."""
        self._store.close()


class _PacedStream:
    """An object as it comes, but no faster than it may."""

    def __init__(self, stream: Stream, bandwidth: Bandwidth) -> None:
        self.stated = stream.stated
        self._stream = stream
        self._bandwidth = bandwidth

    def read(self, size: int, /) -> bytes:
        """Return what is there."""
        chunk = self._stream.read(size)
        self._bandwidth.spend(len(chunk))
        return chunk
