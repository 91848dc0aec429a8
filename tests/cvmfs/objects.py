"""Objects of a repository's storage: compressed, named after the sha1 of what is stored."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from .faults import Faults
from .words import WorkerError


@dataclass(frozen=True)
class Objects:
    """The storage of one repository, as HTTP serves it, and a pool of plain bytes beside it."""

    storage: Path
    pool: Path  # raw bytes of every file that was ever published, named after their sha1: what a client must see
    faults: Faults

    def path(self, name: str) -> Path:
        """Return where an object is; ``name`` is its hash and its suffix."""
        return self.storage / "data" / name[:2] / name[2:]

    def put(self, data: bytes, suffix: str = "") -> str:
        """Store bytes and return the hash; what is there already is not written again."""
        stored = zlib.compress(data)
        name = hashlib.sha1(stored).hexdigest()
        place = self.path(f"{name}{suffix}")
        if not place.exists():
            self.need_space()
            place.parent.mkdir(parents=True, exist_ok=True)
            self._write(place, stored)
        return name

    def put_file(self, data: bytes) -> tuple[str, str]:
        """Store a file's bytes; returns the sha1 of the bytes and the hash of the object."""
        raw = hashlib.sha1(data).hexdigest()
        stored = self.put(data)
        if not (self.pool / raw).exists():
            self._write(self.pool / raw, data)
        return raw, stored

    def get(self, name: str) -> bytes:
        """Return an object's bytes as they were before they were stored."""
        return zlib.decompress(self.path(name).read_bytes())

    def need_space(self) -> None:
        """Raise WorkerError where the storage is full."""
        if self.faults.has("storage-full"):
            raise WorkerError("block upload failed (code: 28)")

    def replace(self, name: str, data: bytes) -> None:
        """Replace one of the mutable files of the storage in one step."""
        self._write(self.storage / name, data)

    def _write(self, place: Path, data: bytes) -> None:
        temporary = self.storage / "data" / "txn" / f"{os.getpid()}.{place.name}"
        temporary.write_bytes(data)
        temporary.replace(place)
