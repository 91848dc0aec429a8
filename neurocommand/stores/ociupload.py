"""A blob sent to a registry, in parts that a broken connection or a killed run does not lose.

The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks. Where an
upload goes on is told by an address that changes with each part; it is remembered in a file, since no registry lists
its unfinished uploads.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from neurocommand import web
from neurocommand.errors import NeurocommandError, StoreError, TransientStoreError
from neurocommand.model import Artifact
from neurocommand.registrysession import RegistrySession
from neurocommand.stores.interface import Advance, Content
from neurocommand.stores.ocinote import Note, Unfinished
from neurocommand.stores.transfer import VerifiedReader, reading

Refusal = Callable[[requests.Response], StoreError]

_STREAM = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
# Answers to a first part that mean "not in parts".
_NO_PARTS = (404, 405, 411, 415, 416, 501)
_TRIALS = 3


class _Body:
    """A stream whose length is known, so that it is sent with its length."""

    def __init__(self, reader: VerifiedReader, advance: Advance) -> None:
        self.reader = reader
        self.advance = advance

    def __len__(self) -> int:
        return self.reader.artifact.size

    def read(self, size: int = -1, /) -> bytes:
        """Return what is sent next."""
        chunk = self.reader.read(size)
        if chunk:
            self.advance(self.reader.done)
        return chunk


class BlobUpload:
    """One blob on its way into a repository.

    Args:
        session: of the registry.
        repository: where the blob goes.
        refusal: makes an error of an answer.
        part: bytes of one request; only so many are in memory.
        note: remembers where an unfinished upload goes on.
    """

    def __init__(self, session: RegistrySession, repository: str, refusal: Refusal, part: int, note: Note) -> None:
        self.session = session
        self.repository = repository
        self.refusal = refusal
        self.part = part
        self.note = note
        self.location = ""

    def send(self, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Send what has the artifact's bytes; what an earlier run sent of it is not sent again.

        Raises:
            OtherBytesError: the bytes are others; the registry was told to forget them.
            SourceError: they cannot be read to their end; so was it then.
            TransientStoreError: it broke off; the next call goes on from there if it can.
            StoreError, requests.RequestException: the registry did not take it.
        """
        try:
            if artifact.size <= self.part:
                self._resumed(None)
                self._send_whole(source, artifact, advance)
            elif not self._send_parts(source, artifact, advance):
                self._send_stream(source, artifact, advance)
        except (TransientStoreError, requests.RequestException):
            if self.note.read() is None:
                self._cancel()
            raise
        except BaseException:
            self._cancel()
            self.note.write(None)
            raise
        self.note.write(None)

    def send_bytes(self, content: bytes) -> None:
        """Send a small blob from memory."""
        self._begin()
        self._finish(hashlib.sha256(content).hexdigest(), content)

    def drop(self, begun: requests.Response) -> None:
        """Drop an upload that the registry began unasked."""
        self._move(begun)
        self._cancel()

    def _send_whole(self, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        with reading(source) as stream:
            reader = VerifiedReader(stream, source, artifact)
            body = reader.read(artifact.size + 1)
            reader.read(1)
        self._begin()
        self._finish(artifact.sha256, body)
        if body:
            advance(len(body))

    def _send_parts(self, source: Path | Content, artifact: Artifact, advance: Advance) -> bool:
        """Send the blob in parts; False when the registry takes none."""
        with reading(source) as stream:
            reader = VerifiedReader(stream, source, artifact)
            sent = self._resumed(artifact)
            while reader.done < sent:
                if not reader.read(min(self.part, sent - reader.done)):
                    break
            if not sent:
                self._begin()
                self._remember(artifact)
            while chunk := reader.read(self.part):
                if not self._send_part(chunk, reader.done - len(chunk)):
                    return False
                self._remember(artifact)
                advance(reader.done)
            self._finish(artifact.sha256, b"")
        return True

    def _send_stream(self, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Send everything in one request, to a registry that takes no parts."""
        self._cancel()
        self._begin()
        with reading(source) as stream:
            self._finish(artifact.sha256, _Body(VerifiedReader(stream, source, artifact), advance))

    def _begin(self) -> None:
        url = self.session.url(self.repository, "blobs/uploads/")
        with self.session.ask("POST", url, self.repository, data=b"") as answer:
            if answer.status_code != 202:
                raise self.refusal(answer)
            self.location = ""
            self._move(answer)
            if not self.location:
                raise StoreError(f"{self.session.host} does not say where to send a blob")
            least = answer.headers.get("OCI-Chunk-Min-Length", "")
            if least.isdecimal() and len(least) < 12:
                self.part = max(self.part, int(least))

    def _send_part(self, chunk: bytes, start: int) -> bool:
        """Send one part, what is missing of it again; False when the registry takes no parts."""
        end = start + len(chunk)
        for trial in range(1, _TRIALS + 1):
            headers = {**_STREAM, "Content-Range": f"{start}-{end - 1}"}
            try:
                with self._ask("PATCH", headers, chunk) as answer:
                    if answer.status_code in (202, 204):
                        self._move(answer)
                        reached = _reached(answer) or end
                    elif start == 0 and answer.status_code in _NO_PARTS:
                        return False
                    else:
                        raise self.refusal(answer)
            except (TransientStoreError, requests.RequestException) as error:
                reached = self._where()
                if trial == _TRIALS or not start <= reached <= end or not _may_help(error):
                    raise
            if reached == end:
                return True
            if not start <= reached < end:
                break
            chunk, start = chunk[reached - start :], reached
        raise TransientStoreError(f"{self.session.host} lost its place in the upload")

    def _finish(self, sha256: str, body: bytes | _Body) -> None:
        with self._ask("PUT", _STREAM, body, {"digest": f"sha256:{sha256}"}) as answer:
            if answer.status_code not in (201, 204):
                raise self.refusal(answer)
        self.location = ""

    def _ask(
        self,
        method: str,
        headers: dict[str, str] | None = None,
        data: bytes | _Body | None = None,
        params: dict[str, str] | None = None,
    ) -> requests.Response:
        return self.session.ask(method, self.location, self.repository, headers=headers, data=data, params=params)

    def _move(self, answer: requests.Response) -> None:
        """Take over the address of the next request; it never leaves https."""
        stated = answer.headers.get("Location")
        if not stated:
            return
        location = urljoin(self.location or answer.url, stated)
        if urlsplit(self.session.base).scheme == "https" != urlsplit(location).scheme:
            raise StoreError(f"{self.session.host} wants the blob sent without https")
        self.location = location

    def _where(self) -> int:
        """Return how many bytes the registry has of the upload; -1 when it does not say."""
        try:
            with self._ask("GET") as answer:
                if answer.status_code != 204:
                    return -1
                self._move(answer)
                return _reached(answer)
        except (requests.RequestException, NeurocommandError):
            return -1

    def _cancel(self) -> None:
        """Tell the registry to forget an unfinished upload; one that does not is left to its own clean-up."""
        if self.location:
            with contextlib.suppress(requests.RequestException, NeurocommandError), self._ask("DELETE"):
                pass
        self.location = ""

    def _resumed(self, artifact: Artifact | None) -> int:
        """Go on with a remembered upload of this artifact and return how many bytes are there; end any other."""
        remembered = self.note.read()
        # An address of another registry is not this one's business.
        if remembered is None or urlsplit(remembered.location)[:2] != urlsplit(self.session.base)[:2]:
            return 0
        self.location = remembered.location
        if artifact is not None and remembered.sha256 == artifact.sha256 and 0 < self._where() <= artifact.size:
            return self._where()
        self._cancel()
        self.note.write(None)
        return 0

    def _remember(self, artifact: Artifact) -> None:
        self.note.write(Unfinished(self.location, artifact.sha256))


def _reached(answer: requests.Response) -> int:
    """Return how many bytes an answer says that the registry has; 0 when it does not say.

    ``0-0`` stands for none: that is what registries write for an upload that has just begun.
    """
    match = _RANGE.fullmatch(answer.headers.get("Range", "").strip())
    return int(match[1]) + 1 if match and match[1].strip("0") else 0


def _may_help(error: Exception) -> bool:
    return isinstance(error, TransientStoreError) or web.is_transient(error)
