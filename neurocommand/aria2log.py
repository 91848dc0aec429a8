"""What aria2 says of a job: which addresses it uses no more, and why; its protocol tells neither."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STAMPED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \[(?P<level>[A-Z]+)\] (?P<text>.*)")
_ABORTED = re.compile(r".*Download aborted\. URI=(?P<url>\S+)")
_REDIRECTED = re.compile(r".* - Redirecting to (?P<url>\S+)")
_ENDED = re.compile(r".*Download (GID#(?P<gid>\w+) not complete|complete): .*")  # the last line of every job
_ADDRESS = re.compile(r"URI=\S+")  # may hold a signature
_WHERE = re.compile(r"^.*?\[\w+\.cc:\d+\] (errorCode=\d+ )?")
_RECORD = "ProgressInfoFile.cc"  # where aria2 reads its record of what is there


@dataclass(frozen=True)
class Fault:
    """An address that a job uses no more, and why."""

    url: str
    reason: str


class Log:
    """The lines of one job, taken one by one.

    ``ended``: nothing more will come; ``unreadable``: the job's record of what is there is of no use, which is no
    address's fault; ``redirected``: the addresses that others, or they themselves, have redirected to.

    Args:
        gid: the job's id.
    """

    def __init__(self, gid: str) -> None:
        self.ended = False
        self.unreadable = False
        self.redirected = set[str]()
        self._gid = gid
        self._faults: list[Fault] = []
        self._aborted: str | None = None
        self._cause = ""

    def take(self, line: str) -> None:
        """Understand one line; the cause of what went wrong stands in the lines below, its root last."""
        stamped = _STAMPED.fullmatch(line)
        if stamped is None:
            self.unreadable |= _RECORD in line
            self._cause = _words(line) or self._cause
            return
        self._close()
        aborted = _ABORTED.fullmatch(stamped["text"]) if stamped["level"] == "ERROR" else None
        self._aborted, self._cause = (aborted["url"] if aborted is not None else None), ""
        if (redirected := _REDIRECTED.fullmatch(stamped["text"])) is not None:
            self.redirected.add(redirected["url"])
        ended = _ENDED.fullmatch(stamped["text"])
        self.ended |= ended is not None and ended["gid"] in (self._gid, None)

    def faults(self) -> list[Fault]:
        """Return the addresses that failed since it was asked last; an address that was tried often is named often.

        One whose cause has not come yet is left for the next time.
        """
        if self._cause or self.ended:
            self._close()
        found, self._faults = self._faults, []
        return [] if self.unreadable else found

    def _close(self) -> None:
        if self._aborted is not None:
            self._faults.append(Fault(self._aborted, self._cause or "the download was aborted"))
        self._aborted = None


def plain(text: str) -> str:
    """Return the words of a message of aria2's, without its source lines, codes and addresses.

    >>> plain("  -> [HttpSkipResponseCommand.cc:218] errorCode=3 Resource not found. ")
    'Resource not found'
    """
    return _words(text) or "no reason is given"


def _words(text: str) -> str:
    return _WHERE.sub("", _ADDRESS.sub("", text.strip())).strip().rstrip(".")
