"""The modulefiles of a root: ``modules/<application>/<version>.lua``, and a link to it for each category.

The modulefile of a version belongs to one build date of it, which its second line names (docs/design.md §4).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from neurocommand.errors import DeployError
from neurocommand.files import remove_leftovers, write_atomically
from neurocommand.layout import Root, owner_of_modulefile
from neurocommand.model import DeployRecord, Inspection, Release
from neurocommand.render import modulefile


class Modulefiles:
    """Writes and removes modulefiles under one root; used under the root's run lock only."""

    def __init__(self, root: Root) -> None:
        self.root = root

    def refuse_foreign(self, release: Release) -> None:
        """See that a modulefile in the place of ours is ours, and that no link leads its directory elsewhere.

        Raises:
            DeployError: it is not, or one does.
        """
        target = self.root.modulefile(release)
        for directory in (self.root.categories, target.parent):
            refuse_link(directory)
        if os.path.lexists(target) and not _owner(target):
            raise DeployError(f"{target}: not made by neurocommand", "move it away")

    def write(self, new: DeployRecord, found: Inspection) -> None:
        """Make the links and the modulefile of a deployed release, and remove the links of other categories.

        Raises:
            DeployError: something that is not ours stands in the place of a directory or link.
            OSError: the root cannot be written.
        """
        target = self.root.modulefile(new.release)
        target.parent.mkdir(parents=True, exist_ok=True)
        for category in new.categories:
            link = self.root.category_link(new.release, category)
            for directory in (link.parent.parent, link.parent):
                refuse_link(directory)
            link.parent.mkdir(parents=True, exist_ok=True)
            make_link(link, os.path.relpath(target, link.parent))
        write_atomically(target, modulefile.lua(new.release, found, new.categories, new.format))
        self._unlink_others(new.release, new.categories)

    def remove(self, release: Release) -> None:
        """Remove the links and the modulefile of a release; a modulefile of another release is left alone.

        Raises:
            OSError: the root cannot be written.
        """
        self._unlink_others(release, ())
        target = self.root.modulefile(release)
        if self._others(release) or target.parent.is_symlink() or not target.parent.is_dir():
            return
        target.unlink(missing_ok=True)
        remove_leftovers(target.parent, target.name.__eq__)
        _remove_empty(target.parent, self.root.modules)

    def _others(self, release: Release) -> bool:
        """Tell whether the place of a release's modulefile is taken by that of another one."""
        target = self.root.modulefile(release)
        return os.path.lexists(target) and _owner(target) != release.id

    def _unlink_others(self, release: Release, kept: Collection[str]) -> None:
        """Remove a release's links of categories that are not kept."""
        if self._others(release):
            return
        target = self.root.modulefile(release)
        links = {self.root.category_link(release, category) for category in kept}
        for directory in self.root.categories.iterdir() if self.root.categories.is_dir() else ():
            link = self.root.category_link(release, directory.name)
            if link not in links and link.is_symlink() and os.path.realpath(link) == os.path.realpath(target):
                link.unlink()
                _remove_empty(link.parent, self.root.categories)


def refuse_link(directory: Path) -> None:
    """See that a directory that is written to is not a symbolic link.

    Raises:
        DeployError: it is one.
    """
    if directory.is_symlink():
        raise DeployError(f"{directory}: a symbolic link, and nothing is written through it", "move it away")


def _owner(modulefile: Path) -> str:
    """Return the id of the release that a modulefile was made for; nothing when it is not ours."""
    if modulefile.is_symlink() or not modulefile.is_file():
        return ""
    return owner_of_modulefile(modulefile.read_text(encoding="utf-8", errors="replace"))


def make_link(link: Path, target: str) -> None:
    """Make a symbolic link, in place of one that points elsewhere, without a moment when it is missing.

    Raises:
        DeployError: something else stands in its place.
        OSError: the directory cannot be written.
    """
    if link.is_symlink() and os.readlink(link) == target:
        return
    if os.path.lexists(link) and not link.is_symlink():
        raise DeployError(f"{link}: not made by neurocommand, but a link belongs there", "move it away")
    temporary = link.with_name(f".{link.name}.partial")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def _remove_empty(directory: Path, above: Path) -> None:
    """Remove a directory and its parents below ``above`` as far as they are empty."""
    while directory != above and above in directory.parents:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
