"""What stands beside the image in a release's directory: its wrappers, and texts for today's readers."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from neurocommand.files import current_umask, make_directory, remove_tree, write_atomically
from neurocommand.foreign import refuse_obstacle
from neurocommand.layout import ReleaseDirectory
from neurocommand.model import Format, Inspection
from neurocommand.render import plain, wrapper
from neurocommand.render.runtimeoptions import Options
from neurocommand.settings import WrapperSettings


@dataclass(frozen=True)
class Making:
    """What wrappers are made of, beside the release and its image: the site's settings, and the manifest's options."""

    settings: WrapperSettings
    options: Options


def write(
    directory: ReleaseDirectory, found: Inspection, image_format: Format, making: Making, umask: int | None
) -> None:
    """Write every wrapper and text in place of its predecessor, and remove the wrappers of commands that are gone.

    Args:
        directory: the release's; must exist.
        found: what its image says.
        image_format: what the image is.
        making: what else wrappers are made of.
        umask: applied to what is made, instead of the process's own.

    Raises:
        DeployError: a link or a file stands where the wrappers' directory belongs.
        OSError: the directory cannot be written.
    """
    refuse_obstacle(directory.wrappers)
    make_directory(directory.wrappers, umask)
    # what wrappers source comes first: an older wrapper needs none of it, a newer one cannot do without
    bodies = wrapper.bodies(directory.release, image_format, making.settings, making.options, found.glibc)
    for name, text in bodies.items():
        write_atomically(directory.path / name, text, durable=False, umask=umask)
    for command in found.commands:
        text = wrapper.wrapper(directory.release, command)
        write_atomically(directory.wrappers / command, text, 0o755, durable=False, umask=umask)
    for entry in directory.wrappers.iterdir():
        if entry.name not in found.commands:
            remove_tree(entry)
    texts = {"commands.txt": plain.commands_txt(found), "env.txt": plain.env_txt(found), "README.md": found.readme}
    for name, text in texts.items():
        write_atomically(directory.path / name, text, durable=False, umask=umask)


def link_or_copy(source: Path, target: Path, umask: int | None) -> None:
    """Give a SIF a second name, or copy it where that cannot be.

    Raises:
        OSError: the target cannot be written.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    target.chmod(0o644 & ~(current_umask() if umask is None else umask))
