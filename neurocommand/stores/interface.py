"""The contract of every store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from neurocommand.errors import StoreError
from neurocommand.files import Readable
from neurocommand.model import Artifact, StoredObject

Advance = Callable[[int], None]

# A key is one file name that is safe as a path, in a URL and in every store; anything else in a store is foreign.
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,194}\.simg", re.ASCII)


def check_key(store: str, key: str) -> None:
    """Refuse what is no key, before it becomes part of a path or a URL.

    Raises:
        StoreError: the text is no key.
    """
    if not KEY.fullmatch(key):
        raise StoreError(f"store {store}: {key!r} is no key of an object", "use <application>_<version>_<date>.simg")


@dataclass(frozen=True, slots=True)
class Link:
    """An HTTP address from which any client may read an object, whole or by Range.

    Args:
        url: the address; it may hold a signature, so it is no text for messages.
        headers: (name, value) of what must be sent with each request; no text for messages either.
        expires_in: seconds from now until it is refused; None when it stays.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    expires_in: float | None = None


class Stream(Protocol):
    """An object as it comes; ``stated`` is what its store says of it."""

    @property
    def stated(self) -> StoredObject:
        """What the store said when the object was opened."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return what is there, at most ``size`` bytes; none once there are as many as were stated.

        Raises:
            StoreError: it broke off.
        """
        ...


class Content(Protocol):
    """What a store is to take, where it is no file; its text names it in messages."""

    def opened(self) -> AbstractContextManager[Readable]:
        """Begin with the first byte, also a second time; a read gives less than it was asked for only at the end.

        Raises:
            SourceError: it cannot be read, now or later on.
        """
        ...


class Store(Protocol):
    """A place that holds SIF objects under keys (``<release>.simg``).

    Promises, tested for every store on its real server by ``tests/conformance``:

    * Methods raise StoreError (TransientStoreError when asking again may help, StoreFullError when there is no space),
      ``put`` also ImmutableError. OSError means the caller's own file: not there, or its disk full.
    * An object is visible under its key only once it is complete; a killed or failed ``put`` leaves no object there,
      or the one that was there before, and a later ``put`` of any run removes what the killed one left.
    * ``put`` and ``delete`` are idempotent. ``put`` reads back what the server says it has and compares.
    * "Cannot tell" is a StoreError, never "absent".
    * A store that is not ``writable`` refuses ``put`` and ``delete``, one that is not ``listable`` refuses ``list``.
    * One instance may be used by several threads at once; nothing is asked of the server before the first call.
    """

    name: str
    writable: bool
    listable: bool
    lists_digests: bool  # whether list() states every digest that stat() states
    local: bool  # whether its objects are files of this machine

    def list(self) -> Iterator[StoredObject]:
        """Yield every object whose key is one (``KEY``), sorted; foreign keys are passed over.

        A listing may leave out the sha256 that ``stat`` states.

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

    def link(self, key: str) -> Link | None:
        """Return an address of an object; None means that only ``get`` reads it.

        Whether the object is there is not asked.

        Raises:
            StoreError: the store cannot make one now.
        """
        ...

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Store a local file, or what comes from elsewhere, whose bytes are the artifact's, in place of what was there.

        Where the server can tell, only in place of what was there when ``put`` began: when somebody else was first, the
        same artifact is success.

        Args:
            key: the object's key.
            source: the local file, or what is read in its place; in order, a few parts at a time.
            artifact: size and sha256 that it must have; checked while reading, before anything becomes visible.
            advance: called with the number of bytes sent so far.

        Raises:
            OtherBytesError: the source's bytes are not the artifact's, and nothing became visible.
            ImmutableError: somebody else put other bytes meanwhile.
            SourceError: the source could not be read to its end, and nothing became visible.
            StoreError: the store did not take it, or reads back something else.
        """
        ...

    def opened(self, key: str) -> AbstractContextManager[Stream]:
        """Read an object as it comes, until the block ends; nothing of it is kept on this machine.

        Raises:
            StoreError: the object is absent, or cannot be read.
        """
        ...

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Write an object's bytes to a local file and return their bare hex sha256 and size.

        The caller compares them with what he expects; ``path`` is a temporary name of his.

        Raises:
            StoreError: the object is absent, or its transfer ended before the stated size.
            OSError: ``path`` cannot be written.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is no error.

        Raises:
            StoreError: the store did not remove it, or cannot tell.
        """
        ...


@runtime_checkable
class Patient(Protocol):
    """A store that asks another one again when that may help; who has others to ask can ask that one directly."""

    inner: Store
