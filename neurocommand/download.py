"""One release's SIF from the first source that gives the right bytes, verified before it has its name."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from neurocommand.errors import DownloadError, ImmutableError, NeurocommandError, RefusedError, StoreError
from neurocommand.events import Advanced, Finished, Listener, Noted, Started
from neurocommand.files import free_space
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Store

STAGE = "download"


@dataclass(frozen=True)
class Fetched:
    """What was downloaded: its bare hex sha256, its size in bytes, and the name of the store that gave it."""

    sha256: str
    size: int
    source: str


def fetch(
    key: str, path: Path, sources: Sequence[Store], artifact: Artifact | None, listener: Listener, release_id: str
) -> Fetched:
    """Download one object; a source that gives none or other bytes is dropped and named, and the next one is asked.

    An object that the lock does not know (``artifact`` is None) is held against its stated length, and against the
    bytes of a second source where one holds it.

    Args:
        key: the object's key in every source.
        path: the file to make; its directory must exist. Nothing is there until every check is passed.
        sources: in the order in which they are asked.
        artifact: the locked size and sha256, or None.
        listener: told about progress (stage ``download``) and dropped sources.
        release_id: the release, in events.

    Raises:
        ImmutableError: every source that answered holds other bytes than the locked ones; or, unlocked, two differ.
        DownloadError: no source gave the object, or ``path`` cannot be written; every reason is named.
        RefusedError: there is no space for it.
    """
    download = _Download(key, path.with_name(f".{path.name}.partial"), listener, release_id)
    began = time.monotonic()
    download.partial.unlink(missing_ok=True)
    try:
        fetched = download.unlocked(sources) if artifact is None else download.locked(sources, artifact)
        _make_durable(download.partial)
        os.replace(download.partial, path)
    except OSError as error:
        raise _local_failure(path, error) from error
    finally:
        download.partial.unlink(missing_ok=True)
    listener(Finished(release_id, STAGE, time.monotonic() - began, fetched.size))
    return fetched


class _StoppedError(Exception):
    """The comparison with a second source is no longer needed."""


class _Download:
    """One download under way: where it is written, and what is known of the sources so far."""

    def __init__(self, key: str, partial: Path, listener: Listener, release_id: str) -> None:
        self.key = key
        self.partial = partial
        self.listener = listener
        self.release_id = release_id
        self.unanswered: list[str] = []
        self.differing: list[str] = []
        self.dropped: set[str] = set()
        self.started = False

    def locked(self, sources: Sequence[Store], artifact: Artifact) -> Fetched:
        """Get the locked bytes."""
        for source in sources:
            stated = self._stat(source)
            if stated is None:
                continue
            if not stated.agrees(artifact):
                self._differs(source, stated.sha256, stated.size, artifact)
                continue
            self._start(artifact.size)
            got = self._get(source)
            if got == (artifact.sha256, artifact.size):
                return Fetched(*got, source.name)
            if got is not None:
                self._differs(source, *got, artifact)
        raise self._failure()

    def unlocked(self, sources: Sequence[Store]) -> Fetched:
        """Get what a source holds; a second one that holds the object must hold the same."""
        holders = [(source, stated) for source in sources if (stated := self._stat(source)) is not None]
        while holders:
            (source, stated), *holders = holders
            if source.name in self.dropped:
                continue
            self._start(stated.size)
            got, second = self._get_and_compare(source, [other for other, _ in holders])
            if got is None:
                continue
            if not stated.agrees(Artifact(*got)):
                self._drop(source, f"states {_shown(stated.sha256, stated.size)} but sent {_shown(*got)}")
                continue
            self._note_unlocked(Fetched(*got, source.name), second)
            return Fetched(*got, source.name)
        raise self._failure()

    def _note_unlocked(self, first: Fetched, second: Fetched | None) -> None:
        """Say how well an unlocked object is known; refuse it when two sources differ."""
        if second is None:
            compared = "no other source to compare it with"
        elif (first.sha256, first.size) == (second.sha256, second.size):
            compared = f"{second.source} holds the same bytes"
        else:
            raise ImmutableError(
                f"{self.release_id} is not locked, and its sources differ: {first.source} gave "
                f"{_shown(first.sha256, first.size)}, {second.source} {_shown(second.sha256, second.size)}",
                "find out which one is right, and lock it",
            )
        self.listener(Noted(self.release_id, f"unlocked: taken from {first.source}; {compared}"))

    def _get_and_compare(self, source: Store, others: Sequence[Store]) -> tuple[tuple[str, int] | None, Fetched | None]:
        """Get from a source, and at the same time read the first other one that gives its bytes."""
        stop, dropped = threading.Event(), list[tuple[Store, str]]()

        def go_on(done: int) -> None:
            if stop.is_set():
                raise _StoppedError

        def read_another() -> Fetched | None:
            for other in others:
                try:
                    return Fetched(*other.get(self.key, Path(os.devnull), go_on), other.name)
                except StoreError as error:
                    dropped.append((other, error.message))
                except _StoppedError:
                    break
            return None

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_another)
            try:
                got = self._get(source)
                if got is None:
                    stop.set()
                second = reading.result()
            finally:
                stop.set()
        for other, reason in dropped:
            self._drop(other, reason)
        return got, second

    def _stat(self, source: Store) -> StoredObject | None:
        try:
            stated = source.stat(self.key)
        except StoreError as error:
            self._drop(source, error.message)
            return None
        if stated is None:
            self._drop(source, "does not hold it", quietly=source.writable)
        return stated

    def _get(self, source: Store) -> tuple[str, int] | None:
        try:
            return source.get(
                self.key, self.partial, lambda done: self.listener(Advanced(self.release_id, STAGE, done))
            )
        except StoreError as error:
            self._drop(source, error.message)
            return None

    def _start(self, size: int) -> None:
        if self.started:
            return
        self.started = True
        free = free_space(self.partial.parent)
        if free < size:
            raise RefusedError(
                f"{self.release_id}: needs {_megabytes(size)}, {self.partial.parent} has {_megabytes(free)} left",
                "free some space, or choose another place",
            )
        self.listener(Started(self.release_id, STAGE, size))

    def _differs(self, source: Store, sha256: str | None, size: int, artifact: Artifact) -> None:
        reason = f"has {_shown(sha256, size)}; the lock has {_shown(artifact.sha256, artifact.size)}"
        self.differing.append(f"{source.name} {reason}")
        self.listener(Noted(source.name, f"dropped for {self.release_id}: {reason}"))

    def _drop(self, source: Store, reason: str, *, quietly: bool = False) -> None:
        """Ask a source no more; quietly where nothing is wrong with it, as a store of our own that never had it."""
        self.dropped.add(source.name)
        self.unanswered.append(f"{source.name}: {reason.removeprefix(f'store {source.name}: ')}")
        if not quietly:
            self.listener(Noted(source.name, f"dropped for {self.release_id}: {reason}"))

    def _failure(self) -> NeurocommandError:
        if self.differing:
            asked = "; ".join(self.differing + self.unanswered)
            return ImmutableError(
                f"{self.release_id}: no source has the locked bytes: {asked}",
                "a release id never changes its bytes: mend the stores, or build under a new date",
            )
        return DownloadError(
            f"{self.release_id}: no source gave it: {'; '.join(self.unanswered) or 'none is configured'}",
            "run it again later, or add a store that holds it",
        )


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _local_failure(path: Path, error: OSError) -> NeurocommandError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RefusedError(f"{path}: {error.strerror}", "free some space, or choose another place")
    return DownloadError(f"{path}: cannot be written: {error.strerror or error}")


def _shown(sha256: str | None, size: int) -> str:
    return f"{size} bytes, sha256 {sha256 or 'not stated'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
