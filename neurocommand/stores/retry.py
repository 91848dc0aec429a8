"""A store that asks another one again when that may help."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tenacity
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from neurocommand.errors import StoreError, TransientStoreError
from neurocommand.files import CHUNK
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Advance, Content, Link, Store, Stream

# A server that asks for a longer wait than this many seconds is given up for this run.
LONGEST_WAIT = 60.0


class RetryingStore:
    """Repeat what failed with TransientStoreError, with waits that grow and differ from run to run.

    Nothing else is repeated: an absent object, other bytes, a full store and a refusal stay what they are.

    Args:
        inner: the store that is asked.
        attempts: how often at most.
        wait: how long in between (tenacity's own notion); a server's Retry-After lengthens it.
        patience: seconds after which a question (not a transfer) is not repeated any more: a server that swallows
            requests would hold up every one of them.
    """

    def __init__(
        self, inner: Store, attempts: int = 4, *, wait: wait_base | None = None, patience: float = 15.0
    ) -> None:
        self.inner = inner
        self.name = inner.name
        self.writable = inner.writable
        self.listable = inner.listable
        self.lists_digests = inner.lists_digests
        self.local = inner.local
        self._backoff = wait or tenacity.wait_random_exponential(multiplier=0.5, max=20)
        self._transfers = self._retrying(tenacity.stop_after_attempt(attempts))
        self._questions = self._retrying(
            tenacity.stop_any(tenacity.stop_after_attempt(attempts), tenacity.stop_after_delay(patience))
        )

    def list(self) -> Iterator[StoredObject]:
        """List the inner store; a listing that breaks off is begun again, so nothing is yielded twice."""
        yield from self._questions(lambda: [*self.inner.list()])

    def stat(self, key: str) -> StoredObject | None:
        """Ask the inner store for an object."""
        return self._questions(lambda: self.inner.stat(key))

    def link(self, key: str) -> Link | None:
        """Ask the inner store for an address."""
        return self._questions(lambda: self.inner.link(key))

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Put to the inner store; a second attempt sends everything again, but what the store itself goes on with."""
        self._transfers(lambda: self.inner.put(key, source, artifact, advance))

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Get from the inner store; a second attempt begins the file again."""
        return self._transfers(lambda: self.inner.get(key, path, advance))

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[Stream]:
        """Open an object of the inner store; where it breaks off it is opened again, and gone on with."""
        stream = _Persistent(self.inner, key, self._transfers)
        try:
            yield stream
        finally:
            stream.close()

    def delete(self, key: str) -> None:
        """Delete from the inner store."""
        self._questions(lambda: self.inner.delete(key))

    def _retrying(self, stop: stop_base) -> tenacity.Retrying:
        return tenacity.Retrying(stop=stop, wait=self._wait, retry=tenacity.retry_if_exception(_may_help), reraise=True)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientStoreError) else None
        return max(asked or 0.0, self._backoff(state))


class _Persistent:
    """An object that is read to its end although it breaks off: what was read before is then passed over.

    It is given up when as many attempts in a row gave not a byte more.
    """

    def __init__(self, store: Store, key: str, retrying: tenacity.Retrying) -> None:
        self.store = store
        self.key = key
        self.done = 0
        self._retrying = retrying
        self._closing = contextlib.ExitStack()
        self._stream: Stream | None = None
        self.stated = retrying(self._opened).stated

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        return self._retrying(lambda: self._read(size))

    def close(self) -> None:
        """Leave what is open."""
        self._stream = None
        self._closing.close()

    def _read(self, size: int) -> bytes:
        stream = self._stream or self._again()
        try:
            chunk = stream.read(size)
        except BaseException:
            self.close()
            raise
        self.done += len(chunk)
        return chunk

    def _opened(self) -> Stream:
        self._stream = self._closing.enter_context(self.store.opened(self.key))
        return self._stream

    def _again(self) -> Stream:
        stream, left = self._opened(), self.done
        try:
            if stream.stated.size != self.stated.size:
                raise StoreError(f"store {self.store.name}: {self.key} was changed while it was read")
            while left:
                left -= len(stream.read(min(CHUNK, left)))
        except BaseException:
            self.close()
            raise
        return stream


def _may_help(error: BaseException) -> bool:
    return isinstance(error, TransientStoreError) and (error.retry_after or 0.0) <= LONGEST_WAIT
