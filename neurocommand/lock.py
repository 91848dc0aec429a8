"""apps.lock.json: the identity of every release's SIF, written once when it is converted or adopted.

Format: ``{"version": 1, "releases": {"<release id>": {"sha256": …, "size": …, "source_digest": …}}}``: bare hex digests
(``source_digest`` may be null), the size in bytes; sorted, one release per line so that two runs' additions merge.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocommand import jsontext
from neurocommand.errors import Fault, FaultsError, ImmutableError, UsageError
from neurocommand.files import write_atomically
from neurocommand.model import Artifact, Release

VERSION = 1


@dataclass(frozen=True)
class Lock:
    """The locked artifacts by release."""

    artifacts: Mapping[Release, Artifact] = field(default_factory=dict)

    def get(self, release: Release) -> Artifact | None:
        """Return the locked artifact of a release; None when the release is not locked."""
        return self.artifacts.get(release)

    def including(self, release: Release, artifact: Artifact) -> Lock:
        """Return the lock with one more release.

        Raises:
            ImmutableError: the release is locked with other bytes.
        """
        return self.united(Lock({release: artifact}))

    def united(self, other: Lock) -> Lock:
        """Return the lock with all that another one has, too; itself where that is nothing more.

        Raises:
            ImmutableError: the other one has a release with other bytes.
        """
        for release, artifact in other.artifacts.items():
            known = self.artifacts.get(release)
            if known is not None and (known.sha256, known.size) != (artifact.sha256, artifact.size):
                raise ImmutableError(
                    f"{release}: sha256 {artifact.sha256} ({artifact.size} bytes) is not the locked {known.sha256} "
                    f"({known.size} bytes)",
                    "a release id never changes its bytes: give the new build another build date",
                )
        added = {release: artifact for release, artifact in other.artifacts.items() if release not in self.artifacts}
        return Lock({**self.artifacts, **added}) if added else self


def parse(text: str, filename: str) -> Lock:
    """Read a lock.

    Raises:
        FaultsError: any fault at all, each at its line.
    """
    document = jsontext.read(text, filename)
    faults = list(document.faults)
    entries = _entries(document, faults)
    artifacts: dict[Release, Artifact] = {}
    for release_id, entry in entries.items():
        try:
            artifacts[Release.parse(release_id)] = _artifact(entry)
        except ValueError as error:
            faults.append(Fault(document.line(("releases", release_id)), release_id, str(error)))
    if faults:
        raise FaultsError(filename, tuple(faults))
    return Lock(artifacts)


def _entries(document: jsontext.Document, faults: list[Fault]) -> dict[str, Any]:
    value = document.value
    if not isinstance(value, dict) or set(value) != {"version", "releases"} or not isinstance(value["releases"], dict):
        faults.append(Fault(document.line(()), "", "a lock has the members version and releases"))
        return {}
    if value["version"] != VERSION:
        faults.append(Fault(document.line(("version",)), "version", f"must be {VERSION}"))
    entries: dict[str, Any] = value["releases"]
    return entries


def _artifact(entry: object) -> Artifact:
    if not isinstance(entry, dict) or set(entry) != {"sha256", "size", "source_digest"}:
        raise ValueError("a locked release has the members sha256, size and source_digest")
    sha256, size, source = entry["sha256"], entry["size"], entry["source_digest"]
    if not isinstance(sha256, str) or type(size) is not int or not isinstance(source, str | None):
        raise ValueError("sha256 is a text, size a whole number, source_digest a text or null")
    return Artifact(sha256, size, source)


def render(lock: Lock) -> str:
    """Return the lock as text, one release per line, sorted by id."""
    lines = [
        f"    {json.dumps(release.id)}: "
        + json.dumps({"sha256": artifact.sha256, "size": artifact.size, "source_digest": artifact.source_digest})
        for release, artifact in sorted(lock.artifacts.items(), key=lambda item: item[0].id)
    ]
    body = "{\n" + ",\n".join(lines) + "\n  }" if lines else "{}"
    return f'{{\n  "version": {VERSION},\n  "releases": {body}\n}}\n'


def load(path: Path) -> Lock:
    """Read the lock file; a file that does not exist is an empty lock.

    Raises:
        FaultsError: the file has a fault.
    """
    # a link that leads nowhere is a disk that is not mounted, not an empty lock
    if not os.path.lexists(path):
        return Lock()
    return parse(jsontext.read_bytes(path, str(path)), str(path))


class LockFile:
    """The lock on disk: what is recorded is durable before the call returns.

    Args:
        path: its file.
        known: what another lock has: it counts as locked here, too, but is not written.

    Raises:
        ImmutableError: the file has a release of ``known`` with other bytes.
    """

    def __init__(self, path: Path, known: Lock | None = None) -> None:
        self._known = known or Lock()
        self.lock = self._known.united(load(path))
        # behind a link, the file itself is replaced, not the link
        self.path = path.resolve()

    def check_writable(self) -> None:
        """See that a release could be recorded, before work begins whose result would be lost.

        Raises:
            UsageError: the lock's directory cannot be written, or has no locks against other writers.
        """
        place = next(parent for parent in self.path.parents if parent.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            raise UsageError(
                f"{self.path}: cannot be written", "choose another place for the lock (lock: in the settings)"
            )
        with _exclusive(place / self.path.name):
            pass

    def tidy(self) -> None:
        """Remove what a writer left that was killed just after it had written; where that cannot be, leave it."""
        with contextlib.suppress(OSError, UsageError):
            if os.path.lexists(_guard(self.path)):
                with _exclusive(self.path):
                    pass

    def record(self, release: Release, artifact: Artifact) -> None:
        """Lock a release; see ``unite``."""
        self.unite(Lock({release: artifact}))

    def unite(self, other: Lock) -> None:
        """Lock all that another lock has, beside what others have locked in the file meanwhile.

        Raises:
            ImmutableError: a release is locked with other bytes; the file is unchanged.
            FaultsError: the file has a fault.
            UsageError: the file cannot be locked against other writers.
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(self.path):
            now = load(self.path)
            united = now.united(other)
            whole = self._known.united(united)
            if united is not now:
                write_atomically(self.path, render(united))
            self.lock = whole


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Keep others from writing a file while the block runs, by a lock on a hidden file beside it, gone afterwards.

    Raises:
        UsageError: on entering, when its file system has no locks: two writers would lose each other's releases.
        OSError: on entering, when the hidden file cannot be written.
    """
    guard = _guard(path)
    descriptor = _held(guard, path)
    try:
        yield
    finally:
        # while it is held still: who waits for it will see that it is gone, and make another
        with contextlib.suppress(OSError):
            guard.unlink()
        os.close(descriptor)


def _guard(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _held(guard: Path, path: Path) -> int:
    """Return a descriptor that holds the lock of the file that is there, and not of one that was removed meanwhile."""
    while True:
        # for writing: on NFS nothing else can be locked
        descriptor = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        _share(descriptor, guard.parent)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            os.close(descriptor)
            raise UsageError(
                f"{path}: cannot be locked against other writers: {error.strerror}",
                "choose a place for the lock whose file system has locks (lock: in the settings)",
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(guard)):
                return descriptor
        os.close(descriptor)


def _share(descriptor: int, directory: Path) -> None:
    """Let those who may write to the directory wait for the lock, whatever the umask of the one who made it."""
    above = directory.stat()
    # another user's file has been shared by its maker; what the system refuses here leaves it to this user
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchown(descriptor, -1, above.st_gid)
            os.fchmod(descriptor, above.st_mode & 0o666)
