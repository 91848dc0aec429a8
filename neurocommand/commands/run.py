"""``neurocommand run``: a command of a deployed release, without a module system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from neurocommand import observe, process
from neurocommand.commands.session import Session, complete_release, takes_manifest
from neurocommand.errors import NeurocommandError, ProcessError, UsageError
from neurocommand.layout import ReleaseDirectory, Root
from neurocommand.model import DeployRecord, Release


class NotFoundError(NeurocommandError):
    """There is no such command."""

    exit_code = 127


class NotStartedError(NeurocommandError):
    """The command is there but cannot be started, or it cannot be told whether it is there."""

    exit_code = 126


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("release", shell_complete=complete_release)
@click.argument("words", nargs=-1, required=True, metavar="COMMAND [ARGUMENT]...", type=click.UNPROCESSED)
@takes_manifest
@click.pass_obj
def command(session: Session, release: str, words: tuple[str, ...]) -> int:
    """Run a command of a deployed release.

    Needs no module system. Standard streams, signals and the exit code are the command's own.

    \b
    Examples:
      neurocommand run niimath niimath in.nii -add 1 out.nii
      neurocommand run fsl/6.0.7.22 -- fslmaths -h
    """
    words = words[1:] if words[0] == "--" else words
    if not words:
        raise UsageError("name a command", "see: neurocommand show " + release)
    chosen = session.manifest.choose(release).release
    spoiled = ""
    for path in (session.settings.prefix, session.settings.root):
        if path is None:
            continue
        directory = Root(path).release(chosen)
        if not _is_there(directory):
            continue
        record = observe.read_record(directory)
        if not isinstance(record, DeployRecord):
            spoiled = spoiled or f"{directory.path}: {record.reason}"
            continue
        if words[0] not in record.commands:
            raise NotFoundError(f"{chosen}: no command {words[0]!r}", f"it has: {', '.join(record.commands)}")
        _become(directory.wrappers / words[0], words[1:], chosen)
    if spoiled:
        raise NotStartedError(spoiled, f"run: neurocommand install {chosen}")
    raise NotFoundError(f"{chosen}: not deployed on this host", f"run: neurocommand install {chosen}")


def _is_there(directory: ReleaseDirectory) -> bool:
    """Tell whether a release has a record; where that cannot be told, say why.

    Raises:
        NotStartedError: a directory on the way cannot be read.
    """
    try:
        os.lstat(directory.record)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise NotStartedError(f"{error.filename}: {error.strerror}", "may this user read there?") from error
    return True


def _become(wrapper: Path, arguments: Sequence[str], release: Release) -> None:
    try:
        process.replace_process([str(wrapper), *arguments], {})
    except ProcessError as error:
        raise NotStartedError(error.message, f"run: neurocommand install --rewrap {release}") from error
