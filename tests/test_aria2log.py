"""What aria2 1.36 says of jobs, as it was seen, understood line by line."""

from __future__ import annotations

import pytest

from neurocommand.aria2log import Fault, Log

GID = "c3bded809ab779df"
ABSENT = f"""\
2026-11-21 00:14:29.691566 [ERROR] [AbstractCommand.cc:349] CUID#17 - Download aborted. URI=http://one/x?signed=1
Exception: [AbstractCommand.cc:351] errorCode=3 URI=http://one/x?signed=1
  -> [HttpSkipResponseCommand.cc:218] errorCode=3 Resource not found
2026-11-21 00:14:29.691659 [NOTICE] [RequestGroupMan.cc:424] Download GID#{GID} not complete: /tmp/bad
""".splitlines()
DAMAGED = f"""\
2026-11-21 00:14:30.311124 [ERROR] [AbstractCommand.cc:401] CUID#24 - Download aborted. URI=http://one/x
Exception: [AbstractCommand.cc:403] errorCode=1 URI=http://one/x
  -> [RequestGroup.cc:761] errorCode=1 Download aborted.
  -> [DefaultBtProgressInfoFile.cc:262] errorCode=1 Failed to read from the segment file /tmp/ctl.aria2
2026-11-21 00:14:30.311279 [NOTICE] [RequestGroupMan.cc:424] Download GID#{GID} not complete: /tmp/ctl
""".splitlines()
COMPLETE = "2026-11-21 00:14:29.381687 [NOTICE] [RequestGroup.cc:1214] Download complete: /tmp/a2/good"
MISSING = Fault("http://one/x?signed=1", "Resource not found")


def taken(*lines: str) -> Log:
    log = Log(GID)
    for line in lines:
        log.take(line)
    return log


def test_the_root_of_a_fault_is_its_reason_and_shows_no_address() -> None:
    log = taken(*ABSENT)
    assert log.faults() == [MISSING]
    assert log.faults() == []
    assert log.ended


@pytest.mark.parametrize("cut", range(len(ABSENT) + 1))
def test_wherever_reading_stops_each_fault_is_told_once_and_with_a_cause(cut: int) -> None:
    log = taken(*ABSENT[:cut])
    found = log.faults()
    for line in ABSENT[cut:]:
        log.take(line)
    assert found + log.faults() == [MISSING]


def test_a_record_that_cannot_be_read_is_no_fault_of_an_address() -> None:
    log = taken(*DAMAGED)
    assert (log.unreadable, log.faults(), log.ended) == (True, [], True)


def test_an_abort_without_a_cause_is_told_at_the_end() -> None:
    log = taken(ABSENT[0])
    assert log.faults() == []
    log.take(ABSENT[-1])
    assert log.faults() == [Fault(MISSING.url, "the download was aborted")]


def test_the_end_is_that_of_this_job() -> None:
    other = ABSENT[-1].replace(GID, "0123456789abcdef")
    assert not taken(other).ended
    assert taken(other, COMPLETE).ended


def test_what_was_redirected_to_is_known() -> None:
    where = "http://one/x?signed=1"
    seen = "2026-11-21 03:37:14.339331 [NOTICE] [HttpResponse.cc:168] CUID#13 - Redirecting to "
    log = taken(seen + where, seen + where, COMPLETE)
    assert (log.redirected, log.faults()) == ({where}, [])
