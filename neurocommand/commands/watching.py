"""Rounds of a verb on a schedule, in one process that nothing but a signal ends."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from neurocommand.commands import endings, interruption, streams
from neurocommand.commands.console import Console
from neurocommand.commands.session import Session
from neurocommand.errors import NeurocommandError
from neurocommand.events import Event


class PatientConsole(Console):
    """Keeps what it is told to itself until there is work, so that a round without any is a single line."""

    def __init__(self, *, verbose: bool, quiet: bool) -> None:
        super().__init__(verbose=verbose, quiet=quiet)
        self._held: list[str] | None = None if verbose else []

    def say(self, text: str) -> None:
        """Write a line for people, or hold it back."""
        if self._held is None:
            super().say(text)
        else:
            self._held.append(text)

    def complain(self, text: str) -> None:
        """Write a line that is shown anyway, behind those that led to it."""
        self._release()
        super().complain(text)

    def __call__(self, event: Event) -> None:
        """Show an event, which is work."""
        self._release()
        super().__call__(event)

    def _release(self) -> None:
        # what is complained of before a word was said, of the configuration say, is no work
        if self._held:
            held, self._held = self._held, None
            for text in held:
                self.say(text)


def rounds(session: Session, every: int, work: Callable[[Session], int]) -> NoReturn:
    """Do the work again and again, each time from a session that reads everything anew; never returns.

    The rounds begin at whole multiples of ``every`` after the first; one that takes longer leaves out those that it
    misses. SIGTERM between two of them ends the process with 0, any other interruption with 130.

    Args:
        session: of the command line.
        every: seconds from the beginning of a round to that of the next.
        work: one round; what it raises is said, and ends that round alone.
    """
    first = time.monotonic()
    while True:
        clean = _round(session, work)
        try:
            now = time.monotonic()
            time.sleep(next_round(first, every, now) - now)
        except interruption.Terminated:
            streams.flush()
            interruption.leave(lambda: session.console.say("terminated between two rounds: nothing was under way"), 0)
        if not clean:
            # Threads of that round may be at work still, and the process keeps the run lock for their sake.
            streams.flush()
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606


def next_round(first: float, every: float, now: float) -> float:
    """Return when the next round begins, on the clock on which the first one did.

    >>> next_round(100.0, 60, 100.5), next_round(100.0, 60, 220.0), next_round(100.0, 60, 250.0)
    (160.0, 280.0, 280.0)
    """
    return first + every * (math.floor((now - first) / every) + 1)


def _round(session: Session, work: Callable[[Session], int]) -> bool:
    """Do one round, and tell whether it ended in a way that leaves nothing behind."""
    afresh = session.afresh()
    afresh.console = PatientConsole(verbose=session.console.verbose, quiet=session.console.quiet)
    try:
        work(afresh)
    except NeurocommandError as error:
        endings.tell(error)
    except Exception as error:
        endings.tell(error)
        return False
    return True
