"""The spool: the local directory where SIFs wait until every store has them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from neurocommand.files import digest_of, remove_tree, rename_durably
from neurocommand.layout import object_key, release_of_key
from neurocommand.model import Artifact, Release

PARTS_KEPT = 7 * 24 * 3600.0  # seconds
_PART = re.compile(r"\.(?P<key>.+)\.part(\.aria2)?")


class Spool:
    """SIFs under their object keys, whole; what is being written has another name. Used under the run lock only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sif(self, release: Release) -> Path:
        """Return the place of a release's SIF."""
        return self.path / object_key(release)

    @property
    def scratch(self) -> Path:
        """Where tools put their temporary files; its content means nothing to the next run."""
        return self.path / ".neurocommand-scratch"

    def partial(self, release: Release) -> Path:
        """Return the place of a SIF that is being made; ``keep`` gives it its name."""
        return self.path / f".{object_key(release)}.partial"

    def prepare(self) -> None:
        """Make the spool, and remove what a killed run left unfinished; what is not ours is left alone.

        A download that broke off stays for a week, since it can be continued, unless the SIF is there by now.

        Raises:
            OSError: the directory cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for entry in list(self.path.iterdir()):
            if entry.name.startswith(".") and release_of_key(entry.name[1:].removesuffix(".partial")) is not None:
                remove_tree(entry)
            elif self._is_old_part(entry):
                entry.unlink(missing_ok=True)
        self.clear_scratch()

    def _is_old_part(self, entry: Path) -> bool:
        """Tell whether a file is of a download that nobody will continue; see download/part.py for its name."""
        part = _PART.fullmatch(entry.name)
        if part is None or release_of_key(part["key"]) is None or not entry.is_file():
            return False
        return (self.path / part["key"]).exists() or not 0 <= time.time() - entry.stat().st_mtime < PARTS_KEPT

    def keep(self, release: Release) -> None:
        """Give a SIF that was made its name, durable first: it may be locked by a digest from now on.

        Raises:
            OSError: the directory cannot be written.
        """
        rename_durably(self.partial(release), self.sif(release))

    def clear_scratch(self) -> None:
        """Drop what tools left in scratch; between the releases of one run it saves them work."""
        remove_tree(self.scratch)
        self.scratch.mkdir()

    def sizes(self) -> dict[Release, int]:
        """Return the size in bytes of every SIF that waits here."""
        if not self.path.is_dir():
            return {}
        found = ((release_of_key(entry.name), entry) for entry in self.path.iterdir() if entry.is_file())
        return {release: entry.stat().st_size for release, entry in found if release is not None}

    def holds(self, release: Release, artifact: Artifact) -> bool:
        """Tell whether the release's SIF is here with the locked bytes, by reading them."""
        path = self.sif(release)
        return path.is_file() and digest_of(path) == (artifact.sha256, artifact.size)

    def discard(self, releases: Iterable[Release]) -> None:
        """Remove SIFs that are no longer needed."""
        for release in releases:
            self.sif(release).unlink(missing_ok=True)
