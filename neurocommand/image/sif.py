"""SIF files: made by Apptainer from an OCI image, and unpacked into a tree without it."""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from spython.utils import stream_command

from neurocommand.errors import NO_SPACE, ImageError, RefusedError
from neurocommand.files import remove_tree
from neurocommand.image import squashfs
from neurocommand.image.header import Partition, locate, recorded_environment
from neurocommand.process import dying_with_us, find_program
from neurocommand.settings import Credentials

__all__ = ["Partition", "convert", "locate", "recorded_environment", "unpack"]

LAST_LINES = 8
# The environment is read from a file, since everybody may read the words of a command.
WITH_ENVIRONMENT = 'set -a; . "$0"; rm -f "$0"; set +a; exec "$@"'
COLOUR = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f]")


def convert(
    reference: str,
    path: Path,
    *,
    insecure: bool,
    scratch: Path,
    report: Callable[[str], None],
    credentials: Credentials | None = None,
) -> None:
    """Make a SIF from an OCI image with Apptainer, as whoever runs this.

    Args:
        reference: the image with its transport: ``docker://…@sha256:…``, ``docker-archive:/file.tar``.
        path: the SIF to make; must not exist.
        insecure: speak HTTP to the registry.
        scratch: a directory for Apptainer's cache and temporary files, about three times the size of the image.
        report: called with each line that Apptainer writes.
        credentials: of the registry, instead of those of ``docker login``.

    Raises:
        ImageError: Apptainer is missing or failed, with its last lines; nothing is left at ``path``.
        RefusedError: as it says, there was no space.
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
    command = ["env", *settings, runtime, "build", *options, str(path), reference]
    try:
        argv = [*dying_with_us("TERM"), *_logged_in(command, credentials, temporary)]
        _build(argv, reference, report)
        locate(path)
    except BaseException:
        remove_tree(path)
        raise
    finally:
        remove_tree(temporary)


def _logged_in(command: list[str], credentials: Credentials | None, directory: Path) -> list[str]:
    """Return a command with a registry's credentials in its environment, though in nobody's list of processes."""
    if credentials is None:
        return command
    values = {"USERNAME": credentials.username, "PASSWORD": credentials.password}
    lines = [
        f"{program}_DOCKER_{field}={shlex.quote(value)}\n"
        for program in ("APPTAINER", "SINGULARITY")
        for field, value in values.items()
    ]
    number, name = tempfile.mkstemp(dir=directory.resolve())  # for us alone to read
    with open(number, "wb") as file:
        file.write("".join(lines).encode(errors="surrogateescape"))
    return ["sh", "-c", WITH_ENVIRONMENT, name, *command]


def unpack(path: Path, directory: Path) -> None:
    """Unpack the container's file system of a SIF, without root and without running anything of the image.

    Nobody but the caller can enter the tree until ``tree.normalise`` opens it: unpacked by root, it may hold setuid
    programs and device nodes.

    Args:
        path: the SIF.
        directory: the tree to make; must not exist, its parent must. An ordinary user's has no device nodes.

    Raises:
        ImageError: no sound SIF, or it could not be unpacked whole; nothing is left at ``directory``.
        RefusedError: there is no space for it; nothing is left there, either.
    """
    if directory.is_symlink() or directory.exists():
        raise ImageError(f"{directory}: exists already; a tree is never unpacked over another")
    partition = locate(path)
    closed = Path(tempfile.mkdtemp(prefix=f".{directory.name[:100]}.", dir=directory.parent))
    try:
        squashfs.extract(path, partition.offset, closed / "tree")
        (closed / "tree").chmod(0o700)
        (closed / "tree").rename(directory)
    finally:
        remove_tree(closed)


def _build(argv: list[str], reference: str, report: Callable[[str], None]) -> None:
    last: deque[str] = deque(maxlen=LAST_LINES)
    lines = _lines(argv, reference, last)
    try:
        for line in lines:
            last.append(line)
            report(line)
    except BaseException:
        # Interrupted: Apptainer was, too, by the terminal. It must have ended before what it wrote is removed, and
        # spython gives no hold on it but its output.
        with contextlib.suppress(ImageError, RefusedError):
            deque(lines, maxlen=0)
        raise


def _lines(argv: list[str], reference: str, last: Collection[str]) -> Iterator[str]:
    """Yield what a program says, line by line, without colours; ``last`` is what an error tells of it.

    spython's ``Client.build(stream=True)`` reads standard output alone; Apptainer speaks on standard error, and stops
    for good once 64 KiB of it lie unread (a line per file whose attributes it cannot set is common). The function
    below it can read both.
    """
    try:
        for line in stream_command(argv, sudo=False, output_type="both"):
            if text := COLOUR.sub("", line).strip():
                yield text
    except (Exception, SystemExit) as error:  # whatever spython does: CalledProcessError, sys.exit, UnicodeDecodeError
        code = getattr(error, "returncode", None)
        said = "".join(f"\n  {line}" for line in last)
        what = f"{reference}: apptainer could not convert the image"
        message = f"{what} ({error if code is None else f'exit {code}'}):{said}"
        if squashfs.FULL.search(said):
            raise RefusedError(message, NO_SPACE) from error
        raise ImageError(message, "check that the image exists, and that there is space") from error
