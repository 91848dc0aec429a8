"""Publishing to a CVMFS repository instead of a directory: what the pipeline needs for that, made from the settings."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from neurocommand import apply as applying
from neurocommand import config
from neurocommand.actions import Deploy, Plan, Retire, Rewrap
from neurocommand.apply import Failed, Outcome, Skipped
from neurocommand.cvmfs import repository
from neurocommand.cvmfs.published import Client
from neurocommand.deploy import Deployer, Draft
from neurocommand.errors import UsageError
from neurocommand.layout import ReleaseDirectory, Root
from neurocommand.model import Release
from neurocommand.publisher import Limits, Publisher
from neurocommand.publishing import Batch, Publishing

if TYPE_CHECKING:
    from neurocommand.commands.session import Session
    from neurocommand.render.sets import ModuleSet
    from neurocommand.workshop import Workshop

_ON_ROOT = (Deploy, Rewrap, Retire)


@contextlib.contextmanager
def opened(session: Session, *, dry_run: bool = False) -> Iterator[Publisher]:
    """Hold the repository's run lock, and hand out its publisher; what a killed run left is finished first.

    Args:
        session: the run.
        dry_run: only look: without the lock, and nothing is finished.

    Raises:
        BusyError: another run holds it, or somebody else's transaction is open.
        CvmfsError: it cannot be published to.
        UsageError: no repository is configured, or its root is not where it is mounted.
    """
    settings = session.settings.repository
    if settings is None:
        raise UsageError("no CVMFS repository is published here", "set publish.repository in neurocommand.yaml")
    found = repository.read(settings.name, settings.configuration)
    if found.mount != session.settings.root:
        raise UsageError(
            f"publish.root is {session.settings.root}, but {found.name} is mounted at {found.mount}",
            f"set publish: {{root: {found.mount}}} in neurocommand.yaml, or leave root out",
        )
    with contextlib.closing(Client(found.url, found.public_key, name=found.name)) as client:
        publisher = Publisher(found, client, session.console, Limits(settings.whitelist_days, settings.min_free))
        if dry_run:
            publisher.require_mounted()
            yield publisher
            return
        with publisher.locked():
            yield publisher


def apply(
    session: Session, publisher: Publisher, sets: Sequence[ModuleSet], plan: Plan, workshop: Workshop
) -> Generator[Outcome, None, None]:
    """Carry a plan out: the stores first, then what is to be published, in few revisions.

    Args:
        session: the run.
        publisher: of the repository, locked.
        sets: the named sets.
        plan: the plan.
        workshop: what it is carried out with.
    """
    on_root = tuple(action for action in plan.actions if isinstance(action, _ON_ROOT))
    rest = tuple(action for action in plan.actions if not isinstance(action, _ON_ROOT))
    workshop.kept |= {action.release for action in on_root}
    failed: dict[Release, str] = {}
    for outcome in applying.apply(dataclasses.replace(plan, actions=rest), workshop):
        if isinstance(outcome, Failed) and outcome.fatal:
            failed[outcome.action.release] = f"{type(outcome.action).__name__.lower()} failed"
        yield outcome
    yield from (Skipped(one, failed[one.release]) for one in on_root if one.release in failed)
    sound = tuple(action for action in on_root if action.release not in failed)
    publishing = _publishing(session, publisher, sets)
    yield from publishing.apply(dataclasses.replace(plan, actions=sound), workshop)


def _publishing(session: Session, publisher: Publisher, sets: Sequence[ModuleSet]) -> Publishing:
    settings, manifest = session.settings, session.manifest
    published = Root(publisher.repository.mount)

    def deployer(draft: Root, fit: Callable[[ReleaseDirectory], None]) -> Deployer:
        return Deployer(
            draft,
            settings.publish_format,
            settings.mount_points,
            session.console,
            shared=True,
            wrappers=settings.wrappers,
            defaults=manifest.defaults,
            draft=Draft(published.path, fit),
        )

    def finish(made: Deployer) -> None:
        for note in made.finish(sets, config.lmod_directories()):
            session.console.say(note)

    limits = settings.repository
    assert limits is not None  # noqa: S101  (a repository is configured, or nobody asks)
    batch = Batch(limits.revision_entries, limits.revision_size, limits.revision_seconds)
    return Publishing(publisher, published, deployer, finish, batch)
