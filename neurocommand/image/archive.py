"""A file system as a tar stream for mksquashfs, its contents taken from the layers' own tar files."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from io import BufferedWriter

from neurocommand.image.layers import FileSystem, Kind, Node
from neurocommand.image.members import XATTR

TYPES: dict[Kind, bytes] = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "character": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}
BLOCK = 512
SMALL = 1 << 16  # contents up to so many bytes go through the buffer, larger ones from file to pipe in the kernel


def write(system: FileSystem, layers: Sequence[int], target: BufferedWriter) -> None:
    """Write everything below the root; the root itself is no member.

    Args:
        system: what to write.
        layers: a readable file descriptor of each uncompressed layer.
        target: a buffered file.

    Raises:
        OSError: the target, or a layer, cannot be written or read to its end.
    """
    written: dict[int, str] = {}
    for path, node in system.walk():
        # names of one symbolic link are links of their own to mksquashfs
        first = path if node.kind == "symlink" else written.setdefault(id(node), path)
        target.write(header(path, node, first))
        if node.kind == "file" and first == path and node.size:
            _copy(layers[node.layer], node, target)
            target.write(bytes(-node.size % BLOCK))
    target.write(bytes(2 * BLOCK))
    target.flush()


def inodes(system: FileSystem) -> int:
    """Return how many inodes a file system takes that is written, the root's included."""
    return 1 + len({path if node.kind == "symlink" else id(node) for path, node in system.walk()})


def header(path: str, node: Node, first: str) -> bytes:
    """Return the header blocks of a member; under another name than its first one it is a hard link."""
    item = tarfile.TarInfo(path)
    item.mode, item.uid, item.gid, item.mtime = node.mode, node.uid, node.gid, node.mtime
    if first != path:
        item.type, item.linkname = tarfile.LNKTYPE, first
    else:
        item.type, item.linkname = TYPES[node.kind], node.target
        item.size = node.size if node.kind == "file" else 0
        item.devmajor, item.devminor = node.device
    # GNU's format: its long names are bytes as they are, without a charset
    blocks = item.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return _extended(node) + blocks if node.xattrs and first == path else blocks


def _extended(node: Node) -> bytes:
    """Return the extended header with a node's extended attributes (pax in POSIX.1-2008)."""
    records = b""
    for name, value in node.xattrs:
        record = b" " + os.fsencode(XATTR + name) + b"=" + value + b"\n"
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        records += str(length).encode() + record
    item = tarfile.TarInfo("pax")
    item.type, item.size = tarfile.XHDTYPE, len(records)
    return item.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % BLOCK)


def _copy(source: int, node: Node, target: BufferedWriter) -> None:
    if node.size <= SMALL:
        content = os.pread(source, node.size, node.offset)
        target.write(content)
        done = len(content)
    else:
        target.flush()
        done, sent = 0, 1
        while done < node.size and sent:
            sent = os.sendfile(target.fileno(), source, node.offset + done, node.size - done)
            done += sent
    if done != node.size:
        raise OSError(f"a layer ends {node.size - done} bytes too early")
