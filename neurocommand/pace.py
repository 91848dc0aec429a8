"""When a host may be asked again: what it said itself, and a budget of our own."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Mapping

from neurocommand.errors import NeurocommandError
from neurocommand.settings import Budget

# Seconds that a host is left alone which limits the rate without saying for how long.
REST = 60.0


class WaitError(NeurocommandError):
    """A host is not to be asked now.

    Args:
        message: why, and for how long.
        reason: the same in two or three words.
        seconds: for how long.
    """

    def __init__(self, message: str, reason: str, seconds: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.seconds = seconds


class Pace:
    """Keep to the budgets of hosts, and leave alone those that asked for it; threads may share it.

    Args:
        budgets: by host; others have the default one.
        clock: seconds that never go back.
    """

    def __init__(self, budgets: Mapping[str, Budget], clock: Callable[[], float] = time.monotonic) -> None:
        self._budgets = dict(budgets)
        self._clock = clock
        self._asked: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)
        self._until: dict[str, tuple[float, str]] = {}
        self._counting = threading.Lock()

    def check(self, host: str) -> None:
        """See that a host may be asked, as far as it said itself; nothing is counted.

        Raises:
            WaitError: it asked to be left alone for longer.
        """
        with self._counting:
            self._check(host, self._clock())

    def _check(self, host: str, now: float) -> None:
        until, reason = self._until.get(host, (now, ""))
        if until > now:
            raise WaitError(f"{reason}: not asked again for {until - now:.0f} s", reason, until - now)

    def spend(self, host: str) -> None:
        """Count a request to a host, before it is sent.

        Raises:
            WaitError: it asked to be left alone for longer, or its budget is used up; nothing is counted.
        """
        budget, now = self._budgets.get(host, Budget()), self._clock()
        with self._counting:
            self._check(host, now)
            asked = self._asked[host]
            while asked and asked[0] <= now - budget.seconds:
                asked.popleft()
            if len(asked) >= budget.requests:
                wait = asked[0] + budget.seconds - now
                used = f"{budget.requests} requests in {budget.seconds:.0f} s"
                raise WaitError(
                    f"has had its budget of {used}: not asked again for {wait:.0f} s", "budget used up", wait
                )
            asked.append(now)

    def heed(self, host: str, status: int, wait: float | None) -> None:
        """Take notice of an answer.

        Args:
            host: who answered.
            status: of HTTP.
            wait: seconds that the answer asks to wait; None when it does not say.
        """
        limited = status == 429
        if not limited and (wait is None or status < 500):
            return
        reason = "rate limited" if limited else f"answers {status}"
        with self._counting:
            self._until[host] = (self._clock() + (REST if wait is None else wait), reason)
