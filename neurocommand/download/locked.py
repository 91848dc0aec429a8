"""An object that the lock knows: from whatever source there is, until the bytes are the locked ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import requests
import urllib3

from neurocommand import aria2, web
from neurocommand.bandwidth import Bandwidth
from neurocommand.download import inturn, mirrors, speeds
from neurocommand.download.following import Following
from neurocommand.download.mirrors import Different, Finding, Linkless, Mirror, Useless
from neurocommand.download.part import Part
from neurocommand.download.together import SLOWER, Together
from neurocommand.download.verdicts import Fetched, Verdicts, shown
from neurocommand.errors import ProcessError, StoreError
from neurocommand.events import Noted
from neurocommand.files import free_space
from neurocommand.model import Artifact
from neurocommand.settings import DownloadSettings
from neurocommand.stores.interface import Store

BLOCK = 1 << 20
ASKED = 16  # blocks that a mirror is asked for, to see whether they are wrong there


class Locked:
    """One such download.

    Args:
        key: the object's key in every source.
        part: held.
        artifact: what the bytes must be.
        verdicts: told about the sources.
        settings: how to download.
        bandwidth: kept to where an address is read.
    """

    def __init__(
        self,
        key: str,
        part: Part,
        artifact: Artifact,
        verdicts: Verdicts,
        settings: DownloadSettings,
        *,
        bandwidth: Bandwidth,
    ) -> None:
        self.key = key
        self.part = part
        self.artifact = artifact
        self.verdicts = verdicts
        self.settings = settings
        self.bandwidth = bandwidth
        self._got = ("", 0)

    def run(self, sources: Sequence[Store]) -> Fetched:
        """Get the locked bytes: from a directory of this machine, else from all mirrors at once, else one by one.

        Raises:
            ImmutableError: every source that answered holds other bytes.
            DownloadError: no source gave it.
            RefusedError: there is no space for it.
            OSError: it cannot be written.
        """
        place = self.part.path.parent
        self.verdicts.check_space(self.artifact.size, free_space(place) + self.part.written, place)
        near = mirrors.examine(self.key, [source for source in sources if source.local], self.artifact, {})
        fetched = self._from_stores(self._noted(near))
        if fetched is not None:
            return fetched
        found = self._far([source for source in sources if not source.local])
        ready = [finding for finding in found if isinstance(finding, Mirror)]
        fetched = self._from_mirrors(ready) if ready else None
        if fetched is None:
            # in the order of the configuration; what broke off is asked once more, by its own means
            names = [source.name for source in sources]
            rest = [f.store for f in found if isinstance(f, Mirror | Linkless) or (isinstance(f, Useless) and f.again)]
            fetched = self._from_stores(sorted(rest, key=lambda store: names.index(store.name)))
        if fetched is None:
            raise self.verdicts.failure()
        return fetched

    def _far(self, sources: Sequence[Store]) -> list[Finding]:
        known = speeds.read(self.settings.speeds)
        found = mirrors.examine(self.key, sources, self.artifact, known)
        measured = {speeds.host_of(each.link.url): each.speed for each in found if isinstance(each, Mirror)}
        speeds.remember(self.settings.speeds, {h: speed for h, speed in measured.items() if h not in known})
        self._noted(found)
        return found

    def _noted(self, found: Sequence[Finding]) -> list[Store]:
        """Say what is wrong with sources, and return those that are read by ``get``."""
        among_others = any(isinstance(finding, Mirror) for finding in found)
        for finding in found:
            match finding:
                case Useless(store, reason, quietly, _):
                    self.verdicts.drop(store.name, reason, quietly=quietly)
                case Different(store, has):
                    self.verdicts.differs(store.name, has, self.artifact)
                case Linkless(store, reason) if reason and among_others:
                    self.verdicts.drop(store.name, reason)
        return [finding.store for finding in found if isinstance(finding, Linkless)]

    def _from_stores(self, stores: Sequence[Store]) -> Fetched | None:
        for store in stores:
            if store.name in self.verdicts.different:
                continue
            self.verdicts.start(self.artifact.size)
            # not into the part: what is left of a store's own means may have holes that nobody knows of
            if free_space(self.part.path.parent) < self.artifact.size:
                self.part.restart()
            try:
                got = store.get(self.key, self.part.other, self.verdicts.advance)
            except StoreError as error:
                self.verdicts.drop(store.name, error.message)
                continue
            if got == (self.artifact.sha256, self.artifact.size):
                self.part.replace()
                return Fetched(*got, store.name)
            self.verdicts.differs(store.name, shown(*got), self.artifact)
        return None

    def _from_mirrors(self, ready: list[Mirror]) -> Fetched | None:
        """Fetch from those that begin alike, all at once, the most first; one by one where that gives other bytes."""
        self.verdicts.start(self.artifact.size)
        groups: dict[str, list[Mirror]] = {}
        for mirror in ready:
            groups.setdefault(mirror.head, []).append(mirror)
        for group in sorted(groups.values(), key=len, reverse=True):
            fetched = self._from_group(group)
            if fetched is None:
                continue
            for other in (mirror for mirror in ready if mirror.head != group[0].head):
                self.verdicts.differs(other.name, "other bytes at its beginning", self.artifact)
            return fetched
        return None

    def _from_group(self, group: list[Mirror]) -> Fetched | None:
        resumed = self.part.size > 0
        gave = self._take(group)
        if gave and not (fetched := self._checked(gave)) and resumed:
            # what an earlier run left was wrong, or one of the mirrors is
            self._note("what was there of an earlier download is of no use: it begins anew")
            self.part.restart()
            gave = self._take(gave)
        if not gave:
            return None
        fetched = self._checked(gave)
        if fetched is None and len(gave) == 1:
            self._differs(gave[0])
            return None
        return fetched or self._one_by_one(gave)

    def _one_by_one(self, group: list[Mirror]) -> Fetched | None:
        """Find out which mirrors gave wrong bytes, since their digest only says that some did."""
        self._note(f"the bytes of {_names(group)} do not add up to the locked ones: each is asked alone")
        mixed, tried = _blocks(self.part.path), set[str]()
        for mirror in group:
            self.part.restart()
            tried.add(mirror.name)
            gave = self._take([mirror])
            fetched = self._checked(gave) if gave else None
            if fetched is not None:
                right = _blocks(self.part.path)
                wrong = [number for number, block in enumerate(right) if block != mixed[number]]
                for other in (other for other in group if other.name not in tried):
                    self._suspect(other, wrong)
                return fetched
            if gave:
                self._differs(mirror)
        self.part.restart()
        return None

    def _suspect(self, mirror: Mirror, wrong: Sequence[int]) -> None:
        """Name a mirror that gives something else where the bytes were wrong."""
        for number in wrong[:: max(1, len(wrong) // ASKED)]:
            first = number * BLOCK
            last = min(first + BLOCK, self.artifact.size) - 1
            try:
                with web.Session(read=20) as session:
                    answer = session.open_span(mirror.url, mirror.headers, first, last)
                    with answer:
                        mirrors.check_span(answer, first, last, self.artifact.size)
                        body = answer.raw.read(last - first + 1)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                self.verdicts.drop(mirror.name, web.reason(error))
                return
            with open(self.part.path, "rb") as stream:
                stream.seek(first)
                if body != stream.read(len(body)):
                    self.verdicts.differs(mirror.name, f"other bytes from {first} on", self.artifact)
                    return

    def _checked(self, gave: Sequence[Mirror]) -> Fetched | None:
        if self._got != (self.artifact.sha256, self.artifact.size):
            return None
        return Fetched(*self._got, _names(gave))

    def _differs(self, mirror: Mirror) -> None:
        self.verdicts.differs(mirror.name, shown(*self._got), self.artifact)
        self.part.restart()

    def _note(self, message: str) -> None:
        self.verdicts.listener(Noted(self.verdicts.release_id, message))

    def _take(self, group: Sequence[Mirror]) -> list[Mirror]:
        """Fetch the whole file from some mirrors, and return those that took part; none when it is not whole."""
        left = list(group)
        if self.settings.aria2 and aria2.is_there():
            fit = [mirror for mirror in left if not mirror.headers and not _unfit(mirror)]
            gave = self._together(fit) if fit else []
            if gave:
                return gave
            # without aria2, all of them; else those that it could not take
            left = [mirror for mirror in left if gave is None or mirror not in fit]
        return self._in_turn([mirror for mirror in left if mirror.name not in self.verdicts.dropped])

    def _in_turn(self, left: Sequence[Mirror]) -> list[Mirror]:
        with Following(self.part.path) as following:

            def advance(done: int) -> None:
                following.grown(done)
                self.verdicts.advance(done)

            for number, mirror in enumerate(left):
                best = max((other.speed for other in left[number + 1 :]), default=0.0)
                try:
                    with self.bandwidth.used():
                        inturn.go_on(
                            mirror, self.part, self.artifact.size, advance, self.bandwidth, slowest=best / SLOWER
                        )
                except StoreError as error:
                    self.verdicts.drop(mirror.name, error.message)
                    continue
                self._got = following.finish()
                return list(left[: number + 1])
        return []

    def _together(self, fit: Sequence[Mirror]) -> list[Mirror] | None:
        """Return the mirrors that gave the whole file; none of them when it is not whole, None without aria2."""
        with web.Session() as session:
            authorities = session.route(fit[0].url).authorities
        # with holes it is aria2's own; whether it is a beginning, without them, only its digest tells in the end
        if self.part.size > self.artifact.size:
            self.part.restart()
        try:
            with Following(self.part.path) as following, aria2.Daemon(authorities, self.part.lock) as daemon:
                job = Together(
                    daemon,
                    self.key,
                    self.artifact.size,
                    self.part,
                    verdicts=self.verdicts,
                    connections=self.settings.connections,
                    following=following,
                    bandwidth=self.bandwidth,
                )
                with self.bandwidth.used():
                    gave = job.run(fit)
                if gave:
                    self._got = following.finish()
                return gave
        except ProcessError as error:
            self._note(f"downloading without aria2: {error.message}")
            return None


def _unfit(mirror: Mirror) -> str:
    with web.Session() as session:
        return aria2.usable(mirror.url, session.route(mirror.url))


def _names(group: Sequence[Mirror]) -> str:
    return ", ".join(mirror.name for mirror in group)


def _blocks(path: Path) -> list[bytes]:
    """Return a digest of every block of a file."""
    with open(path, "rb") as stream:
        return [hashlib.sha256(block).digest() for block in iter(lambda: stream.read(BLOCK), b"")]
