"""What one run takes away: what deletions are judged by, what is remembered of it, and when a run goes too far."""

from __future__ import annotations

import datetime
import os

from neurocommand import memory
from neurocommand.actions import Delete, Plan, Retire
from neurocommand.commands import report
from neurocommand.commands.session import Session
from neurocommand.errors import RefusedError
from neurocommand.files import write_atomically
from neurocommand.layout import Root
from neurocommand.manifest import Manifest
from neurocommand.observation import Deployed, HalfDeployed, Observation
from neurocommand.retention import Retention

# more retirements than this in one run, and more than this share of what is deployed (or than half), need --force
RETIRE_FLOOR = 3
RETIRE_SHARE = 0.1


def doubt_about(root: Root | None, *, mounted: bool = False) -> str:
    """Say why what is deployed cannot be told; empty when it can, or when there is no root.

    To be asked before anything is made under the root: an empty directory may be a disk that is not mounted.

    Args:
        root: the root.
        mounted: it is a CVMFS repository, which has no state of ours.
    """
    if root is None or os.path.isdir(root.containers if mounted else root.state):
        return ""
    return f"what is deployed cannot be told: {root.path} is no root, or its disk is not mounted"


def retention_of(session: Session, wanted: Manifest, observation: Observation, *, hold: str) -> Retention:
    """Return what deletions are judged by after this run's look at the stores and the root.

    Args:
        session: the run.
        wanted: the whole manifest.
        observation: what stores and the root hold.
        hold: why nothing may be deleted at all; empty when something may.

    Raises:
        FaultsError: what earlier runs saw cannot be read.
    """
    today = datetime.datetime.now(datetime.timezone.utc).date()
    seen = memory.load(session.settings.state / memory.NAME)
    held = {release for view in observation.stores for release in view.objects}
    deployed = observation.root.standing if observation.root is not None else ()
    policy = session.settings.retention
    known = seen.after(wanted, held, today, gap_days=policy.gap_days, deployed=deployed)
    return Retention(policy, known, today, session.settings.prunable, hold)


def remember(session: Session, retention: Retention, observation: Observation) -> None:
    """Keep for the next run what this one saw; what no store holds any more is of no use.

    Raises:
        OSError: the state directory cannot be written.
    """
    known = retention.memory
    if not any(view.fault or view.unknown for view in observation.stores):
        held = {release for view in observation.stores for release in view.objects}
        known = known.without(known.unlisted.keys() - held)
    path = session.settings.state / memory.NAME
    if memory.load(path) != known:
        write_atomically(path, memory.render(known))


def refuse_mass_retirement(plan: Plan, observation: Observation, *, force: bool) -> None:
    """Stop a run that would withdraw much of what is deployed; what we did not deploy does not count.

    Raises:
        RefusedError: it would; nothing was done.
    """
    retired = sum(isinstance(action, Retire) and not action.renewal for action in plan.actions)
    root = observation.root
    found = [root.deployments[release] for release in root.standing] if root is not None else []
    deployed = sum(isinstance(deployment, Deployed | HalfDeployed) for deployment in found)
    many = retired > max(RETIRE_FLOOR, RETIRE_SHARE * deployed) or 1 < retired > deployed / 2
    if many and not force:
        raise RefusedError(
            f"the plan withdraws {retired} of {deployed} deployed releases",
            "see them with: neurocommand plan; then say --force if that is meant",
        )


def refuse_mass_deletion(session: Session, plan: Plan, *, force: bool) -> None:
    """Stop a run that would delete more releases than the cap, and all of a run that was told to.

    Raises:
        RefusedError: it would; nothing was done.
    """
    releases = {action.release for action in plan.actions if isinstance(action, Delete)}
    cap = session.settings.retention.cap
    if len(releases) > cap and not force:
        raise RefusedError(
            f"the plan deletes the objects of {report.count(len(releases), 'release')}, the cap is {cap}",
            "see them with: neurocommand plan --prune; then say --force if that is meant",
        )


def tell(session: Session, whole: Plan, *, prune: bool) -> None:
    """Say what could be deleted and is not, and (to those who want to know more) what stays."""
    due = [action for action in whole.actions if isinstance(action, Delete)]
    if due and not prune:
        for action in due:
            session.console.say(f"{action.release}: may be deleted from {action.store}: {action.reason}")
        session.console.say(f"nothing is deleted without --prune ({report.count(len(due), 'object')})")
    if session.console.verbose:
        for kept in whole.kept:
            session.console.say(f"{kept.release}: stays: {kept.reason}")
