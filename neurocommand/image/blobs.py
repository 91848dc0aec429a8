"""The layers of an image, fetched and uncompressed into files, each blob's sha256 verified on the way."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from neurocommand.errors import ImageError, RefusedError, RegistryBusyError, RegistryError
from neurocommand.files import free_space
from neurocommand.image.oci import Descriptor, NeedsApptainerError

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
TOGETHER = 3
AHEAD = 8  # chunks that wait for their digest
PIECE = 4 << 20  # bytes that are uncompressed at once: a few of gzip may stand for a thousand times as many
EVERY = 64 << 20  # bytes between two looks at the free space
ATTEMPTS = 3
LONGEST_WAIT = 30.0  # seconds; a registry that asks for more is given up, since another one may give the image
PAUSE = 0.5  # seconds that a busy one is left alone beyond what it asks for
HINT = "the registry's copy is damaged: push the image again"
# Uncompressed layers are mostly two to four times as large as compressed ones; the SIF is about as large as these.
GROWTH = 5
RESERVE = 64 << 20


Given = TypeVar("Given")


class Source(Protocol):
    """One image in a registry: its documents and blobs by digest."""

    def manifest(self, sha256: str) -> bytes:
        """Return an image manifest or index, its digest verified; raises RegistryError."""
        ...

    def blob(self, sha256: str) -> AbstractContextManager[Iterable[bytes]]:
        """Open a blob; its bytes come as they are, not verified. Raises RegistryError, also while it is read."""
        ...


def needed(layers: Sequence[Descriptor]) -> int:
    """Return about how many bytes a conversion of some layers writes."""
    return GROWTH * sum(layer.size for layer in layers) + RESERVE


def check_space(layers: Sequence[Descriptor], directory: Path, where: str) -> None:
    """See that a directory's file system has room for a conversion, as far as the sizes of the blobs tell.

    Raises:
        RefusedError: it has not.
    """
    need, free = needed(layers), free_space(directory)
    if free < need:
        raise _no_space(where, directory, need, free)


def patiently(ask: Callable[[], Given], stopped: threading.Event) -> Given:
    """Ask a registry a few times, each time after the wait that it asks for, as long as that is a moderate one.

    Args:
        ask: raises RegistryError.
        stopped: nobody wants it any longer.

    Raises:
        RegistryError: it fails too often, or wants to be left alone for longer.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return ask()
        except RegistryError as error:
            wait = _wait(error)
            if wait > LONGEST_WAIT or stopped.wait(wait):
                raise
    return ask()


def _wait(error: RegistryError) -> float:
    if not isinstance(error, RegistryBusyError):
        return 0.0  # a broken connection, say
    return PAUSE if error.retry_after is None else error.retry_after + PAUSE


def whole(source: Source, descriptor: Descriptor, limit: int, where: str, stopped: threading.Event) -> bytes:
    """Return a small blob, verified.

    Raises:
        ImageError: it is larger than the limit, or not what its descriptor says.
        RegistryError: it cannot be had.
    """
    if descriptor.size > limit:
        raise ImageError(f"{where}: has {descriptor.size} bytes; more than {limit} are none", HINT)

    def ask() -> bytes:
        with source.blob(descriptor.sha256) as chunks, _verified(chunks, descriptor, where) as verified:
            return b"".join(verified)

    return patiently(ask, stopped)


def fetch(
    source: Source, layers: Sequence[Descriptor], directory: Path, where: str, ready: Callable[[Path, str], None]
) -> list[Path]:
    """Fetch layers, some at a time, and uncompress them while they come.

    Args:
        source: the image.
        layers: what to fetch.
        directory: where the files go.
        where: what faults are reported against.
        ready: called with each file when it is whole, and what its faults are reported against, by several threads.

    Returns:
        A tar file for each layer, in their order; equal layers share one.

    Raises:
        NeedsApptainerError: a layer is compressed in a way that is left to Apptainer.
        ImageError: a blob is damaged.
        RegistryError: a blob cannot be had.
        RefusedError: the disk is full before the end.
    """
    different = {layer.sha256: (layer, f"{where}: layer {n}") for n, layer in enumerate(layers, 1)}
    room = _Room(directory, sum(layer.size for layer in layers), where)
    with ThreadPoolExecutor(TOGETHER, "layer") as pool:
        jobs = [pool.submit(_fetch, source, layer, said, room, ready) for layer, said in different.values()]
        try:
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
        finally:
            room.closed.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [directory / layer.sha256 for layer in layers]


class _Room:
    """How much more may be written; also tells the threads when nobody wants their work any longer."""

    def __init__(self, directory: Path, reserve: int, where: str) -> None:
        self.directory, self.reserve, self.where = directory, reserve + RESERVE, where
        self.closed = threading.Event()

    def check(self) -> None:
        if self.closed.is_set():
            raise ImageError(f"{self.where}: given up")
        if free_space(self.directory) < self.reserve:
            raise _no_space(self.where, self.directory, self.reserve, free_space(self.directory))


def _no_space(where: str, directory: Path, need: int, free: int) -> RefusedError:
    return RefusedError(
        f"{where}: its conversion needs {need >> 20} MiB in {directory}, which has {free >> 20} MiB",
        "free some space, or set `spool` to a directory on another disk",
    )


def _fetch(source: Source, layer: Descriptor, where: str, room: _Room, ready: Callable[[Path, str], None]) -> None:
    path = room.directory / layer.sha256
    where = f"{where} (sha256:{layer.sha256[:12]})"

    def ask() -> None:
        with (
            source.blob(layer.sha256) as chunks,
            _verified(chunks, layer, where) as verified,
            open(path, "wb") as target,
        ):
            _uncompress(verified, target, where, room)

    try:
        patiently(ask, room.closed)
    except OSError as error:
        raise ImageError(f"{where}: cannot be written: {error.strerror}", "free some space") from error
    ready(path, where)


@contextlib.contextmanager
def _verified(chunks: Iterable[bytes], descriptor: Descriptor, where: str) -> Iterator[Iterator[bytes]]:
    """Give bytes to hand on; ImageError at their end, or as soon as they are too many, when they are the wrong ones.

    The thread ends with the block, not when the garbage of a broken conversion is collected: whoever collects it may
    hold what the thread needs to end.
    """
    # beside the work of whoever takes the bytes: neither holds the other up
    with ThreadPoolExecutor(1, "digest") as hasher:
        yield _handed_on(chunks, descriptor, where, hasher)


def _handed_on(chunks: Iterable[bytes], descriptor: Descriptor, where: str, hasher: Executor) -> Iterator[bytes]:
    digest, size, pending = hashlib.sha256(), 0, deque[Future[None]]()
    for chunk in chunks:
        size += len(chunk)
        if size > descriptor.size:
            break
        pending.append(hasher.submit(digest.update, chunk))
        if len(pending) > AHEAD:
            pending.popleft().result()
        yield chunk
    wait(pending)
    if size != descriptor.size:
        more = "more than " if size > descriptor.size else f"{size} instead of "
        raise ImageError(f"{where}: {more}{descriptor.size} bytes came", HINT)
    if digest.hexdigest() != descriptor.sha256:
        raise ImageError(f"{where}: other bytes came than its digest says", HINT)


def _uncompress(chunks: Iterator[bytes], target: BinaryIO, where: str, room: _Room) -> None:
    first = next(chunks, b"")
    while first and len(first) < len(ZSTD) and (more := next(chunks, b"")):
        first += more
    if first.startswith(ZSTD):
        raise NeedsApptainerError(f"{where}: is compressed with zstd")
    pieces = _gunzipped(first, chunks, where) if first.startswith(GZIP) else _all(first, chunks)
    since = EVERY
    for piece in pieces:
        since += len(piece)
        if since >= EVERY or room.closed.is_set():
            room.check()
            since = 0
        target.write(piece)


def _all(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks


def _gunzipped(first: bytes, chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """Uncompress gzip of one or more members, never more than a piece at a time."""
    inflater = zlib.decompressobj(31)
    try:
        for chunk in _all(first, chunks):
            rest = chunk
            while rest:
                if inflater.eof:
                    inflater = zlib.decompressobj(31)
                piece = inflater.decompress(rest, PIECE)
                rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                if piece:
                    yield piece
            while not inflater.eof and (piece := inflater.decompress(b"", PIECE)):
                yield piece
    except zlib.error as error:
        raise ImageError(f"{where}: is no sound gzip file: {error}", HINT) from error
    if not inflater.eof:
        raise ImageError(f"{where}: its gzip data is cut short", HINT)
