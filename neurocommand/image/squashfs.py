"""A squashfs that lies somewhere in a file: unpacked, or made of a tar stream; without root, nothing of it is run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

from neurocommand.errors import NO_SPACE, ImageError, RefusedError
from neurocommand.process import dying_with_us, feed, find_program, run
from neurocommand.settings import Compression

# unsquashfs 4.5.1 as an ordinary user; the device goes without, all else of the image is there (exit code 2).
NO_DEVICE = re.compile(r"create_inode: could not create (character|block) device .*, because you're not superuser!")
NEWER = "install squashfs-tools 4.5 or newer"
# what the C library (strerror) and Go (package syscall) say, in their own cases
FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)

# No more bytes than Apptainer's gzip, at a tenth of its work: docs/adr/0007-layers-become-squashfs.md
COMPRESSIONS: dict[Compression, list[str]] = {
    "zstd": ["-comp", "zstd", "-Xcompression-level", "4", "-b", "256K"],
    "gzip": ["-comp", "gzip"],
}


@dataclass(frozen=True)
class Root:
    """What a root directory of root's is: permission bits, and modification time in seconds since 1970."""

    mode: int
    mtime: int


def extract(image: Path, offset: int, directory: Path, names: Sequence[str] = (), depth: int | None = None) -> None:
    """Write the files of a squashfs below a directory; extended attributes are left out.

    unsquashfs is never asked to follow a link, and 4.5.1 refuses names that would leave the directory.

    Args:
        image: the file that holds the squashfs.
        offset: where the squashfs begins, in bytes.
        directory: is made when it does not exist; where files of the same names are there, they are replaced.
        names: what to write, relative to the root, with what is below; all when empty. Absent ones are no error.
        depth: how many levels below the root to write; None for all.

    Raises:
        ImageError: the squashfs is damaged, or something other than a device node could not be written.
        RefusedError: there is no space for them.
    """
    argv = ["unsquashfs", "-quiet", "-no-progress", "-no-xattrs", "-no-wildcards", "-force", "-offset", str(offset)]
    argv += ["-max-depth", str(depth)] if depth is not None else []
    argv += ["-dest", str(directory), str(image), *names]
    if not find_program("unsquashfs"):
        raise ImageError(f"{image}: cannot be unpacked: unsquashfs is missing", NEWER)
    done = run([*dying_with_us("KILL"), *argv], env={"LC_ALL": "C"}, check=False)
    if "SYNTAX:" in done.stdout + done.stderr:
        raise ImageError(f"{image}: cannot be unpacked: unsquashfs is too old, it does not know our options", NEWER)
    messages = [line for line in done.stderr.splitlines() if line.strip()]
    serious = [line for line in messages if not NO_DEVICE.fullmatch(line)]
    # 0 is success; 2 is "non-fatal errors", which may be a full disk or a device: only devices may be missing.
    if done.code == 0 or (done.code == 2 and messages and not serious):
        return
    reason = "; ".join(serious[-3:]) or f"unsquashfs ended with exit {done.code}"
    if FULL.search(reason):
        raise RefusedError(f"{image}: cannot be unpacked: {reason}", NO_SPACE)
    raise ImageError(
        f"{image}: cannot be unpacked: {reason}", "the file may be damaged: compare it with the lock, or fetch it again"
    )


def create(
    image: Path, offset: int, root: Root, compression: Compression, write: Callable[[BufferedWriter], None]
) -> None:
    """Make a squashfs of a tar stream.

    Args:
        image: the file to write; what it held is gone.
        offset: where in it the squashfs is to begin, in bytes.
        root: what the root directory, which is no member of the stream, is to be. mksquashfs 4.5.1 does not heed an
            owner: it is root's, as all else is when an ordinary user runs this.
        compression: how to compress.
        write: writes the stream to the file that it is given.

    Raises:
        ImageError: mksquashfs is missing or too old, or could not write all of it; the file is not removed.
    """
    argv = ["mksquashfs", "-", str(image), "-tar", "-noappend", "-quiet", "-no-progress", "-exports"]
    argv += ["-offset", str(offset), "-root-mode", f"{root.mode:o}", "-root-time", str(root.mtime)]
    argv += [*COMPRESSIONS[compression], *(["-all-root"] if os.geteuid() else [])]
    if not find_program("mksquashfs"):
        raise ImageError(f"{image}: cannot be made: mksquashfs is missing", NEWER)
    done = feed([*dying_with_us("KILL"), *argv], write, env={"LC_ALL": "C"})
    messages = [line for line in done.stderr.splitlines() if line.strip()]
    if done.code == 0 and not messages:
        return
    reason = "; ".join(messages[-3:])[:500] or f"mksquashfs ended with exit {done.code}"
    hint = "free some space" if FULL.search(reason) else NEWER
    raise ImageError(f"{image}: cannot be made: {reason}", hint)
