"""What sync and its single stages share: observe, plan, and (unless it is a dry run) apply under the run locks."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from neurocommand import config, observe, registry
from neurocommand import plan as planning
from neurocommand.apply import Outcome, Workshop
from neurocommand.commands import report
from neurocommand.commands.console import echo_json
from neurocommand.commands.session import Session
from neurocommand.deploy import Deployer
from neurocommand.errors import RefusedError, StoreError, UsageError
from neurocommand.layout import Root, object_key
from neurocommand.lock import LockFile
from neurocommand.manifest import Manifest
from neurocommand.model import Artifact, Release
from neurocommand.observation import Observation
from neurocommand.plan import Action, Plan, Problem, Retire
from neurocommand.render import templates
from neurocommand.runlock import RunLock
from neurocommand.spool import Spool
from neurocommand.stores.interface import Store

# more retirements than this in one run, and more than this share of what is deployed (or than half), need --force
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
    seen = _place(session, root)
    place = seen if stage.deploys else None
    with session.closing_stores(), contextlib.ExitStack() as stack:
        spool, deployer = Spool(session.settings.spool), None
        if not dry_run:
            stack.enter_context(RunLock(session.settings.state / "lock"))
            if place is not None:
                stack.enter_context(RunLock(place.run_lock))
                deployer = _deployer(session, place)
            spool.prepare()
        started = time.monotonic()
        # a stage that does not deploy has to know, too, which releases are deployed: their ids are taken
        observation = observe_all(session, wanted, seen, spool)
        whole = planning.make(wanted, session.lock.lock, observation, whole=not releases)
        plan, waiting = whole.only(*stage.actions)
        session.console.say(_planned(wanted, plan, time.monotonic() - started))
        if releases:
            plan = Plan(plan.actions, (*plan.problems, *(_waiting(action) for action in waiting)))
        _refuse_mass_retirement(plan, observation, force=force)
        if dry_run:
            return show(plan, as_json=as_json)
        stored = _stored(session, spool)
        spool.discard(stored - {action.release for action in whole.actions})
        if not plan.actions:
            return show(plan, as_json=as_json)
        made = workshop(session, wanted, deployer, spool, stored=stored)
        return apply_and_show(session, plan, made, as_json=as_json)


def _planned(wanted: Manifest, plan: Plan, seconds: float) -> str:
    releases = report.count(len(wanted.declarations), "release")
    return f"plan: {releases}, {report.count(len(plan.actions), 'action')} in {seconds:.1f} s"


def _place(session: Session, root: Path | None) -> Root | None:
    """Return the shared root; one whose parent is missing is a disk that is not mounted, not a new root."""
    path = config.checked_root(root) if root is not None else session.settings.root
    if path is None:
        return None
    config.check_apart(dataclasses.replace(session.settings, root=path), "--root")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its parent directory does not exist", "make it, or mount its disk")
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


def _waiting(action: Action) -> Problem:
    """Name a release that was asked for, but needs another stage first."""
    release, verb = action.release, report.action_name(action)
    return Problem("waiting", release.id, f"needs {verb} first ({action.reason}): neurocommand sync {release}")


def _refuse_mass_retirement(plan: Plan, observation: Observation, *, force: bool) -> None:
    retired = sum(isinstance(action, Retire) for action in plan.actions)
    deployed = len(observation.root.deployments) if observation.root else 0
    many = retired > max(RETIRE_FLOOR, RETIRE_SHARE * deployed) or 1 < retired > deployed / 2
    if many and not force:
        raise RefusedError(
            f"the plan withdraws {retired} of {deployed} deployed releases",
            "see them with: neurocommand plan; then say --force if that is meant",
        )


def _stored(session: Session, spool: Spool) -> set[Release]:
    """Return the releases in the spool that a store has too, by digest; a killed run leaves such."""
    lock = session.lock.lock
    return {
        release
        for release in spool.sizes()
        if (artifact := lock.get(release)) is not None
        and any(_has(store, release, artifact) for store in session.stores)
    }


def _has(store: Store, release: Release, artifact: Artifact) -> bool:
    try:
        found = store.stat(object_key(release))
    except StoreError:
        return False
    return found is not None and (found.sha256, found.size) == (artifact.sha256, artifact.size)


def show(plan: Plan, *, as_json: bool) -> int:
    """Print a plan, and return the exit code that its problems call for."""
    if as_json:
        echo_json(report.plan_values(plan))
    else:
        report.echo_plan(plan)
    return report.exit_code((), plan.problems)


def _deployer(session: Session, place: Root) -> Deployer:
    """Return the deployer of a root; what a killed run left there is finished or removed before anybody looks."""
    deployer = Deployer(place, session.settings.publish_format, session.settings.mount_points, session.console)
    deployer.prepare()
    return deployer


def workshop(
    session: Session,
    wanted: Manifest,
    deployer: Deployer | None,
    spool: Spool,
    *,
    own_lock: LockFile | None = None,
    stored: Iterable[Release] = (),
    sources: Sequence[str] = (),
) -> Workshop:
    """Return what actions on the wanted releases are carried out with; see Workshop."""
    return Workshop(
        declarations={declaration.release: declaration for declaration in wanted.declarations},
        lock=session.lock,
        spool=spool,
        stores={store.name: store for store in session.stores},
        registries=session.settings.registries,
        resolve=registry.resolve,
        deployer=deployer,
        listener=session.console,
        own_lock=own_lock,
        stored=set(stored),
        downloads=session.settings.downloads,
        sources=sources,
    )


def apply_and_show(session: Session, plan: Plan, made: Workshop, *, as_json: bool) -> int:
    """Carry a plan out, show each outcome as it comes and the totals, and return the exit code."""
    if not plan.actions:
        return show(plan, as_json=as_json)
    outcomes = _outcomes(session, plan, made)
    for problem in plan.problems:
        session.console.complain(report.problem_text(problem))
    if as_json:
        values = report.plan_values(Plan((), plan.problems))
        echo_json({"outcomes": [report.outcome_values(o) for o in outcomes], "problems": values["problems"]})
    else:
        click.echo(report.totals(outcomes, plan.problems))
    return report.exit_code(outcomes, plan.problems)


def _outcomes(session: Session, plan: Plan, made: Workshop) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with session.console as console:
        for outcome in made.apply(plan):
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
