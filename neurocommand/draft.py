"""A draft: a root in a directory of our own, made from a published one, that is changed and becomes its next revision.

It has everything that is ours but images: an image that is published stands there as a symbolic link to itself.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from neurocommand.catalogs import MARKER
from neurocommand.changes import Entry
from neurocommand.files import digest_of, make_directory, remove_tree
from neurocommand.layout import Root, release_of_image
from neurocommand.model import Release

# what is ours under a root, beside its state
_OURS = ("containers", "modules", "modules-tcl", "neurodesk-modules", "lmod", "commands.tsv")


def make(published: Root, path: Path, changing: Collection[Release]) -> Root:
    """Make a draft of a published root.

    Args:
        published: the root; read only.
        path: the draft's directory; whatever is there is removed.
        changing: releases that are to be changed; of all others only the record is needed.

    Returns:
        The draft.

    Raises:
        OSError: the root cannot be read, or the draft not be written.
    """
    draft = Root(path)
    remove_tree(path)
    make_directory(path, 0o022)
    for name in _OURS[1:]:
        _copy(published.path / name, path / name)
    if published.containers.is_dir():
        draft.containers.mkdir()
        for entry in os.scandir(published.containers):
            _copy_release(published, Path(entry.path), draft.containers / entry.name, changing)
    return draft


def _copy_release(published: Root, source: Path, target: Path, changing: Collection[Release]) -> None:
    """Copy what is needed of a release; anything else keeps its place taken."""
    release = _release(source.name)
    if release is None or source.is_symlink() or not source.is_dir():
        _copy(source, target)
        return
    directory = published.release(release)
    target.mkdir()
    if release not in changing:
        for path in (directory.record, directory.pending_record):
            _copy(path, target / path.name)
        return
    for entry in os.scandir(source):
        if entry.name == directory.image.name:
            (target / entry.name).symlink_to(entry.path)
        else:
            _copy(Path(entry.path), target / entry.name)


def _release(name: str) -> Release | None:
    try:
        return Release.parse(name)
    except ValueError:
        return None


def _copy(source: Path, target: Path) -> None:
    """Copy a file, a link as a link, or a directory of them, with modes and times; nothing where there is nothing.

    Not by shutil's copy of all attributes: a CVMFS client shows some that are about itself.
    """
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    try:
        status = source.stat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        target.mkdir()
        for entry in os.scandir(source):
            _copy(Path(entry.path), target / entry.name)
    else:
        shutil.copyfile(source, target)
    target.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def mark(draft: Root) -> None:
    """See that the directories that only lead to releases and modules are catalogs of their own.

    Raises:
        OSError: the draft cannot be written.
    """
    for directory in (draft.containers, draft.modules, draft.modules_tcl):
        if directory.is_dir() and not (directory / MARKER).exists():
            (directory / MARKER).touch(0o644)


def listing(draft: Root) -> dict[str, Entry]:
    """Return what stands in a draft, but for its state; an image is one entry.

    Raises:
        OSError: it cannot be read.
    """
    found = {}
    waiting = [""]
    while waiting:
        for path, one in _inside(draft.path, waiting.pop()):
            if path == ".neurocommand":
                continue
            found[path] = Entry("image", _identity(one)) if release_of_image(path) is not None else _entry(one)
            if found[path].kind == "directory":
                waiting.append(path)
    return found


def contents(tree: Path) -> dict[str, Entry]:
    """Return what stands in a tree.

    Raises:
        OSError: it cannot be read.
    """
    found = {}
    waiting = [""]
    while waiting:
        for path, one in _inside(tree, waiting.pop()):
            found[path] = _entry(one)
            if found[path].kind == "directory":
                waiting.append(path)
    return found


def _inside(top: Path, directory: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(top / directory) as entries:
        for one in entries:
            yield f"{directory}/{one.name}" if directory else one.name, one


def _entry(one: os.DirEntry[str]) -> Entry:
    if one.is_symlink():
        return Entry("link", os.readlink(one.path))
    if one.is_dir():
        return Entry("directory")
    mode = stat.S_IMODE(one.stat(follow_symlinks=False).st_mode)
    return Entry("file", f"{digest_of(Path(one.path))[0]} {mode:o}")


def _identity(entry: os.DirEntry[str]) -> str:
    """Tell a published image, which stands here as a link, from one that was made here."""
    return f"link {os.readlink(entry.path)}" if entry.is_symlink() else f"inode {entry.inode()}"
