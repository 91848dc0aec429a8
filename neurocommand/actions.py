"""What a plan is made of: actions and problems, each with its reason (docs/design.md §5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from neurocommand.model import Artifact, Notice, Release
from neurocommand.retention import Kept


@dataclass(frozen=True)
class Convert:
    """Convert the image of a release to a SIF in the spool, and lock it."""

    release: Release
    reason: str


@dataclass(frozen=True)
class Adopt:
    """Read all bytes of an object that a store holds into the spool, and lock them if they are the expected ones."""

    release: Release
    store: str
    expected: Artifact | None
    reason: str


@dataclass(frozen=True)
class Upload:
    """Put the spool's SIF into a store."""

    release: Release
    store: str
    reason: str


@dataclass(frozen=True)
class Copy:
    """Bring a store an object that other stores hold.

    Args:
        release: whose object.
        sources: the stores that hold it, in the order of the configuration.
        store: the store that lacks it.
        reason: why.
        streamed: from store to store; else through the spool, where others can use it.
    """

    release: Release
    sources: tuple[str, ...]
    store: str
    reason: str
    streamed: bool = False


@dataclass(frozen=True)
class Deploy:
    """Deploy a release under the root."""

    release: Release
    reason: str


@dataclass(frozen=True)
class Rewrap:
    """Renew wrappers and modulefile of a deployed release."""

    release: Release
    reason: str


@dataclass(frozen=True)
class Retire:
    """Withdraw a release that the manifest retires, or renew what is left of it.

    Args:
        release: the release.
        reason: why.
        notice: what its users are told; without a day, it is withdrawn from the day of the run on.
        renewal: it is withdrawn already.
    """

    release: Release
    reason: str
    notice: Notice
    renewal: bool = False


@dataclass(frozen=True)
class Delete:
    """Delete the object of an unlisted release from a store."""

    release: Release
    store: str
    reason: str


Action = Convert | Adopt | Upload | Copy | Deploy | Rewrap | Retire | Delete

_NEEDS_BYTES = (Convert, Adopt, Upload, Copy, Deploy)

Kind = Literal["lost", "unknown", "unlisted", "foreign", "conflict", "changed", "waiting", "below"]

_IMMUTABLE: tuple[Kind, ...] = ("conflict", "changed")


@dataclass(frozen=True)
class Problem:
    """What no action can mend: about a release, or (without one) about a store; one that can wait is not fatal."""

    kind: Kind
    subject: str
    reason: str
    fatal: bool = True

    @property
    def exit_code(self) -> int:
        """The exit code that the problem calls for."""
        if not self.fatal:
            return 0
        return 4 if self.kind in _IMMUTABLE else 1


@dataclass(frozen=True)
class Plan:
    """Actions, grouped by release in the order of the manifest, and problems.

    Args:
        actions: what is to be done.
        problems: what no action can mend.
        kept: objects of unlisted releases that stay, and why.
        spare: how many stores may fail to take a release, and it still counts as live; none unless said otherwise.
    """

    actions: tuple[Action, ...]
    problems: tuple[Problem, ...]
    kept: tuple[Kept, ...] = ()
    spare: Mapping[Release, int] = field(default_factory=dict)

    def only(self, *kinds: type) -> tuple[Plan, tuple[Action, ...]]:
        """Reduce the plan to some kinds of action.

        Returns:
            The plan without actions that need one that is left out; and for each release of which something had to
            be dropped for that, the action that comes first.
        """
        kept: list[Action] = []
        needed: dict[Release, Action] = {}
        waiting: dict[Release, Action] = {}
        for action in self.actions:
            if isinstance(action, kinds):
                if action.release in needed:
                    waiting[action.release] = needed[action.release]
                else:
                    kept.append(action)
            elif isinstance(action, Convert | Adopt | Upload):
                needed.setdefault(action.release, action)
        return replace(self, actions=tuple(kept)), tuple(waiting.values())

    def streaming(self, spooled: Collection[Release]) -> Plan:
        """Let a copy go from store to store where nothing else of this plan needs its bytes.

        Whatever is read for several stores, or for a deployment as well, is read once, into the spool.

        Args:
            spooled: releases of which the spool holds something.
        """
        uses = Counter(action.release for action in self.actions if isinstance(action, _NEEDS_BYTES))
        return replace(
            self,
            actions=tuple(
                replace(action, streamed=uses[action.release] == 1 and action.release not in spooled)
                if isinstance(action, Copy)
                else action
                for action in self.actions
            ),
        )
