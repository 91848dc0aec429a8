"""What the servers of a CVMFS repository answered -> how fresh each of them is: pure.

A server is compared with the stratum 0, from which all others copy, or with the newest of those that are known: the
same revision with the same root catalog is fresh. One that is behind is given the time that copying and caches take;
how long the newest revision has been there is known from the moment of its signing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXPIRING_DAYS = 7


@dataclass(frozen=True)
class Answer:
    """What a server said, verified.

    Args:
        revision: the number of its revision.
        root: the hash of the root catalog: equal ones mean equal content.
        signed: Unix time of the last signing.
        expires: Unix time from which clients refuse it.
        milliseconds: that the answer took.
    """

    revision: int
    root: str
    signed: int
    expires: int
    milliseconds: int


@dataclass(frozen=True)
class Silence:
    """A server gave nothing that could be used.

    Args:
        state: ``down``, ``bad signature`` or ``incomplete``.
        reason: why.
        hint: the next step.
    """

    state: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Limits:
    """How old what a server shows may be.

    Args:
        lag_minutes: since when the newest revision may be there without a server having it.
        age_hours: since when a server's revision may have been signed; None: for ever.
    """

    lag_minutes: int
    age_hours: int | None = None


@dataclass(frozen=True)
class Verdict:
    """How one server is.

    Args:
        state: in a word or two: ok, behind, stale, split, whitelist expired, or that of a ``Silence``.
        failing: whether somebody has to do something.
        reason: why it is not ok; empty when it is.
        hint: the next step.
    """

    state: str
    failing: bool = False
    reason: str = ""
    hint: str = ""


def newest(answers: Sequence[Answer | Silence], *, stratum0: bool) -> Answer | None:
    """Return what the others are compared with: the stratum 0's answer, else the highest revision that was given.

    Args:
        answers: of all servers.
        stratum0: the first is that of the stratum 0. Of servers that copy, one may be ahead of another.
    """
    first = answers[0] if answers and stratum0 else None
    if isinstance(first, Answer):
        return first
    given = [answer for answer in answers if isinstance(answer, Answer)]
    return max(given, key=lambda answer: answer.revision, default=None)


def judge(answer: Answer | Silence, reference: Answer | None, limits: Limits, now: float) -> Verdict:
    """Return how a server is.

    Args:
        answer: what it said.
        reference: what it is compared with; None where nobody answered.
        limits: how old may be what it shows.
        now: Unix time.
    """
    if isinstance(answer, Silence):
        return Verdict(answer.state, True, answer.reason, answer.hint)
    if answer.expires <= now:
        return Verdict(
            "whitelist expired",
            True,
            "no client mounts the repository any more",
            "cvmfs_server resign, on the publisher",
        )
    if reference is not None:
        found = _compared(answer, reference, limits, now)
        if found is not None:
            return found
    if limits.age_hours is not None and now - answer.signed > limits.age_hours * 3600:
        reason = f"was signed {text_of(now - answer.signed)} ago, more than {limits.age_hours} h"
        return Verdict("stale", True, reason, "does the publisher still publish?")
    days = int((answer.expires - now) // 86400)
    if days < EXPIRING_DAYS:
        return Verdict(f"whitelist expires in {days} days", False, "", "cvmfs_server resign, on the publisher")
    return Verdict("ok")


def _compared(answer: Answer, reference: Answer, limits: Limits, now: float) -> Verdict | None:
    """Say how a server differs from the stratum 0; None where it does not."""
    if answer.revision > reference.revision:
        return Verdict(
            "split",
            True,
            f"has revision {answer.revision}, the stratum 0 only {reference.revision}",
            "is a cache before the stratum 0, or was it restored? Ask again in some minutes",
        )
    if answer.revision == reference.revision:
        if answer.root == reference.root:
            return None
        reason = f"has other content than others under revision {answer.revision}"
        return Verdict("split", True, reason, "two machines publish the repository: stop one, and make a new snapshot")
    lag = max(0.0, now - reference.signed)
    reason = f"has revision {answer.revision}, but there is {reference.revision}, signed {text_of(lag)} ago"
    if lag > limits.lag_minutes * 60:
        return Verdict(
            "stale", True, reason, "does it still make its snapshots? cvmfs_server snapshot -a, on that server"
        )
    return Verdict("behind", False, reason)


def text_of(seconds: float) -> str:
    """Return a length of time as people read it.

    >>> text_of(59), text_of(7200), text_of(200000)
    ('59 s', '2.0 h', '2.3 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
