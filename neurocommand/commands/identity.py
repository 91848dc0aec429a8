"""What stores and the root already hold of a release that is not locked here, before other bytes get its id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neurocommand import observe
from neurocommand.commands.session import Session
from neurocommand.errors import ImmutableError, RefusedError, StoreError
from neurocommand.layout import Root, object_key
from neurocommand.model import Artifact, Release
from neurocommand.observation import Deployed, Unreadable
from neurocommand.stores.interface import Store

_HINT = "find out which bytes are right, and lock them; or remove the wrong ones by the store's own means"


def refuse_other_bytes(session: Session, artifacts: Mapping[Release, Artifact], primary: Store) -> None:
    """See that nothing else is known by the ids of releases that are to be locked.

    A store that states no digest is read. One that cannot be asked is named and passed over, unless it is the primary,
    which is to be written.

    Args:
        session: the run.
        artifacts: what is to be locked; what is locked already is passed over.
        primary: the store that is to be written.

    Raises:
        ImmutableError: a store or the root holds other bytes.
        RefusedError: what is deployed cannot be told.
        StoreError: the primary cannot tell what it holds.
    """
    new = {release: artifact for release, artifact in artifacts.items() if session.lock.lock.get(release) is None}
    if not new:
        return
    _ask_root(session.settings.root, new)
    for store in session.stores:
        try:
            for release, artifact in new.items():
                _ask_store(store, release, artifact)
        except StoreError as error:
            if store is primary:
                raise
            session.console.complain(f"warning: what {store.name} holds is not known: {error.message}")


def _ask_root(path: Path | None, new: Mapping[Release, Artifact]) -> None:
    found = observe.root(Root(path), None, "").deployments if path is not None else {}
    for release, artifact in new.items():
        match found.get(release):
            case Deployed(record, _) if record.sha256 != artifact.sha256:
                raise _other(release, artifact, "the root", f"sha256 {record.sha256}")
            case Unreadable(reason):
                raise RefusedError(f"{release}: what is deployed cannot be told: {reason}", "mend it first")


def _ask_store(store: Store, release: Release, artifact: Artifact) -> None:
    key = object_key(release)
    found = store.stat(key)
    if found is None:
        return
    if found.size != artifact.size:
        raise _other(release, artifact, f"store {store.name}", f"{found.size} bytes")
    sha256 = found.sha256 or store.get(key, Path("/dev/null"), lambda _: None)[0]
    if sha256 != artifact.sha256:
        raise _other(release, artifact, f"store {store.name}", f"sha256 {sha256}")


def _other(release: Release, artifact: Artifact, place: str, held: str) -> ImmutableError:
    wanted = f"sha256 {artifact.sha256} ({artifact.size} bytes)"
    return ImmutableError(f"{release} is not locked here, and {place} holds {held}, not {wanted}", _HINT)
