"""What is kept of runs for operators: the lines of runs.jsonl, and status.json, which says how things stand.

README.md ("What a run leaves") lists every field of both. Lines and members may get further fields; none changes its
meaning within a version.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neurocommand.actions import Action, Adopt, Copy, Delete, Plan, Problem, Upload
from neurocommand.errors import printable
from neurocommand.model import Release

VERSION = 1
LOG = "runs.jsonl"
STATUS = "status.json"
# the stage of a download; of all others an action is the name
DOWNLOAD = "download"
# exit codes that say of a run that it was none, and that somebody ended it
BUSY = 75
INTERRUPTED = 130

_LONGEST = 1000
_USER = re.compile(r"(\w://)[^/\s@]*@")
_RESULTS = {0: "ok", BUSY: "busy", INTERRUPTED: "interrupted"}


@dataclass(frozen=True)
class Run:
    """One run of a verb.

    Args:
        run: its id, which sorts by time.
        verb: what was called.
        began: UTC, as ISO 8601.
        neurocommand: the program's version.
        asked: the releases that were named; all of the manifest when there are none.
    """

    run: str
    verb: str
    began: str
    neurocommand: str
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What became of one action, or a download that one needed.

    Args:
        release: the release's id.
        stage: convert, adopt, upload, copy, deploy, rewrap, retire, delete or download.
        store: the store that it reads or writes; empty where there is none.
        outcome: how it ended.
        seconds: of the work; of what failed or has no measured stage, wall time, with waiting for its turn.
        bytes: that it moved or wrote.
        reason: why it was planned.
        detail: what came of it, or why nothing did.
        next: what to do about a failure; empty where nothing is known.
        fatal: it failed or was skipped, and makes the run a failure.
    """

    release: str
    stage: str
    store: str
    outcome: Literal["done", "failed", "skipped"]
    seconds: float
    bytes: int
    reason: str
    detail: str
    next: str = ""
    fatal: bool = False


@dataclass(frozen=True)
class Seen:
    """What a run over the whole manifest found: problems, and how many releases are in which state."""

    run: str
    problems: tuple[Problem, ...]
    releases: Mapping[str, int]


@dataclass(frozen=True)
class End:
    """How a run ended.

    Args:
        run: which.
        ended: UTC, as ISO 8601.
        seconds: since it began.
        exit_code: of the command, or of the round.
        error: why it failed as a whole, and
        next: what to do about that; empty where it did not.
        entries: what became of its actions.
        problems: how many its plan had.
    """

    run: Run
    ended: str
    seconds: float
    exit_code: int
    error: str = ""
    next: str = ""
    entries: tuple[Entry, ...] = ()
    problems: int = 0

    @property
    def result(self) -> str:
        """The exit code in a word: ok, busy, interrupted or failed."""
        return _RESULTS.get(self.exit_code, "failed")


@dataclass(frozen=True)
class Status:
    """What status.json says, each member as its JSON values; None where there is nothing to say.

    Args:
        running: the run that holds the run lock, as it began.
        last: the last run that ended.
        succeeded: the last run that ended with 0.
        killed: the last run that ended without a word.
        manifest: problems and states, as the last run over the whole manifest found them.
    """

    running: Mapping[str, Any] | None = None
    last: Mapping[str, Any] | None = None
    succeeded: Mapping[str, Any] | None = None
    killed: Mapping[str, Any] | None = None
    manifest: Mapping[str, Any] | None = None


def moment(when: datetime.datetime) -> str:
    """Return a time in UTC as ISO 8601, to the millisecond.

    >>> moment(datetime.datetime(2026, 11, 20, 16, 18, 23, 500_000, datetime.timezone.utc))
    '2026-11-20T16:18:23.500Z'
    """
    return when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def run_id(when: datetime.datetime, process: int) -> str:
    """Return the id of a run, which sorts by time.

    >>> run_id(datetime.datetime(2026, 11, 20, 16, 18, 23, tzinfo=datetime.timezone.utc), 4711)
    '20261120T161823.000Z-4711'
    """
    return f"{re.sub('[-:]', '', moment(when))}-{process}"


def told(text: str) -> str:
    r"""Return a message as both files hold it: one line, safe to show, without a name and password of an address.

    >>> told("http://me:secret@host/x:\nno answer")
    'http://host/x: no answer'
    """
    return printable(_USER.sub(r"\1", " ".join(text.split())), _LONGEST)


def stage_of(action: Action) -> str:
    """Return the stage that an action is, in a word."""
    return type(action).__name__.lower()


def store_of(action: Action) -> str:
    """Return the store that an action reads or writes; empty where there is none."""
    return action.store if isinstance(action, Adopt | Copy | Delete | Upload) else ""


def begin_line(run: Run) -> str:
    """Return the line with which a run begins."""
    values = dataclasses.asdict(run)
    began = values.pop("began")
    return _line({"event": "begin", "run": values.pop("run"), "time": began, **values})


def entry_line(run: Run, entry: Entry, time: str) -> str:
    """Return the line of an outcome."""
    return _line({"event": "outcome", "run": run.run, "time": time, **_entry_values(entry)})


def end_line(end: End) -> str:
    """Return the line with which a run ends."""
    values = _end_values(end)
    ended = values.pop("ended")
    del values["began"], values["failures"], values["asked"]
    return _line({"event": "end", "run": values.pop("run"), "time": ended, **values})


def states(wanted: Iterable[Release], whole: Plan, entries: Sequence[Entry]) -> dict[str, int]:
    """Count the releases of the manifest by how they stand at the end of a run.

    Args:
        wanted: the releases of the manifest.
        whole: all that was to be done for them, whether the run did it or not.
        entries: what the run did.

    Returns:
        How many are *current* (nothing is left to do), *behind* (something is, of another stage), *failed* (something
        was tried) or in a *problem* that no action can mend.
    """
    done = {(entry.release, entry.stage, entry.store) for entry in entries if entry.outcome == "done"}
    failed = {entry.release for entry in entries if entry.outcome != "done" and entry.fatal}
    troubled = {problem.subject for problem in whole.problems if problem.fatal}
    behind = {
        action.release.id
        for action in whole.actions
        if (action.release.id, stage_of(action), store_of(action)) not in done
    }
    counts = Counter({"current": 0, "behind": 0, "failed": 0, "problem": 0})
    for release in wanted:
        found = [
            name for name, ids in (("failed", failed), ("problem", troubled), ("behind", behind)) if release.id in ids
        ]
        counts[found[0] if found else "current"] += 1
    return dict(counts)


def begun(before: Status, run: Run) -> Status:
    """Return the status while a run is under way; one that is still said to run was killed."""
    return dataclasses.replace(before, running=dataclasses.asdict(run), killed=before.running or before.killed)


def ended(before: Status, end: End, seen: Seen | None) -> Status:
    """Return the status after a run.

    Args:
        before: what it was; another run that is under way stays.
        end: how the run ended; one that found another at work is not the last one.
        seen: what it found of the whole manifest; None where it did not look, and what was found before still counts.
    """
    after = before
    if before.running is not None and before.running["run"] == end.run.run:
        after = dataclasses.replace(after, running=None)
    if end.exit_code != BUSY:
        after = dataclasses.replace(after, last=_end_values(end))
    if end.exit_code == 0:
        after = dataclasses.replace(after, succeeded={**dataclasses.asdict(end.run), "ended": end.ended})
    if seen is not None:
        problems = [{**dataclasses.asdict(problem), "reason": told(problem.reason)} for problem in seen.problems]
        found = {"run": seen.run, "problems": problems, "releases": dict(seen.releases)}
        after = dataclasses.replace(after, manifest=found)
    return after


def render(status: Status, updated: str) -> str:
    """Return a status as the text of status.json."""
    return json.dumps({"version": VERSION, "updated": updated, **dataclasses.asdict(status)}, indent=2) + "\n"


def parse(text: str) -> Status:
    """Return what earlier runs said; whatever cannot be read is left out, since it is only shown to people."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return Status()
    if not isinstance(values, dict) or values.get("version") != VERSION:
        return Status()
    members = {member.name: values.get(member.name) for member in dataclasses.fields(Status)}
    return Status(**{name: member for name, member in members.items() if _is_of_a_run(member)})


def _is_of_a_run(member: object) -> bool:
    return isinstance(member, dict) and isinstance(member.get("run"), str)


def _entry_values(entry: Entry) -> dict[str, Any]:
    texts = {name: told(getattr(entry, name)) for name in ("reason", "detail", "next")}
    return {**dataclasses.asdict(entry), "seconds": round(entry.seconds, 3), **texts}


def _end_values(end: End) -> dict[str, Any]:
    """Return how a run ended, as both files tell it; downloads count as bytes, not as actions."""
    outcomes = Counter(entry.outcome for entry in end.entries if entry.stage != DOWNLOAD)
    return {
        **dataclasses.asdict(end.run),
        "ended": end.ended,
        "seconds": round(end.seconds, 3),
        "exit_code": end.exit_code,
        "result": end.result,
        "error": told(end.error),
        "next": told(end.next),
        "done": outcomes["done"],
        "failed": outcomes["failed"],
        "skipped": outcomes["skipped"],
        "problems": end.problems,
        "bytes": sum(entry.bytes for entry in end.entries),
        "failures": [_entry_values(entry) for entry in end.entries if entry.outcome != "done"],
    }


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"
