"""A file system as a tar stream for mksquashfs, its contents taken from the layers' own tar files."""

from __future__ import annotations

import os
import struct
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
# name, mode, owner, group, size, time, checksum, type, target, magic, names of owner and group, device
BLOCK_FORMAT = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s167x")
SHORT = 100  # longest name in a block of its own
LONG = b"././@LongLink"
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
    """Return the header blocks of a member; under another name than its first one it is a hard link.

    Written by ourselves, since tarfile takes five times as long. Long names are in GNU's way, which knows no charset:
    https://www.gnu.org/software/tar/manual/html_node/Standard.html
    """
    if first != path:
        kind, target, size, more = tarfile.LNKTYPE, os.fsencode(first), 0, b""
    else:
        kind, target, more = TYPES[node.kind], os.fsencode(node.target), _extended(node)
        size = node.size if node.kind == "file" else 0
    name = os.fsencode(path)
    for content, type_of_long in ((target, tarfile.GNUTYPE_LONGLINK), (name, tarfile.GNUTYPE_LONGNAME)):
        if len(content) > SHORT:
            more += _block(LONG, Node("file"), type_of_long, b"", len(content) + 1) + _padded(content + b"\0")
    return more + _block(name[:SHORT], node, kind, target[:SHORT], size)


def _block(name: bytes, node: Node, kind: bytes, target: bytes, size: int) -> bytes:
    fields = (
        name,
        _number(node.mode, 8),
        _number(node.uid, 8),
        _number(node.gid, 8),
        _number(size, 12),
        _number(node.mtime, 12),
        b" " * 8,
        kind,
        target,
        tarfile.GNU_MAGIC,
        b"",
        b"",
        *(_number(number, 8) for number in node.device),
    )
    block = BLOCK_FORMAT.pack(*fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _number(value: int, width: int) -> bytes:
    """Return a number in octal digits, or, where these do not suffice, in bytes (GNU's base-256)."""
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big")


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def _extended(node: Node) -> bytes:
    """Return the extended header with a node's extended attributes (pax in POSIX.1-2008); nothing without any."""
    records = b""
    for name, value in node.xattrs:
        record = b" " + os.fsencode(XATTR + name) + b"=" + value + b"\n"
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        records += str(length).encode() + record
    return _block(b"pax", Node("file"), tarfile.XHDTYPE, b"", len(records)) + _padded(records) if records else b""


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
