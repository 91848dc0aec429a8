"""``neurocommand sync``: everything that is missing anywhere."""

from __future__ import annotations

from pathlib import Path

import click

from neurocommand.actions import Adopt, Convert, Copy, Deploy, Retire, Rewrap, Upload
from neurocommand.commands import pipeline
from neurocommand.commands.options import (
    takes_apart,
    takes_dry_run,
    takes_json,
    takes_manifest,
    takes_min_free,
    takes_prune,
    takes_releases,
    takes_root,
    takes_shard,
)
from neurocommand.commands.session import Session
from neurocommand.errors import UsageError

STAGE = pipeline.Stage((Convert, Adopt, Upload, Copy, Deploy, Rewrap, Retire), deploys=True, prunes=True)


@click.command("sync")
@takes_releases
@takes_manifest
@takes_root
@click.option("--force", is_flag=True, help="Withdraw and delete more releases than the limits allow.")
@takes_prune
@takes_shard
@takes_min_free
@takes_apart
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session,
    *,
    releases: tuple[str, ...],
    root: Path | None,
    force: bool,
    prune: bool,
    shard: tuple[int, int] | None,
    min_free: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Bring stores and shared root up to date with the manifest.

    Converts what is in no store, locks it, uploads and copies it to every writable store, and deploys it under the
    shared root, if there is one. Safe to run again: an up-to-date world gives "nothing to do".

    \b
    Examples:
      neurocommand sync --dry-run
      neurocommand sync fsl/6.0.7.22 --root /srv/neuro
      neurocommand sync --apart shards/fsl fsl    what others do at once: see `neurocommand plan --format slurm`
    """
    if session.apart is not None and (root is not None or prune):
        raise UsageError("--apart excludes --root and --prune", "give them to the sync that comes after all others")
    asked = pipeline.Asked(releases, root, dry_run, as_json, force, prune, shard, min_free=min_free)
    return pipeline.run(session, STAGE, asked)
