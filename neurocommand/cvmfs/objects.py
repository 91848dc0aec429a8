"""What one server holds of a repository: two files that change, and objects that are named by what they are."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import requests
import urllib3

from neurocommand import web
from neurocommand.errors import CvmfsDownError, CvmfsError, CvmfsUntrustedError

_AT_ONCE = 1 << 16
_ABSENT = frozenset({404, 410})
_HINT = "is the server up, and is this the address of the repository there?"


@dataclass(frozen=True, order=True)
class ObjectName:
    """The name of an object: the bare hex SHA-1 of its bytes as they are stored, and the letter of its kind.

    Kinds: none for a file, P a part of one, C catalog, X certificate, H tags, M meta-information.

    >>> ObjectName("572d7907928b12aa561f8af8e7d5397477f9ccf3", "X").path
    'data/57/2d7907928b12aa561f8af8e7d5397477f9ccf3X'
    """

    sha1: str
    kind: str = ""

    @property
    def path(self) -> str:
        """Where it is, below the repository's address."""
        return f"data/{self.sha1[:2]}/{self.sha1[2:]}{self.kind}"


class Objects:
    """A repository at one address.

    Args:
        url: of the repository: ``http://host/cvmfs/neurodesk.example.org``.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes.
        seconds: that one file or object may take as a whole.
    """

    def __init__(self, url: str, *, connect: float = 10.0, read: float = 30.0, seconds: float = 300.0) -> None:
        self.url = url.rstrip("/")
        self.seconds = seconds
        self._session = web.Session(connect=connect, read=read)

    def file(self, name: str, limit: int) -> bytes:
        """Return one of the files that change, as it is now and not as a cache remembers it.

        Raises:
            CvmfsDownError: there is no answer, or no such file.
            CvmfsUntrustedError: it is longer than the limit.
        """
        target = io.BytesIO()
        with self._asked("GET", name, {"Cache-Control": "max-age=0"}) as answer:
            if answer.status_code != 200:
                raise CvmfsDownError(f"{self.shown}: answers {answer.status_code} for {name}", _HINT)
            for chunk in self._body(answer, name):
                target.write(chunk)
                if target.tell() > limit:
                    raise CvmfsUntrustedError(f"{self.shown}: {name} is longer than {limit} bytes", _HINT)
        return target.getvalue()

    def content(self, name: ObjectName, limit: int, *, packed: bool = True) -> bytes:
        """Return an object's content; see ``fetch``."""
        target = io.BytesIO()
        self.fetch(name, target, limit, packed=packed)
        return target.getvalue()

    def fetch(self, name: ObjectName, target: BinaryIO, limit: int, *, packed: bool = True) -> int:
        """Write an object's content, and return its size; nothing of it is to be used before this returns.

        Args:
            name: of the object.
            target: where to write.
            limit: bytes that the content has at most.
            packed: it is stored compressed by zlib.

        Raises:
            CvmfsDownError: there is no whole answer.
            CvmfsError: the server does not hold it.
            CvmfsUntrustedError: the bytes are others than its name says, or too many.
        """
        digest, stored, size = hashlib.sha1(usedforsecurity=False), 0, 0
        unpack = _Unpacking() if packed else None
        # what cannot be compressed grows by a few bytes in each block
        most = limit + (limit >> 8) + 1024
        with self._asked("GET", name.path) as answer:
            self._judge(answer, name)
            for chunk in self._body(answer, name.path):
                digest.update(chunk)
                stored += len(chunk)
                for part in unpack.parts(chunk) if unpack else (chunk,):
                    size += len(part)
                    target.write(part)
                    if size > limit:
                        raise self._wrong(name, f"holds more than {limit} bytes")
                if stored > most:
                    raise self._wrong(name, f"holds more than {limit} bytes")
        if digest.hexdigest() != name.sha1:
            raise self._wrong(name, "has other bytes than its name says")
        if unpack is not None and not unpack.whole:
            raise self._wrong(name, "is not compressed as it has to be")
        return size

    def has(self, name: ObjectName) -> bool:
        """Ask whether the server holds an object, without reading it.

        Raises:
            CvmfsDownError: there is no answer.
        """
        with self._asked("HEAD", name.path) as answer:
            if answer.status_code in _ABSENT:
                return False
            self._judge(answer, name)
            return True

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._session.close()

    @property
    def shown(self) -> str:
        """The address without a password that it may hold."""
        head, _, tail = self.url.partition("//")
        return f"{head}//{tail.rpartition('@')[2]}"

    def _judge(self, answer: requests.Response, name: ObjectName) -> None:
        if answer.status_code in _ABSENT:
            hint = "its snapshot is not complete: run cvmfs_server snapshot there, or cvmfs_server check -i"
            raise CvmfsError(f"{self.shown}: lacks the object {name.path}", hint)
        if answer.status_code != 200:
            raise CvmfsDownError(f"{self.shown}: answers {answer.status_code} for {name.path}", _HINT)

    def _wrong(self, name: ObjectName, why: str) -> CvmfsUntrustedError:
        hint = "it is damaged on the server or on its way: run cvmfs_server check -i there"
        return CvmfsUntrustedError(f"{self.shown}: {name.path} {why}", hint)

    @contextlib.contextmanager
    def _asked(self, method: str, path: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
        with self._normalised(path):
            answer = self._session.request(
                method, f"{self.url}/{path}", headers=headers, stream=method == "GET", allow_redirects=True
            )
        with answer:
            yield answer

    def _body(self, answer: requests.Response, path: str) -> Iterator[bytes]:
        """Yield a body as it arrives, until it ends or takes too long; an end before the stated one is a failure."""
        end, done = time.monotonic() + self.seconds, 0
        while True:
            with self._normalised(path):
                chunk = answer.raw.read1(_AT_ONCE)
            if not chunk:
                break
            done += len(chunk)
            if time.monotonic() > end:
                raise CvmfsDownError(f"{self.shown}: {path} took more than {self.seconds:g} s", _HINT)
            yield chunk
        stated = answer.headers.get("Content-Length", "")
        if stated.isdecimal() and len(stated) < 19 and int(stated) != done:
            raise CvmfsDownError(f"{self.shown}: {path} broke off after {done} of {stated} bytes", _HINT)

    @contextlib.contextmanager
    def _normalised(self, path: str) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise CvmfsDownError(f"{self.shown}: no answer for {path}: {web.reason(error)}", _HINT) from error


class _Unpacking:
    """zlib's stream, a bounded part at a time."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self.failed = False

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a piece of the stream unpacks to."""
        while chunk and not self.failed:
            try:
                part = self._stream.decompress(chunk, _AT_ONCE)
            except zlib.error:
                self.failed = True
                return
            chunk = self._stream.unconsumed_tail
            self.failed = bool(self._stream.unused_data)
            yield part

    @property
    def whole(self) -> bool:
        """Whether the stream came to its end, and nothing followed it."""
        return not self.failed and self._stream.eof
