"""An object that the lock does not know: read from one source, and compared with a second one meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from neurocommand.download.verdicts import Fetched, Verdicts, shown
from neurocommand.errors import ImmutableError, StoreError
from neurocommand.events import Noted
from neurocommand.files import free_space
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Store


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


class Unlocked:
    """One such download: where it is written, and what is known of its sources.

    Args:
        key: the object's key in every source.
        partial: the file to write.
        verdicts: told about the sources.
        patience: seconds that the second source has in any case; it has three times as long as the first one took.
    """

    def __init__(self, key: str, partial: Path, verdicts: Verdicts, patience: float) -> None:
        self.key = key
        self.partial = partial
        self.verdicts = verdicts
        self.patience = patience

    def run(self, sources: Sequence[Store]) -> Fetched:
        """Get what a source holds; a second one that holds the object must hold the same.

        Raises:
            ImmutableError: two sources differ.
            DownloadError: no source gave it.
            RefusedError: there is no space for it.
            OSError: it cannot be written.
        """
        holders = [(source, stated) for source in sources if (stated := self._stat(source)) is not None]
        while holders:
            (source, stated), *holders = holders
            if source.name in self.verdicts.dropped:
                continue
            self.verdicts.check_space(stated.size, free_space(self.partial.parent), self.partial.parent)
            self.verdicts.start(stated.size)
            got, second = self._get_and_compare(source, [other for other, _ in holders])
            if got is None:
                continue
            if not stated.agrees(Artifact(*got)):
                said = f"states {shown(stated.sha256, stated.size)} but sent {shown(*got)}"
                self.verdicts.drop(source.name, said)
                continue
            self._note(Fetched(*got, source.name), second)
            return Fetched(*got, source.name)
        raise self.verdicts.failure()

    def _note(self, first: Fetched, second: str | Fetched) -> None:
        """Say how well the object is known; refuse it when two sources differ."""
        release_id = self.verdicts.release_id
        if isinstance(second, str):
            compared = second
        elif (first.sha256, first.size) == (second.sha256, second.size):
            compared = f"{second.source} holds the same bytes"
        else:
            raise ImmutableError(
                f"{release_id} is not locked, and its sources differ: {first.source} gave "
                f"{shown(first.sha256, first.size)}, {second.source} {shown(second.sha256, second.size)}",
                "find out which one is right, and lock it",
            )
        self.verdicts.listener(Noted(release_id, f"unlocked: taken from {first.source}; {compared}"))

    def _get_and_compare(self, source: Store, others: Sequence[Store]) -> tuple[tuple[str, int] | None, str | Fetched]:
        """Get from a source, and at the same time read the first other one that gives its bytes.

        Returns:
            What the source gave; and what the other one gave, or why there is nothing to compare with.
        """
        began = time.monotonic()
        with _Comparison(self.key, others) as comparison:
            try:
                got = source.get(self.key, self.partial, self.verdicts.advance)
            except StoreError as error:
                self.verdicts.drop(source.name, error.message)
                return None, ""
            took = time.monotonic() - began
            second = comparison.wait(max(self.patience, 3 * took) - took)
        for other, reason in comparison.dropped:
            self.verdicts.drop(other.name, reason)
        return got, second

    def _stat(self, source: Store) -> StoredObject | None:
        try:
            stated = source.stat(self.key)
        except StoreError as error:
            self.verdicts.drop(source.name, error.message)
            return None
        if stated is None:
            self.verdicts.drop(source.name, "does not hold it", quietly=source.writable)
        return stated
