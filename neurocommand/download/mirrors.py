"""Ask every source of a locked object at once what it has, and how fast it gives the object's beginning."""

from __future__ import annotations

import hashlib
import queue
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import requests
import urllib3

from neurocommand import web
from neurocommand.download import speeds
from neurocommand.download.verdicts import shown
from neurocommand.errors import StoreError, TransientStoreError
from neurocommand.model import Artifact
from neurocommand.stores.interface import Link, Patient, Store

MEASURED = 1 << 20  # bytes read from a host whose speed is not known
HEAD = 1 << 16  # bytes that are compared with those of the others
GRACE = (2.0, 5.0)  # seconds that the others have at least and at most, once a mirror has answered
PROMPT = 15.0  # seconds: what needs longer to say that it cannot be asked is not asked again
SLOW = 1 << 20  # bytes per second: what is faster is never called slow
SLOWER = 20  # times slower than the fastest is too slow
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Mirror:
    """A source that is ready to send any part of the object.

    ``url`` is where its redirects lead; ``headers`` are what that address needs, and for no other host; ``head`` is
    the digest of the object's first bytes there, ``speed`` in bytes per second.
    """

    store: Store
    link: Link
    url: str
    headers: tuple[tuple[str, str], ...]
    head: str
    speed: float

    @property
    def name(self) -> str:
        """The store's name."""
        return self.store.name


@dataclass(frozen=True)
class Linkless:
    """A source that says that it holds the object, to be read by ``get``; ``reason``: why not with the others."""

    store: Store
    reason: str = ""


@dataclass(frozen=True)
class Useless:
    """A source that does not give the object; ``again``: not now, but it may if it is asked patiently."""

    store: Store
    reason: str
    quietly: bool = False
    again: bool = False


@dataclass(frozen=True)
class Different:
    """A source that says that it holds other bytes."""

    store: Store
    has: str


Finding = Mirror | Linkless | Useless | Different


def examine(key: str, sources: Sequence[Store], artifact: Artifact, known: Mapping[str, float]) -> list[Finding]:
    """Ask all sources at once; who is silent for long after one has answered well is passed over.

    Args:
        key: the object's key in every source.
        sources: in the order of the configuration.
        artifact: what they should hold.
        known: bytes per second by host; what is not known is measured.

    Returns:
        A finding for each source, mirrors first, the fastest before the others.
    """
    ended: queue.SimpleQueue[_Look] = queue.SimpleQueue()
    looks = [_Look(key, source, artifact, known, ended) for source in sources]
    began = time.monotonic()
    waiting, deadline = set(looks), None
    while waiting:
        try:
            look = ended.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        waiting.discard(look)
        if deadline is None and isinstance(look.finding, Mirror):
            took = time.monotonic() - began
            deadline = time.monotonic() + min(max(10 * took, GRACE[0]), GRACE[1])
    findings = [look.late() if look in waiting else look.finding for look in looks]
    best = max((found.speed for found in findings if isinstance(found, Mirror)), default=0.0)
    findings = [_slow(found, best) if isinstance(found, Mirror) else found for found in findings]
    return sorted(findings, key=lambda found: -found.speed if isinstance(found, Mirror) else 0.0)


def _slow(mirror: Mirror, best: float) -> Finding:
    if mirror.speed >= SLOW or mirror.speed * SLOWER >= best:
        return mirror
    return Linkless(mirror.store, f"{best / mirror.speed:.0f} times slower than another one")


class _Look:
    """One source that is asked, in a thread that nobody has to wait for."""

    def __init__(
        self,
        key: str,
        store: Store,
        artifact: Artifact,
        known: Mapping[str, float],
        ended: queue.SimpleQueue[_Look],
    ) -> None:
        self.key = key
        self.store = store
        self.artifact = artifact
        self.known = known
        self.finding: Finding = Useless(store, "no answer in time")
        self._ended = ended
        self._holds = False
        self._received = 0
        self._began = time.monotonic()
        threading.Thread(target=self._run, name=f"ask {store.name} for {key}", daemon=True).start()

    def late(self) -> Finding:
        """Return what is to be said of a source that has not answered to the end."""
        took = time.monotonic() - self._began
        if self._received:
            reason = f"too slow beside the others: {self._received} bytes in {took:.0f} s"
        else:
            reason = f"no answer in time: nothing for {took:.0f} s"
        return Linkless(self.store, reason) if self._holds else Useless(self.store, reason)

    def _run(self) -> None:
        try:
            self.finding = self._ask()
        except StoreError as error:
            soon = time.monotonic() - self._began < PROMPT
            self.finding = Useless(self.store, error.message, again=isinstance(error, TransientStoreError) and soon)
        except OSError as error:
            self.finding = Useless(self.store, web.reason(error))
        self._ended.put(self)

    def _ask(self) -> Finding:
        # there are others to ask: what may work in a minute is tried again only when none of them gives it
        asked = self.store.inner if isinstance(self.store, Patient) else self.store
        stated = asked.stat(self.key)
        if stated is None:
            return Useless(self.store, "does not hold it", quietly=self.store.writable)
        if not stated.agrees(self.artifact):
            return Different(self.store, shown(stated.sha256, stated.size))
        self._holds = True
        try:
            link = asked.link(self.key) if self.artifact.size else None
            return Linkless(self.store) if link is None else self._probe(link)
        except StoreError as error:
            return Linkless(self.store, error.message)

    def _probe(self, link: Link) -> Mirror:
        def look_up(done: int) -> None:
            self._received = done

        known = self.known.get(speeds.host_of(link.url))
        return probe(self.store, link, self.artifact.size, known, look_up)


def probe(store: Store, link: Link, size: int, known: float | None, look_up: speeds.Count) -> Mirror:
    """Read an object's beginning from an address.

    Args:
        store: whose address it is.
        link: the address.
        size: the object's, in bytes.
        known: the host's speed, which is measured when it is None.
        look_up: called with the number of bytes received.

    Raises:
        StoreError: there is an error in place of the object, or another length, or no part of it can be asked for.
    """
    wanted, body = min(size, HEAD if known else MEASURED), bytearray()
    began = time.monotonic()
    try:
        with web.Session(read=20) as session, session.open_span(link.url, link.headers, 0, wanted - 1) as answer:
            check_span(answer, 0, wanted - 1, size)
            while len(body) < wanted and (chunk := answer.raw.read1(HEAD)):
                body += chunk
                look_up(len(body))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        broken = f"broke off after {len(body)} of {wanted} bytes: " if body else ""
        raise StoreError(f"store {store.name}: {broken}{web.reason(error)}") from error
    if len(body) != wanted:
        raise StoreError(f"store {store.name}: broke off after {len(body)} of {wanted} bytes")
    speed = known or len(body) / max(time.monotonic() - began, 1e-6)
    url = answer.url or link.url
    headers = link.headers if web.origin(url) == web.origin(link.url) else ()
    return Mirror(store, link, url, headers, hashlib.sha256(body[:HEAD]).hexdigest(), speed)


def renewed(mirror: Mirror, key: str, size: int) -> Mirror:
    """Ask a mirror's store for an address anew, since the one at hand is good no longer.

    Raises:
        StoreError: there is none, or it is no better.
    """
    link = mirror.store.link(key)
    if link is None:
        raise StoreError(f"store {mirror.name}: has no address for {key} any more")
    return replace(probe(mirror.store, link, size, mirror.speed, lambda done: None), head=mirror.head)


def check_span(answer: requests.Response, first: int, last: int, size: int) -> None:
    """See that an answer is a span of the object.

    Raises:
        ValueError: says what it is instead.
    """
    status, headers = answer.status_code, answer.headers
    if status not in (200, 206):
        raise ValueError(f"answers {status}")
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise ValueError("answers with a web page")
    if headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise ValueError("sends it encoded, so that its size is not known")
    if status == 200:
        length = headers.get("Content-Length", "")
        if length != str(size):
            raise ValueError(f"states {length or 'no'} bytes; the lock has {size} bytes")
        if (first, last) != (0, size - 1):
            raise ValueError("ignores Range")
        return
    stated = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if stated is None:
        raise ValueError("does not say which bytes it sends")
    if int(stated[3]) != size:
        raise ValueError(f"states {stated[3]} bytes; the lock has {size} bytes")
    if (int(stated[1]), int(stated[2])) != (first, last):
        raise ValueError(f"sends bytes {stated[1]} to {stated[2]}, asked were {first} to {last}")
