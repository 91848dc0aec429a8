"""Trees: what a repository holds, path by path; also how one is read from a directory and laid out in one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

MARKER = ".cvmfscatalog"
KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
}
BITS = {kind: bits for bits, kind in KINDS.items()}


@dataclass(frozen=True)
class Entry:
    """One path of a tree; ``raw`` is the sha1 of a file's bytes, ``stored`` that of its object."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    target: str = ""  # of a link
    raw: str = ""
    stored: str = ""

    def same(self, other: Entry | None) -> bool:
        """Tell whether two entries look the same to a client."""
        return other is not None and astuple(self)[:-1] == astuple(other)[:-1]


Tree = dict[str, Entry]  # relative path -> entry; the root is ""


def parent(path: str) -> str:
    """Return the path of the directory that holds a path."""
    return path.rpartition("/")[0]


def join(directory: str, name: str) -> str:
    """Return the path of a name in a directory."""
    return f"{directory}/{name}" if directory else name


def below(tree: Tree, path: str) -> list[str]:
    """Return a path and all that is below it."""
    return [each for each in tree if each == path or each.startswith(f"{path}/") or not path]


def dump(tree: Tree) -> dict[str, list[str | int]]:
    """Return a tree as JSON."""
    return {path: list(astuple(entry)) for path, entry in tree.items()}


def load(found: dict[str, list[str | int]]) -> Tree:
    """Return a tree from its JSON."""
    return {path: Entry(*fields) for path, fields in found.items()}  # type: ignore[arg-type]


def fingerprint(value: object) -> str:
    """Return a digest of JSON."""
    return hashlib.sha1(json.dumps(value).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the sha1 of a file's bytes."""
    found = hashlib.sha1()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            found.update(data)
    return found.hexdigest()


def read_entry(path: Path) -> Entry:
    """Return what stands at a path of a directory; objects of files are not known."""
    found = path.lstat()
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    common = (kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, int(found.st_mtime))
    if kind == "link":
        target = os.readlink(path)
        return Entry(*common, size=len(os.fsencode(target)), target=target)
    if kind == "file":
        return Entry(*common, size=found.st_size, raw=digest(path))
    return Entry(*common, size=found.st_rdev if kind in ("character", "block") else 0)


def walk(directory: Path, path: str = "") -> Iterator[str]:
    """Give every path of a directory, parents first."""
    yield path
    with os.scandir(directory / path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            inner = join(path, entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from walk(directory, inner)
            else:
                yield inner


def scan(directory: Path, base: Tree) -> Tree:
    """Read a directory; files with the bytes that ``base`` has there have its objects."""
    tree = {}
    for path in walk(directory):
        entry = read_entry(directory / path)
        known = base.get(path)
        if known and known.raw == entry.raw:
            entry = replace(entry, stored=known.stored)
        tree[path] = entry
    return tree


def lay_out(directory: Path, found: Tree, wanted: Tree, pool: Path) -> None:
    """Turn a directory that holds ``found`` into ``wanted``; bytes of files come from ``pool``, by their ``raw``."""
    changed = [path for path in wanted if path and not wanted[path].same(found.get(path))]
    gone = [path for path in found if path not in wanted or wanted[path].kind != found[path].kind]
    touched = {parent(path) for path in (*changed, *gone)} | {path for path in changed if _is_directory(wanted, path)}
    for path in sorted(touched & set(found)):
        if _is_directory(found, path):
            _open_up(directory / path)
    for path in sorted(gone, reverse=True):
        _remove(directory / path)
    for path in sorted(changed):
        _make(directory / path, wanted[path], pool)
    directories = touched | ({""} if not wanted[""].same(found.get("")) else set())
    for path in sorted(directories, reverse=True):
        if _is_directory(wanted, path):
            _dress(directory / path, wanted[path])


def _is_directory(tree: Tree, path: str) -> bool:
    return path in tree and tree[path].kind == "directory"


def _open_up(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.chmod(path.stat().st_mode | stat.S_IRWXU)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make(path: Path, entry: Entry, pool: Path) -> None:
    if entry.kind == "directory":
        path.mkdir(exist_ok=True)
        _open_up(path)  # dressed when its contents are there
        return
    path.unlink(missing_ok=True)
    if entry.kind == "file":
        shutil.copyfile(pool / entry.raw, path)
    elif entry.kind == "link":
        path.symlink_to(entry.target)
    elif entry.kind == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(path, BITS[entry.kind] | entry.mode, entry.size)
    _dress(path, entry)


def _dress(path: Path, entry: Entry) -> None:
    """Give a path its owner, mode and time; only root can give another owner."""
    if os.geteuid() == 0:
        os.lchown(path, entry.uid & 0xFFFFFFFF, entry.gid & 0xFFFFFFFF)
    if entry.kind != "link":
        path.chmod(entry.mode)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
