"""Unpack a squashfs that lies somewhere in a file, without root and without running anything from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from neurocommand.errors import ImageError
from neurocommand.process import dying_with_us, find_program, run

# unsquashfs 4.5.1 as an ordinary user; the device goes without, all else of the image is there (exit code 2).
NO_DEVICE = re.compile(r"create_inode: could not create (character|block) device .*, because you're not superuser!")
NEWER = "install squashfs-tools 4.5 or newer"
FULL = re.compile(r"No space left on device|Disk quota exceeded")


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
    hint = (
        "free some space"
        if FULL.search(reason)
        else "the file may be damaged: compare it with the lock, or fetch it again"
    )
    raise ImageError(f"{image}: cannot be unpacked: {reason}", hint)
