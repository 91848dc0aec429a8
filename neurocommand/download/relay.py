"""One release's SIF from store to store, without a file in between."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from neurocommand.download.verdicts import Fetched, Verdicts, shown
from neurocommand.errors import OtherBytesError, SourceError, StoreError
from neurocommand.events import Finished, Listener
from neurocommand.files import CHUNK, Readable
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Store, Stream


def relay(
    key: str, sources: Sequence[Store], target: Store, artifact: Artifact, listener: Listener, release_id: str
) -> Fetched:
    """Copy one locked object; a source that breaks off or has other bytes is dropped and named, and the next one read.

    Sources of this machine are read before the others; else their order counts. What a source that broke off has sent
    is not gone on with from another one: nobody knows yet whether it was right.

    Args:
        key: the object's key everywhere.
        sources: in the order of the configuration.
        target: the store that takes it; nothing is visible there until all bytes were seen to be the locked ones.
        artifact: the locked size and sha256.
        listener: told about progress (stage ``copy to <store>``) and dropped sources.
        release_id: the release, in events.

    Raises:
        ImmutableError: every source that answered holds other bytes; or the target got other bytes meanwhile.
        DownloadError: no source gave the object; every reason is named.
        StoreError: the target did not take it.
    """
    began, stage = time.monotonic(), f"copy to {target.name}"
    verdicts = Verdicts(listener, release_id, stage)
    verdicts.start(artifact.size)
    for store in sorted(sources, key=lambda source: not source.local):
        try:
            target.put(key, _Relayed(store, key, artifact), artifact, verdicts.advance)
        except SourceError as error:
            verdicts.drop(store.name, error.message)
        except OtherBytesError as error:
            verdicts.differs(store.name, shown(error.sha256, error.size), artifact)
        else:
            listener(Finished(release_id, stage, time.monotonic() - began, artifact.size))
            return Fetched(artifact.sha256, artifact.size, store.name)
    raise verdicts.failure()


class _Relayed:
    """An object of a store as what another one is to take; the faults of the two can be told apart."""

    def __init__(self, store: Store, key: str, artifact: Artifact) -> None:
        self.store = store
        self.key = key
        self.artifact = artifact

    def __str__(self) -> str:
        return f"{self.key} of store {self.store.name}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[Readable]:
        """Open the object; one that states other bytes is not read at all."""
        with contextlib.ExitStack() as stack:
            with _as_source():
                stream = stack.enter_context(self.store.opened(self.key))
            self._check(stream.stated)
            yield _Filled(stream)

    def _check(self, stated: StoredObject) -> None:
        if not stated.agrees(self.artifact):
            raise OtherBytesError(
                f"{self}: has {shown(stated.sha256, stated.size)}; "
                f"the lock has {shown(self.artifact.sha256, self.artifact.size)}",
                sha256=stated.sha256,
                size=stated.size,
            )


class _Filled:
    """A stream that gives less than it was asked for only at its end, as a file does."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def read(self, size: int, /) -> bytes:
        """Return ``size`` bytes, fewer only at the end."""
        chunks: list[bytes] = []
        with _as_source():
            while size and (chunk := self.stream.read(min(size, CHUNK))):
                chunks.append(chunk)
                size -= len(chunk)
        return b"".join(chunks)


@contextlib.contextmanager
def _as_source() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise SourceError(error.message, error.hint) from error
