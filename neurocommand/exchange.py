"""One release's directory in place of another, so that a deployment that works is never lost to one that fails.

What stood there waits in the root's staging directory, with copies of its modulefiles, until the new record is final.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from neurocommand.files import remove_tree
from neurocommand.layout import Root
from neurocommand.model import Release

_OLD = ".old"


class Exchange:
    """The exchange of one release under a root; used under the root's run lock only."""

    def __init__(self, root: Root, release: Release) -> None:
        self.final = root.release(release)
        self.staged = root.staging / release.id
        self.old = root.staging / f"{release.id}{_OLD}"
        # where the copy of each modulefile waits
        self.copies = {
            root.modulefile(release): root.staging / f"{release.id}.lua",
            root.tcl_modulefile(release): root.staging / f"{release.id}.tcl",
        }
        self.failed = root.staging / f"{release.id}.failed"

    def begin(self) -> None:
        """Give the staged release its place; what stood there, and copies of its modulefiles, are kept aside.

        Raises:
            OSError: the root cannot be written; ``undo`` it.
        """
        for modulefile, copy in self.copies.items():
            remove_tree(copy)
            if modulefile.exists():
                # whichever build date of the version it belongs to
                shutil.copy(modulefile, self.failed)
                os.replace(self.failed, copy)
        if os.path.lexists(self.final.path):
            os.rename(self.final.path, self.old)
        os.rename(self.staged, self.final.path)

    def finish(self) -> None:
        """Make the new release a deployed one.

        Raises:
            OSError: the root cannot be written; ``undo`` it.
        """
        os.replace(self.final.pending_record, self.final.record)

    @property
    def saved(self) -> frozenset[Path]:
        """The modulefiles of which copies are kept aside."""
        return frozenset(modulefile for modulefile, copy in self.copies.items() if os.path.lexists(copy))

    @property
    def finished(self) -> bool:
        """Whether a deployed release is in its place: the new one, or the old one that was not moved yet."""
        return os.path.lexists(self.final.record)

    def undo(self) -> None:
        """Put back what stood there and its modulefiles, unless the new release is deployed; may be done again.

        Raises:
            OSError: the root cannot be written.
        """
        if self.finished:
            return
        for modulefile in self.saved:
            os.replace(self.copies[modulefile], modulefile)
        if os.path.lexists(self.final.path):
            remove_tree(self.failed)
            os.rename(self.final.path, self.failed)
        if os.path.lexists(self.old):
            os.rename(self.old, self.final.path)

    def clear(self) -> None:
        """Remove what is not needed any more; what ``undo`` could not put back waits for the next run.

        Raises:
            OSError: something there belongs to someone else.
        """
        for path in (self.staged, self.failed, *((self.old,) if self.finished else ())):
            remove_tree(path)
        if not os.path.lexists(self.old):
            for copy in self.copies.values():
                remove_tree(copy)


def give_back(root: Root) -> None:
    """Put deployments back that a killed run had moved aside, and whose successors it had not finished.

    Raises:
        OSError: the root cannot be written.
    """
    for entry in root.staging.iterdir():
        if (release := _release(entry)) is not None:
            Exchange(root, release).undo()


def _release(entry: Path) -> Release | None:
    try:
        return Release.parse(entry.name.removesuffix(_OLD)) if entry.name.endswith(_OLD) else None
    except ValueError:
        return None
