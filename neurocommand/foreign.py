"""What is ours under a root, and what somebody else put there: links and directories that are written to."""

from __future__ import annotations

import os
from pathlib import Path

from neurocommand.errors import DeployError
from neurocommand.layout import owner_of_modulefile
from neurocommand.versions import head


def owner(modulefile: Path) -> str:
    """Return whose a modulefile of ours is (layout.owner_of_modulefile); nothing when it is not ours.

    Raises:
        OSError: it cannot be read.
    """
    return owner_of_modulefile(head(modulefile))


def refuse_file(path: Path, owners: str = "") -> None:
    """See that in the place of a modulefile there is nothing, or one of ours.

    Args:
        path: the place.
        owners: whose it has to be; empty: it may belong to any release.

    Raises:
        DeployError: somebody else's is there.
    """
    found = owner(path)
    if not os.path.lexists(path) or (found and owners in ("", found)):
        return
    # an empty file is what a crash of the machine leaves of one that was just written
    if path.is_symlink() or not path.is_file() or path.stat().st_size:
        raise DeployError(f"{path}: not made by neurocommand", "move it away")


def refuse_obstacle(directory: Path) -> None:
    """See that in the place of a directory that is written to there is one, or nothing.

    Raises:
        DeployError: a symbolic link or a file is there.
    """
    if directory.is_symlink():
        raise DeployError(f"{directory}: a symbolic link, and nothing is written through it", "move it away")
    if os.path.lexists(directory) and not directory.is_dir():
        raise DeployError(f"{directory}: a file, but a directory belongs there", "move it away")


def refuse_unwritable(directory: Path) -> None:
    """See that names can be made in a directory, or in the one above that is there already.

    Raises:
        DeployError: they cannot.
    """
    while not directory.is_dir() and directory != directory.parent:
        directory = directory.parent
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DeployError(f"{directory}: cannot be written", "see who owns it, and whether it is mounted read-only")


def make_link(link: Path, target: str) -> None:
    """Make a symbolic link, unless it is there.

    Raises:
        DeployError: something else stands in its place; a link that points elsewhere, too, was made by somebody else.
        OSError: the directory cannot be written.
    """
    if not is_made(link, target):
        link.symlink_to(target)


def is_made(link: Path, target: str) -> bool:
    """Tell whether a link is there, and is ours.

    Raises:
        DeployError: something else stands in its place.
    """
    if is_link(link, target):
        return True
    if os.path.lexists(link):
        raise DeployError(f"{link}: not made by neurocommand, but a link to {target} belongs there", "move it away")
    return False


def is_link(link: Path, target: str) -> bool:
    """Tell whether a symbolic link is there that says just this."""
    return link.is_symlink() and os.readlink(link) == target


def remove_empty(directory: Path, above: Path) -> None:
    """Remove a directory and its parents below ``above`` as far as they are empty."""
    while directory != above and above in directory.parents:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
