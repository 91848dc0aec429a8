"""Pure: what stores hold against what the lock says, object by object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from neurocommand.lock import Lock
from neurocommand.manifest import Manifest
from neurocommand.model import Artifact, Release, StoredObject
from neurocommand.observation import StoreView, Unknown

Kind = Literal["missing", "truncated", "corrupt", "unknown", "stray"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with one object of one store; about the whole store when it names no release."""

    kind: Kind
    store: str
    release: Release | None
    reason: str


def findings(manifest: Manifest, lock: Lock, views: Iterable[StoreView]) -> Iterator[Finding]:
    """Judge every object of every store, and the absence of those that a writable store should hold.

    * missing: a wanted and locked release that a writable store does not hold;
    * truncated: fewer bytes than the locked ones;
    * corrupt: more bytes, or another digest than the locked one;
    * unknown: the store cannot tell, states no digest, or the release is wanted but not locked;
    * stray: a release that neither manifest nor lock knows, or a SIF that has no release's name.

    Args:
        manifest: what is wanted.
        lock: what the bytes must be.
        views: what the stores say, with digests as far as they can be had.
    """
    wanted = {declaration.release for declaration in manifest.declarations}
    for view in views:
        if view.fault:
            yield Finding("unknown", view.name, None, f"cannot be asked: {view.fault}")
            continue
        for release in sorted(wanted | lock.artifacts.keys() | view.objects.keys()):
            found = _judge(view, release, lock.get(release), wanted=release in wanted)
            if found is not None:
                yield found
        for stray in view.nameless:
            yield Finding("stray", view.name, None, f"{stray.key}: {stray.size} bytes; no release has such a name")


def _judge(view: StoreView, release: Release, artifact: Artifact | None, *, wanted: bool) -> Finding | None:
    found = view.ask(release)
    if isinstance(found, Unknown):
        return Finding("unknown", view.name, release, found.reason)
    if found is None:
        lacking = wanted and artifact is not None and view.writable
        return Finding("missing", view.name, release, "absent") if lacking else None
    if artifact is not None:
        return _compare(view, release, found, artifact)
    if wanted:
        return Finding("unknown", view.name, release, f"{found.size} bytes, but the release is not locked")
    return Finding("stray", view.name, release, f"{found.size} bytes; neither manifest nor lock names it")


def _compare(view: StoreView, release: Release, found: StoredObject, artifact: Artifact) -> Finding | None:
    if found.size < artifact.size:
        return Finding("truncated", view.name, release, f"{found.size} bytes instead of the locked {artifact.size}")
    if found.size > artifact.size:
        return Finding("corrupt", view.name, release, f"{found.size} bytes instead of the locked {artifact.size}")
    if found.sha256 is not None and found.sha256 != artifact.sha256:
        return Finding("corrupt", view.name, release, f"sha256 {found.sha256} instead of the locked {artifact.sha256}")
    # a store that is only read promises no digest; --deep reads the bytes
    if found.sha256 is None and view.writable:
        return Finding("unknown", view.name, release, "states no digest: its bytes have to be read (--deep)")
    return None
