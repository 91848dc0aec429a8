"""What was observed: the third input of a plan, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neurocommand.model import DeployRecord, Release, StoredObject


@dataclass(frozen=True)
class Unknown:
    """A store could not tell about an object, and why."""

    reason: str


@dataclass(frozen=True)
class StoreView:
    """What one store said.

    Args:
        name: the store's name.
        writable: whether objects may be put there.
        objects: what it holds, by release.
        unknown: why it could not tell, by release.
        fault: why it could not be asked at all; empty when it was.
        digests: whether an object without a sha256 really has none; a mere listing may leave them out.
        listed: whether ``objects`` is everything that the store holds.
        nameless: objects whose keys no release has.
    """

    name: str
    writable: bool
    objects: Mapping[Release, StoredObject] = field(default_factory=dict)
    unknown: Mapping[Release, str] = field(default_factory=dict)
    fault: str = ""
    digests: bool = True
    listed: bool = False
    nameless: tuple[StoredObject, ...] = ()

    def ask(self, release: Release) -> StoredObject | Unknown | None:
        """Return what is known about a release's object; None means certainly absent."""
        if self.fault:
            return Unknown(self.fault)
        if release in self.unknown:
            return Unknown(self.unknown[release])
        return self.objects.get(release)


@dataclass(frozen=True)
class Deployed:
    """A release is deployed, or (by its record) withdrawn; ``complete`` tells whether its modulefiles are there too."""

    record: DeployRecord
    complete: bool


@dataclass(frozen=True)
class HalfDeployed:
    """A run that did not end left a release half-written, or its record cannot be read."""

    reason: str


@dataclass(frozen=True)
class Foreign:
    """Something stands in the release's place that is not ours."""


@dataclass(frozen=True)
class Unreadable:
    """Something stands in the release's place, but what it is cannot be told, and why."""

    reason: str


Deployment = Deployed | HalfDeployed | Foreign | Unreadable


@dataclass(frozen=True)
class RootView:
    """What stands under a root, and what belongs there.

    Args:
        deployments: what was found, by release.
        format: what releases are to be deployed as; None leaves each as it is.
        wrapper_revision: identity of today's templates.
        misled: applications of which the module trees name another default version than they should.
    """

    deployments: Mapping[Release, Deployment]
    format: str | None
    wrapper_revision: str
    misled: frozenset[str] = frozenset()

    @property
    def standing(self) -> frozenset[Release]:
        """The releases that stand there, whoever deployed them; of a withdrawn one only its tombstone does."""
        return frozenset(
            release
            for release, found in self.deployments.items()
            if not (isinstance(found, Deployed) and found.record.withdrawn)
        )


@dataclass(frozen=True)
class Observation:
    """Everything that was observed: stores in the order of the configuration, the spool's sizes, the root."""

    stores: tuple[StoreView, ...]
    spool: Mapping[Release, int] = field(default_factory=dict)
    root: RootView | None = None
