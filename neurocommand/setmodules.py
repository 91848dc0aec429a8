"""The modules of named sets under a root: made anew, or removed, as the configuration says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurocommand import lmodcache
from neurocommand.files import make_directory, write_atomically
from neurocommand.foreign import owner, refuse_file, refuse_obstacle, remove_empty
from neurocommand.layout import Root
from neurocommand.model import Release
from neurocommand.render import sets
from neurocommand.render.sets import ModuleSet
from neurocommand.versions import head, offered


def write(root: Root, wanted: Sequence[ModuleSet], umask: int | None) -> bool:
    """Write the modulefiles of sets, and remove those of sets that are gone; tell whether anything had to be done.

    Args:
        root: the root.
        wanted: all sets.
        umask: applied to what is made, instead of the process's own.

    Raises:
        DeployError: something that is not ours stands in the place of a modulefile.
        OSError: the root cannot be written.
    """
    texts = dict(pair for one in wanted for pair in _texts(root, one))
    wrong = {path: (one, text) for path, (one, text) in texts.items() if head(path, -1) != text}
    gone = [path for path in _ours(root) if path not in texts]
    if wrong or gone:
        lmodcache.forget(root)
    for path, (one, text) in wrong.items():
        refuse_obstacle(path.parent)
        refuse_file(path, one.id)
        make_directory(path.parent, umask)
        write_atomically(path, text, umask=umask)
    for path in gone:
        path.unlink()
        remove_empty(path.parent, path.parent.parent)
    return bool(wrong or gone)


def missing(root: Root, wanted: Sequence[ModuleSet]) -> Iterator[tuple[ModuleSet, Release]]:
    """Yield each set with each release of it that cannot be loaded under the root.

    Raises:
        OSError: the module tree cannot be read.
    """
    for one in wanted:
        for member in one.members:
            loadable = [found.version for found, usable in offered(root, member.application) if usable]
            if member.version not in loadable:
                yield one, member


def _texts(root: Root, one: ModuleSet) -> Iterator[tuple[Path, tuple[ModuleSet, str]]]:
    yield root.modules / sets.APPLICATION / f"{one.name}.lua", (one, sets.lua(one))
    yield root.modules_tcl / sets.APPLICATION / one.name, (one, sets.tcl(one))


def _ours(root: Root) -> Iterator[Path]:
    """Yield the modulefiles of sets that are there."""
    for directory in (root.modules / sets.APPLICATION, root.modules_tcl / sets.APPLICATION):
        for name in os.listdir(directory) if directory.is_dir() and not directory.is_symlink() else ():
            if owner(directory / name).startswith(f"{sets.APPLICATION}/"):
                yield directory / name
