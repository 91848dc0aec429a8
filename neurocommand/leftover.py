"""Pure: what is deployed but not wanted, and which release has to tell its application's default version."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from neurocommand.actions import Action, Problem, Retire
from neurocommand.manifest import Manifest, Retirement
from neurocommand.model import Release
from neurocommand.observation import Deployed, Foreign, RootView, Unreadable

MISLED = "its application's default version is not what it should be"


def renewing_of(manifest: Manifest, root: RootView | None) -> frozenset[Release]:
    """Return for each application whose default version is not told a release that tells it, once it is rewrapped."""
    if root is None:
        return frozenset()
    found: dict[str, Release] = {}
    for declaration in manifest.declarations:
        release = declaration.release
        deployed = root.deployments.get(release)
        if release.application in root.misled and isinstance(deployed, Deployed) and not deployed.record.withdrawn:
            found.setdefault(release.application, release)
    return frozenset(found.values())


def leftover(manifest: Manifest, root: RootView) -> tuple[Iterable[Action], Iterable[Problem]]:
    """Judge what is deployed but not wanted: retired, or merely gone from the manifest."""
    wanted = {declaration.release for declaration in manifest.declarations}
    retired = {retirement.release: retirement for retirement in manifest.retirements}
    told = {release.application for release in renewing_of(manifest, root)}
    withdrawn: list[Action] = []
    unlisted: list[Problem] = []
    for release in sorted(set(root.deployments) - wanted):
        found = root.deployments[release]
        if isinstance(found, Foreign):
            continue
        if isinstance(found, Unreadable):
            unlisted.append(Problem("unknown", release.id, f"not wanted, and it cannot be told: {found.reason}"))
        elif isinstance(found, Deployed) and found.record.withdrawn:
            if release in retired and (action := _buried(retired[release], found, root, told)):
                withdrawn.append(action)
                told.add(release.application)
        elif release in retired:
            withdrawn.append(Retire(release, retired[release].reason, retired[release].notice))
        else:
            unlisted.append(Problem("unlisted", release.id, "deployed, but neither wanted nor retired by the manifest"))
    return withdrawn, unlisted


def _buried(retirement: Retirement, found: Deployed, root: RootView, told: Collection[str]) -> Retire | None:
    """Say what is left to do about a withdrawn release; None where it is nothing."""
    was, notice = found.record.withdrawn, retirement.notice
    assert was is not None  # noqa: S101  (the caller asks)
    # of the day on which it was withdrawn, only its record knows
    notice = replace(notice, since=notice.since or was.since)
    application = retirement.release.application
    if not found.complete:
        reason = "its withdrawal was not finished, or a file of it is missing"
    elif found.record.wrapper_revision != root.wrapper_revision:
        reason = "made by other templates or settings"
    elif notice != was:
        reason = "its notice changed"
    elif application in root.misled and application not in told:
        reason = MISLED
    else:
        return None
    return Retire(retirement.release, reason, notice, renewal=True)
