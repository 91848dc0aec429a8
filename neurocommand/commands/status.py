"""``neurocommand status``: releases x stores and root."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from neurocommand import config
from neurocommand import plan as planning
from neurocommand.actions import Plan
from neurocommand.commands import journal, pipeline, probing, report
from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_json, takes_manifest, takes_releases, takes_root
from neurocommand.commands.session import Session
from neurocommand.layout import Root
from neurocommand.model import Artifact, Release, StoredObject
from neurocommand.observation import Deployed, Deployment, HalfDeployed, Observation, Unknown
from neurocommand.spool import Spool


@click.command("status")
@takes_releases
@takes_manifest
@takes_root
@click.option(
    "--probe", is_flag=True, help="Ask the servers of the CVMFS repository as well, and see that all is fresh."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=86400),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --probe waits for one server.",
)
@takes_json
@click.pass_obj
def command(
    session: Session, releases: tuple[str, ...], root: Path | None, probe: bool, timeout: float, as_json: bool
) -> int:
    """Show which stores and roots hold which releases.

    Exits with 1 when there are problems; what a sync would mend is not one. With --probe it is a monitor: every server
    of the CVMFS repository has to show the newest revision, signed, and every release that a store holds has to be in
    all stores and visible on all servers.

    \b
    Examples:
      neurocommand status
      neurocommand status mrtrix3 --json
      neurocommand status --probe         is what users see up, fresh and whole?
    """
    if probe:
        probing.require(session)
    wanted = session.manifest.only(releases)
    path = config.checked_root(root) if root is not None else session.settings.root
    place = Root(path) if path else None
    with session.closing_stores():
        observation = pipeline.observe_all(session, wanted, place, Spool(session.settings.spool))
    rows = [
        _row(session, observation, declaration.release.id, session.lock.lock.get(declaration.release), declaration)
        for declaration in wanted.declarations
    ]
    if not releases:
        rows += _withdrawn(session, observation, {declaration.release for declaration in wanted.declarations})
    plan = planning.make(wanted, session.lock.lock, observation, whole=not releases)
    probed = probing.run(session, wanted, observation, timeout) if probe else None
    if as_json:
        more = probed.values() if probed else {}
        echo_json({"releases": rows, **report.plan_values(Plan((), plan.problems)), **more})
    else:
        _print(rows, plan)
        for line in probed.lines() if probed else ():
            journal.echo(line)
    return report.exit_code((), plan.problems) or (1 if probed and probed.failing else 0)


def _row(
    session: Session, observation: Observation, release_id: str, artifact: Artifact | None, declaration: Any
) -> dict[str, Any]:
    release = declaration.release
    row: dict[str, Any] = {"release": release_id, "locked": artifact is not None}
    row["stores"] = {view.name: store_state(view.ask(release), artifact) for view in observation.stores}
    if observation.root is not None:
        row["root"] = place_state(observation.root.deployments.get(release))
    return row


def _withdrawn(session: Session, observation: Observation, wanted: Collection[Release]) -> list[dict[str, Any]]:
    """Return the rows of releases that are withdrawn; stores are not asked for them."""
    root = observation.root
    gone = sorted(root.deployments.keys() - root.standing - set(wanted)) if root is not None else []
    lock = session.lock.lock
    return [
        {"release": release.id, "locked": lock.get(release) is not None, "stores": {}, "root": "withdrawn"}
        for release in gone
    ]


def store_state(seen: StoredObject | Unknown | None, artifact: Artifact | None) -> str:
    """Say in a word what a store has: present, unverified (it states no digest), damaged, absent or unknown."""
    if seen is None:
        return "absent"
    if isinstance(seen, Unknown):
        return "unknown"
    if artifact is None:
        return "present, not locked"
    if not seen.agrees(artifact):
        return "damaged"
    return "present" if seen.sha256 else "present, unverified"


def place_state(found: Deployment | None) -> str:
    """Say in a word what stands under a root."""
    match found:
        case None:
            return "absent"
        case Deployed(record, _) if record.withdrawn:
            return "withdrawn"
        case Deployed(_, complete):
            return "deployed" if complete else "incomplete"
        case HalfDeployed():
            return "half-deployed"
        case _:
            return "foreign"


def _print(rows: list[dict[str, Any]], plan: Plan) -> None:
    for row in rows:
        states = [f"{name}: {state}" for name, state in row["stores"].items()]
        states += [f"root: {row['root']}"] if "root" in row else []
        journal.echo(f"{row['release']}: {'locked' if row['locked'] else 'not locked'}; {', '.join(states)}")
    for problem in plan.problems:
        journal.echo(report.problem_text(problem))
    journal.echo(f"{report.count(len(rows), 'release')}, {report.count(len(plan.problems), 'problem')}")
