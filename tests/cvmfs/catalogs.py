"""File catalogs: trees as SQLite databases of cvmfs's schema 2.5, one for each directory with a marker."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import sqlitefiles
from .objects import Objects
from .trees import BITS, MARKER, Entry, Tree, fingerprint, parent

SCHEMA = """
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER,
    hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT,
    uid INTEGER, gid INTEGER, xattr BLOB, CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
    CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size),
    FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog (md5path_1, md5path_2));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER,
    CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER,
    CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
"""
FLAGS = {"directory": 1, "file": 4, "link": 4 | 8, "fifo": 4 | 16, "socket": 4 | 16, "character": 4 | 16}
MOUNTPOINT, ROOT = 2, 32
COUNTERS = (
    *("regular", "symlink", "special", "dir", "nested", "chunked", "chunks"),
    *("file_size", "chunked_size", "xattr", "external", "external_file_size"),
)


@dataclass(frozen=True)
class Catalog:
    """A catalog that is stored; ``key`` is what it was made of, ``counters`` what is in it and below it."""

    key: str
    hash: str
    size: int
    counters: tuple[int, ...]


Catalogs = dict[str, Catalog]  # by the path of their roots


def mountpoints(tree: Tree) -> list[str]:
    """Return where catalogs begin, deepest first; the root's is the last."""
    found = [parent(path) for path in tree if path.endswith(MARKER) and _is_marker(tree, path)]
    return [*sorted((path for path in found if path), key=lambda path: (-path.count("/"), path)), ""]


def write(tree: Tree, objects: Objects, spool: Path, *, revision: int, previous: str, known: Catalogs) -> Catalogs:
    """Store the catalogs of a tree; those that ``known`` has with the same contents are kept as they are.

    The root's is always new: it says its revision, and the hash of the one before.
    """
    roots = mountpoints(tree)
    members = _members(tree, set(roots))
    made: Catalogs = {}
    for root in roots:
        inner = [path for path in made if _owner(parent(path), set(roots)) == root]
        nested = [(f"/{path}", made[path].hash, made[path].size) for path in sorted(inner)]
        rows = [_row(path, tree[path], _flag(path, root, roots)) for path in members[root]]
        key = fingerprint([[_plain(row) for row in rows], nested])
        if root and root in known and known[root].key == key and objects.path(f"{known[root].hash}C").exists():
            made[root] = known[root]
            continue
        own = _counters(tree, members[root], len(nested))
        subtree = tuple(map(sum, zip(*(made[path].counters for path in inner), strict=True))) or (0,) * len(own)
        properties = {"revision": revision, "schema": "2.5", "schema_revision": 7, "last_modified": int(time.time())}
        if root:
            properties["root_prefix"] = f"/{root}"
        if not root:
            properties["previous_revision"] = previous
        statistics = [(f"self_{name}", value) for name, value in zip(COUNTERS, own, strict=True)]
        statistics += [(f"subtree_{name}", value) for name, value in zip(COUNTERS, subtree, strict=True)]
        data = sqlitefiles.build(
            spool,
            SCHEMA,
            {
                "properties": [(name, str(value)) for name, value in properties.items()],
                "catalog": rows,
                "nested_catalogs": nested,
                "statistics": statistics,
            },
        )
        total = tuple(map(sum, zip(own, subtree, strict=True)))
        made[root] = Catalog(key, objects.put(data, "C"), len(data), total)
    return made


def read(objects: Objects, spool: Path, root: str) -> Iterator[tuple[str, str, int, list[tuple[str, str, int]]]]:
    """Give each stored catalog below a root hash: its path, its hash, its size and its files as (name, hash, flags).

    Raises FileNotFoundError or zlib.error for one that is not there or broken.
    """
    waiting = [("/", root)]
    while waiting:
        path, name = waiting.pop(0)
        data = objects.get(f"{name}C")
        with sqlitefiles.opened(spool, data) as database:
            files = database.execute("SELECT name, lower(hex(hash)), flags FROM catalog").fetchall()
            waiting += database.execute("SELECT path, sha1 FROM nested_catalogs ORDER BY path").fetchall()
        yield path, name, len(data), files


def path_key(path: str) -> tuple[int, int]:
    """Return a path (with a leading slash; the root is empty) as catalogs index it."""
    first, second = struct.unpack("<qq", hashlib.md5(os.fsencode(path)).digest())
    return first, second


def _is_marker(tree: Tree, path: str) -> bool:
    return path.rpartition("/")[2] == MARKER and tree[path].kind == "file"


def _owner(path: str, roots: set[str]) -> str:
    while path not in roots:
        path = parent(path)
    return path


def _members(tree: Tree, roots: set[str]) -> dict[str, list[str]]:
    """Return the paths of each catalog; a nested root is in its own and in the one above."""
    members: dict[str, list[str]] = {root: [root] for root in roots}
    owners = {root: root for root in roots}
    for path in sorted(tree):
        above = owners[parent(path)] if path else ""
        owners.setdefault(path, above)
        if path:
            members[above].append(path)
    return members


def _flag(path: str, root: str, roots: list[str]) -> int:
    if path == root:
        return ROOT if root else 0
    return MOUNTPOINT if path in roots else 0


def _row(path: str, entry: Entry, extra: int) -> tuple[object, ...]:
    absolute = f"/{path}" if path else ""
    above = path_key(parent(absolute)) if path else (0, 0)
    flags = FLAGS.get(entry.kind, 4 | 16) | extra
    stored = bytes.fromhex(entry.stored) if entry.stored else None
    size = 4096 if entry.kind == "directory" else entry.size
    name = os.fsencode(path.rpartition("/")[2]).decode(errors="surrogateescape")
    mode = BITS[entry.kind] | entry.mode
    fields = (*path_key(absolute), *above, 1, stored, size, mode, entry.mtime, None, flags, _text(name))
    return (*fields, _text(entry.target), entry.uid, entry.gid, None)


def _text(text: str) -> object:
    """Return a name as SQLite can hold it: one that is no UTF-8 goes in as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _plain(row: tuple[object, ...]) -> list[object]:
    return [field.hex() if isinstance(field, bytes) else field for field in row]


def _counters(tree: Tree, members: list[str], nested: int) -> tuple[int, ...]:
    kinds = [tree[path].kind for path in members]
    files, links, directories = (kinds.count(kind) for kind in ("file", "link", "directory"))
    size = sum(tree[path].size for path in members if tree[path].kind == "file")
    special = len(kinds) - files - links - directories
    return (files, links, special, directories, nested, 0, 0, size, 0, 0, 0, 0)


def marker_problems(tree: Tree) -> list[str]:
    """Return markers that are none: directories of that name."""
    return [path for path in tree if path.rpartition("/")[2] == MARKER and not _is_marker(tree, path)]


def entries(tree: Tree, root: str) -> int:
    """Return how many entries the catalog of a root has."""
    return len(_members(tree, set(mountpoints(tree)))[root])
