"""Ask stores and roots what exists; nothing is changed, and "cannot tell" stays "cannot tell"."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from neurocommand import jsontext, record
from neurocommand.errors import FaultsError, StoreError
from neurocommand.layout import ReleaseDirectory, Root, object_key, release_of_key
from neurocommand.model import DeployRecord, Format, Release, StoredObject
from neurocommand.observation import Deployed, Deployment, Foreign, HalfDeployed, RootView, StoreView
from neurocommand.stores.interface import Store

ASKED_AT_ONCE = 16
_FEW = 16
_TRIALS = 3


def stores(all_stores: Sequence[Store], releases: Sequence[Release]) -> tuple[StoreView, ...]:
    """Ask every store, all at once, what it holds of some releases.

    A store that can be listed is listed, unless only a few releases matter: then each object is asked for, because
    an answer about one object may state its digest.
    """
    if not all_stores:
        return ()
    with ThreadPoolExecutor(len(all_stores)) as pool:
        return tuple(pool.map(lambda store: _view(store, releases), all_stores))


def _view(store: Store, releases: Sequence[Release]) -> StoreView:
    if not store.listable or len(releases) <= _FEW:
        return _asked(store, releases)
    try:
        found = {release: seen for seen in store.list() if (release := release_of_key(seen.key)) is not None}
    except StoreError as error:
        return StoreView(store.name, store.writable, fault=error.message)
    return StoreView(store.name, store.writable, found)


def _asked(store: Store, releases: Sequence[Release]) -> StoreView:
    """Ask for each object; a store that cannot tell about the first few is not asked for the rest."""
    answers: dict[Release, StoredObject | StoreError | None] = {}
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        for some in (releases[:_TRIALS], releases[_TRIALS:]):
            answers.update(zip(some, pool.map(lambda release: _stat(store, release), some), strict=True))
            errors = [answer for answer in answers.values() if isinstance(answer, StoreError)]
            if errors and len(errors) == len(answers):
                return StoreView(store.name, store.writable, fault=errors[0].message)
    return StoreView(
        store.name,
        store.writable,
        {release: answer for release, answer in answers.items() if isinstance(answer, StoredObject)},
        {release: answer.message for release, answer in answers.items() if isinstance(answer, StoreError)},
    )


def _stat(store: Store, release: Release) -> StoredObject | StoreError | None:
    try:
        return store.stat(object_key(release))
    except StoreError as error:
        return error


def root(place: Root, image_format: Format, wrapper_revision: str) -> RootView:
    """Look at what stands under a root.

    Args:
        place: the root; one that does not exist yet is empty.
        image_format: what releases are to be deployed as.
        wrapper_revision: identity of today's templates.
    """
    deployments = {release: _deployment(place, release) for release in _releases(place.containers)}
    return RootView(deployments, image_format, wrapper_revision)


def _releases(directory: Path) -> Iterable[Release]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        try:
            yield Release.parse(name)
        except ValueError:
            continue


def _deployment(place: Root, release: Release) -> Deployment:
    directory = place.release(release)
    if not os.path.lexists(directory.record):
        pending = os.path.lexists(directory.pending_record)
        return HalfDeployed("left half-written by a run that was killed") if pending else Foreign()
    found = read_record(directory)
    if isinstance(found, str):
        return HalfDeployed(found)
    return Deployed(found, _complete(place, found))


def read_record(directory: ReleaseDirectory) -> DeployRecord | str:
    """Read a deployed release's record and see that it is true; a text says why it is not."""
    try:
        found = record.parse(jsontext.read_bytes(directory.record, directory.record.name), directory.record.name)
    except FaultsError as error:
        return f"its record cannot be read: {error.faults[0].message}"
    if found.release != directory.release:
        return f"its record is that of {found.release}"
    if not (directory.image.is_dir() if found.format == "tree" else directory.image.is_file()):
        return "its image is missing"
    if found.format == "sif" and directory.image.stat().st_size != found.size:
        return f"its SIF has {directory.image.stat().st_size} bytes instead of {found.size}"
    return found


def _complete(place: Root, found: DeployRecord) -> bool:
    modulefile = place.modulefile(found.release)
    try:
        mine = found.release.id in modulefile.read_text(encoding="utf-8", errors="replace")
        wrappers = set(os.listdir(place.release(found.release).wrappers))
    except OSError:
        return False
    links = (place.category_link(found.release, category) for category in found.categories)
    return mine and wrappers == set(found.commands) and all(link.exists() for link in links)
