"""One release's SIF from the first source that gives the right bytes, verified before it has its name."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocommand.errors import (
    NO_SPACE,
    DownloadError,
    ImmutableError,
    NeurocommandError,
    RefusedError,
    StoreError,
    is_full,
)
from neurocommand.events import Advanced, Finished, Listener, Noted, Started
from neurocommand.files import free_space, make_durable
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
    key: str,
    path: Path,
    sources: Sequence[Store],
    artifact: Artifact | None,
    listener: Listener,
    release_id: str,
    *,
    patience: float = 60.0,
) -> Fetched:
    """Download one object; a source that gives none or other bytes is dropped and named, and the next one is asked.

    An object that the lock does not know (``artifact`` is None) is held against its stated length, and against the
    bytes of a second source where one holds it and sends it in good time.

    Args:
        key: the object's key in every source.
        path: the file to make; its directory must exist. Nothing is there until every check is passed.
        sources: in the order in which they are asked.
        artifact: the locked size and sha256, or None.
        listener: told about progress (stage ``download``) and dropped sources.
        release_id: the release, in events.
        patience: seconds that the second source has in any case; it has three times as long as the first one took.

    Raises:
        ImmutableError: every source that answered holds other bytes than the locked ones; or, unlocked, two differ.
        DownloadError: no source gave the object, or ``path`` cannot be written; every reason is named.
        RefusedError: there is no space for it.
    """
    download = _Download(key, path.with_name(f".{path.name}.partial"), listener, release_id, patience)
    began = time.monotonic()
    download.partial.unlink(missing_ok=True)
    try:
        fetched = download.unlocked(sources) if artifact is None else download.locked(sources, artifact)
        make_durable(download.partial)
        os.replace(download.partial, path)
    except OSError as error:
        raise _local_failure(path, error) from error
    finally:
        download.partial.unlink(missing_ok=True)
    listener(Finished(release_id, STAGE, time.monotonic() - began, fetched.size))
    return fetched


class _StoppedError(Exception):
    """The comparison with a second source is no longer needed."""


class _Comparison:
    """Reads an object from the first of some sources that gives it, in a thread, as long as a ``with`` block runs.

    Nobody waits for that thread once the block ends: it looks up whenever bytes arrive, and a source that sends none
    keeps it, and nothing else, until the source's own time limit.
    """

    def __init__(self, key: str, sources: Sequence[Store]) -> None:
        self.key = key
        self.sources = sources
        self.dropped: list[tuple[Store, str]] = []
        self._asked = ""
        self._found: Fetched | None = None
        self._fault: BaseException | None = None
        self._ended, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"compare {key}", daemon=True)

    def __enter__(self) -> _Comparison:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def wait(self, seconds: float) -> Fetched | str:
        """Return what a source gave; or, when none did or not within so many seconds, a text that says so."""
        if not self._ended.wait(seconds):
            return f"it could not be compared in time, since {self._asked} is slow"
        if self._fault is not None:
            raise self._fault
        return self._found or "no other source to compare it with"

    def _read(self) -> None:
        try:
            self._found = self._first()
        except BaseException as error:
            self._fault = error
        self._ended.set()

    def _first(self) -> Fetched | None:
        for source in self.sources:
            self._asked = source.name
            try:
                return Fetched(*source.get(self.key, Path(os.devnull), self._look_up), source.name)
            except StoreError as error:
                if self._stopped.is_set():
                    break
                self.dropped.append((source, error.message))
            except _StoppedError:
                break
        return None

    def _look_up(self, done: int) -> None:
        if self._stopped.is_set():
            raise _StoppedError


class _Download:
    """One download under way: where it is written, and what is known of the sources so far."""

    def __init__(self, key: str, partial: Path, listener: Listener, release_id: str, patience: float) -> None:
        self.patience = patience
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

    def _note_unlocked(self, first: Fetched, second: str | Fetched) -> None:
        """Say how well an unlocked object is known; refuse it when two sources differ."""
        if isinstance(second, str):
            compared = second
        elif (first.sha256, first.size) == (second.sha256, second.size):
            compared = f"{second.source} holds the same bytes"
        else:
            raise ImmutableError(
                f"{self.release_id} is not locked, and its sources differ: {first.source} gave "
                f"{_shown(first.sha256, first.size)}, {second.source} {_shown(second.sha256, second.size)}",
                "find out which one is right, and lock it",
            )
        self.listener(Noted(self.release_id, f"unlocked: taken from {first.source}; {compared}"))

    def _get_and_compare(self, source: Store, others: Sequence[Store]) -> tuple[tuple[str, int] | None, str | Fetched]:
        """Get from a source, and at the same time read the first other one that gives its bytes.

        Returns:
            What the source gave; and what the other one gave, or why there is nothing to compare with.
        """
        began = time.monotonic()
        with _Comparison(self.key, others) as comparison:
            got = self._get(source)
            if got is None:
                return None, ""
            took = time.monotonic() - began
            second = comparison.wait(max(self.patience, 3 * took) - took)
        for other, reason in comparison.dropped:
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


def _local_failure(path: Path, error: OSError) -> NeurocommandError:
    if is_full(error):
        return RefusedError(f"{path}: {error.strerror}", NO_SPACE)
    return DownloadError(f"{path}: cannot be written: {error.strerror or error}")


def _shown(sha256: str | None, size: int) -> str:
    return f"{size} bytes, sha256 {sha256 or 'not stated'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
