"""``neurocommand remove``: the reverse of install."""

from __future__ import annotations

from pathlib import Path

import click

from neurocommand import config, observe
from neurocommand.commands import completing, journal, pipeline
from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_dry_run, takes_json
from neurocommand.commands.session import Session
from neurocommand.deploy import Deployer
from neurocommand.errors import UsageError, printable, printable_lines
from neurocommand.layout import Root
from neurocommand.model import Release
from neurocommand.observation import Foreign
from neurocommand.spool import Spool


@click.command("remove")
@click.argument("releases", nargs=-1, required=True, metavar="RELEASE...", shell_complete=completing.complete_installed)
@click.option("--prefix", type=click.Path(path_type=Path, file_okay=False), help="Where it was installed.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(session: Session, releases: tuple[str, ...], prefix: Path | None, dry_run: bool, as_json: bool) -> int:
    """Remove installed releases: image, wrappers, modulefile and record.

    RELEASE is application (when one version of it is installed), application/version or the full id.

    \b
    Examples:
      neurocommand remove niimath
      neurocommand remove fsl/6.0.7.22 --prefix /opt/neuro --dry-run
    """
    root = Root(config.checked_root(prefix) if prefix is not None else session.settings.prefix)
    if dry_run:
        return _report(_chosen(releases, root), root, dry_run=True, as_json=as_json)
    if not root.state.is_dir():
        # never a prefix, as far as can be seen: where nothing is installed, nothing is written either
        _chosen(releases, root)
    form, defaults = session.settings.install_format, session.defaults_at_hand
    deployer = Deployer(root, form, (), session.console, defaults=defaults)
    with deployer.locked():
        deployer.prepare()
        spool = Spool(root.spool)
        if spool.path.is_dir():
            # what a killed install fetched; a store has it
            spool.prepare()
            spool.discard(spool.sizes())
        chosen = _chosen(releases, root)
        for release in chosen:
            deployer.remove(release)
        # by no manifest: the sets stay as they are
        pipeline.finish(session, deployer, None)
    return _report(chosen, root, dry_run=False, as_json=as_json)


def _report(chosen: list[Release], root: Root, *, dry_run: bool, as_json: bool) -> int:
    if as_json:
        echo_json({"dry_run": dry_run, "removed": [release.id for release in chosen]})
        return 0
    for release in chosen:
        journal.echo(printable_lines(f"{'would remove' if dry_run else 'removed'} {root.release(release).path}"))
    return 0


def _chosen(arguments: tuple[str, ...], root: Root) -> list[Release]:
    view = observe.root(root, None, "")
    installed = sorted(release for release, found in view.deployments.items() if not isinstance(found, Foreign))
    return list(dict.fromkeys(_choose(argument, installed, root) for argument in arguments))


def _choose(argument: str, installed: list[Release], root: Root) -> Release:
    application, _, version = argument.partition("/")
    found = [r for r in installed if argument == r.id] or [
        r for r in installed if r.application == application and version in ("", r.version)
    ]
    if len(found) > 1:
        raise UsageError(f"{argument} is ambiguous", f"say which: {', '.join(r.id for r in found)}")
    if not found:
        raise _not_installed(argument, installed, root)
    return found[0]


def _not_installed(argument: str, installed: list[Release], root: Root) -> UsageError:
    there = ", ".join(f"{release.application}/{release.version}" for release in installed) or "nothing"
    return UsageError(f"{printable(argument)}: not installed under {root.path}", f"installed there: {there}")
