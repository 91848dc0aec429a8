"""What a person sees of a run: a progress bar on a terminal, plain lines otherwise; always on standard error."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING

import click

from neurocommand.commands import journal
from neurocommand.errors import printable, printable_lines
from neurocommand.events import Advanced, Event, Finished, Listener, Noted, Started, ignore

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def size_text(size: float) -> str:
    """Return a number of bytes as people read it.

    >>> size_text(51_600_000)
    '51.6 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def echo_json(values: object) -> None:
    """Write JSON to standard output."""
    click.echo(json.dumps(values, indent=2))


class Console:
    """Shows events; one line for each finished stage, with its time and bytes.

    Nothing that goes wrong while showing is a failure of the work that is shown.

    Args:
        verbose: show the tools' own messages too.
        quiet: show what went wrong only.
    """

    def __init__(self, *, verbose: bool, quiet: bool) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.progress: Progress | None = None
        self.also: Listener = ignore  # hears every event, too
        self._turn = threading.Lock()
        self.tasks: dict[tuple[str, str], TaskID] = {}

    def say(self, text: str) -> None:
        """Write a line for people; to the log alone where they asked for quiet."""
        if self.quiet:
            journal.record(printable_lines(text))
        else:
            self._write(text)

    def complain(self, text: str) -> None:
        """Write a line that is shown even to those who asked for quiet."""
        self._write(text)

    def _write(self, text: str) -> None:
        text = printable_lines(text)
        if self.progress is not None:
            journal.record(text)
            self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            journal.echo(text, err=True)

    def __call__(self, event: Event) -> None:
        """Show one event; threads that work side by side take turns."""
        self.also(event)
        with self._turn:
            self._show(event)

    def _show(self, event: Event) -> None:
        match event:
            case Started(release, stage, total):
                self._start(release, stage, total)
            case Advanced(release, stage, done):
                if self.progress is not None and (release, stage) in self.tasks:
                    self.progress.update(self.tasks[release, stage], completed=done)
            case Finished(release, stage, seconds, size):
                self._stop(release, stage)
                self.say(f"{release}: {stage}: {size_text(size)} in {seconds:.1f} s{_rate(size, seconds)}")
            case Noted(subject, message) if self.verbose or not message.startswith("INFO:"):
                self.say(f"{subject}: {printable(message, 500)}")

    def _start(self, release: str, stage: str, total: int | None) -> None:
        if self.progress is not None:
            self.tasks[release, stage] = self.progress.add_task(f"{release} {stage}", total=total)
        elif self.verbose:
            self.say(f"{release}: {stage} …")

    def _stop(self, release: str, stage: str) -> None:
        if self.progress is not None and (release, stage) in self.tasks:
            self.progress.remove_task(self.tasks.pop((release, stage)))

    def __enter__(self) -> Console:
        """Begin a stretch of work; bars are shown until it ends."""
        if sys.stderr.isatty() and not self.quiet:
            self.progress = _bars()
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End a stretch of work."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
            self.tasks.clear()


def _rate(size: int, seconds: float) -> str:
    return f" ({size_text(size / seconds)}/s)" if size and seconds > 0.05 else ""


def _bars() -> Progress:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=RichConsole(stderr=True),
        transient=True,
    )
