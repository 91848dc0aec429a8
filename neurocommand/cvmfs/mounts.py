"""Who holds a repository's mounts, so that a publication would wait for them, or they would lose what they read.

``cvmfs_server`` mounts the new revision in place of the old one. A process in another mount namespace that has a copy
of the old mount, to which no unmounting propagates, makes it wait as long as that process lives (docs/cvmfs.md).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neurocommand.cvmfs.repository import Repository
from neurocommand.errors import printable


@dataclass(frozen=True)
class Mount:
    """A line of ``/proc/<process>/mountinfo`` (proc(5)).

    Args:
        device: major and minor number, which all copies of a mount share.
        point: where it is, with the kernel's escapes.
        peers: numbers of the groups that tell it of unmounting.
    """

    device: str
    point: str
    peers: frozenset[str]


@dataclass(frozen=True)
class Holder:
    """A process that holds a mount, and how."""

    process: int
    name: str
    how: str

    def __str__(self) -> str:
        return f"process {self.process} ({self.name}) {self.how}"


def parse(text: str) -> tuple[Mount, ...]:
    """Read a mountinfo file; lines that are none are passed over.

    >>> parse("36 35 98:0 / /mnt rw,noatime shared:5 - ext4 /dev/root rw")[0].peers
    frozenset({'5'})
    """
    found = []
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) > 6 and "-" in words[6:]:
            optional = words[6 : words.index("-", 6)]
            peers = frozenset(one.partition(":")[2] for one in optional if one.startswith(("shared:", "master:")))
            found.append(Mount(words[2], words[4], peers))
    return tuple(found)


def is_held(ours: Mount, theirs: tuple[Mount, ...]) -> bool:
    """Tell whether another namespace has a copy of a mount that stays when ours is unmounted."""
    return any(mount.device == ours.device and not mount.peers & ours.peers for mount in theirs)


def holders(repository: Repository, proc: Path = Path("/proc")) -> tuple[Holder, ...]:
    """Return the processes that hold a repository's mounts; those that we may not look at are passed over."""
    mounts = _read(proc / "self")
    points = (str(repository.spool / "rdonly"), str(repository.mount))
    ours = [mount for mount in mounts if mount.point in points]
    return tuple(_holders(repository, ours, proc))


def _holders(repository: Repository, ours: list[Mount], proc: Path) -> Iterator[Holder]:
    namespace = _link(proc / "self/ns/mnt")
    seen = {namespace: False}
    for process in sorted((int(name) for name in os.listdir(proc) if name.isdigit()), key=int):
        place = proc / str(process)
        where = _link(place / "ns/mnt")
        if not where:
            continue
        if where == namespace:
            if _uses(place, str(repository.mount)):
                yield Holder(process, _name(place), f"uses {repository.mount}")
            continue
        if where not in seen:
            theirs = _read(place)
            seen[where] = any(is_held(mount, theirs) for mount in ours)
        if seen[where]:
            yield Holder(process, _name(place), f"holds {repository.mount} in a mount namespace of its own")


def _uses(place: Path, mount: str) -> bool:
    """Tell whether a process stands in a directory, runs a program from it, or has a file of it open."""
    links = [place / "cwd", place / "root", place / "exe"]
    with contextlib.suppress(OSError):
        links += (place / "fd").iterdir()
    return any(target == mount or target.startswith(mount + "/") for target in map(_link, links))


def _read(place: Path) -> tuple[Mount, ...]:
    try:
        return parse((place / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return ()


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _name(place: Path) -> str:
    try:
        return printable((place / "comm").read_text(encoding="utf-8", errors="replace").strip())
    except OSError:
        return "?"
