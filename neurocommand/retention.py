"""Pure: which objects of releases that the manifest names no more may be deleted, and why the others stay.

An object goes only when everything speaks for it (docs/design.md §9); whoever is not sure keeps it.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from neurocommand.manifest import Manifest
from neurocommand.model import Release
from neurocommand.settings import RetentionSettings


@dataclass(frozen=True)
class Memory:
    """What earlier runs saw.

    Args:
        unlisted: the day since which a release is unlisted, and not deployed.
        dois: the DOIs that manifests ever stated.
        listed: the releases that the manifest ever named: had one of them a DOI then, it is in ``dois``.
        latest: the latest day of a run.
        before: the latest day of a run that was before ``latest``.
    """

    unlisted: Mapping[Release, datetime.date] = field(default_factory=dict)
    dois: Mapping[Release, str] = field(default_factory=dict)
    listed: frozenset[Release] = frozenset()
    latest: datetime.date | None = None
    before: datetime.date | None = None

    def after(
        self,
        manifest: Manifest,
        held: Iterable[Release],
        today: datetime.date,
        *,
        gap_days: int,
        deployed: Collection[Release] = (),
    ) -> Memory:
        """Return what is known after this run's look.

        A day before the latest one dates nothing. A day that is further from it than ``gap_days``, either way, is that
        of a wrong clock, or of the first run after one: all graces start anew.

        Args:
            manifest: what is wanted; it is the whole manifest.
            held: the releases that some store holds an object of.
            today: the day of this run, by a clock that may be wrong.
            gap_days: days that runs may be apart.
            deployed: releases that stand under the root.
        """
        wanted = {declaration.release for declaration in manifest.declarations}
        now = self._on(today, gap_days)
        unlisted = {release: day for release, day in now.unlisted.items() if release not in wanted}
        if now.latest == today:
            fresh = {*held, *unlisted} - wanted
            unlisted.update({release: today for release in fresh if release not in unlisted or release in deployed})
        return replace(now, unlisted=unlisted, dois={**self.dois, **manifest.dois}, listed=self.listed | wanted)

    def _on(self, today: datetime.date, gap_days: int) -> Memory:
        if self.latest is None or abs((today - self.latest).days) > gap_days:
            return replace(self, unlisted=dict.fromkeys(self.unlisted, today), latest=today, before=None)
        return replace(self, latest=today, before=self.latest) if today > self.latest else self

    def without(self, gone: Collection[Release]) -> Memory:
        """Return what is still of use when no store holds some releases any more; a DOI is never forgotten."""
        return replace(self, unlisted={release: day for release, day in self.unlisted.items() if release not in gone})


@dataclass(frozen=True)
class Retention:
    """Everything that deletions are judged by.

    Args:
        policy: how long, and how much.
        memory: what is known after this run's look (``Memory.after``).
        today: the day of this run.
        stores: names of the stores that may lose objects.
        hold: why nothing may be deleted at all; empty when something may.
    """

    policy: RetentionSettings
    memory: Memory
    today: datetime.date
    stores: frozenset[str]
    hold: str = ""


@dataclass(frozen=True)
class Due:
    """Objects of a release may be deleted, and why."""

    release: Release
    reason: str


@dataclass(frozen=True)
class Kept:
    """Objects of an unlisted release stay, and why."""

    release: Release
    reason: str


def judge(
    manifest: Manifest, retention: Retention, deployed: Collection[Release], held: Iterable[Release]
) -> Iterator[Due | Kept]:
    """Judge every held release that the manifest does not name, in order.

    Args:
        manifest: what is wanted; it is the whole manifest.
        retention: what deletions are judged by.
        deployed: releases that stand under the root.
        held: the releases that some store holds an object of.
    """
    wanted = {declaration.release for declaration in manifest.declarations}
    policy, memory = retention.policy, retention.memory
    for release in sorted(set(held) - wanted):
        if retention.hold:
            yield Kept(release, retention.hold)
        elif len(wanted) < policy.floor:
            yield Kept(release, f"the manifest declares {len(wanted)} releases, fewer than the floor of {policy.floor}")
        elif policy.pinned & {release.id, release.application}:
            yield Kept(release, "pinned")
        elif release in memory.dois:
            yield Kept(release, f"published under DOI {memory.dois[release]}")
        elif release not in memory.listed:
            yield Kept(release, "no run that is remembered saw it in the manifest: it may have had a DOI")
        elif release in deployed:
            yield Kept(release, "still deployed under the root")
        else:
            yield _by_age(release, retention)


def _by_age(release: Release, retention: Retention) -> Due | Kept:
    """Judge by what an earlier run saw, on a day before the latest: of two clocks, one may be wrong."""
    memory, days = retention.memory, retention.policy.grace_days
    since = memory.unlisted.get(release)
    if memory.latest != retention.today:
        return Kept(release, f"a run was on {memory.latest}, which is not until after today: is the clock right?")
    if since is None:
        return Kept(release, "not known to be unlisted")
    # the clock of the run that first saw it may have been a day behind
    if memory.before is None or (memory.before - since).days <= days + 1:
        return Kept(release, f"unlisted since {since}: kept for {days} days, and until a later run has seen them over")
    return Due(release, f"unlisted since {since}, more than {days} days ago")
