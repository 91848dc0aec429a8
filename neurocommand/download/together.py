"""Let aria2 fetch one object from all its mirrors at once, and watch them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from neurocommand import aria2
from neurocommand.download import mirrors
from neurocommand.download.mirrors import Mirror
from neurocommand.download.part import Part
from neurocommand.download.verdicts import Verdicts
from neurocommand.errors import StoreError

SILENT = 5.0  # seconds without a byte, after which a mirror is dropped where there is another one
SLOW = 10.0  # seconds in which a mirror gives far less than the others
SLOWER = 50  # times slower than the fastest was at its best
STALLED = 60.0  # seconds without a byte from anybody
POLLED = (0.02, 0.25)  # seconds between two looks: at first, and in the long run

# what an address that is good no longer is answered with
_REFUSED = re.compile(r"status=40[013]|status=410|Authorization failed|Resource not found")


class Together:
    """One job of aria2's with the mirrors that take part in it.

    Args:
        daemon: running.
        key: the object's key in every store.
        size: its size in bytes.
        part: the file to write.
        verdicts: told about progress and dropped mirrors.
        connections: how many at once, over all mirrors.
    """

    def __init__(
        self, daemon: aria2.Daemon, key: str, size: int, part: Part, verdicts: Verdicts, connections: int
    ) -> None:
        self.daemon = daemon
        self.key = key
        self.size = size
        self.part = part
        self.verdicts = verdicts
        self.connections = connections
        self._live: dict[str, Mirror] = {}
        self._renewed: dict[str, int] = {}
        self._quiet: dict[str, float] = {}
        self._slow: dict[str, float] = {}
        self._best = 0
        self._done = -1
        self._moved = 0.0

    def run(self, taking_part: Sequence[Mirror]) -> list[Mirror]:
        """Fetch the object, and return the mirrors that were not dropped; none when it is not whole.

        Raises:
            OSError: the file cannot be written.
            ProcessError: aria2 is gone.
        """
        self._live = {mirror.url: mirror for mirror in taking_part}
        self._moved = time.monotonic()
        begun_at = -1
        while self._live:
            # a job that lost its last address can be begun again with a new one, as long as that leads anywhere
            if self._done == begun_at:
                self._drop_all("it sends no more")
                break
            begun_at = self._done
            job = self.daemon.job(list(self._live), self.part.path, self.connections)
            try:
                if self._watch(job):
                    return list(self._live.values())
            finally:
                job.stop()
        return []

    def _watch(self, job: aria2.Job) -> bool:
        """Look after a job to its end; False when it failed."""
        pause = POLLED[0]
        while True:
            state = job.state()
            self._see_progress(state)
            faults = job.faults()
            if state.status == "complete":
                for fault in faults:
                    self._name(fault.url, fault.reason)
                return True
            for fault in faults:
                self._failed(job, fault)
            if state.status == "failed":
                return self._ended(state)
            self._watch_speeds(job, state)
            if time.monotonic() - self._moved > STALLED:
                self._drop_all(f"sent nothing for {STALLED:.0f} s")
                return False
            time.sleep(pause)
            pause = min(1.5 * pause, POLLED[1])

    def _see_progress(self, state: aria2.State) -> None:
        if state.done > self._done:
            self._moved = time.monotonic()
            self.verdicts.advance(state.done)
        self._done = max(self._done, state.done)

    def _ended(self, state: aria2.State) -> bool:
        """Name those that a failed job says nothing of, unless they have just been asked for a new address."""
        for mirror in [mirror for mirror in self._live.values() if mirror.name not in self._renewed]:
            self._name(mirror.url, state.reason)
        return False

    def _failed(self, job: aria2.Job, fault: aria2.Fault) -> None:
        """Drop a mirror, or go on with a new address of it where the old one may have expired."""
        mirror = self._live.get(fault.url)
        if mirror is None:
            return
        passing = mirror.link.expires_in is not None or mirror.url != mirror.link.url
        last = self._renewed.get(mirror.name, -1)
        if not passing or not _REFUSED.search(fault.reason) or self._done <= last:
            self._name(fault.url, fault.reason)
            return
        try:
            fresh = mirrors.renewed(mirror, self.key, self.size)
        except StoreError as error:
            self._name(fault.url, f"{fault.reason}; asked again: {error.message}")
            return
        del self._live[fault.url]
        self._renewed[mirror.name] = self._done
        self._live[fresh.url] = fresh
        job.change([fault.url], [fresh.url])

    def _watch_speeds(self, job: aria2.Job, state: aria2.State) -> None:
        """Take mirrors out that hold up the end: those that send nothing, or next to nothing beside the others."""
        now = time.monotonic()
        self._best = max(self._best, *state.speeds.values(), 0)
        for url in [url for url in self._live if url in state.speeds]:
            speed = state.speeds[url]
            quiet = self._quiet.setdefault(url, now)
            slow = self._slow.setdefault(url, now)
            if speed:
                self._quiet[url] = now
            if speed * SLOWER >= self._best:
                self._slow[url] = now
            if len(self._live) < 2 or not self._best:
                continue
            if not speed and now - quiet > SILENT:
                job.change([url])
                self._name(url, f"sent nothing for {SILENT:.0f} s")
            elif now - slow > SLOW:
                job.change([url])
                self._name(url, f"gives {speed} bytes per second, another one gave {self._best}")
        for url in self._live.keys() - state.speeds.keys():
            self._quiet[url] = self._slow[url] = now

    def _name(self, url: str, reason: str) -> None:
        mirror = self._live.pop(url, None)
        if mirror is not None:
            self.verdicts.drop(mirror.name, reason)

    def _drop_all(self, reason: str) -> None:
        for url in list(self._live):
            self._name(url, reason)
