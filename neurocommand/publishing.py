"""Batches: the actions of a plan on a CVMFS repository, several releases in one revision."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

from neurocommand import catalogs, draft, successor
from neurocommand.actions import Action, Deploy, Plan
from neurocommand.apply import Done, Failed, Outcome, Skipped, outcome_of
from neurocommand.changes import Entry, difference
from neurocommand.cvmfs import parcel
from neurocommand.deploy import Deployer
from neurocommand.errors import BusyError, CvmfsError, NeurocommandError, RefusedError
from neurocommand.files import remove_tree
from neurocommand.layout import ReleaseDirectory, Root
from neurocommand.model import DeployRecord, Release
from neurocommand.observe import read_record
from neurocommand.publisher import Publisher, Template
from neurocommand.workshop import Workshop


@dataclass(frozen=True)
class Batch:
    """When a batch is published though more is to be done.

    Args:
        entries: files and directories that it adds.
        size: bytes that it adds.
        seconds: since it was begun.
    """

    entries: int = 1_000_000
    size: int = 20 << 30
    seconds: float = 1800.0


@dataclass(frozen=True)
class Publishing:
    """How the actions of a plan become revisions.

    Args:
        publisher: of the repository, locked.
        published: the root as it is mounted.
        deployer: makes the deployer of a draft; it is given what makes a release's directory fit, too.
        finish: brings up to date what goes by all modules of a draft.
        batch: limits of one revision.
        target: how many entries a catalog should have.
    """

    publisher: Publisher
    published: Root
    deployer: Callable[[Root, Callable[[ReleaseDirectory], None]], Deployer]
    finish: Callable[[Deployer], None]
    batch: Batch = Batch()
    target: catalogs.Range = field(default_factory=catalogs.Range)

    def apply(self, plan: Plan, workshop: Workshop) -> Generator[Outcome, None, None]:
        """Carry out the actions on the root, and yield each outcome once its revision is public.

        A batch that cannot be published is tried again release by release, so that one of them is no harm to the rest.

        Args:
            plan: its actions on the root; one for each release.
            workshop: what they are carried out with; its deployer is set to that of each draft.
        """
        waiting = sorted(plan.actions, key=lambda action: self._predecessor(action) is not None)
        together = True
        if waiting:
            self.publisher.preflight()
        else:
            # sets of the configuration, say, or an index that is behind
            _, failure = self._batch((), workshop)
            if failure is not None:
                raise failure
        while waiting:
            alone = not together or self._predecessor(waiting[0]) is not None
            several = list(itertools.takewhile(lambda action: self._predecessor(action) is None, waiting))
            outcomes, failure = self._batch(waiting[:1] if alone else several, workshop)
            tried = len(outcomes)
            done = [one for one in outcomes if isinstance(one, Done)]
            if failure is not None and len(done) > 1 and _may_be_a_release(failure):
                together = False
                continue
            waiting = waiting[tried:]
            for one in outcomes:
                yield Failed(one.action, failure) if failure is not None and isinstance(one, Done) else one
            if failure is not None and not _may_be_a_release(failure):
                yield from (Skipped(action, failure.message) for action in waiting)
                return

    def _predecessor(self, action: Action) -> DeployRecord | None:
        """Return the published release whose tree a new version may begin as."""
        if not isinstance(action, Deploy):
            return None
        last = self.publisher.inventories.last(action.release.application)
        if last is None or last == action.release:
            return None
        found = read_record(self.published.release(last))
        if not isinstance(found, DeployRecord) or found.withdrawn or found.format != "tree":
            return None
        return None if self.published.release(action.release).path.exists() else found

    def _batch(self, actions: Sequence[Action], workshop: Workshop) -> tuple[list[Outcome], NeurocommandError | None]:
        """Deploy into a draft until a limit is reached, and publish it.

        Returns:
            The outcomes of the actions that were taken in hand, and why nothing of them is public after all.
        """
        made = draft.make(self.published, self.publisher.work / "draft", {action.release for action in actions})
        before = draft.listing(made)
        trees = _Trees(self.batch)
        deployer = self.deployer(made, lambda directory: self._fit(directory, trees))
        workshop.deployer = deployer
        outcomes: list[Outcome] = []
        with deployer.locked():
            deployer.prepare()
            for action in actions:
                outcomes.append(outcome_of(action, workshop))
                if trees.are_enough:
                    break
            self.finish(deployer)
        draft.mark(made)
        done = [outcome.action.release for outcome in outcomes if isinstance(outcome, Done)]
        changed = difference(before, draft.listing(made))
        if not changed or (actions and not done):
            return outcomes, None
        template = self._template(actions[0], trees) if len(actions) == 1 else None
        ids = [release.id for release in done]
        try:
            revision = self.publisher.publish(made.path, changed, ids, _reason(outcomes), template)
            self._remember(made, done, trees)
        except NeurocommandError as error:
            return outcomes, error
        finally:
            remove_tree(made.path)
        return [_published(outcome, revision) for outcome in outcomes], None

    def _template(self, action: Action, trees: _Trees) -> Template | None:
        """Return how a new version comes to be from the one before, where most of it is the same."""
        before, now = self._predecessor(action), trees.listings.get(action.release)
        was = self.publisher.inventories.load(before) if before is not None else None
        if before is None or now is None or was is None:
            return None
        inside = successor.inside(was, now)
        if not successor.is_worth_it(now, inside):
            return None
        source, target = (self.published.release(release).image for release in (before.release, action.release))
        top = self.published.path
        return Template(str(source.relative_to(top)), str(target.relative_to(top)), inside)

    def _remember(self, made: Root, releases: Sequence[Release], trees: _Trees) -> None:
        """Keep what the published trees hold; without that, the next version goes in as a whole."""
        for release in releases:
            found = read_record(made.release(release))
            if release in trees.listings and isinstance(found, DeployRecord):
                with contextlib.suppress(OSError):
                    self.publisher.inventories.keep(found, trees.listings[release])

    def _fit(self, directory: ReleaseDirectory, trees: _Trees) -> None:
        """See that a tree can be published, and let catalogs begin in it where they should."""
        # a SIF is a file like any other
        found = parcel.survey(directory.image) if directory.image.is_dir() else parcel.Survey({"": 0}, 0)
        layout = catalogs.layout(found.counts, self.target)
        if layout.excess:
            worst = layout.excess[0]
            raise CvmfsError(
                f"{directory.release}: /{worst} has {layout.entries[worst]} entries that stand in one catalog",
                f"CVMFS takes {catalogs.HARD_LIMIT}: spread them over directories, or deploy it elsewhere",
            )
        for marker in layout.markers:
            place = directory.image / marker if marker else directory.path
            (place / catalogs.MARKER).touch(0o644)
        trees.add(directory, found)


class _Trees:
    """The trees of a batch: how much they come to, and what each holds."""

    def __init__(self, limits: Batch) -> None:
        self.listings: dict[Release, dict[str, Entry]] = {}
        self._limits = limits
        self._entries = self._bytes = 0
        self._began = time.monotonic()

    def add(self, directory: ReleaseDirectory, found: parcel.Survey) -> None:
        self._entries += sum(found.counts.values())
        self._bytes += found.size
        if directory.image.is_dir():
            self.listings[directory.release] = draft.contents(directory.image)

    @property
    def are_enough(self) -> bool:
        """Whether a limit is reached."""
        limits, seconds = self._limits, time.monotonic() - self._began
        return self._entries >= limits.entries or self._bytes >= limits.size or seconds >= limits.seconds


def _may_be_a_release(failure: NeurocommandError) -> bool:
    """Tell whether a batch may have failed because of one of its releases, not of the repository."""
    return not isinstance(failure, BusyError | RefusedError)


def _reason(outcomes: Sequence[Outcome]) -> str:
    """Say what a revision is made for, in characters that can be handed to ``cvmfs_server``."""
    words = {"Deploy": "added", "Rewrap": "renewed", "Retire": "withdrew"}
    done = [outcome.action for outcome in outcomes if isinstance(outcome, Done)]
    said = [
        f"{words[kind]} {', '.join(action.release.id for action in some)}"
        for kind, some in itertools.groupby(done, key=lambda action: type(action).__name__)
    ]
    return "; ".join(said).replace(";", ",")[:200] or "renewed what goes by all modules"


def _published(outcome: Outcome, revision: int) -> Outcome:
    return replace(outcome, detail=f"{outcome.detail}, revision {revision}") if isinstance(outcome, Done) else outcome
