"""``neurocommand plan``: what a sync would do."""

from __future__ import annotations

from pathlib import Path

import click

from neurocommand.commands import pipeline
from neurocommand.commands.session import Session, takes_json, takes_manifest, takes_prune, takes_releases, takes_root
from neurocommand.commands.sync import STAGE


@click.command("plan")
@takes_releases
@takes_manifest
@takes_root
@takes_prune
@takes_json
@click.pass_obj
def command(session: Session, releases: tuple[str, ...], root: Path | None, prune: bool, as_json: bool) -> int:
    """Show what a sync would do, and why.

    Exits with 1 when there are problems: releases that are lost, stores that cannot be asked, …

    \b
    Examples:
      neurocommand plan
      neurocommand plan fsl --json
    """
    return pipeline.run(session, STAGE, pipeline.Asked(releases, root, True, as_json, True, prune))
