"""What a revision holds, read from its catalogs: SQLite files that name every entry, and each other.

The format: https://cvmfs.readthedocs.io/en/stable/cpt-details.html, "File Catalog"; what that leaves open (the bits
of ``flags``, the letters behind names, how a path becomes two numbers) is as CVMFS 2.12 does it. A path is looked up by
its MD5, a nested catalog by its path in the catalog above it.
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import struct
from collections import OrderedDict
from dataclasses import dataclass

from neurocommand.cvmfs.catalogtable import Catalog, Entry
from neurocommand.cvmfs.objects import ObjectName, Objects
from neurocommand.errors import CvmfsError, CvmfsUntrustedError, UsageError, printable

FILE_LIMIT = 64 << 20  # bytes of a file that is read into memory
_OPEN = 32  # catalogs that are open at once: each is a file
_DEPTH = 100
_LONGEST = 4096


def path_hash(path: str) -> tuple[int, int]:
    """Return the two numbers by which catalogs look a path up: the halves of its MD5, little-endian and signed.

    Args:
        path: absolute, without a slash at its end; empty for the root.

    >>> path_hash("")
    (338333539836370388, 9098107892288553193)
    """
    low, high = struct.unpack("<qq", hashlib.md5(os.fsencode(path), usedforsecurity=False).digest())
    return low, high


@dataclass(frozen=True)
class Located:
    """Where a file's bytes are: the objects of its parts in their order, and of all catalogs on the way to it.

    Args:
        entry: what the catalog says of it.
        parts: name and size of each object that holds a part.
        catalogs: the objects of the catalogs, the root's first.
    """

    entry: Entry
    parts: tuple[tuple[ObjectName, int], ...]
    catalogs: tuple[ObjectName, ...]


class Catalogs:
    """The content of one revision; each catalog is read once while few of them are in use.

    Args:
        objects: the server.
        root: the object of the root catalog.
        root_size: its bytes, unpacked; None where it is not known.
    """

    def __init__(self, objects: Objects, root: ObjectName, root_size: int | None = None) -> None:
        self._objects = objects
        self._root = (root, root_size)
        self._open: OrderedDict[ObjectName, Catalog] = OrderedDict()

    def read(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        """Return the bytes of a file; None where there is certainly none.

        Args:
            path: from the repository's root: ``/containers/x/record.json``.
            limit: bytes that it may have.

        Raises:
            CvmfsDownError: the server gives no answer.
            CvmfsError: something else than a file stands there, it is too large, or an object is missing.
            CvmfsUntrustedError: an object has other bytes than its name says.
        """
        found = self.locate(path)
        if found is None:
            return None
        if found.entry.size > limit:
            raise CvmfsError(f"{printable(path)}: has {found.entry.size} bytes, more than {limit}", "is it that file?")
        target = io.BytesIO()
        for name, size in found.parts:
            if self._objects.fetch(name, target, size, packed=found.entry.packed) != size:
                raise CvmfsUntrustedError(
                    f"{self._objects.shown}: {name.path} has not the {size} bytes that the catalog states",
                    "the repository is damaged: run cvmfs_server check",
                )
        return target.getvalue()

    def locate(self, path: str) -> Located | None:
        """Find the objects that hold a file, without reading it; see ``read``."""
        path = _normal(path)
        catalog, chain = self._holding(path)
        entry = catalog.entry(path_hash(path))
        if entry is None:
            return None
        if not entry.is_file:
            raise CvmfsError(f"{printable(path)}: is no file in the repository", "something else stands in its place")
        if not entry.readable:
            raise CvmfsError(
                f"{printable(path)}: is kept in a way that neurocommand cannot read (flags {entry.flags})",
                "it was published with another hash, another compression, or as external data",
            )
        return Located(entry, catalog.parts(path_hash(path), entry), chain)

    def entries(self, path: str) -> tuple[str, ...] | None:
        """Return the sorted names in a directory; None where there is certainly no directory.

        Raises:
            CvmfsError: as ``read``.
        """
        path = _normal(path)
        catalog, _ = self._holding(path)
        entry = catalog.entry(path_hash(path))
        if entry is None or not entry.is_directory:
            return None
        return tuple(sorted(catalog.names(path_hash(path))))

    def close(self) -> None:
        """Close all catalogs."""
        while self._open:
            self._open.popitem()[1].close()

    def _holding(self, path: str) -> tuple[Catalog, tuple[ObjectName, ...]]:
        """Return the catalog that says everything of a path, and the names of all on the way to it."""
        above = _directories(path)
        name, size = self._root
        chain = [name]
        catalog = self._catalog(name, size)
        while above:
            nested = catalog.nested(above)
            if nested is None:
                break
            place, name, size = nested
            above = above[above.index(place) + 1 :]
            chain.append(name)
            catalog = self._catalog(name, size)
        return catalog, tuple(chain)

    def _catalog(self, name: ObjectName, size: int | None) -> Catalog:
        found = self._open.pop(name, None)
        if found is None:
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1].close()
            found = Catalog.fetched(self._objects, name, size)
        self._open[name] = found
        return found


def _normal(path: str) -> str:
    """Return a path as catalogs know it.

    Raises:
        UsageError: it is none.
    """
    if len(path) > _LONGEST or "\0" in path or path.count("/") > _DEPTH or {".", ".."} & set(path.split("/")):
        raise UsageError(f"{printable(path)!r} is no path in a repository", "write it from the repository's root")
    normal = posixpath.normpath(f"/{path.strip('/')}")
    return "" if normal == "/" else normal


def _directories(path: str) -> list[str]:
    """Return a path and all directories above it but the root, the shortest first.

    >>> _directories("/a/b")
    ['/a', '/a/b']
    """
    words = path.split("/")[1:]
    return ["/" + "/".join(words[: number + 1]) for number in range(len(words))]
