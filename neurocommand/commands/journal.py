"""The log that ``--log-file`` asks for: whatever a person is shown stands in it, too, each message with its time.

There is one of it, as there is one standard error: verbs and the end of the process write to the same.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from neurocommand.errors import UsageError

_path: Path | None = None


def begin(path: Path) -> None:
    """Append to a file from now on.

    Raises:
        UsageError: it cannot be written.
    """
    global _path  # noqa: PLW0603
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise UsageError(
            f"--log-file {path}: cannot be written: {error.strerror}", "name another file, or leave it out"
        ) from error
    _path = path.absolute()


def echo(text: str, *, err: bool = False) -> None:
    """Show text, safe for a terminal already, and record it.

    Args:
        text: one or more lines.
        err: on standard error; else on standard output, as a result.
    """
    record(text)
    click.echo(text, err=err)


def record(text: str) -> None:
    """Append to the log, if there is one; the first failure is said, and is the end of the log but not of the work."""
    global _path  # noqa: PLW0603
    path = _path
    if path is None:
        return
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")
    except OSError as error:
        _path = None
        click.echo(f"warning: {path}: the log ends here: {error.strerror}", err=True)
