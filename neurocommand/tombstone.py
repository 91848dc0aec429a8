"""What is left of a withdrawn release in its directory: wrappers that say why they do not work, and its record."""

from __future__ import annotations

import os
from pathlib import Path

from neurocommand.files import make_directory, remove_tree, write_atomically
from neurocommand.foreign import refuse_obstacle
from neurocommand.layout import ReleaseDirectory
from neurocommand.model import DeployRecord, Notice
from neurocommand.render import wrapper

# of a live release only
_TEXTS = ("commands.txt", "env.txt", "warm.sh", "holder.sh", "udocker.sh")


def write(directory: ReleaseDirectory, withdrawn: DeployRecord, notice: Notice, umask: int | None) -> None:
    """Write what all wrappers of a release source, and every wrapper so that it does.

    Args:
        directory: the release's; must exist.
        withdrawn: its record.
        notice: what its users are told.
        umask: applied to what is made, instead of the process's own.

    Raises:
        DeployError: a link or a file stands where the wrappers' directory belongs.
        OSError: the directory cannot be written.
    """
    refuse_obstacle(directory.wrappers)
    make_directory(directory.wrappers, umask)
    text = wrapper.tombstone(directory.release, notice)
    write_atomically(directory.wrapper_body, text, durable=False, umask=umask)
    for command in withdrawn.commands:
        stub = wrapper.wrapper(directory.release, command)
        write_atomically(directory.wrappers / command, stub, 0o755, durable=False, umask=umask)


def empty(directory: ReleaseDirectory, staging: Path) -> None:
    """Remove the image, and the texts that only a live release has.

    Args:
        directory: the release's.
        staging: where the image vanishes to at once, and is removed from piece by piece.

    Raises:
        OSError: the directory cannot be written.
    """
    gone = staging / f"{directory.release.id}.withdrawn"
    for name in _TEXTS:
        (directory.path / name).unlink(missing_ok=True)
    if os.path.lexists(directory.image):
        remove_tree(gone)
        os.rename(directory.image, gone)
    remove_tree(gone)


def is_whole(directory: ReleaseDirectory, notice: Notice) -> bool:
    """Tell whether nothing is left to do: the wrappers say what they should, and the image is gone.

    Raises:
        OSError: it cannot be told.
    """
    try:
        text = directory.wrapper_body.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    rest = (directory.image, *(directory.path / name for name in _TEXTS))
    return text == wrapper.tombstone(directory.release, notice) and not any(map(os.path.lexists, rest))
