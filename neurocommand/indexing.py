"""The index of a root, made from its records and read in their place as long as it is not older than they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from neurocommand import index, jsontext, record
from neurocommand.errors import FaultsError, NeurocommandError
from neurocommand.files import write_atomically
from neurocommand.index import Entry
from neurocommand.layout import ReleaseDirectory, Root
from neurocommand.model import Release


@dataclass(frozen=True)
class Unindexed:
    """Why the index of a root says nothing."""

    reason: str


def read(root: Root) -> tuple[Entry, ...] | Unindexed:
    """Return what a root's index says, or why that cannot be believed.

    Every run writes it after everything else: a record, or the directory of releases, that changed later was changed by
    a run that was killed, or by somebody else.
    """
    try:
        status = os.stat(root.index)
        entries = index.parse(jsontext.read_bytes(root.index, str(root.index)), root.index.name)
        changed = max(os.stat(root.containers).st_mtime_ns, *(_changed(root, entry) for entry in entries), 0)
    except FileNotFoundError as error:
        missing = error.filename == os.fspath(root.index)
        return Unindexed("is missing" if missing else "names a release that is gone")
    except OSError as error:
        return Unindexed(f"cannot be read: {error.strerror}")
    except FaultsError as error:
        return Unindexed(f"is damaged: {error.faults[0].message}")
    return Unindexed("is older than what is deployed") if changed > status.st_mtime_ns else entries


def _changed(root: Root, entry: Entry) -> int:
    return os.lstat(f"{root.containers}/{entry.release.id}/record.json").st_mtime_ns


def made(root: Root) -> tuple[Entry, ...]:
    """Make the entries of a root's index from its records; a record that cannot be read gives none.

    Raises:
        OSError: it cannot be told what is deployed; that nothing is there is no such case.
    """
    return tuple(_entries(root))


def _entries(root: Root) -> Iterator[Entry]:
    try:
        names = os.listdir(root.containers)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in sorted(names):
        try:
            directory = root.release(Release.parse(name))
        except ValueError:
            continue
        if (found := _entry(directory)) is not None:
            yield found


def _entry(directory: ReleaseDirectory) -> Entry | None:
    if directory.path.is_symlink():
        return None
    name = str(directory.record)
    try:
        found = record.parse(jsontext.read_bytes(directory.record, name), name)
    except NeurocommandError:
        return None
    if found.release != directory.release:
        return None
    return Entry(found.release, tuple(sorted(found.commands)), found.withdrawn is not None)


def renew(root: Root, umask: int | None) -> None:
    """Write a root's index anew; where nothing is deployed there is none.

    Args:
        root: the root, whose run lock is held.
        umask: applied to the file, instead of the process's own.

    Raises:
        OSError: it cannot be written, or something that is not ours stands in its place.
    """
    entries = made(root)
    if not os.path.lexists(root.index) and not entries:
        return
    if os.path.lexists(root.index) and not _is_ours(root):
        raise FileExistsError(0, "not made by neurocommand: move it away", os.fspath(root.index))
    if entries:
        write_atomically(root.index, index.render(entries), umask=umask)
    else:
        root.index.unlink()


def _is_ours(root: Root) -> bool:
    if root.index.is_symlink() or not root.index.is_file():
        return False
    with open(root.index, "rb") as stream:
        # an empty file is what a disk that was full leaves
        return stream.read(len(index.MARK)) in (index.MARK.encode(), b"")
