"""A store whose transfers keep to the bandwidth that all of a run share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neurocommand.bandwidth import Bandwidth
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Advance, Link, Store


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

    def put(self, key: str, path: Path, artifact: Artifact, advance: Advance) -> None:
        """Put to the store."""
        with self._bandwidth.used():
            self._store.put(key, path, artifact, self._bandwidth.paced(advance))

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Get from the store."""
        with self._bandwidth.used():
            return self._store.get(key, path, self._bandwidth.paced(advance))

    def delete(self, key: str) -> None:
        """Delete from the store."""
        self._store.delete(key)
