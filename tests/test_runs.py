"""What is kept of runs, as text: lines that are whole, a status that survives whatever it was before."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand import runs
from neurocommand.actions import Convert, Copy, Deploy, Plan, Problem, Upload
from neurocommand.model import Release
from neurocommand.runs import End, Entry, Run, Seen, Status

RELEASES = tuple(Release("tool", f"{number}.0", "20260101") for number in range(5))
RUN = Run("20261120T161823.000Z-7", "sync", "2026-11-20T16:18:23.000Z", "0.1.0")
DONE = Entry(RELEASES[0].id, "upload", "far", "done", 1.23456, 100, "absent", "100 bytes sent to far")
FAILED = Entry(RELEASES[1].id, "convert", "", "failed", 2.0, 0, "not locked", "no registry", "ask it", fatal=True)
SKIPPED = Entry(RELEASES[1].id, "upload", "far", "skipped", 0, 0, "absent", "convert failed", fatal=True)
FETCHED = Entry(RELEASES[0].id, "download", "", "done", 1.0, 50, "", "")
END = End(RUN, "2026-11-20T16:20:00.000Z", 97.0004, 1, entries=(DONE, FAILED, SKIPPED, FETCHED), problems=2)


def values(line: str) -> dict[str, Any]:
    assert line.endswith("\n")
    assert line.count("\n") == 1
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_of_each_kind() -> None:
    assert values(runs.begin_line(dataclasses.replace(RUN, asked=("fsl",)))) == {
        "event": "begin",
        "run": RUN.run,
        "time": RUN.began,
        "verb": "sync",
        "neurocommand": "0.1.0",
        "asked": ["fsl"],
    }
    assert values(runs.entry_line(RUN, DONE, "2026-11-20T16:19:00.000Z")) == {
        "event": "outcome",
        "run": RUN.run,
        "time": "2026-11-20T16:19:00.000Z",
        "release": RELEASES[0].id,
        "stage": "upload",
        "store": "far",
        "outcome": "done",
        "seconds": 1.235,
        "bytes": 100,
        "reason": "absent",
        "detail": "100 bytes sent to far",
        "next": "",
        "fatal": False,
    }
    assert values(runs.end_line(END)) == {
        "event": "end",
        "run": RUN.run,
        "time": "2026-11-20T16:20:00.000Z",
        "verb": "sync",
        "neurocommand": "0.1.0",
        "seconds": 97.0,
        "exit_code": 1,
        "result": "failed",
        "error": "",
        "next": "",
        "done": 1,
        "failed": 1,
        "skipped": 1,
        "problems": 2,
        "bytes": 150,
    }


@pytest.mark.parametrize(
    ("code", "result"), [(0, "ok"), (1, "failed"), (4, "failed"), (75, "busy"), (130, "interrupted")]
)
def test_an_exit_code_in_a_word(code: int, result: str) -> None:
    assert dataclasses.replace(END, exit_code=code).result == result


@given(st.text())
def test_whatever_a_message_holds_is_one_line_that_a_terminal_does_not_obey(text: str) -> None:
    entry = dataclasses.replace(FAILED, detail=text, reason=text, next=text)
    found = values(runs.entry_line(RUN, entry, "t"))
    assert all(found[name].isprintable() for name in ("detail", "reason", "next"))


def test_names_and_passwords_of_addresses_are_left_out() -> None:
    told = runs.told("https://me:s3cret@host/a and\n s3://key@bucket, not me@example.org, http://h/x@y")
    assert told == "https://host/a and s3://bucket, not me@example.org, http://h/x@y"


def test_ids_sort_by_time() -> None:
    first = datetime.datetime(2026, 9, 30, 23, 59, 59, 999_000, datetime.timezone.utc)
    ids = [runs.run_id(first + datetime.timedelta(seconds=n / 10), 99999 - n) for n in range(30)]
    assert ids == sorted(ids)


def test_states_of_releases() -> None:
    plan = Plan(
        (
            Upload(RELEASES[0], "far", ""),
            Convert(RELEASES[1], ""),
            Upload(RELEASES[1], "far", ""),
            Copy(RELEASES[2], ("near",), "far", ""),
            Deploy(RELEASES[2], ""),
        ),
        (Problem("lost", RELEASES[3].id, ""), Problem("unlisted", RELEASES[4].id, "", fatal=False)),
    )
    copied = Entry(RELEASES[2].id, "copy", "far", "done", 0, 0, "", "")
    assert runs.states(RELEASES, plan, (DONE, FAILED, SKIPPED, copied)) == {
        "current": 2,
        "behind": 1,
        "failed": 1,
        "problem": 1,
    }
    spared = dataclasses.replace(FAILED, fatal=False, release=RELEASES[4].id)
    assert runs.states([RELEASES[4]], Plan((), ()), (spared,))["current"] == 1


def shown(status: Status) -> dict[str, Any]:
    text = runs.render(status, "now")
    assert runs.parse(text) == runs.parse(runs.render(runs.parse(text), "later"))
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_status_of_a_run_from_its_beginning_to_its_end() -> None:
    before = runs.begun(Status(), RUN)
    assert shown(before)["running"]["run"] == RUN.run
    assert shown(before)["killed"] is None
    problem = Problem("lost", RELEASES[3].id, "at http://me:pw@host")
    seen = Seen(RUN.run, (problem,), {"current": 4, "problem": 1})
    after = shown(runs.ended(before, END, seen))
    assert (after["version"], after["running"], after["succeeded"]) == (1, None, None)
    assert (after["last"]["exit_code"], after["last"]["problems"]) == (1, 2)
    assert [(one["stage"], one["outcome"], one["detail"]) for one in after["last"]["failures"]] == [
        ("convert", "failed", "no registry"),
        ("upload", "skipped", "convert failed"),
    ]
    assert after["manifest"]["problems"] == [
        {"kind": "lost", "subject": RELEASES[3].id, "reason": "at http://host", "fatal": True}
    ]
    again = dataclasses.replace(END, exit_code=0, run=dataclasses.replace(RUN, run="later"))
    good = shown(runs.ended(runs.parse(json.dumps(after)), again, None))
    assert good["succeeded"]["run"] == good["last"]["run"] == "later"
    assert good["manifest"] == after["manifest"]


def test_a_run_that_ended_without_a_word_was_killed() -> None:
    later = dataclasses.replace(RUN, run="later")
    after = runs.begun(runs.begun(Status(), RUN), later)
    assert shown(after)["killed"]["run"] == RUN.run
    assert shown(runs.ended(after, dataclasses.replace(END, run=later), None))["killed"]["run"] == RUN.run


def test_a_run_that_found_another_at_work_leaves_what_that_one_said() -> None:
    before = runs.begun(Status(), RUN)
    other = dataclasses.replace(END, run=dataclasses.replace(RUN, run="other"), exit_code=75)
    assert runs.ended(before, other, None) == before


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "{}", '{"version": 2, "last": {"run": "x"}}', "[" * 100_000])
def test_what_cannot_be_read_counts_as_nothing(text: str) -> None:
    assert runs.parse(text) == Status()


def test_of_a_damaged_status_the_good_members_count() -> None:
    text = json.dumps({"version": 1, "running": 5, "last": {"run": 3}, "killed": [], "succeeded": {"run": "x"}})
    assert runs.parse(text) == Status(succeeded={"run": "x"})
