"""Files that are either whole or not there: atomic writes, and digests taken while copying."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK = 1 << 20
_PARTIAL = re.compile(r"\.(?P<name>.+)\.[A-Za-z0-9_]{8}\.partial", re.ASCII)


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        ...


def write_atomically(
    path: Path, text: str, mode: int = 0o644, *, durable: bool = True, umask: int | None = None
) -> None:
    """Write UTF-8 text under its final name in one step.

    Args:
        path: the final name; its directory must exist.
        text: the whole content.
        mode: permission bits, before the umask is applied.
        durable: its bytes on disk before it is visible, its name before the call returns; not needed for
            what is made again after a crash of the machine.
        umask: applied instead of the process's own.

    Raises:
        OSError: the directory cannot be written.
    """
    remove_leftovers(path.parent, path.name.__eq__)
    with partial(path) as (name, stream):
        stream.write(text.encode())
        stream.flush()
        os.fchmod(stream.fileno(), mode & ~(current_umask() if umask is None else umask))
        if durable:
            os.fsync(stream.fileno())
        os.replace(name, path)
        if durable:
            make_durable(path.parent)


@contextlib.contextmanager
def partial(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Open a hidden file beside ``path``, locked for as long as it is written.

    Yields:
        Its name, and the stream. It vanishes when the block ends, unless it was given another name meanwhile.
    """
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        with os.fdopen(descriptor, "w+b") as stream:
            try:
                # A file system without locks leaves leftovers alone: nobody can tell there whose they are.
                with contextlib.suppress(OSError):
                    fcntl.flock(stream, fcntl.LOCK_EX)
                # Another run may have taken the file for a leftover before it was locked.
                if os.fstat(stream.fileno()).st_nlink:
                    yield name, stream
                    return
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)


def make_directory(path: Path, umask: int | None = None) -> None:
    """Make a directory and its missing parents; one that is there already stays as it is.

    Args:
        path: the directory.
        umask: what is made has at least the permissions that this one leaves, whatever the process's own takes away.

    Raises:
        OSError: something else stands there, or the directory above cannot be written.
    """
    if not path.parent.is_dir():
        make_directory(path.parent, umask)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if umask is not None and mode | (0o777 & ~umask) != mode:
        path.chmod(mode | (0o777 & ~umask))


def make_durable(path: Path) -> None:
    """Wait until a file's bytes, or a directory's names, are on disk.

    A file system that cannot wait for names (SMB, for one) says so of a directory, and keeps them as well as it does.

    Raises:
        OSError: they cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)


def rename_durably(path: Path, name: Path) -> None:
    """Give a file its final name in the same directory: its bytes are on disk before, the name when this returns.

    Raises:
        OSError: it cannot be written.
    """
    make_durable(path)
    os.replace(path, name)
    make_durable(name.parent)


def remove_leftovers(directory: Path, of: Callable[[str], object]) -> None:
    """Remove the hidden files that killed runs left: those that nobody holds a lock on.

    Args:
        directory: where to look.
        of: tells by a file's name whether its leftovers are meant.
    """
    for entry in os.listdir(directory):
        match = _PARTIAL.fullmatch(entry) if entry.startswith(".") else None
        if match is None or not of(match["name"]):
            continue
        # Gone by now, another user's, or held: not ours to remove.
        with contextlib.suppress(OSError), open(directory / entry, "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(directory / entry)


def current_umask(status: Path = Path("/proc/self/status")) -> int:
    """Return the process's umask without changing it, as the kernel states it; 022 where it does not."""
    try:
        stated = re.search(r"^Umask:\s*([0-7]+)$", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    except OSError:
        return 0o022
    return int(stated[1], 8) if stated else 0o022


def copy_with_digest(
    source: Readable, target: BinaryIO | None, advance: Callable[[int], None] | None = None
) -> tuple[str, int]:
    """Copy a stream to its end and return the bare hex sha256 and the size in bytes of what was copied.

    Args:
        source: read to its end.
        target: where to write, or None only to take the digest.
        advance: called with the number of bytes done so far.
    """
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
        done += len(chunk)
        if advance is not None:
            advance(done)
    return digest.hexdigest(), done


def digest_of(path: Path, advance: Callable[[int], None] | None = None) -> tuple[str, int]:
    """Return the bare hex sha256 and the size in bytes of a file."""
    with open(path, "rb") as source:
        return copy_with_digest(source, None, advance)


def remove_tree(path: Path) -> None:
    """Remove a file or a directory with everything below it, directories without write permission included.

    Never follows a symbolic link. A path that does not exist is no error.

    Raises:
        OSError: something below belongs to someone else.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    # Not shutil.rmtree, which descends by recursion: an image may hold thousands of directories in one another.
    pending, emptied = [os.fspath(path)], []
    while pending:
        directory = pending.pop()
        _make_writable(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    os.unlink(entry.path)
        emptied.append(directory)
    for directory in reversed(emptied):
        os.rmdir(directory)


def _make_writable(directory: str) -> None:
    """Give a directory its owner's permissions; another user's, shared by a group, may be ours to empty as it is."""
    status = os.lstat(directory)
    if status.st_uid == os.geteuid() and status.st_mode & 0o700 != 0o700:
        os.chmod(directory, stat.S_IMODE(status.st_mode) | 0o700)


def free_space(path: Path) -> int:
    """Return the bytes that an ordinary user may still write where ``path`` is or will be.

    A file system that states no size cannot tell, which is not the same as full: then there is no limit.
    """
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    return usage.free if usage.total else sys.maxsize
