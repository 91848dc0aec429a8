"""Lmod's cache of a root's module trees, so that ``ml avail`` reads one file instead of all modulefiles.

A cache that is not true is worse than none: it goes before the first modulefile changes, and comes back at the end of
the run, or of a later one. Lmod knows a tree by its path; of a root that was moved, or is reached another way, it reads
the modulefiles themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from neurocommand import process
from neurocommand.errors import NeurocommandError
from neurocommand.files import current_umask, make_directory, remove_tree, write_atomically
from neurocommand.layout import Root
from neurocommand.render import templates

BUILDER = "update_lmod_system_cache_files"
# seconds; a thousand modules take a few
_PATIENCE = 600


def forget(root: Root) -> None:
    """Remove the cache, since what it says is about to change.

    Raises:
        OSError: it cannot be removed.
    """
    cache = root.lmod / "cache"
    if os.path.lexists(cache):
        # at once: a part of a cache would be taken for all of it
        gone = root.lmod / "cache.old"
        remove_tree(gone)
        os.rename(cache, gone)
        remove_tree(gone)


def is_there(root: Root) -> bool:
    """Tell whether the cache was built since the last change."""
    return (root.lmod / "cache").is_dir()


def build(root: Root, directories: Sequence[Path], umask: int | None, place: Path | None = None) -> str:
    """Build the cache with Lmod's own program, and write the file that tells Lmod of it.

    Args:
        root: the root.
        directories: where Lmod's programs may be.
        umask: applied to what is made, instead of the process's own.
        place: where users find the root, if that is elsewhere.

    Returns:
        Why it was not built; empty when it was.

    Raises:
        OSError: the root cannot be written.
    """
    program = next((place / BUILDER for place in directories if os.access(place / BUILDER, os.X_OK)), None)
    if program is None:
        return "Lmod is not installed here, so its cache of the modules was not built"
    trees = _trees(root)
    if not re.fullmatch(r"[A-Za-z0-9_./:,+=@-]+", trees):
        return "Lmod's program for it takes no such path, so its cache of the modules was not built"
    make_directory(root.lmod, umask)
    fresh = root.lmod / "cache.new"
    remove_tree(fresh)
    try:
        process.run([str(program), "-d", fresh.name, "-t", "timestamp", trees], cwd=root.lmod, timeout=_PATIENCE)
    except NeurocommandError as error:
        remove_tree(fresh)
        return f"Lmod's cache of the modules was not built: {error.message}"
    if place is not None:
        _move(fresh, root.path, place)
    _open(root, fresh, umask)
    write_atomically(root.lmod / "lmodrc.lua", templates.LMODRC, umask=umask)
    os.rename(fresh, root.lmod / "cache")
    return ""


def _move(cache: Path, root: Path, place: Path) -> None:
    """Let a cache speak of a root in another place; what is compiled cannot, and Lmod does without."""
    for path in list(cache.iterdir()):
        if path.suffix != ".lua":
            path.unlink()
            continue
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        path.write_text(text.replace(f"{root}/", f"{place}/"), encoding="utf-8", errors="surrogateescape")


def _trees(root: Root) -> str:
    """Return the module trees as MODULEPATH has them."""
    categories = sorted(root.categories.iterdir()) if root.categories.is_dir() else []
    return ":".join(map(str, (root.modules, *(tree for tree in categories if tree.is_dir()))))


def _open(root: Root, cache: Path, umask: int | None) -> None:
    """Give what Lmod's program made the permissions that all else under the root has."""
    mask = current_umask() if umask is None else umask
    cache.chmod(0o777 & ~mask)
    for path in (root.lmod / "timestamp", *cache.iterdir()):
        path.chmod(0o666 & ~mask)
