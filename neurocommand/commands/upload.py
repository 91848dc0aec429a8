"""``neurocommand upload``: spool, or another store -> every writable store."""

from __future__ import annotations

import click

from neurocommand.actions import Copy, Upload
from neurocommand.commands import pipeline
from neurocommand.commands.options import takes_dry_run, takes_json, takes_manifest, takes_releases, takes_shard
from neurocommand.commands.session import Session

STAGE = pipeline.Stage((Upload, Copy), deploys=False)


@click.command("upload")
@takes_releases
@takes_manifest
@takes_shard
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session, releases: tuple[str, ...], shard: tuple[int, int] | None, dry_run: bool, as_json: bool
) -> int:
    """Put converted SIFs into every store that lacks them.

    A damaged object is replaced by the locked bytes. What a store already has is not sent again.

    \b
    Examples:
      neurocommand upload niimath
      neurocommand upload --dry-run
    """
    return pipeline.run(session, STAGE, pipeline.Asked(releases, None, dry_run, as_json, shard=shard))
