"""``neurocommand lock``: what several machines locked, in one file."""

from __future__ import annotations

from pathlib import Path

import click

from neurocommand import lock
from neurocommand.commands import report
from neurocommand.commands.options import takes_manifest
from neurocommand.commands.session import Session
from neurocommand.errors import ImmutableError, UsageError
from neurocommand.files import write_atomically


@click.group("lock")
def command() -> None:
    """Work on locks.

    \b
    Examples:
      neurocommand lock merge shard-*/apps.lock.json
      git config merge.neurocommand-lock.driver "neurocommand lock merge --output %A %A %B"
    """


@command.command("merge")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE..."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the union there; without it, into the configured lock, beside what that has.",
)
@takes_manifest
@click.pass_obj
def merge(session: Session, files: tuple[Path, ...], output: Path | None) -> int:
    """Unite locks, so that shards, or two branches, lose nothing of what they locked.

    A release that two locks know with other bytes is refused (exit 4), and nothing is written. As a merge driver of
    git it needs in .gitattributes: apps.lock.json merge=neurocommand-lock

    \b
    Examples:
      neurocommand lock merge shard-*/apps.lock.json
      neurocommand lock merge --output apps.lock.json ours.json theirs.json
    """
    into = output or session.settings.lock
    united = lock.Lock()
    try:
        for path in files:
            united = united.united(lock.load(path))
    except ImmutableError as error:
        raise ImmutableError(f"{path}: {error.message}", "find out which one the stores hold") from error
    try:
        if output is not None:
            write_atomically(output, lock.render(united))
        else:
            written = lock.LockFile(into)
            written.unite(united)
            united = written.lock
    except OSError as error:
        raise UsageError(f"{into}: cannot be written: {error.strerror}", "name another file with --output") from error
    session.console.say(f"{into}: {report.count(len(united.artifacts), 'release')} locked")
    return 0
