"""An unpacked tree as one layer of an image: a tar stream that says the same whoever made the tree, and where."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from neurocommand.errors import ImageError, printable
from neurocommand.files import CHUNK
from neurocommand.image import archive
from neurocommand.image.layers import WHITEOUT, Kind, Node
from neurocommand.image.tree import KINDS, fit_mode

# What Apptainer adds at the top of every image, for itself: this directory, and links into it (.run, environment, …).
OF_THE_RUNTIME = ".singularity.d"
RUNTIME = "part of Apptainer's own"
# open to all in every image for Docker, whose users need not be the owner of anything
FOR_ALL = ("tmp", "var/tmp")
END = bytes(2 * archive.BLOCK)
TYPES: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@dataclass(frozen=True)
class Entry:
    """One name of a tree: its path inside, its inode, and the first path of the same inode."""

    path: str
    node: Node
    first: str

    @property
    def size(self) -> int:
        """The bytes of its contents; another name of a file that is there has none."""
        return self.node.size if self.first == self.path else 0


class TreeLayer:
    """A tree that becomes a layer; it must not change meanwhile.

    Everything is root's, with the permissions that ``tree.normalise`` gives, and keeps its modification time. Links are
    never followed. Left out, and counted in ``left_out`` by reason: device nodes, fifos, sockets, names that would
    remove files of other layers, and what is there for Apptainer alone. Extended attributes are not kept.

    Args:
        tree: the directory.

    Raises:
        ImageError: it cannot be read.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = os.fspath(tree)
        self.left_out: Counter[str] = Counter()
        self.size = len(END) + sum(
            len(archive.header(e.path, e.node, e.first)) + e.size + -e.size % archive.BLOCK
            for e in self._entries(self.left_out)
        )

    def write(self, target: BinaryIO, advance: Callable[[int], None]) -> str:
        """Write the tar stream, of ``size`` bytes.

        Args:
            target: where to write it.
            advance: called with the number of bytes done so far.

        Returns:
            Its bare hex sha256.

        Raises:
            ImageError: the tree changed, or cannot be read.
            OSError: the target cannot be written.
        """
        digest, done = hashlib.sha256(), 0
        for piece in self._pieces():
            digest.update(piece)
            target.write(piece)
            done += len(piece)
            advance(done)
        if done != self.size:
            raise self._fault("", "changed while it was read")
        return digest.hexdigest()

    def _pieces(self) -> Iterator[bytes]:
        for entry in self._entries(Counter()):
            yield archive.header(entry.path, entry.node, entry.first)
            if entry.size:
                yield from self._contents(entry)
                yield bytes(-entry.size % archive.BLOCK)
        yield END

    def _entries(self, left_out: Counter[str]) -> Iterator[Entry]:
        """Yield what is below the root, directories before what is in them, by the bytes of the names."""
        seen: dict[tuple[int, int], str] = {}
        waiting = self._names("")
        while waiting:
            path = waiting.pop()
            status = self._status(path)
            reason = self._reason_against(path, status.st_mode)
            if reason is not None:
                left_out[reason] += 1
                continue
            node = self._node(path, status)
            first = path
            if node.kind == "file" and status.st_nlink > 1:
                first = seen.setdefault((status.st_dev, status.st_ino), path)
            yield Entry(path, node, first)
            if node.kind == "directory":
                waiting += self._names(path)

    def _names(self, path: str) -> list[str]:
        """Return the paths in a directory, the last one first."""
        try:
            names = os.listdir(os.path.join(self.tree, path))
        except OSError as error:
            raise self._fault(path, error.strerror or "") from error
        return [os.path.join(path, name) for name in sorted(names, key=os.fsencode, reverse=True)]

    def _status(self, path: str) -> os.stat_result:
        try:
            return os.lstat(os.path.join(self.tree, path))
        except OSError as error:
            raise self._fault(path, error.strerror or "") from error

    def _reason_against(self, path: str, mode: int) -> str | None:
        for is_kind, kind in KINDS:
            if is_kind(mode):
                return kind
        if os.path.basename(path).startswith(WHITEOUT):
            return "name that a layer keeps for removed files"
        if path == OF_THE_RUNTIME:
            return RUNTIME
        if stat.S_ISLNK(mode) and "/" not in path and self._target(path).lstrip("/").startswith(f"{OF_THE_RUNTIME}/"):
            return RUNTIME
        return None

    def _target(self, path: str) -> str:
        try:
            return os.readlink(os.path.join(self.tree, path))
        except OSError as error:
            raise self._fault(path, error.strerror or "") from error

    def _node(self, path: str, status: os.stat_result) -> Node:
        kind = TYPES[stat.S_IFMT(status.st_mode)]
        mtime = max(0, int(status.st_mtime))
        if kind == "symlink":
            return Node(kind, 0o777, mtime=mtime, target=self._target(path))
        mode = fit_mode(status.st_mode)
        if path in FOR_ALL and kind == "directory":
            mode = 0o1777
        return Node(kind, mode, mtime=mtime, size=status.st_size if kind == "file" else 0)

    def _contents(self, entry: Entry) -> Iterator[bytes]:
        left = entry.size
        try:
            # no link, and no fifo that somebody put in its place
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(os.path.join(self.tree, entry.path), flags), "rb") as stream:
                while left and (piece := stream.read(min(left, CHUNK))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise self._fault(entry.path, error.strerror or "") from error
        if left:
            raise self._fault(entry.path, "changed while it was read")

    def _fault(self, path: str, reason: str) -> ImageError:
        place = os.path.join(self.tree, path) if path else self.tree
        return ImageError(f"{printable(place, 300)}: cannot be put into a layer: {reason}", "may this user read it?")
