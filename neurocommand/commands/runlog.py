"""What a run leaves for operators in the state directory: its lines in runs.jsonl, and status.json.

Nothing that goes wrong here is a failure of the run: it is said once, and the run goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from neurocommand import __version__, runs
from neurocommand.actions import Plan
from neurocommand.apply import Done, Failed, Outcome
from neurocommand.commands import endings, interruption
from neurocommand.commands.recorder import Recorder
from neurocommand.events import Event, Finished
from neurocommand.files import write_atomically
from neurocommand.manifest import Manifest

if TYPE_CHECKING:
    from neurocommand.commands.session import Session

_LARGEST = 16 << 20  # bytes of a status.json that is believed to be one

INTERRUPTED = "interrupted"


class Asks(Protocol):
    """What a verb's command line says that matters here."""

    @property
    def releases(self) -> tuple[str, ...]:
        """The releases that are named."""
        ...

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be changed."""
        ...


S = TypeVar("S")
A = TypeVar("A", bound=Asks)
Verb = Callable[["Session", S, A], int]


def recorded(work: Verb[S, A]) -> Verb[S, A]:
    """Have every run of a verb leave its lines and the status, however it ends."""

    @functools.wraps(work)
    def run(session: Session, stage: S, asked: A) -> int:
        if asked.dry_run:
            return work(session, stage, asked)
        log = RunLog(session.settings.state, asked.releases, session.console.complain)
        session.runs, session.console.also = log, log.heard
        interruption.remember(lambda: log.end(interruption.CODE, INTERRUPTED))
        log.begin()
        try:
            code = work(session, stage, asked)
        except KeyboardInterrupt:
            log.end(interruption.CODE, INTERRUPTED)
            raise
        except Exception as error:
            message, hint, code = endings.described(error)
            log.end(code, message, hint)
            raise
        log.end(code)
        return code

    return run


class RunLog(Recorder):
    """Keep what a run does, and how it ends.

    Lines are appended one by one to a file that is opened for each, so it may be moved away at any time, and be read at
    any time to its last line break. A state directory that is not there yet is made by the run lock, not here.

    Args:
        state: the state directory.
        asked: the releases that were named.
        warn: tells people what cannot be written.
    """

    def __init__(self, state: Path, asked: tuple[str, ...], warn: Callable[[str], None]) -> None:
        now = _now()
        verb = click.get_current_context().info_name or ""
        self.run = runs.Run(runs.run_id(now, os.getpid()), verb, runs.moment(now), __version__, asked)
        self.state = state
        self._warn = warn
        self._started = time.monotonic()
        self._warned: set[str] = set()
        self._measured: dict[tuple[str, str], Finished] = {}
        self._entries: list[runs.Entry] = []
        self._found: tuple[Manifest, Plan, bool] | None = None
        self._problems = 0
        self._told = False
        self._ending = threading.Lock()

    def begin(self) -> None:
        """Write the first line, where the state directory is there."""
        if not self._told and self.state.is_dir():
            self._told = True
            self._append(runs.begin_line(self.run))

    def locked(self) -> None:
        """Take note that the run holds the run lock, so that whoever is still said to run was killed."""
        self.begin()
        self._write(runs.begun(self._status(), self.run))

    def planned(self, wanted: Manifest, whole: Plan, plan: Plan, *, everything: bool) -> None:
        """Take note of what is to be done; see Recorder."""
        self._found = wanted, whole, everything
        self._problems = len(plan.problems)

    def heard(self, event: Event) -> None:
        """Take note of a stage that ended; may be called by several threads."""
        if not isinstance(event, Finished):
            return
        if event.stage == runs.DOWNLOAD:
            self._keep(runs.Entry(event.release, runs.DOWNLOAD, "", "done", event.seconds, event.size, "", ""))
        else:
            self._measured[event.release, event.stage] = event

    def happened(self, outcome: Outcome) -> None:
        """Take note of what became of an action."""
        self._keep(self._entry(outcome))

    def end(self, code: int, error: str = "", hint: str = "") -> None:
        """Write the last line, and the status; only once, whoever comes first.

        Args:
            code: the exit code.
            error: why the run failed as a whole; empty where it did not.
            hint: what to do about it.
        """
        if not self._ending.acquire(blocking=False) or not self._told:
            return
        seconds = time.monotonic() - self._started
        entries = tuple(self._entries)
        end = runs.End(self.run, runs.moment(_now()), seconds, code, error, hint, entries, self._problems)
        self._append(runs.end_line(end))
        seen = None
        if self._found is not None and self._found[2]:
            wanted, whole, _ = self._found
            releases = [declaration.release for declaration in wanted.declarations]
            seen = runs.Seen(self.run.run, whole.problems, runs.states(releases, whole, entries))
        self._write(runs.ended(self._status(), end, seen))

    def _entry(self, outcome: Outcome) -> runs.Entry:
        action = outcome.action
        stage, store, release = runs.stage_of(action), runs.store_of(action), action.release.id
        match outcome:
            case Done(_, detail):
                # a copy through the spool is measured as an upload
                names = (f"{name} to {store}" if store else name for name in (stage, "upload"))
                measured = [found for name in names if (found := self._measured.pop((release, name), None))]
                seconds, size = (measured[0].seconds, measured[0].size) if measured else (outcome.seconds, 0)
                return runs.Entry(release, stage, store, "done", seconds, size, action.reason, detail)
            case Failed(_, error, fatal):
                why = error.message
                return runs.Entry(
                    release, stage, store, "failed", outcome.seconds, 0, action.reason, why, error.hint, fatal
                )
            case _:
                return runs.Entry(release, stage, store, "skipped", 0, 0, action.reason, outcome.reason, fatal=True)

    def _keep(self, entry: runs.Entry) -> None:
        self._entries.append(entry)
        self._append(runs.entry_line(self.run, entry, runs.moment(_now())))

    def _append(self, line: str) -> None:
        """Append a line, behind the end of one that was not written to its end."""
        path = self.state / runs.LOG
        with self._forgiving(path):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
                data = b"\n" * bool(torn) + line.encode()
                if os.write(descriptor, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)

    def _status(self) -> runs.Status:
        path = self.state / runs.STATUS
        try:
            if not path.is_file():
                return runs.Status()
            with open(path, encoding="utf-8", errors="replace") as file:
                return runs.parse(file.read(_LARGEST))
        except OSError:
            return runs.Status()

    def _write(self, status: runs.Status) -> None:
        path = self.state / runs.STATUS
        with self._forgiving(path):
            write_atomically(path, runs.render(status, runs.moment(_now())), durable=False)

    @contextlib.contextmanager
    def _forgiving(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if path.name not in self._warned:
                self._warned.add(path.name)
                self._warn(f"warning: {path}: {error.strerror}; the run goes on, but its record there has gaps")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
