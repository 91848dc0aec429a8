"""An unpacked tree made fit for a shared place: readable by all, writable by its owner, nothing that acts by itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from neurocommand.errors import ImageError, RefusedError, is_full

NAMED = 5  # how many names a note tells before it only counts

KINDS = (
    (stat.S_ISCHR, "device node"),
    (stat.S_ISBLK, "device node"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
)


def normalise(tree: Path, mount_points: Sequence[str]) -> tuple[str, ...]:
    """Make a tree readable by all and harmless, in place; links are left as they are and never followed.

    Afterwards: files have ``a+r`` and ``u+w``, and are executable for all when they were for anybody; directories
    have ``a+rx``; nothing is writable but for its owner, who is the caller; no setuid or setgid bit, device node, fifo
    or socket is left; the mount points exist.

    Args:
        tree: the directory.
        mount_points: directories that the container needs, as ``/data`` or ``data``; made when absent.

    Returns:
        Notes for people; one for each kind of thing that was changed and could matter.

    Raises:
        ImageError: the tree cannot be changed; RefusedError where the disk is full.
    """
    found = _Found()
    try:
        for entry, status in _walk(tree):
            _normalise_entry(entry, status, found, tree)
        tree.chmod(0o755)  # last: nobody else enters before all is harmless
        notes = [note for name in mount_points for note in _make_mount_point(tree, name)]
    except OSError as error:
        kind = RefusedError if is_full(error) else ImageError
        raise kind(f"{_printable(str(error.filename))}: cannot be made readable for all: {error.strerror}") from error
    return (*found.notes(), *notes)


@dataclass
class _Found:
    """Names relative to the tree, by what was done to them."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, tree: Path, path: str) -> None:
        self.names.setdefault(what, []).append(os.path.relpath(path, tree))

    def notes(self) -> Iterator[str]:
        for what, names in sorted(self.names.items()):
            shown = ", ".join(_printable(name) for name in sorted(names)[:NAMED])
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            kind = what.replace("device node", "device nodes").replace("fifo", "fifos").replace("socket", "sockets")
            yield f"{what if len(names) == 1 else kind}: {shown}{more}"


def _walk(tree: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield a directory and every path below it with its status, links not followed.

    A directory is yielded before it is read, so that the caller can make it readable.
    """
    waiting = [os.fspath(tree)]
    while waiting:
        path = waiting.pop()
        status = os.lstat(path)
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                waiting.extend(entry.path for entry in entries)


def _normalise_entry(path: str, status: os.stat_result, found: _Found, tree: Path) -> None:
    for is_kind, kind in KINDS:
        if is_kind(status.st_mode):
            os.unlink(path)
            found.add(f"removed {kind}", tree, path)
            return
    if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (0, os.getegid()):
        # The image's user 1000 is somebody else on the host, who must not own a part of the tree.
        os.lchown(path, 0, os.getegid())
    if stat.S_ISLNK(status.st_mode):
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISDIR(status.st_mode):
        found.add("dropped setuid or setgid from", tree, path)
    wanted = 0o700 if path == os.fspath(tree) else fit_mode(status.st_mode)
    if wanted != mode or os.geteuid() == 0:
        os.chmod(path, wanted)


def fit_mode(mode: int) -> int:
    """Return the permission bits that a file or directory gets, whose whole mode is given.

    >>> oct(fit_mode(stat.S_IFREG | 0o4700))
    '0o755'
    """
    wanted = (stat.S_IMODE(mode) & 0o755) | 0o644
    return wanted | 0o111 if stat.S_ISDIR(mode) or mode & 0o111 else wanted


def _make_mount_point(tree: Path, name: str) -> Iterator[str]:
    """Make a directory inside the tree; never through a link, which only the container can resolve rightly."""
    place = tree
    for part in PurePosixPath(name.lstrip("/")).parts:
        if part == "..":
            yield f"mount point {_printable(name)}: '..' is not allowed; not made"
            return
        place = place / part
        if place.is_symlink():
            yield f"mount point {_printable(name)}: /{place.relative_to(tree)} is a link; left as it is"
            return
        if not place.exists():
            place.mkdir(mode=0o755)
            place.chmod(0o755)
        elif not place.is_dir():
            yield f"mount point {_printable(name)}: /{place.relative_to(tree)} is a file; left as it is"
            return


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
