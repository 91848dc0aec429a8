"""The files of an image as its programs see them: links are resolved inside it, nothing outside is ever touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from neurocommand.image import squashfs

Parts = tuple[str, ...]

MOST_LINKS = 40  # as Linux: path_resolution(7)
MOST_NAMES = 500  # given to one call of unsquashfs


def parts_of(path: str) -> Parts:
    """Split a path of the image into its names; ``.`` and empty names vanish, ``..`` stays.

    >>> parts_of("/opt//fsl/./bin/")
    ('opt', 'fsl', 'bin')
    """
    return tuple(part for part in path.split("/") if part not in ("", "."))


class Tree:
    """The files of an unpacked image; a name is only looked at where all its parents are real directories of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._directories: set[Parts] = {()}  # known to be real ones

    def status(self, parts: Parts) -> os.stat_result | None:
        """Return the status of a name, the link's own for a link; None when absent or reached through a link."""
        if not self._is_directory(parts[:-1]):
            return None
        return self._status(parts)

    def names(self, parts: Parts) -> tuple[str, ...]:
        """Return the sorted names in a real directory; none when it is not one or cannot be read."""
        try:
            return tuple(sorted(os.listdir(self.path(parts)))) if self._is_directory(parts) else ()
        except OSError:
            return ()

    def start(self, parts: Parts, size: int) -> bytes:
        """Return at most the first ``size`` bytes of a regular file; nothing when it cannot be read."""
        status = self.status(parts)
        if status is None or not stat.S_ISREG(status.st_mode):
            return b""
        try:
            descriptor = os.open(self.path(parts), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        with open(descriptor, "rb") as stream:
            return stream.read(size)

    def _status(self, parts: Parts) -> os.stat_result | None:
        try:
            return os.lstat(self.path(parts))
        except (OSError, ValueError):  # ValueError: a NUL, or what is no text
            return None

    def _is_directory(self, parts: Parts) -> bool:
        if parts in self._directories:
            return True
        status = self.status(parts)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return False
        self._directories.add(parts)
        return True

    def path(self, parts: Parts) -> str:
        """Return the host's path of a name in the image."""
        return os.path.join(self.directory, *parts)

    def target(self, parts: Parts) -> Parts | None:
        """Return where a name leads to, by way of every link inside the image; None when nowhere.

        As for a program in the container: absolute links begin at the image's root, ``..`` stops there, and more than
        40 links are a loop.
        """
        done: list[str] = []
        waiting = list(reversed(parts))
        links = 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                done = done[:-1]
                continue
            status = self.status((*done, name))
            if status is None:
                return None
            if not stat.S_ISLNK(status.st_mode):
                if waiting and not stat.S_ISDIR(status.st_mode):
                    return None
                done.append(name)
                continue
            links += 1
            link = os.readlink(self.path((*done, name)))
            if links > MOST_LINKS:
                return None
            done = [] if link.startswith("/") else done
            waiting.extend(reversed(parts_of(link)))
        return tuple(done)


class PartialTree(Tree):
    """The files of a squashfs, of which only what was asked for is unpacked.

    What is not there yet counts as absent and is noted; after ``fetch`` the caller asks again, until nothing new is
    noted. So the same code reads both kinds of image and finds the same.

    Args:
        directory: where to unpack; is made.
        image: the file that holds the squashfs.
        offset: where the squashfs begins, in bytes.
    """

    def __init__(self, directory: Path, image: Path, offset: int) -> None:
        super().__init__(directory)
        self.image = image
        self.offset = offset
        self._asked: set[tuple[Parts, int]] = set()
        self._wanted: set[tuple[Parts, int]] = set()

    def names(self, parts: Parts) -> tuple[str, ...]:
        """Return the names in a directory; all of them will be asked for."""
        if self._is_directory(parts):
            self._want(parts, len(parts) + 1)
        return super().names(parts)

    def _status(self, parts: Parts) -> os.stat_result | None:
        # Asked for only where the parents are known to be real directories: unsquashfs 4.5.1 corrupts its memory when a
        # name leads through a link ("double free", or files of random names).
        status = super()._status(parts)
        if status is None and _can_be_stored(parts):
            self._want(parts, len(parts))
        return status

    def fetch(self) -> bool:
        """Unpack what was asked for since the last time; tell whether that was anything.

        Raises:
            ImageError: the squashfs is damaged, or there is no space.
        """
        wanted, self._wanted = sorted(self._wanted, key=lambda item: (item[1], item[0])), set()
        self._asked.update(wanted)
        for depth in sorted({depth for _, depth in wanted}):
            names = ["/".join(parts) for parts, its_depth in wanted if its_depth == depth]
            for first in range(0, len(names), MOST_NAMES):
                some = names[first : first + MOST_NAMES]
                # The root has no name; unsquashfs means it when it is given none.
                squashfs.extract(self.image, self.offset, self.directory, [] if "" in some else some, depth)
        if wanted:
            make_readable(self.directory)
        return bool(wanted)

    def _want(self, parts: Parts, depth: int) -> None:
        if (parts, depth) not in self._asked:
            self._wanted.add((parts, depth))


def make_readable(directory: Path) -> None:
    """Give the owner of an unpacked tree the right to read all of it, whatever the image said; times stay."""
    waiting = [os.fspath(directory)]
    while waiting:
        path = waiting.pop()
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            _allow(path, mode, 0o700)
            waiting.extend(entry.path for entry in os.scandir(path))
        elif stat.S_ISREG(mode):
            _allow(path, mode, 0o400)


def _can_be_stored(parts: Parts) -> bool:
    """Tell whether a file system can hold the name, and unsquashfs be asked for it."""
    try:
        return all(len(os.fsencode(part)) <= 255 and "\0" not in part for part in parts)
    except UnicodeEncodeError:
        return False


def _allow(path: str, mode: int, bits: int) -> None:
    if mode & bits != bits:
        os.chmod(path, stat.S_IMODE(mode) | bits)
