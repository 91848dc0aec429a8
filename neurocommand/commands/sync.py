"""``neurocommand sync``: everything that is missing anywhere."""

from __future__ import annotations

from pathlib import Path

import click

from neurocommand.actions import Adopt, Convert, Copy, Deploy, Retire, Rewrap, Upload
from neurocommand.commands import pipeline, watching
from neurocommand.commands.options import (
    DurationType,
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

EVERY = 300  # seconds
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
@click.option("--watch", is_flag=True, help="Repeat it for ever, with all files read anew each time.")
@click.option("--every", type=DurationType(), help="With --watch: from one beginning to the next; 5m unless given.")
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
    watch: bool,
    every: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Bring stores and shared root up to date with the manifest.

    Converts what is in no store, locks it, uploads and copies it to every writable store, and deploys it under the
    shared root, if there is one. Safe to run again: an up-to-date world gives "nothing to do".

    With --watch it is a service: a round that fails does not end it. Each leaves its exit code in runs.jsonl, in the
    state directory. SIGTERM between two rounds ends it with 0, within one with 130.

    \b
    Examples:
      neurocommand sync --dry-run
      neurocommand sync fsl/6.0.7.22 --root /srv/neuro
      neurocommand sync --watch --every 15m
      neurocommand sync --apart shards/fsl fsl    what others do at once: see `neurocommand plan --format slurm`
    """
    if session.apart is not None and (root is not None or prune):
        raise UsageError("--apart excludes --root and --prune", "give them to the sync that comes after all others")
    if every is not None and not watch:
        raise UsageError("--every goes with --watch only", "add --watch, or leave it out")
    if watch and (dry_run or as_json or force):
        raise UsageError("--watch excludes --dry-run, --json and --force", "say that to a single sync, without --watch")
    asked = pipeline.Asked(releases, root, dry_run, as_json, force, prune, shard, min_free=min_free)
    if watch:
        watching.rounds(session, every or EVERY, lambda afresh: pipeline.run(afresh, STAGE, asked))
    return pipeline.run(session, STAGE, asked)
