"""Carry a plan out, several releases side by side: a failed action skips the rest of its release only."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace

from neurocommand import threads
from neurocommand.actions import Action, Copy, Delete, Plan, Upload
from neurocommand.errors import BugError, NeurocommandError, bug_text, system_error
from neurocommand.model import Release
from neurocommand.workshop import Workshop


@dataclass(frozen=True)
class Done:
    """An action was carried out, and what to say of it; in how many seconds, with waiting for its turn."""

    action: Action
    detail: str
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Failed:
    """An action failed, and why; not fatal where its release is live without it."""

    action: Action
    error: NeurocommandError
    fatal: bool = True
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Skipped:
    """An action was not tried, because an earlier one of its release failed."""

    action: Action
    reason: str


Outcome = Done | Failed | Skipped


def apply(plan: Plan, workshop: Workshop) -> Generator[Outcome, None, None]:
    """Carry a plan out and yield each action's outcome as it comes; those of one release come in the plan's order.

    Closing it takes no further action in hand; what is under way goes on, and nobody waits for it.

    Args:
        plan: what is to be done.
        workshop: what it is done with; its limits say how many releases are worked on at once.
    """
    works = [
        _Work(release, tuple(actions), plan.spare.get(release, 0))
        for release, actions in itertools.groupby(plan.actions, key=lambda action: action.release)
    ]
    yield from threads.stream(lambda work: _outcomes(work, workshop), works, workshop.limits.releases)
    workshop.spool.clear_scratch()


@dataclass(frozen=True)
class _Work:
    """The actions of one release, and how many stores more than it needs would take it."""

    release: Release
    actions: tuple[Action, ...]
    spare: int


def _outcomes(work: _Work, workshop: Workshop) -> Iterator[Outcome]:
    """Carry out the actions of one release.

    A store that fails keeps no other store from being filled; but what is not live is not deployed.
    """
    failed, missed = "", 0
    sent = [action for action in work.actions if isinstance(action, Upload)]
    for action in work.actions:
        stores = isinstance(action, Upload | Copy | Delete)
        if failed and not (stores and missed):
            yield Skipped(action, failed)
            continue
        outcome = outcome_of(action, workshop)
        if isinstance(outcome, Failed):
            missed += stores
            if stores and missed <= work.spare:
                outcome = replace(outcome, fatal=False)
            else:
                failed = f"{type(action).__name__.lower()} failed"
        elif isinstance(action, Upload):
            sent.remove(action)
        yield outcome
    # what cannot be removed from the spool is found by the next run
    with contextlib.suppress(OSError):
        workshop.done(work.release, sent=not sent and any(isinstance(action, Upload) for action in work.actions))


def outcome_of(action: Action, workshop: Workshop) -> Done | Failed:
    """Carry out one action, and return what came of it; nothing is raised but what ends the run."""
    began = time.monotonic()
    return replace(_tried(action, workshop), seconds=time.monotonic() - began)


def _tried(action: Action, workshop: Workshop) -> Done | Failed:
    try:
        return Done(action, workshop.carry_out(action))
    except NeurocommandError as error:
        return Failed(action, error)
    except OSError as error:
        return Failed(action, system_error(action.release, error))
    except Exception as error:
        # of a library, say: the other releases have nothing to do with it
        return Failed(action, BugError(bug_text(error), cause=error))
