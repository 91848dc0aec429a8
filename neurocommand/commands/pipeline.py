"""What sync and its single stages share: observe, plan, and (unless it is a dry run) apply under the run locks."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocommand import config, observe, registry, space
from neurocommand import plan as planning
from neurocommand.actions import Action, Copy, Delete, Plan, Problem, Upload
from neurocommand.apply import Failed, Outcome, apply
from neurocommand.commands import bugs, journal, pruning, report, repository, runlog
from neurocommand.commands.console import echo_json
from neurocommand.commands.session import Session
from neurocommand.deploy import Deployer
from neurocommand.errors import BugError, StoreError, UsageError
from neurocommand.image.conversion import Image
from neurocommand.layout import Root, object_key
from neurocommand.lock import LockFile
from neurocommand.manifest import Manifest
from neurocommand.model import Artifact, Release
from neurocommand.observation import Observation
from neurocommand.render import shards, templates
from neurocommand.render.sets import ModuleSet
from neurocommand.runlock import RunLock
from neurocommand.spool import Spool
from neurocommand.stores.interface import Store
from neurocommand.workshop import Workshop

Applying = Callable[[Plan, Workshop], Generator[Outcome, None, None]]


@dataclass(frozen=True)
class Stage:
    """One verb of the pipeline: which actions it carries out, whether it deploys, and whether it looks for strays."""

    actions: tuple[type, ...]
    deploys: bool
    prunes: bool = False


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a stage.

    Args:
        releases: the releases that matter; all of the manifest when there are none.
        root: the shared root instead of the configured one.
        dry_run: show the plan and stop.
        as_json: print JSON.
        force: withdraw and delete more than the limits allow.
        prune: delete what may be deleted.
        shard: only the I-th of N parts of the manifest, as (I, N).
        present: shows the plan of a dry run instead of the usual text or JSON, and returns the exit code.
        min_free: bytes that the spool's file system must have left.
        image: what the single release is converted from, instead of an image of a registry.
    """

    releases: tuple[str, ...] = ()
    root: Path | None = None
    dry_run: bool = False
    as_json: bool = False
    force: bool = False
    prune: bool = False
    shard: tuple[int, int] | None = None
    present: Callable[[Plan], int] | None = None
    min_free: int | None = None
    image: Image | None = None

    @property
    def whole(self) -> bool:
        """Whether all of the manifest matters, so that what it does not name can be judged."""
        return not self.releases and self.shard is None


@runlog.recorded
def run(session: Session, stage: Stage, asked: Asked) -> int:
    """Carry out a stage of the pipeline, and return the exit code."""
    if asked.prune:
        _refuse_prune_of_a_part(session, asked)
    wanted = _wanted(session.manifest, asked)
    seen = _place(session, asked.root)
    if asked.min_free is not None:
        space.require(session.settings.spool, asked.min_free)
    place = seen if stage.deploys else None
    of_repository = asked.root is None and session.settings.repository is not None
    sets = session.sets if place is not None else ()
    with session.closing_stores(), contextlib.ExitStack() as stack:
        spool = Spool(session.settings.spool)
        publisher = None
        if place is not None and of_repository:
            publisher = stack.enter_context(repository.opened(session, dry_run=asked.dry_run))
            place = None
        hold = pruning.doubt_about(seen, mounted=of_repository)
        deployer = None if asked.dry_run else _prepared(session, stack, place, spool)
        started = time.monotonic()
        judged = stage.prunes and asked.whole and session.configured_manifest
        # a stage that does not deploy has to know, too, which releases are deployed: their ids are taken
        observation = observe_all(session, wanted, seen, spool, listing=judged)
        retention = pruning.retention_of(session, wanted, observation, hold=hold) if judged else None
        whole = planning.make(
            wanted,
            session.lock.lock,
            observation,
            whole=asked.whole,
            quorum=session.settings.quorum,
            retention=retention,
        )
        plan, waiting = whole.only(*stage.actions, *((Delete,) if asked.prune else ()))
        plan = plan.streaming(observation.spool)
        session.console.say(_planned(wanted, plan, time.monotonic() - started))
        pruning.tell(session, whole, prune=asked.prune)
        if asked.releases:
            plan = dataclasses.replace(plan, problems=(*plan.problems, *(_waiting(action) for action in waiting)))
        session.runs.planned(wanted, whole, plan, everything=asked.whole)
        pruning.refuse_mass_retirement(plan, observation, force=asked.force)
        pruning.refuse_mass_deletion(session, plan, force=asked.force)
        if asked.dry_run:
            return asked.present(plan) if asked.present else show(plan, as_json=asked.as_json)
        if retention is not None:
            pruning.remember(session, retention, observation)
        stored = _tidied(session, spool, plan, whole)
        made = dataclasses.replace(workshop(session, wanted, deployer, spool, stored=stored), image=asked.image)
        applying = apply
        if publisher is not None:
            applying = functools.partial(repository.apply, session, publisher, sets)
        code = apply_and_show(session, plan, made, as_json=asked.as_json, applying=applying)
        if deployer is not None:
            finish(session, deployer, sets)
        return code


def finish(session: Session, deployer: Deployer, sets: Sequence[ModuleSet] | None) -> None:
    """Bring up to date what goes by all modules of a root, and say what people should know of it.

    Args:
        session: the run.
        deployer: of the root.
        sets: the named sets; None leaves their modules as they are.
    """
    for note in deployer.finish(sets, config.lmod_directories()):
        session.console.say(note)


def _prepared(session: Session, stack: contextlib.ExitStack, place: Root | None, spool: Spool) -> Deployer | None:
    """Take the run locks, remove what a killed run left, and return the deployer of the root, if there is one."""
    stack.enter_context(RunLock(session.settings.state / "lock"))
    session.runs.locked()
    deployer = None
    if place is not None:
        deployer = _deployer(session, place)
        stack.enter_context(deployer.locked())
        deployer.prepare()
    spool.prepare()
    session.lock.tidy()
    return deployer


def _tidied(session: Session, spool: Spool, plan: Plan, whole: Plan) -> set[Release]:
    """Drop what nobody needs in the spool, and return the releases there that a store has, too.

    What is still to be uploaded stays at hand; what is only to be deployed can be fetched by whoever deploys it.
    """
    stored = _stored(session, spool)
    wanting = [*plan.actions, *(action for action in whole.actions if isinstance(action, Upload | Copy))]
    spool.discard(stored - {action.release for action in wanting})
    return stored


def _refuse_prune_of_a_part(session: Session, asked: Asked) -> None:
    """Refuse deletions where less than all is looked at.

    Raises:
        UsageError: not the whole of the configured manifest is asked for, or not the configured root.
    """
    hint = "prune in a run of its own: neurocommand mirror --prune"
    if not asked.whole:
        raise UsageError("--prune takes the whole manifest: it goes neither with a RELEASE nor with --shard", hint)
    if not session.configured_manifest:
        raise UsageError(
            "--prune does not go with --manifest: what another manifest leaves out may be wanted by the configured one",
            "prune without --manifest, or set manifest in neurocommand.yaml",
        )
    root = session.settings.root
    if asked.root is not None and root is not None and config.checked_root(asked.root) != root:
        raise UsageError("--prune does not go with another --root: what the configured one holds is not seen", hint)


def _wanted(manifest: Manifest, asked: Asked) -> Manifest:
    wanted = manifest.only(asked.releases)
    if asked.shard is None:
        return wanted
    index, number = asked.shard
    return wanted.reduced(lambda release: shards.in_shard(release, index, number))


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


def observe_all(
    session: Session, wanted: Manifest, place: Root | None, spool: Spool, *, listing: bool = False
) -> Observation:
    """Look at stores, spool and root.

    Args:
        session: the run.
        wanted: the releases that matter.
        place: the shared root, or None to leave it out.
        spool: the spool.
        listing: list every store that can be listed, however few releases matter.
    """
    releases = [declaration.release for declaration in wanted.declarations]
    view = (
        observe.root(
            place,
            session.settings.publish_format,
            templates.revision(session.settings.wrappers),
            session.manifest.defaults,
        )
        if place is not None
        else None
    )
    return Observation(observe.stores(session.stores, releases, listing=listing), spool.sizes(), view)


def _waiting(action: Action) -> Problem:
    """Name a release that was asked for, but needs another stage first."""
    release, verb = action.release, report.action_name(action)
    return Problem("waiting", release.id, f"needs {verb} first ({action.reason}): neurocommand sync {release}")


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
    # with JSON for a program, the log is still for people
    tell = journal.record if as_json else journal.echo
    for line in report.plan_lines(plan):
        tell(line)
    if as_json:
        echo_json(report.plan_values(plan))
    return report.exit_code((), plan.problems)


def _deployer(session: Session, place: Root) -> Deployer:
    """Return the deployer of a shared root, not prepared yet."""
    settings = session.settings
    return Deployer(
        place,
        settings.publish_format,
        settings.mount_points,
        session.console,
        shared=True,
        wrappers=settings.wrappers,
        defaults=session.manifest.defaults,
    )


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
    registries = registry.Registries(session.settings.registries, session.bandwidth)
    return Workshop(
        declarations={declaration.release: declaration for declaration in wanted.declarations},
        lock=session.lock,
        spool=spool,
        stores={store.name: store for store in session.stores},
        registries=session.settings.registries,
        resolve=registries.resolve,
        pull=registries.opened,
        compression=session.settings.compression,
        deployer=deployer,
        listener=session.console,
        own_lock=own_lock,
        stored=set(stored),
        downloads=session.settings.downloads,
        limits=session.settings.limits,
        bandwidth=session.bandwidth,
        sources=sources,
        today=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    )


def apply_and_show(session: Session, plan: Plan, made: Workshop, *, as_json: bool, applying: Applying = apply) -> int:
    """Carry a plan out, show each outcome as it comes and the totals, and return the exit code."""
    outcomes = _outcomes(session, plan, made, applying)
    if not plan.actions:
        return show(plan, as_json=as_json)
    for problem in plan.problems:
        session.console.complain(report.problem_text(problem))
    if as_json:
        values = report.plan_values(Plan((), plan.problems))
        echo_json({"outcomes": [report.outcome_values(o) for o in outcomes], "problems": values["problems"]})
    (journal.record if as_json else journal.echo)(report.totals(outcomes, plan.problems))
    return report.exit_code(outcomes, plan.problems)


def _outcomes(session: Session, plan: Plan, made: Workshop, applying: Applying) -> list[Outcome]:
    outcomes: list[Outcome] = []
    # closed at once when this ends early, so that threads take nothing more in hand
    with session.console as console, contextlib.closing(applying(plan, made)) as coming:
        for found in coming:
            outcome = _with_trace(found)
            report.show_outcome(console, outcome)
            session.runs.happened(outcome)
            outcomes.append(outcome)
    return outcomes


def _with_trace(outcome: Outcome) -> Outcome:
    """Keep the traceback of what nobody foresaw, and let the outcome say where."""
    if not isinstance(outcome, Failed) or not isinstance(outcome.error, BugError):
        return outcome
    cause = outcome.error.__cause__ or outcome.error
    return dataclasses.replace(outcome, error=BugError(outcome.error.message, bugs.keep(cause), cause=cause))


def require_root(session: Session, root: Path | None) -> None:
    """Refuse a stage that deploys when no shared root is known.

    Raises:
        UsageError: neither ``--root`` nor the configuration names one.
    """
    if root is None and session.settings.root is None:
        raise UsageError("no shared root to publish to", "give --root, or set publish.root in neurocommand.yaml")
