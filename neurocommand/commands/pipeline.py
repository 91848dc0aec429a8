"""What sync and its single stages share: observe, plan, and (unless it is a dry run) apply under the run locks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from neurocommand import observe, registry
from neurocommand import plan as planning
from neurocommand.apply import Outcome, Workshop
from neurocommand.commands import report
from neurocommand.commands.console import echo_json
from neurocommand.commands.session import Session
from neurocommand.deploy import Deployer
from neurocommand.errors import RefusedError, UsageError
from neurocommand.layout import Root
from neurocommand.manifest import Manifest
from neurocommand.model import Release
from neurocommand.observation import Observation
from neurocommand.plan import Plan, Problem, Retire
from neurocommand.render import templates
from neurocommand.runlock import RunLock
from neurocommand.spool import Spool

# more retirements than this in one run, and more than this share of what is deployed, need --force
RETIRE_FLOOR = 3
RETIRE_SHARE = 0.1


@dataclass(frozen=True)
class Stage:
    """One verb of the pipeline: which actions it carries out, and whether it deploys."""

    actions: tuple[type, ...]
    deploys: bool


def run(
    session: Session,
    stage: Stage,
    releases: Sequence[str],
    *,
    root: Path | None,
    dry_run: bool,
    as_json: bool,
    force: bool = False,
) -> int:
    """Carry out a stage of the pipeline, and return the exit code."""
    wanted = session.manifest.only(releases)
    place = _place(session, stage, root)
    with session.closing_stores(), contextlib.ExitStack() as stack:
        spool = Spool(session.settings.spool)
        if not dry_run:
            stack.enter_context(RunLock(session.settings.state / "lock"))
            if place is not None:
                stack.enter_context(RunLock(place.run_lock))
            spool.prepare()
        started = time.monotonic()
        observation = observe_all(session, wanted, place, spool)
        whole = planning.make(wanted, session.lock.lock, observation, whole=not releases)
        plan = whole.only(*stage.actions)
        session.console.say(_planned(wanted, plan, time.monotonic() - started))
        plan = Plan(plan.actions, (*plan.problems, *_unreachable(whole, plan, releases)))
        _refuse_mass_retirement(plan, observation, force=force)
        if dry_run:
            return show(plan, as_json=as_json)
        stored = _stored(session, observation, spool)
        spool.discard(stored - {action.release for action in whole.actions})
        if not plan.actions:
            return show(plan, as_json=as_json)
        return apply_and_show(session, plan, _workshop(session, wanted, place, spool, stored), as_json=as_json)


def _planned(wanted: Manifest, plan: Plan, seconds: float) -> str:
    releases = report.count(len(wanted.declarations), "release")
    return f"plan: {releases}, {report.count(len(plan.actions), 'action')} in {seconds:.1f} s"


def _place(session: Session, stage: Stage, root: Path | None) -> Root | None:
    path = (root.absolute() if root else None) or session.settings.root
    if path is None or not stage.deploys:
        return None
    return Root(path)


def observe_all(session: Session, wanted: Manifest, place: Root | None, spool: Spool) -> Observation:
    """Look at stores, spool and root.

    Args:
        session: the run.
        wanted: the releases that matter.
        place: the shared root, or None to leave it out.
        spool: the spool.
    """
    releases = [declaration.release for declaration in wanted.declarations]
    view = observe.root(place, session.settings.publish_format, templates.REVISION) if place is not None else None
    return Observation(observe.stores(session.stores, releases), spool.sizes(), view)


def _unreachable(whole: Plan, plan: Plan, releases: Sequence[str]) -> Iterator[Problem]:
    """Name the releases that were asked for, but need another stage first."""
    if not releases:
        return
    needed = {action.release: action for action in reversed(whole.actions)}
    reached = {action.release for action in plan.actions}
    for release, action in needed.items():
        if release not in reached and isinstance(action, planning.Convert | planning.Adopt | planning.Upload):
            verb = report.action_name(action)
            yield Problem("unknown", release.id, f"needs {verb} first ({action.reason}): neurocommand sync {release}")


def _refuse_mass_retirement(plan: Plan, observation: Observation, *, force: bool) -> None:
    retired = sum(isinstance(action, Retire) for action in plan.actions)
    deployed = len(observation.root.deployments) if observation.root else 0
    if retired > max(RETIRE_FLOOR, RETIRE_SHARE * deployed) and not force:
        raise RefusedError(
            f"the plan withdraws {retired} of {deployed} deployed releases",
            "see them with: neurocommand plan; then say --force if that is meant",
        )


def _stored(session: Session, observation: Observation, spool: Spool) -> set[Release]:
    """Return the releases in the spool that a store has too; a killed run leaves such."""
    lock = session.lock.lock
    return {
        release
        for release in spool.sizes()
        if (artifact := lock.get(release)) is not None
        and any(release in view.objects and view.objects[release].agrees(artifact) for view in observation.stores)
    }


def show(plan: Plan, *, as_json: bool) -> int:
    """Print a plan, and return the exit code that its problems call for."""
    if as_json:
        echo_json(report.plan_values(plan))
    else:
        report.echo_plan(plan)
    return report.exit_code((), plan.problems)


def _workshop(session: Session, wanted: Manifest, place: Root | None, spool: Spool, stored: set[Release]) -> Workshop:
    settings = session.settings
    deployer = None
    if place is not None:
        deployer = Deployer(place, settings.publish_format, settings.mount_points, session.console)
        deployer.prepare()
    return Workshop(
        declarations={declaration.release: declaration for declaration in wanted.declarations},
        lock=session.lock,
        spool=spool,
        stores={store.name: store for store in session.stores},
        registries=settings.registries,
        resolve=registry.resolve,
        deployer=deployer,
        listener=session.console,
        stored=stored,
    )


def apply_and_show(session: Session, plan: Plan, workshop: Workshop, *, as_json: bool) -> int:
    """Carry a plan out, show each outcome as it comes and the totals, and return the exit code."""
    if not plan.actions:
        return show(plan, as_json=as_json)
    outcomes = _outcomes(session, plan, workshop)
    for problem in plan.problems:
        session.console.complain(report.problem_text(problem))
    if as_json:
        values = report.plan_values(Plan((), plan.problems))
        echo_json({"outcomes": [report.outcome_values(o) for o in outcomes], "problems": values["problems"]})
    else:
        click.echo(report.totals(outcomes, plan.problems))
    return report.exit_code(outcomes, plan.problems)


def _outcomes(session: Session, plan: Plan, workshop: Workshop) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with session.console as console:
        for outcome in workshop.apply(plan):
            report.show_outcome(console, outcome)
            outcomes.append(outcome)
    return outcomes


def require_root(session: Session, root: Path | None) -> None:
    """Refuse a stage that deploys when no shared root is known.

    Raises:
        UsageError: neither ``--root`` nor the configuration names one.
    """
    if root is None and session.settings.root is None:
        raise UsageError("no shared root to publish to", "give --root, or set publish.root in neurocommand.yaml")
