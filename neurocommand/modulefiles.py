"""The modulefiles of a root: ``modules/<application>/<version>.lua``, and a link to it for each category.

The modulefile of a version belongs to one build date of it, which its second line names (docs/design.md §4).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from neurocommand.errors import DeployError
from neurocommand.files import make_directory, remove_leftovers, write_atomically
from neurocommand.layout import Root, owner_of_modulefile
from neurocommand.model import DeployRecord, Inspection, Release
from neurocommand.render import modulefile


class Modulefiles:
    """Writes and removes modulefiles under one root; used under the root's run lock only.

    Args:
        root: the root.
        umask: applied to what is made, instead of the process's own.
    """

    def __init__(self, root: Root, umask: int | None = None) -> None:
        self.root = root
        self.umask = umask

    def refuse_foreign(self, release: Release, categories: Collection[str]) -> None:
        """See that ``write`` can do its work: nothing of somebody else's is in its way, and it may write there.

        Raises:
            DeployError: a modulefile, link or directory of ours cannot be made.
            OSError: the root cannot be read.
        """
        target = self.root.modulefile(release)
        refuse_obstacle(self.root.categories)
        refuse_obstacle(target.parent)
        _refuse_unwritable(target.parent)
        if os.path.lexists(target) and not _owner(target):
            raise DeployError(f"{target}: not made by neurocommand", "move it away")
        for category in categories:
            link = self.root.category_link(release, category)
            refuse_obstacle(link.parent.parent)
            refuse_obstacle(link.parent)
            if not _is_made(link, self._target(release, link)):
                _refuse_unwritable(link.parent)

    def _target(self, release: Release, link: Path) -> str:
        """Return what a category link of ours says; never anything else, so that a root may be moved."""
        return os.path.relpath(self.root.modulefile(release), link.parent)

    def write(self, new: DeployRecord, found: Inspection) -> None:
        """Make the links and the modulefile of a deployed release, and remove the links of other categories.

        Raises:
            DeployError: something that is not ours stands in the place of a directory or link.
            OSError: the root cannot be written; what was done until then is taken back by ``undo``.
        """
        target = self.root.modulefile(new.release)
        make_directory(target.parent, self.umask)
        for category in new.categories:
            link = self.root.category_link(new.release, category)
            for directory in (link.parent.parent, link.parent):
                refuse_obstacle(directory)
            make_directory(link.parent, self.umask)
            make_link(link, self._target(new.release, link))
        text = modulefile.lua(new.release, found, new.categories, new.format)
        write_atomically(target, text, umask=self.umask)
        self._unlink_others(new.release, {self.root.category_link(new.release, name) for name in new.categories})

    def links(self, release: Release) -> frozenset[Path]:
        """Return the category links to a release's modulefile, whichever build date that belongs to.

        Raises:
            OSError: the root cannot be read.
        """
        places = self.root.categories.iterdir() if self.root.categories.is_dir() else ()
        links = (self.root.category_link(release, place.name) for place in places)
        return frozenset(
            link for link in links if link.is_symlink() and os.readlink(link) == self._target(release, link)
        )

    def undo(self, new: DeployRecord, links: Collection[Path], *, saved: bool) -> None:
        """Take back what ``write`` did or began to do; links that it removed are made again.

        Args:
            new: what it was given.
            links: those that were there before.
            saved: its modulefile has a predecessor, which the caller puts back.

        Raises:
            OSError: the root cannot be written.
        """
        if not saved:
            self.remove(new.release)
        for link in self.links(new.release) - set(links):
            self._unlink(link)
        for link in links:
            make_directory(link.parent, self.umask)
            make_link(link, self._target(new.release, link))
        for category in new.categories:
            _remove_empty(self.root.category_link(new.release, category).parent, self.root.categories)

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

    def _unlink_others(self, release: Release, kept: Collection[Path]) -> None:
        """Remove a release's links that are not kept."""
        if not self._others(release):
            for link in self.links(release) - set(kept):
                self._unlink(link)

    def _unlink(self, link: Path) -> None:
        link.unlink()
        _remove_empty(link.parent, self.root.categories)


def refuse_obstacle(directory: Path) -> None:
    """See that in the place of a directory that is written to there is one, or nothing.

    Raises:
        DeployError: a symbolic link or a file is there.
    """
    if directory.is_symlink():
        raise DeployError(f"{directory}: a symbolic link, and nothing is written through it", "move it away")
    if os.path.lexists(directory) and not directory.is_dir():
        raise DeployError(f"{directory}: a file, but a directory belongs there", "move it away")


def _refuse_unwritable(directory: Path) -> None:
    """See that names can be made in a directory, or in the one above that is there already."""
    while not directory.is_dir() and directory != directory.parent:
        directory = directory.parent
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DeployError(f"{directory}: cannot be written", "see who owns it, and whether it is mounted read-only")


def _owner(modulefile: Path) -> str:
    """Return the id of the release that a modulefile was made for; nothing when it is not ours."""
    if modulefile.is_symlink() or not modulefile.is_file():
        return ""
    return owner_of_modulefile(modulefile.read_text(encoding="utf-8", errors="replace"))


def make_link(link: Path, target: str) -> None:
    """Make a symbolic link, unless it is there.

    Raises:
        DeployError: something else stands in its place; a link that points elsewhere, too, was made by somebody else.
        OSError: the directory cannot be written.
    """
    if not _is_made(link, target):
        link.symlink_to(target)


def _is_made(link: Path, target: str) -> bool:
    """Tell whether a link is there, and is ours.

    Raises:
        DeployError: something else stands in its place.
    """
    if link.is_symlink() and os.readlink(link) == target:
        return True
    if os.path.lexists(link):
        raise DeployError(f"{link}: not made by neurocommand, but a link to {target} belongs there", "move it away")
    return False


def _remove_empty(directory: Path, above: Path) -> None:
    """Remove a directory and its parents below ``above`` as far as they are empty."""
    while directory != above and above in directory.parents:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
