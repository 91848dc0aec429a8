"""A parcel: the tar of what is new in a draft, fit for ``cvmfs_server ingest``, which reports few of its faults.

What it does with a tar is in docs/cvmfs.md: it takes a tar that ends between two members for a whole one, loses members
with ``..`` in their names, and breaks the repository by a marker of a catalog that is no empty file. So the names and
kinds are judged here, and nothing but what this module has written is handed over.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocommand import catalogs
from neurocommand.errors import CvmfsError, RefusedError, is_full, printable
from neurocommand.layout import release_of_image

_WHITEOUT = ".wh."
_MEND = "mend the image, or deploy it elsewhere"


def write(target: Path, root: Path, puts: Sequence[str]) -> None:
    """Write a parcel; whole, or not at all.

    Args:
        target: the tar.
        root: the draft.
        puts: paths relative to it, directories before what is in them; an image is taken with all that is in it.

    Raises:
        CvmfsError: something there cannot be published as it is.
        RefusedError: there is no space.
        OSError: the draft cannot be read.
    """
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
            for path in _all(root, puts):
                _add(tar, root, path)
        with open(partial, "rb") as stream:
            os.fsync(stream.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        if is_full(error):
            raise RefusedError(f"{target}: no space for what is to be published", "free some space there") from error
        raise
    os.replace(partial, target)


def _all(root: Path, puts: Sequence[str]) -> Iterator[str]:
    for path in puts:
        yield path
        if release_of_image(path) is not None:
            yield from _below(root, path)


def _below(root: Path, path: str) -> Iterator[str]:
    place = os.path.join(root, path)
    if os.path.islink(place) or not os.path.isdir(place):
        return
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        with os.scandir(os.path.join(root, directory)) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                yield f"{directory}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{directory}/{entry.name}")


def _add(tar: tarfile.TarFile, root: Path, path: str) -> None:
    place = os.path.join(root, path)
    member = tar.gettarinfo(place, path)
    if member is None:
        raise CvmfsError(f"{printable(path)}: neither file, directory nor link")
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(member.mtime)
    member.mode = stat.S_IMODE(member.mode) & 0o755
    if member.isreg():
        with open(place, "rb") as stream:
            tar.addfile(member, stream)
    else:
        tar.addfile(member)


def _judge(path: str, status: os.stat_result, target: str) -> None:
    """Refuse what ``ingest`` or a client would take for something else."""
    name, shown = path.rpartition("/")[2], printable(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise CvmfsError(f"{shown}: neither file, directory nor link")
    if name.startswith(_WHITEOUT):
        raise CvmfsError(f"{shown}: CVMFS takes names that begin with {_WHITEOUT} for deletions", _MEND)
    if name == catalogs.MARKER and (kind != stat.S_IFREG or status.st_size):
        raise CvmfsError(f"{shown}: CVMFS takes this name for the beginning of a catalog", _MEND)
    if "$(" in target:
        raise CvmfsError(f"{shown}: CVMFS clients replace $(…) in the target of a link", _MEND)


@dataclass(frozen=True)
class Survey:
    """What a tree comes to.

    Args:
        counts: how many entries each directory has, by its path relative to the tree: what ``catalogs.layout`` needs.
        size: bytes of all files.
    """

    counts: Mapping[str, int]
    size: int


def survey(tree: Path) -> Survey:
    """Look through a tree that is to be published.

    Raises:
        CvmfsError: something in it cannot be published as it is.
        OSError: it cannot be read.
    """
    counts, size = Counter({"": 0}), 0
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        with os.scandir(tree / directory) as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}" if directory else entry.name
                status = entry.stat(follow_symlinks=False)
                _judge(path, status, os.readlink(entry.path) if stat.S_ISLNK(status.st_mode) else "")
                counts[directory] += 1
                size += status.st_size if stat.S_ISREG(status.st_mode) else 0
                if stat.S_ISDIR(status.st_mode):
                    counts[path] = 0
                    waiting.append(path)
    return Survey(counts, size)
