"""SIF files: made by Apptainer from an OCI image, and unpacked into a tree without it."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from spython.utils import stream_command

from neurocommand import squashfs
from neurocommand.errors import ImageError
from neurocommand.files import remove_tree
from neurocommand.process import find_program
from neurocommand.sifheader import Partition, locate, recorded_environment

__all__ = ["Partition", "convert", "locate", "recorded_environment", "unpack"]

LAST_LINES = 8


def convert(reference: str, path: Path, *, insecure: bool, scratch: Path, report: Callable[[str], None]) -> None:
    """Make a SIF from an OCI image with Apptainer, as whoever runs this.

    Args:
        reference: the image with its transport: ``docker://…@sha256:…``, ``docker-archive:/file.tar``.
        path: the SIF to make; must not exist.
        insecure: speak HTTP to the registry.
        scratch: a directory for Apptainer's cache and temporary files, about three times the size of the image.
        report: called with each line that Apptainer writes.

    Raises:
        ImageError: Apptainer is missing or failed, with its last lines; nothing is left at ``path``.
    """
    if path.is_symlink() or path.exists():
        raise ImageError(f"{path}: exists already; a conversion never replaces a file")
    runtime = find_program("apptainer") or find_program("singularity")
    if runtime is None:
        raise ImageError("neither apptainer nor singularity is on PATH", "install Apptainer 1.1 or newer")
    cache, temporary = scratch / "cache", scratch / "tmp"
    cache.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(exist_ok=True)
    # Settings go through env(1), since spython hands its own environment on, and ours is not to be changed.
    settings = [f"APPTAINER_CACHEDIR={cache}", f"APPTAINER_TMPDIR={temporary}"]
    settings += [setting.replace("APPTAINER", "SINGULARITY", 1) for setting in settings]
    options = ["--no-https"] if insecure and reference.startswith("docker://") else []
    argv = [*squashfs.dying_with_us("TERM"), "env", *settings, runtime, "build", *options, str(path), reference]
    try:
        _build(argv, reference, report)
        locate(path)
    except BaseException:
        remove_tree(path)
        raise
    finally:
        remove_tree(temporary)


def unpack(path: Path, directory: Path) -> None:
    """Unpack the container's file system of a SIF, without root and without running anything of the image.

    Args:
        path: the SIF.
        directory: the tree to make; must not exist, its parent must. An ordinary user's has no device nodes.

    Raises:
        ImageError: no sound SIF, or it could not be unpacked whole; nothing is left at ``directory``.
    """
    if directory.is_symlink() or directory.exists():
        raise ImageError(f"{directory}: exists already; a tree is never unpacked over another")
    partition = locate(path)
    try:
        squashfs.extract(path, partition.offset, directory)
    except BaseException:
        remove_tree(directory)
        raise


def _build(argv: list[str], reference: str, report: Callable[[str], None]) -> None:
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        for line in _lines(argv):
            last.append(line)
            report(line)
    except (subprocess.CalledProcessError, OSError, UnicodeDecodeError, SystemExit) as error:
        how = f"exit {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(error)
        said = "\n".join(f"  {line}" for line in last)
        raise ImageError(
            f"{reference}: apptainer could not convert the image ({how})" + (f":\n{said}" if said else ""),
            "check that the image exists and that there is space, then run again",
        ) from error


def _lines(argv: list[str]) -> Iterator[str]:
    """Yield what a program says, line by line, without colours.

    spython's ``Client.build(stream=True)`` reads standard output alone; Apptainer speaks on standard error, and blocks
    once 64 KiB of it lie unread (one line per file whose attributes it cannot set). The function below it reads both.
    """
    for line in stream_command(argv, sudo=False, output_type="both"):
        text = "".join(character for character in line if character.isprintable()).strip()
        text = text.replace("[0m", "").replace("[33m", "").replace("[31m", "").replace("[91m", "")
        if text:
            yield text
