"""The members of a layer, read from its uncompressed tar file without reading the files' contents."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from neurocommand.errors import ImageError, printable
from neurocommand.image.layers import HINT, Kind, Member, Node
from neurocommand.image.oci import NeedsApptainerError

KINDS: dict[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "character",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
XATTR = "SCHILY.xattr."
LARGEST_HEADER = (1 << 20) + 512  # bytes of one extended header; Go's reader, Apptainer's, stops there too
LONGEST_PATH = 4095  # PATH_MAX: no longer one can be unpacked
LARGEST_ID = 0xFFFFFFFE
LARGEST_TIME = 0xFFFFFFFF  # squashfs keeps 32 bits


class _Bounded:
    """A file that hands out a limited number of bytes at once: tarfile reads extended headers as large as they say."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"an extended header of {size} bytes")
        return self.stream.read(size)


def read(path: Path, number: int, where: str) -> Iterator[Member]:
    """Yield the members of a layer.

    Args:
        path: the uncompressed layer.
        number: what the nodes call the layer.
        where: what faults are reported against: the image and the layer.

    Raises:
        NeedsApptainerError: a member of a kind that is left to Apptainer.
        ImageError: the layer is no sound tar file.
    """
    with open(path, "rb") as stream:
        try:
            # surrogateescape: names are bytes
            archive = tarfile.open(  # noqa: SIM115
                fileobj=_Bounded(stream),  # type: ignore[call-overload]
                mode="r:",
                encoding="utf-8",
                errors="surrogateescape",
            )
            while (item := archive.next()) is not None:
                archive.members.clear()  # of no more use, and there may be a million
                if archive.pax_headers:
                    raise NeedsApptainerError(f"{where}: has headers for all of its members")
                yield Member(item.name, _node(item, number, where))
            _check_end(stream, archive.offset, where)
        # a damaged header may be anything to tarfile
        except (tarfile.TarError, ValueError, IndexError, KeyError, OverflowError, RecursionError) as error:
            if str(error) != "empty file":
                raise ImageError(f"{where}: is no sound tar file: {printable(str(error))}", HINT) from error


def _check_end(stream: BinaryIO, offset: int, where: str) -> None:
    """See that the archive ends where tarfile stopped: it takes a damaged header in the midst for the end."""
    stream.seek(offset)
    if any(stream.read(512)):
        raise ImageError(f"{where}: the tar file is damaged at byte {offset}", HINT)


def _node(item: tarfile.TarInfo, number: int, where: str) -> Node:
    kind = KINDS.get(item.type)
    if max(len(item.name), len(item.linkname)) > LONGEST_PATH:
        raise ImageError(f"{where}: {printable(item.name)}: a name of more than {LONGEST_PATH} bytes", HINT)
    if kind is None or item.issparse():
        raise NeedsApptainerError(f"{where}: {printable(item.name)}: is of type {item.type!r}")
    if kind == "hardlink":
        return Node(kind, target=item.linkname)
    mtime = int(item.mtime // 1)
    if not 0 <= mtime <= LARGEST_TIME:
        raise NeedsApptainerError(f"{where}: {printable(item.name)}: was changed before 1970, or after 2106")
    if not (0 <= item.uid <= LARGEST_ID and 0 <= item.gid <= LARGEST_ID):
        raise NeedsApptainerError(f"{where}: {printable(item.name)}: has the owner {item.uid}:{item.gid}")
    xattrs = tuple(
        (name.removeprefix(XATTR), value.encode("utf-8", "surrogateescape"))
        for name, value in sorted(item.pax_headers.items())
        if name.startswith(XATTR) and value  # to Go's reader an empty one is none
    )
    node = Node(kind, item.mode & 0o7777, item.uid, item.gid, mtime, xattrs=xattrs)
    if kind == "file":
        node.size, node.layer, node.offset = item.size, number, item.offset_data
    elif kind == "symlink":
        node.target, node.mode = item.linkname, 0o777
    elif kind in ("character", "block"):
        node.device = (item.devmajor, item.devminor)
    return node
