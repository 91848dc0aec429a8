"""Bytes per second that all transfers of one run share."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

CREDIT = 0.1  # seconds: so much of what was not used may be made up for, since sleepers wake up late


class Bandwidth:
    """A limit that threads share: each says what it moved, and waits until all that was moved had its time.

    Args:
        rate: bytes per second; None: no limit.
        clock: seconds that never go back.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        rate: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._until = clock()
        self._users = 0
        self._counting = threading.Lock()

    def take(self, size: int) -> float:
        """Count bytes that were moved, and return how many seconds it takes until they had their time."""
        if self.rate is None:
            return 0.0
        with self._counting:
            now = self._clock()
            self._until = max(self._until, now - CREDIT) + size / self.rate
            return max(self._until - now, 0.0)

    def spend(self, size: int) -> float:
        """Count bytes that were moved, wait until they had their time, and return how many seconds that was."""
        seconds = self.take(size)
        if seconds:
            self._sleep(seconds)
        return seconds

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Count as one of those that share it, for the block."""
        with self._counting:
            self._users += 1
        try:
            yield
        finally:
            with self._counting:
                self._users -= 1

    @property
    def share(self) -> int | None:
        """Bytes per second for each of those that use it now, at least one; None: no limit."""
        return None if self.rate is None else max(self.rate // max(self._users, 1), 1)

    def paced(self, advance: Callable[[int], object]) -> Callable[[int], None]:
        """Return what one transfer reports its bytes to; it waits there when it is too fast.

        Args:
            advance: called with the number of bytes so far, before the wait. When that falls, the transfer was begun
                again.
        """
        before = 0

        def advanced(done: int) -> None:
            nonlocal before
            advance(done)
            moved, before = (done - before if done >= before else done), done
            self.spend(moved)

        return advanced
