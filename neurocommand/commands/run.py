"""``neurocommand run``: a command of a deployed release, without a module system."""

from __future__ import annotations

import click

from neurocommand import observe, process
from neurocommand.commands.session import Session, complete_release, takes_manifest
from neurocommand.errors import NeurocommandError, UsageError
from neurocommand.layout import Root


class NotFoundError(NeurocommandError):
    """There is no such command."""

    exit_code = 127


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
      neurocommand run fsl/6.0.7.16 -- fslmaths -h
    """
    words = words[1:] if words[0] == "--" else words
    if not words:
        raise UsageError("name a command", "see: neurocommand show " + release)
    chosen = session.manifest.choose(release).release
    for path in (session.settings.prefix, session.settings.root):
        if path is None:
            continue
        directory = Root(path).release(chosen)
        record = observe.read_record(directory)
        if isinstance(record, str):
            continue
        if words[0] not in record.commands:
            raise NotFoundError(f"{chosen}: no command {words[0]!r}", f"it has: {', '.join(record.commands)}")
        process.replace_process([str(directory.wrappers / words[0]), *words[1:]], {})
    raise NotFoundError(f"{chosen}: not deployed on this host", f"run: neurocommand install {chosen}")
