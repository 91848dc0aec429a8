"""Inventories: what published trees hold, by content, so that a new version can be held against the one before.

They are the publisher's own, beside its journal; where one is lost, the new version goes in as a whole.

Format: gzip of JSON, ``{"version": 1, "sha256": digest of the SIF, "entries": {path: [kind, content]}}``; one file for
each application, that of the version which was published last.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from neurocommand.changes import Entry, Listing
from neurocommand.files import make_directory
from neurocommand.model import DeployRecord, Release

VERSION = 1
_LIMIT = 1 << 30  # bytes of JSON that are read
_SUFFIX = ".json.gz"


class Inventories:
    """The inventories of one repository; used under its run lock only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, record: DeployRecord, listing: Listing) -> None:
        """Keep what a tree holds, in place of that of another version.

        Args:
            record: of the release.
            listing: what its tree holds.

        Raises:
            OSError: it cannot be written.
        """
        make_directory(self.directory, 0o022)
        entries = {path: [entry.kind, entry.content] for path, entry in listing.items()}
        text = json.dumps({"version": VERSION, "sha256": record.sha256, "entries": entries})
        partial = self.directory / "partial"
        partial.write_bytes(gzip.compress(text.encode(), 1))
        self.forget(record.release.application)
        partial.rename(self.directory / f"{record.release.id}{_SUFFIX}")

    def forget(self, application: str) -> None:
        """Forget what the trees of an application hold.

        Raises:
            OSError: it cannot be removed.
        """
        for path, release in self._all():
            if release.application == application:
                path.unlink()

    def last(self, application: str) -> Release | None:
        """Return the release of an application of which it is known what its tree holds."""
        return next((release for _, release in self._all() if release.application == application), None)

    def load(self, record: DeployRecord) -> dict[str, Entry] | None:
        """Return what a published tree holds; None where it is not known, or cannot be read."""
        try:
            with gzip.open(self.directory / f"{record.release.id}{_SUFFIX}") as stream:
                value: Any = json.loads(stream.read(_LIMIT))
            if value["version"] != VERSION or value["sha256"] != record.sha256:
                return None
            return {str(path): Entry(kind, str(content)) for path, (kind, content) in value["entries"].items()}
        except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _all(self) -> list[tuple[Path, Release]]:
        found = []
        for path in self.directory.glob(f"*{_SUFFIX}"):
            try:
                found.append((path, Release.parse(path.name.removesuffix(_SUFFIX))))
            except ValueError:
                continue
        return found
