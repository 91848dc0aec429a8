"""A store that is any remote of a user's own rclone configuration: Swift, sftp, and what else rclone knows."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from neurocommand.errors import ImmutableError, StoreError
from neurocommand.files import CHUNK
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores import rclonenames
from neurocommand.stores.interface import Advance, Content, Link, check_key
from neurocommand.stores.rclonenames import MARKS, UNFINISHED, Entry
from neurocommand.stores.rcloneprogram import NotThereError, Rclone
from neurocommand.stores.transfer import ObjectStream, VerifiedReader, check_kept, reading, receive

# The remote's own times: that of the file that was sent is nobody's business, and costs a request per object.
_LISTING = ("lsjson", "--recursive", "--files-only", "--no-mimetype", "--use-server-modtime")


class RcloneStore:
    """Keep objects in a directory or container of an rclone remote; it must exist.

    Each sha256 is remembered in the name of a small object beside (see ``rclonenames``). A remote that shows an object
    only once it is whole (one of buckets or containers) is written under the key; on any other an object is written
    under ``.partial/`` and then renamed.

    Args:
        name: the store's name in messages.
        remote: ``name:path`` of the user's own rclone configuration.
        writable: False refuses ``put`` and ``delete``.
        url: where the remote can be read by anybody; empty: nowhere.
        stale_after: seconds after which what another run left unfinished is taken for a killed run's.

    Raises:
        StoreError: the remote is none.
    """

    listable = True
    lists_digests = True
    local = False

    def __init__(
        self, name: str, remote: str, *, writable: bool = True, url: str = "", stale_after: float = 86_400.0
    ) -> None:
        self.name = name
        self.remote = remote.rstrip("/")
        self.writable = writable
        self.url = url.rstrip("/")
        self.stale_after = stale_after
        self._rclone = Rclone(name, self.remote)
        self._asking = threading.Lock()
        self._whole: bool | None = None

    def list(self) -> Iterator[StoredObject]:
        """Yield every object, with its sha256 where one is remembered; one listing."""
        yield from rclonenames.objects(self._listed("cannot be listed", "/*.simg", f"/{MARKS}/*.simg/*"))

    def stat(self, key: str) -> StoredObject | None:
        """List what has to do with the key: that states size, time and digest at once."""
        check_key(self.name, key)
        return _of(key, self._look(f"cannot tell whether it holds {key}", key))

    def link(self, key: str) -> Link | None:
        """Return the object's address where the remote is open to anybody."""
        check_key(self.name, key)
        return Link(f"{self.url}/{key}") if self.url else None

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Send the bytes; the last bytes leave only when all of it was seen to be the artifact."""
        self._check_writable(key)
        what = f"cannot take {key}"
        with reading(source) as stream:
            before = self._look(what, key)
            segments = self._segments(key)
            seen = _of(key, before)

            def check() -> None:
                self._check_unchanged(key, seen, artifact)

            reader = VerifiedReader(stream, source, artifact)
            self._send(key, artifact, _held_back(reader, advance, check))
        # by the remote's clock, since what is old is so by it as well
        old = self._remember(key, artifact) - int(self.stale_after * 1e9)
        self._remove(rclonenames.leftovers(before, key, old))
        for place in rclonenames.old_segments(segments, old):
            with contextlib.suppress(NotThereError):
                self._rclone.run(what, "deletefile", f"{rclonenames.segments_of(self.remote, key)}/{place}")
        check_kept(self.name, key, artifact, self.stat(key))

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Stream an object to a file."""
        with self.opened(key) as stream:
            return receive(stream, path, advance)

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[ObjectStream]:
        """Run rclone for an object; it takes an absent one for an empty one, so the listing decides."""
        stated = self.stat(key)
        if stated is None:
            raise StoreError(f"store {self.name}: holds no {key}")
        with self._rclone.reading(f"{key} broke off", "cat", self._place(key)) as output:
            yield ObjectStream(self.name, output, stated, contextlib.nullcontext)

    def delete(self, key: str) -> None:
        """Remove an object, with its segments if it has any, and what is remembered of it."""
        self._check_writable(key)
        what = f"cannot remove {key}"
        listed = self._look(what, key)
        if _of(key, listed) is not None:
            with contextlib.suppress(NotThereError):
                self._rclone.run(what, "deletefile", self._place(key))
        self._remove(rclonenames.marks_of(listed, key))

    def close(self) -> None:
        """Do nothing: nothing stays open between two calls."""

    def _send(self, key: str, artifact: Artifact, chunks: Iterator[bytes]) -> None:
        what = f"cannot take {key}"
        name = key if self._shows_whole_objects() else f"{UNFINISHED}/{key}.{secrets.token_hex(8)}"
        try:
            self._rclone.feed(what, ("rcat", self._place(name), "--size", str(artifact.size)), chunks)
            if name != key:
                # without the flag rclone drops the new one where the old one has its size
                self._rclone.run(what, "moveto", self._place(name), self._place(key), "--ignore-times")
        except BaseException:
            if name != key:
                with contextlib.suppress(StoreError):
                    self._rclone.run(what, "deletefile", self._place(name))
            raise

    def _remember(self, key: str, artifact: Artifact) -> int:
        """Write down the digest of what was just sent, in place of what was remembered; return when it was there."""
        what = f"cannot remember the digest of {key}"
        listed = self._look(what, key)
        entry = next((entry for entry in listed if entry.path == key), None)
        if entry is None or entry.size != artifact.size:
            seen = _of(key, listed)
            raise StoreError(
                f"store {self.name}: after writing, {key} has {seen.size if seen else 'no'} bytes there; "
                f"sent were {artifact.size}",
                "the object is damaged there: run again, and look at the store if it stays so",
            )
        mark = rclonenames.mark(key, entry, artifact.sha256)
        # The name says it all, but some remotes keep no empty objects.
        content = artifact.sha256.encode()
        self._rclone.feed(what, ("rcat", self._place(mark), "--size", str(len(content))), iter((content,)))
        self._remove(tuple(old for old in rclonenames.marks_of(listed, key) if old != mark))
        return entry.time

    def _check_unchanged(self, key: str, seen: StoredObject | None, artifact: Artifact) -> None:
        """See that nobody else put other bytes there meanwhile."""
        now = _of(key, self._look(f"cannot tell whether it holds {key}", key))
        if now is not None and now != seen and not now.agrees(artifact):
            raise ImmutableError(
                f"store {self.name}: somebody else put {now.size} bytes, sha256 {now.sha256 or 'not stated'}, "
                f"under {key} meanwhile",
                "a release id never changes its bytes: find out which one is right",
            )

    def _shows_whole_objects(self) -> bool:
        """Tell whether the remote shows an object only once it is whole."""
        with self._asking:
            if self._whole is None:
                text = self._rclone.run("cannot be asked", "backend", "features", self.remote.partition(":")[0] + ":")
                try:
                    self._whole = bool(json.loads(text)["Features"]["BucketBased"])
                except (ValueError, KeyError, TypeError) as error:
                    raise StoreError(f"store {self.name}: rclone does not say what its remote can do") from error
            return self._whole

    def _look(self, what: str, key: str) -> tuple[Entry, ...]:
        """List an object, what is remembered of it, and what was left unfinished of it."""
        return self._listed(what, f"/{key}", f"/{MARKS}/{key}/*", f"/{UNFINISHED}/{key}.*")

    def _listed(self, what: str, *patterns: str) -> tuple[Entry, ...]:
        filters = [word for pattern in patterns for word in ("--include", pattern)]
        return self._read(what, self._rclone.run(what, *_LISTING, self.remote, *filters))

    def _segments(self, key: str) -> tuple[Entry, ...]:
        """List the segments of a key before a put: those of its object, and of killed puts."""
        what = f"cannot tell what was left of {key}"
        if not self._shows_whole_objects():
            return ()
        try:
            return self._read(what, self._rclone.run(what, *_LISTING, rclonenames.segments_of(self.remote, key)))
        except StoreError:
            return ()  # no such container, or not one for us: nothing to clean

    def _read(self, what: str, text: str) -> tuple[Entry, ...]:
        try:
            return rclonenames.entries(text)
        except ValueError as error:
            raise StoreError(f"store {self.name}: {what}: rclone's answer is no listing: {error}") from error

    def _remove(self, places: tuple[str, ...]) -> None:
        for place in places:
            with contextlib.suppress(NotThereError):
                self._rclone.run(f"cannot remove {place}", "deletefile", self._place(place))

    def _place(self, name: str) -> str:
        return f"{self.remote}/{name}"

    def _check_writable(self, key: str) -> None:
        check_key(self.name, key)
        if not self.writable:
            raise StoreError(f"store {self.name}: is read-only")


def _of(key: str, listed: tuple[Entry, ...]) -> StoredObject | None:
    return next((found for found in rclonenames.objects(listed) if found.key == key), None)


def _held_back(reader: VerifiedReader, advance: Advance, check: Callable[[], None]) -> Iterator[bytes]:
    """Yield a source's bytes; the last of them only after all were verified and ``check`` let them pass."""
    waiting = b""
    while chunk := reader.read(CHUNK):
        if waiting:
            yield waiting
            advance(reader.done - len(chunk))
        waiting = chunk
    check()
    if waiting:
        yield waiting
        advance(reader.done)
