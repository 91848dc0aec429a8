"""Pure: which objects of releases that the manifest names no more may be deleted, and why the others stay.

An object goes only when everything speaks for it (docs/design.md §9); whoever is not sure keeps it.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from neurocommand.manifest import Manifest
from neurocommand.model import Release
from neurocommand.settings import RetentionSettings


@dataclass(frozen=True)
class Memory:
    """What earlier runs saw.

    Args:
        unlisted: the day on which a release was first seen unlisted.
        dois: the DOIs that manifests ever stated.
    """

    unlisted: Mapping[Release, datetime.date] = field(default_factory=dict)
    dois: Mapping[Release, str] = field(default_factory=dict)

    def after(self, manifest: Manifest, held: Iterable[Release], today: datetime.date) -> Memory:
        """Return what is known after this run's look.

        Args:
            manifest: what is wanted; it is the whole manifest.
            held: the releases that some store holds an object of.
            today: the day of this run.
        """
        wanted = {declaration.release for declaration in manifest.declarations}
        known = {release: day for release, day in self.unlisted.items() if release not in wanted}
        new = {release: today for release in held if release not in wanted and release not in known}
        return Memory({**known, **new}, {**self.dois, **manifest.dois})

    def without(self, gone: Collection[Release]) -> Memory:
        """Return what is still of use when no store holds some releases any more; a DOI is never forgotten."""
        return Memory({release: day for release, day in self.unlisted.items() if release not in gone}, self.dois)


@dataclass(frozen=True)
class Retention:
    """Everything that deletions are judged by.

    Args:
        policy: how long, and how much.
        memory: what is known after this run's look (``Memory.after``).
        today: the day of this run.
        stores: names of the stores that may lose objects.
    """

    policy: RetentionSettings
    memory: Memory
    today: datetime.date
    stores: frozenset[str]


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
        if len(wanted) < policy.floor:
            yield Kept(release, f"the manifest declares {len(wanted)} releases, fewer than the floor of {policy.floor}")
        elif policy.pinned & {release.id, release.application}:
            yield Kept(release, "pinned")
        elif release in memory.dois:
            yield Kept(release, f"published under DOI {memory.dois[release]}")
        elif release in deployed:
            yield Kept(release, "still deployed under the root")
        else:
            yield _by_age(release, retention)


def _by_age(release: Release, retention: Retention) -> Due | Kept:
    since, days, today = retention.memory.unlisted.get(release), retention.policy.grace_days, retention.today
    if since is None:
        return Kept(release, "not known to be unlisted")
    if today < since:
        return Kept(release, f"first seen unlisted on {since}, which is after today: is the clock right?")
    if (today - since).days <= days:
        return Kept(release, f"unlisted since {since}, kept until {since + datetime.timedelta(days=days)}")
    return Due(release, f"unlisted since {since}, more than {days} days ago")
