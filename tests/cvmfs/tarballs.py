"""Tars as ``ingest`` takes them: what libarchive and cvmfs make of each member, and where they give up."""

from __future__ import annotations

import os
import posixpath
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from .trees import MARKER, join
from .words import WorkerError

KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "character",
    tarfile.BLKTYPE: "block",
}
NOT_READY = "Swissknife Ingest: Initialization of the synchronisation engine failed"


@dataclass(frozen=True)
class Member:
    """A member of a tar: where it goes, what it is, and its bytes."""

    path: str
    kind: str  # of an Entry, or "hard link"
    info: tarfile.TarInfo
    data: bytes
    target: str


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """Open a tar by its name, - for standard input; raises WorkerError for one that is not there."""
    if name == "-":
        with TemporaryFile() as copy:
            while data := sys.stdin.buffer.read(1 << 20):
                copy.write(data)
            copy.seek(0)
            yield copy
        return
    if not os.access(name, os.R_OK):
        raise WorkerError(f"Impossible to open the archive: Failed to open '{name}'", NOT_READY)
    with open(name, "rb") as file:
        yield file


def members(file: IO[bytes], base: str) -> Iterator[Member]:
    """Give what a tar says, below a base directory; a tar that ends between two members is taken for whole.

    Raises WorkerError for what is no tar, for one that is cut, and for a name that comes twice.
    """
    if not file.read(1):
        return
    file.seek(0)
    seen: dict[str, str] = {}
    with _archive(file) as archive:
        for info in _headers(archive):
            member = _member(archive, info, base)
            if member is None:
                continue
            kinds = {seen.get(member.path, "directory"), member.kind}
            if member.path in seen and kinds != {"directory"}:
                raise WorkerError("AddEntry: Assertion `retval' failed.", "Aborted")
            seen[member.path] = member.kind
            yield member


def _archive(file: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:", errors="surrogateescape")
    except tarfile.TarError:
        raise WorkerError("Impossible to open the archive: Unrecognized archive format", NOT_READY) from None


def _headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while True:
        try:
            info = archive.next()
        except tarfile.TarError:
            raise WorkerError("Fatal error in reading the archive.", " Truncated tar archive") from None
        if info is None:
            return
        yield info


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo, base: str) -> Member | None:
    """Return what a header stands for; None for what is silently lost: names that go up, and the root itself."""
    name = _canonical(info.name)
    if name is None or (not name and not base):
        return None
    path = join(base, name) if name else base
    kind = "hard link" if info.islnk() else "file" if info.isreg() else KINDS.get(info.type, "")
    if not kind:
        raise WorkerError("Fatal error found unexpected file: ", path)
    if path.rpartition("/")[2] == MARKER and kind not in ("file", "hard link", "directory"):
        found = f"Found entity called as a catalog marker '{path}' that however is not a regular file, abort"
        raise WorkerError(found)
    target = join(base, _canonical(info.linkname) or "") if kind == "hard link" else info.linkname
    return Member(path, kind, info, _bytes(archive, info, path) if kind == "file" else b"", target)


def _bytes(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> bytes:
    file = archive.extractfile(info)
    assert file is not None
    try:
        data = file.read()
    except tarfile.TarError:
        data = b""
    if len(data) != info.size:
        raise WorkerError(f"failed to read data from the tar entry: /{path} (-1)", " Truncated tar archive")
    return data


def _canonical(name: str) -> str | None:
    """Return a member's name without slashes around it; None where it leaves the tree."""
    plain = posixpath.normpath(name.lstrip("/")) if name.lstrip("/") else ""
    if plain == ".." or plain.startswith("../"):
        return None
    return "" if plain == "." else plain
