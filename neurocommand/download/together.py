"""Let aria2 fetch one object from all its mirrors at once, and watch them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from neurocommand import aria2
from neurocommand.aria2log import Fault
from neurocommand.bandwidth import Bandwidth
from neurocommand.download import mirrors
from neurocommand.download.following import Following
from neurocommand.download.mirrors import Mirror
from neurocommand.download.part import Part
from neurocommand.download.verdicts import Verdicts
from neurocommand.errors import StoreError

SILENT = 5.0  # seconds without a byte, after which a mirror is dropped where there is another one
SLOW = 10.0  # seconds in which a mirror gives far less than the others
SLOWER = 50  # times slower than the fastest was at its best
RENEWED = 3  # times that a mirror is asked for a new address without a byte in between
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
        following: takes the file's digest.
        bandwidth: the daemon gets a share of it, which changes with the number of those that use it.
    """

    def __init__(
        self,
        daemon: aria2.Daemon,
        key: str,
        size: int,
        part: Part,
        *,
        verdicts: Verdicts,
        connections: int,
        following: Following,
        bandwidth: Bandwidth,
    ) -> None:
        self.daemon = daemon
        self.key = key
        self.size = size
        self.part = part
        self.verdicts = verdicts
        self.connections = connections
        self.following = following
        self.bandwidth = bandwidth
        self._share: int | None = None
        self._counted = 0
        self._live: dict[str, Mirror] = {}
        self._renewed: dict[str, tuple[int, int]] = {}  # by name: what was there then, how often since it was so
        self._quiet: dict[str, float] = {}
        self._slow: dict[str, float] = {}
        self._best = 0
        self._giving = set[str]()
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
        before: tuple[int, int] | None = None
        while self._live:
            # begun again without those that held it up, or with new addresses; as long as that leads anywhere
            if before == (self._done, len(self._live)):
                self._drop_all("sends no more")
                break
            before = self._done, len(self._live)
            self._keep_to_share()
            self._counted = self.part.written
            job = self.daemon.job(list(self._live), self.part.path, self.connections, _piece(self.size))
            try:
                if self._watch(job):
                    self.bandwidth.spend(0)  # aria2 keeps to its share by and large: what it owes is waited for
                    return list(self._live.values())
            finally:
                job.stop()
            if job.unreadable:
                self.part.restart()
                before = None
        return []

    def _watch(self, job: aria2.Job) -> bool:
        """Look after a job to its end; False when it failed, or is to be begun again with those that are left."""
        pause = POLLED[0]
        while True:
            state = job.state()
            self._see_progress(state)
            self._keep_to_share()
            faults = job.faults()
            if state.status == "complete":
                for fault in faults:
                    self._name(fault.url, fault.reason)
                # it failed nowhere yet: the others were faster each time that it was to be asked again
                looping = job.redirected - self._giving
                # where no other is left, one of them gave it all, and only faster than was looked
                for url in looping if self._live.keys() - looping else ():
                    self._name(url, "redirects in a loop")
                return True
            for fault in faults:
                self._failed(job, fault)
            if state.status == "failed":
                return False if job.unreadable else self._ended(state)
            if self._drop_the_slow(state):
                return False
            if time.monotonic() - self._moved > STALLED:
                self._drop_all(f"sent nothing for {STALLED:.0f} s")
                return False
            time.sleep(min(pause, self._remaining(state)))
            pause = min(1.5 * pause, POLLED[1])

    def _remaining(self, state: aria2.State) -> float:
        """Return about how many seconds the job will go on, and no fewer than those between two looks at first."""
        speed = sum(state.speeds.values())
        return max((self.size - state.done) / speed if speed else POLLED[1], POLLED[0])

    def _see_progress(self, state: aria2.State) -> None:
        self.following.grown(state.beginning)
        self._giving.update(url for url, speed in state.speeds.items() if speed)
        self.bandwidth.take(max(state.done - self._counted, 0))
        self._counted = max(self._counted, state.done)
        if state.done > self._done:
            self._moved = time.monotonic()
            self.verdicts.advance(state.done)
        self._done = max(self._done, state.done)

    def _keep_to_share(self) -> None:
        """Tell aria2 how fast it may be, where that has changed."""
        share = self.bandwidth.share
        if share != self._share and share is not None:
            self.daemon.limit(share)
        self._share = share

    def _ended(self, state: aria2.State) -> bool:
        """Name those that a failed job says nothing of, unless they have just been asked for a new address."""
        for mirror in [mirror for mirror in self._live.values() if mirror.name not in self._renewed]:
            self._name(mirror.url, state.reason)
        return False

    def _failed(self, job: aria2.Job, fault: Fault) -> None:
        """Drop a mirror, or go on with a new address of it where the old one may have expired."""
        mirror = self._live.get(fault.url)
        if mirror is None:
            return
        passing = mirror.link.expires_in is not None or mirror.url != mirror.link.url
        last, times = self._renewed.get(mirror.name, (-1, 0))
        times = 1 if self._done > last else times + 1
        if not passing or not _REFUSED.search(fault.reason) or times > RENEWED:
            self._name(fault.url, fault.reason)
            return
        try:
            fresh = mirrors.renewed(mirror, self.key, self.size)
        except StoreError as error:
            self._name(fault.url, f"{fault.reason}; asked again: {error.message}")
            return
        del self._live[fault.url]
        self._renewed[mirror.name] = self._done, times
        self._live[fresh.url] = fresh
        job.change([fault.url], [fresh.url])

    def _drop_the_slow(self, state: aria2.State) -> bool:
        """Drop mirrors that hold up the end: they send nothing, or next to nothing beside the others.

        aria2 would wait for the connections that are open to them, so that the job has to be begun again.
        """
        if self._share is not None and 2 * sum(state.speeds.values()) >= self._share:
            # it is held up by the limit, of which aria2 gives no fair part to each
            self._quiet.clear()
            self._slow.clear()
            return False
        now, before = time.monotonic(), len(self._live)
        self._best = max(self._best, *state.speeds.values(), 0)
        for url in list(self._live):
            speed, others = state.speeds.get(url), self._others(url, state)
            if speed is None or speed > 0 or not others:
                self._quiet.pop(url, None)
            if speed is None or speed * SLOWER >= others:
                self._slow.pop(url, None)
            elif not speed and now - self._quiet.setdefault(url, now) > SILENT:
                self._name(url, f"sent nothing for {SILENT:.0f} s")
            elif now - self._slow.setdefault(url, now) > SLOW:
                self._name(url, f"gives {speed} bytes per second, another one {others}")
        return len(self._live) < before

    def _others(self, url: str, state: aria2.State) -> int:
        """Return what the best of the others gives now; where one is idle, since all else is done, what it could give.

        None of them gives anything where it is our own connection that is slow: nobody is dropped for that.
        """
        others = self._live.keys() - {url}
        if others - state.speeds.keys():
            return self._best
        return max((state.speeds[other] for other in others), default=0)

    def _name(self, url: str, reason: str) -> None:
        mirror = self._live.pop(url, None)
        if mirror is not None:
            self.verdicts.drop(mirror.name, reason)

    def _drop_all(self, reason: str) -> None:
        for url in list(self._live):
            self._name(url, reason)


def _piece(size: int) -> int:
    """Return how much is asked for at once: large pieces waste little time between them, small ones share the end well.

    >>> _piece(5_000_000) >> 20, _piece(500_000_000) >> 20, _piece(20_000_000_000) >> 20
    (1, 4, 16)
    """
    return min(max(1 << (size // 128).bit_length(), 1 << 20), 16 << 20)
