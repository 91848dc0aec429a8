"""``neurocommand publish``: stores -> shared root."""

from __future__ import annotations

from pathlib import Path

import click

from neurocommand.actions import Deploy, Retire, Rewrap
from neurocommand.commands import pipeline
from neurocommand.commands.options import takes_dry_run, takes_json, takes_manifest, takes_releases, takes_root
from neurocommand.commands.session import Session

STAGE = pipeline.Stage((Deploy, Rewrap, Retire), deploys=True)


@click.command("publish")
@takes_releases
@takes_manifest
@takes_root
@click.option("--force", is_flag=True, help="Withdraw more releases than the limit allows.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session, releases: tuple[str, ...], root: Path | None, force: bool, dry_run: bool, as_json: bool
) -> int:
    """Deploy releases from the stores to the shared root.

    Reads SIFs from stores only, never from a registry. A release that the manifest retires is withdrawn.

    \b
    Examples:
      neurocommand publish --root /srv/neuro
      neurocommand publish niimath --dry-run
    """
    pipeline.require_root(session, root)
    return pipeline.run(session, STAGE, pipeline.Asked(releases, root, dry_run, as_json, force))
