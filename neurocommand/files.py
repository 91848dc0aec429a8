"""Files that are either whole or not there: atomic writes, and digests taken while copying."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK = 1 << 20


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        ...


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write UTF-8 text under its final name in one step, durable before it is visible.

    Args:
        path: the final name; its directory must exist.
        text: the whole content.
        mode: permission bits, before the umask is applied.

    Raises:
        OSError: the directory cannot be written.
    """
    with replacing(path, mode) as stream:
        stream.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its name when the block ends, and vanishes when it raises."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), mode & ~current_umask())
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def current_umask() -> int:
    """Return the process's umask, from /proc where it can be read without changing it."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


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
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return
    if not path.exists():
        return
    for directory, names, _ in os.walk(path):
        os.chmod(directory, 0o700)
        for name in names:
            child = os.path.join(directory, name)
            if not os.path.islink(child):
                os.chmod(child, 0o700)
    shutil.rmtree(path)


def free_space(path: Path) -> int:
    """Return the bytes that an ordinary user may still write where ``path`` is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
