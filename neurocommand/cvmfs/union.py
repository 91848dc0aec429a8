"""Changes made in an open transaction, in which a repository's directory can be written as any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neurocommand import process
from neurocommand.files import remove_tree


def change(mount: Path, parcel: Path | None, removes: Sequence[str]) -> None:
    """Remove paths, then add what a parcel holds.

    Args:
        mount: the repository's directory.
        parcel: a tar, or None.
        removes: paths relative to the directory.

    Raises:
        OSError: it cannot be written.
        ProcessError: the tar cannot be unpacked.
    """
    for path in removes:
        remove_tree(mount / path)
    if parcel is not None:
        process.run(["tar", "-x", "-p", "--no-same-owner", "-f", str(parcel), "-C", str(mount)])
