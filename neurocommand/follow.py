"""A manifest that someone else keeps: fetched, checked, and the last good copy kept."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from neurocommand import web
from neurocommand.errors import NeurocommandError, UsageError, printable
from neurocommand.events import Listener, Noted
from neurocommand.files import write_atomically

LIMIT = 16 << 20  # bytes of a manifest

_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")

Validate = Callable[[str], None]


def read_manifest_source(source: str, cache: Path, validate: Validate, listener: Listener) -> str:
    """Return the text of a manifest, from a file or from its address.

    What an address gives is validated before it replaces the copy in the cache. When it cannot be had or is not valid,
    the last good copy is used, and the listener is told so with its age.

    Args:
        source: path of a file, or an https address (http on this machine only).
        cache: directory of the copies; made when it is not there.
        validate: raises NeurocommandError for a text that is no good manifest.
        listener: told when a copy is used.

    Raises:
        UsageError: the address is of a kind that is not followed.
        NeurocommandError: there is no valid text: the file's own fault, or neither the address nor a copy gives one.
    """
    if "://" not in source:
        text = _read_file(Path(source))
        validate(text)
        return text
    _check_address(source)
    kept = _Copy.of(source, cache)
    try:
        return _revalidated(source, kept, validate)
    except NeurocommandError as error:
        copy = _last_good(kept, validate)
        if copy is None:
            raise NeurocommandError(
                f"{shown(source)}: {error.message}; there is no earlier copy",
                error.hint or "check the address and the network, or set `manifest:` to a file",
            ) from error
        first_line = error.message.partition("\n")[0]
        listener(Noted(shown(source), f"using the copy of {_age(kept.confirmed())} ago: {first_line}"))
        return copy


def cached(source: str, cache: Path) -> str | None:
    """Return the last good copy of an address without asking it; None when there is none.

    Args:
        source: the address.
        cache: directory of the copies.
    """
    copy = _Copy.of(source, cache).read()
    return copy[0] if copy else None


@dataclass(frozen=True)
class _Copy:
    """The last good copy of an address: one file with its text and its ETag; its time is when it was last confirmed."""

    address: str
    path: Path

    @classmethod
    def of(cls, address: str, cache: Path) -> _Copy:
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        return cls(address, cache / f"{name}.json")

    def read(self) -> tuple[str, str] | None:
        """Return text and ETag; None when there is no copy or it is damaged."""
        try:
            fields = json.loads(self.path.read_bytes())
            return (str(fields["text"]), str(fields["etag"])) if fields["address"] == self.address else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, text: str, etag: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps({"address": self.address, "etag": etag, "text": text}))

    def confirm(self) -> None:
        os.utime(self.path)

    def confirmed(self) -> float:
        return self.path.stat().st_mtime


def _revalidated(address: str, kept: _Copy, validate: Validate) -> str:
    """Return what an address says now, and keep it.

    Raises:
        NeurocommandError: it gives nothing, or nothing valid.
    """
    copy = kept.read()
    answer = _get(address, copy[1] if copy else "")
    if answer is None:
        if copy is None:
            raise NeurocommandError("answers 304 though nothing was said to be known")
        validate(copy[0])
        text = copy[0]
    else:
        text = _decoded(answer[0])
        validate(text)
    # A cache that cannot be written costs a download next time, nothing else.
    with contextlib.suppress(OSError):
        if answer is None:
            kept.confirm()
        else:
            kept.write(text, answer[1])
    return text


def _get(address: str, etag: str) -> tuple[bytes, str] | None:
    """Return body and ETag of an address; None when it has not changed since that ETag."""
    headers = {"If-None-Match": etag} if etag else {}
    try:
        with web.Session(read=30) as session, session.get(address, headers=headers, stream=True) as answer:
            if answer.status_code == 304 and etag:
                return None
            if answer.status_code != 200:
                raise NeurocommandError(f"answers {answer.status_code} {printable(answer.reason or '')}".rstrip())
            return _limited(answer), answer.headers.get("ETag", "")
    except (requests.RequestException, OSError, ValueError) as error:
        raise NeurocommandError(f"cannot be asked: {web.reason(error)}") from error


def _limited(answer: requests.Response) -> bytes:
    body = bytearray()
    for chunk in answer.iter_content(1 << 16):
        body += chunk
        if len(body) > LIMIT:
            raise NeurocommandError(f"sends more than {LIMIT >> 20} MiB")
    return bytes(body)


def _last_good(kept: _Copy, validate: Validate) -> str | None:
    copy = kept.read()
    if copy is None:
        return None
    # It was good for the version of this program that kept it.
    try:
        validate(copy[0])
    except NeurocommandError:
        return None
    return copy[0]


def _read_file(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            body = stream.read(LIMIT + 1)
    except OSError as error:
        raise NeurocommandError(f"{path}: {error.strerror}", "is `manifest:` right?") from error
    if len(body) > LIMIT:
        raise NeurocommandError(f"{path}: is larger than {LIMIT >> 20} MiB")
    try:
        return _decoded(body)
    except NeurocommandError as error:
        raise NeurocommandError(f"{path}: {error.message}") from error


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NeurocommandError(f"is not UTF-8 (byte {error.start})") from error


def shown(source: str) -> str:
    """Return a source as it may be shown: a path as it is, an address without a name and password that it may hold.

    >>> shown("https://user:secret@host/apps.json")
    'https://host/apps.json'
    """
    return _USER.sub(r"\1", source)


def _check_address(source: str) -> None:
    try:
        parts = urlsplit(source)
        host = parts.hostname or ""
    except ValueError as error:
        raise UsageError(f"{shown(source)}: {error}", "write https://host/path") from error
    if host and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        return
    raise UsageError(f"{shown(source)}: a manifest is followed by https only", "write https://host/path, or a path")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _age(since: float) -> str:
    """Return how long ago that was, in the unit that people would use."""
    seconds = max(0.0, time.time() - since)
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
