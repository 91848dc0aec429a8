"""What verify and repair share: every object of every store, looked at or read, against the lock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurocommand import observe, verification
from neurocommand.commands import journal, report
from neurocommand.commands.session import Session
from neurocommand.events import Advanced, Finished, Started
from neurocommand.manifest import Manifest
from neurocommand.model import StoredObject
from neurocommand.observation import StoreView
from neurocommand.stores.interface import Store
from neurocommand.verification import Finding

# what a store holds beyond what anybody asked for does no harm
HARMLESS = ("stray",)


def views(session: Session, wanted: Manifest, *, deep: bool, whole: bool) -> tuple[StoreView, ...]:
    """Look at every object of every store; with ``deep``, read its bytes.

    Args:
        session: the run.
        wanted: the releases that matter.
        deep: read the bytes instead of trusting what stores state.
        whole: objects of other releases matter, too; a store that cannot be listed is asked for all that is locked.
    """

    def digest(store: Store, found: StoredObject) -> str:
        stage, subject = f"verify in {store.name}", found.key.removesuffix(".simg")
        started = time.monotonic()
        session.console(Started(subject, stage, found.size))
        sha256, size = store.get(
            found.key, Path("/dev/null"), lambda done: session.console(Advanced(subject, stage, done))
        )
        session.console(Finished(subject, stage, time.monotonic() - started, size))
        return sha256

    releases = [declaration.release for declaration in wanted.declarations]
    releases += sorted(session.lock.lock.artifacts.keys() - releases) if whole else []
    with session.console:
        return observe.examined(session.stores, releases, digest if deep else None, whole=whole)


def findings(session: Session, wanted: Manifest, seen: Sequence[StoreView], *, whole: bool) -> list[Finding]:
    """Return what is wrong; about the wanted releases alone unless the manifest is wanted as a whole."""
    releases = {declaration.release for declaration in wanted.declarations}
    found = verification.findings(wanted, session.lock.lock, seen)
    return [
        finding
        for finding in found
        if whole or finding.release in releases or (finding.release is None and finding.kind != "stray")
    ]


def values(found: Finding) -> dict[str, Any]:
    """Return a finding as JSON values."""
    release = found.release.id if found.release is not None else None
    return {"kind": found.kind, "store": found.store, "release": release, "reason": found.reason}


def echo(found: Sequence[Finding], seen: Sequence[StoreView]) -> None:
    """Write findings for people to standard output; the last line sums them up."""
    for finding in found:
        subject = f"{finding.release} in {finding.store}" if finding.release is not None else finding.store
        journal.echo(f"{finding.kind:9} {subject}: {finding.reason}")
    kinds = Counter(finding.kind for finding in found)
    summary = ", ".join(f"{number} {kind}" for kind, number in kinds.items()) or "no fault"
    objects = sum(len(view.objects) for view in seen)
    journal.echo(f"{report.count(objects, 'object')} in {report.count(len(seen), 'store')}: {summary}")


def exit_code(found: Sequence[Finding]) -> int:
    """Return 1 when anything but strays was found."""
    return int(any(finding.kind not in HARMLESS for finding in found))
