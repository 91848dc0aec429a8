"""What is known of the sources of one download so far, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass

from neurocommand.errors import DownloadError, ImmutableError, NeurocommandError, RefusedError
from neurocommand.events import Advanced, Listener, Noted, Started
from neurocommand.model import Artifact

STAGE = "download"


@dataclass(frozen=True)
class Fetched:
    """What was downloaded: its bare hex sha256, its size in bytes, and the names of the stores that gave it."""

    sha256: str
    size: int
    source: str


class Verdicts:
    """Which sources gave nothing or other bytes, each said once when it is found; and how far the transfer is."""

    def __init__(self, listener: Listener, release_id: str, stage: str = STAGE) -> None:
        self.listener = listener
        self.release_id = release_id
        self.stage = stage
        self.dropped: set[str] = set()
        self.different: set[str] = set()
        self._unanswered: list[str] = []
        self._differing: list[str] = []
        self._started = False

    def start(self, size: int) -> None:
        """Say that it begins, once."""
        if not self._started:
            self._started = True
            self.listener(Started(self.release_id, self.stage, size))

    def check_space(self, size: int, free: int, place: object) -> None:
        """See whether there is space for it.

        Raises:
            RefusedError: there is not so much.
        """
        if free < size:
            raise RefusedError(
                f"{self.release_id}: needs {_megabytes(size)}, {place} has {_megabytes(free)} left",
                "free some space, or choose another place",
            )

    def advance(self, done: int) -> None:
        """Say how many bytes are there."""
        self.listener(Advanced(self.release_id, self.stage, done))

    def drop(self, source: str, reason: str, *, quietly: bool = False) -> None:
        """Ask a source no more; quietly where nothing is wrong with it, as a store of our own that never had it."""
        self.dropped.add(source)
        reason = reason.removeprefix(f"store {source}: ")
        text = f"{source}: {reason}"
        if text in self._unanswered:
            return
        self._unanswered.append(text)
        if not quietly:
            self.listener(Noted(source, f"dropped for {self.release_id}: {reason}"))

    def differs(self, source: str, has: str, artifact: Artifact) -> None:
        """Ask a source no more, since it holds other bytes."""
        if source in self.different:
            return
        self.different.add(source)
        reason = f"has {has}; the lock has {shown(artifact.sha256, artifact.size)}"
        self._differing.append(f"{source} {reason}")
        self.listener(Noted(source, f"dropped for {self.release_id}: {reason}"))

    def failure(self) -> NeurocommandError:
        """Return why there is no file."""
        if self._differing:
            asked = "; ".join(self._differing + self._unanswered)
            return ImmutableError(
                f"{self.release_id}: no source has the locked bytes: {asked}",
                "a release id never changes its bytes: mend the stores, or build under a new date",
            )
        return DownloadError(
            f"{self.release_id}: no source gave it: {'; '.join(self._unanswered) or 'none is configured'}",
            "run it again later, or add a store that holds it",
        )


def shown(sha256: str | None, size: int) -> str:
    """Return what bytes are, for people."""
    return f"{size} bytes, sha256 {sha256 or 'not stated'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
