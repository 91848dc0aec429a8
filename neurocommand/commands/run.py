"""``neurocommand run``: a command of a deployed release, without a module system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from neurocommand import observe, process
from neurocommand.commands import completing, installed
from neurocommand.commands.session import Session
from neurocommand.errors import NeurocommandError, ProcessError, UsageError, printable
from neurocommand.layout import Root
from neurocommand.model import DeployRecord, Release


class NotFoundError(NeurocommandError):
    """There is no such command."""

    exit_code = 127


class NotStartedError(NeurocommandError):
    """The command is there but cannot be started, or it cannot be told whether it is there."""

    exit_code = 126


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("release", shell_complete=completing.complete_installed)
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="COMMAND [ARGUMENT]...",
    type=click.UNPROCESSED,
    shell_complete=completing.complete_run,
)
@click.pass_obj
def command(session: Session, release: str, words: tuple[str, ...]) -> None:
    """Run a command of a deployed release.

    RELEASE is application (its default version of what is deployed under the prefix or the shared root, and is not
    withdrawn), application/version or the full id. Needs no module system and no manifest. Standard streams, signals
    and the exit code are the command's own.

    \b
    Examples:
      neurocommand run niimath niimath in.nii -add 1 out.nii
      neurocommand run fsl/6.0.7.22 -- fslmaths -h
    """
    words = words[1:] if words[0] == "--" else words
    if not words:
        raise UsageError("name a command", "see: neurocommand show " + release)
    roots = installed.places(session.settings)
    try:
        chosen = installed.choose(release, roots)
        near = installed.candidates(release, roots) if chosen is None else ""
    except OSError as error:
        raise NotStartedError(installed.reason(error), "may this user read there?") from error
    if chosen is None:
        shown = printable(release)
        raise NotFoundError(f"{shown}: not deployed on this host", near or f"run: neurocommand install {shown}")
    _run(*chosen, words)


def _run(release: Release, roots: Sequence[Root], words: Sequence[str]) -> NoReturn:
    """Become a command of a release, of the first root where its record is true."""
    spoiled = ""
    for directory in (root.release(release) for root in roots):
        record = observe.read_record(directory)
        if not isinstance(record, DeployRecord):
            spoiled = spoiled or f"{directory.path}: {record.reason}"
            continue
        if words[0] not in record.commands:
            raise NotFoundError(f"{release}: no command {words[0]!r}", f"it has: {', '.join(record.commands)}")
        _become(directory.wrappers / words[0], words[1:], release)
    raise NotStartedError(spoiled, f"run: neurocommand install {release}")


def _become(wrapper: Path, arguments: Sequence[str], release: Release) -> NoReturn:
    try:
        process.replace_process([str(wrapper), *arguments], {})
    except ProcessError as error:
        raise NotStartedError(error.message, f"run: neurocommand install --rewrap {release}") from error
