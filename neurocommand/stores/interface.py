"""The contract of every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from neurocommand.model import Artifact, StoredObject

Advance = Callable[[int], None]


class Store(Protocol):
    """A place that holds SIF objects under keys (``<release>.simg``).

    Promises, tested for every store on its real server by ``tests/conformance``:

    * Methods raise StoreError only (StoreFullError when there is no space); a missing file of the caller's is his bug.
    * An object is visible under its key only once it is complete; a killed or failed ``put`` leaves no object there,
      or the one that was there before.
    * ``put`` and ``delete`` are idempotent. ``put`` reads back what the server says it has and compares.
    * "Cannot tell" is a StoreError, never "absent".
    """

    name: str
    writable: bool
    listable: bool

    def list(self) -> Iterator[StoredObject]:
        """Yield every SIF object (key ending in ``.simg``, at the top level); foreign keys are passed over.

        Raises:
            StoreError: the store cannot be listed, or not to its end.
        """
        ...

    def stat(self, key: str) -> StoredObject | None:
        """Return what the store says about an object; None means that it is certainly absent.

        Raises:
            StoreError: the store cannot tell.
        """
        ...

    def put(self, key: str, path: Path, artifact: Artifact, advance: Advance) -> None:
        """Store a local file whose bytes are the artifact's, in place of what was under the key.

        Args:
            key: the object's key.
            path: the local file.
            artifact: size and sha256 that the file must have; checked while reading, before anything becomes visible.
            advance: called with the number of bytes sent so far.

        Raises:
            ImmutableError: the file's bytes are not the artifact's; nothing became visible.
            StoreError: the store did not take it, or reads back something else.
        """
        ...

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Write an object's bytes to a local file and return their bare hex sha256 and size.

        The caller compares them with what he expects; ``path`` is a temporary name of his.

        Raises:
            StoreError: the object is absent, or its transfer ended before the stated size.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is no error.

        Raises:
            StoreError: the store did not remove it, or cannot tell.
        """
        ...
