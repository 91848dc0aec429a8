"""``neurocommand mirror``: every store gets what another one has."""

from __future__ import annotations

import click

from neurocommand.actions import Copy, Upload
from neurocommand.commands import pipeline
from neurocommand.commands.options import takes_dry_run, takes_json, takes_manifest, takes_prune, takes_releases
from neurocommand.commands.session import Session

STAGE = pipeline.Stage((Upload, Copy), deploys=False, prunes=True)


@click.command("mirror")
@takes_releases
@takes_manifest
@takes_prune
@click.option("--force", is_flag=True, help="Delete more releases than the cap allows.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(session: Session, releases: tuple[str, ...], prune: bool, force: bool, dry_run: bool, as_json: bool) -> int:
    """Fill every writable store from any store that holds the locked bytes.

    Objects of releases that the manifest names no more are listed; with --prune they are deleted from the primary store
    and from mirrors with `mode: sync`, once their grace period is over. Nothing is ever converted here.

    \b
    Examples:
      neurocommand mirror --dry-run
      neurocommand mirror --prune
    """
    return pipeline.run(session, STAGE, pipeline.Asked(releases, None, dry_run, as_json, force, prune))
