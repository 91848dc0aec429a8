"""Layers -> one file system, held in memory without the contents of its files (pure).

What a layer does to what is below it is what Apptainer does, which unpacks with umoci
(https://github.com/opencontainers/image-spec/blob/main/layer.md): later members replace earlier ones, parents are
followed through symbolic links but never out of the root, and whiteouts remove what earlier layers brought.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from neurocommand.errors import ImageError, printable

Kind = Literal["file", "directory", "symlink", "character", "block", "fifo", "hardlink"]

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
MOST_LINKS = 255
MOST_NAMES = 4096
MOST_MEMBERS = 5_000_000  # of all layers together: each takes memory
IMPLICIT_MODE = 0o775  # of directories that no layer mentions: 0777 under the umask that Apptainer builds with
HINT = "build the image again: the layer is damaged, or made to do harm"


@dataclass(slots=True, eq=False)
class Node:
    """One inode; two names of a hard link share it. ``layer`` and ``offset`` say where a file's bytes are."""

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    layer: int = -1
    offset: int = 0
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    entries: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a layer: its name as it stands there, and its inode; a hard link's ``target`` is a name."""

    name: str
    node: Node


Place = tuple[str, ...]  # names from the root down; no link among them, neither . nor ..


class FileSystem:
    """A root directory that layers are applied to.

    Args:
        now: modification time of directories that no layer mentions, in seconds since 1970.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self.root = Node("directory", 0o755, mtime=now)
        self.members = 0

    def apply(self, members: Iterable[Member], where: str) -> None:
        """Apply a layer.

        Args:
            members: in their order.
            where: what faults are reported against: the image and the layer.

        Raises:
            ImageError: a member cannot be put where it wants to be.
        """
        # what this layer brought, with all directories above: its whiteouts leave that alone
        upper: set[Place] = set()
        for member in members:
            self.members += 1
            if self.members > MOST_MEMBERS:
                raise ImageError(f"{where}: the image has more than {MOST_MEMBERS} members", HINT)
            try:
                self._add(member, upper)
            except ImageError as error:
                raise ImageError(f"{where}: {printable(member.name)}: {error.message}", HINT) from None

    def find(self, place: Place) -> Node | None:
        """Return what is at a place, itself if it is a link; None when nothing is."""
        node: Node | None = self.root
        for name in place:
            node = node.entries.get(name) if node is not None else None
        return node

    def follow(self, path: str) -> Place:
        """Return where a path leads: links are followed, also the last one, but never out of the root.

        Raises:
            ImageError: the links go round in circles.
        """
        done: list[str] = []
        pending, links = deque(path.split("/")), 0
        while pending:
            name = pending.popleft()
            if name == "..":
                del done[-1:]
            if name in ("", ".", ".."):
                continue
            node = self.find((*done, name))
            if node is None or node.kind != "symlink":
                done.append(name)
                continue
            links += 1
            if links > MOST_LINKS or len(pending) > MOST_NAMES:
                raise ImageError("its symbolic links go round in circles")
            if node.target.startswith("/"):
                done.clear()
            pending.extendleft(reversed(node.target.split("/")))
        return tuple(done)

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield every path below the root with its inode, each directory before what is in it, names in order."""
        pending = [("", self.root)]
        while pending:
            prefix, node = pending.pop()
            if prefix:
                yield prefix, node
            below = f"{prefix}/" if prefix else ""
            pending += [(below + name, node.entries[name]) for name in sorted(node.entries, reverse=True)]

    def directory(self, place: Place) -> Node:
        """Return the directory at a place; it and those above it are made where they are missing, which changes times.

        Raises:
            ImageError: something that is no directory is in the way.
        """
        node = self.root
        for name in place:
            if node.kind != "directory":
                break
            if name not in node.entries:
                node.mtime = self.now
                # what mkdir(2) does below a directory with the set-group-ID bit
                inherited = node.mode & stat.S_ISGID
                group = node.gid if inherited else 0
                node.entries[name] = Node("directory", IMPLICIT_MODE | inherited, gid=group, mtime=self.now)
            node = node.entries[name]
        if node.kind != "directory":
            raise ImageError("its parent is no directory")
        return node

    def _add(self, member: Member, upper: set[Place]) -> None:
        names = _cleaned(member.name)
        if not names:
            if member.node.kind != "directory":
                raise ImageError("would make the root something other than a directory")
            member.node.entries, self.root = self.root.entries, member.node
            return
        parent, name = self.follow("/".join(names[:-1])), names[-1]
        if name.startswith(WHITEOUT):
            self._remove(parent, name, upper)
            return
        place = (*parent, name)
        directory = self.directory(parent)
        present = directory.entries.get(name)
        if member.node.kind == "directory":
            if present is not None and present.kind == "directory":
                member.node.entries = present.entries
            directory.entries[name] = member.node
        else:
            directory.entries.pop(name, None)
            directory.entries[name] = self._linked(member.node) if member.node.kind == "hardlink" else member.node
        upper.update(place[:length] for length in range(1, len(place) + 1))

    def _linked(self, node: Node) -> Node:
        names = _cleaned(node.target)
        found = self.find((*self.follow("/".join(names[:-1])), names[-1])) if names else None
        if found is None:
            raise ImageError("is a hard link to what is not there")
        if found.kind == "directory":
            raise ImageError("is a hard link to a directory")
        return found

    def _remove(self, parent: Place, name: str, upper: set[Place]) -> None:
        if name == OPAQUE:
            self._prune(parent, upper)
            return
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise ImageError("would remove the directory that it is in, or one above")
        directory, place = self.find(parent), (*parent, hidden)
        if directory is None or hidden not in directory.entries:
            return
        if place in upper:
            self._prune(place, upper)
        else:
            del directory.entries[hidden]

    def _prune(self, place: Place, upper: set[Place]) -> None:
        """Remove what is below a place, but not what the layer itself brought."""
        pending = [place]
        while pending:
            above = pending.pop()
            node = self.find(above)
            for name in list(node.entries) if node is not None else ():
                if (*above, name) in upper:
                    pending.append((*above, name))
                elif node is not None:
                    del node.entries[name]


def _cleaned(path: str) -> list[str]:
    """Return a member's name as names from the root down; what would lead out of the root ends there."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in ("", "."):
            names.append(name)
    return names
