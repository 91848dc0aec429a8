"""A store that can only be read: objects below a web address, such as a public bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from neurocommand import web
from neurocommand.errors import StoreError, TransientStoreError, UsageError
from neurocommand.model import SHA256, SIZE_LIMIT, Artifact, StoredObject
from neurocommand.stores.interface import Advance, Content, Link, check_key
from neurocommand.stores.transfer import Arriving, ObjectStream, receive

# Where S3 and Swift show the metadata that our S3 adapter writes.
_STATED = ("x-amz-meta-sha256", "X-Object-Meta-Sha256")


class HttpStore:
    """Read objects at ``<url>/<key>``; nothing can be listed or written.

    Args:
        name: the store's name in messages.
        url: http or https address of the directory that holds the objects.
        absent: statuses that mean "certainly absent". A public S3 bucket that may not be listed answers 403 for a key
            that it does not hold: add 403 for such a one, and only there, since elsewhere it means "not allowed".
        timeout: seconds to wait for the next bytes.

    Raises:
        UsageError: the address is no http or https address.
    """

    writable = False
    listable = False
    lists_digests = False
    local = False

    def __init__(self, name: str, url: str, absent: tuple[int, ...] = (404, 410), timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"store {name}: its url is no http or https address", "write https://host/path")
        self.name = name
        self.url = url.rstrip("/")
        self.absent = absent
        self._session = web.Session(read=timeout)

    def list(self) -> Iterator[StoredObject]:
        """Refuse: plain web servers have no listing."""
        raise StoreError(f"store {self.name}: cannot be listed (plain http)")

    def stat(self, key: str) -> StoredObject | None:
        """Ask with HEAD; redirects are followed."""
        with self._ask("HEAD", key) as answer:
            return None if answer.status_code in self.absent else self._stated(key, answer)

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Refuse: the store is read-only."""
        raise StoreError(f"store {self.name}: is read-only (plain http)")

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Stream an object to a file."""
        with self.opened(key) as stream:
            return receive(stream, path, advance)

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[ObjectStream]:
        """Ask for an object with GET; redirects are followed."""
        with self._ask("GET", key) as answer:
            if answer.status_code in self.absent:
                raise StoreError(f"store {self.name}: holds no {key}")
            stated = self._stated(key, answer)
            yield ObjectStream(self.name, Arriving(answer.raw), stated, lambda: self._normalised(f"{key} broke off"))

    def delete(self, key: str) -> None:
        """Refuse: the store is read-only."""
        raise StoreError(f"store {self.name}: is read-only (plain http)")

    def link(self, key: str) -> Link | None:
        """Return the object's address; a user and password, of the address or of ~/.netrc, become a header."""
        check_key(self.name, key)
        with self._normalised("has no readable address"):
            headers = web.basic_authorization(self.url)
        return Link(f"{self._shown_url()}/{key}", headers, None)

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._session.close()

    @contextlib.contextmanager
    def _ask(self, method: str, key: str) -> Iterator[requests.Response]:
        check_key(self.name, key)
        with self._normalised(f"cannot be asked for {key}"):
            # An unread body costs the connection, and the answer to HEAD has none: only GET streams.
            answer = self._session.request(method, f"{self.url}/{key}", stream=method == "GET", allow_redirects=True)
        with answer:
            yield answer

    def _stated(self, key: str, answer: requests.Response) -> StoredObject:
        """Return what an answer says about an object, if it is an answer about an object at all."""
        status, headers = answer.status_code, answer.headers
        if status in web.BUSY:
            raise TransientStoreError(
                f"store {self.name}: answers {status} for {key}", retry_after=web.retry_after(headers)
            )
        if status != 200:
            raise StoreError(f"store {self.name}: answers {status} for {key}", self._hint(status))
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
            raise StoreError(f"store {self.name}: answers with a web page for {key}", self._hint(status))
        if headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise StoreError(f"store {self.name}: sends {key} encoded, so its size is not known")
        length = headers.get("Content-Length", "")
        # longer than any size it is not even converted, since Python refuses thousands of digits with a ValueError
        if not length.isdecimal() or len(length) > len(str(SIZE_LIMIT)) or int(length) >= SIZE_LIMIT:
            raise StoreError(f"store {self.name}: does not state the size of {key}")
        sha256 = next((headers[field].lower() for field in _STATED if field in headers), "")
        return StoredObject(key, int(length), sha256 if SHA256.fullmatch(sha256) else None)

    def _hint(self, status: int) -> str:
        if status == 403:
            return "where this store answers 403 for what it does not hold, say so in its `absent:` setting"
        return f"is {self._shown_url()} the right address, and does a proxy stand in between?"

    def _shown_url(self) -> str:
        """Return the address without a password that it may hold."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @contextlib.contextmanager
    def _normalised(self, what: str) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            text = f"store {self.name}: {what}: {web.reason(error)} ({self._shown_url()})"
            raise (TransientStoreError(text) if web.is_transient(error) else StoreError(text)) from error
