"""``neurocommand plan``: what a sync would do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from neurocommand.actions import Convert, Plan
from neurocommand.commands import pipeline, report
from neurocommand.commands.options import (
    takes_json,
    takes_manifest,
    takes_prune,
    takes_releases,
    takes_root,
    takes_shard,
)
from neurocommand.commands.session import Session
from neurocommand.commands.sync import STAGE
from neurocommand.errors import UsageError
from neurocommand.render import shards


@click.command("plan")
@takes_releases
@takes_manifest
@takes_root
@takes_prune
@takes_shard
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github-matrix", "slurm"]),
    default="text",
    help="Also: conversions dealt out to jobs of GitHub Actions or to a Slurm job array.",
)
@click.option("--jobs", type=click.IntRange(1, 256), default=20, show_default=True, help="How many jobs at most.")
@takes_json
@click.pass_obj
def command(
    session: Session,
    releases: tuple[str, ...],
    root: Path | None,
    prune: bool,
    shard: tuple[int, int] | None,
    form: str,
    jobs: int,
    as_json: bool,
) -> int:
    """Show what a sync would do, and why.

    Exits with 1 when there are problems: releases that are lost, stores that cannot be asked, …

    \b
    Examples:
      neurocommand plan
      neurocommand plan fsl --json
      neurocommand plan --format slurm --jobs 8 > array.sh    then: sbatch array.sh; at last: bash array.sh merge
    """
    if as_json and form not in ("text", "json"):
        raise UsageError(f"--json and --format {form} exclude each other", "give one of them")
    as_json = as_json or form == "json"
    present = None if form in ("text", "json") else _presenter(session, form, jobs, root)
    asked = pipeline.Asked(releases, root, True, as_json, True, prune, shard, present)
    return pipeline.run(session, STAGE, asked)


def _presenter(session: Session, form: str, jobs: int, root: Path | None) -> Callable[[Plan], int]:
    """Return what shows a plan as jobs on standard output, and its problems on standard error."""

    def present(plan: Plan) -> int:
        dealt = shards.deal([action.release for action in plan.actions if isinstance(action, Convert)], jobs)
        if form == "github-matrix":
            click.echo(shards.github_matrix(dealt), nl=False)
        else:
            click.echo(shards.slurm(dealt, _commands(session, root), session.settings.state / "shards"), nl=False)
        for problem in plan.problems:
            session.console.complain(report.problem_text(problem))
        return report.exit_code((), plan.problems)

    return present


def _commands(session: Session, root: Path | None) -> shards.Commands:
    """Return the command lines of an array: the same program with the same configuration, manifest and root."""
    program = [sys.executable, "-m", "neurocommand"]
    if session.config_path is not None:
        program += ["--config", str(session.config_path.absolute())]
    manifest = ["--manifest", str(session.manifest_path.absolute())] if session.manifest_path is not None else []
    deployed = ["--root", str(root.absolute())] if root is not None else []
    return shards.Commands(
        convert=[*program, "sync", *manifest, "--apart"],
        merge=[*program, "lock", "merge", *manifest],
        finish=[*program, "sync", *manifest, *deployed],
    )
