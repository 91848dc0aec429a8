"""``neurocommand convert``: image -> SIF in the spool, locked."""

from __future__ import annotations

import click

from neurocommand.actions import Convert
from neurocommand.commands import pipeline
from neurocommand.commands.session import (
    Session,
    takes_dry_run,
    takes_json,
    takes_manifest,
    takes_min_free,
    takes_releases,
    takes_shard,
)

STAGE = pipeline.Stage((Convert,), deploys=False)


@click.command("convert")
@takes_releases
@takes_manifest
@takes_shard
@takes_min_free
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session,
    releases: tuple[str, ...],
    shard: tuple[int, int] | None,
    min_free: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Convert images to SIF, and lock them.

    Only releases that are neither locked nor in any store are converted: a release id never changes its bytes. The
    SIF waits in the spool for `neurocommand upload`.

    \b
    Examples:
      neurocommand convert niimath
      neurocommand convert --dry-run --json
      neurocommand convert fsl --min-free 60G
    """
    return pipeline.run(
        session, STAGE, pipeline.Asked(releases, None, dry_run, as_json, shard=shard, min_free=min_free)
    )
