"""``neurocommand repair``: damaged and missing objects from good ones."""

from __future__ import annotations

import contextlib
import dataclasses

import click

from neurocommand import plan as planning
from neurocommand.actions import Copy, Upload
from neurocommand.commands import examination, pipeline
from neurocommand.commands.options import takes_dry_run, takes_json, takes_manifest, takes_releases
from neurocommand.commands.session import Session
from neurocommand.observation import Observation
from neurocommand.runlock import RunLock
from neurocommand.spool import Spool


@click.command("repair")
@takes_releases
@takes_manifest
@click.option("--deep", is_flag=True, help="Read every byte first, to find what stores do not know of.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(session: Session, releases: tuple[str, ...], deep: bool, dry_run: bool, as_json: bool) -> int:
    """Replace damaged and missing objects by the locked bytes from a store that still holds them.

    Nothing is ever built again: what no store holds is named as lost. Objects of releases that are locked, but that
    the manifest names no more, are mended where they are damaged, and not missed where there is none.

    \b
    Examples:
      neurocommand repair --dry-run
      neurocommand repair --deep
    """
    wanted = session.manifest.only(releases)
    spool = Spool(session.settings.spool)
    with session.closing_stores(), contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(RunLock(session.settings.state / "lock"))
            spool.prepare()
        seen = examination.views(session, wanted, deep=deep, whole=not releases)
        observation = Observation(seen, spool.sizes())
        whole = planning.make(wanted, session.lock.lock, observation, quorum=session.settings.quorum)
        plan, _ = whole.only(Upload, Copy)
        if not releases:
            others = planning.mended(wanted, session.lock.lock, observation)
            plan = dataclasses.replace(
                plan, actions=(*plan.actions, *others.actions), problems=(*plan.problems, *others.problems)
            )
        plan = plan.streaming(observation.spool)
        if dry_run or not plan.actions:
            return pipeline.show(plan, as_json=as_json)
        made = pipeline.workshop(session, wanted, None, spool)
        return pipeline.apply_and_show(session, plan, made, as_json=as_json)
