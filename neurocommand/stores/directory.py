"""A store that is a directory: each object a file, its digest in a hidden record beside it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from neurocommand import sizes
from neurocommand.errors import StoreError, StoreFullError
from neurocommand.files import copy_with_digest, current_umask, free_space, partial, remove_leftovers
from neurocommand.model import SHA256, Artifact, StoredObject
from neurocommand.stores.interface import KEY, Advance, Content, Link, check_key
from neurocommand.stores.transfer import ObjectStream, check_kept, check_sent, reading, receive

RECORDS = ".sha256"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DirectoryStore:
    """Keep objects as files of one directory.

    The sha256 of an object is remembered when it is put, in ``.sha256/<key>`` with the size and the modification time
    that the file had then; a file that changed since states none. A file being written is locked (flock), so a later
    ``put`` tells the leftover of a killed run, which nobody holds, from the work of a live one.

    Args:
        name: the store's name in messages.
        path: the directory; made by the first ``put``. Where its parent is missing as well it is not taken for empty:
            then a file system may not be mounted.
        writable: False refuses ``put`` and ``delete``.
        make_parents: the parents are ours to make, as below a user's own data directory; missing, they mean empty.
        url: http or https address at which somebody serves the directory; empty where nobody does.
    """

    listable = True
    lists_digests = True
    local = True

    def __init__(
        self, name: str, path: Path, writable: bool = True, *, make_parents: bool = False, url: str = ""
    ) -> None:
        self.name = name
        self.path = path
        self.writable = writable
        self.make_parents = make_parents
        self.url = url.rstrip("/")

    def list(self) -> Iterator[StoredObject]:
        """Yield every object, with its sha256 where it is known."""
        with self._normalised("cannot be listed"):
            names = sorted(os.listdir(self.path)) if self._is_there() else []
            seen = [self._look(name) for name in names if KEY.fullmatch(name)]
        yield from (found for found in seen if found is not None)

    def stat(self, key: str) -> StoredObject | None:
        """Return the object's size, and its sha256 if the file is as it was put; None when there is no such file."""
        check_key(self.name, key)
        with self._normalised(f"cannot tell whether it holds {key}"):
            return self._look(key) if self._is_there() else None

    def link(self, key: str) -> Link | None:
        """Return the object's address where the directory is served."""
        check_key(self.name, key)
        return Link(f"{self.url}/{key}") if self.url else None

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Copy the bytes in under a hidden name, verify it, make it durable, then give it its name in one step."""
        self._check_writable(key)
        with reading(source) as stream, self._normalised(f"cannot take {key}"):
            if not self._is_there():
                self.path.mkdir(parents=self.make_parents, exist_ok=True)
            remove_leftovers(self.path, KEY.fullmatch)
            if (left := free_space(self.path)) < artifact.size:
                needs = f"it needs {sizes.shown(artifact.size)}, {sizes.shown(left)} are left"
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needs}")
            with partial(self.path / key) as (name, target):
                sha256, size = copy_with_digest(stream, target, advance)
                check_sent(source, artifact, sha256, size)
                self._publish(key, name, target, sha256)
            check_kept(self.name, key, artifact, self._look(key))

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Copy an object out."""
        with self.opened(key) as stream:
            return receive(stream, path, advance)

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[ObjectStream]:
        """Open an object's file."""
        check_key(self.name, key)
        with self._normalised(f"cannot read {key}"):
            if not self._is_there() or self._look(key) is None:
                raise StoreError(f"store {self.name}: holds no {key}")
            descriptor = os.open(self.path / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as source:
            stated = StoredObject(key, os.fstat(source.fileno()).st_size)
            yield ObjectStream(self.name, source, stated, lambda: self._normalised(f"cannot read {key}"))

    def delete(self, key: str) -> None:
        """Remove an object and what is remembered of it."""
        self._check_writable(key)
        with self._normalised(f"cannot remove {key}"):
            if self._is_there() and self._look(key) is not None:
                self._forget(key)
                (self.path / key).unlink(missing_ok=True)

    def close(self) -> None:
        """Do nothing: nothing stays open between two calls."""

    def _is_there(self) -> bool:
        """Tell whether the directory exists; raise OSError where absent does not mean empty (not mounted)."""
        try:
            mode = os.stat(self.path).st_mode
        except FileNotFoundError:
            if self.path.is_symlink() or not (self.make_parents or self.path.parent.is_dir()):
                raise
            return False
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return True

    def _look(self, key: str) -> StoredObject | None:
        """Return what is under a key; a symbolic link or a directory is no object."""
        try:
            status = os.lstat(self.path / key)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return StoredObject(key, status.st_size, self._remembered(key, status))

    def _remembered(self, key: str, status: os.stat_result) -> str | None:
        try:
            fields = json.loads((self.path / RECORDS / key).read_bytes())
            known = (fields["size"], fields["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
            sha256 = fields["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return sha256 if known and isinstance(sha256, str) and SHA256.fullmatch(sha256) else None

    def _remember(self, key: str, sha256: str, status: os.stat_result) -> None:
        (self.path / RECORDS).mkdir(exist_ok=True)
        fields = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        # Not atomically: half a record is no JSON and says nothing, and a killed run leaves no hidden file.
        (self.path / RECORDS / key).write_text(json.dumps(fields) + "\n", encoding="ascii")

    def _forget(self, key: str) -> None:
        (self.path / RECORDS / key).unlink(missing_ok=True)

    def _publish(self, key: str, name: str, stream: BinaryIO, sha256: str) -> None:
        """Make a verified file durable and visible; its record first, which nobody trusts for the old file's time."""
        stream.flush()
        os.fchmod(stream.fileno(), 0o644 & ~current_umask())
        os.fsync(stream.fileno())
        self._remember(key, sha256, os.fstat(stream.fileno()))
        os.replace(name, self.path / key)
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _check_writable(self, key: str) -> None:
        check_key(self.name, key)
        if not self.writable:
            raise StoreError(f"store {self.name}: is read-only")

    @contextlib.contextmanager
    def _normalised(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"store {self.name}: {what}: {error.strerror or error} ({self.path})"
            if error.errno in _FULL:
                raise StoreFullError(text, "free some space there, or set another directory for the store") from error
            raise StoreError(text) from error
