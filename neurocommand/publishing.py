"""Batches: the actions of a plan on a CVMFS repository, several releases in one revision."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

from neurocommand import catalogs, draft
from neurocommand.actions import Action, Plan
from neurocommand.apply import Done, Failed, Outcome, Skipped, outcome_of
from neurocommand.changes import difference
from neurocommand.cvmfs import parcel
from neurocommand.deploy import Deployer
from neurocommand.errors import BusyError, CvmfsError, NeurocommandError, RefusedError
from neurocommand.files import remove_tree
from neurocommand.layout import ReleaseDirectory, Root
from neurocommand.publisher import Publisher
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
        waiting = list(plan.actions)
        together = True
        if waiting:
            self.publisher.preflight()
        else:
            # sets of the configuration, say, or an index that is behind
            _, failure = self._batch((), workshop)
            if failure is not None:
                raise failure
        while waiting:
            outcomes, failure = self._batch(waiting if together else waiting[:1], workshop)
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

    def _batch(self, actions: Sequence[Action], workshop: Workshop) -> tuple[list[Outcome], NeurocommandError | None]:
        """Deploy into a draft until a limit is reached, and publish it.

        Returns:
            The outcomes of the actions that were taken in hand, and why nothing of them is public after all.
        """
        made = draft.make(self.published, self.publisher.work / "draft", {action.release for action in actions})
        before = draft.listing(made)
        size = _Size(self.batch)
        deployer = self.deployer(made, lambda directory: self._fit(directory, size))
        workshop.deployer = deployer
        outcomes: list[Outcome] = []
        with deployer.locked():
            deployer.prepare()
            for action in actions:
                outcomes.append(outcome_of(action, workshop))
                if size.reached:
                    break
            self.finish(deployer)
        draft.mark(made)
        releases = [outcome.action.release for outcome in outcomes if isinstance(outcome, Done)]
        if actions and not releases:
            return outcomes, None
        changed = difference(before, draft.listing(made))
        if not changed:
            return outcomes, None
        try:
            revision = self.publisher.publish(made.path, changed, [one.id for one in releases], _reason(outcomes))
        except NeurocommandError as error:
            return outcomes, error
        finally:
            remove_tree(made.path)
        return [_published(outcome, revision) for outcome in outcomes], None

    def _fit(self, directory: ReleaseDirectory, size: _Size) -> None:
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
        size.add(found)


class _Size:
    """How much a batch has come to."""

    def __init__(self, limits: Batch) -> None:
        self._limits = limits
        self._entries = self._bytes = 0
        self._began = time.monotonic()

    def add(self, found: parcel.Survey) -> None:
        self._entries += sum(found.counts.values())
        self._bytes += found.size

    @property
    def reached(self) -> bool:
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
