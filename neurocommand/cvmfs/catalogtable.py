"""One catalog: an SQLite file that was fetched and verified, opened so that nothing in it can do more than be read."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from neurocommand.cvmfs.objects import ObjectName, Objects
from neurocommand.errors import CvmfsUntrustedError

CATALOG_LIMIT = 1 << 30  # bytes; CVMFS warns at half a million entries, which take about 150 MB
# Bits of `flags`.
_DIRECTORY, _FILE, _CHUNKED, _EXTERNAL = 1, 4, 64, 128
_LINK, _SPECIAL = 8, 16
_HASH, _COMPRESSION = 7 << 8, 7 << 11  # 0: SHA-1; 0: zlib, 1: none
_PLAIN = 1 << 11
_SIZE_LIMIT = 1 << 62
_ROWS = 1_000_000
_STEPS = 200  # rounds of a million instructions of SQLite's that one question may take
_TABLES = ("catalog", "chunks", "nested_catalogs", "properties", "statistics", "bind_mountpoints")

Key = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """What a catalog says of a path: its flags, its bytes, and the bare hex SHA-1 of its object, if it has one."""

    flags: int
    size: int
    sha1: str | None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return bool(self.flags & _DIRECTORY)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return bool(self.flags & _FILE) and not self.flags & (_DIRECTORY | _LINK | _SPECIAL)

    @property
    def chunked(self) -> bool:
        """Whether its bytes are in several objects."""
        return bool(self.flags & _CHUNKED)

    @property
    def packed(self) -> bool:
        """Whether its objects are compressed."""
        return not self.flags & _COMPRESSION

    @property
    def readable(self) -> bool:
        """Whether its objects are named by SHA-1, compressed by zlib or not at all, and in the repository."""
        return not self.flags & (_EXTERNAL | _HASH) and self.flags & _COMPRESSION in (0, _PLAIN)


class Catalog:
    """One catalog, open.

    Args:
        database: the open file.
        what: its name in messages.
    """

    def __init__(self, database: sqlite3.Connection, what: str) -> None:
        self._database = database
        self._what = what

    @classmethod
    def fetched(cls, objects: Objects, name: ObjectName, size: int | None) -> Catalog:
        """Fetch and open a catalog.

        Args:
            objects: the server.
            name: of the object.
            size: its bytes, unpacked; None or 0 where they are not known.

        Raises:
            CvmfsError: as ``Objects.fetch``.
            CvmfsUntrustedError: it is no catalog, or has another size.
        """
        what = f"{objects.shown}: the catalog {name.path}"
        with tempfile.NamedTemporaryFile(prefix="neurocommand-", suffix=".catalog") as file:
            found = objects.fetch(name, file, min(size or CATALOG_LIMIT, CATALOG_LIMIT))  # type: ignore[arg-type]
            if size and found != size:
                raise CvmfsUntrustedError(f"{what} has {found} bytes, not {size}", _HINT)
            file.flush()
            # The file has no name any longer when this block ends; SQLite has it open by then.
            database = _opened(file.name, what)
        catalog = cls(database, what)
        try:
            catalog._check()
        except BaseException:
            catalog.close()
            raise
        return catalog

    def entry(self, key: Key) -> Entry | None:
        """Return what is said of a path; None where there is none.

        Raises:
            CvmfsUntrustedError: it says something that cannot be.
        """
        rows = self._rows("SELECT flags, size, hash FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?", key)
        for flags, size, digest in rows:
            if not isinstance(flags, int) or flags < 0:
                raise self._wrong("an entry without flags")
            stated = size if size is not None else 0
            if not isinstance(stated, int) or not 0 <= stated < _SIZE_LIMIT:
                raise self._wrong("an entry without a size")
            return Entry(flags, stated, self._sha1(digest) if digest else None)
        return None

    def parts(self, key: Key, entry: Entry) -> tuple[tuple[ObjectName, int], ...]:
        """Return the objects that hold a file, with the size of what each holds, in their order.

        Raises:
            CvmfsUntrustedError: they leave something out, or are none.
        """
        if not entry.chunked:
            if entry.sha1 is None:
                raise self._wrong("a file without a hash")
            return ((ObjectName(entry.sha1), entry.size),)
        query = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset"
        parts, done = [], 0
        for offset, size, digest in self._rows(query, key):
            if not isinstance(size, int) or offset != done or not 0 < size <= entry.size - done:
                raise self._wrong("a file whose parts do not follow each other")
            parts.append((ObjectName(self._sha1(digest), "P"), size))
            done += size
        if done != entry.size:
            raise self._wrong("a file whose parts are not all there")
        return tuple(parts)

    def nested(self, paths: Sequence[str]) -> tuple[str, ObjectName, int | None] | None:
        """Return the first of some paths at which another catalog begins, with its object and its size.

        Args:
            paths: the shortest first.

        Raises:
            CvmfsUntrustedError: it is named by no hash.
        """
        marks = ", ".join(["CAST(? AS TEXT)"] * len(paths))
        found = {}
        for place, digest, size in self._rows(
            f"SELECT path, sha1, size FROM nested_catalogs WHERE path IN ({marks})",  # noqa: S608  (marks alone)
            [os.fsencode(path) for path in paths],
        ):
            text = digest.decode("ascii", errors="replace") if isinstance(digest, bytes) else ""
            if not isinstance(place, bytes) or not re.fullmatch(r"[0-9a-f]{40}", text, re.ASCII):
                raise self._wrong("a nested catalog that is not named by a SHA-1")
            if size is not None and (not isinstance(size, int) or not 0 <= size <= CATALOG_LIMIT):
                raise self._wrong(f"a nested catalog that is larger than {CATALOG_LIMIT} bytes, or of no size")
            found[os.fsdecode(place)] = (ObjectName(text, "C"), size or None)
        return next(((path, *found[path]) for path in paths if path in found), None)

    def names(self, key: Key) -> Iterator[str]:
        """Yield the names in a directory.

        Raises:
            CvmfsUntrustedError: one is no name.
        """
        for (name,) in self._rows("SELECT name FROM catalog WHERE parent_1 = ? AND parent_2 = ?", key):
            if not isinstance(name, bytes) or not name or b"/" in name or b"\0" in name:
                raise self._wrong("an entry without a name")
            yield os.fsdecode(name)

    def close(self) -> None:
        """Close the file, which is gone by that."""
        self._database.close()

    def _check(self) -> None:
        """See that what is asked for are plain tables: a view, or a column that is computed, could be anything."""
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name IN (?, ?, ?)"
        found = dict(self._rows(query, _TABLES[:3]))
        for table in _TABLES[:3]:
            if re.search(rb"\bAS\b|\bUSING\b", found.get(table.encode()) or b"AS", re.IGNORECASE):
                raise self._wrong(f"no plain table {table}")

    def _rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        rounds = iter(range(_STEPS))
        with self._understood():
            # a number that is not 0 ends the question
            self._database.set_progress_handler(lambda: 0 if next(rounds, None) is not None else 1, 1_000_000)
            rows = self._database.execute(query, values).fetchmany(_ROWS + 1)
        if len(rows) > _ROWS:
            raise self._wrong(f"more than {_ROWS} entries in one place")
        return rows

    def _sha1(self, digest: Any) -> str:
        if not isinstance(digest, bytes) or len(digest) != 20:
            raise self._wrong("an object that is not named by a SHA-1")
        return digest.hex()

    def _wrong(self, what: str) -> CvmfsUntrustedError:
        return CvmfsUntrustedError(f"{self._what} has {what}", _HINT)

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            raise CvmfsUntrustedError(f"{self._what} cannot be read: {error}", _HINT) from error


_HINT = "the repository is damaged: run cvmfs_server check"


def _opened(path: str, what: str) -> sqlite3.Connection:
    """Open a database that nobody changes; it may answer SELECT on the tables of a catalog, and nothing else."""

    def judge(action: int, first: str | None, *_: str | None) -> int:
        allowed = action == sqlite3.SQLITE_SELECT or (
            action == sqlite3.SQLITE_READ and first in (*_TABLES, "sqlite_master")
        )
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    try:
        database = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        database.text_factory = bytes
        database.execute("PRAGMA trusted_schema = OFF").close()
        database.set_authorizer(judge)
    except sqlite3.Error as error:
        raise CvmfsUntrustedError(f"{what} cannot be opened: {error}", _HINT) from error
    return database
