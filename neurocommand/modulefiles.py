"""The modulefiles of a root, for both module systems, the links to them, and what says which version is the default.

The modulefile of a version belongs to one build date of it, which its second line names (docs/design.md §4).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from neurocommand import versions
from neurocommand.files import make_directory, remove_leftovers, write_atomically
from neurocommand.foreign import (
    is_link,
    is_made,
    make_link,
    owner,
    refuse_file,
    refuse_obstacle,
    refuse_unwritable,
    remove_empty,
)
from neurocommand.layout import WARM, Root
from neurocommand.manifest import Defaults
from neurocommand.model import DeployRecord, Release
from neurocommand.render.module import Module
from neurocommand.render.modulefile import lua
from neurocommand.render.tclmodule import tcl


class Modulefiles:
    """Writes and removes modulefiles under one root; used under the root's run lock only.

    Args:
        root: the root.
        umask: applied to what is made, instead of the process's own.
        defaults: what default versions are decided by.
    """

    def __init__(self, root: Root, umask: int | None = None, defaults: Defaults | None = None) -> None:
        self.root = root
        self.umask = umask
        self.defaults = defaults or Defaults()

    def refuse_foreign(self, release: Release, categories: Collection[str]) -> None:
        """See that ``write`` and ``renew`` can do their work: nothing of somebody else's is in their way.

        Raises:
            DeployError: a modulefile, link or directory of ours cannot be made.
            OSError: the root cannot be read.
        """
        for directory in (self.root.categories, self.root.modules_tcl):
            refuse_obstacle(directory)
        for path in self.root.modulefile(release), self.root.tcl_modulefile(release):
            refuse_obstacle(path.parent)
            refuse_unwritable(path.parent)
            refuse_file(path)
        for path in versions.places(self.root, release.application):
            refuse_file(path, release.application)
        for link, target in {**self._links(release, categories), **self._indexed(release, categories)}.items():
            refuse_obstacle(link.parent.parent)
            refuse_obstacle(link.parent)
            if not is_made(link, target):
                refuse_unwritable(link.parent)

    def _links(self, release: Release, categories: Collection[str]) -> dict[Path, str]:
        """Return the links to a release's modulefiles, and what each says; a root may be moved with them."""
        target = self.root.modulefile(release)
        links = {
            self.root.modulefile(release, WARM): target.name,
            self.root.tcl_modulefile(release, WARM): self.root.tcl_modulefile(release).name,
        }
        for category in categories:
            link = self.root.category_link(release, category)
            links[link] = os.path.relpath(target, link.parent)
            links[self.root.category_link(release, category, WARM)] = link.name
        return links

    def _indexed(self, release: Release, categories: Collection[str]) -> dict[Path, str]:
        """Return the links that categories have to what says which version is the default."""
        target = self.root.modules / release.application / versions.LUA
        directories = [self.root.category_link(release, category).parent for category in categories]
        return {directory / versions.LUA: os.path.relpath(target, directory) for directory in directories}

    def write(self, new: DeployRecord, module: Module) -> None:
        """Make the links and the modulefiles of a deployed release, and remove the links of other categories.

        Raises:
            DeployError: something that is not ours stands in the place of a directory or link.
            OSError: the root cannot be written; what was done until then is taken back by ``undo``.
        """
        links = self._links(new.release, new.categories)
        for link, target in links.items():
            self._make(link, target)
        for path, text in (
            (self.root.modulefile(new.release), lua(module)),
            (self.root.tcl_modulefile(new.release), tcl(module)),
        ):
            write_atomically(path, text, umask=self.umask)
        self._unlink_others(new.release, links)

    def _make(self, link: Path, target: str) -> None:
        for directory in (link.parent.parent, link.parent):
            refuse_obstacle(directory)
        make_directory(link.parent, self.umask)
        make_link(link, target)

    def bury(self, withdrawn: DeployRecord, module: Module) -> None:
        """Write the modulefiles of a withdrawn release, unless another build date has their place.

        Raises:
            DeployError, OSError: as ``write`` does.
        """
        if not self.belongs_to_another(withdrawn.release):
            self.write(withdrawn, module)

    def renew(self, application: str) -> None:
        """Let module systems know which version of an application is the default; with its last module all of it goes.

        Raises:
            DeployError: something that is not ours stands in the place of a file or link.
            OSError: the root cannot be read or written.
        """
        wanted = versions.texts(self.root, application, self.defaults)
        for path in versions.places(self.root, application):
            if path not in wanted:
                if owner(path) == application:
                    path.unlink()
                    remove_empty(path.parent, path.parent.parent)
                continue
            refuse_obstacle(path.parent)
            refuse_file(path, application)
            if versions.head(path, -1) != wanted[path]:
                # written again by the next run where a crash of the machine loses it
                write_atomically(path, wanted[path], durable=False, umask=self.umask)
        links = versions.links(self.root, application)
        for link, target in links.items():
            make_link(link, target)
        for directory in versions.category_directories(self.root, application):
            link = directory / versions.LUA
            if link not in links and is_link(link, versions.target(self.root, application, directory)):
                self._unlink(link)

    def links(self, release: Release) -> frozenset[Path]:
        """Return the links to a release's modulefiles that are there, whichever build date those belong to.

        Raises:
            OSError: the root cannot be read.
        """
        names = os.listdir(self.root.categories) if self.root.categories.is_dir() else ()
        return frozenset(link for link, target in self._links(release, names).items() if is_link(link, target))

    def undo(self, new: DeployRecord, links: Collection[Path], *, saved: Collection[Path]) -> None:
        """Take back what ``write`` did or began to do; links that it removed are made again.

        Args:
            new: what it was given.
            links: those that were there before.
            saved: the modulefiles that have predecessors, which the caller puts back.

        Raises:
            OSError: the root cannot be written.
        """
        every = self._links(new.release, {*new.categories, *(link.parent.parent.name for link in links)})
        for link in self.links(new.release) - set(links):
            self._unlink(link)
        for link in links:
            self._make(link, every[link])
        self._drop(new.release, saved)
        for link in every:
            remove_empty(link.parent, self._above(link))

    def remove(self, release: Release) -> None:
        """Remove the links and the modulefiles of a release; those of another build date are left alone.

        Raises:
            DeployError: something that is not ours stands in the place of what tells the default version.
            OSError: the root cannot be written.
        """
        self._unlink_others(release, ())
        self._drop(release)
        self.renew(release.application)

    def _drop(self, release: Release, kept: Collection[Path] = ()) -> None:
        """Remove a release's modulefiles, and what killed runs left of them."""
        for target in self.root.modulefile(release), self.root.tcl_modulefile(release):
            another = os.path.lexists(target) and owner(target) != release.id
            if not another and target not in kept and not target.parent.is_symlink() and target.parent.is_dir():
                target.unlink(missing_ok=True)
                remove_leftovers(target.parent, target.name.__eq__)
                remove_empty(target.parent, self._above(target))

    def belongs_to_another(self, release: Release) -> bool:
        """Tell whether the place of a release's modulefile is taken by that of another one."""
        target = self.root.modulefile(release)
        return os.path.lexists(target) and owner(target) != release.id

    def _unlink_others(self, release: Release, kept: Collection[Path]) -> None:
        """Remove a release's links that are not kept."""
        if not self.belongs_to_another(release):
            for link in self.links(release) - set(kept):
                self._unlink(link)

    def _unlink(self, link: Path) -> None:
        link.unlink()
        remove_empty(link.parent, self._above(link))

    def _above(self, path: Path) -> Path:
        """Return the directory up to which what gets empty is removed with a modulefile or link."""
        return self.root.categories if self.root.categories in path.parents else path.parent.parent
